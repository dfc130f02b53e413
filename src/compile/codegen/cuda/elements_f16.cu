// Rows of f16, arithmetic in f32.
typedef float number;
typedef unsigned short element;
#define HEADROOM (3.402823466e+38f / 65504.0f)
static __device__ number to_number(element bits) { return half_to_single(bits); }
static __device__ element to_element(number value) { return single_to_half(value); }
