
// The j-th element as it lies in a tensor.
static __device__ unsigned word_of(const number* elements, int j) { return __float_as_uint(elements[j]); }
