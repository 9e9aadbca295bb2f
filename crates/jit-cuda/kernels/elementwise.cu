// Sums, conversions between f32 and bf16, and between what a network's output stands for.
//
// All stride over the grid [min(⌈work/256⌉, 16·processors)] of 256 threads, 16 bytes a thread at a time; no shared memory.
#pragma once
#include "common.cuh"

// y[rows, pitch] = x[rows, columns] in bf16. 6 bytes a value. Four values at a time: eight would leave gaps between
// what neighbouring threads touch of the f32 side.
template <int W>
DEVICE void cast_rows_to_bf16(const float* x, bf16* y, int rows, int columns, int pitch) {
  const int packs = columns / W;
  each(static_cast<long long>(rows) * packs, [&](long long i) {
    const long long row = i / packs;
    store_pack<W>(y + row * pitch + (i - row * packs) * W, load_pack<W>(x + i * W));
  });
}
extern "C" __global__ void cast_to_bf16(const float* x, bf16* y, int rows, int columns, int pitch) {
  if (columns % 4 == 0) {
    cast_rows_to_bf16<4>(x, y, rows, columns, pitch);
  } else {
    cast_rows_to_bf16<1>(x, y, rows, columns, pitch);
  }
}
EXPORT(cast_to_bf16)

// y[rows, columns] = x[rows, pitch] in f32. 6 bytes a value.
template <int W>
DEVICE void cast_rows_to_f32(const bf16* x, float* y, int rows, int columns, int pitch) {
  const int packs = columns / W;
  each(static_cast<long long>(rows) * packs, [&](long long i) {
    const long long row = i / packs;
    store_pack<W>(y + i * W, load_pack<W>(x + row * pitch + (i - row * packs) * W));
  });
}
extern "C" __global__ void cast_to_f32(const bf16* x, float* y, int rows, int columns, int pitch) {
  if (columns % 4 == 0) {
    cast_rows_to_f32<4>(x, y, rows, columns, pitch);
  } else {
    cast_rows_to_f32<1>(x, y, rows, columns, pitch);
  }
}
EXPORT(cast_to_f32)

// x[n] += y[n]. 12 bytes a value.
extern "C" __global__ void add_assign(float* x, const float* y, long long n) {
  map(x, y, x, n, [](float x, float y) { return x + y; });
}
EXPORT(add_assign)

// out[n] = a·x[n] + b·y[n], out may be x or y. 12 bytes a value. Rounded step by step, as the processor does.
extern "C" __global__ void axpby(float a, const float* x, float b, const float* y, float* out, long long n) {
  map(x, y, out, n, [=](float x, float y) { return __fadd_rn(__fmul_rn(a, x), __fmul_rn(b, y)); });
}
EXPORT(axpby)

// z = t·x + (1 − t)·noise: x, noise, z [B, per_image], t [B], n = B·per_image. 12 bytes a value.
template <int W>
DEVICE void interpolate_packs(const float* x, const float* noise, const float* t, float* z, long long per_image,
                              long long n) {
  const long long packs = per_image / W;
  each(n / W, [&](long long i) {
    const float s = t[i / packs], rest = 1.0f - s;
    Pack<W> v = load_pack<W>(x + i * W);
    const Pack<W> e = load_pack<W>(noise + i * W);
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] = __fadd_rn(__fmul_rn(s, v.at[k]), __fmul_rn(rest, e.at[k]));
    store_pack<W>(z + i * W, v);
  });
}
extern "C" __global__ void interpolate(const float* x, const float* noise, const float* t, float* z,
                                       long long per_image, long long n) {
  if (per_image % 4 == 0) {
    interpolate_packs<4>(x, noise, t, z, per_image, n);
  } else {
    interpolate_packs<1>(x, noise, t, z, per_image, n);
  }
}
EXPORT(interpolate)

// What a prediction stands for: the clean image x, the noise, or the velocity v = x − noise.
enum Space { SPACE_X = 0, SPACE_EPS = 1, SPACE_V = 2 };

// A conversion between spaces, (a·net + b·z)/divisor.
struct Conversion {
  float a, b, divisor;
};

// The table of Li & He 2025, with both denominators kept at or above t_eps.
DEVICE Conversion conversion(int from, int to, float t, float t_eps) {
  const float rest = 1.0f - t, d = fmaxf(rest, t_eps), d_eps = fmaxf(t, t_eps);
  if (from == to) return {1.0f, 0.0f, 1.0f};
  if (from == SPACE_X) return to == SPACE_EPS ? Conversion{-t, 1.0f, d} : Conversion{1.0f, -1.0f, d};
  if (from == SPACE_EPS) return to == SPACE_X ? Conversion{-rest, 1.0f, d_eps} : Conversion{-1.0f, 1.0f, d_eps};
  return to == SPACE_X ? Conversion{rest, 1.0f, 1.0f} : Conversion{-t, 1.0f, 1.0f};
}
// Rounded step by step: an error is a small difference, and the processor's is to be the same.
DEVICE float converted(const Conversion& c, float net, float z) {
  return __fadd_rn(__fmul_rn(c.a, net), __fmul_rn(c.b, z)) / c.divisor;
}

// out = net converted from one space to another: net, z, out [B, per_image], t [B]. 12 bytes a value.
template <int W>
DEVICE void convert_packs(const float* net, const float* z, const float* t, float t_eps, int from, int to, float* out,
                          long long per_image, long long n) {
  const long long packs = per_image / W;
  each(n / W, [&](long long i) {
    const Conversion c = conversion(from, to, t[i / packs], t_eps);
    Pack<W> v = load_pack<W>(net + i * W);
    const Pack<W> u = load_pack<W>(z + i * W);
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] = converted(c, v.at[k], u.at[k]);
    store_pack<W>(out + i * W, v);
  });
}
extern "C" __global__ void convert_space(const float* net, const float* z, const float* t, float t_eps, int from, int to,
                                         float* out, long long per_image, long long n) {
  if (per_image % 4 == 0) {
    convert_packs<4>(net, z, t, t_eps, from, to, out, per_image, n);
  } else {
    convert_packs<1>(net, z, t, t_eps, from, to, out, per_image, n);
  }
}
EXPORT(convert_space)
