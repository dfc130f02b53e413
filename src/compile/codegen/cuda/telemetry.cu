
// ---- Telemetry: gathered in registers while rows are loaded, one addition per column and block. ----

enum Watch { NOTHING, EVERYTHING, GRADIENT };

struct Observed {
  double sum, squares, neighbours;
  number smallest, largest;
  unsigned dead, bad;
  long long count, fallback_rows;
};

static __device__ Observed nothing_observed() {
  Observed seen;
  seen.sum = seen.squares = seen.neighbours = 0;
  seen.smallest = -lowest();
  seen.largest = lowest();
  seen.dead = seen.bad = 0;
  seen.count = seen.fallback_rows = 0;
  return seen;
}

static __device__ void add(Observed& seen, const Observed& more) {
  seen.sum += more.sum;
  seen.squares += more.squares;
  seen.neighbours += more.neighbours;
  seen.smallest = more.smallest < seen.smallest ? more.smallest : seen.smallest;
  seen.largest = more.largest > seen.largest ? more.largest : seen.largest;
  seen.dead += more.dead;
  seen.bad += more.bad;
}

// Sums of a few neighbouring channels in type T; the channel after them, if the chunk has one, is `next`.
template <typename T, int N, Watch WATCH>
static __device__ bool add_sums(Observed& seen, const number (&v)[N], number next, bool has_next) {
  T sum = 0, squares = 0, neighbours = 0;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const number right = n + 1 < N ? v[n + 1 < N ? n + 1 : n] : next;
    if (is_finite(v[n])) {
      sum += v[n];
      squares += (T)v[n] * (T)v[n];
      if (WATCH == EVERYTHING && (n + 1 < N || has_next) && is_finite(right)) neighbours += (T)v[n] * (T)right;
    }
  }
  if (!(sum - sum == 0 && squares - squares == 0 && neighbours - neighbours == 0)) return false;
  seen.sum += sum;
  seen.squares += squares;
  seen.neighbours += neighbours;
  return true;
}

// Squares of large numbers overflow f32; f64 is only used then, since it is slow on many cards.
template <int N, Watch WATCH>
static __device__ __noinline__ Observed observe_widely(const number (&v)[N], number next, bool has_next) {
  Observed seen = nothing_observed();
  add_sums<double, N, WATCH>(seen, v, next, has_next);
  return seen;
}

// What is counted of a number, beside sums.
static __device__ void observe_one(Observed& seen, number v) {
  if (is_finite(v)) {
    seen.smallest = v < seen.smallest ? v : seen.smallest;
    seen.largest = v > seen.largest ? v : seen.largest;
    seen.dead += is_dead(v);
  } else {
    ++seen.bad;
  }
}

template <int N, Watch WATCH>
static __device__ void observe(Observed& seen, const number (&v)[N], number next, bool has_next) {
  if (WATCH == EVERYTHING) {
#pragma unroll
    for (int n = 0; n < N; ++n) observe_one(seen, v[n]);
  }
  if (WATCH != NOTHING && !add_sums<number, N, WATCH>(seen, v, next, has_next)) {
    const Observed wide = observe_widely<N, WATCH>(v, next, has_next);
    seen.sum += wide.sum;
    seen.squares += wide.squares;
    seen.neighbours += wide.neighbours;
  }
}

// Minimum and maximum of f64 by integers: numbers of one sign are ordered as their bits are. Adding 0 makes -0 into +0.
static __device__ void atomic_minimum(double* at, double value) {
  const long long bits = __double_as_longlong(value + 0.0);
  if (bits >= 0) atomicMin(reinterpret_cast<long long*>(at), bits);
  else atomicMax(reinterpret_cast<unsigned long long*>(at), (unsigned long long)bits);
}

static __device__ void atomic_maximum(double* at, double value) {
  const long long bits = __double_as_longlong(value + 0.0);
  if (bits >= 0) atomicMax(reinterpret_cast<long long*>(at), bits);
  else atomicMin(reinterpret_cast<unsigned long long*>(at), (unsigned long long)bits);
}

static __device__ double combine(int column, double a, double b) {
  if (column == MIN) return a < b ? a : b;
  if (column == MAX) return a > b ? a : b;
  return a + b;
}

// Whether a pass adds to a column.
static __device__ constexpr bool reports(int column) {
  if (PASS == FORWARD) return column != GRADIENT_SQUARES;
  return column == FALLBACK_ROWS || (PASS == BACKWARD && column == GRADIENT_SQUARES);
}

template <typename T, class Combine> static __device__ T over_warp(T value, Combine combine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

template <typename T> static __device__ T sum_of_warp(T value) {
  return over_warp(value, [](T a, T b) { return a + b; });
}

template <typename T> static __device__ T least_of_warp(T value) {
  return over_warp(value, [](T a, T b) { return b < a ? b : a; });
}

template <typename T> static __device__ T greatest_of_warp(T value) {
  return over_warp(value, [](T a, T b) { return b > a ? b : a; });
}

#if __CUDA_ARCH__ >= 800
// There are instructions for 32 bits: integers are added in pieces whose sums fit.
static __device__ integer sum_of_warp(integer value) {
  const natural bits = (natural)value;
  const natural low = __reduce_add_sync(0xffffffffu, (unsigned)bits & 0xffffff);
  const natural middle = __reduce_add_sync(0xffffffffu, (unsigned)(bits >> 24) & 0xffffff);
  const natural high = __reduce_add_sync(0xffffffffu, (unsigned)(bits >> 48));
  return (integer)(low + (middle << 24) + (high << 48));
}

// An integer for the bits of a number, and the other way round, so that integers are ordered as the numbers are.
static __device__ int ordered(int bits) { return bits ^ (bits >> 31 & 0x7fffffff); }

static __device__ float least_of_warp(float value) {
  return __int_as_float(ordered(__reduce_min_sync(0xffffffffu, ordered((int)__float_as_uint(value)))));
}

static __device__ float greatest_of_warp(float value) {
  return __int_as_float(ordered(__reduce_max_sync(0xffffffffu, ordered((int)__float_as_uint(value)))));
}
#endif

// What the block has seen, the column of its number to each of the first threads. All threads of the block call it.
static __device__ double seen_by_block(const Observed& seen) {
  __syncthreads();
  double* const values = partial() + threadIdx.x / 32 * COLUMNS;
  const auto keep = [values](int column, double value) {
    if (threadIdx.x % 32 == 0) values[column] = value;
  };
  if (reports(GRADIENT_SQUARES)) keep(GRADIENT_SQUARES, sum_of_warp(seen.squares));
  keep(FALLBACK_ROWS, sum_of_warp(seen.fallback_rows));
  if (PASS == FORWARD) {
    keep(COUNT, sum_of_warp(seen.count));
    keep(SUM, sum_of_warp(seen.sum));
    keep(SQUARES, sum_of_warp(seen.squares));
    keep(NEIGHBOURS, sum_of_warp(seen.neighbours));
    keep(DEAD, sum_of_warp((long long)seen.dead));
    keep(NON_FINITE, sum_of_warp((long long)seen.bad));
    keep(MIN, least_of_warp(seen.smallest));
    keep(MAX, greatest_of_warp(seen.largest));
  }
  __syncthreads();
  const int column = threadIdx.x;
  if (column >= COLUMNS || !reports(column)) return 0;
  double total = partial()[column];
#pragma unroll 1
  for (int warp = 1; warp < WARPS; ++warp) total = combine(column, total, partial()[warp * COLUMNS + column]);
  return total;
}

// Adds it to the seed's telemetry.
static __device__ void report(const Launch& launch, int seed, double total) {
  const int column = threadIdx.x;
  if (column >= COLUMNS || !reports(column)) return;
  double* const at = launch.telemetry + (long long)seed * COLUMNS + column;
  // Where no element was finite there is no smallest one.
  if (column == MIN) {
    if (total - total == 0) atomic_minimum(at, total);
  } else if (column == MAX) {
    if (total - total == 0) atomic_maximum(at, total);
  } else {
    atomicAdd(at, total);
  }
}
