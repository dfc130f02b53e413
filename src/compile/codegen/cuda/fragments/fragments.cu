
// ---- Fragments: a warp works on 16 rows by itself, its values in registers. ----
//
// Lane 4 g + t has rows g and g + 8 of the tile (h = 0 and 1), and of every value of E elements those that channel<E>(t, i)
// names, i from 0 to E / 4. They lie in runs, so that a lane's share of a row is a few wide vectors. The tensor cores have
// the same rows in the same lanes; which column is which element is ours to choose, so their results lie as their
// operands do.

// Elements of a value that one lane has side by side.
template <int E> constexpr int RUN = E % 32 == 0 ? 8 : E % 16 == 0 ? 4 : 2;

template <int E> static __device__ int channel(int t, int i) { return i / RUN<E> * 4 * RUN<E> + t * RUN<E> + i % RUN<E>; }

// A value of each row.
template <int E> struct Fragment {
  number rows[2][E / 4];
};

// Where a lane is in its warp.
struct Place {
  int g, t;
};

static __device__ Place place_of_lane() {
  const int lane = threadIdx.x % 32;
  return {lane / 4, lane % 4};
}

static __device__ long long first_of_warp(unsigned part) {
  return ((long long)part * WARPS + threadIdx.x / 32) * FRAGMENT_ROWS;
}

static __device__ long long rows_of_grid() { return (long long)gridDim.y * (WARPS * FRAGMENT_ROWS); }

// Which of a lane's rows there are.
struct Existing {
  bool row[2];
  __device__ Existing(long long first, long long rows, Place place) {
    row[0] = first + place.g < rows;
    row[1] = first + place.g + 8 < rows;
  }
};

// ---- Tiles: the rows of a tensor as they lie in it. They come through shared memory, a few tiles ahead of their use.
// Every lane fetches and reads its own share, so no lane waits for another. ----

constexpr int WIDE = RUN<CHUNK> * (int)sizeof(element) > 16 ? 16 / (int)sizeof(element) : RUN<CHUNK>;
constexpr int VECTORS = CHUNK / 4 / WIDE;  // of a lane in a row
constexpr int WORDS = CHUNK / 4 * (int)sizeof(element) / 4;

union Tile {
  Vector<WIDE> vectors[2][VECTORS];
  element channels[2][CHUNK / 4];
  unsigned words[2][WORDS];
};

// Where a lane's share of an input's tile waits, vectors of neighbouring lanes side by side.
static __device__ Vector<WIDE>* waiting(int stage, int input, int h, int j) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Vector<WIDE>* const all = reinterpret_cast<Vector<WIDE>*>(stages());
  return all + (((((warp * STAGES + stage) * INPUTS + input) * 2 + h) * VECTORS + j) * 32 + lane);
}

// How the rows of a tensor are reached, from a row of this lane on.
struct Walk {
  bool wide;    // channels are adjacent and vectors aligned
  bool even;    // all rows are evenly spaced
  element* at;  // the lane's share of the row, if they are; else it means nothing
};

// Divisions are long, and seldom wanted.
static __device__ __noinline__ element* chunk_of_group(const Rows& rows, int seed, long long row) {
  return chunk_of(rows, seed, row);
}

static __device__ Walk walk(const Rows& rows, int seed, long long first, long long end, Place place) {
  element* const at = reinterpret_cast<element*>(rows.address) + (first + place.g) * rows.stride +
                      ((long long)seed * CHUNK + channel<CHUNK>(place.t, 0)) * rows.channel_stride;
  return {rows.channel_stride == 1 && is_aligned(rows, WIDE), rows.group >= end, at};
}

// The lane's share of its row h of the tile from `first`, to which the walk has come.
static __device__ element* share(const Walk& walk, const Rows& rows, int seed, long long first, int h, Place place) {
  if (walk.even) return walk.at + h * 8 * rows.stride;
  return chunk_of_group(rows, seed, first + place.g + 8 * h) + channel<CHUNK>(place.t, 0) * rows.channel_stride;
}

// Not only if rows are even: a condition here was lost by the compiler (NVRTC 13.0, sm_90) where many values live, and every tile
// was written over the first.
static __device__ void advance(Walk& walk, const Rows& rows) { walk.at += rows_of_grid() * rows.stride; }

// From the first channel of a lane's share to its i-th.
static __device__ int beyond_first(int i) { return channel<CHUNK>(0, i); }

// A lane's share of a row whose channels are not adjacent, or lie on odd addresses.
static __device__ __noinline__ void fetch_apart(int stage, int input, int h, const element* from, long long stride) {
  for (int i = 0; i < CHUNK / 4; ++i)
    waiting(stage, input, h, i / WIDE)->channels[i % WIDE] = from[beyond_first(i) * stride];
}

struct Share {
  element channels[CHUNK / 4];
};

static __device__ __noinline__ void put_apart(element* to, long long stride, Share share) {
  for (int i = 0; i < CHUNK / 4; ++i) to[beyond_first(i) * stride] = share.channels[i];
}

// Sends for the seed's chunk of the 16 rows from `first`; rows that are not there become zeros.
static __device__ void fetch(int stage, int input, Walk& walk, const Rows& rows, int seed, long long first, long long end,
                             Place place) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (first + place.g + 8 * h >= end) {
#pragma unroll
      for (int j = 0; j < VECTORS; ++j) *waiting(stage, input, h, j) = {};
      continue;
    }
    const element* const from = share(walk, rows, seed, first, h, place);
    if (walk.wide) {
#pragma unroll
      for (int j = 0; j < VECTORS; ++j)
        copy_ahead<WIDE * sizeof(element)>(waiting(stage, input, h, j), from + beyond_first(j * WIDE));
    } else {
      fetch_apart(stage, input, h, from, rows.channel_stride);
    }
  }
  advance(walk, rows);
}

// The input that every seed reads, and telemetry watches: its first tiles are on their way before it is known what the seed
// runs. They are input 0 of the stages.
struct Ahead {
  Place place;
  long long first;  // of the warp's first tile
  long long next;   // of the tile to fetch next
  Walk walk_watched;
  unsigned part;    // of the rows, which the block has
  __device__ Ahead(const Launch& launch, int seed, unsigned part)
      : place(place_of_lane()), first(first_of_warp(part)), next(first), part(part) {
    if (PASS == TRAIN) return;
    const Rows& rows = watched(launch);
    walk_watched = walk(rows, seed, first, launch.rows, place);
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage)
      fetch(stage, 0, walk_watched, rows, seed, first + stage * rows_of_grid(), launch.rows, place);
    next += (STAGES - 1) * rows_of_grid();
  }
  static __device__ const Rows& watched(const Launch& launch) { return PASS == FORWARD ? launch.x : launch.output_gradient; }
};

// All that was fetched so far is the first stage; the ones after it are empty.
static __device__ void end_of_first_stages() {
#pragma unroll
  for (int stage = 0; stage < STAGES - 1; ++stage) end_of_stage();
}

static __device__ Tile take(int stage, int input) {
  Tile tile;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) tile.vectors[h][j].word = waiting(stage, input, h, j)->word;
  return tile;
}

static __device__ void put(Walk& walk, const Rows& rows, int seed, long long first, const Tile& tile,
                           const Existing& exists, Place place) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!exists.row[h]) continue;
    element* const to = share(walk, rows, seed, first, h, place);
    if (walk.wide) {
#pragma unroll
      for (int j = 0; j < VECTORS; ++j) {
        typedef typename Word<WIDE * sizeof(element)>::type Word;
        __stcs(reinterpret_cast<Word*>(to + beyond_first(j * WIDE)), tile.vectors[h][j].word);
      }
    } else {
      Share share;
#pragma unroll
      for (int i = 0; i < CHUNK / 4; ++i) share.channels[i] = tile.channels[h][i];
      put_apart(to, rows.channel_stride, share);
    }
  }
  advance(walk, rows);
}

static __device__ Fragment<CHUNK> numbers_of(const Tile& tile) {
  Fragment<CHUNK> fragment;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < CHUNK / 4; ++i) fragment.rows[h][i] = to_number(tile.channels[h][i]);
  return fragment;
}

// The same bits, of which the compiler no longer knows what was made of them: it makes that anew instead of keeping it.
static __device__ void forget(Tile& tile) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < WORDS; ++j) asm volatile("" : "+r"(tile.words[h][j]));
}

// Puts the bits of the fallback in the place of rows that are not alive.
static __device__ void restore(Tile& tile, const Tile& fallback, const bool (&alive)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < WORDS; ++j) tile.words[h][j] = alive[h] ? tile.words[h][j] : fallback.words[h][j];
}

// ---- Steps. ----

// A lane's elements of a value that is the same for all rows, and lies on 16 bytes in shared memory.
template <int E> static __device__ void read_elements(number (&to)[E / 4], const number* from, Place place) {
  constexpr int TOGETHER = RUN<E> < 4 ? 2 : 4;
#pragma unroll
  for (int i = 0; i < E / 4; i += TOGETHER) {
    const number* const at = from + channel<E>(place.t, i);
    if (TOGETHER == 4) {
      const uint4 word = *reinterpret_cast<const uint4*>(at);
      to[i] = __uint_as_float(word.x);
      to[i + 1] = __uint_as_float(word.y);
      to[i + 2 < E / 4 ? i + 2 : i] = __uint_as_float(word.z);
      to[i + 3 < E / 4 ? i + 3 : i] = __uint_as_float(word.w);
    } else {
      const uint2 word = *reinterpret_cast<const uint2*>(at);
      to[i] = __uint_as_float(word.x);
      to[i + 1] = __uint_as_float(word.y);
    }
  }
}

template <int E> static __device__ Fragment<E> scaled(Fragment<E> value, number scale) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < E / 4; ++i) value.rows[h][i] *= scale;
  return value;
}

// The largest number that is finite as an element of the tensors.
constexpr number GREATEST = 3.402823466e+38f / HEADROOM;

// A row is no longer alive if one of its elements is not finite, or would not be in the tensors.
static __device__ void keep_rows(bool (&alive)[2], bool first, bool second, Place place) {
  const unsigned row = 0xfu << (4 * place.g);
  const unsigned firsts = __ballot_sync(0xffffffffu, first), seconds = __ballot_sync(0xffffffffu, second);
  alive[0] = alive[0] && (firsts & row) == row;
  alive[1] = alive[1] && (seconds & row) == row;
}

template <int E> static __device__ void keep_representable(bool (&alive)[2], const Fragment<E>& value, Place place) {
  bool fits[2] = {true, true};
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < E / 4; ++i) fits[h] = fits[h] && magnitude(value.rows[h][i]) <= GREATEST;
  keep_rows(alive, fits[0], fits[1], place);
}

static __device__ void keep_representable(bool (&alive)[2], const number (&value)[2], Place place) {
  keep_rows(alive, magnitude(value[0]) <= GREATEST, magnitude(value[1]) <= GREATEST, place);
}

// ---- Products: a value of each row times a matrix, and the products of two values summed over rows. ----

// What the tensor cores have added up of a value: 8 elements at a time, two of each row in a lane.
template <int N> static __device__ Fragment<N> fragment_of(const number (&sums)[N / 8][4]) {
  Fragment<N> fragment;
#pragma unroll
  for (int n = 0; n < N / 8; ++n)
#pragma unroll
    for (int c = 0; c < 4; ++c) fragment.rows[c / 2][2 * n + c % 2] = sums[n][c];
  return fragment;
}

// An item of a matrix [K, N] as a factor: the elements of a column that two neighbouring rows have.
struct Factor {
  int row, column;
  bool exists;
};

// The sums over rows of the products of M elements of one value and N of another.
template <int M, int N> struct Products {
  number sums[(M + 15) / 16][N / 8][4];
};

// The sums of a warp, to where they lie in memory as [M, N]: added to what is there, or put there.
template <bool ADD, int M, int N> static __device__ void keep_products(number* to, const Products<M, N>& products, number scale, Place place) {
#pragma unroll
  for (int m = 0; m < (M + 15) / 16; ++m)
#pragma unroll
    for (int n = 0; n < N / 8; ++n)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int pair = 2 * m + c / 2;
        if (pair >= M / 8) continue;
        const int row = channel<M>(place.g / 2, 2 * pair + place.g % 2), column = channel<N>(place.t, 2 * n + c % 2);
        number* const at = to + row * N + column;
        *at = (ADD ? *at : (number)0) + scale * products.sums[m][n][c];
      }
}

// Likewise, of sums of which the lanes of one t have a share each.
template <bool ADD, int E> static __device__ void keep_elements(number* to, const number (&sums)[E / 4], number scale, Place place) {
#pragma unroll
  for (int i = 0; i < E / 4; ++i) {
    number sum = sums[i];
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    number* const at = to + channel<E>(place.t, i);
    if (place.g == 0) *at = (ADD ? *at : (number)0) + scale * sum;
  }
}

// Adds up what each warp has put into its part of the memory that rows came through.
static __device__ __noinline__ void add_parts(number* to, const number* parts, int count, int part) {
  for (int i = threadIdx.x; i < count; i += THREADS) {
    number sum = 0;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) sum += parts[warp * part + i];
    to[i] += sum;
  }
}
