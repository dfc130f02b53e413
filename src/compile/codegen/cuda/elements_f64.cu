// Rows of f64, arithmetic in f64.
typedef double number;
typedef double element;
#define HEADROOM 1.0
static __device__ number to_number(element value) { return value; }
static __device__ element to_element(number value) { return value; }
