
// ---- Tiles of f32: a lane's runs are vectors of a row. ----

constexpr int TOGETHER = RUN<CHUNK> < 4 ? 2 : 4;

typedef typename Word<TOGETHER * sizeof(element)>::type Run;

static __device__ int place_of_run(int h, int i, Place place) {
  return (place.g + 8 * h) * (4 * PITCH_VECTORS) + channel<CHUNK>(place.t, i);
}

static __device__ Tile take(const uint4* from, Place place) {
  Tile tile;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < CHUNK / 4; i += TOGETHER)
      reinterpret_cast<Run&>(tile.words[h][i]) =
          *reinterpret_cast<const Run*>(reinterpret_cast<const unsigned*>(from) + place_of_run(h, i, place));
  return tile;
}

static __device__ Fragment<CHUNK> numbers_of(const Tile& tile) {
  Fragment<CHUNK> fragment;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < CHUNK / 4; ++i) fragment.rows[h][i] = tile.channels[h][i];
  return fragment;
}

static __device__ void keep(uint4* to, const Tile& tile, Place place) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < CHUNK / 4; i += TOGETHER)
      *reinterpret_cast<Run*>(reinterpret_cast<unsigned*>(to) + place_of_run(h, i, place)) =
          reinterpret_cast<const Run&>(tile.words[h][i]);
}
