
// ---- Instructions on pairs of 16-bit elements. ----

// NaN if either is.
static __device__ unsigned pair_minimum(unsigned a, unsigned b) {
  unsigned pair;
  asm("min.NaN." TYPE "x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
  return pair;
}

static __device__ unsigned pair_maximum(unsigned a, unsigned b) {
  unsigned pair;
  asm("max.NaN." TYPE "x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
  return pair;
}

// The elements of the least magnitude, of any sign; of NaN nothing is promised.
static __device__ unsigned pair_nearest(unsigned a, unsigned b) {
  unsigned pair;
#if __CUDA_ARCH__ >= 860
  asm("min.xorsign.abs." TYPE "x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
#else
  asm("min." TYPE "x2 %0, %1, %2;" : "=r"(pair) : "r"(a & 0x7fff7fff), "r"(b & 0x7fff7fff));
#endif
  return pair;
}

static __device__ unsigned packed(number low, number high) {
  unsigned word;
  asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// Adds a product of 16 rows by 16 and 16 by 8 columns.
static __device__ void multiply(number (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
