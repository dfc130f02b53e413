// Rows of f32, arithmetic in f32.
typedef float number;
typedef float element;
#define HEADROOM 1.0f
static __device__ number to_number(element value) { return value; }
static __device__ element to_element(number value) { return value; }
