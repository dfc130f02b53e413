// For generated CUDA on the CPU: fragments/tensor_warpgroup.cu. Each warp multiplies for itself.
struct Matrices {
  const uint4* first;
  int along, across;
  Matrices(const void* first, int along, int across) : first(static_cast<const uint4*>(first)), along(along), across(across) {}
  Matrices further(int vectors) const { return Matrices(first + vectors, along, across); }
  // The element at k along what is summed over and n across it; TRANSPOSED matrices have it at n % 8 of their row k % 8.
  unsigned at(bool transposed, int k, int n) const {
    const uint4* const matrix = first + k / 8 * along + n / 8 * across;
    const int row = transposed ? k % 8 : n % 8, element = transposed ? n % 8 : k % 8;
    return reinterpret_cast<const unsigned short*>(matrix + row)[element];
  }
  unsigned pair(bool transposed, int k, int n) const { return at(transposed, k, n) | at(transposed, k + 1, n) << 16; }
};

static void show_tensor_cores() {}
template <int N> static void hold(number (&)[N][4]) {}
static void begin_products() {}
static void end_products() {}

template <int N, bool TRANSPOSED>
static void multiply_by(number (*sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, Matrices right) {
  const int g = emulation::current % 32 / 4, k = 2 * (emulation::current % 4);
  for (int n = 0; n < N; n += 8)
    multiply(sums[n / 8], a0, a1, a2, a3, right.pair(TRANSPOSED, k, n + g), right.pair(TRANSPOSED, k + 8, n + g));
}

template <int N> static void multiply_16_rows(number (*sums)[4], Matrices left, Matrices right) {
  const int m = emulation::current / 32 % 4 * 16 + emulation::current % 32 / 4, k = 2 * (emulation::current % 4);
  multiply_by<N, true>(sums, left.pair(true, k, m), left.pair(true, k, m + 8), left.pair(true, k + 8, m), left.pair(true, k + 8, m + 8), right);
}
