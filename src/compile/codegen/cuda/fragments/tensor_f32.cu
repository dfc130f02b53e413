
// ---- Instructions on f32. ----

// Adds a product of 16 rows by 8 and 8 by 8 columns, of which the tensor cores see the upper 19 bits.
static __device__ void multiply(number (&sums)[4], number a0, number a1, number a2, number a3, number b0, number b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(__float_as_uint(a0)), "r"(__float_as_uint(a1)), "r"(__float_as_uint(a2)), "r"(__float_as_uint(a3)),
        "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}

// To the nearest number of 11 bits, which is all that the tensor cores see.
static __device__ number rounded(number value) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}
