
// ---- Telemetry of a tile, element by element. ----

// In f64, all lanes together: for tiles with something that is not finite, or so large that squares overflow, and for those
// that are not whole.
template <Watch WATCH> static __device__ __noinline__ Observed observe_closely(const uint4* tile, int there) {
  Observed seen = nothing_observed();
#pragma unroll 1
  for (int i = threadIdx.x % 32; i < there * CHUNK; i += 32) {
    const element* const at = reinterpret_cast<const element*>(tile + i / CHUNK * PITCH_VECTORS) + i % CHUNK;
    const bool has_next = WATCH == EVERYTHING && i % CHUNK + 1 < CHUNK;
    const number v[1] = {to_number(*at)};
    if (WATCH == EVERYTHING) observe_one(seen, v[0]);
    add_sums<double, 1, WATCH>(seen, v, has_next ? to_number(at[1]) : (number)0, has_next);
  }
  return seen;
}

template <Watch WATCH> static __device__ void watch_closely(Observed& seen, const uint4* tile, int there) {
  add(seen, observe_closely<WATCH>(tile, there));
}

// The rows that a warp has watched, once.
static __device__ void count_rows(Observed& seen, const Tiles& tiles) {
  if (threadIdx.x % 32 == 0 && tiles.count > 0)
    seen.count += ((long long)(tiles.count - 1) * FRAGMENT_ROWS + tiles.last) * CHUNK;
}
