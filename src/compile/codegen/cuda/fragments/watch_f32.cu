
// ---- Telemetry of a tile of f32. ----

// Nothing is kept from tile to tile but what Observed has.
struct Watching {};

static __device__ void finish(Observed& seen, const Tiles& tiles) { count_rows(seen, tiles); }

// The element after each of a lane's runs: the next lane has it, and after the last lane the first one's next run.
static __device__ void elements_after_runs(const number (&v)[CHUNK / 4], number (&next)[CHUNK / 4 / RUN<CHUNK>], Place place) {
  constexpr int RUNS = CHUNK / 4 / RUN<CHUNK>;
#pragma unroll
  for (int run = 0; run < RUNS; ++run) {
    const number of_next_run = run + 1 < RUNS ? v[run + 1 < RUNS ? (run + 1) * RUN<CHUNK> : 0] : (number)0;
    const number given = place.t == 0 ? of_next_run : v[run * RUN<CHUNK>];
    next[run] = __shfl_sync(0xffffffffu, given, 4 * place.g + (place.t + 1) % 4);
  }
}

template <Watch WATCH>
static __device__ void watch_tile(Watching&, Observed& seen, const uint4* rows, const Tile& tile, int there, bool, Place place) {
  constexpr int RUNS = CHUNK / 4 / RUN<CHUNK>;
  const Fragment<CHUNK> value = numbers_of(tile);
  number sum = 0, squares = 0, neighbours = 0, smallest = -lowest(), largest = lowest();
  unsigned dead = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const number(&v)[CHUNK / 4] = value.rows[h];
    number next[RUNS];
    if (WATCH == EVERYTHING) elements_after_runs(v, next, place);
#pragma unroll
    for (int i = 0; i < CHUNK / 4; ++i) {
      squares += v[i] * v[i];
      if (WATCH != EVERYTHING) continue;
      const number right = i % RUN<CHUNK> + 1 < RUN<CHUNK> ? v[i + 1 < CHUNK / 4 ? i + 1 : i] : next[i / RUN<CHUNK>];
      sum += v[i];
      neighbours += v[i] * right;
      dead += is_dead(v[i]);
      smallest = fminf(smallest, v[i]);
      largest = fmaxf(largest, v[i]);
    }
  }
  const bool usual = is_finite(squares) && is_finite(sum) && is_finite(neighbours);
  if (there < FRAGMENT_ROWS || !__all_sync(0xffffffffu, usual)) return watch_closely<WATCH>(seen, rows, there);
  seen.sum += sum;
  seen.squares += squares;
  seen.neighbours += neighbours;
  seen.smallest = fminf(seen.smallest, smallest);
  seen.largest = fmaxf(seen.largest, largest);
  seen.dead += dead;
}
