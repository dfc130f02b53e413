// Rows of f16, arithmetic in f32.
typedef float number;
typedef unsigned short element;
#define HEADROOM (3.402823466e+38f / 65504.0f)
static __device__ number to_number(element bits) {
  number value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
static __device__ element to_element(number value) {
  element bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
