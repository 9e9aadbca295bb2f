//! RMSNorm with its modulation, and its gradient.

use jit_model::device::Modulation;

use crate::device::Gpu;
use crate::kernels::norm;
use crate::launch::{each, rows};
use crate::tensor::{GpuTensor, GpuWeight};

/// Where the kernels find a modulation.
fn place(m: &Modulation<'_, GpuTensor>, dim: usize) -> norm::PlaceLaunch {
    let (_, stride) = m.vectors.rows_columns();
    norm::PlaceLaunch::new(stride, m.shift * dim, m.scale * dim)
}

impl Gpu {
    pub(super) fn normed(
        &self,
        x: &GpuTensor,
        weight: &GpuWeight,
        m: &Modulation<'_, GpuTensor>,
    ) -> GpuTensor {
        let (b, n, d) = x.tokens();
        let y = self.unset(&x.shape);
        let (count, dim) = rows(b * n);
        norm::rms_norm_modulate::launch(
            &self.client,
            count,
            dim,
            x.arg(),
            weight.value.arg(),
            m.vectors.arg(),
            y.arg(),
            n,
            d,
            place(m, d),
        );
        y
    }

    pub(super) fn normed_grad(
        &self,
        x: &GpuTensor,
        weight: &GpuWeight,
        m: &Modulation<'_, GpuTensor>,
        dy: &GpuTensor,
        dx: &mut GpuTensor,
        dweight: &mut GpuTensor,
        dmod: &mut GpuTensor,
    ) {
        let (b, n, d) = x.tokens();
        let (c, w, mods) = (&self.client, &weight.value, m.vectors);
        let inverse = self.unset(&[b, n]);
        let (count, dim) = rows(b * n);
        norm::rms_norm_modulate_dx::launch(
            c,
            count,
            dim,
            x.arg(),
            w.arg(),
            mods.arg(),
            dy.arg(),
            dx.arg(),
            inverse.arg(),
            n,
            d,
            place(m, d),
        );
        let per_image = self.unset(&[b, d]);
        let (count, dim) = each(b * d);
        norm::rms_norm_modulate_dmod::launch(
            c,
            count,
            dim,
            x.arg(),
            w.arg(),
            mods.arg(),
            dy.arg(),
            inverse.arg(),
            dmod.arg(),
            per_image.arg(),
            n,
            d,
            place(m, d),
        );
        self.add_column_sums(&per_image.block, b, d, dweight);
    }
}
