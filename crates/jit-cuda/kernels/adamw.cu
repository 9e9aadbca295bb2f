// AdamW (Loshchilov & Hutter 2019), the weights' rounded copy and the exponential moving averages, in one pass over memory:
//
//   g ← scale·g, scale = min(1, clip/(norm + 1e-6)), 1 where clip is 0
//   m ← beta1·m + (1 − beta1)·g      v ← beta2·v + (1 − beta2)·g²
//   w ← w·(1 − lr·weight_decay) − lr/bias1·m/(√v/√bias2 + eps)
//   ema ← decay·ema + (1 − decay)·w
//
// Scalars come derived in f64 and then rounded: shrink = 1 − lr·weight_decay, rest = 1 − beta, rate = lr/bias1, root = 1/√bias2.
// Products and sums are rounded one by one, as PyTorch rounds them, and agree with the processor's to the bit. Where the norm is
// not finite nothing moves.
//
// Grid [min(⌈values/256⌉, 16·processors)] of 256 threads, four values a thread at a time, no shared memory. 28 bytes a value, 2
// more for the copy, 8 for each average.
#pragma once
#include "common.cuh"

struct Step {
  float grad_scale, shrink, beta1, rest1, beta2, rest2, rate, root, eps;
};
struct Average {
  float* values;
  float decay, rest;
};

DEVICE bool is_finite(double x) { return x - x == 0.0; }
// a·x + b·y, every operation rounded.
DEVICE float weighted(float a, float x, float b, float y) { return __fadd_rn(__fmul_rn(a, x), __fmul_rn(b, y)); }

template <int W>
DEVICE void average_pack(const Average& average, long long at, const Pack<W>& w) {
  if (!average.values) return;
  Pack<W> ema = load_pack<W>(average.values + at);
#pragma unroll
  for (int k = 0; k < W; k++) ema.at[k] = weighted(average.decay, ema.at[k], average.rest, w.at[k]);
  store_pack<W>(average.values + at, ema);
}

// w, g, m, v and averages [rows, columns]; rounded [rows, pitch], or null.
template <int W>
DEVICE void adamw_packs(float* w, const float* g, float* m, float* v, bf16* rounded, const Step& s, const Average& a0,
                        const Average& a1, const Average& a2, const Average& a3, int rows, int columns, int pitch) {
  const int packs = columns / W;
  each(static_cast<long long>(rows) * packs, [&](long long i) {
    const long long at = i * W;
    Pack<W> vw = load_pack<W>(w + at), vm = load_pack<W>(m + at), vv = load_pack<W>(v + at);
    const Pack<W> vg = load_pack<W>(g + at);
#pragma unroll
    for (int k = 0; k < W; k++) {
      const float scaled = __fmul_rn(s.grad_scale, vg.at[k]);
      vm.at[k] = weighted(s.beta1, vm.at[k], s.rest1, scaled);
      vv.at[k] = weighted(s.beta2, vv.at[k], s.rest2, __fmul_rn(scaled, scaled));
      const float below = __fadd_rn(__fmul_rn(sqrtf(vv.at[k]), s.root), s.eps);
      vw.at[k] = __fsub_rn(__fmul_rn(vw.at[k], s.shrink), __fmul_rn(s.rate, vm.at[k]) / below);
    }
    store_pack<W>(m + at, vm);
    store_pack<W>(v + at, vv);
    store_pack<W>(w + at, vw);
    if (rounded) {
      const long long row = i / packs;
      store_pack<W>(rounded + row * pitch + (i - row * packs) * W, vw);
    }
    average_pack<W>(a0, at, vw);
    average_pack<W>(a1, at, vw);
    average_pack<W>(a2, at, vw);
    average_pack<W>(a3, at, vw);
  });
}

extern "C" __global__ void __launch_bounds__(256)
    adamw(float* w, const float* g, float* m, float* v, bf16* rounded, float* ema0, float* ema1, float* ema2, float* ema3,
          const double* norm, float clip, float shrink, float beta1, float rest1, float beta2, float rest2, float rate,
          float root, float eps, float decay0, float rest_0, float decay1, float rest_1, float decay2, float rest_2,
          float decay3, float rest_3, int rows, int columns, int pitch) {
  const double length = *norm;
  if (!is_finite(length)) return;
  const double ratio = static_cast<double>(clip) / (length + 1e-6);
  const float grad_scale = clip == 0.0f || ratio >= 1.0 ? 1.0f : static_cast<float>(ratio);
  const Step step = {grad_scale, shrink, beta1, rest1, beta2, rest2, rate, root, eps};
  const Average a0 = {ema0, decay0, rest_0}, a1 = {ema1, decay1, rest_1};
  const Average a2 = {ema2, decay2, rest_2}, a3 = {ema3, decay3, rest_3};
  if (columns % 4 == 0) {
    adamw_packs<4>(w, g, m, v, rounded, step, a0, a1, a2, a3, rows, columns, pitch);
  } else {
    adamw_packs<1>(w, g, m, v, rounded, step, a0, a1, a2, a3, rows, columns, pitch);
  }
}
EXPORT(adamw)

// ema [n] = decay·ema + rest·w, for averages beyond those of `adamw`. 12 bytes a value.
extern "C" __global__ void ema(const float* w, float* ema, const double* norm, float decay, float rest, long long n) {
  if (!is_finite(*norm)) return;
  map(ema, w, ema, n, [=](float average, float w) { return weighted(decay, average, rest, w); });
}
EXPORT(ema)
