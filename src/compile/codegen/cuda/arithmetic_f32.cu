// Functions of one number, each with the accuracy of the CUDA mathematics library.
static __device__ number lowest() { return __int_as_float(0xff800000); }
static __device__ number not_a_number() { return __int_as_float(0x7fc00000); }
static __device__ number magnitude(number v) { return fabsf(v); }
static __device__ number logarithm(number v) { return logf(v); }
static __device__ number root(number v) { return sqrtf(v); }
static __device__ number inverse_root(number v) { return rsqrtf(v); }
static __device__ number sine(number v) { return sinf(v); }
static __device__ number cosine(number v) { return cosf(v); }
static __device__ number rounded_down(number v) { return floorf(v); }
static __device__ number power(number a, number b) { return powf(a, b); }
// The largest f32 below 1e-6, so that this is |v| < 1e-6 exactly.
static __device__ bool is_dead(number v) { return fabsf(v) <= 9.999999974752427e-07f; }
