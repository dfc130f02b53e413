
// ---- Words of two elements of bf16. ----

#define TYPE "bf16"  // in the names of instructions
constexpr unsigned ONES = 0x3f803f80, INFINITIES = 0x7f807f80;
// The largest magnitude of which sums of squares are safe from overflow.
constexpr unsigned FURTHEST = 0x5380;
// The smallest numbers that are not dead.
constexpr unsigned ALIVE = 0x35873587;
