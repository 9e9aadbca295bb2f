// What every kernel stands on: bfloat16, sums over a warp and a block, tensor core products.
//
// One source, two compilers. NVRTC compiles it for a card; the C++ compiler, with `emulator.h` in front, for tests on the
// processor. So nothing here is included from CUDA's headers, and inline assembly stands beside its plain twin.
//
// Conventions. `f32` tensors are dense. Rows of `bf16` tensors lie `pitch` elements apart, a multiple of 8. A kernel for both
// is a template `name_kernel<T>` and exported as `name_f32` and `name_bf16`. Sums have a fixed order: no atomics.
#pragma once

#ifdef __CUDACC__
#define EXPORT(name)
#define DYNAMIC_SHARED(type, name)                                     \
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[]; \
  type* name = reinterpret_cast<type*>(dynamic_shared_bytes)
#define SHARED(type, name) __shared__ type name
#define DEVICE static __device__ __forceinline__
#endif

// Bits of an f32's upper half.
struct bf16 {
  unsigned short bits;
};

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

// Rounded to nearest, ties to even.
DEVICE bf16 to_bf16(float x) {
  unsigned u = __float_as_uint(x);
  bf16 r;
  if ((u & 0x7fffffffu) > 0x7f800000u) {
    r.bits = static_cast<unsigned short>((u >> 16) | 0x40u);
    return r;
  }
  u += 0x7fffu + ((u >> 16) & 1u);
  r.bits = static_cast<unsigned short>(u >> 16);
  return r;
}

// `from_float<T>(x)`: x in the type of an activation.
DEVICE void set(float& to, float x) { to = x; }
DEVICE void set(bf16& to, float x) { to = to_bf16(x); }
template <typename T>
DEVICE T from_float(float x) {
  T r;
  set(r, x);
  return r;
}

// Two neighbours in one register, `lo` at the lower address.
DEVICE unsigned pack_bf16(float lo, float hi) {
#ifdef __CUDACC__
  unsigned r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
#else
  return static_cast<unsigned>(to_bf16(lo).bits) | static_cast<unsigned>(to_bf16(hi).bits) << 16;
#endif
}
DEVICE float low_bf16(unsigned two) { return __uint_as_float(two << 16); }
DEVICE float high_bf16(unsigned two) { return __uint_as_float(two & 0xffff0000u); }

DEVICE float warp_sum(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}

DEVICE float warp_max(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
  return v;
}

// The sum over all threads of a block of whole warps, at most 1024 threads; every thread gets it. All threads must call it.
DEVICE float block_sum(float v) {
  SHARED(float, sums[33]);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  v = warp_sum(v);
  __syncthreads();
  if (lane == 0) sums[warp] = v;
  __syncthreads();
  if (warp == 0) {
    v = warp_sum(lane < warps ? sums[lane] : 0.0f);
    if (lane == 0) sums[32] = v;
  }
  __syncthreads();
  return sums[32];
}

// d[16, 8] += a[16, 16]·b[16, 8] in f32, operands in bf16: `mma.sync.m16n8k16`. With g = lane/4, t = lane%4, a holds rows
// g, g+8 and columns 2t, 2t+1, 2t+8, 2t+9: a[0] = (g, 2t), a[1] = (g+8, 2t), a[2] = (g, 2t+8), a[3] = (g+8, 2t+8), two neighbours
// each. b holds rows 2t, 2t+1 (b[0]) and 2t+8, 2t+9 (b[1]) of column g. d[0], d[1] are (g, 2t), (g, 2t+1); d[2], d[3] lie 8 rows below.
DEVICE void mma_16816(float* d, const unsigned* a, const unsigned* b) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulator::mma_16816(d, a, b);
#endif
}

// Four 8×8 tiles of 16-bit values from shared memory: `row` is, in lane 8·i + r, the address of row r of tile i (16 bytes, aligned).
// r[i] of lane l gets elements (l/4, 2·(l%4)) and the next of tile i.
DEVICE void load_matrix_x4(unsigned* r, const void* row) {
#ifdef __CUDACC__
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at));
#else
  emulator::load_matrix_x4(r, row, false);
#endif
}

// As `load_matrix_x4`, each tile transposed: r[i] of lane l gets elements (2·(l%4), l/4) and (2·(l%4) + 1, l/4) of tile i.
DEVICE void load_matrix_x4_transposed(unsigned* r, const void* row) {
#ifdef __CUDACC__
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at));
#else
  emulator::load_matrix_x4(r, row, true);
#endif
}

// W neighbours in registers: 16 bytes of f32 where W is 4, of bf16 where W is 8; W = 1 where columns do not divide.
template <int W>
struct Pack {
  float at[W];
};

template <int W>
DEVICE Pack<W> load_pack(const float* from) {
  Pack<W> r;
  if constexpr (W == 1) {
    r.at[0] = *from;
  } else {
#pragma unroll
    for (int i = 0; i < W; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + i);
      r.at[i] = v.x, r.at[i + 1] = v.y, r.at[i + 2] = v.z, r.at[i + 3] = v.w;
    }
  }
  return r;
}
template <int W>
DEVICE Pack<W> load_pack(const bf16* from) {
  Pack<W> r;
  if constexpr (W == 1) {
    r.at[0] = to_float(*from);
  } else if constexpr (W == 4) {
    const uint2 v = *reinterpret_cast<const uint2*>(from);
    r.at[0] = low_bf16(v.x), r.at[1] = high_bf16(v.x), r.at[2] = low_bf16(v.y), r.at[3] = high_bf16(v.y);
  } else {
    const uint4 v = *reinterpret_cast<const uint4*>(from);
    r.at[0] = low_bf16(v.x), r.at[1] = high_bf16(v.x), r.at[2] = low_bf16(v.y), r.at[3] = high_bf16(v.y);
    r.at[4] = low_bf16(v.z), r.at[5] = high_bf16(v.z), r.at[6] = low_bf16(v.w), r.at[7] = high_bf16(v.w);
  }
  return r;
}

template <int W>
DEVICE void store_pack(float* to, const Pack<W>& v) {
  if constexpr (W == 1) {
    *to = v.at[0];
  } else {
#pragma unroll
    for (int i = 0; i < W; i += 4) {
      *reinterpret_cast<float4*>(to + i) = make_float4(v.at[i], v.at[i + 1], v.at[i + 2], v.at[i + 3]);
    }
  }
}
template <int W>
DEVICE void store_pack(bf16* to, const Pack<W>& v) {
  if constexpr (W == 1) {
    *to = to_bf16(v.at[0]);
  } else if constexpr (W == 4) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack_bf16(v.at[0], v.at[1]), pack_bf16(v.at[2], v.at[3]));
  } else {
    *reinterpret_cast<uint4*>(to) = make_uint4(pack_bf16(v.at[0], v.at[1]), pack_bf16(v.at[2], v.at[3]),
                                               pack_bf16(v.at[4], v.at[5]), pack_bf16(v.at[6], v.at[7]));
  }
}

// Columns c..c+3 of a row of `columns`, zeros beyond its end. WHOLE: columns come in fours and addresses are aligned.
template <bool WHOLE, typename T>
DEVICE Pack<4> load_columns(const T* row, int c, int columns) {
  if constexpr (WHOLE) {
    if (c < columns) return load_pack<4>(row + c);
    return Pack<4>{};
  } else {
    Pack<4> r;
#pragma unroll
    for (int i = 0; i < 4; i++) r.at[i] = c + i < columns ? to_float(row[c + i]) : 0.0f;
    return r;
  }
}
template <bool WHOLE, typename T>
DEVICE void store_columns(T* row, int c, int columns, const Pack<4>& v) {
  if constexpr (WHOLE) {
    if (c < columns) store_pack<4>(row + c, v);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (c + i < columns) set(row[c + i], v.at[i]);
    }
  }
}

// 16 bytes hold so many.
template <typename T>
struct Lanes {
  static constexpr int width = 4;
};
template <>
struct Lanes<bf16> {
  static constexpr int width = 8;
};

// f(i) for every i below n, shared out over a one-dimensional grid of any size.
template <typename F>
DEVICE void each(long long n, F f) {
  const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

// out = f(x) of n values, and out = f(x, y). `out` may be an input: every value is read before it is written.
template <typename T, typename O, typename F>
DEVICE void map(const T* x, O* out, long long n, F f) {
  constexpr int W = Lanes<T>::width;
  each(n / W, [&](long long i) {
    Pack<W> v = load_pack<W>(x + i * W);
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] = f(v.at[k]);
    store_pack<W>(out + i * W, v);
  });
  each(n % W, [&](long long i) {
    i += n - n % W;
    set(out[i], f(to_float(x[i])));
  });
}
template <typename T, typename O, typename F>
DEVICE void map(const T* x, const T* y, O* out, long long n, F f) {
  constexpr int W = Lanes<T>::width;
  each(n / W, [&](long long i) {
    Pack<W> v = load_pack<W>(x + i * W);
    const Pack<W> u = load_pack<W>(y + i * W);
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] = f(v.at[k], u.at[k]);
    store_pack<W>(out + i * W, v);
  });
  each(n % W, [&](long long i) {
    i += n - n % W;
    set(out[i], f(to_float(x[i]), to_float(y[i])));
  });
}
