// Functions of one number.
static __device__ number lowest() { return __longlong_as_double(0xfff0000000000000ll); }
static __device__ number not_a_number() { return __longlong_as_double(0x7ff8000000000000ll); }
static __device__ number magnitude(number v) { return fabs(v); }
static __device__ number exponential(number v) { return exp(v); }
static __device__ number logarithm(number v) { return log(v); }
static __device__ number root(number v) { return sqrt(v); }
static __device__ number inverse_root(number v) { return rsqrt(v); }
static __device__ number hyperbolic_tangent(number v) { return tanh(v); }
static __device__ number error_function(number v) { return erf(v); }
static __device__ number sine(number v) { return sin(v); }
static __device__ number cosine(number v) { return cos(v); }
static __device__ number rounded_down(number v) { return floor(v); }
static __device__ number power(number a, number b) { return pow(a, b); }
static __device__ bool is_dead(number v) { return fabs(v) < 1e-6; }
static __device__ number sigmoid(number v) { return 1 / (1 + exponential(-v)); }
