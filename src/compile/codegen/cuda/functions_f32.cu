// Functions with the accuracy of the CUDA mathematics library: no fast approximations.
static __device__ number exponential(number v) { return expf(v); }
static __device__ number error_function(number v) { return erff(v); }
static __device__ number hyperbolic_tangent(number v) { return tanhf(v); }
static __device__ number sigmoid(number v) { return 1 / (1 + exponential(-v)); }
