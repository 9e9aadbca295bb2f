// Images [B, C, S, S] to patch rows and back: patches of p×p, g = S/p of them a side, N = g² tokens.
//
// Grid [min(⌈values/256⌉, 16·processors)] of 256 threads, no shared memory; a value is read and written once.
#pragma once
#include "common.cuh"

// Rows for a p×p convolution of stride p, written as a matrix product: out [B, N, C·p·p], columns in the order (c, p, q) of a
// flattened convolution weight. W neighbours of a patch's row at a time.
template <typename T, int W>
DEVICE void patchify_packs(const float* x, T* out, int batch, int channels, int side, int patch, int pitch) {
  const int grid = side / patch, tokens = grid * grid, square = patch * patch, packs = channels * square / W;
  each(static_cast<long long>(batch) * tokens * packs, [&](long long i) {
    const long long row = i / packs;
    const int column = static_cast<int>(i - row * packs) * W, channel = column / square;
    const int p = column % square / patch, q = column % patch;
    const int image = static_cast<int>(row / tokens), token = static_cast<int>(row - static_cast<long long>(image) * tokens);
    const int y = token / grid * patch + p, at = token % grid * patch + q;
    const float* from = x + ((static_cast<long long>(image) * channels + channel) * side + y) * side + at;
    store_pack<W>(out + row * pitch + column, load_pack<W>(from));
  });
}
template <typename T>
DEVICE void patchify_kernel(const float* x, T* out, int batch, int channels, int side, int patch, int pitch) {
  if (patch % 4 == 0) {
    patchify_packs<T, 4>(x, out, batch, channels, side, patch, pitch);
  } else {
    patchify_packs<T, 1>(x, out, batch, channels, side, patch, pitch);
  }
}
extern "C" __global__ void patchify_f32(const float* x, float* out, int batch, int channels, int side, int patch,
                                        int pitch) {
  patchify_kernel(x, out, batch, channels, side, patch, pitch);
}
extern "C" __global__ void patchify_bf16(const float* x, bf16* out, int batch, int channels, int side, int patch,
                                         int pitch) {
  patchify_kernel(x, out, batch, channels, side, patch, pitch);
}
EXPORT(patchify_f32)
EXPORT(patchify_bf16)

// Images from output rows, `n h w p q c -> n c (h p) (w q)`: tokens [B, N, p·p·C]. A thread has a pixel in all its channels, which
// lie together in a token.
extern "C" __global__ void unpatchify(const float* tokens, float* out, int batch, int channels, int side, int patch) {
  const int grid = side / patch, pixels = side * side;
  each(static_cast<long long>(batch) * pixels, [&](long long i) {
    const int image = static_cast<int>(i / pixels), pixel = static_cast<int>(i - static_cast<long long>(image) * pixels);
    const int y = pixel / side, x = pixel - y * side;
    const long long row = static_cast<long long>(image) * grid * grid + y / patch * grid + x / patch;
    const float* from = tokens + ((row * patch + y % patch) * patch + x % patch) * channels;
    float* to = out + static_cast<long long>(image) * channels * pixels + pixel;
    for (int c = 0; c < channels; c++) to[static_cast<long long>(c) * pixels] = from[c];
  });
}
EXPORT(unpatchify)

// Its gradient, the inverse: dx [B, C, S, S] to out [B, N, p·p·C]. W columns at a time, collected from their planes.
template <typename T, int W>
DEVICE void unpatchify_grad_packs(const float* dx, T* out, int batch, int channels, int side, int patch, int pitch) {
  const int grid = side / patch, tokens = grid * grid, packs = patch * patch * channels / W;
  const long long pixels = static_cast<long long>(side) * side;
  each(static_cast<long long>(batch) * tokens * packs, [&](long long i) {
    const long long row = i / packs;
    const int column = static_cast<int>(i - row * packs) * W;
    const int image = static_cast<int>(row / tokens), token = static_cast<int>(row - static_cast<long long>(image) * tokens);
    const float* from = dx + static_cast<long long>(image) * channels * pixels +
                        static_cast<long long>(token / grid * patch) * side + token % grid * patch;
    Pack<W> v;
#pragma unroll
    for (int k = 0; k < W; k++) {
      const int place = (column + k) / channels, channel = (column + k) - place * channels;
      v.at[k] = from[channel * pixels + place / patch * side + place % patch];
    }
    store_pack<W>(out + row * pitch + column, v);
  });
}
template <typename T>
DEVICE void unpatchify_grad_kernel(const float* dx, T* out, int batch, int channels, int side, int patch, int pitch) {
  if (patch * patch * channels % 4 == 0) {
    unpatchify_grad_packs<T, 4>(dx, out, batch, channels, side, patch, pitch);
  } else {
    unpatchify_grad_packs<T, 1>(dx, out, batch, channels, side, patch, pitch);
  }
}
extern "C" __global__ void unpatchify_grad_f32(const float* dx, float* out, int batch, int channels, int side, int patch,
                                               int pitch) {
  unpatchify_grad_kernel(dx, out, batch, channels, side, patch, pitch);
}
extern "C" __global__ void unpatchify_grad_bf16(const float* dx, bf16* out, int batch, int channels, int side, int patch,
                                                int pitch) {
  unpatchify_grad_kernel(dx, out, batch, channels, side, patch, pitch);
}
EXPORT(unpatchify_grad_f32)
EXPORT(unpatchify_grad_bf16)
