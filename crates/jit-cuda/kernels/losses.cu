// The diffusion objective in its nine forms, the auxiliary losses, and noise.
//
// net, z = t·x + (1 − t)·noise, x, noise [B, P] with P = per_image; t [B]. Each loss gives one value an image: how images weigh
// is the caller's choice.
#pragma once
#include "common.cuh"
#include "elementwise.cu"
#include "philox.cuh"
#include "reduce.cu"

// How an image's errors, prediction − target, are formed in the space of the loss.
struct Objective {
  Conversion prediction, velocity;
  int loss;
};

DEVICE Objective objective(int output, int loss, float t, float t_eps) {
  return {conversion(output, loss, t, t_eps), conversion(SPACE_X, SPACE_V, t, t_eps), loss};
}

// `target` is a value of x, or of the noise where that is the space of the loss. The target of v is (x − z)/d with the clamped
// denominator of the prediction, as in the reference implementation; away from the clamp it equals x − noise.
DEVICE float error_of(const Objective& o, float net, float z, float target) {
  if (o.loss == SPACE_V) target = converted(o.velocity, target, z);
  return __fsub_rn(converted(o.prediction, net, z), target);
}

// partial [B, chunks]: sums of squared errors of ⌈P/chunks⌉ values each, in f64 within a block. Grid [chunks, B] of 256 threads;
// 12 bytes read a value.
extern "C" __global__ void __launch_bounds__(256)
    diffusion_loss(const float* net, const float* z, const float* x, const float* noise, const float* t, float t_eps,
                   int output, int loss, float* partial, long long per_image) {
  const int chunks = gridDim.x, image = blockIdx.y;
  const long long chunk = (per_image + chunks - 1) / chunks, first = blockIdx.x * chunk;
  const int count = static_cast<int>(max(0ll, min(chunk, per_image - first)));
  const long long from = image * per_image + first;
  const Objective o = objective(output, loss, t[image], t_eps);
  const float* target = (loss == SPACE_EPS ? noise : x) + from;
  net += from;
  z += from;
  double sum = 0.0;
#pragma unroll 4
  for (int i = threadIdx.x; i < count; i += 256) {
    const double e = error_of(o, net[i], z[i], target[i]);
    sum += e * e;
  }
  const double all = block_sum_double(sum);
  if (threadIdx.x == 0) partial[static_cast<long long>(image) * chunks + blockIdx.x] = static_cast<float>(all);
}
EXPORT(diffusion_loss)

// out [batch] = factor·Σ_chunks partial [batch, chunks]. Grid [⌈batch/256⌉] of 256 threads.
extern "C" __global__ void diffusion_loss_finish(const float* partial, float* out, int batch, int chunks, float factor) {
  const int image = blockIdx.x * 256 + threadIdx.x;
  if (image >= batch) return;
  double sum = 0.0;
  for (int i = 0; i < chunks; i++) sum += partial[static_cast<long long>(image) * chunks + i];
  out[image] = static_cast<float>(sum * factor);
}
EXPORT(diffusion_loss_finish)

// dnet [B, P] = weight_b·2/P·error·∂prediction/∂net. Grid [min(⌈n/256⌉, 16·processors)] of 256 threads; 16 bytes moved a value.
template <int W>
DEVICE void diffusion_loss_grad_packs(const float* net, const float* z, const float* target, const float* t, float t_eps,
                                      int output, int loss, const float* weight, float* dnet, long long per_image,
                                      long long n) {
  const long long packs = per_image / W;
  each(n / W, [&](long long i) {
    const int image = static_cast<int>(i / packs);
    const Objective o = objective(output, loss, t[image], t_eps);
    const float factor = 2.0f * weight[image] / static_cast<float>(per_image) * o.prediction.a / o.prediction.divisor;
    Pack<W> v = load_pack<W>(net + i * W);
    const Pack<W> vz = load_pack<W>(z + i * W), vt = load_pack<W>(target + i * W);
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] = factor * error_of(o, v.at[k], vz.at[k], vt.at[k]);
    store_pack<W>(dnet + i * W, v);
  });
}
extern "C" __global__ void diffusion_loss_grad(const float* net, const float* z, const float* x, const float* noise,
                                               const float* t, float t_eps, int output, int loss, const float* weight,
                                               float* dnet, long long per_image, long long n) {
  const float* target = loss == SPACE_EPS ? noise : x;
  if (per_image % 4 == 0) {
    diffusion_loss_grad_packs<4>(net, z, target, t, t_eps, output, loss, weight, dnet, per_image, n);
  } else {
    diffusion_loss_grad_packs<1>(net, z, target, t, t_eps, output, loss, weight, dnet, per_image, n);
  }
}
EXPORT(diffusion_loss_grad)

// loss = (prediction − target)², grad = 2·weight·(prediction − target), all [batch]. Grid of any size, 256 threads.
extern "C" __global__ void squared_error(const float* prediction, const float* target, const float* weight, float* loss,
                                         float* grad, int batch) {
  each(batch, [&](long long i) {
    const float e = prediction[i] - target[i];
    loss[i] = e * e;
    grad[i] = 2.0f * weight[i] * e;
  });
}
EXPORT(squared_error)

// loss = −log softmax(logits)[target], grad = weight·(softmax − one-hot): logits, grad [batch, classes], the others [batch]. Grid
// [⌈batch/8⌉] of 256 threads, a warp an image. In f64, as a small loss is the difference of large numbers; there is little of it.
extern "C" __global__ void __launch_bounds__(256) cross_entropy(const float* logits, const int* target, const float* weight,
                                                                float* loss, float* grad, int batch, int classes) {
  const int image = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (image >= batch) return;
  const float* row = logits + static_cast<long long>(image) * classes;
  float most = __uint_as_float(0xff800000u);
  for (int c = lane; c < classes; c += 32) most = fmaxf(most, row[c]);
  const double top = warp_max(most);
  double sum = 0.0;
  for (int c = lane; c < classes; c += 32) sum += exp(row[c] - top);
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  const double lse = top + log(sum);
  const int right = target[image];
  const float w = weight[image];
  if (lane == 0) loss[image] = static_cast<float>(lse - row[right]);
  for (int c = lane; c < classes; c += 32) {
    const float p = __fmul_rn(w, static_cast<float>(exp(row[c] - lse)));
    grad[static_cast<long long>(image) * classes + c] = c == right ? __fsub_rn(p, w) : p;
  }
}
EXPORT(cross_entropy)

// Two standard normals from two words (Box–Muller), in f64 as the processor makes them.
DEVICE void box_muller(unsigned a, unsigned b, float* out) {
  // a + 0.5 keeps the logarithm's argument in (0, 1).
  const double r = sqrt(-2.0 * log((static_cast<double>(a) + 0.5) * (1.0 / 4294967296.0)));
  double sine, cosine;
  sincospi(static_cast<double>(b) * (1.0 / 2147483648.0), &sine, &cosine);
  out[0] = static_cast<float>(r * cosine);
  out[1] = static_cast<float>(r * sine);
}

// out [B, per_image] = scale·N(0, 1), with a stream an image, streams [B, 5]: normal i of an image is that of its stream. Grid
// [min(⌈n/256⌉, 16·processors)] of 256 threads, four values a thread at a time; 4 bytes written a value.
extern "C" __global__ void normal_noise(float* out, const unsigned* streams, float scale, long long per_image, long long n) {
  const long long blocks = (per_image + 3) / 4;
  each(n / per_image * blocks, [&](long long i) {
    const long long image = i / blocks, block = i - image * blocks;
    const Words words = philox(streams + image * 5, static_cast<unsigned>(block));
    Pack<4> v;
    box_muller(words.at[0], words.at[1], v.at);
    box_muller(words.at[2], words.at[3], v.at + 2);
#pragma unroll
    for (int k = 0; k < 4; k++) v.at[k] *= scale;
    float* to = out + image * per_image;
    const int at = static_cast<int>(block) * 4, end = static_cast<int>(per_image);
    if (per_image % 4 == 0) {
      store_columns<true>(to, at, end, v);
    } else {
      store_columns<false>(to, at, end, v);
    }
  });
}
EXPORT(normal_noise)
