
// ---- Telemetry of a tile of 16-bit elements: sums on the tensor cores, extremes of two elements at a time. ----

// Sums of the tiles so far. A product with ones sums rows; one with the rows themselves has the sums of squares on its
// diagonal, and one with the rows moved by an element those of the products of neighbours.
struct Watching {
  number rows[4];        // columns 0 to 3: the elements; 4 to 7: how many are dead
  number squares[2][4];
  number neighbours[2][4];
  unsigned smallest, largest;
  int tiles;
  __device__ Watching() : rows{}, squares{}, neighbours{}, smallest(INFINITIES), largest(INFINITIES | 0x80008000), tiles(0) {}
};

// The tensor cores add with a small bias, so sums of many tiles are kept in f64.
constexpr int TILES_TOGETHER = 16;

// The product of the tile's 16 rows and the first 8 (sums[0]) or the last 8 (sums[1]) of others, of which the diagonal is
// wanted and the rest is not: the tensor cores take no less.
static __device__ void multiply_diagonal(number (&sums)[2][4], const Tile& tile, const unsigned (&others)[2][WORDS]) {
#pragma unroll
  for (int k = 0; k < WORDS; k += 2) {
    const bool both = k + 1 < WORDS;
    const int second = both ? k + 1 : k;
#pragma unroll
    for (int h = 0; h < 2; ++h)
      multiply(sums[h], tile.words[0][k], tile.words[1][k], both ? tile.words[0][second] : 0,
               both ? tile.words[1][second] : 0, others[h][k], both ? others[h][second] : 0);
  }
}

// What a lane has of the diagonal.
static __device__ number on_diagonal(const number (&sums)[2][4], Place place) {
  const number even = sums[0][0] + sums[1][2], odd = sums[0][1] + sums[1][3];
  return place.t != place.g / 2 ? (number)0 : place.g % 2 ? odd : even;
}

// Adds sums of rows to the columns from `column` to `column` + 3.
static __device__ void multiply_ones(number (&sums)[4], const unsigned (&words)[2][WORDS], int column, Place place) {
  const unsigned ones = place.g / 4 * 4 == column ? ONES : 0;
#pragma unroll
  for (int k = 0; k < WORDS; k += 2) {
    const bool both = k + 1 < WORDS;
    const int second = both ? k + 1 : k;
    multiply(sums, words[0][k], words[1][k], both ? words[0][second] : 0, both ? words[1][second] : 0, ones, ones);
  }
}

static __device__ void finish(Watching& watching, Observed& seen, Place place) {
  if (PASS != FORWARD) return;
  seen.squares += on_diagonal(watching.squares, place);
  seen.neighbours += on_diagonal(watching.neighbours, place);
  if (place.t == 0) seen.sum += (double)watching.rows[0] + watching.rows[2];
  if (place.t == 2) seen.dead += (unsigned)watching.rows[0] + (unsigned)watching.rows[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    seen.smallest = fminf(seen.smallest, to_number((element)(watching.smallest >> 16 * half)));
    seen.largest = fmaxf(seen.largest, to_number((element)(watching.largest >> 16 * half)));
  }
  watching = Watching();
}

static __device__ void watch_gradient(Observed& seen, const Tile& tile, const Existing& exists, Place place) {
  number squares[2][4] = {};
  multiply_diagonal(squares, tile, tile.words);
  const number sum = on_diagonal(squares, place);
  if (!__all_sync(0xffffffffu, is_finite(sum))) return watch_closely<GRADIENT>(seen, tile, exists, place);
  seen.squares += sum;
}

// The rows moved by one element to the left, zeros after their ends.
static __device__ void move_rows(unsigned (&moved)[2][WORDS], const Tile& tile, Place place) {
  constexpr int OF_RUN = RUN<CHUNK> / 2, RUNS = WORDS / OF_RUN;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int run = 0; run < RUNS; ++run) {
      const unsigned later = run + 1 < RUNS ? tile.words[h][run + 1 < RUNS ? (run + 1) * OF_RUN : 0] : 0;
      const unsigned after = after_run(tile.words[h][run * OF_RUN], later, place);
#pragma unroll
      for (int j = 0; j < OF_RUN; ++j) {
        const int word = run * OF_RUN + j;
        moved[h][word] = __byte_perm(tile.words[h][word], j + 1 < OF_RUN ? tile.words[h][j + 1 < OF_RUN ? word + 1 : word] : after, 0x5432);
      }
    }
}

static __device__ void watch_everything(Watching& watching, Observed& seen, const Tile& tile, const Existing& exists,
                                        Place place) {
  unsigned smallest[2], largest[2], furthest = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    smallest[h] = largest[h] = tile.words[h][0];
#pragma unroll
    for (int j = 1; j < WORDS; ++j) {
      smallest[h] = pair_minimum(smallest[h], tile.words[h][j]);
      largest[h] = pair_maximum(largest[h], tile.words[h][j]);
    }
    furthest = pair_maximum(furthest, pair_maximum(smallest[h] & 0x7fff7fff, largest[h] & 0x7fff7fff));
  }
  const bool usual = (furthest & 0xffff) <= FURTHEST && furthest >> 16 <= FURTHEST;
  if (!__all_sync(0xffffffffu, usual)) return watch_closely<EVERYTHING>(seen, tile, exists, place);
  unsigned dead[2][WORDS], moved[2][WORDS];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (exists.row[h]) {
      watching.smallest = pair_minimum(watching.smallest, smallest[h]);
      watching.largest = pair_maximum(watching.largest, largest[h]);
    } else if (place.t == 2) {
      seen.dead -= CHUNK;  // of the zeros in its place
    }
#pragma unroll
    for (int j = 0; j < WORDS; ++j) dead[h][j] = pair_is_less(tile.words[h][j], ALIVE);
  }
  move_rows(moved, tile, place);
  multiply_ones(watching.rows, tile.words, 0, place);
  multiply_ones(watching.rows, dead, 4, place);
  multiply_diagonal(watching.squares, tile, tile.words);
  multiply_diagonal(watching.neighbours, tile, moved);
  if (++watching.tiles == TILES_TOGETHER) finish(watching, seen, place);
}

template <Watch WATCH>
static __device__ void watch_tile(Watching& watching, Observed& seen, const Tile& tile, const Existing& exists, Place place) {
  if (place.t == 0) seen.count += (exists.row[0] + exists.row[1]) * CHUNK;
  if (WATCH == EVERYTHING) watch_everything(watching, seen, tile, exists, place);
  if (WATCH == GRADIENT) watch_gradient(seen, tile, exists, place);
}
