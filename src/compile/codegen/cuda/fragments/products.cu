
// ---- Sums that are too many for registers: what a tile has is added to those in memory, to which other warps may add. ----

// Adds the products of M elements of one value and N of another, summed over the rows of a tile, to a part of a matrix of so many
// columns.
template <int COLUMNS, int M, int N>
static __device__ void add_products(number* to, const Turned<M>& left, const Turned<N>& right, number scale, Place place) {
  static_assert(M % 16 == 0 && N % 16 == 0, "a lane has two rows of four neighbours");
  constexpr int TOGETHER = N % 32 == 0 ? 32 : 16;
  const bool whole = is_whole(to) && COLUMNS % 4 == 0;
#pragma unroll
  for (int m = 0; m < M / 16; ++m)
#pragma unroll
    for (int n = 0; n < N / TOGETHER; ++n) {
      Products<16, TOGETHER> products = {};
      multiply_rows(products, part_of<16>(left, 2 * m), part_of<TOGETHER>(right, TOGETHER / 8 * n));
#pragma unroll
      for (int c = 0; c < 4; c += 2) {
        const int row = channel<M>(place.g / 2, 4 * m + c + place.g % 2);
#pragma unroll
        for (int eight = 0; eight < TOGETHER / 8; eight += 2) {
          const Four four = four_of<N>(&products.sums[0][eight][c], &products.sums[0][eight + 1][c], TOGETHER / 8 * n + eight, place);
          const number(&v)[4] = four.values;
          add_four(to + row * COLUMNS + four.column, whole, scale * v[0], scale * v[1], scale * v[2], scale * v[3]);
        }
      }
    }
}

// Likewise, of sums of which the lanes of one t have a share each.
template <int E> static __device__ void add_elements(number* to, number (&sums)[E / 4], number scale, Place place) {
  static_assert(E % 32 == 0, "each lane adds as many");
  const int first = add_shares(sums);
#pragma unroll
  for (int i = 0; i < E / 32; ++i) atomicAdd(to + channel<E>(place.t, first + i), scale * sums[i]);
}
