//! What a device must be able to do for the network to run and train on it.
//!
//! The operations are the model's own, at the granularity at which fusing pays (a whole attention,
//! a whole norm with its modulation), each with its hand-derived gradient. The network is written
//! once on top; a device is one implementation of this trait.
//!
//! Conventions: tensors are row-major, `B` images, `N` tokens, `D` channels. A gradient
//! named `d…: &mut` is *added into*; one that is returned is fresh. Shapes are the caller's
//! responsibility: a mismatch is a bug in the model code and panics.

use jit_core::rng::Stream;
pub use jit_kernels::adamw::AdamW;
pub use jit_kernels::gemm::Precision;
use jit_kernels::noise;

use crate::objective::Space;

/// Where the shift and the scale lie in a modulation row, in units of `D`.
pub struct Modulation<'a, T> {
    /// `[B, k·D]`: k vectors of width D for every image.
    pub vectors: &'a T,
    /// Index of the shift vector.
    pub shift: usize,
    /// Index of the scale vector.
    pub scale: usize,
}

/// The shape of a multi-head attention and what is random in it.
pub struct Attention<'a, D: Device + ?Sized> {
    /// Number of heads H; the head size is D / H.
    pub heads: usize,
    /// Weight of the per-head RMSNorm of the queries, `[D / H]`.
    pub q_norm: &'a D::Weight,
    /// Weight of the per-head RMSNorm of the keys, `[D / H]`.
    pub k_norm: &'a D::Weight,
    /// Rotary table, cosines then sines: `[2, N, D / H]`.
    pub rope: &'a D::Tensor,
    /// Dropout on the attention probabilities.
    pub dropout: Option<&'a Dropout>,
}

/// A dropout mask, addressed rather than stored: both passes draw it again.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Probability of zeroing an element, in `[0, 1)`.
    pub rate: f32,
    /// One stream per image of the batch.
    pub streams: Vec<Stream>,
}

/// Gradients of an attention's two norm weights, added into.
pub struct NormGrads<'a, T> {
    /// `[D / H]`
    pub q_norm: &'a mut T,
    /// `[D / H]`
    pub k_norm: &'a mut T,
}

/// A device: memory, and the model's operations on it.
pub trait Device: Send + Sync {
    /// A tensor in the device's memory. What the host gives and reads is f32, as are the residual stream, statistics, losses, gradients of
    /// parameters and moments; what lies between products may be kept in less.
    type Tensor: Send + Sync;
    /// A parameter: its f32 master value and whatever packed form the device wants kept with it.
    type Weight: Send + Sync;
    /// A gradient's norm, which may still be on its way.
    type Norm: Send + Sync;
    /// Values on their way to the host.
    type Coming: Send + Sync;

    /// What the operands of linear layers are rounded to; all else computes in f32.
    fn precision(&self) -> Precision;
    /// Whether operations are queued and run behind the program, so that it had better ask for results
    /// some time after it has ordered them.
    fn runs_ahead(&self) -> bool {
        false
    }
    /// Waits until all that was queued is done.
    fn wait(&self) {}
    /// What went wrong, if anything did. All that a failed device computes is void.
    fn fault(&self) -> Option<Fault> {
        None
    }
    /// Whether its tensors lie in the memory of this process, which no device bounds.
    fn uses_host_memory(&self) -> bool {
        false
    }
    /// The memory of its tensors, where the device counts it.
    fn memory(&self) -> Option<MemoryUse> {
        None
    }

    // ---- memory ----

    /// Copies host data to the device.
    fn upload(&self, data: &[f32], shape: &[usize]) -> Self::Tensor;
    /// Copies a tensor to the host.
    fn download(&self, x: &Self::Tensor) -> Vec<f32>;
    /// Begins to copy a tensor to the host.
    fn start_read(&self, x: &Self::Tensor) -> Self::Coming;
    /// What a copy brought, waiting for it and for nothing that was queued later.
    fn receive(&self, coming: &Self::Coming) -> Vec<f32>;
    /// Copies host data into a tensor of as many elements.
    fn assign(&self, x: &mut Self::Tensor, data: &[f32]) {
        let shape = self.shape(x).to_vec();
        *x = self.upload(data, &shape);
    }
    /// A tensor of zeros.
    fn zeros(&self, shape: &[usize]) -> Self::Tensor;
    /// Sets every element to zero.
    fn clear(&self, x: &mut Self::Tensor);
    /// The tensor's shape.
    fn shape<'a>(&self, x: &'a Self::Tensor) -> &'a [usize];
    /// The same data under another shape with as many elements.
    fn reshape(&self, x: Self::Tensor, shape: &[usize]) -> Self::Tensor;
    /// Makes a parameter.
    fn weight(&self, value: Self::Tensor) -> Self::Weight;
    /// The f32 master value of a parameter.
    fn value<'a>(&self, w: &'a Self::Weight) -> &'a Self::Tensor;

    // ---- linear: y = x·wᵀ + b, over the last axis of x; w is [out, in] (further axes flattened) ----

    /// `[…, in] → […, out]`
    fn linear(
        &self,
        x: &Self::Tensor,
        w: &Self::Weight,
        bias: Option<&Self::Weight>,
    ) -> Self::Tensor;
    /// As [`Device::linear`], the result in f32 where a device keeps token activations in less: for what enters the
    /// residual stream by itself, and for the network's output.
    fn linear_full(
        &self,
        x: &Self::Tensor,
        w: &Self::Weight,
        bias: Option<&Self::Weight>,
    ) -> Self::Tensor {
        self.linear(x, w, bias)
    }
    /// `dy·w`: `[…, out] → […, in]`
    fn linear_grad_input(&self, dy: &Self::Tensor, w: &Self::Weight) -> Self::Tensor;
    /// `dw += dyᵀ·x`, `db += Σ dy`.
    fn linear_grad_weight(
        &self,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        dw: &mut Self::Tensor,
        db: Option<&mut Self::Tensor>,
    );

    // ---- transformer ----

    /// `RMSNorm(x)·(1 + scale) + shift`, x `[B, N, D]`, weight `[D]`.
    fn rms_norm_modulate(
        &self,
        x: &Self::Tensor,
        weight: &Self::Weight,
        m: Modulation<'_, Self::Tensor>,
    ) -> Self::Tensor;
    /// Gradient of [`Device::rms_norm_modulate`], added into `dx`, `dweight` and `dmod` `[B, k·D]`.
    fn rms_norm_modulate_grad(
        &self,
        x: &Self::Tensor,
        weight: &Self::Weight,
        m: Modulation<'_, Self::Tensor>,
        dy: &Self::Tensor,
        dx: &mut Self::Tensor,
        dweight: &mut Self::Tensor,
        dmod: &mut Self::Tensor,
    );
    /// qkv `[B, N, 3·D]` → (output `[B, N, D]`, log-sum-exp of each row `[B, H, N]`).
    fn attention(&self, qkv: &Self::Tensor, a: Attention<'_, Self>)
    -> (Self::Tensor, Self::Tensor);
    /// Gradient of [`Device::attention`] with respect to qkv; probabilities are recomputed.
    fn attention_grad(
        &self,
        qkv: &Self::Tensor,
        a: Attention<'_, Self>,
        out: &Self::Tensor,
        lse: &Self::Tensor,
        dout: &Self::Tensor,
        dnorm: NormGrads<'_, Self::Tensor>,
    ) -> Self::Tensor;
    /// `silu(a)·b` with a, b the halves of the last axis: `[…, 2·m] → […, m]`.
    fn swiglu(&self, h: &Self::Tensor) -> Self::Tensor;
    /// Gradient of [`Device::swiglu`]: `[…, m] → […, 2·m]`; and its output again, `[…, m]`.
    fn swiglu_grad(&self, h: &Self::Tensor, dy: &Self::Tensor) -> (Self::Tensor, Self::Tensor);
    /// `x·sigmoid(x)`
    fn silu(&self, x: &Self::Tensor) -> Self::Tensor;
    /// Gradient of [`Device::silu`] at x.
    fn silu_grad(&self, x: &Self::Tensor, dy: &Self::Tensor) -> Self::Tensor;
    /// GELU with the error function, `x·Φ(x)`.
    fn gelu(&self, x: &Self::Tensor) -> Self::Tensor;
    /// Gradient of [`Device::gelu`] at x.
    fn gelu_grad(&self, x: &Self::Tensor, dy: &Self::Tensor) -> Self::Tensor;
    /// `x + gate·y` with gate the vector `index` of the modulation `[B, k·D]`.
    fn gated_residual(
        &self,
        x: &Self::Tensor,
        y: &Self::Tensor,
        mods: &Self::Tensor,
        index: usize,
    ) -> Self::Tensor;
    /// Gradient with respect to y (that of x is `dout` itself); adds the gate's into `dmod`.
    fn gated_residual_grad(
        &self,
        y: &Self::Tensor,
        mods: &Self::Tensor,
        index: usize,
        dout: &Self::Tensor,
        dmod: &mut Self::Tensor,
    ) -> Self::Tensor;
    /// Zeroes elements at random and scales the others by 1/(1−rate); its own gradient.
    fn dropout(&self, x: Self::Tensor, dropout: &Dropout) -> Self::Tensor;

    // ---- tokens and images ----

    /// `[B, C, S, S] → [B, N, C·p·p]`, columns in the order of a flattened convolution weight.
    fn patchify(&self, x: &Self::Tensor, patch: usize) -> Self::Tensor;
    /// `[B, N, p·p·C] → [B, C, S, S]`: "n h w p q c -> n c (h p) (w q)".
    fn unpatchify(&self, tokens: &Self::Tensor, channels: usize, patch: usize) -> Self::Tensor;
    /// Gradient (and inverse) of [`Device::unpatchify`].
    fn unpatchify_grad(&self, dx: &Self::Tensor, patch: usize) -> Self::Tensor;
    /// `x + rows` for every image: `[B, N, D] + [N, D]` (rows may have leading axes of length 1).
    fn add_rows(&self, x: Self::Tensor, rows: &Self::Tensor) -> Self::Tensor;
    /// `drows += Σ_B dy`
    fn add_rows_grad(&self, dy: &Self::Tensor, drows: &mut Self::Tensor);
    /// Rows of a table (its first axis): `[R, …]`, indices `[n]` → `[n, …]`.
    fn gather_rows(&self, table: &Self::Tensor, indices: &[u32]) -> Self::Tensor;
    /// Gradient of [`Device::gather_rows`], added into `dtable`.
    fn gather_rows_grad(&self, dy: &Self::Tensor, indices: &[u32], dtable: &mut Self::Tensor);
    /// `[B, n, D]` and `[B, m, D]` → `[B, n + m, D]`.
    fn concat_tokens(&self, a: &Self::Tensor, b: &Self::Tensor) -> Self::Tensor;
    /// The first `n` tokens and the rest: the inverse (and gradient) of [`Device::concat_tokens`].
    fn split_tokens(&self, x: &Self::Tensor, n: usize) -> (Self::Tensor, Self::Tensor);
    /// Mean over the tokens: `[B, N, D] → [B, D]`.
    fn mean_tokens(&self, x: &Self::Tensor) -> Self::Tensor;
    /// Gradient of [`Device::mean_tokens`], added into dx `[B, N, D]`.
    fn mean_tokens_grad(&self, dy: &Self::Tensor, dx: &mut Self::Tensor);
    /// Rotates image b by k[b]·90° as `torch.rot90(x, k, [2, 3])` does.
    fn rot90(&self, x: &Self::Tensor, k: &[u8]) -> Self::Tensor;

    // ---- elementwise ----

    /// `x += y`
    fn add_assign(&self, x: &mut Self::Tensor, y: &Self::Tensor);
    /// `a·x + b·y`
    fn axpby(&self, a: f32, x: &Self::Tensor, b: f32, y: &Self::Tensor) -> Self::Tensor;
    /// The root of the sum of the squares of all values of all tensors, added in their order.
    fn norm(&self, tensors: &[&Self::Tensor]) -> Self::Norm;
    /// That root, as a number.
    fn read_norm(&self, norm: &Self::Norm) -> f64;

    // ---- objective ----

    /// `scale` times standard normal numbers, `[B, …]`, those of a stream for each image.
    fn normal(&self, streams: &[Stream], scale: f32, shape: &[usize]) -> Self::Tensor {
        let len: usize = shape.iter().product();
        let mut x = vec![0.0; len];
        noise::normal(streams, scale, len / streams.len().max(1), &mut x);
        self.upload(&x, shape)
    }

    /// `z = t·x + (1 − t)·ε` per image.
    fn interpolate(&self, x: &Self::Tensor, noise: &Self::Tensor, t: &[f32]) -> Self::Tensor;
    /// Converts a prediction between x, ε and v space (spec §2, table).
    fn convert(
        &self,
        prediction: &Self::Tensor,
        z: &Self::Tensor,
        t: &[f32],
        t_eps: f32,
        from: Space,
        to: Space,
    ) -> Self::Tensor;
    /// The loss of each image, `[B]`, for a network that predicts `output`, measured in `loss`.
    fn diffusion_loss(&self, net: &Self::Tensor, d: Diffusion<'_, Self::Tensor>) -> Self::Tensor;
    /// Gradient of `Σ_b weight[b]·loss_b` with respect to the network's output.
    fn diffusion_loss_grad(
        &self,
        net: &Self::Tensor,
        d: Diffusion<'_, Self::Tensor>,
        weight: &[f32],
    ) -> Self::Tensor;
    /// Squared error per image and its gradient scaled by `weight[b]`: `[B, 1]` against `[B]`.
    fn squared_error(
        &self,
        prediction: &Self::Tensor,
        target: &[f32],
        weight: &[f32],
    ) -> (Self::Tensor, Self::Tensor);
    /// Cross-entropy per image and its gradient scaled by `weight[b]`: logits `[B, K]`.
    fn cross_entropy(
        &self,
        logits: &Self::Tensor,
        class: &[u8],
        weight: &[f32],
    ) -> (Self::Tensor, Self::Tensor);

    // ---- optimizer ----

    /// One AdamW step on one parameter, then every EMA `e ← decay·e + (1 − decay)·w`.
    ///
    /// The gradient, of which `clip` tells the norm over all parameters and its largest allowed value
    /// (0 for none), is first brought down to that ([`clip`]). A device that runs ahead moves nothing
    /// along a gradient whose norm is not finite.
    fn adamw(
        &self,
        w: &mut Self::Weight,
        grad: &Self::Tensor,
        moments: (&mut Self::Tensor, &mut Self::Tensor),
        emas: &mut [(&mut Self::Tensor, f64)],
        clip: (&Self::Norm, f64),
        options: &AdamW,
    );
}

/// The factor that brings a gradient of this norm down to `limit` (0 for no limit), as
/// `torch.nn.utils.clip_grad_norm_` computes it.
pub fn clip(norm: f64, limit: f64) -> f32 {
    if limit == 0.0 { 1.0 } else { (limit / (norm + 1e-6)).min(1.0) as f32 }
}

/// Why a device computes no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its memory does not hold what was asked of it.
    OutOfMemory {
        /// Bytes that it holds, where that is known.
        limit: Option<u64>,
    },
    /// Anything else, in the driver's words.
    Failed(String),
}

/// Bytes of a device's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Now.
    pub live: u64,
    /// The most at any time.
    pub peak: u64,
}

/// Everything of a diffusion loss but the network's output.
pub struct Diffusion<'a, T> {
    /// Noised images `[B, C, S, S]`.
    pub z: &'a T,
    /// Clean images.
    pub x: &'a T,
    /// Noise ε (already scaled).
    pub noise: &'a T,
    /// Time of each image.
    pub t: &'a [f32],
    /// Lower clamp of 1 − t and of t.
    pub t_eps: f32,
    /// What the network predicts.
    pub output: Space,
    /// The space in which the error is measured.
    pub loss: Space,
}

// References copy whatever the tensor type; a derive would ask `T: Copy`.
impl<T> Clone for Diffusion<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Diffusion<'_, T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_only_shrinks() {
        assert_eq!(clip(5.0, 0.0), 1.0);
        assert_eq!(clip(0.5, 1.0), 1.0);
        assert!((clip(5.0, 1.0) - 0.2).abs() < 1e-6);
        assert_eq!(clip(0.0, 1.0), 1.0);
    }
}
