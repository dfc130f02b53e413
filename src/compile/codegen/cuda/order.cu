
// ---- The order of kernels, and of the blocks of a seed. ----

// A kernel is started while the one before it on the stream may still run, so that the two overlap by what it takes to start.
// Nothing is read or written before that one is done. Then the next one may be started likewise.
static __device__ void await_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Blocks that share the rows of a seed add what they have as they come, and no two launches round alike; unless they are launched as
// a cluster, the blocks of a seed after each other. Then they add in the order of their numbers.
static __device__ unsigned blocks_in_cluster() {
  unsigned blocks = 1;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(blocks));
#endif
  return blocks;
}

static __device__ unsigned place_in_cluster() {
  unsigned place = 0;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_ctaid.x;" : "=r"(place));
#endif
  return place;
}

// Lets the blocks of a cluster meet so many times. What was added before is there after it.
static __device__ void meet(unsigned times) {
#if __CUDA_ARCH__ >= 900
#pragma unroll 1
  for (; times > 0; --times) asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// Each block of a cluster calls both once, or none does: before it adds the first number, and after the last.
static __device__ void await_turn() { meet(place_in_cluster()); }
static __device__ void end_turn() { meet(blocks_in_cluster() - 1 - place_in_cluster()); }
