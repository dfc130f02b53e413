// AdamW over the slots of a bank, in the order of operations of torch.optim.AdamW. Slots in another mode keep their bits.
//
// A block takes one slot after the other. Nothing of a slot may be written before its whole gradient is known to be finite,
// so a block first asks for all that a thread holds at once (and works out the slot's own numbers meanwhile), and then waits
// once. Only of slots that are larger than that is the gradient read twice.

// src/device/cuda/adamw.rs has the same layout.
struct Adamw {
  void* parameters;         // [capacity, size], like the next three
  const void* gradient;
  void* first_moment;
  void* second_moment;
  unsigned* steps;            // [capacity]
  const unsigned char* mode;  // [capacity]
  unsigned char* non_finite;  // [capacity]
  long long capacity;
  long long size;
  long long updated;
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};
static_assert(sizeof(Adamw) == 120, "src/device/cuda/adamw.rs differs");

constexpr int HELD = 2;  // vectors of each array that a thread holds; src/device/cuda/adamw.rs has the same

static __device__ float square_root(float v) { return sqrtf(v); }
static __device__ double square_root(double v) { return sqrt(v); }

// The numbers of a step that are the same for all elements.
template <typename number> struct Rates {
  number decay, weight1, keep1, weight2, keep2, epsilon;
  bool near_start;  // torch's lerp starts from the nearer end

  __device__ explicit Rates(const Adamw& update)
      : decay((number)(1 - update.learning_rate * update.weight_decay)), weight1((number)(1 - update.beta1)),
        keep1((number)update.beta1), weight2((number)(1 - update.beta2)), keep2((number)update.beta2),
        epsilon((number)update.epsilon), near_start(1 - update.beta1 < 0.5) {}
};

// The arrays of one slot as vectors: 16 bytes, or one number where slots begin at any address.
template <typename vector> struct Slot {
  vector* parameters;
  const vector* gradient;
  vector* first_moment;
  vector* second_moment;
  int vectors;

  __device__ Slot(const Adamw& update, long long slot, int vectors)
      : parameters(static_cast<vector*>(update.parameters) + slot * vectors),
        gradient(static_cast<const vector*>(update.gradient) + slot * vectors),
        first_moment(static_cast<vector*>(update.first_moment) + slot * vectors),
        second_moment(static_cast<vector*>(update.second_moment) + slot * vectors), vectors(vectors) {}
};

// What a thread holds of a slot: every blockDim.x-th vector from `start` on.
template <typename number, typename vector> struct Held {
  static constexpr int WIDTH = sizeof(vector) / sizeof(number);
  vector parameters[HELD], gradient[HELD], first_moment[HELD], second_moment[HELD];

  static __device__ number& at(vector& v, int element) { return reinterpret_cast<number*>(&v)[element]; }

  __device__ void load(const Slot<vector>& slot, int start) {
#pragma unroll
    for (int k = 0; k < HELD; k++) {
      const int i = start + k * (int)blockDim.x;
      gradient[k] = vector{};
      if (i >= slot.vectors) continue;
      gradient[k] = slot.gradient[i];
      first_moment[k] = slot.first_moment[i];
      second_moment[k] = slot.second_moment[i];
      parameters[k] = slot.parameters[i];
    }
  }

  static __device__ bool finite(vector gradient) {
    bool finite = true;
#pragma unroll
    for (int e = 0; e < WIDTH; e++) finite &= at(gradient, e) - at(gradient, e) == 0;
    return finite;
  }

  __device__ bool finite() const {
    bool all = true;
#pragma unroll
    for (int k = 0; k < HELD; k++) all &= finite(gradient[k]);
    return all;
  }

  __device__ void update(const Slot<vector>& slot, int start, const Rates<number>& rates, number negative_step,
                         number correction) {
#pragma unroll
    for (int k = 0; k < HELD; k++) {
      const int i = start + k * (int)blockDim.x;
      if (i >= slot.vectors) continue;
#pragma unroll
      for (int e = 0; e < WIDTH; e++) {
        number &parameter = at(parameters[k], e), &first = at(first_moment[k], e), &second = at(second_moment[k], e);
        const number g = at(gradient[k], e), way = g - first;
        first = rates.near_start ? first + rates.weight1 * way : g - way * rates.keep1;
        second = second * rates.keep2 + rates.weight2 * g * g;
        parameter =
            parameter * rates.decay + negative_step * first / (square_root(second) / correction + rates.epsilon);
      }
      slot.first_moment[i] = first_moment[k];
      slot.second_moment[i] = second_moment[k];
      slot.parameters[i] = parameters[k];
    }
  }
};

// A block walks the slots from its own number on, as far apart as there are blocks.
template <typename number, typename vector> static __device__ void step(const Adamw& update) {
  // Of two slots in turn, because the block's last warps may still read one slot's while its first ones are at the next.
  __shared__ number negative_steps[2], corrections[2];
  const Rates<number> rates(update);
  const int vectors = (int)(update.size * sizeof(number) / sizeof(vector)), at_once = HELD * (int)blockDim.x;
  const int lane = threadIdx.x % 32;
  int turn = 0;
  // Every warp looks at the modes of 32 of the block's slots at once.
  for (long long first = blockIdx.x; first < update.capacity; first += 32ll * gridDim.x) {
    const long long own = first + (long long)lane * gridDim.x;
    unsigned updated = __ballot_sync(~0u, own < update.capacity && update.mode[own] == update.updated);
    for (; updated; updated &= updated - 1, turn ^= 1) {
      const long long number_of_slot = first + (long long)(__ffs(updated) - 1) * gridDim.x;
      const Slot<vector> slot(update, number_of_slot, vectors);
      Held<number, vector> held;
      held.load(slot, threadIdx.x);

      unsigned now = 0;
      if (threadIdx.x < 2) {
        const unsigned done = update.steps[number_of_slot];
        now = done == 0xffffffffu ? done : done + 1;
        const double correction = 1 - pow(threadIdx.x ? update.beta2 : update.beta1, (double)now);
        if (threadIdx.x == 0) negative_steps[turn] = (number) - (update.learning_rate / correction);
        if (threadIdx.x == 1) corrections[turn] = (number)sqrt(correction);
      }
      bool finite = held.finite();
#pragma unroll 4
      for (int i = at_once + threadIdx.x; i < vectors; i += blockDim.x) finite &= held.finite(slot.gradient[i]);
      const bool bad = __syncthreads_or(!finite);
      if (threadIdx.x == 0) {
        if (bad) update.non_finite[number_of_slot] = 1;
        else update.steps[number_of_slot] = now;
      }
      if (bad) continue;

      const number negative_step = negative_steps[turn], correction = corrections[turn];
      held.update(slot, threadIdx.x, rates, negative_step, correction);
      for (int start = at_once + threadIdx.x; start < vectors; start += at_once) {
        held.load(slot, start);
        held.update(slot, start, rates, negative_step, correction);
      }
    }
  }
}

// The first of each pair is for slots that begin at multiples of 16 bytes.
extern "C" __global__ void adamw_f32_vectors(const __grid_constant__ Adamw update) { step<float, float4>(update); }
extern "C" __global__ void adamw_f32(const __grid_constant__ Adamw update) { step<float, float>(update); }
extern "C" __global__ void adamw_f64_vectors(const __grid_constant__ Adamw update) { step<double, double2>(update); }
extern "C" __global__ void adamw_f64(const __grid_constant__ Adamw update) { step<double, double>(update); }
