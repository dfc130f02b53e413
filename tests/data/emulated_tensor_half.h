// For generated CUDA on the CPU: fragments/tensor_half.cu.
static unsigned packed(number low, number high) { return to_element(low) | (unsigned)to_element(high) << 16; }

static void multiply(number (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  emulation::multiply(sums, {a0, a1, a2, a3, b0, b1}, [](unsigned bits) { return to_number((element)bits); });
}

template <class Choose> static unsigned of_pairs(unsigned a, unsigned b, Choose choose) {
  const auto half = [&](int shift) {
    const number x = to_number((element)(a >> shift)), y = to_number((element)(b >> shift));
    return (unsigned)(x != x || y != y ? to_element(NAN) : to_element(choose(x, y))) << shift;
  };
  return half(0) | half(16);
}

static unsigned pair_minimum(unsigned a, unsigned b) {
  return of_pairs(a, b, [](number x, number y) { return x < y ? x : y; });
}

static unsigned pair_maximum(unsigned a, unsigned b) {
  return of_pairs(a, b, [](number x, number y) { return x > y ? x : y; });
}

static unsigned pair_nearest(unsigned a, unsigned b) {
  return of_pairs(a, b, [](number x, number y) { return (x < 0 ? -x : x) < (y < 0 ? -y : y) ? x : y; });
}
