//! The sum of all processes' gradients, formed while the backward pass goes on.
//!
//! Gradients become final from the last parameter to the first. They are collected into buckets, and each
//! bucket is sent on its way as soon as all of it is final, so that earlier layers' gradients are computed while
//! later layers' are added up.

use std::ops::Range;

use jit_model::params::Registry;
use jit_model::{Device, Grads};

use crate::communicator::{CommunicationError, Communicator, Pending};

/// A bucket is full at this many values, 25 MiB: large enough that latency does not count, small enough
/// that the last one, with which nothing overlaps, is short.
const BUCKET: usize = 25 << 18;

/// A small model has about so many buckets instead.
const PARTS: usize = 8;

/// Sums in progress.
#[derive(Debug)]
pub struct Reducer {
    /// Values of each parameter.
    sizes: Vec<usize>,
    /// Parameters of each bucket, those that are final first in front.
    buckets: Vec<Range<usize>>,
    /// The sums of the first of them.
    pending: Vec<Pending>,
}

impl Reducer {
    /// For the gradients of these parameters.
    pub fn new(registry: &Registry) -> Self {
        let sizes: Vec<usize> = registry.specs().iter().map(|spec| spec.numel()).collect();
        let limit = BUCKET.min(registry.numel() / PARTS);
        Self { buckets: buckets(&sizes, limit), sizes, pending: Vec::new() }
    }

    /// Starts the sums of all buckets whose parameters are all at `first` or behind.
    pub fn finished<D: Device>(
        &mut self,
        comm: &dyn Communicator,
        dev: &D,
        grads: &Grads<D>,
        first: usize,
    ) {
        let waiting = &self.buckets[self.pending.len()..];
        let ready = waiting.iter().take_while(|bucket| bucket.start >= first);
        for bucket in ready.cloned().collect::<Vec<_>>() {
            let tensors = grads.iter().skip(bucket.start).take(bucket.len());
            let mut values = Vec::with_capacity(self.sizes[bucket].iter().sum());
            tensors.for_each(|tensor| values.extend(dev.download(tensor)));
            self.pending.push(comm.start_sum(values));
        }
    }

    /// Waits for all sums and puts them into `grads`.
    ///
    /// # Errors
    /// [`CommunicationError`].
    pub fn finish<D: Device>(
        self,
        dev: &D,
        grads: &mut Grads<D>,
    ) -> Result<(), CommunicationError> {
        assert_eq!(self.pending.len(), self.buckets.len(), "every gradient was said to be final");
        let mut tensors: Vec<&mut D::Tensor> = grads.iter_mut().collect();
        for (bucket, pending) in self.buckets.into_iter().zip(self.pending) {
            let sum = pending.wait()?;
            let mut rest = &sum[..];
            for tensor in &mut tensors[bucket] {
                let (values, tail) = rest.split_at(dev.shape(tensor).iter().product());
                dev.assign(tensor, values);
                rest = tail;
            }
        }
        Ok(())
    }
}

/// Cuts parameters of these sizes, from the last on, into runs of at least `limit` values.
fn buckets(sizes: &[usize], limit: usize) -> Vec<Range<usize>> {
    let mut buckets = Vec::new();
    let (mut end, mut values) = (sizes.len(), 0);
    for (i, size) in sizes.iter().enumerate().rev() {
        values += size;
        if values >= limit || i == 0 {
            buckets.push(i..end);
            (end, values) = (i, 0);
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use jit_model::init::initial_values;
    use jit_model::{Cpu, Denoiser};

    use super::*;
    use crate::communicator::threads::together;
    use crate::testing::small;

    #[test]
    fn buckets_run_from_the_last_parameter_to_the_first() {
        assert_eq!(buckets(&[5, 1, 1, 9, 2, 3], 4), [4..6, 3..4, 0..3]);
        assert_eq!(buckets(&[1, 1], 100), vec![0..2]);
        assert!(buckets(&[], 4).is_empty());
    }

    #[test]
    fn sums_come_back_to_their_parameters() {
        let config = small();
        let dev = &Cpu::F32;
        let denoiser = Denoiser::new(dev, &config.model, &config.objective);
        let registry = denoiser.registry();
        let values = initial_values(registry, 1);
        let sums = together(3, |comm| {
            let mut grads = Grads::zeros(dev, registry);
            for (grad, values) in grads.iter_mut().zip(&values) {
                let scaled: Vec<f32> =
                    values.iter().map(|v| v * (comm.rank() + 1) as f32).collect();
                dev.assign(grad, &scaled);
            }
            let mut reducer = Reducer::new(registry);
            let sizes: Vec<usize> = registry.specs().iter().map(|s| s.numel()).collect();
            reducer.buckets = buckets(&sizes, 300);
            assert!(reducer.buckets.len() > 5);
            for first in (0..=sizes.len()).rev().step_by(3).chain([0]) {
                reducer.finished(comm, dev, &grads, first);
            }
            reducer.finish(dev, &mut grads).unwrap();
            grads.download(dev)
        });
        let expected: Vec<Vec<f32>> = values
            .iter()
            .map(|v| v.iter().map(|v| 0.0 + v + v * 2.0 + v * 3.0).collect())
            .collect();
        assert!(sums.iter().all(|sum| *sum == expected));
    }
}
