// ---- Factors of f32. ----

// A value of each row as the first factor: as it is.
template <int E> using FirstFactor = Fragment<E>;

template <int E> static __device__ FirstFactor<E> operand_of(const Fragment<E>& value) { return value; }

static __device__ FirstFactor<CHUNK> operand_of(const Tile& tile) { return numbers_of(tile); }

static __device__ Tile tile_of(const Fragment<CHUNK>& value) {
  Tile tile;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < WORDS; ++j) tile.words[h][j] = __float_as_uint(value.rows[h][j]);
  return tile;
}

// Zeros where a row is not alive: it may hold what is not finite, and 0 times that is not 0.
template <int E> static __device__ void clear_dead(FirstFactor<E>& operand, const bool (&alive)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < E / 4; ++i) operand.rows[h][i] = alive[h] ? operand.rows[h][i] : 0;
}

// An item of a matrix [K, N] as a factor: the elements of a column that two neighbouring rows have.
struct Factor {
  int row, column;
};

// Items of a matrix [K, N]: by 8 rows, 8 columns, and lane.
template <int K, int N> constexpr int FACTORS = K / 8 * (N / 8) * 32;

template <int K, int N> static __device__ Factor factor(int item) {
  const int lane = item % 32, n = item / 32 % (N / 8), pair = item / 32 / (N / 8);
  const int g = lane / 4, t = lane % 4;
  return {channel<K>(t, 2 * pair), channel<N>(g / 2, 2 * n + g % 2)};
}

// Adds the product with a matrix [K, N] whose factors are some of those of a matrix of so many columns.
template <int K, int N, int COLUMNS>
static __device__ void contract(number (&sums)[N / 8][4], const FirstFactor<K>& rows, const number* factors) {
  const FactorPair* const lane = reinterpret_cast<const FactorPair*>(factors) + threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < K / 8; ++k) {
    const Parts a[4] = {parts_of(rows.rows[0][2 * k]), parts_of(rows.rows[1][2 * k]), parts_of(rows.rows[0][2 * k + 1]),
                        parts_of(rows.rows[1][2 * k + 1])};
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
      const FactorPair column = lane[(k * (COLUMNS / 8) + n) * 32];
      multiply_parts(sums[n], a, first_of(column), second_of(column));
    }
  }
}

// Two neighbouring elements of 8 rows, turned: those of rows 2 t and 2 t + 1 in column g.
struct Pair {
  number first, second;
};

static __device__ Pair turned(number even, number odd) {
  const unsigned a = __float_as_uint(even), b = __float_as_uint(odd);
  const unsigned high = transposed(a >> 16 | (b & 0xffff0000)), low = transposed((a & 0xffff) | b << 16);
  return {__uint_as_float(high << 16 | (low & 0xffff)), __uint_as_float((high & 0xffff0000) | low >> 16)};
}

// A factor with rows and elements exchanged.
template <int E> struct Turned {
  Pair pairs[2][E / 8];
};

template <int E> static __device__ Turned<E> turned(const FirstFactor<E>& operand) {
  Turned<E> result;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < E / 8; ++j) result.pairs[h][j] = turned(operand.rows[h][2 * j], operand.rows[h][2 * j + 1]);
  return result;
}

// S of its elements, from the `first` eight on.
template <int S, int E> static __device__ Turned<S> part_of(const Turned<E>& whole, int first) {
  Turned<S> part;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < S / 8; ++j) part.pairs[h][j] = whole.pairs[h][first + j];
  return part;
}

template <int M, int N>
static __device__ void multiply_rows(Products<M, N>& products, const Turned<M>& left, const Turned<N>& right) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int m = 0; m < (M + 15) / 16; ++m) {
      const bool both = 2 * m + 1 < M / 8;
      const Pair upper = left.pairs[h][2 * m], lower = both ? left.pairs[h][both ? 2 * m + 1 : 2 * m] : Pair{};
      const Parts a[4] = {parts_of(upper.first), parts_of(lower.first), parts_of(upper.second), parts_of(lower.second)};
#pragma unroll
      for (int n = 0; n < N / 8; ++n)
        multiply_parts(products.sums[m][n], a, parts_of(right.pairs[h][n].first), parts_of(right.pairs[h][n].second));
    }
}

// A lane's two of eight columns and two of the next are neighbours as they are.
template <int N> static __device__ Four four_of(const number* first, const number* second, int eight, Place place) {
  return {{first[0], first[1], second[0], second[1]}, channel<N>(place.t, 2 * eight)};
}
