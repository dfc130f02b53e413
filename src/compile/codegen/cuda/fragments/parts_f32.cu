
// ---- Products of f32: the tensor cores multiply numbers of 11 bits, so each is taken in two parts and three of the four
// products are added, which leaves the error of about one f32 rounding. ----

// The bits that the tensor cores take, and what they leave.
struct Parts {
  number high, low;
};

static __device__ Parts parts_of(number value) {
  const number high = __uint_as_float(__float_as_uint(value) & 0xffffe000);
  return {high, value - high};
}

static __device__ void multiply_parts(number (&sums)[4], const Parts (&a)[4], Parts b0, Parts b1) {
  multiply(sums, a[0].low, a[1].low, a[2].low, a[3].low, b0.high, b1.high);
  multiply(sums, a[0].high, a[1].high, a[2].high, a[3].high, b0.low, b1.low);
  multiply(sums, a[0].high, a[1].high, a[2].high, a[3].high, b0.high, b1.high);
}

// Two factors of a column as a lane has them in shared memory.
typedef uint4 FactorPair;

static __device__ Parts first_of(FactorPair column) { return {__uint_as_float(column.x), __uint_as_float(column.z)}; }
static __device__ Parts second_of(FactorPair column) { return {__uint_as_float(column.y), __uint_as_float(column.w)}; }

static __device__ void keep_factor(number* to, int item, number first, number second) {
  const Parts one = parts_of(first), two = parts_of(second);
  to[4 * item] = one.high;
  to[4 * item + 1] = two.high;
  to[4 * item + 2] = one.low;
  to[4 * item + 3] = two.low;
}
