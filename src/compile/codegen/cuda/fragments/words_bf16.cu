
// ---- Words of two elements of bf16. ----

constexpr unsigned ONES = 0x3f803f80, INFINITIES = 0x7f807f80;
// The largest magnitude of which sums of squares are safe from overflow.
constexpr unsigned FURTHEST = 0x5380;
// The smallest numbers that are not dead.
constexpr unsigned ALIVE = 0x35873587;

// The j-th two elements as they lie in a tensor.
static __device__ unsigned word_of(const number* elements, int j) { return packed(elements[2 * j], elements[2 * j + 1]); }
