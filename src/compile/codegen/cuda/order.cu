
// ---- The order of kernels. ----

// A kernel is started while the one before it on the stream may still run, so that the two overlap by what it takes to start.
// Nothing is read or written before that one is done. Then the next one may be started likewise.
static __device__ void await_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
