
// ---- Identity: tiles go from one tensor to the other as they are. ----

template <Watch WATCH>
static __device__ void copy_rows_of_seed(const Launch& launch, const Rows& from, int seed, Ahead& ahead, Observed& seen) {
  const bool in_place = from.address == launch.output.address;
  if (in_place && !launch.telemetry) return;
  const Place place = ahead.place;
  const long long step = rows_of_grid();
  long long first = ahead.first, next = ahead.next;
  Walk walk_output = walk(launch.output, seed, first, launch.rows, place);
  Watching watching;
  end_of_first_stages();
#pragma unroll 1
  for (int stage = 0; first < launch.rows; first += step, next += step, stage = stage + 1 == STAGES ? 0 : stage + 1) {
    if (next < launch.rows)
      fetch(stage == 0 ? STAGES - 1 : stage - 1, 0, ahead.walk_watched, from, seed, next, launch.rows, place);
    end_of_stage();
    wait_for_stages<STAGES - 1>();
    const Tile tile = take(stage, 0);
    const Existing exists(first, launch.rows, place);
    watch_tile<WATCH>(watching, seen, tile, exists, place);
    if (!in_place) put(walk_output, launch.output, seed, first, tile, exists, place);
  }
  finish(watching, seen, place);
}
