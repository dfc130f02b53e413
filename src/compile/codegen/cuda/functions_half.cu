// Functions with about 20 bits, of which rows of 16 bits show at most 11. None of them branches.
static __device__ number exponential(number v) { return __expf(v); }
// One instruction each, for what comes out alike whether subnormal numbers are taken for 0 or not.
static __device__ number binary_exponential(number v) {
  number power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v));
  return power;
}
static __device__ number reciprocal(number v) {
  number quotient;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(quotient) : "f"(v));
  return quotient;
}
static __device__ number sigmoid(number v) { return reciprocal(1 + binary_exponential(-1.442695041f * v)); }
// Abramowitz and Stegun 7.1.26, at most 1.5e-7 off.
static __device__ number error_function(number v) {
  const number t = reciprocal(1 + 0.3275911f * fabsf(v));
  const number series = t * (-0.254829592f + t * (0.284496736f + t * (-1.421413741f + t * (1.453152027f + t * -1.061405429f))));
  return copysignf(1 + series * binary_exponential(-1.442695041f * (v * v)), v);
}
// By its first terms near 0, where the other form cancels.
static __device__ number hyperbolic_tangent(number v) {
  const number s = v * v;
  const number near = v * (1 + s * (-0.3333333333f + s * (0.1333333333f + s * -0.05396825397f)));
  return fabsf(v) < 0.25f ? near : 1 - reciprocal(0.5f + 0.5f * binary_exponential(2.885390082f * v));
}
