
// ---- The kernel: a block has one seed, and one of the parts in which the rows of that seed are taken. ----

// Blocks start in the order of their numbers. All parts of the seeds that take long come first, and are more, so that all blocks
// are done at about the same time; then those of the other seeds, and of the channels after the last chunk. In clusters, all have
// as many, and those of a seed follow each other.
static __device__ Assignment assignment_of_block(const Launch& launch) {
  const unsigned seeds = (unsigned)launch.seeds, together = blocks_in_cluster();
  unsigned number = blockIdx.x, first = 0, among = (unsigned)launch.busy, parts = launch.busy_parts;
  if (together > 1) {
    first = number / together, number %= together, among = 1, parts = together;
  } else if (number >= among * parts) {
    number -= among * parts, first = among, among = seeds - among, parts = launch.other_parts;
    if (number >= among * parts) {
      number -= among * parts, first = seeds, among = (unsigned)((launch.hidden - launch.seeds * CHUNK + TAIL - 1) / TAIL);
    }
  }
  const unsigned position = first + number % among;
  if (!launch.order || position >= seeds) return {position, number / among, parts};
  return {launch.order[PASS == TRAIN ? seeds - 1 - position : position], number / among, parts};
}

// Whatever the state arrays hold, nothing outside them is read. What can be read at once is, for each of these reads takes as
// long as a row's.
static __device__ Selection select_program(const Launch& launch, int seed) {
  constexpr int EARLY = 32;
  const int lane = threadIdx.x % EARLY;
  const int of_lane = lane < launch.blueprints ? launch.branch[lane] : -1;
  const int state = launch.lifecycle[seed], blueprint = launch.blueprint[seed], slot = launch.slot[seed];
  const float alpha = launch.alpha[seed];
  const Selection identity = {-1, 0, 0};
  if (state < 0 || state >= 32 || !(RUNS >> state & 1)) return identity;
  if (blueprint < 0 || blueprint >= launch.blueprints) return identity;
  const int branch = blueprint < EARLY ? __shfl_sync(0xffffffffu, of_lane, blueprint) : launch.branch[blueprint];
  if (branch < 0 || branch >= PROGRAMS) return identity;
  if (slot < 0 || slot >= launch.banks[branch].capacity) return identity;
  return {FROZEN >> state & 1 ? PROGRAMS + branch : branch, slot, alpha > 0 ? (alpha < 1 ? alpha : 1) : 0};
}

// The rows of a seed that runs no program, as they are.
static __device__ void copy_chunk(const Launch& launch, int seed, Ahead& ahead, Observed& seen) {
  if constexpr (PASS == FORWARD) copy_rows_of_seed<EVERYTHING>(launch, launch.x, seed, ahead, seen);
  if constexpr (PASS == BACKWARD) copy_rows_of_seed<GRADIENT>(launch, launch.output_gradient, seed, ahead, seen);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) kasmina(const __grid_constant__ Launch launch) {
  await_earlier_kernels();
  const Assignment assignment = assignment_of_block(launch);
  if (assignment.seed >= launch.seeds) return copy_tail(launch, assignment);
  const int seed = assignment.seed;
  Observed seen = nothing_observed();
  Ahead ahead(launch, assignment);
  const Selection selection = select_program(launch, seed);
  if (PASS == TRAIN && selection.program < 0) return;
  const bool runs = run_program(launch, seed, selection, ahead, seen);
  if (!runs) copy_chunk(launch, seed, ahead, seen);
  const double total = launch.telemetry ? seen_by_block(seen) : 0;
  // Where there are gradients, a program has waited for its turn to add them.
  if (PASS == FORWARD || !runs) await_turn();
  if (launch.telemetry) report(launch, seed, total);
  end_turn();
}
