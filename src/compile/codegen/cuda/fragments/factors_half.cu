
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

// Eight neighbours of a line of a matrix, as a vector.
static __device__ void keep_factors(number* to, int vector, const number (&line)[8]) {
  reinterpret_cast<uint4*>(to)[vector] = {packed(line[0], line[1]), packed(line[2], line[3]), packed(line[4], line[5]),
                                          packed(line[6], line[7])};
}

// Adds the product with a matrix [K, N] whose columns are lines, of LINE vectors; if it is to be TRANSPOSED, its rows are. Of
// eight lines the first vectors lie together, then the second ones.
template <bool TRANSPOSED, int K, int N, int LINE>
static __device__ void contract(number (&sums)[N / 8][4], const FirstFactor<K>& rows, const number* factors) {
  // Matrices 0 and 1 are the first and the last eight rows of eight columns, 2 and 3 those of the next eight.
  const int lane = threadIdx.x % 32, r = lane % 8, last = lane / 8 % 2, next = lane / 16;
  const uint4* const lines = reinterpret_cast<const uint4*>(factors);
#pragma unroll
  for (int k = 0; k < K / 8; k += 2) {
    const bool both = k + 1 < K / 8;
    const int second = both ? k + 1 : k;
    const int half = both ? last : 0;
    const uint4* const at = lines + 8 * (TRANSPOSED ? (k + half) * LINE + next : next * LINE + k + half) + r;
#pragma unroll
    for (int n = 0; n < N / 8; n += 2) {
      const bool pair = n + 1 < N / 8;
      const uint4* const from = at + 8 * n * (TRANSPOSED ? 1 : LINE);
      unsigned b[4];
      read_matrices<TRANSPOSED>(pair ? 4 : both ? 2 : 1, b, from);
#pragma unroll
      for (int column = 0; column < (pair ? 2 : 1); ++column)
        multiply(sums[n + column], rows.words[0][k], rows.words[1][k], both ? rows.words[0][second] : 0,
                 both ? rows.words[1][second] : 0, b[2 * column], both ? b[2 * column + 1] : 0);
    }
  }
}

template <int E> static __device__ Turned<E> turned(const FirstFactor<E>& operand) {
  Turned<E> result;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < E / 8; ++j) result.words[h][j] = transposed(operand.words[h][j]);
  return result;
}

// Those of a tile of which not all rows are alive.
static __device__ Turned<CHUNK> turned_living(const Tile& tile, const bool (&alive)[2]) {
  FirstFactor<CHUNK> living = operand_of(tile);
  clear_dead(living, alive);
  return turned(living);
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

// Adds up rows: their products with ones.
template <int M> static __device__ void sum_rows(Products<M, 8>& sums, const Turned<M>& rows) {
  multiply_rows(sums, rows, Turned<8>{{{ONES}, {ONES}}});
}

// A lane has two neighbours of eight columns and two of the next: lanes exchange them.
template <int N> static __device__ Four four_of(const number* first, const number* second, int eight, Place place) {
  const bool odd = place.t % 2;
  const number a = __shfl_xor_sync(0xffffffffu, odd ? first[0] : second[0], 1);
  const number b = __shfl_xor_sync(0xffffffffu, odd ? first[1] : second[1], 1);
  if (odd) return {{a, b, second[0], second[1]}, 8 * eight + 8 + 2 * (place.t - 1)};
  return {{first[0], first[1], a, b}, 8 * eight + 2 * place.t};
}
