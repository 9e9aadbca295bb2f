//! The gradient's norm, and AdamW with all averages and the rounded copy in one pass.

use jit_model::device::{AdamW, Fault};

use super::linear::matrix_shape;
use crate::backend::Dtype;
use crate::device::Cuda;
use crate::readback::Readback;
use crate::tensor::{CudaTensor, CudaWeight};

/// Values whose squares a block sums.
const SQUARES: usize = 1 << 16;
/// EMAs that one pass updates.
const EMAS: usize = 4;

/// A gradient's norm: an f64 on the device, and on its way to the host.
pub struct Norm {
    /// 8 bytes, seen as two f32.
    root: CudaTensor,
    readback: Readback,
}

impl Norm {
    /// As a number, waiting for it.
    pub(super) fn value(&self) -> Result<f64, Fault> {
        let bytes = self.readback.bytes()?;
        Ok(bytes.as_chunks().0.first().map_or(f64::NAN, |root| f64::from_ne_bytes(*root)))
    }
}

impl Cuda {
    /// The root of the sum of all squares
    pub(super) fn gradient_norm(&self, tensors: &[&CudaTensor]) -> Norm {
        let groups = |x: &CudaTensor| x.len().div_ceil(SQUARES);
        let count: usize = tensors.iter().map(|x| groups(x)).sum();
        // f64 each.
        let mut partial = self.unset(&[count, 2], Dtype::F32);
        let mut first = 0;
        for x in tensors {
            assert_eq!(x.dtype, Dtype::F32, "gradients of parameters are f32");
            let call = self.kernel("sum_squares").read(x).write_at(&mut partial, 8 * first);
            call.long(x.len()).grid([groups(x), 1, 1]).run();
            first += groups(x);
        }
        let mut root = self.unset(&[2], Dtype::F32);
        self.kernel("sum_squares_finish").read(&partial).write(&mut root).int(count).run();
        let copy = match self.memory.fault() {
            Some(fault) => Err(fault),
            None => self.backend().start_read(root.block.address(), 8),
        };
        let readback = Readback::new(copy, &root);
        Norm { root, readback }
    }

    /// One step of AdamW on one parameter
    pub(super) fn adamw_step(
        &self,
        w: &mut CudaWeight,
        grad: &CudaTensor,
        (m, v): (&mut CudaTensor, &mut CudaTensor),
        emas: &mut [(&mut CudaTensor, f64)],
        (norm, clip_norm): (&Norm, f64),
        options: &AdamW,
    ) {
        let n = w.value.len();
        assert_eq!((grad.len(), m.len(), v.len()), (n, n, n), "adamw: lengths differ");
        assert!(emas.iter().all(|(ema, _)| ema.len() == n), "adamw: an EMA's length differs");
        let (rows, columns) = matrix_shape(&w.value);
        let pitch = w.rounded.as_ref().map_or(columns, |rounded| rounded.pitch);
        let (fused, more) = emas.split_at_mut(emas.len().min(EMAS));
        let decays: Vec<f64> = fused.iter().map(|(_, decay)| *decay).collect();
        let mut call = self.kernel("adamw").write(&mut w.value).read(grad).write(m).write(v);
        call = call.write_if(w.rounded.as_mut());
        let mut fused = fused.iter_mut();
        for _ in 0..EMAS {
            call = call.write_if(fused.next().map(|(ema, _)| &mut **ema));
        }
        call = call.read(&norm.root).float(clip_norm as f32);
        // Derived in f64, as PyTorch does, and only then rounded.
        for scalar in [
            1.0 - options.lr * options.weight_decay,
            options.beta1,
            1.0 - options.beta1,
            options.beta2,
            1.0 - options.beta2,
            options.lr / options.bias1,
            1.0 / options.bias2.sqrt(),
            options.eps,
        ] {
            call = call.float(scalar as f32);
        }
        for i in 0..EMAS {
            let decay = decays.get(i).copied().unwrap_or(0.0);
            call = call.float(decay as f32).float((1.0 - decay) as f32);
        }
        self.each(call.int(rows).int(columns).int(pitch), n);
        for (ema, decay) in more {
            let call = self.kernel("ema").weight(w).write(ema).read(&norm.root);
            self.each(call.float(*decay as f32).float((1.0 - *decay) as f32).long(n), n);
        }
    }
}
