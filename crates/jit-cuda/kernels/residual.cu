// The gated residual connection of adaLN-Zero: out = x + gate_b·y, with one gate vector an image.
//
// x, out, dout [B, N, D] are f32; y, dy [B, N, D] have a pitch; the gate is vector `index` of an image's row of mods [B, stride].
#pragma once
#include "common.cuh"

// Grid [min(⌈rows·d/256⌉, 16·processors)] of 256 threads, rows = B·N; 4 bytes and a y read, 4 written a value.
template <typename T, int W>
DEVICE void gated_residual_packs(const float* x, const T* y, const float* mods, float* out, int rows, int tokens, int d,
                                 int pitch, int stride, int index) {
  const int packs = d / W;
  each(static_cast<long long>(rows) * packs, [&](long long i) {
    const long long row = i / packs;
    const int c = static_cast<int>(i - row * packs) * W, image = static_cast<int>(row) / tokens;
    Pack<W> v = load_pack<W>(x + i * W);
    const Pack<W> u = load_pack<W>(y + row * pitch + c);
    const Pack<W> gate = load_pack<W>(mods + static_cast<long long>(image) * stride + index * d + c);
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] += gate.at[k] * u.at[k];
    store_pack<W>(out + i * W, v);
  });
}
template <typename T>
DEVICE void gated_residual_kernel(const float* x, const T* y, const float* mods, float* out, int rows, int tokens, int d,
                                  int pitch, int stride, int index) {
  if (d % 4 == 0 && stride % 4 == 0) {
    gated_residual_packs<T, 4>(x, y, mods, out, rows, tokens, d, pitch, stride, index);
  } else {
    gated_residual_packs<T, 1>(x, y, mods, out, rows, tokens, d, pitch, stride, index);
  }
}
extern "C" __global__ void gated_residual_f32(const float* x, const float* y, const float* mods, float* out, int rows,
                                              int tokens, int d, int pitch, int stride, int index) {
  gated_residual_kernel(x, y, mods, out, rows, tokens, d, pitch, stride, index);
}
extern "C" __global__ void gated_residual_bf16(const float* x, const bf16* y, const float* mods, float* out, int rows,
                                               int tokens, int d, int pitch, int stride, int index) {
  gated_residual_kernel(x, y, mods, out, rows, tokens, d, pitch, stride, index);
}
EXPORT(gated_residual_f32)
EXPORT(gated_residual_bf16)

// dy = gate_b·dout; partial [B, chunks, D] gets the sums over a chunk's tokens of dout·y. Grid [⌈d/128⌉, chunks, B] of 256
// threads: a lane has four of the block's 128 columns, a warp every eighth token. The warps' sums meet in 4 KiB of shared memory.
// 4 bytes and a y read, a dy written a value.
template <typename T, bool WHOLE>
DEVICE void gated_residual_grad_columns(const T* y, const float* gate, const float* dout, T* dy, float* partial, int count,
                                        int d, int pitch, float (*sums)[128]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, c = blockIdx.x * 128 + lane * 4;
  const Pack<4> g = load_columns<WHOLE>(gate, c, d);
  Pack<4> sum = {};
#pragma unroll 4
  for (int token = warp; token < count; token += 8) {
    Pack<4> v = load_columns<WHOLE>(dout + static_cast<long long>(token) * d, c, d);
    const Pack<4> u = load_columns<WHOLE>(y + static_cast<long long>(token) * pitch, c, d);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      sum.at[i] += v.at[i] * u.at[i];
      v.at[i] *= g.at[i];
    }
    store_columns<WHOLE>(dy + static_cast<long long>(token) * pitch, c, d, v);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) sums[warp][lane * 4 + i] = sum.at[i];
  __syncthreads();
  const int column = blockIdx.x * 128 + threadIdx.x;
  if (threadIdx.x < 128 && column < d) {
    float all = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) all += sums[i][threadIdx.x];
    partial[column] = all;
  }
}
template <typename T>
DEVICE void gated_residual_grad_kernel(const T* y, const float* mods, const float* dout, T* dy, float* partial, int tokens,
                                       int d, int pitch, int stride, int index) {
  SHARED(float, sums[8][128]);
  const int chunks = gridDim.y, chunk = blockIdx.y, image = blockIdx.z, each = (tokens + chunks - 1) / chunks;
  const int from = chunk * each, count = max(0, min(each, tokens - from));
  const long long row = static_cast<long long>(image) * tokens + from;
  const float* gate = mods + static_cast<long long>(image) * stride + index * d;
  partial += (static_cast<long long>(image) * chunks + chunk) * d;
  if (d % 4 == 0 && stride % 4 == 0) {
    gated_residual_grad_columns<T, true>(y + row * pitch, gate, dout + row * d, dy + row * pitch, partial, count, d, pitch, sums);
  } else {
    gated_residual_grad_columns<T, false>(y + row * pitch, gate, dout + row * d, dy + row * pitch, partial, count, d, pitch, sums);
  }
}
extern "C" __global__ void __launch_bounds__(256)
    gated_residual_grad_f32(const float* y, const float* mods, const float* dout, float* dy, float* partial, int tokens, int d,
                            int pitch, int stride, int index) {
  gated_residual_grad_kernel(y, mods, dout, dy, partial, tokens, d, pitch, stride, index);
}
extern "C" __global__ void __launch_bounds__(256)
    gated_residual_grad_bf16(const bf16* y, const float* mods, const float* dout, bf16* dy, float* partial, int tokens, int d,
                             int pitch, int stride, int index) {
  gated_residual_grad_kernel(y, mods, dout, dy, partial, tokens, d, pitch, stride, index);
}
EXPORT(gated_residual_grad_f32)
EXPORT(gated_residual_grad_bf16)

// dmod [B, stride] += Σ_chunks partial [B, chunks, D], at the gate's place. Grid [⌈d/256⌉, B] of 256 threads.
extern "C" __global__ void gated_residual_grad_finish(const float* partial, float* dmod, int batch, int chunks, int d,
                                                      int stride, int index) {
  const int c = blockIdx.x * 256 + threadIdx.x, image = blockIdx.y;
  if (c >= d || image >= batch) return;
  float sum = 0.0f;
  for (int i = 0; i < chunks; i++) sum += partial[(static_cast<long long>(image) * chunks + i) * d + c];
  dmod[static_cast<long long>(image) * stride + index * d + c] += sum;
}
EXPORT(gated_residual_grad_finish)
