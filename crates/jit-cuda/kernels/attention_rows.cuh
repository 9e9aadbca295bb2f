// Rows of queries, keys and values as operands of tensor cores: loaded, normalised, rotated, and turned back. See attention_mma.cu.
#pragma once
#include "common.cuh"

namespace attention_mma {

constexpr float EPS = 1e-6f, LOG2_E = 1.4426950408889634f;

// Steps of 16 along a head, and its tiles of 8 columns.
template <int H>
constexpr int STEPS = (H + 15) / 16;
template <int H>
constexpr int TILES = H / 8;
// Warps of a block, and the operands for which a warp has room in shared memory while the backward pass runs. Registers decide:
// two blocks of 6 warps have 168 a thread, so has one of 9, one of 8 has 255. Heads of 80 have none left to hold two operands.
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
// Lanes that load a row.
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
// The backward pass's second operand, in registers or not.
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

}  // namespace attention_mma
