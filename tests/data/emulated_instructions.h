// For generated CUDA on the CPU: fragments/instructions.cu. A copy is done when its stage is waited for, and no sooner.
static std::vector<std::pair<void*, const void*>> started[1024];
static std::vector<std::vector<std::pair<void*, const void*>>> stages_of[1024];
static size_t copied_bytes;

template <int BYTES> static void copy_ahead(void* to, const void* from) {
  copied_bytes = BYTES;
  started[emulation::current].push_back({to, from});
}

static void end_of_stage() {
  stages_of[emulation::current].push_back(started[emulation::current]);
  started[emulation::current].clear();
}

template <int LEFT> static void wait_for_stages() {
  auto& waiting = stages_of[emulation::current];
  while (waiting.size() > LEFT) {
    for (const auto& copy : waiting.front()) std::memcpy(copy.first, copy.second, copied_bytes);
    waiting.erase(waiting.begin());
  }
}

static unsigned transposed(unsigned word) { return emulation::transposed(word); }
