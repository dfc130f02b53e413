// For generated CUDA on the CPU: fragments/instructions.cu. A copy is done when its stage is waited for, and no sooner.
// What a block leaves unfinished is nobody's.
struct Copy {
  uint4* to;
  const void* from;
  bool exists;
};

struct Copies {
  size_t block;
  std::vector<Copy> started;
  std::vector<std::vector<Copy>> stages;
};

static Copies& copies_of_thread() {
  static Copies of_threads[1024];
  Copies& own = of_threads[emulation::current];
  if (own.block != emulation::block) own = {emulation::block};
  return own;
}

static void copy_ahead(uint4* to, const void* from, bool exists) { copies_of_thread().started.push_back({to, from, exists}); }

static void end_of_stage() {
  Copies& copies = copies_of_thread();
  copies.stages.push_back(copies.started);
  copies.started.clear();
}

template <int LEFT> static void wait_for_stages() {
  auto& waiting = copies_of_thread().stages;
  while (waiting.size() > LEFT) {
    for (const Copy& copy : waiting.front()) {
      *copy.to = {};
      if (copy.exists) std::memcpy(copy.to, copy.from, sizeof *copy.to);
    }
    waiting.erase(waiting.begin());
  }
}

static number further(number a, number b) { return a != a || std::fabs(a) > std::fabs(b) ? a : b; }

static unsigned transposed(unsigned word) { return emulation::transposed(word); }

template <bool TRANSPOSED> static void read_matrices(int count, unsigned (&to)[4], const uint4* row) {
  const emulation::Rows rows = emulation::rows_of_matrices(row);
  const unsigned g = emulation::current % 32 / 4, t = emulation::current % 4;
  for (int m = 0; m < count; ++m) {
    const auto element_at = [&](unsigned row, unsigned column) { return (unsigned)rows.of[8 * m + row][column]; };
    to[m] = TRANSPOSED ? element_at(2 * t, g) | element_at(2 * t + 1, g) << 16 : element_at(g, 2 * t) | element_at(g, 2 * t + 1) << 16;
  }
}

static void write_matrices(int count, uint4* row, const unsigned (&words)[4]) {
  const emulation::Rows rows = emulation::rows_of_matrices(row);
  const unsigned g = emulation::current % 32 / 4, t = emulation::current % 4;
  for (int m = 0; m < count; ++m) {
    rows.of[8 * m + g][2 * t] = (unsigned short)words[m];
    rows.of[8 * m + g][2 * t + 1] = words[m] >> 16;
  }
}

static void add_four(number* to, bool whole, number a, number b, number c, number d) {
  if (whole && reinterpret_cast<unsigned long long>(to) % 16 != 0) abort();
  atomicAdd(to, a);
  atomicAdd(to + 1, b);
  atomicAdd(to + 2, c);
  atomicAdd(to + 3, d);
}
