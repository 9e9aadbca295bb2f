// SwiGLU (Shazeer 2020): y = silu(a)·b, with h [rows, 2·m] holding a in its first m columns and b in its last, y [rows, m].
//
// Grid [min(⌈rows·m/256⌉, 16·processors)] of 256 threads, 16 bytes a thread at a time; no shared memory.
#pragma once
#include "common.cuh"
#include "activation.cu"

// 3 values moved a value of y.
template <typename T, int W>
DEVICE void swiglu_packs(const T* h, T* y, int rows, int m, int pitch_h, int pitch_y) {
  const int packs = m / W;
  each(static_cast<long long>(rows) * packs, [&](long long i) {
    const long long row = i / packs;
    const int c = static_cast<int>(i - row * packs) * W;
    const T* a = h + row * pitch_h + c;
    Pack<W> va = load_pack<W>(a);
    const Pack<W> vb = load_pack<W>(a + m);
#pragma unroll
    for (int k = 0; k < W; k++) va.at[k] = va.at[k] * sigmoid<T>(va.at[k]) * vb.at[k];
    store_pack<W>(y + row * pitch_y + c, va);
  });
}

// Where m is no multiple of 8, the second half of a bf16 row begins anywhere: it is moved one by one, all else still 16 bytes at
// a time. Rows of y and dy have room up to a multiple of 8.
DEVICE Pack<8> load_anywhere(const bf16* from, int count) {
  Pack<8> r;
#pragma unroll
  for (int k = 0; k < 8; k++) r.at[k] = k < count ? to_float(from[k]) : 0.0f;
  return r;
}
DEVICE void store_anywhere(bf16* to, const Pack<8>& v, int count) {
#pragma unroll
  for (int k = 0; k < 8; k++) {
    if (k < count) to[k] = to_bf16(v.at[k]);
  }
}
DEVICE void swiglu_odd(const bf16* h, bf16* y, int rows, int m, int pitch_h, int pitch_y) {
  const int packs = (m + 7) / 8;
  each(static_cast<long long>(rows) * packs, [&](long long i) {
    const long long row = i / packs;
    const int c = static_cast<int>(i - row * packs) * 8;
    const bf16* a = h + row * pitch_h + c;
    Pack<8> va = load_pack<8>(a);
    const Pack<8> vb = load_anywhere(a + m, m - c);
#pragma unroll
    for (int k = 0; k < 8; k++) va.at[k] = va.at[k] * sigmoid<bf16>(va.at[k]) * vb.at[k];
    store_pack<8>(y + row * pitch_y + c, va);
  });
}
DEVICE void swiglu_grad_odd(const bf16* h, const bf16* dy, bf16* dh, bf16* y, int rows, int m, int pitch_h,
                            int pitch_y) {
  const int packs = (m + 7) / 8;
  each(static_cast<long long>(rows) * packs, [&](long long i) {
    const long long row = i / packs;
    const int c = static_cast<int>(i - row * packs) * 8;
    const long long at = row * pitch_h + c;
    const Pack<8> va = load_pack<8>(h + at), vb = load_anywhere(h + at + m, m - c);
    const Pack<8> vd = load_pack<8>(dy + row * pitch_y + c);
    Pack<8> da, db, vy;
#pragma unroll
    for (int k = 0; k < 8; k++) {
      const float a = va.at[k], gate = sigmoid<bf16>(a), silu = a * gate;
      da.at[k] = vd.at[k] * vb.at[k] * silu_slope(a, gate);
      db.at[k] = vd.at[k] * silu;
      vy.at[k] = silu * vb.at[k];
    }
    if (c + 8 <= m) {
      store_pack<8>(dh + at, da);
    } else {
      store_anywhere(dh + at, da, m - c);
    }
    store_anywhere(dh + at + m, db, m - c);
    store_pack<8>(y + row * pitch_y + c, vy);
  });
}

// Overwrites dh [rows, 2·m] and y [rows, m], the output again: the gate that the gradient needs gives it for nothing.
// 6 values moved a value of y.
template <typename T, int W>
DEVICE void swiglu_grad_packs(const T* h, const T* dy, T* dh, T* y, int rows, int m, int pitch_h, int pitch_y) {
  const int packs = m / W;
  each(static_cast<long long>(rows) * packs, [&](long long i) {
    const long long row = i / packs;
    const int c = static_cast<int>(i - row * packs) * W;
    const long long at = row * pitch_h + c;
    const Pack<W> va = load_pack<W>(h + at), vb = load_pack<W>(h + at + m), vd = load_pack<W>(dy + row * pitch_y + c);
    Pack<W> da, db, vy;
#pragma unroll
    for (int k = 0; k < W; k++) {
      const float a = va.at[k], gate = sigmoid<T>(a), silu = a * gate;
      da.at[k] = vd.at[k] * vb.at[k] * silu_slope(a, gate);
      db.at[k] = vd.at[k] * silu;
      vy.at[k] = silu * vb.at[k];
    }
    store_pack<W>(dh + at, da);
    store_pack<W>(dh + at + m, db);
    store_pack<W>(y + row * pitch_y + c, vy);
  });
}

extern "C" __global__ void swiglu_f32(const float* h, float* y, int rows, int m, int pitch_h, int pitch_y) {
  if (m % 4 == 0) {
    swiglu_packs<float, 4>(h, y, rows, m, pitch_h, pitch_y);
  } else {
    swiglu_packs<float, 1>(h, y, rows, m, pitch_h, pitch_y);
  }
}
extern "C" __global__ void swiglu_bf16(const bf16* h, bf16* y, int rows, int m, int pitch_h, int pitch_y) {
  if (m % 8 == 0) {
    swiglu_packs<bf16, 8>(h, y, rows, m, pitch_h, pitch_y);
  } else {
    swiglu_odd(h, y, rows, m, pitch_h, pitch_y);
  }
}
extern "C" __global__ void swiglu_grad_f32(const float* h, const float* dy, float* dh, float* y, int rows, int m,
                                           int pitch_h, int pitch_y) {
  if (m % 4 == 0) {
    swiglu_grad_packs<float, 4>(h, dy, dh, y, rows, m, pitch_h, pitch_y);
  } else {
    swiglu_grad_packs<float, 1>(h, dy, dh, y, rows, m, pitch_h, pitch_y);
  }
}
extern "C" __global__ void swiglu_grad_bf16(const bf16* h, const bf16* dy, bf16* dh, bf16* y, int rows, int m,
                                            int pitch_h, int pitch_y) {
  if (m % 8 == 0) {
    swiglu_grad_packs<bf16, 8>(h, dy, dh, y, rows, m, pitch_h, pitch_y);
  } else {
    swiglu_grad_odd(h, dy, dh, y, rows, m, pitch_h, pitch_y);
  }
}
EXPORT(swiglu_f32)
EXPORT(swiglu_bf16)
EXPORT(swiglu_grad_f32)
EXPORT(swiglu_grad_bf16)
