
// ---- Products of f32 as TF32: each factor rounded to 11 bits, for callers who allow it. ----

// The bits that the tensor cores take.
struct Parts {
  number high;
};

static __device__ Parts parts_of(number value) { return {rounded(value)}; }

static __device__ void multiply_parts(number (&sums)[4], const Parts (&a)[4], Parts b0, Parts b1) {
  multiply(sums, a[0].high, a[1].high, a[2].high, a[3].high, b0.high, b1.high);
}

// Two factors of a column as a lane has them in shared memory.
typedef uint2 FactorPair;

static __device__ Parts first_of(FactorPair column) { return {__uint_as_float(column.x)}; }
static __device__ Parts second_of(FactorPair column) { return {__uint_as_float(column.y)}; }

static __device__ void keep_factor(number* to, int item, number first, number second) {
  to[2 * item] = rounded(first);
  to[2 * item + 1] = rounded(second);
}
