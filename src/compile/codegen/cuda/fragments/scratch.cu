
// ---- Scratch: memory of a warp, for values whose elements are wanted in another order than they lie in registers. The rows of
// an element are adjacent. ----

// SCRATCH_PITCH numbers lie from one element of a row to the next. Addresses are multiples of it in 64 bits, of which the compiler finds
// what is constant; of 32 bits, it fears that they overflow.
static __device__ long long in_scratch(int element, int h, Place place) { return element * SCRATCH_PITCH + place.g + 8 * h; }

template <int E> static __device__ void put_in_scratch(number* to, const Fragment<E>& value, Place place) {
#pragma unroll
  for (int i = 0; i < E / 4; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) to[in_scratch(channel<E>(place.t, i), h, place)] = value.rows[h][i];
}

static __device__ void put_in_scratch(number* to, const number (&value)[2], Place place) {
  if (place.t > 1) return;
  to[in_scratch(0, place.t, place)] = place.t ? value[1] : value[0];
}

template <int E> static __device__ Fragment<E> fragment_in_scratch(const number* from, Place place) {
  Fragment<E> value;
#pragma unroll
  for (int i = 0; i < E / 4; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) value.rows[h][i] = from[in_scratch(channel<E>(place.t, i), h, place)];
  return value;
}

// An element of a tile where it came to.
static __device__ number element_of(const uint4* rows, int row, int channel) {
  return to_number(reinterpret_cast<const element*>(rows + row * PITCH_VECTORS)[channel]);
}

// Neighbouring elements of a tile where it came to, from the start of a vector on.
template <int N> static __device__ void elements_of(number (&to)[N], const uint4* rows, int row, int channel) {
#pragma unroll
  for (int i = 0; i < N; i += WIDE) {
    const Vector<WIDE> vector = read<WIDE>(reinterpret_cast<const element*>(rows + row * PITCH_VECTORS) + channel + i);
#pragma unroll
    for (int n = 0; n < WIDE; ++n) to[i + n] = to_number(vector.channels[n]);
  }
}

// A bit for each row that is alive.
static __device__ unsigned living_rows(const bool (&alive)[2]) {
  const unsigned first = __ballot_sync(0xffffffffu, alive[0]), second = __ballot_sync(0xffffffffu, alive[1]);
  unsigned rows = 0;
#pragma unroll
  for (int g = 0; g < 8; ++g) rows |= (first >> 4 * g & 1) << g | (second >> 4 * g & 1) << (g + 8);
  return rows;
}

// Puts together what the lanes have.
template <int N> static __device__ void keep_of_warp(number* to, const number (&sums)[N]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const number sum = sum_of_warp(sums[n]);
    if (threadIdx.x % 32 == 0) to[n] = sum;
  }
}

// Adds up what the warps have, so many numbers apart, to the gradient or to shared memory.
template <bool ADD> static __device__ void gather_from_scratch(number* to, const number* from, int apart, int count) {
  for (int i = threadIdx.x; i < count; i += THREADS) {
    number sum = 0;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) sum += from[warp * apart + i];
    if (ADD) atomicAdd(to + i, sum);
    else to[i] = sum;
  }
}
