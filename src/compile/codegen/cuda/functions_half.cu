// Functions with about 20 bits, of which rows of 16 bits show at most 11. None of them branches.
static __device__ number exponential(number v) { return __expf(v); }
static __device__ number sigmoid(number v) { return __fdividef(1, 1 + __expf(-v)); }
// Abramowitz and Stegun 7.1.26, at most 1.5e-7 off.
static __device__ number error_function(number v) {
  const number a = fabsf(v), t = __fdividef(1, 1 + 0.3275911f * a);
  const number series = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  return copysignf(1 - series * __expf(-a * a), v);
}
// By its first terms near 0, where the other form cancels.
static __device__ number hyperbolic_tangent(number v) {
  const number a = fabsf(v), s = v * v;
  const number near = a - a * s * (0.3333333333f - s * (0.1333333333f - s * 0.05396825397f));
  return copysignf(a < 0.25f ? near : 1 - __fdividef(2, 1 + __expf(2 * a)), v);
}
