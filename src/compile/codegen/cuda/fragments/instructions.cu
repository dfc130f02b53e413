
// ---- Copies into shared memory that a lane starts ahead of their use. ----

// A vector; zeros if it does not exist.
static __device__ void copy_ahead(uint4* to, const void* from, bool exists) {
  const unsigned at = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(exists ? 16 : 0) : "memory");
}

// What was started since the last end is a stage.
static __device__ void end_of_stage() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all stages have come but the last few.
template <int LEFT> static __device__ void wait_for_stages() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

// ---- Numbers. ----

// The number of the greater magnitude, of any sign; NaN if either is.
static __device__ number further(number a, number b) {
  number result;
#if __CUDA_ARCH__ >= 860
  asm("max.NaN.xorsign.abs.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
#else
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(fabsf(a)), "f"(fabsf(b)));
#endif
  return result;
}

// ---- Instructions of a whole warp, on matrices of 8 by 8 elements of 16 bits: lane 4 g + t has two neighbours of row g. ----

// With rows and columns exchanged.
static __device__ unsigned transposed(unsigned word) {
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(word));
  return result;
}

// Reads 1, 2 or 4 matrices from shared memory, TRANSPOSED or as they lie. Lane 8 m + r says where row r of matrix m is.
template <bool TRANSPOSED> static __device__ void read_matrices(int count, unsigned (&to)[4], const uint4* row) {
  const unsigned at = (unsigned)__cvta_generic_to_shared(row);
#define READ(COUNT, TURNED, WORDS, ADDRESS, ...) \
  asm volatile("ldmatrix.sync.aligned.m8n8." COUNT TURNED ".shared.b16 {" WORDS "}, [" ADDRESS "];" : __VA_ARGS__ : "r"(at) : "memory")
  if (TRANSPOSED) {
    if (count == 1) READ("x1", ".trans", "%0", "%1", "=r"(to[0]));
    if (count == 2) READ("x2", ".trans", "%0, %1", "%2", "=r"(to[0]), "=r"(to[1]));
    if (count == 4) READ("x4", ".trans", "%0, %1, %2, %3", "%4", "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]));
  } else {
    if (count == 1) READ("x1", "", "%0", "%1", "=r"(to[0]));
    if (count == 2) READ("x2", "", "%0, %1", "%2", "=r"(to[0]), "=r"(to[1]));
    if (count == 4) READ("x4", "", "%0, %1, %2, %3", "%4", "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]));
  }
#undef READ
}

#if __CUDA_ARCH__ >= 900
// Writes 2 or 4 likewise, as they are.
static __device__ void write_matrices(int count, uint4* row, const unsigned (&words)[4]) {
  const unsigned at = (unsigned)__cvta_generic_to_shared(row);
  if (count == 2)
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(at), "r"(words[0]), "r"(words[1]) : "memory");
  if (count == 4)
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3]) : "memory");
}
#endif

// ---- Sums in memory that others add to. ----

// To four neighbours, which lie on 16 bytes if they are whole.
static __device__ void add_four(number* to, bool whole, number a, number b, number c, number d) {
  // PTX has had the instruction since CUDA 12.1.
#if __CUDA_ARCH__ >= 900 && (__CUDACC_VER_MAJOR__ > 12 || __CUDACC_VER_MINOR__ > 0)
  if (whole) {
    asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
    return;
  }
#endif
  atomicAdd(to, a);
  atomicAdd(to + 1, b);
  atomicAdd(to + 2, c);
  atomicAdd(to + 3, d);
}
