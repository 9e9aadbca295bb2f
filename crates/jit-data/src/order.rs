//! Which image comes when: an endless stream of samples, cut into epochs.
//!
//! Sample number `position` belongs to epoch `position / len`, and each epoch visits every image
//! once in an order of its own. Batches take the next samples whatever epoch they fall into, so an
//! epoch that a batch size does not divide loses no image, and the position is all there is to
//! save.

use jit_core::rng::{Purpose, Stream, permutation};

/// The order of a data set of `len` images under a seed.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    len: usize,
    flip: bool,
    epoch: u64,
    permutation: Vec<u32>,
}

/// One sample of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Which pass over the data this is, from 0.
    pub epoch: u64,
    /// The image.
    pub image: u32,
    /// Whether to mirror it.
    pub flip: bool,
}

impl Order {
    /// The order of `len` images (at least 1, below 2³²); `flip` allows mirroring.
    pub fn new(seed: u64, len: usize, flip: bool) -> Self {
        let permutation = Self::permutation(seed, len, 0);
        Self { seed, len, flip, epoch: 0, permutation }
    }

    fn permutation(seed: u64, len: usize, epoch: u64) -> Vec<u32> {
        permutation(Stream::new(seed, Purpose::Order, epoch, 0), len)
    }

    /// The sample at `position`. Fast within an epoch; entering another computes its permutation.
    pub fn at(&mut self, position: u64) -> Draw {
        let epoch = position / self.len as u64;
        if epoch != self.epoch {
            self.permutation = Self::permutation(self.seed, self.len, epoch);
            self.epoch = epoch;
        }
        let image = self.permutation[(position % self.len as u64) as usize];
        let coin = Stream::new(self.seed, Purpose::Flip, epoch, u64::from(image));
        Draw { epoch, image, flip: self.flip && coin.word(0) & 1 == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_every_image_once_in_its_own_order() {
        let mut order = Order::new(3, 13, true);
        let epochs: Vec<Vec<Draw>> =
            (0..4).map(|e| (e * 13..(e + 1) * 13).map(|p| order.at(p)).collect()).collect();
        for (e, draws) in epochs.iter().enumerate() {
            let mut images: Vec<u32> = draws.iter().map(|d| d.image).collect();
            assert!(draws.iter().all(|d| d.epoch == e as u64));
            images.sort_unstable();
            assert_eq!(images, (0..13).collect::<Vec<u32>>());
        }
        let images = |e: usize| epochs[e].iter().map(|d| d.image).collect::<Vec<_>>();
        assert_ne!(images(0), images(1));
    }

    #[test]
    fn a_position_means_the_same_sample_however_it_is_reached() {
        let mut forward = Order::new(9, 7, true);
        let draws: Vec<Draw> = (0..40).map(|p| forward.at(p)).collect();
        for position in [39, 0, 20, 6, 7] {
            assert_eq!(Order::new(9, 7, true).at(position), draws[position as usize]);
            assert_eq!(forward.at(position), draws[position as usize]);
        }
        let other: Vec<Draw> = (0..40).map(|p| Order::new(10, 7, true).at(p)).collect();
        assert_ne!(other, draws);
    }

    #[test]
    fn half_of_the_images_are_mirrored_anew_each_epoch() {
        let mut order = Order::new(0, 1000, true);
        let mut flips = |epoch: u64| {
            let mut by_image = vec![false; 1000];
            for p in epoch * 1000..(epoch + 1) * 1000 {
                let draw = order.at(p);
                by_image[draw.image as usize] = draw.flip;
            }
            by_image
        };
        let (first, second) = (flips(0), flips(1));
        let share = first.iter().filter(|&&f| f).count();
        assert!((420..580).contains(&share), "{share}");
        let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
        assert!((420..580).contains(&same), "{same}");
        let mut never = Order::new(0, 1000, false);
        assert!((0..2000).all(|p| !never.at(p).flip));
    }
}
