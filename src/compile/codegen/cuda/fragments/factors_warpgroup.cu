
// ---- Products of a warpgroup's rows. ----

// The most columns that one instruction multiplies by here.
static __device__ constexpr int columns_at_once(int columns) { return columns % 128 == 0 ? 128 : columns % 64 == 0 ? 64 : 32; }

// As `contract`, together with the other warps of the group and only begun; the factors begin so many numbers on in shared memory.
template <bool TRANSPOSED, int K, int N, int LINE>
static __device__ void contract_together(number (&sums)[N / 8][4], const FirstFactor<K>& rows, const number* shared, int factors) {
  static_assert(K % 16 == 0 && N % 32 == 0, "whole instructions");
  constexpr int COLUMNS = columns_at_once(N), ALONG = 8 * (TRANSPOSED ? LINE : 1), ACROSS = 8 * (TRANSPOSED ? 1 : LINE);
  const Matrices matrices = Matrices(shared, ALONG, ACROSS).further(factors / 4);
#pragma unroll
  for (int k = 0; k < K / 8; k += 2)
#pragma unroll
    for (int n = 0; n < N; n += COLUMNS)
      multiply_by<COLUMNS, TRANSPOSED>(sums + n / 8, rows.words[0][k], rows.words[1][k], rows.words[0][k + 1], rows.words[1][k + 1],
                                       matrices.further(k * ALONG + n / 8 * ACROSS));
}

// A value of the rows that a block's warps have, 16 each, in shared memory: of eight rows the first eight elements lie together, then the next.
struct RowsOfBlock {
  uint4* first;
  int warp;  // vectors from those of a warp to those of the next
};

// Where a tile's rows came, from so many vectors on.
static __device__ RowsOfBlock where_rows_came(int stage, int vector) {
  constexpr int OF_STAGE = INPUTS * FRAGMENT_ROWS * PITCH_VECTORS;
  return {reinterpret_cast<uint4*>(stages()) + stage * OF_STAGE + vector, STAGES * OF_STAGE};
}

// A room of so many vectors for each warp.
static __device__ RowsOfBlock rows_of_block(number* from, int vectors) { return {reinterpret_cast<uint4*>(from), vectors}; }

template <int E> static __device__ void show(RowsOfBlock to, const FirstFactor<E>& rows) {
  const int lane = threadIdx.x % 32;
  uint4* const at = to.first + threadIdx.x / 32 * to.warp + lane / 8 % 2 * E + lane / 16 * 8 + lane % 8;
#pragma unroll
  for (int j = 0; j < E / 8; j += 2) {
    const unsigned words[4] = {rows.words[0][j], rows.words[1][j], rows.words[0][j + 1], rows.words[1][j + 1]};
    write_matrices(4, at + 8 * j, words);
  }
}

// Adds the products of M elements of one value and N of another, summed over the rows of the block, to a part of a matrix of so many
// columns; if they are EXCHANGED, the first value's elements are its columns. Warpgroups take turns with
// 64 by PART of them.
template <int COLUMNS, bool EXCHANGED, int M, int N>
static __device__ void add_products_of_block(number* to, RowsOfBlock left, RowsOfBlock right, number scale, Place place) {
  static_assert(M % 64 == 0 && N % 32 == 0, "whole instructions");
  constexpr int PART = columns_at_once(N) > 64 ? 64 : columns_at_once(N);
  const bool whole = is_whole(to) && COLUMNS % 4 == 0;
  const Matrices of_left(left.first, M, 8), of_right(right.first, N, 8);
  constexpr int PARTS = M / 64 * (N / PART), WARPGROUPS = WARPS / 4;
#pragma unroll 1
  for (int first = 0; first < PARTS; first += WARPGROUPS) {
    const int turn = first + threadIdx.x / 128;
    if (PARTS % WARPGROUPS != 0 && turn >= PARTS) break;
    const int m = turn / (N / PART) * 64, n = turn % (N / PART) * PART;
    number sums[PART / 8][4] = {};
    begin_products();
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp)
      multiply_16_rows<PART>(sums, of_left.further(warp * left.warp + m), of_right.further(warp * right.warp + n));
    end_products();
#pragma unroll
    for (int c = 0; c < 4; c += 2) {
      const int row = m + threadIdx.x / 32 % 4 * 16 + 4 * c + place.g;
#pragma unroll
      for (int eight = 0; eight < PART / 8; eight += 2) {
        const number *const pair = sums[eight] + c, *const next = sums[eight + 1] + c;
        if constexpr (EXCHANGED) {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            atomicAdd(to + (n + channel<PART>(place.t, 2 * eight + i)) * COLUMNS + row, scale * (i < 2 ? pair[i] : next[i - 2]));
        } else {
          const Four four = four_of<PART>(pair, next, eight, place);
          const number(&v)[4] = four.values;
          add_four(to + row * COLUMNS + n + four.column, whole, scale * v[0], scale * v[1], scale * v[2], scale * v[3]);
        }
      }
    }
  }
}
