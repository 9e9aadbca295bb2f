// Rows and tokens: what is added, looked up, joined, parted, averaged, turned. All f32.
//
// Where nothing else is said, the grid is [min(⌈values/256⌉, 16·processors)] of 256 threads, without shared memory, and values are
// read and written once, four at a time where rows divide by four.
#pragma once
#include "common.cuh"

// out [n] = x [n] + rows [period], again and again; out may be x. rows [N, D] stay in the cache.
template <int W>
DEVICE void add_rows_packs(const float* x, const float* rows, float* out, long long n, long long period) {
  const long long packs = period / W;
  each(n / W, [&](long long i) {
    Pack<W> v = load_pack<W>(x + i * W);
    const Pack<W> u = load_pack<W>(rows + i % packs * W);
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] += u.at[k];
    store_pack<W>(out + i * W, v);
  });
}
extern "C" __global__ void add_rows(const float* x, const float* rows, float* out, long long n, long long period) {
  if (period % 4 == 0) {
    add_rows_packs<4>(x, rows, out, n, period);
  } else {
    add_rows_packs<1>(x, rows, out, n, period);
  }
}
EXPORT(add_rows)

// drows [period] += dy [batch, period], image after image. Grid over `period`.
template <int W>
DEVICE void add_rows_grad_packs(const float* dy, float* drows, int batch, long long period) {
  each(period / W, [&](long long i) {
    Pack<W> sum = load_pack<W>(drows + i * W);
#pragma unroll 8
    for (int b = 0; b < batch; b++) {
      const Pack<W> v = load_pack<W>(dy + b * period + i * W);
#pragma unroll
      for (int k = 0; k < W; k++) sum.at[k] += v.at[k];
    }
    store_pack<W>(drows + i * W, sum);
  });
}
extern "C" __global__ void add_rows_grad(const float* dy, float* drows, int batch, long long period) {
  if (period % 4 == 0) {
    add_rows_grad_packs<4>(dy, drows, batch, period);
  } else {
    add_rows_grad_packs<1>(dy, drows, batch, period);
  }
}
EXPORT(add_rows_grad)

// out [n, width] = table [R, width] at index [n], each below R.
template <int W>
DEVICE void gather_rows_packs(const float* table, const int* index, float* out, int n, int width) {
  const int packs = width / W;
  each(static_cast<long long>(n) * packs, [&](long long i) {
    const long long row = i / packs, from = static_cast<long long>(index[row]) * packs + (i - row * packs);
    store_pack<W>(out + i * W, load_pack<W>(table + from * W));
  });
}
extern "C" __global__ void gather_rows(const float* table, const int* index, float* out, int n, int width) {
  if (width % 4 == 0) {
    gather_rows_packs<4>(table, index, out, n, width);
  } else {
    gather_rows_packs<1>(table, index, out, n, width);
  }
}
EXPORT(gather_rows)

// dtable [rows, width] at index[i] += dy [n, width] at i, in order of i, so that repeated indices always sum the same way.
// Grid [⌈width/256⌉, rows] of 256 threads: a block has a row, and looks for it.
extern "C" __global__ void gather_rows_grad(const float* dy, const int* index, float* dtable, int n, int rows, int width) {
  const int c = blockIdx.x * 256 + threadIdx.x, row = blockIdx.y;
  if (c >= width || row >= rows) return;
  float* to = dtable + static_cast<long long>(row) * width + c;
  float sum = 0.0f;
  bool found = false;
#pragma unroll 4
  for (int i = 0; i < n; i++) {
    if (index[i] != row) continue;
    if (!found) sum = *to;
    found = true;
    sum += dy[static_cast<long long>(i) * width + c];
  }
  if (found) *to = sum;
}
EXPORT(gather_rows_grad)

// out [batch, n1 + n2, d] = a [batch, n1, d], then b [batch, n2, d].
template <int W>
DEVICE void concat_tokens_packs(const float* a, const float* b, float* out, int batch, int n1, int n2, int d) {
  const long long first = static_cast<long long>(n1) * (d / W), rest = static_cast<long long>(n2) * (d / W);
  each(batch * (first + rest), [&](long long i) {
    const long long image = i / (first + rest), at = i - image * (first + rest);
    const float* from = at < first ? a + (image * first + at) * W : b + (image * rest + at - first) * W;
    store_pack<W>(out + i * W, load_pack<W>(from));
  });
}
extern "C" __global__ void concat_tokens(const float* a, const float* b, float* out, int batch, int n1, int n2, int d) {
  if (d % 4 == 0) {
    concat_tokens_packs<4>(a, b, out, batch, n1, n2, d);
  } else {
    concat_tokens_packs<1>(a, b, out, batch, n1, n2, d);
  }
}
EXPORT(concat_tokens)

// first [batch, n1, d] and rest [batch, n2, d] of x [batch, n1 + n2, d].
template <int W>
DEVICE void split_tokens_packs(const float* x, float* first, float* rest, int batch, int n1, int n2, int d) {
  const long long one = static_cast<long long>(n1) * (d / W), two = static_cast<long long>(n2) * (d / W);
  each(batch * (one + two), [&](long long i) {
    const long long image = i / (one + two), at = i - image * (one + two);
    float* to = at < one ? first + (image * one + at) * W : rest + (image * two + at - one) * W;
    store_pack<W>(to, load_pack<W>(x + i * W));
  });
}
extern "C" __global__ void split_tokens(const float* x, float* first, float* rest, int batch, int n1, int n2, int d) {
  if (d % 4 == 0) {
    split_tokens_packs<4>(x, first, rest, batch, n1, n2, d);
  } else {
    split_tokens_packs<1>(x, first, rest, batch, n1, n2, d);
  }
}
EXPORT(split_tokens)

// out [batch, d] = the mean of x [batch, tokens, d] over its tokens. Grid [⌈d/32⌉, batch] of 256 threads: eight warps take tokens
// in turn, and their sums are added in order. 1 KiB of shared memory.
extern "C" __global__ void mean_tokens(const float* x, float* out, int batch, int tokens, int d) {
  SHARED(float, sums[8][32]);
  const int group = threadIdx.x / 32, lane = threadIdx.x % 32, c = blockIdx.x * 32 + lane, image = blockIdx.y;
  float sum = 0.0f;
  if (c < d && image < batch) {
    const float* from = x + static_cast<long long>(image) * tokens * d + c;
#pragma unroll 8
    for (int token = group; token < tokens; token += 8) sum += from[static_cast<long long>(token) * d];
  }
  sums[group][lane] = sum;
  __syncthreads();
  if (group == 0 && c < d && image < batch) {
    float all = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) all += sums[i][lane];
    out[static_cast<long long>(image) * d + c] = all * (1.0f / static_cast<float>(tokens));
  }
}
EXPORT(mean_tokens)

// dx [batch, tokens, d] += dy [batch, d]/tokens.
template <int W>
DEVICE void mean_tokens_grad_packs(const float* dy, float* dx, int batch, int tokens, int d) {
  const float inverse = 1.0f / static_cast<float>(tokens);
  const int packs = d / W;
  each(static_cast<long long>(batch) * tokens * packs, [&](long long i) {
    const long long row = i / packs, image = row / tokens;
    Pack<W> v = load_pack<W>(dx + i * W);
    const Pack<W> g = load_pack<W>(dy + (image * packs + (i - row * packs)) * W);
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] += inverse * g.at[k];
    store_pack<W>(dx + i * W, v);
  });
}
extern "C" __global__ void mean_tokens_grad(const float* dy, float* dx, int batch, int tokens, int d) {
  if (d % 4 == 0) {
    mean_tokens_grad_packs<4>(dy, dx, batch, tokens, d);
  } else {
    mean_tokens_grad_packs<1>(dy, dx, batch, tokens, d);
  }
}
EXPORT(mean_tokens_grad)

// Image b of x [batch, channels, side, side] turned counter-clockwise by k[b]·90°, as `torch.rot90(x, k, [2, 3])`.
extern "C" __global__ void rot90(const float* x, const int* k, float* out, int batch, int channels, int side) {
  const int pixels = side * side;
  each(static_cast<long long>(batch) * channels * pixels, [&](long long at) {
    const long long plane = at / pixels;
    const int pixel = static_cast<int>(at - plane * pixels), i = pixel / side, j = pixel - i * side;
    const int turns = k[plane / channels] & 3, last = side - 1;
    const int row = turns == 0 ? i : turns == 1 ? j : turns == 2 ? last - i : last - j;
    const int column = turns == 0 ? j : turns == 1 ? last - i : turns == 2 ? last - j : i;
    out[at] = x[plane * pixels + row * side + column];
  });
}
EXPORT(rot90)
