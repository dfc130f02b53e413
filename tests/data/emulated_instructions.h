// For generated CUDA on the CPU: fragments/instructions.cu. A copy is done when its stage is waited for, and no sooner.
// What a block leaves unfinished is nobody's.
struct Copies {
  size_t block;
  std::vector<std::pair<void*, const void*>> started;
  std::vector<std::vector<std::pair<void*, const void*>>> stages;
};

static Copies& copies_of_thread() {
  static Copies of_threads[1024];
  Copies& own = of_threads[emulation::current];
  if (own.block != emulation::block) own = {emulation::block};
  return own;
}

static size_t copied_bytes;

template <int BYTES> static void copy_ahead(void* to, const void* from) {
  copied_bytes = BYTES;
  copies_of_thread().started.push_back({to, from});
}

static void end_of_stage() {
  Copies& copies = copies_of_thread();
  copies.stages.push_back(copies.started);
  copies.started.clear();
}

template <int LEFT> static void wait_for_stages() {
  auto& waiting = copies_of_thread().stages;
  while (waiting.size() > LEFT) {
    for (const auto& copy : waiting.front()) std::memcpy(copy.first, copy.second, copied_bytes);
    waiting.erase(waiting.begin());
  }
}

static unsigned transposed(unsigned word) { return emulation::transposed(word); }

static void add_four(number* to, bool whole, number a, number b, number c, number d) {
  if (whole && reinterpret_cast<unsigned long long>(to) % 16 != 0) abort();
  atomicAdd(to, a);
  atomicAdd(to + 1, b);
  atomicAdd(to + 2, c);
  atomicAdd(to + 3, d);
}
