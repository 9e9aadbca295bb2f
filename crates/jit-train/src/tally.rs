//! Means over a global batch, whatever its micro-batches.

use crate::accumulate::ImageLosses;
use crate::observer::T_BINS;

/// Sums in f64 over the images in their order, so that the means do not depend on the split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    images: u64,
    diffusion: f64,
    auxiliary: f64,
    has_auxiliary: bool,
    by_t: [(f64, u64); T_BINS],
}

impl Tally {
    /// Counts the images of a micro-batch with the times `t`, `[B]`.
    pub fn add(&mut self, t: &[f32], losses: &ImageLosses) {
        for (&t, &loss) in t.iter().zip(&losses.diffusion) {
            let loss = f64::from(loss);
            self.images += 1;
            self.diffusion += loss;
            let bin = ((t * T_BINS as f32) as usize).min(T_BINS - 1);
            self.by_t[bin].0 += loss;
            self.by_t[bin].1 += 1;
        }
        for &loss in &losses.auxiliary {
            self.has_auxiliary = true;
            self.auxiliary += f64::from(loss);
        }
    }

    /// Mean diffusion loss.
    pub fn diffusion(&self) -> f64 {
        self.diffusion / self.images as f64
    }

    /// Mean auxiliary loss, where there is one.
    pub fn auxiliary(&self) -> Option<f64> {
        self.has_auxiliary.then(|| self.auxiliary / self.images as f64)
    }

    /// Mean diffusion loss and number of the images with t in each tenth of [0, 1].
    pub fn by_t(&self) -> ([Option<f64>; T_BINS], [u64; T_BINS]) {
        let mean = |(sum, n): (f64, u64)| (n > 0).then(|| sum / n as f64);
        (self.by_t.map(mean), self.by_t.map(|(_, n)| n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_fall_into_their_tenth() {
        let mut tally = Tally::default();
        let losses = ImageLosses { diffusion: vec![1.0, 2.0, 6.0], auxiliary: vec![3.0, 0.0, 0.0] };
        tally.add(&[0.05, 0.95, 1.0], &losses);
        assert_eq!((tally.diffusion(), tally.auxiliary()), (3.0, Some(1.0)));
        let (mean, images) = tally.by_t();
        assert_eq!((mean[0], mean[1], mean[9]), (Some(1.0), None, Some(4.0)));
        assert_eq!((images[0], images[1], images[9]), (1, 0, 2));
    }
}
