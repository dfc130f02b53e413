
// ---- Identity: tiles go from one tensor to the other as they are. ----

template <Watch WATCH>
static __device__ void copy_rows_of_seed(const Launch& launch, const Rows& from, int seed, Ahead& ahead, Observed& seen) {
  const bool in_place = from.address == launch.output.address;
  if (in_place && !launch.telemetry) return;
  const Place place = ahead.place;
  const Share share = ahead.share;
  const Tiles tiles = ahead.tiles;
  Walk walk_output = walk(launch.output, seed, tiles, launch.rows, share);
  Watching watching;
  end_of_first_stages();
#pragma unroll 1
  for (int tile = 0, stage = 0; tile < tiles.count; ++tile, stage = stage + 1 == STAGES ? 0 : stage + 1) {
    __syncwarp();
    if (tile + STAGES - 1 < tiles.count)
      fetch(stage == 0 ? STAGES - 1 : stage - 1, 0, ahead.walk_watched, from, seed, tiles, tile + STAGES - 1, share);
    end_of_stage();
    wait_for_stages<STAGES - 1>();
    __syncwarp();
    const uint4* const rows = waiting(stage, 0);
    watch_tile<WATCH>(watching, seen, rows, take(rows, place), tiles.rows(tile), tile + 1 == tiles.count, place);
    if (!in_place) put(rows, walk_output, launch.output, seed, tiles, tile, share);
  }
  finish(seen, tiles);
}
