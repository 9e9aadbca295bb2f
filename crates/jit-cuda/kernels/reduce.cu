// Sums over rows, and the sum of squares for the gradient's norm. Two steps each: a grid that the shape alone decides writes
// partial sums, and a second kernel adds them in order.
#pragma once
#include "common.cuh"

// partial [chunks, columns]: sums of x [rows, pitch] over `chunk` rows. Grid [⌈columns/64⌉, ⌈rows/chunk⌉] of 256 threads: a thread
// has four columns of every 16th row. 4 KiB of shared memory; x is read once.
template <typename T, bool WHOLE>
DEVICE void column_sum_columns(const T* x, float* partial, int count, int columns, int pitch, float (*sums)[64]) {
  const int group = threadIdx.x / 16, at = threadIdx.x % 16 * 4, c = blockIdx.x * 64 + at;
  Pack<4> sum = {};
#pragma unroll 8
  for (int row = group; row < count; row += 16) {
    const Pack<4> v = load_columns<WHOLE>(x + static_cast<long long>(row) * pitch, c, columns);
#pragma unroll
    for (int i = 0; i < 4; i++) sum.at[i] += v.at[i];
  }
#pragma unroll
  for (int i = 0; i < 4; i++) sums[group][at + i] = sum.at[i];
  __syncthreads();
  const int column = blockIdx.x * 64 + threadIdx.x;
  if (threadIdx.x < 64 && column < columns) {
    float all = 0.0f;
#pragma unroll
    for (int i = 0; i < 16; i++) all += sums[i][threadIdx.x];
    partial[column] = all;
  }
}
template <typename T>
DEVICE void column_sum_kernel(const T* x, float* partial, int rows, int columns, int pitch, int chunk) {
  SHARED(float, sums[16][64]);
  const int from = blockIdx.y * chunk, count = max(0, min(chunk, rows - from));
  x += static_cast<long long>(from) * pitch;
  partial += static_cast<long long>(blockIdx.y) * columns;
  if (columns % 4 == 0) {
    column_sum_columns<T, true>(x, partial, count, columns, pitch, sums);
  } else {
    column_sum_columns<T, false>(x, partial, count, columns, pitch, sums);
  }
}
extern "C" __global__ void __launch_bounds__(256)
    column_sum_f32(const float* x, float* partial, int rows, int columns, int pitch, int chunk) {
  column_sum_kernel(x, partial, rows, columns, pitch, chunk);
}
extern "C" __global__ void __launch_bounds__(256)
    column_sum_bf16(const bf16* x, float* partial, int rows, int columns, int pitch, int chunk) {
  column_sum_kernel(x, partial, rows, columns, pitch, chunk);
}
EXPORT(column_sum_f32)
EXPORT(column_sum_bf16)

// out [columns] += Σ_chunks partial [chunks, columns]. Grid [⌈columns/32⌉] of 256 threads: eight groups take chunks in turn.
extern "C" __global__ void column_sum_finish(const float* partial, float* out, int chunks, int columns) {
  SHARED(float, sums[8][32]);
  const int group = threadIdx.x / 32, lane = threadIdx.x % 32, c = blockIdx.x * 32 + lane;
  float sum = 0.0f;
  if (c < columns) {
    for (int i = group; i < chunks; i += 8) sum += partial[static_cast<long long>(i) * columns + c];
  }
  sums[group][lane] = sum;
  __syncthreads();
  if (group == 0 && c < columns) {
    float all = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) all += sums[i][lane];
    out[c] += all;
  }
}
EXPORT(column_sum_finish)

// The sum over a block of 256 threads, in thread 0.
DEVICE double block_sum_double(double v) {
  SHARED(double, sums[8]);
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = v;
  __syncthreads();
  v = 0.0;
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < 8; i++) v += sums[i];
  }
  return v;
}

// partial [⌈n/65536⌉]: sums of squares in f64 of 65536 values of x [n] each. Grid [⌈n/65536⌉] of 256 threads; x is read once.
extern "C" __global__ void __launch_bounds__(256) sum_squares(const float* x, double* partial, long long n) {
  constexpr int VALUES = 1 << 16;
  const long long from = static_cast<long long>(blockIdx.x) * VALUES;
  const int count = static_cast<int>(min(n - from, static_cast<long long>(VALUES)));
  x += from;
  double sums[4] = {0.0, 0.0, 0.0, 0.0};
#pragma unroll 4
  for (int i = threadIdx.x; i < count / 4; i += 256) {
    const Pack<4> v = load_pack<4>(x + i * 4);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const double d = v.at[k];
      sums[k] += d * d;
    }
  }
  const int rest = count / 4 * 4 + threadIdx.x;
  if (rest < count) {
    const double d = x[rest];
    sums[0] += d * d;
  }
  const double all = block_sum_double((sums[0] + sums[1]) + (sums[2] + sums[3]));
  if (threadIdx.x == 0) partial[blockIdx.x] = all;
}
EXPORT(sum_squares)

// out = √Σ partial [count]: one block of 256 threads.
extern "C" __global__ void __launch_bounds__(256) sum_squares_finish(const double* partial, double* out, int count) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < count; i += 256) sum += partial[i];
  const double all = block_sum_double(sum);
  if (threadIdx.x == 0) *out = sqrt(all);
}
EXPORT(sum_squares_finish)
