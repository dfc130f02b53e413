
// ---- Words of two elements of bf16. ----

#define TYPE "bf16"  // in the names of instructions
constexpr unsigned ONES = 0x3f803f80, INFINITIES = 0x7f807f80;
// What they are as numbers.
static __device__ number lower(unsigned word) { return __uint_as_float(word << 16); }
static __device__ number upper(unsigned word) { return __uint_as_float(word & 0xffff0000); }
// The largest magnitude of which sums of squares are safe from overflow.
constexpr unsigned FURTHEST = 0x5380;
// The smallest numbers that are not dead.
constexpr unsigned ALIVE = 0x35873587;
