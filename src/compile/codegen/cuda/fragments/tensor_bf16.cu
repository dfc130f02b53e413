
// ---- Instructions on bf16. ----

static __device__ unsigned packed(number low, number high) {
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// The j-th two elements as they lie in a tensor.
static __device__ unsigned word_of(const number* elements, int j) { return packed(elements[2 * j], elements[2 * j + 1]); }

// An 8 by 8 matrix of 16-bit elements, two neighbours of a row in each lane, turned.
static __device__ unsigned transposed(unsigned word) {
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(word));
  return result;
}

// Adds a product of 16 rows by 16 and 16 by 8 columns.
static __device__ void multiply(number (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
