// Self-attention on tensor cores: bf16, heads of 64, 80 or 104 values, no dropout. What it computes: see attention.cu.
//
// Queries and keys are rounded to bf16 after norm and rotation, exp of the logits and dS before their products; all else is
// f32. A warp has 16 rows (queries; in the second half of the backward pass keys) as operands and sums in registers and runs
// over the rows of the other side in shared memory. Those are normalised and rotated while they are loaded: all rows of the
// head once, where they fit (`tile` = N rounded up to 16), or else 64 at a time, again for every block of 16·warps rows. Memory
// is linear in N either way. Rows in shared memory lie an odd number of 16 bytes apart, so that `ldmatrix` meets no bank twice.
//
// The backward pass goes over P twice, first for the queries' gradient, then for the keys' and values': seven products instead
// of five, but no sum leaves its warp, so there are neither atomics nor an f32 copy of the queries' gradient. With all rows of
// a head in one block, the second time finds qkv and dout in the cache.
#pragma once
#include "attention_rows.cuh"

namespace attention_mma {

// The arguments that both passes have, and the first value of a head.
struct Inputs {
  const bf16* qkv;
  const float *q_norm, *k_norm, *rope;
  int tokens, heads, pitch_qkv, pitch_out, tile;
};
// What the backward pass gets besides.
struct Results {
  const bf16* out;
  const float* lse;
  const bf16* dout;
};
template <int H>
DEVICE long long qkv_at(const Inputs& in, int part) {
  return static_cast<long long>(image_index()) * in.tokens * in.pitch_qkv + (part * in.heads + head_index()) * H;
}
template <int H>
DEVICE long long out_at(const Inputs& in) {
  return static_cast<long long>(image_index()) * in.tokens * in.pitch_out + head_index() * H;
}
// The first rows that a warp takes. It goes on by a grid's rows, as long as the block's first warp has some.
template <int H>
DEVICE int first_row() {
  return (split_index() * WARPS<H> + warp_index()) * 16;
}
// First row of the head in [B, H, N].
DEVICE long long row_at(const Inputs& in) {
  return (static_cast<long long>(image_index()) * in.heads + head_index()) * in.tokens;
}
template <int H>
DEVICE Source keys_and_values(const Inputs& in) {
  return {in.qkv + qkv_at<H>(in, 1), in.qkv + qkv_at<H>(in, 2), nullptr, in.k_norm, in.rope, nullptr, in.tokens,
          in.pitch_qkv, in.pitch_qkv};
}
template <int H>
DEVICE Source queries_only(const Inputs& in) {
  return {in.qkv + qkv_at<H>(in, 0), nullptr, nullptr, in.q_norm, in.rope, nullptr, in.tokens, in.pitch_qkv, 0};
}
template <int H>
DEVICE Source queries_and_grads(const Inputs& in, const Results& of) {
  return {in.qkv + qkv_at<H>(in, 0), of.dout + out_at<H>(in), of.out + out_at<H>(in), in.q_norm, in.rope,
          of.lse + row_at(in), in.tokens, in.pitch_qkv, in.pitch_out};
}

// A warp's queries against `groups`·16 keys, of which the first `valid` exist: one step of the online softmax. `largest` in
// units of the logits before their factor; `factor` is that factor times log2(e).
template <int H, int groups>
DEVICE void forward_step(float out[][4], float* largest, float* total, const Held<H>& query, const bf16* keys,
                         float factor, int valid) {
  const int t = threadIdx.x % 4;
  float logits[groups * 2][4];
  multiply_transposed<H, groups>(logits, query, keys);
  if (valid < groups * 16) {
#pragma unroll
    for (int n = 0; n < groups * 2; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        if (n * 8 + t * 2 + e % 2 >= valid) logits[n][e] = -infinity();
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float high = largest[half];
#pragma unroll
    for (int n = 0; n < groups * 2; n++) high = fmaxf(high, fmaxf(logits[n][half * 2], logits[n][half * 2 + 1]));
    high = row_max(high);
    const float shrink = exp2_fast((largest[half] - high) * factor), offset = high * factor;
    largest[half] = high;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < groups * 2; n++) {
#pragma unroll
      for (int e = half * 2; e < half * 2 + 2; e++) {
        logits[n][e] = exp2_fast(logits[n][e] * factor - offset);
        sum += logits[n][e];
      }
    }
    // A lane's share of the row: they are added at the end.
    total[half] = total[half] * shrink + sum;
#pragma unroll
    for (int n = 0; n < TILES<H>; n++) {
      out[n][half * 2] *= shrink;
      out[n][half * 2 + 1] *= shrink;
    }
  }
  unsigned weights[groups][4];
  round<groups>(weights, logits);
  multiply<H, groups>(out, weights, keys + PLAIN<H>);
}

// out [B, N, H·h] and lse [B, H, N]: reads 6 bytes and writes 2 per value of out. Grid [splits, H, B]. Shared memory, bf16: for
// each warp 16 rows [16, PITCH] on their way in and out, then keys beside values [tile, PAIR].
template <int H>
DEVICE void forward(const Inputs& in, bf16* out, float* lse) {
  const int tokens = in.tokens;
  DYNAMIC_SHARED(bf16, rows);
  bf16 *stage = rows + warp_index() * 16 * PITCH<H>, *keys = rows + WARPS<H> * 16 * PITCH<H>;
  const float scale = 1.0f / sqrtf(static_cast<float>(H)), factor = scale * LOG2_E;
  const bool whole = in.tile >= tokens;
  if (whole) {
    load_rows<H, PAIR<H>, true, true, false, 4>(keys_and_values<H>(in), keys, keys + PLAIN<H>, nullptr, 0, in.tile,
                                                thread_index(), 32 * WARPS<H>);
    __syncthreads();
  }
  for (int first = first_row<H>(); first - warp_index() * 16 < tokens; first += splits() * WARPS<H> * 16) {
    Held<H> query;
    float sums[TILES<H>][4], largest[2] = {-infinity(), -infinity()}, total[2] = {0.0f, 0.0f};
    clear<H>(sums);
    load_rows<H, PITCH<H>, true, false, false, 4>(queries_only<H>(in), stage, nullptr, nullptr, first, 16, lane_index(),
                                                  32);
    __syncwarp();
    load_operand<H>(query, stage);
    __syncwarp();
    for (int start = 0; start < tokens; start += in.tile) {
      if (!whole) {
        __syncthreads();
        load_rows<H, PAIR<H>, true, true, false, 1>(keys_and_values<H>(in), keys, keys + PLAIN<H>, nullptr, start, in.tile,
                                                    thread_index(), 32 * WARPS<H>);
        __syncthreads();
      }
      if (first >= tokens) continue;
      const int left = min(in.tile, tokens - start);
      int j = 0;
      for (; j + 48 < left; j += 64) {
        forward_step<H, 4>(sums, largest, total, query, keys + j * PAIR<H>, factor, left - j);
      }
      for (; j < left; j += 16) {
        forward_step<H, 1>(sums, largest, total, query, keys + j * PAIR<H>, factor, left - j);
      }
    }
    if (first < tokens) {
      const int lane = lane_index();
      float inverse[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const float sum = row_sum<4>(total[half]);
        const int i = first + lane / 4 + half * 8;
        inverse[half] = 1.0f / sum;
        if (lane % 4 == 0 && i < tokens) {
          lse[row_at(in) + i] = largest[half] * scale + logf(sum);
        }
      }
      stage_rows<H>(stage, sums, inverse[0], inverse[1]);
      store_rows<H>(out + out_at<H>(in), in.pitch_out, stage, first, tokens);
    }
  }
}

// A warp's queries against `groups`·16 keys, of which `valid` exist: sums += dS·keys. stats of rows g and g + 8.
template <int H, int groups, typename Grad>
DEVICE void query_step(float sums[][4], const Held<H>& query, const Grad& grad, const float2* stats, const bf16* keys,
                       float factor, int valid) {
  const int t = threadIdx.x % 4;
  float logits[groups * 2][4], dweights[groups * 2][4];
  multiply_transposed<H, groups>(logits, query, keys);
  multiply_transposed<H, groups>(dweights, grad, keys + PLAIN<H>);
#pragma unroll
  for (int n = 0; n < groups * 2; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
      logits[n][e] = exp2_fast(logits[n][e] * factor - stats[e / 2].x) * (dweights[n][e] - stats[e / 2].y);
    }
  }
  if (valid < groups * 16) {
#pragma unroll
    for (int n = 0; n < groups * 2; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        if (n * 8 + t * 2 + e % 2 >= valid) logits[n][e] = 0.0f;
      }
    }
  }
  unsigned dlogits[groups][4];
  round<groups>(dlogits, logits);
  multiply<H, groups>(sums, dlogits, keys);
}

// A warp's keys and values (staged, for want of registers) against `groups`·16 queries: key_sums += dSᵀ·queries, value_sums +=
// Pᵀ·dout. Queries that do not exist have an infinite lse, so their P is 0.
template <int H, int groups, typename Key>
DEVICE void key_step(float key_sums[][4], float value_sums[][4], const Key& key, const Staged& value, const bf16* queries,
                     const float* stats, float factor) {
  const int t = threadIdx.x % 4;
  float weights[groups * 2][4], dlogits[groups * 2][4];
  multiply_transposed<H, groups>(dlogits, value, queries + PLAIN<H>);
  multiply_transposed<H, groups>(weights, key, queries);
#pragma unroll
  for (int n = 0; n < groups * 2; n++) {
    const float4 two = *reinterpret_cast<const float4*>(stats + (n * 8 + t * 2) * 2);
#pragma unroll
    for (int e = 0; e < 4; e++) {
      weights[n][e] = exp2_fast(weights[n][e] * factor - (e % 2 ? two.z : two.x));
      dlogits[n][e] = weights[n][e] * (dlogits[n][e] - (e % 2 ? two.w : two.y));
    }
  }
  unsigned a[groups][4], b[groups][4];
  round<groups>(a, weights);
  round<groups>(b, dlogits);
  multiply<H, groups>(value_sums, a, queries + PLAIN<H>);
  multiply<H, groups>(key_sums, b, queries);
}

// What the backward pass has in shared memory: in f32 for each warp its sums of the norm weights' gradients [2, h] and the
// statistics of its rows [16, 2]; for each warp operands, 16 rows [16, PITCH] each, on their way in and out; pairs of rows
// [tile, PAIR], and in f32 their statistics [tile, 2].
template <int H>
struct Places {
  float *weight_sums, *my_stats, *stats;
  bf16 *stage, *pairs;
};
template <int H>
DEVICE Places<H> places(const Inputs& in, int warp) {
  DYNAMIC_SHARED(float, start);
  Places<H> p;
  p.weight_sums = start + warp * 2 * H;
  p.my_stats = start + WARPS<H> * 2 * H + warp * 32;
  bf16* rows = reinterpret_cast<bf16*>(start + WARPS<H> * (2 * H + 32));
  p.stage = rows + warp * OPERANDS<H> * 16 * PITCH<H>;
  p.pairs = rows + WARPS<H> * OPERANDS<H> * 16 * PITCH<H>;
  p.stats = reinterpret_cast<float*>(p.pairs + in.tile * PAIR<H>);
  return p;
}

// The queries' gradient, with keys and values in shared memory.
template <int H>
DEVICE void query_gradient(const Inputs& in, const Results& of, bf16* dqkv) {
  const int tokens = in.tokens;
  const Places<H> p = places<H>(in, warp_index());
  const float scale = 1.0f / sqrtf(static_cast<float>(H)), factor = scale * LOG2_E;
  const bool whole = in.tile >= tokens;
  if (whole) {
    load_rows<H, PAIR<H>, true, true, false, 4>(keys_and_values<H>(in), p.pairs, p.pairs + PLAIN<H>, nullptr, 0, in.tile,
                                                thread_index(), 32 * WARPS<H>);
    __syncthreads();
  }
  for (int first = first_row<H>(); first - warp_index() * 16 < tokens; first += splits() * WARPS<H> * 16) {
    Held<H> query;
    typename Operand<OPERANDS<H> == 1, H>::Type grad;
    float sums[TILES<H>][4];
    clear<H>(sums);
    load_rows<H, PITCH<H>, true, false, false, 4>(queries_only<H>(in), p.stage, nullptr, nullptr, first, 16, lane_index(),
                                                  32);
    __syncwarp();
    load_operand<H>(query, p.stage);
    __syncwarp();
    load_rows<H, PITCH<H>, false, true, true, 4>(queries_and_grads<H>(in, of), nullptr, p.stage, p.my_stats, first, 16,
                                                 lane_index(), 32);
    __syncwarp();
    load_operand<H>(grad, p.stage);
    const float* row = p.my_stats + lane_index() / 4 * 2;
    const float2 stats[2] = {*reinterpret_cast<const float2*>(row), *reinterpret_cast<const float2*>(row + 16)};
    __syncwarp();
    for (int start = 0; start < tokens; start += in.tile) {
      if (!whole) {
        __syncthreads();
        load_rows<H, PAIR<H>, true, true, false, 1>(keys_and_values<H>(in), p.pairs, p.pairs + PLAIN<H>, nullptr, start,
                                                    in.tile, thread_index(), 32 * WARPS<H>);
        __syncthreads();
      }
      if (first >= tokens) continue;
      const int left = min(in.tile, tokens - start);
      int j = 0;
      for (; H <= 80 && j + 16 < left; j += 32) {
        query_step<H, 2>(sums, query, grad, stats, p.pairs + j * PAIR<H>, factor, left - j);
      }
      for (; j < left; j += 16) query_step<H, 1>(sums, query, grad, stats, p.pairs + j * PAIR<H>, factor, left - j);
    }
    if (first < tokens) {
      rotate_and_norm_grad<H>(sums, scale, in.qkv + qkv_at<H>(in, 0), in.pitch_qkv, in.q_norm, in.rope, p.stage,
                              p.weight_sums, first, tokens);
      store_rows<H>(dqkv + qkv_at<H>(in, 0), in.pitch_qkv, p.stage, first, tokens);
    }
  }
}

// The keys' and values' gradients, with queries and dout in shared memory.
template <int H, int groups>
DEVICE void key_gradient(const Inputs& in, const Results& of, bf16* dqkv) {
  const int tokens = in.tokens;
  const Places<H> p = places<H>(in, warp_index());
  const float scale = 1.0f / sqrtf(static_cast<float>(H)), factor = scale * LOG2_E;
  const bool whole = in.tile >= tokens;
  if (whole) {
    load_rows<H, PAIR<H>, true, true, true, 2>(queries_and_grads<H>(in, of), p.pairs, p.pairs + PLAIN<H>, p.stats, 0,
                                               in.tile, thread_index(), 32 * WARPS<H>);
    __syncthreads();
  }
  for (int first = first_row<H>(); first - warp_index() * 16 < tokens; first += splits() * WARPS<H> * 16) {
    typename Operand<OPERANDS<H> == 1, H>::Type key;
    float key_sums[TILES<H>][4], value_sums[TILES<H>][4];
    clear<H>(key_sums);
    clear<H>(value_sums);
    bf16* key_stage = p.stage + (OPERANDS<H> - 1) * 16 * PITCH<H>;
    load_rows<H, PITCH<H>, true, false, false, 4>(keys_and_values<H>(in), key_stage, nullptr, nullptr, first, 16,
                                                  lane_index(), 32);
    __syncwarp();
    load_operand<H>(key, key_stage);
    __syncwarp();
    load_rows<H, PITCH<H>, false, true, false, 4>(keys_and_values<H>(in), nullptr, p.stage, nullptr, first, 16,
                                                  lane_index(), 32);
    __syncwarp();
    for (int start = 0; start < tokens; start += in.tile) {
      if (!whole) {
        __syncthreads();
        load_rows<H, PAIR<H>, true, true, true, 1>(queries_and_grads<H>(in, of), p.pairs, p.pairs + PLAIN<H>, p.stats,
                                                   start, in.tile, thread_index(), 32 * WARPS<H>);
        __syncthreads();
      }
      if (first >= tokens) continue;
      const int left = min(in.tile, tokens - start);
      int i = 0;
      for (; groups == 2 && i + 16 < left; i += 32) {
        key_step<H, groups>(key_sums, value_sums, key, Staged{p.stage}, p.pairs + i * PAIR<H>, p.stats + i * 2, factor);
      }
      for (; i < left; i += 16) {
        key_step<H, 1>(key_sums, value_sums, key, Staged{p.stage}, p.pairs + i * PAIR<H>, p.stats + i * 2, factor);
      }
    }
    if (first < tokens) {
      __syncwarp();
      stage_rows<H>(p.stage, value_sums, 1.0f, 1.0f);
      store_rows<H>(dqkv + qkv_at<H>(in, 2), in.pitch_qkv, p.stage, first, tokens);
      rotate_and_norm_grad<H>(key_sums, scale, in.qkv + qkv_at<H>(in, 1), in.pitch_qkv, in.k_norm, in.rope, p.stage,
                              p.weight_sums + H, first, tokens);
      store_rows<H>(dqkv + qkv_at<H>(in, 1), in.pitch_qkv, p.stage, first, tokens);
    }
  }
}

// dqkv, and partial [B, H, splits, 2, h]: what the block's rows give to the gradients of q_norm and k_norm. Grid
// [splits, H, B]. Reads qkv, dout and out, 10 bytes per value of out, twice (the second time from the cache), writes 6.
template <int H, int groups>
DEVICE void backward(const Inputs& in, const Results& of, bf16* dqkv, float* partial) {
  float* weight_sums = places<H>(in, warp_index()).weight_sums;
  for (int c = lane_index(); c < 2 * H; c += 32) weight_sums[c] = 0.0f;
  __syncwarp();
  query_gradient<H>(in, of, dqkv);
  __syncthreads();
  key_gradient<H, groups>(in, of, dqkv);
  __syncthreads();
  weight_sums = places<H>(in, 0).weight_sums;
  partial += ((static_cast<long long>(blockIdx.z) * in.heads + blockIdx.y) * splits() + blockIdx.x) * 2 * H;
  for (int c = threadIdx.x; c < 2 * H; c += 32 * WARPS<H>) {
    float sum = 0.0f;
    for (int w = 0; w < WARPS<H>; w++) sum += weight_sums[w * 2 * H + c];
    partial[c] = sum;
  }
}

}  // namespace attention_mma

// `blocks` a multiprocessor must hold bound the registers: with heads of 64 and up to some 350 tokens two have room in the
// shared memory of compute capability 9.0. `groups`: see `key_step`.
#define ATTENTION_MMA_KERNELS(H, blocks, groups)                                                                            \
  extern "C" __global__ void __launch_bounds__(32 * attention_mma::WARPS<H>, blocks)                                        \
      attention_mma_##H(const bf16* qkv, const float* q_norm, const float* k_norm, const float* rope, bf16* out, float* lse, \
                        int tokens, int heads, int pitch_qkv, int pitch_out, int tile) {                                    \
    attention_mma::forward<H>({qkv, q_norm, k_norm, rope, tokens, heads, pitch_qkv, pitch_out, tile}, out, lse);            \
  }                                                                                                                         \
  EXPORT(attention_mma_##H)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(32 * attention_mma::WARPS<H>, blocks)                                        \
      attention_mma_grad_##H(const bf16* qkv, const float* q_norm, const float* k_norm, const float* rope, const bf16* out, \
                             const float* lse, const bf16* dout, bf16* dqkv, float* partial, int tokens, int heads,         \
                             int pitch_qkv, int pitch_out, int tile) {                                                      \
    attention_mma::backward<H, groups>({qkv, q_norm, k_norm, rope, tokens, heads, pitch_qkv, pitch_out, tile},              \
                                       {out, lse, dout}, dqkv, partial);                                                    \
  }                                                                                                                         \
  EXPORT(attention_mma_grad_##H)

ATTENTION_MMA_KERNELS(64, 2, 2)
ATTENTION_MMA_KERNELS(80, 1, 1)
ATTENTION_MMA_KERNELS(104, 1, 1)
