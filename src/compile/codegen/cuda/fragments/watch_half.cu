
// ---- Telemetry of a tile of 16-bit elements: sums on the tensor cores, extremes of two elements at a time. ----

// Sums of the tiles so far. A product with ones sums rows. That of the channels with themselves, summed over rows, has the sums
// of squares on its diagonal and those of the products of neighbours below it.
struct Watching {
  number rows[4];
  number channels[2][4];  // of each second eight channels with themselves and the next one
  unsigned smallest, largest;
  int tiles;
  __device__ Watching() : rows{}, channels{}, smallest(INFINITIES), largest(INFINITIES | 0x80008000), tiles(0) {}
};

// The tensor cores add with a small bias, so sums of many tiles are kept in f64.
constexpr int TILES_TOGETHER = 16;

// What a lane has of the diagonal of a product of eight by eight.
static __device__ number on_diagonal(number even, number odd, Place place) {
  return place.t != place.g / 2 ? (number)0 : place.g % 2 ? odd : even;
}

// Adds the sums of rows.
static __device__ void multiply_ones(number (&sums)[4], const unsigned (&words)[2][WORDS]) {
#pragma unroll
  for (int j = 0; j < WORDS; j += 2) {
    const bool both = j + 1 < WORDS;
    const int second = both ? j + 1 : j;
    multiply(sums, words[0][j], words[1][j], both ? words[0][second] : 0, both ? words[1][second] : 0, ONES, ONES);
  }
}

// Adds the products of each eight channels with themselves and the one that follows them.
static __device__ void multiply_channels(number (&sums)[2][4], const uint4* tile) {
  const uint4* const at = matrices_of_left(tile);
  const Turned<CHUNK> right = turned_tile<false>(tile);
#pragma unroll
  for (int j = 0; j < WORDS; ++j) {
    unsigned left[4] = {right.words[0][j], 0, right.words[1][j], 0};
    if (j + 1 < WORDS) read_matrices<true>(4, left, at + j);
    multiply(sums[j % 2], left[0], left[1], left[2], left[3], right.words[0][j], right.words[1][j]);
  }
}

static __device__ void settle(Watching& watching, Observed& seen, Place place) {
  number sums[4];
#pragma unroll
  for (int c = 0; c < 4; ++c) sums[c] = watching.channels[0][c] + watching.channels[1][c];
  seen.squares += on_diagonal(sums[0], sums[1], place);
  // The row below that of the diagonal; the eighth channel's next one is the first of the other rows.
  if (place.g == 2 * place.t + 1) seen.neighbours += sums[0];
  if (place.g == 2 * place.t + 2) seen.neighbours += sums[1];
  if (place.g == 0 && place.t == 3) seen.neighbours += sums[3];
  if (place.t == 0) seen.sum += (double)watching.rows[0] + watching.rows[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    seen.smallest = fminf(seen.smallest, to_number((element)(watching.smallest >> 16 * half)));
    seen.largest = fmaxf(seen.largest, to_number((element)(watching.largest >> 16 * half)));
  }
  watching = Watching();
}

static __device__ void finish(Observed& seen, const Tiles& tiles) {
  if (PASS == FORWARD) count_rows(seen, tiles);
}

static __device__ void watch_gradient(Observed& seen, const uint4* rows, int there, Place place) {
  number squares[2][4] = {};
  const Turned<CHUNK> left = turned_tile<true>(rows), right = turned_tile<false>(rows);
#pragma unroll
  for (int j = 0; j < WORDS; ++j) {
    const int pair = j / 2 * 2;
    const bool both = pair + 1 < WORDS;
    const int second = both ? pair + 1 : pair;
    multiply(squares[j % 2], left.words[0][pair], both ? left.words[0][second] : 0, left.words[1][pair],
             both ? left.words[1][second] : 0, right.words[0][j], right.words[1][j]);
  }
  const number sum = on_diagonal(squares[0][0] + squares[1][2], squares[0][1] + squares[1][3], place);
  if (there < FRAGMENT_ROWS || !__all_sync(0xffffffffu, is_finite(sum))) return watch_closely<GRADIENT>(seen, rows, there);
  seen.squares += sum;
}

// Whether one of two elements is less than another two, of magnitudes.
static __device__ bool is_less(unsigned pair, unsigned than) {
  return (pair & 0x7fff) < (than & 0x7fff) || (pair & 0x7fff0000) < (than & 0x7fff0000);
}

// How many of a lane's elements are dead. Magnitudes are ordered as their bits are: the highest bit of each tells whether it reaches the
// least that is not dead. Those of sixteen words are gathered in one.
static __device__ unsigned dead_of_tile(const Tile& tile) {
  constexpr int TOGETHER = 16, ALL = 2 * WORDS;
  unsigned dead = 2 * ALL, alive = 0;
#pragma unroll
  for (int i = 0; i < ALL; ++i) {
    const unsigned reach = (tile.words[i / WORDS][i % WORDS] & 0x7fff7fff) + (0x80008000 - ALIVE);
    alive = alive >> 1 | (reach & 0x80008000);
    if (i % TOGETHER + 1 < TOGETHER && i + 1 < ALL) continue;
    dead -= __popc(alive);
    alive = 0;
  }
  return dead;
}

// The `last` tile of a warp is known to be, so that sums are settled in one place.
static __device__ void watch_everything(Watching& watching, Observed& seen, const uint4* rows, const Tile& tile, int there,
                                        bool last, Place place) {
  unsigned smallest = tile.words[0][0], largest = smallest, nearest = smallest;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j = 0; j < WORDS; ++j) {
      smallest = pair_minimum(smallest, tile.words[h][j]);
      largest = pair_maximum(largest, tile.words[h][j]);
      nearest = pair_nearest(nearest, tile.words[h][j]);
    }
  const unsigned furthest = pair_maximum(smallest & 0x7fff7fff, largest & 0x7fff7fff);
  const bool usual = (furthest & 0xffff) <= FURTHEST && furthest >> 16 <= FURTHEST;
  if (there < FRAGMENT_ROWS || !__all_sync(0xffffffffu, usual)) {
    watch_closely<EVERYTHING>(seen, rows, there);
  } else {
    watching.smallest = pair_minimum(watching.smallest, smallest);
    watching.largest = pair_maximum(watching.largest, largest);
    multiply_ones(watching.rows, tile.words);
    multiply_channels(watching.channels, rows);
    if (!__all_sync(0xffffffffu, !is_less(nearest, ALIVE))) seen.dead += dead_of_tile(tile);
    ++watching.tiles;
  }
  if (last || watching.tiles == TILES_TOGETHER) settle(watching, seen, place);
}

template <Watch WATCH>
static __device__ void watch_tile(Watching& watching, Observed& seen, const uint4* rows, const Tile& tile, int there, bool last,
                                  Place place) {
  if (WATCH == EVERYTHING) watch_everything(watching, seen, rows, tile, there, last, place);
  if (WATCH == GRADIENT) watch_gradient(seen, rows, there, place);
}
