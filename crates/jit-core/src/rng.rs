//! The one source of randomness: Philox 4×32-10 (Salmon et al. 2011, "Parallel random numbers: as
//! easy as 1, 2, 3"), a function from a key and a counter to 128 random bits.
//!
//! A number is addressed by `(seed, purpose, step, sample, index)` and by nothing else, so results
//! do not depend on threads, on how a batch is split, on how many processes share it, or on whether
//! a run was resumed. There is no hidden state to save.

/// What a random number is for. Two purposes never share numbers, so adding a consumer never
/// shifts the numbers of another. The discriminants are part of a run's identity: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights; step = 0, sample = hash of the parameter's name.
    Init = 1,
    /// Training noise ε.
    Noise = 2,
    /// Training time t.
    Time = 3,
    /// Dropping a label to the null class.
    LabelDrop = 4,
    /// Order of the images in an epoch; step = epoch.
    Order = 5,
    /// Horizontal flips; step = epoch, sample = image index.
    Flip = 6,
    /// The rotation k of the auxiliary loss.
    Rotation = 7,
    /// The noise a sample starts from; step = 0, sample = image index.
    SampleNoise = 8,
    /// Random subset of a data set; step = sample = 0.
    Subset = 9,
    /// Dropout on attention probabilities; sample = image, see [`Stream::with_layer`].
    AttentionDropout = 10,
    /// Dropout on the projections (attention output, SwiGLU hidden).
    ProjectionDropout = 11,
    /// Subsets and resamples of a metric; step = which draw, sample = number of the subset.
    Metric = 12,
    /// Distortions of an image shown to a classifier; step = epoch, sample = image index.
    Distortion = 13,
}

/// An addressable sequence of random numbers: the key of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    /// Counter words 1..4; word 0 is the block index, the lowest bits of the element index.
    counter: [u32; 3],
}

impl Stream {
    /// The stream of `purpose` at optimizer step (or epoch) `step` for the sample `sample`, which
    /// is numbered within the global batch or data set, never within a micro-batch.
    pub fn new(seed: u64, purpose: Purpose, step: u64, sample: u64) -> Self {
        // The purpose is mixed into the key, step and sample into the counter. Philox's own mixing
        // makes neighbouring keys and counters independent.
        let key = mix64(seed ^ (purpose as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let sample = mix64(sample ^ step.rotate_left(32).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self {
            key: [key as u32, (key >> 32) as u32],
            counter: [sample as u32, (sample >> 32) as u32, step as u32],
        }
    }

    /// The sub-stream of one layer (or any other small index), for dropout masks.
    pub fn with_layer(self, layer: u32) -> Self {
        let key = mix64(
            (u64::from(self.key[1]) << 32 | u64::from(self.key[0]))
                ^ u64::from(layer + 1).wrapping_mul(0xA076_1D64_78BD_642F),
        );
        Self { key: [key as u32, (key >> 32) as u32], ..self }
    }

    /// The key, then the upper three words of the counter: all that another device needs to draw the
    /// same numbers.
    pub fn words(&self) -> [u32; 5] {
        let [c0, c1, c2] = self.counter;
        [self.key[0], self.key[1], c0, c1, c2]
    }

    /// Four random words: block `block` of the stream.
    #[inline]
    pub fn block(&self, block: u32) -> [u32; 4] {
        philox4x32([block, self.counter[0], self.counter[1], self.counter[2]], self.key)
    }

    /// Word `index` of the stream.
    #[inline]
    pub fn word(&self, index: u32) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// Uniform in `[0, 1)` with 24 random bits.
    #[inline]
    pub fn uniform(&self, index: u32) -> f32 {
        unit(self.word(index))
    }

    /// Uniform integer in `0..n` from 64 random bits (bias below 2⁻³² for n < 2³²).
    pub fn below(&self, index: u32, n: u64) -> u64 {
        let w = self.block(index);
        let bits = u64::from(w[1]) << 32 | u64::from(w[0]);
        ((u128::from(bits) * u128::from(n)) >> 64) as u64
    }

    /// Fills `out` with uniforms in `[low, high)`.
    pub fn fill_uniform(&self, low: f32, high: f32, out: &mut [f32]) {
        for (block, four) in out.chunks_mut(4).enumerate() {
            for (o, w) in four.iter_mut().zip(self.block(block as u32)) {
                *o = low + (high - low) * unit(w);
            }
        }
    }

    /// Fills `out` with standard normals (Box–Muller in f64: two normals from two words).
    ///
    /// Element i does not depend on `out.len()`.
    pub fn fill_normal(&self, out: &mut [f32]) {
        for (block, four) in out.chunks_mut(4).enumerate() {
            let w = self.block(block as u32);
            let (a, b) = box_muller(w[0], w[1]);
            let (c, d) = box_muller(w[2], w[3]);
            for (o, n) in four.iter_mut().zip([a, b, c, d]) {
                *o = n;
            }
        }
    }

    /// The first standard normal of the stream.
    pub fn normal(&self) -> f32 {
        let w = self.block(0);
        box_muller(w[0], w[1]).0
    }
}

/// A random permutation of `0..n` (Fisher–Yates driven by `stream`).
pub fn permutation(stream: Stream, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        order.swap(i, stream.below(i as u32, i as u64 + 1) as usize);
    }
    order
}

/// 24 high bits to `[0, 1)`.
#[inline]
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

fn box_muller(a: u32, b: u32) -> (f32, f32) {
    // a + 0.5 keeps the logarithm's argument in (0, 1).
    let r = (-2.0 * ((f64::from(a) + 0.5) / 4_294_967_296.0).ln()).sqrt();
    let theta = std::f64::consts::TAU * f64::from(b) / 4_294_967_296.0;
    ((r * theta.cos()) as f32, (r * theta.sin()) as f32)
}

/// SplitMix64's finaliser: a bijection that spreads every input bit.
fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Philox 4×32 with ten rounds.
#[inline]
fn philox4x32(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    for round in 0..10 {
        if round > 0 {
            k[0] = k[0].wrapping_add(0x9E37_79B9);
            k[1] = k[1].wrapping_add(0xBB67_AE85);
        }
        let p0 = M0 * u64::from(c[0]);
        let p1 = M1 * u64::from(c[2]);
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ k[1],
            p0 as u32,
        ];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_known_answers() {
        // kat_vectors of the Random123 library, philox4x32-10.
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let mut x = vec![0.0; 100_000];
        Stream::new(7, Purpose::Noise, 3, 11).fill_normal(&mut x);
        let n = x.len() as f64;
        let moment = |p: i32| x.iter().map(|&v| f64::from(v).powi(p)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.02, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.05, "skew {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.1, "kurtosis {}", moment(4));
    }

    #[test]
    fn an_element_does_not_depend_on_how_many_are_drawn() {
        let stream = Stream::new(1, Purpose::SampleNoise, 0, 5);
        let (mut long, mut short) = (vec![0.0; 17], vec![0.0; 6]);
        stream.fill_normal(&mut long);
        stream.fill_normal(&mut short);
        assert_eq!(long[..6], short);
        stream.fill_uniform(-1.0, 1.0, &mut long);
        assert_eq!(long[5], -1.0 + 2.0 * stream.uniform(5));
    }

    #[test]
    fn every_part_of_the_address_matters() {
        let base = Stream::new(1, Purpose::Noise, 2, 3);
        let others = [
            Stream::new(2, Purpose::Noise, 2, 3),
            Stream::new(1, Purpose::Time, 2, 3),
            Stream::new(1, Purpose::Noise, 3, 3),
            Stream::new(1, Purpose::Noise, 2, 4),
            Stream::new(1, Purpose::Noise, 3, 2),
            base.with_layer(0),
            base.with_layer(1),
        ];
        for (i, s) in others.iter().enumerate() {
            assert_ne!(s.block(0), base.block(0), "address part {i} is ignored");
        }
    }

    #[test]
    fn a_permutation_holds_every_index_once_and_is_not_the_identity() {
        let mut p = permutation(Stream::new(0, Purpose::Order, 0, 0), 1000);
        assert_ne!(p[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        p.sort_unstable();
        assert!(p.iter().enumerate().all(|(i, &v)| i == v as usize));
    }
}
