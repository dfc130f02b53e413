
// ---- Telemetry of a tile, element by element. ----

// What a lane has of two rows, and the element after each of its runs.
struct Watched {
  number rows[2][CHUNK / 4], next[2][CHUNK / 4 / RUN<CHUNK>];
};

// Element by element and in f64: for rows with something that is not finite, or so large that squares overflow.
template <Watch WATCH>
static __device__ __noinline__ Observed observe_closely(Watched watched, bool first, bool second, int t) {
  Observed seen = nothing_observed();
#pragma unroll 1
  for (int h = 0; h < 2; ++h) {
    if (!(h == 0 ? first : second)) continue;
#pragma unroll 1
    for (int i = 0; i < CHUNK / 4; ++i) {
      const int run = i / RUN<CHUNK>;
      const bool ends = i % RUN<CHUNK> + 1 == RUN<CHUNK>;
      const bool is_last = ends && t == 3 && run + 1 == CHUNK / 4 / RUN<CHUNK>;
      const number v[1] = {watched.rows[h][i]};
      const number next = ends ? watched.next[h][run] : watched.rows[h][i + 1];
      observe<1, WATCH>(seen, v, next, WATCH == EVERYTHING && !is_last);
    }
  }
  return seen;
}

static __device__ void merge(Observed& seen, const Observed& more) {
  seen.sum += more.sum;
  seen.squares += more.squares;
  seen.neighbours += more.neighbours;
  seen.smallest = more.smallest < seen.smallest ? more.smallest : seen.smallest;
  seen.largest = more.largest > seen.largest ? more.largest : seen.largest;
  seen.dead += more.dead;
  seen.bad += more.bad;
}

// What follows a run of a lane, of which these are the first and that of its next run: the next lane has it, and after the
// last lane the first one's next run.
template <class T> static __device__ T after_run(T first, T of_next_run, Place place) {
  return __shfl_sync(0xffffffffu, place.t == 0 ? of_next_run : first, 4 * place.g + (place.t + 1) % 4);
}

static __device__ void elements_after_runs(const number (&v)[CHUNK / 4], number (&next)[CHUNK / 4 / RUN<CHUNK>], Place place) {
  constexpr int RUNS = CHUNK / 4 / RUN<CHUNK>;
#pragma unroll
  for (int run = 0; run < RUNS; ++run)
    next[run] = after_run(v[run * RUN<CHUNK>], run + 1 < RUNS ? v[run + 1 < RUNS ? (run + 1) * RUN<CHUNK> : 0] : (number)0, place);
}

// All lanes of a warp call it: a tile in which something is not finite or very large.
template <Watch WATCH>
static __device__ void watch_closely(Observed& seen, const Tile& tile, const Existing& exists, Place place) {
  Watched watched = {};
  const Fragment<CHUNK> value = numbers_of(tile);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (WATCH == EVERYTHING) elements_after_runs(value.rows[h], watched.next[h], place);
#pragma unroll
    for (int i = 0; i < CHUNK / 4; ++i) watched.rows[h][i] = value.rows[h][i];
  }
  merge(seen, observe_closely<WATCH>(watched, exists.row[0], exists.row[1], place.t));
}
