
// ---- Words of two elements of f16. ----

#define TYPE "f16"  // in the names of instructions
constexpr unsigned ONES = 0x3c003c00, INFINITIES = 0x7c007c00;
// What they are as numbers.
static __device__ number lower(unsigned word) { return half_to_single((element)word); }
static __device__ number upper(unsigned word) { return half_to_single((element)(word >> 16)); }
// The largest magnitude of which sums of squares are safe from overflow.
constexpr unsigned FURTHEST = 0x7bff;
// The smallest numbers that are not dead.
constexpr unsigned ALIVE = 0x00110011;
