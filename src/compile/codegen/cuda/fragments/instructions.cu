
// ---- Copies into shared memory that a lane starts ahead of their use. ----

template <int BYTES> static __device__ void copy_ahead(void* to, const void* from) {
  const unsigned at = (unsigned)__cvta_generic_to_shared(to);
  if (BYTES == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
  else asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(BYTES) : "memory");
}

// What was started since the last end is a stage.
static __device__ void end_of_stage() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all stages have come but the last few.
template <int LEFT> static __device__ void wait_for_stages() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

// ---- Instructions of a whole warp. ----

// An 8 by 8 matrix of 16-bit elements, two neighbours of a row in each lane, turned.
static __device__ unsigned transposed(unsigned word) {
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(word));
  return result;
}

// ---- Sums in memory that others add to. ----

// To four neighbours, which lie on 16 bytes if they are whole.
static __device__ void add_four(number* to, bool whole, number a, number b, number c, number d) {
#if __CUDA_ARCH__ >= 900
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
