// Rows of bf16, arithmetic in f32.
typedef float number;
typedef unsigned short element;
#define HEADROOM (3.402823466e+38f / 3.389531390e+38f)
static __device__ number to_number(element bits) { return __uint_as_float((unsigned)bits << 16); }
// To the nearest, ties to even; any NaN becomes the quiet one.
static __device__ element to_element(number value) {
  const unsigned bits = __float_as_uint(value);
  return value != value ? 0x7fc0 : (element)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
