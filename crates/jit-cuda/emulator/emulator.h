// A card's threads as fibers of one processor thread: a barrier or an exchange within a warp switches stacks.
//
// What CUDA C++ gives the kernels of `kernels/` is here in plain C++, so that the same source runs, and can be tested, where
// there is no card. Slow, and exact: arithmetic in f32 as a card's, but for `__expf` and fused multiply-add.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#define __global__
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define DEVICE static inline
#define SHARED(type, name) static thread_local type name
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::dynamic_shared())

struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace emulator {
extern thread_local uint3 thread_index, block_index, block_size, grid_size;
void* dynamic_shared();
// Waits for all threads of the block, or of the warp, that have not ended.
void block_barrier();
void warp_barrier();
// What another lane of the warp gives as `value`. A lane that ended gives what it last gave.
uint64_t exchange(uint64_t value, int lane);
void mma_16816(float* d, const unsigned* a, const unsigned* b);
void load_matrix_x4(unsigned* r, const void* row, bool transposed);

// A kernel by its name, with its arguments taken apart.
struct Kernel {
  const char* name;
  void (*call)(void** arguments);
  Kernel* next;
  Kernel(const char* name, void (*call)(void**));
};
template <auto kernel>
struct Caller;
template <typename... Arguments, void (*kernel)(Arguments...)>
struct Caller<kernel> {
  template <size_t... index>
  static void apply(void** arguments, std::index_sequence<index...>) {
    kernel(*static_cast<Arguments*>(arguments[index])...);
  }
  static void call(void** arguments) { apply(arguments, std::index_sequence_for<Arguments...>{}); }
};
template <typename T>
T lane_value(T value, int lane) {
  static_assert(sizeof(T) <= 8, "registers are exchanged");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(bits, lane);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace emulator

#define EXPORT(name) static emulator::Kernel exported_##name(#name, emulator::Caller<name>::call);
#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_size
#define gridDim emulator::grid_size

static inline void __syncthreads() { emulator::block_barrier(); }
static inline void __syncwarp(unsigned = ~0u) { emulator::warp_barrier(); }
template <typename T>
static inline T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulator::lane_value(value, (threadIdx.x % 32) ^ mask);
}
template <typename T>
static inline T __shfl_sync(unsigned, T value, int lane) {
  return emulator::lane_value(value, lane % 32);
}
template <typename T>
static inline T __shfl_down_sync(unsigned, T value, int delta) {
  const int lane = threadIdx.x % 32 + delta;
  return emulator::lane_value(value, lane < 32 ? lane : static_cast<int>(threadIdx.x % 32));
}

static inline float __uint_as_float(unsigned u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
static inline unsigned __float_as_uint(float f) {
  unsigned u;
  std::memcpy(&u, &f, 4);
  return u;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<uint64_t>(a) * b >> 32; }
// The C library has functions of these names.
#define __expf(x) std::exp(static_cast<float>(x))
#define __logf(x) std::log(static_cast<float>(x))
static inline float __fdividef(float a, float b) { return a / b; }
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
template <typename T>
static inline T __ldg(const T* at) {
  return *at;
}
template <typename T>
static inline T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
static inline T max(T a, T b) {
  return a < b ? b : a;
}
// Rounded one by one: the compiler keeps to ISO C++, which does not contract.
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
// Sine and cosine of π·x. In x = 2·k/2³², all that is asked for, the product below is rounded once, as the reference's.
static inline void sincospi(double x, double* sine, double* cosine) {
  const double angle = 3.14159265358979323846 * x;
  *sine = std::sin(angle);
  *cosine = std::cos(angle);
}
