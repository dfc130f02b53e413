
// ---- Fragments: a warp works on 16 rows by itself, its values in registers. ----
//
// Lane 4 g + t has rows g and g + 8 of the tile (h = 0 and 1), and of every value of E elements those that channel<E>(t, i)
// names, i from 0 to E / 4. They lie in runs: of 16 bits two, which is how matrices go between shared memory, registers and
// tensor cores as they are; of f32 as many as make a lane's share of a row a few wide vectors. The tensor cores have the same
// rows in the same lanes; which column is which element is ours to choose, so their results lie as their operands do.

// Elements of a value that one lane has side by side.
template <int E> constexpr int RUN = sizeof(element) == 2 ? 2 : E % 32 == 0 ? 8 : E % 16 == 0 ? 4 : 2;

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

// ---- Tiles: the rows of a tensor as they lie in it. They come through shared memory, a few tiles ahead of their use, and go
// the same way. Neighbouring lanes move neighbouring vectors of a row. ----

// The tiles of a warp: it takes every so many-th of all.
struct Tiles {
  unsigned first, step;
  int count;  // of this warp
  int most;   // of any warp of the block
  int last;   // rows of the last one
  __device__ Tiles(long long rows, Assignment assignment) {
    const unsigned all = (unsigned)((rows + FRAGMENT_ROWS - 1) / FRAGMENT_ROWS), warp = threadIdx.x / 32;
    first = assignment.part * WARPS + warp;
    step = assignment.parts * WARPS;
    count = first < all ? (all - 1 - first) / step + 1 : 0;
    most = first - warp < all ? (all - 1 - (first - warp)) / step + 1 : 0;
    last = first + (count - 1) * step + 1 == all ? (int)(rows - (long long)(all - 1) * FRAGMENT_ROWS) : FRAGMENT_ROWS;
  }
  // How many rows a tile has, and which of all tiles it is.
  __device__ int rows(int tile) const { return tile + 1 < count ? FRAGMENT_ROWS : tile + 1 == count ? last : 0; }
  __device__ unsigned number(int tile) const { return first + tile * step; }
};

constexpr int WIDE = 16 / (int)sizeof(element);  // elements of a vector
constexpr int VECTORS = CHUNK / WIDE;            // of a row
constexpr int WORDS = CHUNK / 4 * (int)sizeof(element) / 4;  // that a lane has of a row

static __device__ constexpr int power_of_two(int least) { return least > 16 ? 32 : least > 8 ? 16 : least > 4 ? 8 : least > 2 ? 4 : least; }
constexpr int LANES_OF_ROW = power_of_two(VECTORS);
constexpr int ROWS_AT_ONCE = LANES_OF_ROW == 1 ? FRAGMENT_ROWS : 32 / LANES_OF_ROW;

// Which vector a lane moves first, in the first rows.
struct Share {
  int row, vector;
  __device__ Share() : row(threadIdx.x % 32 / LANES_OF_ROW), vector(threadIdx.x % 32 % LANES_OF_ROW) {}
};

union alignas(16) Tile {
  element channels[2][CHUNK / 4];
  unsigned words[2][WORDS];
};

// Where an input's tile waits: its rows are PITCH_VECTORS apart.
static __device__ uint4* waiting(int stage, int input) {
  return reinterpret_cast<uint4*>(stages()) +
         ((threadIdx.x / 32 * STAGES + stage) * INPUTS + input) * (FRAGMENT_ROWS * PITCH_VECTORS);
}

// How the rows of a tensor are reached.
struct Walk {
  bool usual;       // channels are adjacent, vectors aligned, and rows evenly spaced
  element* at;      // where the lane's first vector of the tile is, if so; else it means nothing
  long long round;  // to that in the next rows of the tile
  long long step;   // to that of the next tile
};

// Rows that lie in some other way go by vectors if channels are adjacent, else an element at a time. Neighbouring lanes have
// neighbouring rows, so each works out once where its row is.
static __device__ bool has_vectors(const Rows& rows) { return rows.channel_stride == 1 && is_aligned(rows, WIDE); }

static __device__ Walk walk(const Rows& rows, int seed, const Tiles& tiles, long long end, Share share) {
  element* const at = reinterpret_cast<element*>(rows.address) + ((long long)tiles.first * FRAGMENT_ROWS + share.row) * rows.stride +
                      (long long)seed * CHUNK + share.vector * WIDE;
  const long long step = (long long)tiles.step * FRAGMENT_ROWS * rows.stride;
  return {has_vectors(rows) && rows.group >= end, at, ROWS_AT_ONCE * rows.stride, step};
}

constexpr int ROUNDS = FRAGMENT_ROWS / ROWS_AT_ONCE, OF_ROW = (VECTORS + LANES_OF_ROW - 1) / LANES_OF_ROW;

// Calls back with each vector that a lane moves of a tile: its number, its row, its place in shared memory, and where it is in
// global memory.
template <class Move> static __device__ void each_vector(Share share, const Walk& walk, Move move) {
  element* at = walk.at;
#pragma unroll
  for (int round = 0; round < ROUNDS; ++round, at += walk.round)
#pragma unroll
    for (int i = 0; i < OF_ROW; ++i) {
      const int row = share.row + round * ROWS_AT_ONCE, vector = share.vector + i * LANES_OF_ROW;
      if ((VECTORS % LANES_OF_ROW != 0 && vector >= VECTORS) || (LANES_OF_ROW == 1 && row >= FRAGMENT_ROWS)) continue;
      move(round * OF_ROW + i, row, row * PITCH_VECTORS + vector, at + i * (LANES_OF_ROW * WIDE));
    }
}

static __device__ __noinline__ void fetch_slowly(uint4* tile, const Rows& rows, int seed, unsigned number, int there) {
  const int row = threadIdx.x % FRAGMENT_ROWS, half = threadIdx.x % 32 / FRAGMENT_ROWS;
  const bool exists = row < there;
  const element* const from = chunk_of(rows, seed, (long long)number * FRAGMENT_ROWS + (exists ? row : 0));
  uint4* const to = tile + row * PITCH_VECTORS;
  if (has_vectors(rows)) {
#pragma unroll 1
    for (int i = half; i < VECTORS; i += 2) copy_ahead(to + i, from + i * WIDE, exists);
  } else {
#pragma unroll 4
    for (int i = half; i < CHUNK; i += 2)
      reinterpret_cast<element*>(to)[i] = exists ? from[i * rows.channel_stride] : element(0);
  }
}

static __device__ __noinline__ void put_slowly(const uint4* tile, const Rows& rows, int seed, unsigned number, int there) {
  const int row = threadIdx.x % FRAGMENT_ROWS, half = threadIdx.x % 32 / FRAGMENT_ROWS;
  if (row >= there) return;
  element* const to = chunk_of(rows, seed, (long long)number * FRAGMENT_ROWS + row);
  const uint4* const from = tile + row * PITCH_VECTORS;
  if (has_vectors(rows)) {
#pragma unroll 1
    for (int i = half; i < VECTORS; i += 2) reinterpret_cast<uint4*>(to)[i] = from[i];
  } else {
#pragma unroll 1
    for (int i = half; i < CHUNK; i += 2) to[i * rows.channel_stride] = reinterpret_cast<const element*>(from)[i];
  }
}

// Sends for the seed's chunk of a tile's rows; rows that are not there become zeros.
static __device__ void fetch(int stage, int input, Walk& walk, const Rows& rows, int seed, const Tiles& tiles, int tile,
                             Share share) {
  uint4* const to = waiting(stage, input);
  const int there = tiles.rows(tile);
  if (walk.usual) {
    each_vector(share, walk, [&](int, int row, int place, const element* from) { copy_ahead(to + place, from, row < there); });
  } else {
    fetch_slowly(to, rows, seed, tiles.number(tile), there);
  }
  walk.at += walk.step;
}

// A tile's rows, from shared memory to where a walk has come.
static __device__ void put(const uint4* from, Walk& walk, const Rows& rows, int seed, const Tiles& tiles, int tile, Share share) {
  const int there = tiles.rows(tile);
  if (walk.usual) {
    uint4 vectors[ROUNDS * OF_ROW];
    each_vector(share, walk, [&](int i, int, int place, element*) { vectors[i] = from[place]; });
    each_vector(share, walk, [&](int i, int row, int, element* to) {
      if (row < there) *reinterpret_cast<uint4*>(to) = vectors[i];
    });
  } else {
    put_slowly(from, rows, seed, tiles.number(tile), there);
  }
  walk.at += walk.step;
}

// The input that every seed reads, and telemetry watches: its first tiles are on their way before it is known what the seed
// runs. They are input 0 of the stages.
struct Ahead {
  Place place;
  Share share;
  Tiles tiles;
  Walk walk_watched;
  Assignment assignment;
  __device__ Ahead(const Launch& launch, Assignment assignment)
      : place(place_of_lane()), tiles(launch.rows, assignment), assignment(assignment) {
    if (PASS == TRAIN) return;
    const Rows& rows = watched(launch);
    walk_watched = walk(rows, assignment.seed, tiles, launch.rows, share);
#pragma unroll
    for (int early = 0; early < STAGES - 1; ++early)
      if (early < tiles.count) fetch(early, 0, walk_watched, rows, assignment.seed, tiles, early, share);
  }
  static __device__ const Rows& watched(const Launch& launch) { return PASS == FORWARD ? launch.x : launch.output_gradient; }
};

// All that was fetched so far is the first stage; the ones after it are empty.
static __device__ void end_of_first_stages() {
#pragma unroll
  for (int stage = 0; stage < STAGES - 1; ++stage) end_of_stage();
}

// The same bits, of which the compiler no longer knows what was made of them: it makes that anew instead of keeping it.
static __device__ void forget(Tile& tile) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < WORDS; ++j) asm volatile("" : "+r"(tile.words[h][j]));
}

// A condition that the compiler takes for another one in each tile: it would make the loop over tiles twice.
static __device__ bool anew(bool condition) {
  int word = condition;
  asm volatile("" : "+r"(word));
  return word;
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

// The largest number that is finite as an element of the tensors; for f16 the f32 before it.
constexpr number GREATEST = 3.402823466e+38f / HEADROOM;

// A row is no longer alive if one of its elements is not finite, or would not be in the tensors.
static __device__ void keep_rows(bool (&alive)[2], bool first, bool second, Place place) {
  const unsigned row = 0xfu << (4 * place.g);
  const unsigned firsts = __ballot_sync(0xffffffffu, first), seconds = __ballot_sync(0xffffffffu, second);
  alive[0] = alive[0] && (firsts & row) == row;
  alive[1] = alive[1] && (seconds & row) == row;
}

static __device__ void keep_representable(bool (&alive)[2], const number (&value)[2], Place place) {
  keep_rows(alive, magnitude(value[0]) <= GREATEST, magnitude(value[1]) <= GREATEST, place);
}

template <int E> static __device__ void keep_representable(bool (&alive)[2], const Fragment<E>& value, Place place) {
  number furthest[2];
#pragma unroll
  for (int i = 0; i < E / 4; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) furthest[h] = i == 0 ? value.rows[h][0] : further(furthest[h], value.rows[h][i]);
  keep_representable(alive, furthest, place);
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

// Four neighbours of a row of a product.
struct Four {
  number values[4];
  int column;  // of the first
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
        const number sum = scale * products.sums[m][n][c];
        *at = ADD ? *at + sum : sum;
      }
}

// Likewise, of products with ones, of which all columns are the same.
template <bool ADD, int M> static __device__ void keep_column(number* to, const Products<M, 8>& sums, number scale, Place place) {
#pragma unroll
  for (int pair = 0; pair < M / 8; ++pair) {
    number* const at = to + channel<M>(place.g / 2, 2 * pair + place.g % 2);
    const number sum = scale * sums.sums[pair / 2][0][pair % 2 * 2];
    if (place.t == 0) *at = ADD ? *at + sum : sum;
  }
}

// How many of the eight lanes of one t can have as many of N sums each.
template <int N> constexpr int SPLIT = N % 8 == 0 ? 8 : N % 4 == 0 ? 4 : N % 2 == 0 ? 2 : 1;

// Adds up N sums of which the lanes of one t have a share each. While they can be halved, a lane keeps one half and gives the
// other to the lane that keeps that one; in the end its first N / SPLIT<N> sums are whole. Which the first of them is, is returned.
template <int N> static __device__ int add_shares(number (&sums)[N]) {
  int first = 0;
#pragma unroll
  for (int split = 2; split <= 8; split *= 2) {
    const int distance = 2 * split, count = N / (split < SPLIT<N> ? split : SPLIT<N>);
    const bool halves = split <= SPLIT<N>, upper = threadIdx.x & distance;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const number low = sums[i], high = sums[halves ? i + count : i];
      sums[i] = (upper ? high : low) + __shfl_xor_sync(0xffffffffu, upper ? low : high, distance);
    }
    if (halves && upper) first += count;
  }
  return first;
}

// Such sums of a warp, to where they lie in memory: added to what is there, or put there.
template <bool ADD, int E> static __device__ void keep_elements(number* to, number (&sums)[E / 4], number scale, Place place) {
  const int first = add_shares(sums);
  if (place.g >= SPLIT<E / 4>) return;
#pragma unroll
  for (int i = 0; i < E / 4 / SPLIT<E / 4>; ++i) {
    number* const at = to + channel<E>(place.t, first + i);
    *at = ADD ? *at + scale * sums[i] : scale * sums[i];
  }
}

// Adds up what each warp has put into its part of the memory that rows came through: four neighbours at a time.
template <class Use> static __device__ void each_four_of_parts(const number* parts, int part, int count, Use use) {
#pragma unroll 1
  for (int i = 4 * threadIdx.x; i < count; i += 4 * THREADS) {
    number sums[4] = {};
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) {
      const uint4 word = *reinterpret_cast<const uint4*>(parts + warp * part + i);
      sums[0] += __uint_as_float(word.x);
      sums[1] += __uint_as_float(word.y);
      sums[2] += __uint_as_float(word.z);
      sums[3] += __uint_as_float(word.w);
    }
    use(i, sums);
  }
}

static __device__ bool is_whole(const number* to) { return reinterpret_cast<unsigned long long>(to) % 16 == 0; }

// To the gradient.
static __device__ __noinline__ void add_parts(number* to, const number* parts, int part, int count) {
  const bool whole = is_whole(to);
  each_four_of_parts(parts, part, count, [&](int i, const number (&sums)[4]) {
    add_four(to + i, whole, sums[0], sums[1], sums[2], sums[3]);
  });
}

// To shared memory.
static __device__ __noinline__ void keep_parts(number* to, const number* parts, int part, int count) {
  each_four_of_parts(parts, part, count, [&](int i, const number (&sums)[4]) {
#pragma unroll
    for (int n = 0; n < 4; ++n) to[i + n] = sums[n];
  });
}
