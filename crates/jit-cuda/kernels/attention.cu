// Self-attention of any head size, f32 or bf16, with dropout of the probabilities if asked for; all arithmetic in f32.
//
//   q, k = rope(rms_norm(q)·q_norm), rope(rms_norm(k)·k_norm);  P = softmax(q·kᵀ/√h);  out = (P ∘ keep)·v
//
// Queries, keys and values lie in qkv [B, N, 3, H, h]. `attention_prepare` writes normalised and rotated queries (times 1/√h)
// and keys once; the other kernels work on 32 tokens at a time from shared memory, so no N×N matrix exists. A warp owns eight
// rows (queries, or keys where their gradient is wanted); a lane has one of the tile's 32 tokens in the products that give
// logits, and one or two columns in those that give vectors. The backward pass makes P again from the log-sum-exp of each row.
#pragma once
#include "common.cuh"
#include "philox.cuh"

namespace attention {

constexpr float EPS = 1e-6f;
// Rows of a warp, and tokens of a tile: one a lane.
constexpr int ROWS = 8, TILE = 32;

// Everything about the shape.
struct Shape {
  int batch, tokens, heads, head, pitch_qkv, pitch_out;
};

DEVICE float infinity() { return __uint_as_float(0x7f800000u); }

// h rounded up to whole float4, and the distance of a tile's rows: an odd number of float4, so that lanes reading a row each
// meet in no bank.
DEVICE int width(const Shape& s) { return (s.head + 3) & ~3; }
DEVICE int tile_pitch(const Shape& s) { return width(s) | 4; }

// First value of part 0 (queries), 1 (keys) or 2 (values) of token 0 in qkv, and of token 0 in the output.
DEVICE long long qkv_at(const Shape& s, int b, int part, int h) {
  return static_cast<long long>(b) * s.tokens * s.pitch_qkv + (part * s.heads + h) * s.head;
}
DEVICE long long out_at(const Shape& s, int b, int h) {
  return static_cast<long long>(b) * s.tokens * s.pitch_out + h * s.head;
}
// First value of a head in `rotated` [2, B, H, N, h], and in [B, H, N].
DEVICE long long rotated_at(const Shape& s, int part, int b, int h) {
  return ((static_cast<long long>(part) * s.batch + b) * s.heads + h) * s.tokens * s.head;
}
DEVICE long long row_at(const Shape& s, int b, int h) { return (static_cast<long long>(b) * s.heads + h) * s.tokens; }

DEVICE float4 four(const float* x) { return *reinterpret_cast<const float4*>(x); }
DEVICE float4 four(const bf16* x) {
  const uint2 u = *reinterpret_cast<const uint2*>(x);
  return make_float4(low_bf16(u.x), high_bf16(u.x), low_bf16(u.y), high_bf16(u.y));
}

// Columns c..c+3 of a row of `head` values; zeros beyond its end.
template <typename T>
DEVICE float4 load_four(const T* row, int c, int head) {
  if (head % 4 == 0) return four(row + c);
  return make_float4(to_float(row[c]), c + 1 < head ? to_float(row[c + 1]) : 0.0f,
                     c + 2 < head ? to_float(row[c + 2]) : 0.0f, c + 3 < head ? to_float(row[c + 3]) : 0.0f);
}

// Tokens first..first+count of one head to shared memory, by the whole block. Zeros beyond the last token.
template <typename T>
DEVICE void load_rows(float* to, int to_pitch, const T* from, int from_pitch, int first, int count, const Shape& s) {
  const int groups = width(s) / 4;
  for (int e = threadIdx.x; e < count * groups; e += blockDim.x) {
    const int row = e / groups, c = e % groups * 4;
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (first + row < s.tokens) v = load_four(from + static_cast<long long>(first + row) * from_pitch, c, s.head);
    *reinterpret_cast<float4*>(to + row * to_pitch + c) = v;
  }
}

// sums[r] = own[r]·tile[lane]: own [ROWS, columns], tile [TILE, tile_pitch].
DEVICE void dots(float* sums, const float* own, const float* tile, const Shape& s) {
  const int columns = width(s);
  const float* mine = tile + threadIdx.x % 32 * tile_pitch(s);
#pragma unroll
  for (int r = 0; r < ROWS; r++) sums[r] = 0.0f;
  for (int c = 0; c < columns; c += 4) {
    const float4 t = four(mine + c);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const float4 o = four(own + r * columns + c);
      sums[r] += o.x * t.x;
      sums[r] += o.y * t.y;
      sums[r] += o.z * t.z;
      sums[r] += o.w * t.w;
    }
  }
}

// sums[r] = factor[r]·sums[r] + Σ_j weights[r][j]·tile[j]: sums [ROWS, columns], weights [ROWS, TILE]. A lane owns columns
// lane, lane + 32, ...: two at a time.
DEVICE void accumulate(float* sums, const float* factor, const float* weights, const float* tile, const Shape& s) {
  const int columns = width(s), pitch = tile_pitch(s);
  for (int c = threadIdx.x % 32; c < columns; c += 64) {
    const int other = c + 32 < columns ? 32 : 0;
    float a[ROWS], b[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      a[r] = sums[r * columns + c] * factor[r];
      b[r] = sums[r * columns + c + other] * factor[r];
    }
    for (int j = 0; j < TILE; j += 4) {
      float t[4], u[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        t[i] = tile[(j + i) * pitch + c];
        u[i] = tile[(j + i) * pitch + c + other];
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const float4 w = four(weights + r * TILE + j);
        a[r] += w.x * t[0];
        b[r] += w.x * u[0];
        a[r] += w.y * t[1];
        b[r] += w.y * u[1];
        a[r] += w.z * t[2];
        b[r] += w.z * u[2];
        a[r] += w.w * t[3];
        b[r] += w.w * u[3];
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      sums[r * columns + c] = a[r];
      if (other) sums[r * columns + c + other] = b[r];
    }
  }
}

// The factor of a probability: 1 without dropout, else 0 or 1/(1−rate), decided by element (head·N + i)·N + j of the
// image's stream.
struct Dropout {
  const unsigned* stream;
  float rate, scale;
};

DEVICE float keep(const Dropout& d, int h, int i, int j, const Shape& s) {
  if (!d.stream) return 1.0f;
  const unsigned index = (static_cast<unsigned>(h) * s.tokens + i) * s.tokens + j;
  return philox_uniform(d.stream, index) >= d.rate ? d.scale : 0.0f;
}

DEVICE Dropout dropout_of(const unsigned* streams, float rate, int b) {
  return {streams ? streams + b * 5 : nullptr, rate, 1.0f / (1.0f - rate)};
}

// The root mean square's inverse of a row, by a warp.
template <typename T>
DEVICE float inverse_rms(const T* row, int head) {
  float sum = 0.0f;
  for (int c = threadIdx.x % 32; c < head; c += 32) {
    const float x = to_float(row[c]);
    sum += x * x;
  }
  return 1.0f / sqrtf(warp_sum(sum) / head + EPS);
}

// The way back of one row, by a warp: d [columns] in shared memory is the gradient of the rotated row. Writes that of the raw
// row x to dx and leaves in d what the row adds to the gradient of the norm's weight.
template <typename T>
DEVICE void prepare_grad(float* d, float scale, const T* x, const float* weight, const float* cosines, const float* sines,
                         T* dx, int head) {
  const float r = inverse_rms(x, head);
  float dot = 0.0f;
  for (int c = threadIdx.x % 32 * 2; c < head; c += 64) {
    const float d0 = d[c] * scale, d1 = d[c + 1] * scale;
    // The transposed rotation: a value went to its own place with its cosine, to its partner's with the partner's sine.
    const float n0 = d0 * cosines[c] + d1 * sines[c + 1], n1 = d1 * cosines[c + 1] - d0 * sines[c];
    d[c] = n0;
    d[c + 1] = n1;
    dot += n0 * weight[c] * to_float(x[c]) * r;
    dot += n1 * weight[c + 1] * to_float(x[c + 1]) * r;
  }
  dot = warp_sum(dot) / head;
  for (int c = threadIdx.x % 32 * 2; c < head; c += 64) {
#pragma unroll
    for (int i = c; i < c + 2; i++) {
      const float n = d[i], hat = to_float(x[i]) * r;
      dx[i] = from_float<T>(r * (n * weight[i] - hat * dot));
      d[i] = n * hat;
    }
  }
}

// A block's rows through `prepare_grad`, and the sums of what they add to the weight's gradient, row after row, into
// partial [h]. sums [rows of the block, columns].
template <typename T>
DEVICE void finish(float* sums, float scale, const T* qkv, const float* weight, const float* rope, T* dqkv, float* partial,
                   int first, long long base, const Shape& s) {
  const int warp = threadIdx.x / 32, columns = width(s), rows = blockDim.x / 32 * ROWS;
  for (int r = warp * ROWS; r < (warp + 1) * ROWS && first + r < s.tokens; r++) {
    const int i = first + r;
    const long long at = base + static_cast<long long>(i) * s.pitch_qkv;
    prepare_grad(sums + r * columns, scale, qkv + at, weight, rope + i * s.head, rope + (s.tokens + i) * s.head,
                 dqkv + at, s.head);
  }
  __syncthreads();
  for (int c = threadIdx.x; c < s.head; c += blockDim.x) {
    float sum = 0.0f;
    for (int r = 0; r < rows && first + r < s.tokens; r++) sum += sums[r * columns + c];
    partial[c] = sum;
  }
}

// Normalised and rotated queries, times 1/√h, and keys. A warp a row; grid [ceil(2·B·N·H/8)], block 256. Reads and writes each
// query and key once, and the rotary table from the cache.
template <typename T>
DEVICE void prepare_kernel(const T* qkv, const float* q_norm, const float* k_norm, const float* rope, float* rotated,
                           const Shape& s) {
  const long long row = static_cast<long long>(blockIdx.x) * 8 + threadIdx.x / 32;
  if (row >= 2LL * s.batch * s.heads * s.tokens) return;
  const int i = static_cast<int>(row % s.tokens);
  const int image_head = static_cast<int>(row / s.tokens % (s.batch * s.heads));
  const int part = row >= static_cast<long long>(s.batch) * s.heads * s.tokens;
  const T* x = qkv + qkv_at(s, image_head / s.heads, part, image_head % s.heads) + static_cast<long long>(i) * s.pitch_qkv;
  const float *weight = part ? k_norm : q_norm, *cosines = rope + i * s.head, *sines = rope + (s.tokens + i) * s.head;
  const float r = inverse_rms(x, s.head), scale = part ? 1.0f : 1.0f / sqrtf(static_cast<float>(s.head));
  float* y = rotated + row * s.head;
  for (int c = threadIdx.x % 32 * 2; c < s.head; c += 64) {
    const float a = to_float(x[c]) * r * weight[c], b = to_float(x[c + 1]) * r * weight[c + 1];
    y[c] = (a * cosines[c] - b * sines[c]) * scale;
    y[c + 1] = (b * cosines[c + 1] + a * sines[c + 1]) * scale;
  }
}

// out [B, N, H·h] and lse [B, H, N]. Grid [ceil(N/rows), H, B] with rows = 8·warps queries a block, for which keys and values
// are read once. Shared memory, in floats: queries and sums [rows, columns], keys and values [32, tile pitch], probabilities
// [rows, 32].
template <typename T>
DEVICE void forward_kernel(const float* rotated, const T* qkv, T* out, float* lse, const unsigned* streams, float rate,
                           const Shape& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, rows = blockDim.x / 32 * ROWS, columns = width(s);
  const int first = blockIdx.x * rows, h = blockIdx.y, b = blockIdx.z;
  DYNAMIC_SHARED(float, queries);
  float *sums = queries + rows * columns, *keys = sums + rows * columns, *values = keys + TILE * tile_pitch(s);
  float* weights = values + TILE * tile_pitch(s) + warp * ROWS * TILE;
  const Dropout dropout = dropout_of(streams, rate, b);
  load_rows(queries, columns, rotated + rotated_at(s, 0, b, h), s.head, first, rows, s);
  float largest[ROWS], total[ROWS], factor[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    largest[r] = -infinity();
    total[r] = 0.0f;
  }
  float* mine = sums + warp * ROWS * columns;
  for (int c = lane; c < ROWS * columns; c += 32) mine[c] = 0.0f;
  for (int start = 0; start < s.tokens; start += TILE) {
    __syncthreads();
    load_rows(keys, tile_pitch(s), rotated + rotated_at(s, 1, b, h), s.head, start, TILE, s);
    load_rows(values, tile_pitch(s), qkv + qkv_at(s, b, 2, h), s.pitch_qkv, start, TILE, s);
    __syncthreads();
    float logits[ROWS];
    dots(logits, queries + warp * ROWS * columns, keys, s);
    const int j = start + lane;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (j >= s.tokens) logits[r] = -infinity();
      const float before = largest[r];
      largest[r] = fmaxf(before, warp_max(logits[r]));
      factor[r] = expf(before - largest[r]);
      const float p = expf(logits[r] - largest[r]);
      total[r] = total[r] * factor[r] + p;
      weights[r * TILE + lane] = p * keep(dropout, h, first + warp * ROWS + r, j, s);
    }
    __syncwarp();
    accumulate(mine, factor, weights, values, s);
  }
  __syncwarp();
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const int i = first + warp * ROWS + r;
    const float sum = warp_sum(total[r]);
    if (i < s.tokens) {
      if (lane == 0) lse[row_at(s, b, h) + i] = largest[r] + logf(sum);
      T* y = out + out_at(s, b, h) + static_cast<long long>(i) * s.pitch_out;
      for (int c = lane; c < s.head; c += 32) y[c] = from_float<T>(mine[r * columns + c] / sum);
    }
  }
}

// delta [B, H, N] = Σ_c dout·out, which is also Σ_j P·dP of the row. A warp a row; grid [ceil(B·N·H/8)], block 256.
template <typename T>
DEVICE void delta_kernel(const T* out, const T* dout, float* delta, const Shape& s) {
  const long long row = static_cast<long long>(blockIdx.x) * 8 + threadIdx.x / 32;
  if (row >= static_cast<long long>(s.batch) * s.heads * s.tokens) return;
  // Neighbouring warps take neighbouring heads of a token: they lie side by side.
  const int h = static_cast<int>(row % s.heads);
  const long long token = row / s.heads;
  const long long at = token * s.pitch_out + h * s.head;
  float sum = 0.0f;
  for (int c = threadIdx.x % 32; c < s.head; c += 32) sum += to_float(out[at + c]) * to_float(dout[at + c]);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) delta[row_at(s, static_cast<int>(token / s.tokens), h) + token % s.tokens] = sum;
}

// The gradient of the queries: dS = P ∘ (dP − delta), dq = dS·k/√h, then back through rotation and norm. Grid as forward;
// partial [B, H, blocks, 2, h], of which this writes [..., 0, :]. Shared memory, in floats: queries, dout and sums
// [rows, columns], keys and values [32, tile pitch], dS [rows, 32].
template <typename T>
DEVICE void grad_query_kernel(const float* rotated, const T* qkv, const float* q_norm, const float* rope, const float* lse,
                              const float* delta, const T* dout, T* dqkv, float* partial, const unsigned* streams,
                              float rate, const Shape& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, rows = blockDim.x / 32 * ROWS, columns = width(s);
  const int first = blockIdx.x * rows, h = blockIdx.y, b = blockIdx.z;
  DYNAMIC_SHARED(float, queries);
  float *grads = queries + rows * columns, *sums = grads + rows * columns, *keys = sums + rows * columns;
  float* values = keys + TILE * tile_pitch(s);
  float* weights = values + TILE * tile_pitch(s) + warp * ROWS * TILE;
  const Dropout dropout = dropout_of(streams, rate, b);
  load_rows(queries, columns, rotated + rotated_at(s, 0, b, h), s.head, first, rows, s);
  load_rows(grads, columns, dout + out_at(s, b, h), s.pitch_out, first, rows, s);
  float one[ROWS], row_lse[ROWS], row_delta[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const int i = min(first + warp * ROWS + r, s.tokens - 1);
    one[r] = 1.0f;
    row_lse[r] = lse[row_at(s, b, h) + i];
    row_delta[r] = delta[row_at(s, b, h) + i];
  }
  float* mine = sums + warp * ROWS * columns;
  for (int c = lane; c < ROWS * columns; c += 32) mine[c] = 0.0f;
  for (int start = 0; start < s.tokens; start += TILE) {
    __syncthreads();
    load_rows(keys, tile_pitch(s), rotated + rotated_at(s, 1, b, h), s.head, start, TILE, s);
    load_rows(values, tile_pitch(s), qkv + qkv_at(s, b, 2, h), s.pitch_qkv, start, TILE, s);
    __syncthreads();
    float logits[ROWS], dweights[ROWS];
    dots(logits, queries + warp * ROWS * columns, keys, s);
    dots(dweights, grads + warp * ROWS * columns, values, s);
    const int j = start + lane;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const float p = expf(logits[r] - row_lse[r]);
      const float dp = dweights[r] * keep(dropout, h, first + warp * ROWS + r, j, s);
      weights[r * TILE + lane] = j < s.tokens ? p * (dp - row_delta[r]) : 0.0f;
    }
    __syncwarp();
    accumulate(mine, one, weights, keys, s);
  }
  __syncwarp();
  const long long block = (static_cast<long long>(b) * s.heads + h) * gridDim.x + blockIdx.x;
  finish(sums, 1.0f / sqrtf(static_cast<float>(s.head)), qkv, q_norm, rope, dqkv, partial + block * 2 * s.head, first,
         qkv_at(s, b, 0, h), s);
}

// The gradients of keys and values: dv = (P ∘ keep)ᵀ·dout, dk = dSᵀ·q/√h, then dk back through rotation and norm. Grid as
// forward, a block's rows being keys; writes partial [..., 1, :]. Shared memory, in floats: keys, values and the sums of both
// [rows, columns], queries and dout [32, tile pitch], Pᵀ and dSᵀ [rows, 32] each.
template <typename T>
DEVICE void grad_key_kernel(const float* rotated, const T* qkv, const float* k_norm, const float* rope, const float* lse,
                            const float* delta, const T* dout, T* dqkv, float* partial, const unsigned* streams,
                            float rate, const Shape& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, rows = blockDim.x / 32 * ROWS, columns = width(s);
  const int first = blockIdx.x * rows, h = blockIdx.y, b = blockIdx.z;
  DYNAMIC_SHARED(float, keys);
  float *values = keys + rows * columns, *key_sums = values + rows * columns, *value_sums = key_sums + rows * columns;
  float *queries = value_sums + rows * columns, *grads = queries + TILE * tile_pitch(s);
  float* weights = grads + TILE * tile_pitch(s) + warp * 2 * ROWS * TILE;
  float* dlogits = weights + ROWS * TILE;
  const Dropout dropout = dropout_of(streams, rate, b);
  load_rows(keys, columns, rotated + rotated_at(s, 1, b, h), s.head, first, rows, s);
  load_rows(values, columns, qkv + qkv_at(s, b, 2, h), s.pitch_qkv, first, rows, s);
  float one[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) one[r] = 1.0f;
  float *my_key = key_sums + warp * ROWS * columns, *my_value = value_sums + warp * ROWS * columns;
  for (int c = lane; c < ROWS * columns; c += 32) my_key[c] = my_value[c] = 0.0f;
  for (int start = 0; start < s.tokens; start += TILE) {
    __syncthreads();
    load_rows(queries, tile_pitch(s), rotated + rotated_at(s, 0, b, h), s.head, start, TILE, s);
    load_rows(grads, tile_pitch(s), dout + out_at(s, b, h), s.pitch_out, start, TILE, s);
    __syncthreads();
    float logits[ROWS], dweights[ROWS];
    dots(logits, keys + warp * ROWS * columns, queries, s);
    dots(dweights, values + warp * ROWS * columns, grads, s);
    const int i = start + lane;
    const bool inside = i < s.tokens;
    const float row_lse = inside ? lse[row_at(s, b, h) + i] : 0.0f, row_delta = inside ? delta[row_at(s, b, h) + i] : 0.0f;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const float p = inside ? expf(logits[r] - row_lse) : 0.0f;
      const float kept = keep(dropout, h, i, first + warp * ROWS + r, s);
      weights[r * TILE + lane] = p * kept;
      dlogits[r * TILE + lane] = p * (dweights[r] * kept - row_delta);
    }
    __syncwarp();
    accumulate(my_value, one, weights, grads, s);
    accumulate(my_key, one, dlogits, queries, s);
  }
  __syncwarp();
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const int j = first + warp * ROWS + r;
    if (j < s.tokens) {
      T* y = dqkv + qkv_at(s, b, 2, h) + static_cast<long long>(j) * s.pitch_qkv;
      for (int c = lane; c < s.head; c += 32) y[c] = from_float<T>(my_value[r * columns + c]);
    }
  }
  const long long block = (static_cast<long long>(b) * s.heads + h) * gridDim.x + blockIdx.x;
  finish(key_sums, 1.0f, qkv, k_norm, rope, dqkv, partial + (block * 2 + 1) * s.head, first, qkv_at(s, b, 1, h), s);
}

}  // namespace attention

#define ATTENTION_KERNELS(T, suffix)                                                                                        \
  extern "C" __global__ void __launch_bounds__(256)                                                                         \
      attention_prepare_##suffix(const T* qkv, const float* q_norm, const float* k_norm, const float* rope, float* rotated, \
                                 int batch, int tokens, int heads, int head, int pitch_qkv) {                               \
    attention::prepare_kernel<T>(qkv, q_norm, k_norm, rope, rotated, {batch, tokens, heads, head, pitch_qkv, 0});           \
  }                                                                                                                         \
  EXPORT(attention_prepare_##suffix)                                                                                        \
  extern "C" __global__ void __launch_bounds__(128, 4)                                                                       \
      attention_##suffix(const float* rotated, const T* qkv, T* out, float* lse, const unsigned* streams, float rate,       \
                         int batch, int tokens, int heads, int head, int pitch_qkv, int pitch_out) {                        \
    attention::forward_kernel<T>(rotated, qkv, out, lse, streams, rate,                                                     \
                                 {batch, tokens, heads, head, pitch_qkv, pitch_out});                                       \
  }                                                                                                                         \
  EXPORT(attention_##suffix)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256)                                                                         \
      attention_delta_##suffix(const T* out, const T* dout, float* delta, int batch, int tokens, int heads, int head,       \
                               int pitch_out) {                                                                             \
    attention::delta_kernel<T>(out, dout, delta, {batch, tokens, heads, head, 0, pitch_out});                               \
  }                                                                                                                         \
  EXPORT(attention_delta_##suffix)                                                                                          \
  extern "C" __global__ void __launch_bounds__(128, 4)                                                                       \
      attention_grad_query_##suffix(const float* rotated, const T* qkv, const float* q_norm, const float* rope,             \
                                    const float* lse, const float* delta, const T* dout, T* dqkv, float* partial,           \
                                    const unsigned* streams, float rate, int batch, int tokens, int heads, int head,        \
                                    int pitch_qkv, int pitch_out) {                                                         \
    attention::grad_query_kernel<T>(rotated, qkv, q_norm, rope, lse, delta, dout, dqkv, partial, streams, rate,             \
                                    {batch, tokens, heads, head, pitch_qkv, pitch_out});                                    \
  }                                                                                                                         \
  EXPORT(attention_grad_query_##suffix)                                                                                     \
  extern "C" __global__ void __launch_bounds__(128, 4)                                                                       \
      attention_grad_key_##suffix(const float* rotated, const T* qkv, const float* k_norm, const float* rope,               \
                                  const float* lse, const float* delta, const T* dout, T* dqkv, float* partial,             \
                                  const unsigned* streams, float rate, int batch, int tokens, int heads, int head,          \
                                  int pitch_qkv, int pitch_out) {                                                           \
    attention::grad_key_kernel<T>(rotated, qkv, k_norm, rope, lse, delta, dout, dqkv, partial, streams, rate,               \
                                  {batch, tokens, heads, head, pitch_qkv, pitch_out});                                      \
  }                                                                                                                         \
  EXPORT(attention_grad_key_##suffix)

ATTENTION_KERNELS(float, f32)
ATTENTION_KERNELS(bf16, bf16)
