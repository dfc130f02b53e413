// For generated CUDA on the CPU: fragments/tensor_f32.cu.
static void multiply(number (&sums)[4], number a0, number a1, number a2, number a3, number b0, number b1) {
  emulation::multiply_single(sums, {__float_as_uint(a0), __float_as_uint(a1), __float_as_uint(a2), __float_as_uint(a3),
                                    __float_as_uint(b0), __float_as_uint(b1)});
}
// Halves go away from zero; what is not finite stays.
static number rounded(number value) {
  const unsigned bits = __float_as_uint(value);
  return value - value == 0 ? __uint_as_float((bits + 0x1000) & 0xffffe000) : value;
}
