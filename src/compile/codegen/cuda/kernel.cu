
// ---- The kernel: a block has one seed, and takes every gridDim.y-th tile of rows. ----

// The seed of a block and which of its parts.
struct Turn {
  unsigned seed, part;
};

// Blocks start in the order of their numbers. All parts of the seeds that take long come first, so that none of them is left
// when the others are done.
static __device__ Turn turn_of_block(const Launch& launch) {
  if (!launch.order) return {blockIdx.x, blockIdx.y};
  const unsigned seeds = (unsigned)launch.seeds, busy = (unsigned)launch.busy;
  const unsigned number = blockIdx.y * seeds + blockIdx.x, of_busy = busy * gridDim.y;
  if (number < of_busy) return {launch.order[number % busy], number / busy};
  const unsigned further = number - of_busy, others = seeds - busy;
  return {launch.order[busy + further % others], further / others};
}

// Which program the seed runs, or -1 for identity. Whatever the state arrays hold, nothing outside them is read. What can be
// read at once is, for each of these reads takes as long as a row's.
static __device__ int select_program(const Launch& launch, int seed, int& slot) {
  const int state = launch.lifecycle[seed], blueprint = launch.blueprint[seed];
  slot = launch.slot[seed];
  if (state < 0 || state >= 32 || !(RUNS >> state & 1)) return -1;
  if (blueprint < 0 || blueprint >= launch.blueprints) return -1;
  const int branch = launch.branch[blueprint];
  if (branch < 0 || branch >= PROGRAMS) return -1;
  if (slot < 0 || slot >= launch.banks[branch].capacity) return -1;
  return FROZEN >> state & 1 ? PROGRAMS + branch : branch;
}

// The rows of a seed that runs no program, as they are.
static __device__ void copy_chunk(const Launch& launch, int seed, Ahead& ahead, Observed& seen) {
  if constexpr (PASS == FORWARD) copy_rows_of_seed<EVERYTHING>(launch, launch.x, seed, ahead, seen);
  if constexpr (PASS == BACKWARD) copy_rows_of_seed<GRADIENT>(launch, launch.output_gradient, seed, ahead, seen);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) kasmina(const __grid_constant__ Launch launch) {
  if (blockIdx.x >= launch.seeds) return copy_tail(launch);
  const Turn turn = turn_of_block(launch);
  if (turn.seed >= launch.seeds) return;
  const int seed = turn.seed;
  Observed seen = nothing_observed();
  Ahead ahead(launch, seed, turn.part);
  int slot = 0;
  const int program = select_program(launch, seed, slot);
  if (PASS == TRAIN && program < 0) return;
  if (!run_program(program, launch, seed, slot, ahead, seen)) copy_chunk(launch, seed, ahead, seen);
  report(launch, seed, seen);
}
