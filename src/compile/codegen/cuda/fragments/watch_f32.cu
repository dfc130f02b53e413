
// ---- Telemetry of a tile of f32. ----

// Nothing is kept from tile to tile but what Observed has.
struct Watching {};

static __device__ void finish(Watching&, Observed&, Place) {}

template <Watch WATCH>
static __device__ void watch_tile(Watching&, Observed& seen, const Tile& tile, const Existing& exists, Place place) {
  constexpr int RUNS = CHUNK / 4 / RUN<CHUNK>;
  if (place.t == 0) seen.count += (exists.row[0] + exists.row[1]) * CHUNK;
  const Fragment<CHUNK> value = numbers_of(tile);
  number sum = 0, squares = 0, neighbours = 0, smallest = -lowest(), largest = lowest();
  unsigned dead = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const number(&v)[CHUNK / 4] = value.rows[h];
    number next[RUNS];
    if (WATCH == EVERYTHING) elements_after_runs(v, next, place);
    unsigned dead_here = 0;
    number smallest_here = -lowest(), largest_here = lowest();
#pragma unroll
    for (int i = 0; i < CHUNK / 4; ++i) {
      squares += v[i] * v[i];
      if (WATCH != EVERYTHING) continue;
      const number right = i % RUN<CHUNK> + 1 < RUN<CHUNK> ? v[i + 1 < CHUNK / 4 ? i + 1 : i] : next[i / RUN<CHUNK>];
      sum += v[i];
      neighbours += v[i] * right;
      dead_here += is_dead(v[i]);
      smallest_here = fminf(smallest_here, v[i]);
      largest_here = fmaxf(largest_here, v[i]);
    }
    if (exists.row[h]) {
      smallest = fminf(smallest, smallest_here);
      largest = fmaxf(largest, largest_here);
      dead += dead_here;
    }
  }
  const bool usual = is_finite(squares) && is_finite(sum) && is_finite(neighbours);
  if (!__all_sync(0xffffffffu, usual)) return watch_closely<WATCH>(seen, tile, exists, place);
  seen.sum += sum;
  seen.squares += squares;
  seen.neighbours += neighbours;
  seen.smallest = fminf(seen.smallest, smallest);
  seen.largest = fmaxf(seen.largest, largest);
  seen.dead += dead;
}
