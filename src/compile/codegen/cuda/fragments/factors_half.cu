
// ---- Factors of 16 bits: the tensor cores multiply numbers of the tensors' type and add in f32. ----

// A value of each row as the first factor.
template <int E> struct FirstFactor {
  unsigned words[2][E / 8];
};

static __device__ FirstFactor<CHUNK> operand_of(const Tile& tile) {
  FirstFactor<CHUNK> operand;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < CHUNK / 8; ++j) operand.words[h][j] = tile.words[h][j];
  return operand;
}

template <int E> static __device__ FirstFactor<E> operand_of(const Fragment<E>& value) {
  FirstFactor<E> operand;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < E / 8; ++j) operand.words[h][j] = packed(value.rows[h][2 * j], value.rows[h][2 * j + 1]);
  return operand;
}

static __device__ Tile tile_of(const Fragment<CHUNK>& value) {
  Tile tile;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < WORDS; ++j) tile.words[h][j] = packed(value.rows[h][2 * j], value.rows[h][2 * j + 1]);
  return tile;
}

// Zeros where a row is not alive: it may hold what is not finite, and 0 times that is not 0.
template <int E> static __device__ void clear_dead(FirstFactor<E>& operand, const bool (&alive)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < E / 8; ++j) operand.words[h][j] = alive[h] ? operand.words[h][j] : 0;
}

// Items of a matrix [K, N]: by 16 rows, 8 columns, lane, and half.
template <int K, int N> constexpr int FACTORS = (K + 15) / 16 * (N / 8) * 64;

template <int K, int N> static __device__ Factor factor(int item) {
  const int lane = item / 2 % 32, n = item / 64 % (N / 8), pair = item / 64 / (N / 8) * 2 + item % 2;
  const int g = lane / 4, t = lane % 4;
  return {channel<K>(t, 2 * pair), channel<N>(g / 2, 2 * n + g % 2), K % 16 == 0 || pair < K / 8};
}

static __device__ void keep_factor(number* to, int item, number first, number second) {
  to[item] = __uint_as_float(packed(first, second));
}

// Adds the product with a matrix [K, N] whose factors are some of those of a matrix of so many columns.
template <int K, int N, int COLUMNS>
static __device__ void contract(number (&sums)[N / 8][4], const FirstFactor<K>& rows, const number* factors, Place place) {
  const uint2* const lane = reinterpret_cast<const uint2*>(factors) + 4 * place.g + place.t;
#pragma unroll
  for (int k = 0; k < (K + 15) / 16; ++k) {
    const bool both = 2 * k + 1 < K / 8;
    const int second = both ? 2 * k + 1 : 2 * k;
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
      const uint2 column = lane[(k * (COLUMNS / 8) + n) * 32];
      multiply(sums[n], rows.words[0][2 * k], rows.words[1][2 * k], both ? rows.words[0][second] : 0,
               both ? rows.words[1][second] : 0, column.x, column.y);
    }
  }
}

// Likewise, where the factors are those of the matrix with rows and columns exchanged, which has so many columns.
template <int K, int N, int COLUMNS>
static __device__ void contract_exchanged(number (&sums)[N / 8][4], const FirstFactor<K>& rows, const number* factors,
                                          Place place) {
  static_assert(K % 16 == 0 && N % 16 == 0, "the factors are whole");
  const uint2* const lane = reinterpret_cast<const uint2*>(factors) + 4 * place.g + place.t;
#pragma unroll
  for (int k = 0; k < K / 16; ++k)
#pragma unroll
    for (int n = 0; n < N / 16; ++n) {
      const uint2 first = lane[(n * (COLUMNS / 8) + 2 * k) * 32], second = lane[(n * (COLUMNS / 8) + 2 * k + 1) * 32];
      const unsigned a0 = rows.words[0][2 * k], a1 = rows.words[1][2 * k];
      const unsigned a2 = rows.words[0][2 * k + 1], a3 = rows.words[1][2 * k + 1];
      multiply(sums[2 * n], a0, a1, a2, a3, transposed(first.x), transposed(second.x));
      multiply(sums[2 * n + 1], a0, a1, a2, a3, transposed(first.y), transposed(second.y));
    }
}

// The same with rows and elements exchanged.
template <int E> struct Turned {
  unsigned words[2][E / 8];
};

template <int E> static __device__ Turned<E> turned(const FirstFactor<E>& operand) {
  Turned<E> result;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < E / 8; ++j) result.words[h][j] = transposed(operand.words[h][j]);
  return result;
}

// S of its elements, from the `first` eight on.
template <int S, int E> static __device__ Turned<S> part_of(const Turned<E>& whole, int first) {
  Turned<S> part;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < S / 8; ++j) part.words[h][j] = whole.words[h][first + j];
  return part;
}

template <int M, int N>
static __device__ void multiply_rows(Products<M, N>& products, const Turned<M>& left, const Turned<N>& right) {
#pragma unroll
  for (int m = 0; m < (M + 15) / 16; ++m) {
    const bool both = 2 * m + 1 < M / 8;
    const int second = both ? 2 * m + 1 : 2 * m;
#pragma unroll
    for (int n = 0; n < N / 8; ++n)
      multiply(products.sums[m][n], left.words[0][2 * m], both ? left.words[0][second] : 0, left.words[1][2 * m],
               both ? left.words[1][second] : 0, right.words[0][n], right.words[1][n]);
  }
}
