// RMSNorm (Zhang & Sennrich 2019) and the adaLN modulation (Peebles & Xie 2023):
//
//   u = x·r, r = 1/√(mean(x²) + EPS);  y = u·w·(1 + scale_b) + shift_b
//
// x [B, N, D] is f32, y is what a product reads. mods [B, stride] holds an image's modulation vectors of D values each; `shift`
// and `scale` say which of them. A warp has a row, a lane four columns of every 128; the first columns of a row stay in registers.
#pragma once
#include "common.cuh"

namespace rms_norm {

constexpr float EPS = 1e-6f;
// Steps of 128 columns that a lane keeps: D = 1024 forward; fewer backward, where two rows are kept. What is beyond is read twice,
// and so is everything where columns do not come in fours.
template <bool WHOLE>
constexpr int KEPT = WHOLE ? 8 : 0;
template <bool WHOLE>
constexpr int KEPT_GRAD = WHOLE ? 6 : 0;

DEVICE float inverse_rms(float squares, int d) { return 1.0f / sqrtf(squares / static_cast<float>(d) + EPS); }

template <typename T, bool WHOLE>
DEVICE void forward(const float* x, const float* w, const float* shift, const float* scale, T* y, int d) {
  const int first = threadIdx.x % 32 * 4;
  constexpr int K = KEPT<WHOLE>;
  Pack<4> kept[K + 1];
#pragma unroll
  for (int k = 0; k < K; k++) kept[k] = load_columns<WHOLE>(x, k * 128 + first, d);
  float squares = 0.0f;
#pragma unroll
  for (int k = 0; k < K; k++) {
#pragma unroll
    for (int i = 0; i < 4; i++) squares += kept[k].at[i] * kept[k].at[i];
  }
  for (int c = K * 128 + first; c < d; c += 128) {
    const Pack<4> v = load_columns<WHOLE>(x, c, d);
#pragma unroll
    for (int i = 0; i < 4; i++) squares += v.at[i] * v.at[i];
  }
  const float r = inverse_rms(warp_sum(squares), d);
  const auto write = [&](int c, Pack<4> v) {
    const Pack<4> vw = load_columns<WHOLE>(w, c, d), vs = load_columns<WHOLE>(scale, c, d);
    const Pack<4> vb = load_columns<WHOLE>(shift, c, d);
#pragma unroll
    for (int i = 0; i < 4; i++) v.at[i] = v.at[i] * r * vw.at[i] * (1.0f + vs.at[i]) + vb.at[i];
    store_columns<WHOLE>(y, c, d, v);
  };
#pragma unroll
  for (int k = 0; k < K; k++) {
    if (k * 128 + first < d) write(k * 128 + first, kept[k]);
  }
  for (int c = K * 128 + first; c < d; c += 128) write(c, load_columns<WHOLE>(x, c, d));
}

// Σ x² and Σ dy·gain·x of a row.
struct Sums {
  float squares, dot;
};

// Warps take the block's tokens in turn. Each has its own sums over tokens of dy and of dy·u, [2, D] in shared memory, whose
// columns belong to one lane; at the end the warps' sums are added in order.
template <typename T, bool WHOLE>
DEVICE void backward(const float* x, const float* w, const float* scale, const T* dy, float* dx, float* partial, int count,
                     int d, int pitch, float* shared) {
  constexpr int K = KEPT_GRAD<WHOLE>;
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, first = threadIdx.x % 32 * 4;
  float* own = shared + warp * 2 * d;
  for (int c = first; c < d; c += 128) {
    store_columns<WHOLE>(own, c, d, Pack<4>{});
    store_columns<WHOLE>(own + d, c, d, Pack<4>{});
  }
  for (int token = warp; token < count; token += warps) {
    const float* row = x + static_cast<long long>(token) * d;
    const T* dy_row = dy + static_cast<long long>(token) * pitch;
    float* dx_row = dx + static_cast<long long>(token) * d;
    Pack<4> kept[K + 1], kept_dy[K + 1];
#pragma unroll
    for (int k = 0; k < K; k++) {
      kept[k] = load_columns<WHOLE>(row, k * 128 + first, d);
      kept_dy[k] = load_columns<WHOLE>(dy_row, k * 128 + first, d);
    }
    Sums sums = {0.0f, 0.0f};
    const auto add = [&](int c, const Pack<4>& v, const Pack<4>& g) {
      const Pack<4> vw = load_columns<WHOLE>(w, c, d), vs = load_columns<WHOLE>(scale, c, d);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        sums.squares += v.at[i] * v.at[i];
        sums.dot += g.at[i] * (vw.at[i] * (1.0f + vs.at[i])) * v.at[i];
      }
    };
#pragma unroll
    for (int k = 0; k < K; k++) {
      if (k * 128 + first < d) add(k * 128 + first, kept[k], kept_dy[k]);
    }
    for (int c = K * 128 + first; c < d; c += 128) {
      add(c, load_columns<WHOLE>(row, c, d), load_columns<WHOLE>(dy_row, c, d));
    }
    const float r = inverse_rms(warp_sum(sums.squares), d);
    // du/dx = r·(I − u·uᵀ/D), so dx += r·(dy·gain − u·mean(u·dy·gain)).
    const float mean = warp_sum(sums.dot) * r / static_cast<float>(d);
    const auto write = [&](int c, const Pack<4>& v, const Pack<4>& g) {
      const Pack<4> vw = load_columns<WHOLE>(w, c, d), vs = load_columns<WHOLE>(scale, c, d);
      Pack<4> out = load_columns<WHOLE>(dx_row, c, d);
      Pack<4> shift_sum = load_columns<WHOLE>(own, c, d), scale_sum = load_columns<WHOLE>(own + d, c, d);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float u = v.at[i] * r;
        out.at[i] += r * (g.at[i] * (vw.at[i] * (1.0f + vs.at[i])) - u * mean);
        shift_sum.at[i] += g.at[i];
        scale_sum.at[i] += g.at[i] * u;
      }
      store_columns<WHOLE>(dx_row, c, d, out);
      store_columns<WHOLE>(own, c, d, shift_sum);
      store_columns<WHOLE>(own + d, c, d, scale_sum);
    };
#pragma unroll
    for (int k = 0; k < K; k++) {
      if (k * 128 + first < d) write(k * 128 + first, kept[k], kept_dy[k]);
    }
    for (int c = K * 128 + first; c < d; c += 128) {
      write(c, load_columns<WHOLE>(row, c, d), load_columns<WHOLE>(dy_row, c, d));
    }
  }
  __syncthreads();
  for (int c = threadIdx.x; c < 2 * d; c += blockDim.x) {
    float sum = 0.0f;
    for (int i = 0; i < warps; i++) sum += shared[i * 2 * d + c];
    partial[c] = sum;
  }
}

}  // namespace rms_norm

// y [rows, pitch], rows = B·N. Grid [⌈rows/8⌉], 256 threads, no shared memory; 4 bytes read, 2 or 4 written a value.
template <typename T>
DEVICE void rms_norm_modulate_kernel(const float* x, const float* w, const float* mods, T* y, int rows, int tokens, int d,
                                     int pitch, int stride, int shift, int scale) {
  const int row = blockIdx.x * 8 + threadIdx.x / 32;
  if (row >= rows) return;
  const float* vectors = mods + static_cast<long long>(row / tokens) * stride;
  const float* x_row = x + static_cast<long long>(row) * d;
  T* y_row = y + static_cast<long long>(row) * pitch;
  if (d % 4 == 0 && stride % 4 == 0) {
    rms_norm::forward<T, true>(x_row, w, vectors + shift * d, vectors + scale * d, y_row, d);
  } else {
    rms_norm::forward<T, false>(x_row, w, vectors + shift * d, vectors + scale * d, y_row, d);
  }
}
extern "C" __global__ void __launch_bounds__(256) rms_norm_modulate_f32(const float* x, const float* w, const float* mods,
                                                                        float* y, int rows, int tokens, int d, int pitch,
                                                                        int stride, int shift, int scale) {
  rms_norm_modulate_kernel(x, w, mods, y, rows, tokens, d, pitch, stride, shift, scale);
}
extern "C" __global__ void __launch_bounds__(256) rms_norm_modulate_bf16(const float* x, const float* w, const float* mods,
                                                                         bf16* y, int rows, int tokens, int d, int pitch,
                                                                         int stride, int shift, int scale) {
  rms_norm_modulate_kernel(x, w, mods, y, rows, tokens, d, pitch, stride, shift, scale);
}
EXPORT(rms_norm_modulate_f32)
EXPORT(rms_norm_modulate_bf16)

// dx [B, N, D] is added into; partial [B, chunks, 2, D] gets the sums over a chunk's tokens of dy and of dy·u. Grid [chunks, B],
// 32·warps threads, warps·2·D f32 of shared memory; 8 bytes and a dy read, 4 written a value.
template <typename T>
DEVICE void rms_norm_modulate_grad_kernel(const float* x, const float* w, const float* mods, const T* dy, float* dx,
                                          float* partial, int tokens, int d, int pitch, int stride, int scale) {
  DYNAMIC_SHARED(float, shared);
  const int chunks = gridDim.x, chunk = blockIdx.x, image = blockIdx.y, each = (tokens + chunks - 1) / chunks;
  const int from = chunk * each, count = max(0, min(each, tokens - from));
  const long long row = static_cast<long long>(image) * tokens + from;
  const float* factor = mods + static_cast<long long>(image) * stride + scale * d;
  partial += (static_cast<long long>(image) * chunks + chunk) * 2 * d;
  if (d % 4 == 0 && stride % 4 == 0) {
    rms_norm::backward<T, true>(x + row * d, w, factor, dy + row * pitch, dx + row * d, partial, count, d, pitch, shared);
  } else {
    rms_norm::backward<T, false>(x + row * d, w, factor, dy + row * pitch, dx + row * d, partial, count, d, pitch, shared);
  }
}
extern "C" __global__ void __launch_bounds__(256)
    rms_norm_modulate_grad_f32(const float* x, const float* w, const float* mods, const float* dy, float* dx, float* partial,
                               int tokens, int d, int pitch, int stride, int shift, int scale) {
  rms_norm_modulate_grad_kernel(x, w, mods, dy, dx, partial, tokens, d, pitch, stride, scale);
}
extern "C" __global__ void __launch_bounds__(256)
    rms_norm_modulate_grad_bf16(const float* x, const float* w, const float* mods, const bf16* dy, float* dx, float* partial,
                                int tokens, int d, int pitch, int stride, int shift, int scale) {
  rms_norm_modulate_grad_kernel(x, w, mods, dy, dx, partial, tokens, d, pitch, stride, scale);
}
EXPORT(rms_norm_modulate_grad_f32)
EXPORT(rms_norm_modulate_grad_bf16)

// From partial [B, chunks, 2, D]: dshift_b += Σ dy and dscale_b += w·Σ dy·u, both in dmod [B, stride]; an image's share of the
// weight's gradient, (1 + scale_b)·Σ dy·u, in dweight_partial [B, D]. Grid [⌈D/256⌉, B], 256 threads.
extern "C" __global__ void rms_norm_modulate_grad_finish(const float* partial, const float* w, const float* mods, float* dmod,
                                                         float* dweight_partial, int batch, int chunks, int d, int stride,
                                                         int shift, int scale) {
  const int c = blockIdx.x * 256 + threadIdx.x, image = blockIdx.y;
  if (c >= d || image >= batch) return;
  const float* sums = partial + static_cast<long long>(image) * chunks * 2 * d + c;
  float dshift = 0.0f, du = 0.0f;
  for (int i = 0; i < chunks; i++) {
    dshift += sums[static_cast<long long>(i) * 2 * d];
    du += sums[static_cast<long long>(i) * 2 * d + d];
  }
  const long long row = static_cast<long long>(image) * stride;
  dmod[row + shift * d + c] += dshift;
  dmod[row + scale * d + c] += du * w[c];
  dweight_partial[static_cast<long long>(image) * d + c] = du * (1.0f + mods[row + scale * d + c]);
}
EXPORT(rms_norm_modulate_grad_finish)
