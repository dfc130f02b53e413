
// ---- Fragments: a warp works on 16 rows by itself, its values in registers. ----
//
// Lane 4 g + t has rows g and g + 8 of the tile (h = 0 and 1), and of every value of E elements those that channel<E>(t, i)
// names, i from 0 to E / 4. They lie in runs, so that a lane's share of a row is a few wide vectors. The tensor cores have
// the same rows in the same lanes; which column is which element is ours to choose, so their results lie as their
// operands do.

constexpr int FRAGMENT_ROWS = 16;

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

static __device__ long long first_of_warp() {
  return ((long long)blockIdx.y * WARPS + threadIdx.x / 32) * FRAGMENT_ROWS;
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

// ---- Tiles: the rows of a tensor as they lie in it. ----

constexpr int WIDE = RUN<CHUNK> * (int)sizeof(element) > 16 ? 16 / (int)sizeof(element) : RUN<CHUNK>;

union Tile {
  Vector<WIDE> vectors[2][CHUNK / 4 / WIDE];
  element channels[2][CHUNK / 4];
  unsigned words[2][CHUNK / 4 * sizeof(element) / 4];
};

// How the rows of a tensor may be read.
struct Access {
  bool wide;  // channels are adjacent and vectors aligned
  bool even;  // all rows are evenly spaced
};

static __device__ Access access_to(const Rows& rows, long long count) {
  return {rows.channel_stride == 1 && is_aligned(rows, WIDE), rows.group >= count};
}

// Divisions are long, and seldom wanted.
static __device__ __noinline__ element* chunk_of_group(const Rows& rows, int seed, long long row) {
  return chunk_of(rows, seed, row);
}

static __device__ element* chunk_at(const Rows& rows, Access access, int seed, long long row) {
  if (!access.even) return chunk_of_group(rows, seed, row);
  return reinterpret_cast<element*>(rows.address) + row * rows.stride + (long long)seed * CHUNK * rows.channel_stride;
}

// A lane's share of a row whose channels are not adjacent, or lie on odd addresses.
struct Share {
  element channels[CHUNK / 4];
};

static __device__ __noinline__ Share fetch_apart(const element* from, long long stride, int t) {
  Share share;
#pragma unroll
  for (int i = 0; i < CHUNK / 4; ++i) share.channels[i] = from[channel<CHUNK>(t, i) * stride];
  return share;
}

static __device__ __noinline__ void put_apart(element* to, long long stride, int t, Share share) {
#pragma unroll
  for (int i = 0; i < CHUNK / 4; ++i) to[channel<CHUNK>(t, i) * stride] = share.channels[i];
}

// The seed's chunk of the 16 rows from `first`, zeros for rows that are not there.
static __device__ Tile fetch(const Rows& rows, Access access, int seed, long long first, long long end, Place place) {
  Tile tile = {};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const long long row = first + place.g + 8 * h;
    if (row >= end) continue;
    const element* const from = chunk_at(rows, access, seed, row);
    if (access.wide) {
#pragma unroll
      for (int j = 0; j < CHUNK / 4 / WIDE; ++j) {
        typedef typename Word<WIDE * sizeof(element)>::type Word;
        tile.vectors[h][j].word = __ldcs(reinterpret_cast<const Word*>(from + channel<CHUNK>(place.t, j * WIDE)));
      }
    } else {
      const Share share = fetch_apart(from, rows.channel_stride, place.t);
#pragma unroll
      for (int i = 0; i < CHUNK / 4; ++i) tile.channels[h][i] = share.channels[i];
    }
  }
  return tile;
}

static __device__ void put(const Rows& rows, Access access, int seed, long long first, const Tile& tile,
                           const Existing& exists, Place place) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!exists.row[h]) continue;
    element* const to = chunk_at(rows, access, seed, first + place.g + 8 * h);
    if (access.wide) {
#pragma unroll
      for (int j = 0; j < CHUNK / 4 / WIDE; ++j) {
        typedef typename Word<WIDE * sizeof(element)>::type Word;
        __stcs(reinterpret_cast<Word*>(to + channel<CHUNK>(place.t, j * WIDE)), tile.vectors[h][j].word);
      }
    } else {
      Share share;
#pragma unroll
      for (int i = 0; i < CHUNK / 4; ++i) share.channels[i] = tile.channels[h][i];
      put_apart(to, rows.channel_stride, place.t, share);
    }
  }
}

static __device__ Fragment<CHUNK> numbers_of(const Tile& tile) {
  Fragment<CHUNK> fragment;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < CHUNK / 4; ++i) fragment.rows[h][i] = to_number(tile.channels[h][i]);
  return fragment;
}

// The rows that are alive, and of the others the bits of the fallback.
static __device__ Tile tile_of(const Fragment<CHUNK>& value, const Tile& fallback, const bool (&alive)[2]) {
  Tile tile;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < CHUNK / 4 * (int)sizeof(element) / 4; ++j) {
      const unsigned word = word_of(value.rows[h], j);
      tile.words[h][j] = alive[h] ? word : fallback.words[h][j];
    }
  return tile;
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

// An item of a matrix [K, N] as a factor: the elements of a column that two neighbouring rows have.
struct Factor {
  int row, column;
  bool exists;
};

// The sums over rows of the products of M elements of one value and N of another.
template <int M, int N> struct Products {
  number sums[(M + 15) / 16][N / 8][4];
};

// Adds the sums of a warp to what lies in shared memory as [M, N].
template <int M, int N> static __device__ void add_products(number* to, const Products<M, N>& products, Place place) {
#pragma unroll
  for (int m = 0; m < (M + 15) / 16; ++m)
#pragma unroll
    for (int n = 0; n < N / 8; ++n)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int pair = 2 * m + c / 2;
        if (pair >= M / 8) continue;
        const int row = channel<M>(place.g / 2, 2 * pair + place.g % 2), column = channel<N>(place.t, 2 * n + c % 2);
        to[row * N + column] += products.sums[m][n][c];
      }
}

// Adds the sums of a warp, a share of each in the lanes of one t, to what lies in shared memory.
template <int E> static __device__ void add_elements(number* to, const number (&sums)[E / 4], Place place) {
#pragma unroll
  for (int i = 0; i < E / 4; ++i) {
    number sum = sums[i];
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (place.g == 0) to[channel<E>(place.t, i)] += sum;
  }
}

// ---- Telemetry of a tile. ----

// What a lane has of two rows, and the element after each of its runs.
struct Watched {
  number rows[2][CHUNK / 4], next[2][CHUNK / 4 / RUN<CHUNK>];
};

// Element by element and in f64: for rows with something that is not finite, or so large that squares overflow.
template <Watch WATCH>
static __device__ __noinline__ Observed observe_closely(Watched watched, bool first, bool second, int t) {
  Observed seen = nothing_observed();
#pragma unroll 1
  for (int h = 0; h < 2; ++h) {
    if (!(h == 0 ? first : second)) continue;
#pragma unroll 1
    for (int i = 0; i < CHUNK / 4; ++i) {
      const int run = i / RUN<CHUNK>;
      const bool ends = i % RUN<CHUNK> + 1 == RUN<CHUNK>;
      const bool is_last = ends && t == 3 && run + 1 == CHUNK / 4 / RUN<CHUNK>;
      const number v[1] = {watched.rows[h][i]};
      const number next = ends ? watched.next[h][run] : watched.rows[h][i + 1];
      observe<1, WATCH>(seen, v, next, WATCH == EVERYTHING && !is_last);
    }
  }
  return seen;
}

static __device__ void merge(Observed& seen, const Observed& more) {
  seen.sum += more.sum;
  seen.squares += more.squares;
  seen.neighbours += more.neighbours;
  seen.smallest = more.smallest < seen.smallest ? more.smallest : seen.smallest;
  seen.largest = more.largest > seen.largest ? more.largest : seen.largest;
  seen.dead += more.dead;
  seen.bad += more.bad;
}

template <Watch WATCH>
static __device__ void observe_tile(Observed& seen, const Fragment<CHUNK>& value, const Existing& exists, Place place) {
  constexpr int RUNS = CHUNK / 4 / RUN<CHUNK>;
  if (place.t == 0) seen.count += (exists.row[0] + exists.row[1]) * CHUNK;
  number sum = 0, squares = 0, neighbours = 0, smallest = -lowest(), largest = lowest();
  number next[2][RUNS];
  unsigned dead = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const number(&v)[CHUNK / 4] = value.rows[h];
    if (WATCH == EVERYTHING) {
      // The next lane has what follows a run; what follows the last lane's run is the first lane's next one.
#pragma unroll
      for (int run = 0; run < RUNS; ++run) {
        const number later = run + 1 < RUNS ? v[run + 1 < RUNS ? (run + 1) * RUN<CHUNK> : 0] : (number)0;
        next[h][run] = __shfl_sync(0xffffffffu, place.t == 0 ? later : v[run * RUN<CHUNK>], 4 * place.g + (place.t + 1) % 4);
      }
    }
    unsigned dead_here = 0;
#pragma unroll
    for (int i = 0; i < CHUNK / 4; ++i) {
      squares += v[i] * v[i];
      if (WATCH != EVERYTHING) continue;
      const int run = i / RUN<CHUNK>;
      const number right = i % RUN<CHUNK> + 1 < RUN<CHUNK> ? v[i + 1 < CHUNK / 4 ? i + 1 : i] : next[h][run];
      sum += v[i];
      neighbours += v[i] * right;
      dead_here += is_dead(v[i]);
      if (exists.row[h]) {
        smallest = fminf(smallest, v[i]);
        largest = fmaxf(largest, v[i]);
      }
    }
    if (exists.row[h]) dead += dead_here;
  }
  if (!is_finite(squares) || !is_finite(sum) || !is_finite(neighbours)) {
    Watched watched;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int i = 0; i < CHUNK / 4; ++i) watched.rows[h][i] = value.rows[h][i];
#pragma unroll
      for (int run = 0; run < RUNS; ++run) watched.next[h][run] = WATCH == EVERYTHING ? next[h][run] : (number)0;
    }
    merge(seen, observe_closely<WATCH>(watched, exists.row[0], exists.row[1], place.t));
    return;
  }
  seen.sum += sum;
  seen.squares += squares;
  seen.neighbours += neighbours;
  seen.smallest = fminf(seen.smallest, smallest);
  seen.largest = fmaxf(seen.largest, largest);
  seen.dead += dead;
}

// ---- Identity. ----

template <Watch WATCH>
static __device__ void copy_rows_of_seed(const Launch& launch, const Rows& from, int seed, Observed& seen) {
  const Place place = place_of_lane();
  const bool in_place = from.address == launch.output.address;
  const Access access = access_to(from, launch.rows), access_output = access_to(launch.output, launch.rows);
  long long first = first_of_warp();
  Tile next = fetch(from, access, seed, first, launch.rows, place);
  for (; first < launch.rows; first += rows_of_grid()) {
    const Tile tile = next;
    if (first + rows_of_grid() < launch.rows)
      next = fetch(from, access, seed, first + rows_of_grid(), launch.rows, place);
    const Existing exists(first, launch.rows, place);
    observe_tile<WATCH>(seen, numbers_of(tile), exists, place);
    if (!in_place) put(launch.output, access_output, seed, first, tile, exists, place);
  }
}
