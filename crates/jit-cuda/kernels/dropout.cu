// Dropout whose mask is a function of the element's address, so it is made again for the backward pass, never stored:
//
//   out = x/(1 − rate) where uniform i of the image's stream is at least `rate`, else 0
//
// i = row·columns + column within an image: x, out [batch·rows_per_image, columns], out may be x; streams [batch, 5]. Grid
// [min(⌈values/256⌉, 16·processors)] of 256 threads, no shared memory; 2 values moved a value, and the generator runs once for
// four.
#pragma once
#include "common.cuh"
#include "philox.cuh"

template <typename T>
DEVICE void dropout_kernel(const T* x, T* out, const unsigned* streams, float rate, int rows_per_image, int columns,
                           int pitch, int batch) {
  const float scale = 1.0f / (1.0f - rate);
  const long long rows = static_cast<long long>(batch) * rows_per_image;
  if (columns % 4 == 0) {
    const int packs = columns / 4;
    each(rows * packs, [&](long long i) {
      const long long row = i / packs;
      const int pack = static_cast<int>(i - row * packs), image = static_cast<int>(row / rows_per_image);
      const unsigned in_image = static_cast<unsigned>(row - static_cast<long long>(image) * rows_per_image);
      const long long at = row * pitch + pack * 4;
      Pack<4> v = load_pack<4>(x + at);
      const Words words = philox(streams + image * 5, in_image * packs + pack);
#pragma unroll
      for (int k = 0; k < 4; k++) v.at[k] *= unit(words.at[k]) >= rate ? scale : 0.0f;
      store_pack<4>(out + at, v);
    });
  } else {
    each(rows * columns, [&](long long i) {
      const long long row = i / columns;
      const int column = static_cast<int>(i - row * columns), image = static_cast<int>(row / rows_per_image);
      const unsigned in_image = static_cast<unsigned>(row - static_cast<long long>(image) * rows_per_image);
      const float keep = philox_uniform(streams + image * 5, in_image * columns + column) >= rate ? scale : 0.0f;
      const long long at = row * pitch + column;
      set(out[at], to_float(x[at]) * keep);
    });
  }
}
extern "C" __global__ void dropout_f32(const float* x, float* out, const unsigned* streams, float rate, int rows_per_image,
                                       int columns, int pitch, int batch) {
  dropout_kernel(x, out, streams, rate, rows_per_image, columns, pitch, batch);
}
extern "C" __global__ void dropout_bf16(const bf16* x, bf16* out, const unsigned* streams, float rate, int rows_per_image,
                                        int columns, int pitch, int batch) {
  dropout_kernel(x, out, streams, rate, rows_per_image, columns, pitch, batch);
}
EXPORT(dropout_f32)
EXPORT(dropout_bf16)
