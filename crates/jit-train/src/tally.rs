//! Means over a global batch, whatever its micro-batches and whoever computed them.

use crate::accumulate::ImageLosses;
use crate::observer::T_BINS;

/// The losses of the images of a global batch, each in its place. Means are sums in f64 in that order, so
/// that they depend neither on micro-batches nor on the number of processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    images: usize,
    /// `[3, images]`: times, diffusion losses, auxiliary losses; 0 where they are not known yet.
    values: Vec<f32>,
    has_auxiliary: bool,
}

impl Tally {
    /// Of a batch of so many images, none of which is known yet.
    pub fn new(images: usize) -> Self {
        Self { images, values: vec![0.0; 3 * images], has_auxiliary: false }
    }

    /// Enters a micro-batch, whose first image is number `first` of the batch, with the times `t`, `[B]`.
    pub fn add(&mut self, first: usize, t: &[f32], losses: &ImageLosses) {
        self.has_auxiliary |= !losses.auxiliary.is_empty();
        let columns = [t, &losses.diffusion, &losses.auxiliary];
        for (column, given) in self.values.chunks_exact_mut(self.images).zip(columns) {
            column[first..first + given.len()].copy_from_slice(given);
        }
    }

    /// The values entered, 0 for images that are not known: the sum over processes that each know their
    /// part knows all.
    pub fn take(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.values)
    }

    /// Puts back such a sum.
    pub fn put(&mut self, values: Vec<f32>) {
        self.values = values;
    }

    fn column(&self, index: usize) -> impl Iterator<Item = f64> {
        self.values[index * self.images..][..self.images].iter().map(|&v| f64::from(v))
    }

    /// Mean diffusion loss.
    pub fn diffusion(&self) -> f64 {
        self.column(1).sum::<f64>() / self.images as f64
    }

    /// Mean auxiliary loss, where there is one.
    pub fn auxiliary(&self) -> Option<f64> {
        self.has_auxiliary.then(|| self.column(2).sum::<f64>() / self.images as f64)
    }

    /// Mean diffusion loss and number of the images with t in each tenth of [0, 1].
    pub fn by_t(&self) -> ([Option<f64>; T_BINS], [u64; T_BINS]) {
        let mut bins = [(0.0, 0); T_BINS];
        for (&t, loss) in self.values.iter().zip(self.column(1)) {
            let bin = ((t * T_BINS as f32) as usize).min(T_BINS - 1);
            bins[bin].0 += loss;
            bins[bin].1 += 1;
        }
        let mean = |(sum, n): (f64, u64)| (n > 0).then(|| sum / n as f64);
        (bins.map(mean), bins.map(|(_, n)| n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_fall_into_their_tenth() {
        // In two parts, on two processes.
        let (mut tally, mut other) = (Tally::new(3), Tally::new(3));
        let losses = ImageLosses { diffusion: vec![1.0], auxiliary: vec![3.0] };
        tally.add(0, &[0.05], &losses);
        let losses = ImageLosses { diffusion: vec![2.0, 6.0], auxiliary: vec![0.0, 0.0] };
        other.add(1, &[0.95, 1.0], &losses);
        let sum = tally.take().iter().zip(other.take()).map(|(a, b)| a + b).collect();
        tally.put(sum);
        assert_eq!((tally.diffusion(), tally.auxiliary()), (3.0, Some(1.0)));
        let (mean, images) = tally.by_t();
        assert_eq!((mean[0], mean[1], mean[9]), (Some(1.0), None, Some(4.0)));
        assert_eq!((images[0], images[1], images[9]), (1, 0, 2));
    }
}
