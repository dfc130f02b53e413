// Not v - v == 0: where v is a product, a fused multiplication leaves what rounding took from it.
static __device__ bool is_finite(number v) { return magnitude(v) < -lowest(); }
// NaN if either is, as in PyTorch.
static __device__ number maximum(number a, number b) { return a > b || a != a ? a : b; }
static __device__ number minimum(number a, number b) { return a < b || a != a ? a : b; }
// The nearest number of a narrower type, by way of f32.
static __device__ number rounded_to_f16(number v) { return half_to_single(single_to_half((float)v)); }
static __device__ number rounded_to_bf16(number v) {
  const unsigned bits = __float_as_uint((float)v);
  return v != v ? v : (number)__uint_as_float((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

// ---- Integers: 64 bits whatever their type; those of i32 are wrapped to 32 bits after each operation. ----

typedef long long integer;
typedef unsigned long long natural;

static __device__ integer wrapped(integer v) { return (int)v; }
static __device__ integer negated(integer v) { return (integer)(0 - (natural)v); }
static __device__ integer magnitude(integer v) { return v < 0 ? negated(v) : v; }
static __device__ integer maximum(integer a, integer b) { return a > b ? a : b; }
static __device__ integer minimum(integer a, integer b) { return a < b ? a : b; }
// Towards zero, to the nearest there is, and 0 for NaN.
static __device__ integer to_i64(number v) {
  if (v != v) return 0;
  if (v >= (number)9223372036854775808.0) return 0x7fffffffffffffffll;
  return v <= (number)-9223372036854775808.0 ? -0x7fffffffffffffffll - 1 : (integer)v;
}
static __device__ integer to_i32(number v) { return minimum(maximum(to_i64(v), -2147483648ll), 2147483647ll); }

// ---- Random numbers by counting, ten rounds of Philox4x32: src/compile/random.rs says what for. ----

static __device__ number random_number(natural key, long long row, unsigned element, unsigned seed, unsigned stream) {
  unsigned low = (unsigned)key, high = (unsigned)(key >> 32);
  unsigned a = (unsigned)row, b = element, c = seed, d = stream | (unsigned)(row >> 32) << 16;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const natural first = 0xd2511f53ull * a, second = 0xcd9e8d57ull * c;
    a = (unsigned)(second >> 32) ^ b ^ low;
    b = (unsigned)second;
    c = (unsigned)(first >> 32) ^ d ^ high;
    d = (unsigned)first;
    low += 0x9e3779b9;
    high += 0xbb67ae85;
  }
  return (number)(a >> 8) * (number)5.9604644775390625e-08;  // 2^-24
}

// ---- What a launch is given: one struct by value. src/device/cuda/parameters.rs has the same layout. ----

struct Rows {
  char* address;
  long long channel_stride;  // elements from one channel of a row to the next
  long long stride;          // from one row of a group to the next
  long long group;           // rows of a group; more than there are if they are all evenly spaced
  long long group_stride;    // from one group to the next
};

struct Bank {
  const number* parameters;  // [capacity, size]
  number* gradient;          // [capacity, size], added to; may be null
  long long capacity;
  long long size;
};

struct Launch {
  long long rows, hidden, seeds, blueprints;
  Rows x, output_gradient, target, output;
  const signed char* lifecycle;  // [seeds]
  const int* blueprint;          // [seeds], below blueprints or -1
  const int* slot;               // [seeds]
  const float* alpha;            // [seeds]
  const int* branch;             // [blueprints], below PROGRAMS or -1
  double* telemetry;             // [seeds, COLUMNS]; may be null
  float* alpha_gradient;         // [seeds]; may be null
  double* loss;                  // [seeds, 2]; may be null
  double loss_scale;
  const natural* random;         // the key of the random numbers, less random_offset; null where dropout is not active
  natural random_offset;
  const unsigned* order;         // [seeds], those first that take long; in a train launch, those last; null: as they are numbered
  integer busy;                  // how many of them take long
  unsigned busy_parts;           // in how many parts their rows are taken, each by a block
  unsigned other_parts;          // and those of the others
  Bank banks[PROGRAMS > 0 ? PROGRAMS : 1];  // by branch
};
static_assert(sizeof(Launch) == 304 + 32 * (PROGRAMS > 0 ? PROGRAMS : 1), "src/device/cuda/parameters.rs differs");

// Which part of the rows of a seed a block takes, and of how many. Seeds beyond the last are channels after the last chunk.
struct Assignment {
  unsigned seed, part, parts;
};

// What a seed runs.
struct Selection {
  int program;  // -1 for identity
  int slot;
  float alpha;
};

enum Pass { FORWARD, BACKWARD, TRAIN };
enum Column { COUNT, SUM, SQUARES, MIN, MAX, DEAD, NEIGHBOURS, NON_FINITE, GRADIENT_SQUARES, FALLBACK_ROWS, COLUMNS };

// ---- Shared memory: a flag per row, room for sums over the block, rows on their way, then the values of the program. ----

constexpr int WARPS = THREADS / 32;
constexpr int GROUPS = THREADS / TILE;  // threads of a group have a row each, and share the elements of a step
constexpr int FLAG_BYTES = 128, PARTIAL_BYTES = 8 * WARPS * COLUMNS;
constexpr int FRAGMENT_ROWS = 16;  // that a warp works on at a time where values are in fragments
// Vectors of 16 bytes from a row of such a tile to the next: an odd number, so that the same part of eight rows meets in no
// bank of shared memory.
constexpr int PITCH_VECTORS = CHUNK * (int)sizeof(element) / 16 | 1;
constexpr int STAGE_BYTES = WARPS * STAGES * INPUTS * FRAGMENT_ROWS * PITCH_VECTORS * 16;

extern __shared__ __align__(16) unsigned char shared_memory[];

// Whether a row of the tile adds nothing: it fell back to identity, or there is no such row.
static __device__ int* fallen() { return reinterpret_cast<int*>(shared_memory); }
static __device__ double* partial() { return reinterpret_cast<double*>(shared_memory + FLAG_BYTES); }
static __device__ unsigned char* stages() { return shared_memory + FLAG_BYTES + PARTIAL_BYTES; }
static __device__ number* numbers() { return reinterpret_cast<number*>(stages() + STAGE_BYTES); }

// Parameters of a slot. No kernel writes what it reads as such, so it may be read early.
struct Parameters {
  const number* at;
  __device__ number operator[](int i) const { return __ldg(at + i); }
  // Those from the i-th on.
  __device__ Parameters beyond(int i) const { return {at + i}; }
};

// Of COUNT items each to one thread. Few turns are taken apart, so that the reads of all are on their way at once.
template <int COUNT, class Item> static __device__ void share_out(Item item) {
  constexpr int TURNS = (COUNT + THREADS - 1) / THREADS, ABREAST = TURNS < 4 ? TURNS : 4;
#pragma unroll ABREAST
  for (int turn = 0; turn < TURNS; ++turn) {
    const int i = turn * THREADS + (int)threadIdx.x;
    if (COUNT % THREADS == 0 || i < COUNT) item(i);
  }
}

template <int COUNT> static __device__ void read_in(number* to, Parameters from, int start) {
  share_out<COUNT>([&](int i) { to[i] = from[start + i]; });
}

// What a block does before and after its rows, and need not be quick at, is called and not inlined: for the compiler, time is
// instructions.

static __device__ __noinline__ void clear(number* values, int count) {
  for (int i = threadIdx.x; i < count; i += THREADS) values[i] = 0;
}

// Adds what lies in shared memory to what other blocks may add to as well.
static __device__ __noinline__ void add_to(number* to, const number* from, int count) {
  for (int i = threadIdx.x; i < count; i += THREADS) atomicAdd(to + i, from[i]);
}

// The rows of the tile that have not fallen, a bit each. All threads of the block call it.
static __device__ unsigned alive_rows() {
  const int lane = threadIdx.x % 32;
  return __ballot_sync(0xffffffffu, lane < TILE && !fallen()[lane]);
}

// The sum of one number of each thread, in a fixed order. The caller synchronises before it reads the result.
static __device__ __noinline__ void block_sum(number value, number* result) {
#pragma unroll 1
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  __syncthreads();
  if (threadIdx.x % 32 == 0) partial()[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    number total = 0;
    for (int warp = 0; warp < WARPS; ++warp) total += (number)partial()[warp];
    *result = total;
  }
}

// Marks the rows in which a value has an element that is not finite, or would not be as an element of the tensors:
// HEADROOM is how much larger a computed number can be than a stored one.
static __device__ __noinline__ void guard(const number* value, int elements) {
  const int row = threadIdx.x % TILE;
  for (int i = threadIdx.x / TILE; i < elements; i += GROUPS)
    if (!is_finite(value[i * PITCH + row] * HEADROOM)) fallen()[row] = 1;
}
