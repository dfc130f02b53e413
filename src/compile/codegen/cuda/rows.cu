
// ---- Rows: between global memory and shared memory, where the rows of a channel are adjacent. ----
//
// Neighbouring threads take neighbouring channels of a row where those are adjacent in global memory, a vector each; else
// they take neighbouring rows of a channel, which usually are.

template <int BYTES> struct Word;
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<4> { typedef unsigned type; };
template <> struct Word<8> { typedef uint2 type; };
template <> struct Word<16> { typedef uint4 type; };

// A few neighbouring channels of a row, moved as one.
template <int N> union Vector {
  typename Word<N * sizeof(element)>::type word;
  element channels[N];
};

template <int N> static __device__ Vector<N> read(const element* from) {
  Vector<N> vector;
  vector.word = *reinterpret_cast<const typename Word<N * sizeof(element)>::type*>(from);
  return vector;
}

template <int N> static __device__ void write(element* to, const Vector<N>& vector) {
  *reinterpret_cast<typename Word<N * sizeof(element)>::type*>(to) = vector.word;
}

static __device__ bool is_aligned(const Rows& rows, int channels) {
  const unsigned long long strides = (unsigned long long)rows.stride | (unsigned long long)rows.group_stride;
  return ((unsigned long long)rows.address | strides * sizeof(element)) % (channels * sizeof(element)) == 0;
}

// How far from the first row another lies where rows come in groups. Divisions are long, and seldom wanted.
static __device__ __noinline__ long long offset_in_groups(const Rows& rows, long long row) {
  return row / rows.group * rows.group_stride + row % rows.group * rows.stride;
}

// Where the first channel of a seed lies in a row.
static __device__ element* chunk_of(const Rows& rows, int seed, long long row) {
  const long long offset = row < rows.group ? row * rows.stride : offset_in_groups(rows, row);
  return reinterpret_cast<element*>(rows.address) + offset + (long long)seed * CHUNK * rows.channel_stride;
}

template <int N, Watch WATCH>
static __device__ void load_vectors(number* to, const Rows& rows, int seed, long long first, int valid, Observed& seen) {
  constexpr int VECTORS = CHUNK / N;
  for (int i = threadIdx.x; i < TILE * VECTORS; i += THREADS) {
    const int row = i / VECTORS, channel = i % VECTORS * N;
    number values[N] = {};
    if (row < valid) {
      const element* const from = chunk_of(rows, seed, first + row) + channel;
      const Vector<N> vector = read<N>(from);
#pragma unroll
      for (int n = 0; n < N; ++n) values[n] = to_number(vector.channels[n]);
      const bool has_next = WATCH == EVERYTHING && channel + N < CHUNK;
      observe<N, WATCH>(seen, values, has_next ? to_number(from[N]) : (number)0, has_next);
    }
#pragma unroll
    for (int n = 0; n < N; ++n) to[(channel + n) * PITCH + row] = values[n];
  }
}

// Channels that a thread which takes a row moves at once.
constexpr int ABREAST = CHUNK % 4 == 0 ? 4 : CHUNK % 2 == 0 ? 2 : 1;

// As load_vectors, a row to each thread of a group.
template <Watch WATCH>
static __device__ void load_rows(number* to, const Rows& rows, int seed, long long first, int valid, Observed& seen) {
  const int row = threadIdx.x % TILE;
  const bool exists = row < valid;
  const long long stride = rows.channel_stride;
  const element* const from = exists ? chunk_of(rows, seed, first + row) : nullptr;
#pragma unroll 2
  for (int channel = threadIdx.x / TILE * ABREAST; channel < CHUNK; channel += GROUPS * ABREAST) {
    number values[ABREAST] = {};
    if (exists) {
#pragma unroll
      for (int n = 0; n < ABREAST; ++n) values[n] = to_number(from[(channel + n) * stride]);
      const bool has_next = WATCH == EVERYTHING && channel + ABREAST < CHUNK;
      const number next = has_next ? to_number(from[(channel + ABREAST) * stride]) : (number)0;
      observe<ABREAST, WATCH>(seen, values, next, has_next);
    }
#pragma unroll
    for (int n = 0; n < ABREAST; ++n) to[(channel + n) * PITCH + row] = values[n];
  }
}

// What is seen comes back by value: by reference it would lie in memory, for the whole kernel.
template <Watch WATCH>
static __device__ __noinline__ Observed load_and_observe(number* to, const Rows& rows, int seed, long long first, int valid) {
  Observed seen = nothing_observed();
  if (rows.channel_stride != 1) load_rows<WATCH>(to, rows, seed, first, valid, seen);
  else if (is_aligned(rows, WIDEST)) load_vectors<WIDEST, WATCH>(to, rows, seed, first, valid, seen);
  else load_vectors<1, WATCH>(to, rows, seed, first, valid, seen);
  return seen;
}

// Loads the seed's chunk of `valid` rows, and zeros for the rest of the tile.
template <Watch WATCH>
static __device__ void load_tile(number* to, const Rows& rows, int seed, long long first, int valid, Observed& seen) {
  const Observed more = load_and_observe<WATCH>(to, rows, seed, first, valid);
  if (WATCH != NOTHING) add(seen, more);
}

template <int N>
static __device__ void store_vectors(const number* from, const Rows& rows, const Rows& fallback, int seed, long long first,
                                     int valid) {
  constexpr int VECTORS = CHUNK / N;
  for (int i = threadIdx.x; i < valid * VECTORS; i += THREADS) {
    const int row = i / VECTORS, channel = i % VECTORS * N;
    Vector<N> vector;
    if (fallen()[row]) {
      vector = read<N>(chunk_of(fallback, seed, first + row) + channel);
    } else {
#pragma unroll
      for (int n = 0; n < N; ++n) vector.channels[n] = to_element(from[(channel + n) * PITCH + row]);
    }
    write<N>(chunk_of(rows, seed, first + row) + channel, vector);
  }
}

// As store_vectors, a row to each thread of a group. The two tensors may lie differently.
static __device__ void store_rows(const number* from, const Rows& rows, const Rows& fallback, int seed, long long first,
                                  int valid) {
  const int row = threadIdx.x % TILE;
  if (row >= valid) return;
  const bool fell_back = fallen()[row];
  element* const to = chunk_of(rows, seed, first + row);
  const element* const instead = chunk_of(fallback, seed, first + row);
#pragma unroll 4
  for (int channel = threadIdx.x / TILE; channel < CHUNK; channel += GROUPS) {
    const element value =
        fell_back ? instead[channel * fallback.channel_stride] : to_element(from[channel * PITCH + row]);
    to[channel * rows.channel_stride] = value;
  }
}

// Stores the seed's chunk of `valid` rows; a row that fell back gets the bits of the fallback's row.
static __device__ __noinline__ void store_tile(const number* from, const Rows& rows, const Rows& fallback, int seed, long long first,
                                  int valid) {
  if (rows.channel_stride != 1 || fallback.channel_stride != 1)
    store_rows(from, rows, fallback, seed, first, valid);
  else if (is_aligned(rows, WIDEST) && is_aligned(fallback, WIDEST))
    store_vectors<WIDEST>(from, rows, fallback, seed, first, valid);
  else
    store_vectors<1>(from, rows, fallback, seed, first, valid);
}

// Channels after the last chunk; nobody watches them. Blocks past the seeds have TAIL of them each. Neighbouring threads take
// neighbouring channels where those are adjacent, else neighbouring rows.
static __device__ void copy_tail(const Launch& launch, Assignment assignment) {
  if (PASS == TRAIN) return;
  const Rows& from = PASS == FORWARD ? launch.x : launch.output_gradient;
  const long long start = launch.seeds * CHUNK + (assignment.seed - launch.seeds) * TAIL;
  const int width = launch.hidden - start < TAIL ? (int)(launch.hidden - start) : TAIL;
  int across = 1;  // threads for a row
  while (from.channel_stride == 1 && across < width && across < THREADS) across *= 2;
  const int down = THREADS / across;
  const long long step = (long long)assignment.parts * down;
#pragma unroll 1
  for (long long row = (long long)assignment.part * down + threadIdx.x / across; row < launch.rows; row += step) {
    const element* const source = chunk_of(from, 0, row) + start * from.channel_stride;
    element* const target = chunk_of(launch.output, 0, row) + start * launch.output.channel_stride;
#pragma unroll 1
    for (int channel = threadIdx.x % across; channel < width; channel += across)
      target[channel * launch.output.channel_stride] = source[channel * from.channel_stride];
  }
}
