// AdamW over the slots of a bank: a block has one slot. Two passes over it: first, whether its gradient is finite; then the
// update, in the order of operations of torch.optim.AdamW. Slots in another mode keep their bits.

// src/device/cuda/adamw.rs has the same layout.
struct Adamw {
  void* parameters;         // [capacity, size], like the next three
  const void* gradient;
  void* first_moment;
  void* second_moment;
  unsigned* steps;            // [capacity]
  const unsigned char* mode;  // [capacity]
  unsigned char* non_finite;  // [capacity]
  long long size;
  long long updated;
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};
static_assert(sizeof(Adamw) == 112, "src/device/cuda/adamw.rs differs");

static __device__ float square_root(float v) { return sqrtf(v); }
static __device__ double square_root(double v) { return sqrt(v); }

template <typename number> static __device__ void step(const Adamw& update) {
  const long long slot = blockIdx.x;
  if (update.mode[slot] != update.updated) return;
  const long long start = slot * update.size;
  const number* const gradient = static_cast<const number*>(update.gradient) + start;

  int bad = 0;
  for (long long i = threadIdx.x; i < update.size; i += blockDim.x) bad |= !(gradient[i] - gradient[i] == 0);
  if (__syncthreads_or(bad)) {
    if (threadIdx.x == 0) update.non_finite[slot] = 1;
    return;
  }

  __shared__ double correction1, correction2;
  if (threadIdx.x == 0) {
    const unsigned done = update.steps[slot];
    const unsigned now = done == 0xffffffffu ? done : done + 1;
    update.steps[slot] = now;
    correction1 = 1 - pow(update.beta1, (double)now);
    correction2 = 1 - pow(update.beta2, (double)now);
  }
  __syncthreads();
  number* const parameters = static_cast<number*>(update.parameters) + start;
  number* const first_moment = static_cast<number*>(update.first_moment) + start;
  number* const second_moment = static_cast<number*>(update.second_moment) + start;
  const number decay = (number)(1 - update.learning_rate * update.weight_decay);
  const number negative_step = (number)-(update.learning_rate / correction1);
  const number correction = (number)sqrt(correction2);
  const number weight1 = (number)(1 - update.beta1), keep1 = (number)update.beta1;
  const number weight2 = (number)(1 - update.beta2), keep2 = (number)update.beta2;
  const number epsilon = (number)update.epsilon;
  const bool near_start = 1 - update.beta1 < 0.5;  // torch's lerp starts from the nearer end
  for (long long i = threadIdx.x; i < update.size; i += blockDim.x) {
    const number g = gradient[i], way = g - first_moment[i];
    const number first = near_start ? first_moment[i] + weight1 * way : g - way * keep1;
    const number second = second_moment[i] * keep2 + weight2 * g * g;
    first_moment[i] = first;
    second_moment[i] = second;
    parameters[i] = parameters[i] * decay + negative_step * first / (square_root(second) / correction + epsilon);
  }
}

extern "C" __global__ void adamw_f32(const __grid_constant__ Adamw update) { step<float>(update); }
extern "C" __global__ void adamw_f64(const __grid_constant__ Adamw update) { step<double>(update); }
