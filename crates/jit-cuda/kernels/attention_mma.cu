// Self-attention on tensor cores: bf16, heads of 64, 80 or 104 values, no dropout. What it computes: see attention.cu.
//
// Queries and keys are rounded to bf16 after norm and rotation, exp of the logits and dS before their products; all else is
// f32. A warp has 16 rows (queries; in the second half of the backward pass keys) as operands and sums in registers and runs
// over the rows of the other side in shared memory. Those are normalised and rotated while they are loaded: all rows of the
// head once, where they fit (`tile` = N up to 16), or else 64 at a time, again for every block of 16·warps rows. Memory is
// linear in N either way. Rows in shared memory lie `pitch` apart: an odd number of 16 bytes, so that `ldmatrix` meets no bank
// twice.
//
// The backward pass goes over P twice, first for the queries' gradient, then for the keys' and values': seven products instead
// of five, but no sum leaves its warp, so there are neither atomics nor an f32 copy of the queries' gradient.
#pragma once
#include "common.cuh"

namespace attention_mma {

constexpr float EPS = 1e-6f, LOG2_E = 1.4426950408889634f;

// Steps of 16 along a head, its tiles of 8 columns, and lanes that load a row.
template <int H>
constexpr int STEPS = (H + 15) / 16;
template <int H>
constexpr int TILES = H / 8;
// Warps of a block, and operands of each that the backward pass keeps in shared memory. With 6 warps, two blocks have the
// registers of a multiprocessor for themselves, 168 a thread; nine have as many, eight 255. Heads of 80 are short of them.
template <int H>
constexpr int WARPS = H == 64 ? 6 : H == 80 ? 9 : 8;
template <int H>
constexpr int OPERANDS = H == 80 ? 2 : 1;
// Distance of two rows in shared memory: of a warp's own rows, and of pairs, a rotated row and the plain one PLAIN further.
template <int H>
constexpr int PITCH = STEPS<H> * 16 + 8;
template <int H>
constexpr int PLAIN = STEPS<H> * 16;
template <int H>
constexpr int PAIR = STEPS<H> * 32 + 8;
template <int H>
constexpr int GROUP = H <= 64 ? 8 : 16;

DEVICE float infinity() { return __uint_as_float(0x7f800000u); }

// Special registers, read anew each time: what is computed from them is computed where it is needed, instead of being kept in
// registers through all loops.
#ifdef __CUDACC__
#define SPECIAL(function, name)                       \
  DEVICE int function() {                             \
    int value;                                        \
    asm volatile("mov.u32 %0, " name ";" : "=r"(value)); \
    return value;                                     \
  }
SPECIAL(thread_index, "%%tid.x")
SPECIAL(split_index, "%%ctaid.x")
SPECIAL(head_index, "%%ctaid.y")
SPECIAL(image_index, "%%ctaid.z")
SPECIAL(splits, "%%nctaid.x")
#undef SPECIAL
#else
DEVICE int thread_index() { return threadIdx.x; }
DEVICE int split_index() { return blockIdx.x; }
DEVICE int head_index() { return blockIdx.y; }
DEVICE int image_index() { return blockIdx.z; }
DEVICE int splits() { return gridDim.x; }
#endif
DEVICE int lane_index() { return thread_index() % 32; }
// The same in all lanes, and known to the compiler to be so.
DEVICE int warp_index() { return __shfl_sync(0xffffffffu, thread_index() / 32, 0); }

DEVICE float exp2_fast(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

// Sums and maxima over the lanes of one row: 4 neighbours in a product's layout, `lanes` neighbours while loading.
template <int lanes>
DEVICE float row_sum(float v) {
#pragma unroll
  for (int offset = lanes / 2; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
DEVICE float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}

DEVICE void unpack(float* x, uint4 u) {
  x[0] = low_bf16(u.x);
  x[1] = high_bf16(u.x);
  x[2] = low_bf16(u.y);
  x[3] = high_bf16(u.y);
  x[4] = low_bf16(u.z);
  x[5] = high_bf16(u.z);
  x[6] = low_bf16(u.w);
  x[7] = high_bf16(u.w);
}
DEVICE void load_eight(float* x, const float* from) {
  const float4 a = *reinterpret_cast<const float4*>(from), b = *reinterpret_cast<const float4*>(from + 4);
  x[0] = a.x;
  x[1] = a.y;
  x[2] = a.z;
  x[3] = a.w;
  x[4] = b.x;
  x[5] = b.y;
  x[6] = b.z;
  x[7] = b.w;
}

// Where rows come from, all at token 0 of one head: `rotated` (queries or keys, with the norm's weight [h] and the rotary
// table [2, N, h]), `plain` (values or dout), and for the statistics of queries out, which lies as dout does, and lse.
struct Source {
  const bf16 *rotated, *plain, *out;
  const float *weight, *rope, *lse;
  int tokens, rotated_pitch, plain_pitch;
};

// `threads` threads, whole warps, bring rows first..first+count (a multiple of 16) to shared memory: `rotated` and `plain`
// [count, ..] `pitch` apart, stats [count, 2] = (lse·log2(e), Σ plain·out). The flags tell which; the others are not touched.
// Beyond the last token, and beyond column h, rows are zeros and lse infinite. A row is loaded by GROUP lanes, 16 bytes each;
// `batch` rows are on their way at once. No lane branches: those without work load what another loads, and throw it away.
template <int H, int pitch, bool ROTATED, bool PLAIN_TOO, bool STATS, int batch>
DEVICE void load_rows(const Source& s, bf16* rotated, bf16* plain, float* stats, int first, int count, int thread,
                      int threads) {
  const int column = thread % GROUP<H> * 8, from = min(column, H - 8), step = threads / GROUP<H>;
  float weight[8];
  if (ROTATED) load_eight(weight, s.weight + from);
  for (int start = thread / GROUP<H>; start < count; start += batch * step) {
    uint4 raw[batch], copied[batch], out[batch];
    float cosines[batch][8], sines[batch][8], lse[batch];
#pragma unroll
    for (int u = 0; u < batch; u++) {
      const int i = min(first + start + u * step, s.tokens - 1);
      if (ROTATED) {
        raw[u] = *reinterpret_cast<const uint4*>(s.rotated + i * s.rotated_pitch + from);
        load_eight(cosines[u], s.rope + i * H + from);
        load_eight(sines[u], s.rope + (s.tokens + i) * H + from);
      }
      if (PLAIN_TOO) copied[u] = *reinterpret_cast<const uint4*>(s.plain + i * s.plain_pitch + from);
      if (STATS) {
        out[u] = *reinterpret_cast<const uint4*>(s.out + i * s.plain_pitch + from);
        lse[u] = s.lse[i] * LOG2_E;
      }
    }
#pragma unroll
    for (int u = 0; u < batch; u++) {
      const int row = start + u * step;
      const bool there = column < H && first + row < s.tokens;
      const bool place = row < count && column < STEPS<H> * 16;
      if (ROTATED) {
        float x[8], sum = 0.0f;
        unpack(x, raw[u]);
#pragma unroll
        for (int c = 0; c < 8; c++) sum += x[c] * x[c];
        const float r = rsqrtf(row_sum<GROUP<H>>(column < H ? sum : 0.0f) * (1.0f / H) + EPS);
        unsigned y[4];
#pragma unroll
        for (int c = 0; c < 8; c += 2) {
          const float a = x[c] * r * weight[c], b = x[c + 1] * r * weight[c + 1];
          const unsigned two =
              pack_bf16(a * cosines[u][c] - b * sines[u][c], b * cosines[u][c + 1] + a * sines[u][c + 1]);
          y[c / 2] = there ? two : 0u;
        }
        if (place) *reinterpret_cast<uint4*>(rotated + row * pitch + column) = make_uint4(y[0], y[1], y[2], y[3]);
      }
      if (PLAIN_TOO) {
        if (!there) copied[u] = make_uint4(0u, 0u, 0u, 0u);
        if (place) *reinterpret_cast<uint4*>(plain + row * pitch + column) = copied[u];
      }
      if (STATS) {
        float x[8], y[8], sum = 0.0f;
        unpack(x, copied[u]);
        unpack(y, out[u]);
#pragma unroll
        for (int c = 0; c < 8; c++) sum += x[c] * y[c];
        sum = row_sum<GROUP<H>>(there ? sum : 0.0f);
        if (column == 0 && row < count) {
          *reinterpret_cast<float2*>(stats + row * 2) = make_float2(there ? lse[u] : infinity(), sum);
        }
      }
    }
  }
}

// An operand of 16 rows, [16, h]: in registers where there are enough, else brought from shared memory for each product.
template <int H>
struct Held {
  unsigned a[STEPS<H>][4];
};
struct Staged {
  const bf16* rows;
};
template <int H>
DEVICE void load_step(unsigned* a, const bf16* rows, int k) {
  const int lane = threadIdx.x % 32;
  load_matrix_x4(a, rows + lane % 16 * PITCH<H> + k * 16 + lane / 16 * 8);
}
template <int H>
DEVICE void load_operand(Held<H>& to, const bf16* rows) {
#pragma unroll
  for (int k = 0; k < STEPS<H>; k++) load_step<H>(to.a[k], rows, k);
}
template <int H>
DEVICE void load_operand(Staged& to, const bf16* rows) {
  to.rows = rows;
}
// The backward pass's operands: heads of more than 64 values leave registers for none while the keys' gradient is made, and
// for one while the queries' is.
template <bool held, int H>
struct Operand {
  typedef Held<H> Type;
};
template <int H>
struct Operand<false, H> {
  typedef Staged Type;
};
template <int H>
DEVICE void operand_step(unsigned* a, const Held<H>& from, int k) {
#pragma unroll
  for (int e = 0; e < 4; e++) a[e] = from.a[k][e];
}
template <int H>
DEVICE void operand_step(unsigned* a, const Staged& from, int k) {
  load_step<H>(a, from.rows, k);
}

template <int H>
DEVICE void clear(float sums[][4]) {
#pragma unroll
  for (int n = 0; n < TILES<H>; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) sums[n][e] = 0.0f;
  }
}

// sums [16, groups·16] = operand·rowsᵀ, with rows [groups·16, PAIR].
template <int H, int groups, typename From>
DEVICE void multiply_transposed(float sums[][4], const From& operand, const bf16* rows) {
  const int lane = threadIdx.x % 32;
  const bf16* at = rows + (lane / 16 * 8 + lane % 8) * PAIR<H> + lane / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < groups * 2; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) sums[n][e] = 0.0f;
  }
#pragma unroll
  for (int k = 0; k < STEPS<H>; k++) {
    unsigned a[4];
    operand_step<H>(a, operand, k);
#pragma unroll
    for (int n = 0; n < groups; n++) {
      unsigned b[4];
      load_matrix_x4(b, at + n * 16 * PAIR<H> + k * 16);
      mma_16816(sums[2 * n], a, b);
      mma_16816(sums[2 * n + 1], a, b + 2);
    }
  }
}

// A product's result, rounded to bf16, is in the layout of the next one's operand.
template <int groups>
DEVICE void round(unsigned a[][4], const float weights[][4]) {
#pragma unroll
  for (int k = 0; k < groups; k++) {
    const float *left = weights[2 * k], *right = weights[2 * k + 1];
    a[k][0] = pack_bf16(left[0], left[1]);
    a[k][1] = pack_bf16(left[2], left[3]);
    a[k][2] = pack_bf16(right[0], right[1]);
    a[k][3] = pack_bf16(right[2], right[3]);
  }
}

// sums [16, h] += a·rows, with a [16, groups·16] and rows [groups·16, PAIR].
template <int H, int groups>
DEVICE void multiply(float sums[][4], const unsigned a[][4], const bf16* rows) {
  const int lane = threadIdx.x % 32;
  const bf16* at = rows + lane % 16 * PAIR<H> + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < groups; k++) {
#pragma unroll
    for (int n = 0; n < STEPS<H>; n++) {
      unsigned b[4];
      load_matrix_x4_transposed(b, at + k * 16 * PAIR<H> + n * 16);
      mma_16816(sums[2 * n], a[k], b);
      if (2 * n + 1 < TILES<H>) mma_16816(sums[2 * n + 1], a[k], b + 2);
    }
  }
}

// Values in a product's layout to 16 rows of `stage` [16, PITCH], row g times factor[0], row g + 8 times factor[1].
template <int H>
DEVICE void stage_rows(bf16* stage, const float values[][4], float factor0, float factor1) {
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < TILES<H>; n++) {
    unsigned* at = reinterpret_cast<unsigned*>(stage + g * PITCH<H> + n * 8 + t * 2);
    at[0] = pack_bf16(values[n][0] * factor0, values[n][1] * factor0);
    at[8 * PITCH<H> / 2] = pack_bf16(values[n][2] * factor1, values[n][3] * factor1);
  }
}

// The staged rows to memory, those that there are.
template <int H>
DEVICE void store_rows(bf16* to, int pitch, const bf16* stage, int first, int tokens) {
  __syncwarp();
  // Unrolled, the places of all chunks would be kept in registers.
#pragma unroll 1
  for (int e = lane_index(); e < 16 * TILES<H>; e += 32) {
    const int row = e / TILES<H>, column = e % TILES<H> * 8;
    if (first + row < tokens) {
      *reinterpret_cast<uint4*>(to + (first + row) * pitch + column) =
          *reinterpret_cast<const uint4*>(stage + row * PITCH<H> + column);
    }
  }
  __syncwarp();
}

// The way back of 16 rows through rotation and norm. d, in a product's layout, is the gradient of the rotated rows divided by
// `factor`. Stages the gradient of the raw rows x, and adds what they give to the norm's weight to weight_sums [h], the warp's.
template <int H>
DEVICE void rotate_and_norm_grad(float d[][4], float factor, const bf16* x, int pitch, const float* weight,
                                 const float* rope, bf16* stage, float* weight_sums, int first, int tokens) {
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    // Here and below: keeps loads from being moved before what needs their registers.
    __syncwarp();
    const int i = first + g + half * 8, row = min(i, tokens - 1);
    const bf16* from = x + row * pitch + t * 2;
    const float *cosines = rope + row * H + t * 2, *sines = rope + (tokens + row) * H + t * 2;
    unsigned raw[TILES<H>];
    float sum = 0.0f, dot = 0.0f;
#pragma unroll
    for (int n = 0; n < TILES<H>; n++) {
      raw[n] = *reinterpret_cast<const unsigned*>(from + n * 8);
      sum += low_bf16(raw[n]) * low_bf16(raw[n]) + high_bf16(raw[n]) * high_bf16(raw[n]);
    }
    const float r = rsqrtf(row_sum<4>(sum) * (1.0f / H) + EPS);
#pragma unroll
    for (int n = 0; n < TILES<H>; n++) {
      const float2 cosine = *reinterpret_cast<const float2*>(cosines + n * 8);
      const float2 sine = *reinterpret_cast<const float2*>(sines + n * 8);
      const float2 w = *reinterpret_cast<const float2*>(weight + n * 8 + t * 2);
      const float d0 = d[n][half * 2] * factor, d1 = d[n][half * 2 + 1] * factor;
      // The transposed rotation: a value went to its own place with its cosine, to its partner's with the partner's sine.
      const float n0 = d0 * cosine.x + d1 * sine.y, n1 = d1 * cosine.y - d0 * sine.x;
      d[n][half * 2] = n0;
      d[n][half * 2 + 1] = n1;
      dot += n0 * w.x * low_bf16(raw[n]) + n1 * w.y * high_bf16(raw[n]);
      if (n % 4 == 3) __syncwarp();
    }
    dot = row_sum<4>(dot) * r * (1.0f / H);
    const bool there = i < tokens;
#pragma unroll
    for (int n = 0; n < TILES<H>; n++) {
      const float2 w = *reinterpret_cast<const float2*>(weight + n * 8 + t * 2);
      const float hat0 = low_bf16(raw[n]) * r, hat1 = high_bf16(raw[n]) * r;
      const float n0 = d[n][half * 2], n1 = d[n][half * 2 + 1];
      *reinterpret_cast<unsigned*>(stage + (g + half * 8) * PITCH<H> + n * 8 + t * 2) =
          pack_bf16(r * (n0 * w.x - hat0 * dot), r * (n1 * w.y - hat1 * dot));
      d[n][half * 2] = there ? n0 * hat0 : 0.0f;
      d[n][half * 2 + 1] = there ? n1 * hat1 : 0.0f;
    }
  }
#pragma unroll
  for (int n = 0; n < TILES<H>; n++) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
      float v = d[n][c] + d[n][c + 2];
#pragma unroll
      for (int offset = 4; offset < 32; offset <<= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
      if (g == 0) weight_sums[n * 8 + t * 2 + c] += v;
    }
  }
}

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

// out [B, N, H·h] and lse [B, H, N]. Grid [splits, H, B]. Shared memory, bf16: for each warp 16 rows [16, PITCH] on their way
// in and out, then keys beside values [tile, PAIR].
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
          lse[row_at(in) + i] =
              largest[half] * scale + logf(sum);
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
// [splits, H, B].
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

// Threads and blocks a multiprocessor must hold bound the registers: for heads of 64 two blocks fit its shared memory up to
// some 290 tokens, for larger heads one.
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
    attention_mma::backward<H, groups>({qkv, q_norm, k_norm, rope, tokens, heads, pitch_qkv, pitch_out, tile}, {out, lse, dout}, dqkv, partial); \
  }                                                                                                                         \
  EXPORT(attention_mma_grad_##H)

ATTENTION_MMA_KERNELS(64, 2, 2)
ATTENTION_MMA_KERNELS(80, 1, 1)
ATTENTION_MMA_KERNELS(104, 1, 1)
