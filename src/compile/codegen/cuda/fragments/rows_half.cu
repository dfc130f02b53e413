
// ---- Tiles of 16-bit elements: matrices of 8 by 8. ----

// Where a lane finds its row of the first four matrices: first rows 0 to 7 and 8 to 15 of eight channels, then of the next eight.
static __device__ const uint4* matrices_of(const uint4* tile) {
  const int lane = threadIdx.x % 32;
  return tile + lane % FRAGMENT_ROWS * PITCH_VECTORS + lane / FRAGMENT_ROWS;
}

// The same, but rows 0 to 7 of both eights of channels first: so the left of a product wants them, turned.
static __device__ const uint4* matrices_of_left(const uint4* tile) {
  const int lane = threadIdx.x % 32;
  return tile + (lane / 16 * 8 + lane % 8) * PITCH_VECTORS + lane / 8 % 2;
}

static __device__ Tile take(const uint4* from, Place) {
  const uint4* const at = matrices_of(from);
  Tile tile;
#pragma unroll
  for (int j = 0; j < WORDS; j += 2) {
    const bool both = j + 1 < WORDS;
    const int second = both ? j + 1 : j;
    unsigned words[4];
    read_matrices<false>(both ? 4 : 2, words, at + j);
    tile.words[0][j] = words[0];
    tile.words[1][j] = words[1];
    if (!both) continue;
    tile.words[0][second] = words[2];
    tile.words[1][second] = words[3];
  }
  return tile;
}

static __device__ void keep(uint4* to, const Tile& tile, Place place) {
#pragma unroll
  for (int j = 0; j < WORDS; j += 2) {
    const bool both = j + 1 < WORDS;
    const int second = both ? j + 1 : j;
    const unsigned words[4] = {tile.words[0][j], tile.words[1][j], tile.words[0][second], tile.words[1][second]};
#if __CUDA_ARCH__ >= 900
    write_matrices(both ? 4 : 2, const_cast<uint4*>(matrices_of(to)) + j, words);
#else
#pragma unroll
    for (int m = 0; m < (both ? 4 : 2); ++m)
      reinterpret_cast<unsigned*>(to + (place.g + m % 2 * 8) * PITCH_VECTORS + j + m / 2)[place.t] = words[m];
#endif
  }
}

static __device__ Fragment<CHUNK> numbers_of(const Tile& tile) {
  Fragment<CHUNK> fragment;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < WORDS; ++j) {
      fragment.rows[h][2 * j] = lower(tile.words[h][j]);
      fragment.rows[h][2 * j + 1] = upper(tile.words[h][j]);
    }
  return fragment;
}

// A value of E elements with rows and elements exchanged: of each eight elements those of rows 0 to 7, and of rows 8 to 15.
template <int E> struct Turned {
  unsigned words[2][E / 8];
};

// The rows of a tile so. What stands on the LEFT of a product wants other words side by side than what stands on the right.
template <bool LEFT> static __device__ Turned<CHUNK> turned_tile(const uint4* from) {
  const uint4* const at = LEFT ? matrices_of_left(from) : matrices_of(from);
  Turned<CHUNK> turned;
#pragma unroll
  for (int j = 0; j < WORDS; j += 2) {
    const bool both = j + 1 < WORDS;
    const int second = both ? j + 1 : j;
    unsigned words[4];
    read_matrices<true>(both ? 4 : 2, words, both ? at + j : matrices_of(from) + j);
    turned.words[0][j] = words[0];
    turned.words[1][j] = words[both && LEFT ? 2 : 1];
    if (!both) continue;
    turned.words[0][second] = words[LEFT ? 1 : 2];
    turned.words[1][second] = words[3];
  }
  return turned;
}
