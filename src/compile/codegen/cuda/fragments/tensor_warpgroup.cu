
// ---- Products of a warpgroup, four warps that multiply 64 rows together (wgmma, from 9.0 on): each has 16 rows of the result in
// registers, and the tensor cores read the right factor, or both, from shared memory by themselves. ----

// Elements in shared memory, eight by eight in 128 bytes: where the first are, and how many vectors further the next ones lie along
// what is summed over, and across it. Of an address, what leads to this block: the rest says which one of its cluster it is.
struct Matrices {
  unsigned first, across;
  __device__ Matrices(const void* first, int along, int across)
      : first((unsigned)__cvta_generic_to_shared(first) >> 4 & 0x3fff | along << 16), across(across) {}
  // Those so many vectors further.
  __device__ Matrices further(int vectors) const {
    Matrices result = *this;
    result.first += vectors;
    return result;
  }
  __device__ unsigned long long description() const { return (unsigned long long)across << 32 | first; }
};

// What threads have written to shared memory is there for the tensor cores; the caller synchronises after it.
static __device__ void show_tensor_cores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The compiler is to have these sums where they stay before products are begun, or it waits for each product apart.
template <int N> static __device__ void hold(number (&sums)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int c = 0; c < 4; ++c) asm volatile("" : "+f"(sums[n][c]));
}

static __device__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Until all are done.
static __device__ void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;" ::: "memory");
}

#define EIGHT(n) "+f"(sums[n][0]), "+f"(sums[n][1]), "+f"(sums[n][2]), "+f"(sums[n][3])
#define SUMS_32 EIGHT(0), EIGHT(1), EIGHT(2), EIGHT(3)
#define SUMS_64 SUMS_32, EIGHT(4), EIGHT(5), EIGHT(6), EIGHT(7)
#define SUMS_128 SUMS_64, EIGHT(8), EIGHT(9), EIGHT(10), EIGHT(11), EIGHT(12), EIGHT(13), EIGHT(14), EIGHT(15)
#define NAMES_32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_64 NAMES_32 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_128 NAMES_64 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define PRODUCT(N, OPERANDS, ...)                                                                                   \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NAMES_##N "}, " OPERANDS ";" \
               : SUMS_##N : __VA_ARGS__)

// Adds the product of the warp's 16 rows of 16 elements and N columns, or rows if it is TRANSPOSED, of the right factor.
template <int N, bool TRANSPOSED>
static __device__ void multiply_by(number (*sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, Matrices right) {
#define LEFT "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(right.description()), "n"(TRANSPOSED)
  if constexpr (N == 32) PRODUCT(32, "{%16, %17, %18, %19}, %20, 1, 1, 1, %21", LEFT);
  if constexpr (N == 64) PRODUCT(64, "{%32, %33, %34, %35}, %36, 1, 1, 1, %37", LEFT);
  if constexpr (N == 128) PRODUCT(128, "{%64, %65, %66, %67}, %68, 1, 1, 1, %69", LEFT);
#undef LEFT
}

// Adds the products of 64 elements and N others, summed over 16 rows.
template <int N> static __device__ void multiply_16_rows(number (*sums)[4], Matrices left, Matrices right) {
#define BOTH "l"(left.description()), "l"(right.description())
  if constexpr (N == 32) PRODUCT(32, "%16, %17, 1, 1, 1, 1, 1", BOTH);
  if constexpr (N == 64) PRODUCT(64, "%32, %33, 1, 1, 1, 1, 1", BOTH);
  if constexpr (N == 128) PRODUCT(128, "%64, %65, 1, 1, 1, 1, 1", BOTH);
#undef BOTH
}
