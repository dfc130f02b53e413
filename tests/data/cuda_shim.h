// What a generated CUDA kernel needs of CUDA, for g++: it runs one block at a time, its threads as fibers.
//
// A thread runs until it waits for others; threads take turns in an order that changes at every wait, so a missing
// __syncthreads shows as a wrong result. Shared memory is filled with NaN before each block, so reading what was never
// written shows as well, and writing past its end is an error. Not emulated: that lanes of a warp run together, and any
// ordering of memory other than the program's.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
#include <vector>

struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct dim3 { unsigned x, y, z; };

static dim3 threadIdx, blockIdx, gridDim;

namespace emulation {

constexpr size_t STACK = 256 << 10, SHARED = 256 << 10;
enum Wait { READY, BLOCK, WARP, DONE };

struct Thread {
  ucontext_t context;
  std::vector<char> stack;
  Wait wait;
  int line;
};

static std::vector<Thread> threads;
static ucontext_t scheduler;
static unsigned current;
static size_t block;  // how many have begun
static double exchanged[1024];

[[noreturn]] static void fail(const char* what) {
  std::fprintf(stderr, "emulation: %s in block (%u, %u), thread %u\n", what, blockIdx.x, blockIdx.y, current);
  std::abort();
}

static void wait_for(Wait others) {
  threads[current].wait = others;
  swapcontext(&threads[current].context, &scheduler);
  threadIdx = {current, 0, 0};
}

// Every lane gives a value and gets that of another.
template <class T> static T exchange(T value, unsigned from) {
  std::memcpy(&exchanged[current], &value, sizeof value);
  wait_for(WARP);
  T result;
  std::memcpy(&result, &exchanged[from], sizeof result);
  wait_for(WARP);
  return result;
}

}  // namespace emulation

alignas(16) unsigned char shared_memory[emulation::SHARED];

static void __syncthreads() { emulation::wait_for(emulation::BLOCK); }
static void __syncwarp() { emulation::wait_for(emulation::WARP); }
static int __syncthreads_or(int predicate) {
  static int any;
  if (predicate) any = 1;
  emulation::wait_for(emulation::BLOCK);
  const int result = any;
  emulation::wait_for(emulation::BLOCK);
  any = 0;
  emulation::wait_for(emulation::BLOCK);
  return result;
}
template <class T> static T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::exchange(value, emulation::current ^ mask);
}
template <class T> static T __shfl_sync(unsigned, T value, int lane) {
  return emulation::exchange(value, emulation::current / 32 * 32 + lane % 32);
}
template <class T, class Combine> static T over_warp_at_once(T value, Combine combine) {
  for (int distance = 16; distance > 0; distance /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}
static unsigned __reduce_add_sync(unsigned, unsigned value) {
  return over_warp_at_once(value, [](unsigned a, unsigned b) { return a + b; });
}
static int __reduce_min_sync(unsigned, int value) {
  return over_warp_at_once(value, [](int a, int b) { return a < b ? a : b; });
}
static int __reduce_max_sync(unsigned, int value) {
  return over_warp_at_once(value, [](int a, int b) { return a > b ? a : b; });
}
static int __popc(unsigned bits) { return __builtin_popcount(bits); }
template <class T> static T __ldg(const T* at) { return *at; }
static unsigned __ballot_sync(unsigned, int predicate) {
  unsigned bits = 0;
  const unsigned warp = emulation::current / 32 * 32;
  const int own = predicate != 0;
  std::memcpy(&emulation::exchanged[emulation::current], &own, sizeof own);
  emulation::wait_for(emulation::WARP);
  for (unsigned lane = 0; lane < 32; ++lane) {
    int other;
    std::memcpy(&other, &emulation::exchanged[warp + lane], sizeof other);
    bits |= (unsigned)other << lane;
  }
  emulation::wait_for(emulation::WARP);
  return bits;
}

static int __all_sync(unsigned lanes, int predicate) { return __ballot_sync(lanes, predicate) == 0xffffffffu; }


// Blocks of a cluster, and whether it is this thread's turn to add.
static unsigned cluster = 1, turns[1024];
static void check_turn() {
  if (cluster > 1 && turns[threadIdx.x] != 1) std::abort();
}

template <class T> static T atomicAdd(T* at, T value) { check_turn(); const T old = *at; *at = old + value; return old; }
template <class T> static T atomicMin(T* at, T value) { check_turn(); const T old = *at; *at = value < old ? value : old; return old; }
template <class T> static T atomicMax(T* at, T value) { check_turn(); const T old = *at; *at = value > old ? value : old; return old; }

template <class To, class From> static To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
static float __uint_as_float(unsigned v) { return bits_as<float>(v); }
static float __int_as_float(int v) { return bits_as<float>(v); }
static unsigned __float_as_uint(float v) { return bits_as<unsigned>(v); }
static double __longlong_as_double(long long v) { return bits_as<double>(v); }
static long long __double_as_longlong(double v) { return bits_as<long long>(v); }
static unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const unsigned long long bytes = (unsigned long long)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
static float rsqrtf(float v) { return 1 / std::sqrt(v); }
// The C library has another function of this name.
static float fast_exponential(float v) { return std::exp(v); }
#define __expf fast_exponential
static float __fdividef(float a, float b) { return a / b; }
static double rsqrt(double v) { return 1 / std::sqrt(v); }

// The test puts these where the source has inline PTX.
static float half_to_float(unsigned short bits) {
  const int sign = bits >> 15, exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float v = exponent == 31 ? (fraction ? NAN : INFINITY)
                  : exponent     ? std::ldexp(1.f + fraction / 1024.f, exponent - 15)
                                 : std::ldexp((float)fraction, -24);
  return sign ? -v : v;
}
static unsigned short float_to_half(float v) {
  const unsigned short sign = std::signbit(v) ? 0x8000 : 0;
  if (v != v) return 0x7fff;
  const double a = std::fabs((double)v);
  if (a >= 65520) return sign | 0x7c00;
  if (a < 6.103515625e-05) return sign | (unsigned short)std::nearbyint(a * 16777216.0);
  int exponent;
  const double fraction = std::frexp(a, &exponent);  // a = fraction * 2^exponent, fraction in [0.5, 1)
  return sign | (unsigned short)(((exponent + 13) << 10) + (unsigned)std::nearbyint(fraction * 2048) - 0);
}

// What the instructions of the tensor cores do: the test leaves out the files that have them as PTX.
namespace emulation {

// Every lane gives a few words and sees those of all lanes of its warp.
template <int N> struct Gathered {
  unsigned lanes[32][N];
};
static unsigned gathered[1024][8];
template <int N> static Gathered<N> gather(const unsigned (&words)[N]) {
  std::memcpy(gathered[current], words, sizeof words);
  wait_for(WARP);
  Gathered<N> all;
  for (unsigned lane = 0; lane < 32; ++lane) std::memcpy(all.lanes[lane], gathered[current / 32 * 32 + lane], sizeof words);
  wait_for(WARP);
  return all;
}

static unsigned transposed(unsigned word) {
  const Gathered<1> all = gather<1>({word});
  const unsigned g = current % 32 / 4, t = current % 4;
  unsigned result = 0;
  for (unsigned e = 0; e < 2; ++e) {
    const unsigned from = all.lanes[(2 * t + e) * 4 + g / 2][0];
    result |= (g % 2 ? from >> 16 : from & 0xffff) << (16 * e);
  }
  return result;
}

// Every lane gives the place of a row of eight elements of 16 bits.
struct Rows {
  unsigned short* of[32];
};
static Rows rows_of_matrices(const void* row) {
  static const void* given[1024];
  given[current] = row;
  wait_for(WARP);
  Rows all;
  for (unsigned lane = 0; lane < 32; ++lane) all.of[lane] = (unsigned short*)given[current / 32 * 32 + lane];
  wait_for(WARP);
  return all;
}

// Half types: `value` reads 16 bits. Lane 4 g + t has rows g and g + 8 of the first factor and column g of the second.
template <class Value> static void multiply(float (&sums)[4], const unsigned (&words)[6], Value value) {
  const Gathered<6> all = gather(words);
  const unsigned g = current % 32 / 4, t = current % 4;
  for (unsigned c = 0; c < 4; ++c) {
    const unsigned row = g + c / 2 * 8, column = 2 * t + c % 2;
    double sum = sums[c];
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned a = all.lanes[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], b = all.lanes[column * 4 + k % 8 / 2][4 + k / 8];
      sum += (double)value(k % 2 ? a >> 16 : a & 0xffff) * value(k % 2 ? b >> 16 : b & 0xffff);
    }
    sums[c] = (float)sum;
  }
}

// f32 of which 13 bits are cut off.
static void multiply_single(float (&sums)[4], const unsigned (&words)[6]) {
  const Gathered<6> all = gather(words);
  const unsigned g = current % 32 / 4, t = current % 4;
  for (unsigned c = 0; c < 4; ++c) {
    const unsigned row = g + c / 2 * 8, column = 2 * t + c % 2;
    double sum = sums[c];
    for (unsigned k = 0; k < 8; ++k) {
      const unsigned a = all.lanes[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2], b = all.lanes[column * 4 + k % 4][4 + k / 4];
      sum += (double)__uint_as_float(a & 0xffffe000) * __uint_as_float(b & 0xffffe000);
    }
    sums[c] = (float)sum;
  }
}

template <class L> struct Entry {
  static void (*kernel)(const L);
  static const L* launch;
  static void run() {
    threadIdx = {current, 0, 0};
    kernel(*launch);
    threads[current].wait = DONE;
    swapcontext(&threads[current].context, &scheduler);
  }
};
template <class L> void (*Entry<L>::kernel)(const L);
template <class L> const L* Entry<L>::launch;

template <class L> static void run_block(unsigned count, size_t shared_bytes) {
  ++block;
  std::memset(shared_memory, 0xff, SHARED);
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = threads[i];
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, (void (*)())Entry<L>::run, 0);
    thread.wait = READY;
  }
  for (unsigned turn = 0;; ++turn) {
    unsigned done = 0, waiting = 0;
    for (unsigned i = 0; i < count; ++i) {
      // Forwards, backwards, or from the middle.
      const unsigned number = turn % 3 == 0 ? i : turn % 3 == 1 ? count - 1 - i : (i + count / 2) % count;
      if (threads[number].wait == READY) {
        current = number;
        swapcontext(&scheduler, &threads[number].context);
      }
    }
    for (unsigned i = 0; i < count; ++i) done += threads[i].wait == DONE, waiting += threads[i].wait == BLOCK;
    if (done == count) break;
    bool moved = false;
    for (unsigned warp = 0; warp < count; warp += 32) {
      unsigned lanes = 0;
      for (unsigned lane = 0; lane < 32; ++lane) lanes += threads[warp + lane].wait == WARP;
      if (lanes == 32) {
        moved = true;
        for (unsigned lane = 0; lane < 32; ++lane) threads[warp + lane].wait = READY;
      }
    }
    if (moved) continue;
    if (waiting != count) fail("threads wait for others that have ended or wait elsewhere");
    for (unsigned i = 0; i < count; ++i) threads[i].wait = READY;
  }
  for (size_t i = shared_bytes; i < SHARED; ++i)
    if (shared_memory[i] != 0xff) fail("a write past the end of shared memory");
}

template <class L> static void run(void (*kernel)(const L), const L* launch, unsigned x, unsigned y, unsigned count, size_t shared) {
  Entry<L>::kernel = kernel;
  Entry<L>::launch = launch;
  threads.resize(count);
  for (Thread& thread : threads) thread.stack.resize(STACK);
  gridDim = {x, y, 1};
  for (unsigned row = 0; row < y; ++row)
    for (unsigned column = 0; column < x; ++column) {
      blockIdx = {column, row, 0};
      run_block<L>(count, shared);
    }
}

}  // namespace emulation

#define __device__
#define __global__
#define __shared__
#define __noinline__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
