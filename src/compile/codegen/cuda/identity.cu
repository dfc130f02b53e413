
// ---- Identity: bits are copied, and watched on the way. ----

// Nothing is fetched before it is known what the seed runs.
struct Ahead {
  Assignment assignment;
  __device__ Ahead(const Launch&, Assignment assignment) : assignment(assignment) {}
};

template <int N, Watch WATCH>
static __device__ void copy_vectors(const Launch& launch, const Rows& from, int seed, Assignment assignment, Observed& seen) {
  constexpr int VECTORS = CHUNK / N;
  constexpr int COPIES = N == WIDEST ? 4 : 1;  // vectors that a thread has in flight
  constexpr int ROWS = VECTORS >= COPIES * THREADS ? 1 : COPIES * THREADS / VECTORS;
  const bool in_place = from.address == launch.output.address;
  for (long long first = (long long)assignment.part * ROWS; first < launch.rows; first += (long long)assignment.parts * ROWS) {
    const int valid = launch.rows - first < ROWS ? (int)(launch.rows - first) : ROWS;
    for (int start = threadIdx.x; start < valid * VECTORS; start += COPIES * THREADS) {
      Vector<N> vectors[COPIES];
#pragma unroll
      for (int copy = 0; copy < COPIES; ++copy) {
        const int i = start + copy * THREADS;
        if (i < valid * VECTORS) vectors[copy] = read<N>(chunk_of(from, seed, first + i / VECTORS) + i % VECTORS * N);
      }
#pragma unroll
      for (int copy = 0; copy < COPIES; ++copy) {
        const int i = start + copy * THREADS;
        if (i >= valid * VECTORS) break;
        const int channel = i % VECTORS * N;
        if (WATCH != NOTHING && launch.telemetry) {
          number values[N];
#pragma unroll
          for (int n = 0; n < N; ++n) values[n] = to_number(vectors[copy].channels[n]);
          const bool has_next = WATCH == EVERYTHING && channel + N < CHUNK;
          const element* const next = chunk_of(from, seed, first + i / VECTORS) + channel + N;
          observe<N, WATCH>(seen, values, has_next ? to_number(*next) : (number)0, has_next);
        }
        if (!in_place) write<N>(chunk_of(launch.output, seed, first + i / VECTORS) + channel, vectors[copy]);
      }
    }
    if (threadIdx.x == 0) seen.count += (long long)valid * CHUNK;
  }
}

// As copy_vectors for tensors of any layout: a warp has 32 rows, its threads one each.
template <Watch WATCH>
static __device__ void copy_rows(const Launch& launch, const Rows& from, int seed, Assignment assignment, Observed& seen) {
  const bool in_place = from.address == launch.output.address;
  const long long step = from.channel_stride, output_step = launch.output.channel_stride;
  for (long long first = (long long)assignment.part * 32; first < launch.rows; first += (long long)assignment.parts * 32) {
    const long long row = first + threadIdx.x % 32;
    if (row >= launch.rows) continue;
    const element* const read = chunk_of(from, seed, row);
    element* const written = chunk_of(launch.output, seed, row);
#pragma unroll 2
    for (int channel = threadIdx.x / 32 * ABREAST; channel < CHUNK; channel += WARPS * ABREAST) {
      element elements[ABREAST];
      number values[ABREAST];
#pragma unroll
      for (int n = 0; n < ABREAST; ++n) elements[n] = read[(channel + n) * step];
      if (WATCH != NOTHING && launch.telemetry) {
#pragma unroll
        for (int n = 0; n < ABREAST; ++n) values[n] = to_number(elements[n]);
        const bool has_next = WATCH == EVERYTHING && channel + ABREAST < CHUNK;
        const number next = has_next ? to_number(read[(channel + ABREAST) * step]) : (number)0;
        observe<ABREAST, WATCH>(seen, values, next, has_next);
      }
#pragma unroll
      for (int n = 0; n < ABREAST; ++n)
        if (!in_place) written[(channel + n) * output_step] = elements[n];
    }
    if (threadIdx.x < 32) seen.count += CHUNK;
  }
}

// The widest vector that fits the alignment of both tensors.
template <int N, Watch WATCH> struct Copy {
  static __device__ void run(const Launch& launch, const Rows& from, int seed, Assignment assignment, Observed& seen) {
    if (is_aligned(from, N) && is_aligned(launch.output, N)) copy_vectors<N, WATCH>(launch, from, seed, assignment, seen);
    else Copy<N / 2, WATCH>::run(launch, from, seed, assignment, seen);
  }
};
template <Watch WATCH> struct Copy<1, WATCH> {
  static __device__ void run(const Launch& launch, const Rows& from, int seed, Assignment assignment, Observed& seen) {
    copy_vectors<1, WATCH>(launch, from, seed, assignment, seen);
  }
};

template <Watch WATCH>
static __device__ void copy_rows_of_seed(const Launch& launch, const Rows& from, int seed, Ahead& ahead, Observed& seen) {
  const Assignment assignment = ahead.assignment;
  if (from.channel_stride != 1 || launch.output.channel_stride != 1) copy_rows<WATCH>(launch, from, seed, assignment, seen);
  else Copy<WIDEST, WATCH>::run(launch, from, seed, assignment, seen);
}
