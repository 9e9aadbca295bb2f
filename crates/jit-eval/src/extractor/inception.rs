//! Inception v3 as the graph of 2015-12-05 computes it (Szegedy et al. 2015; spec §6): torchvision's
//! layout and names with TensorFlow's pools.

use std::collections::HashMap;
use std::path::Path;

use jit_kernels::linear::{PackedWeight, linear};
use jit_kernels::pool::Pool;

use super::convnet::{Conv, Pixels, max_pool, pool_into, pool_shape, same_pool};
use super::formula::{self, Formula};
use super::weights::{FileTensors, INCEPTION, Tensors};
use super::{Extracted, Extractor, Images, in_groups, resize};
use crate::EvalError;

/// Side of the images that the network sees.
const SIZE: usize = 299;
/// Values of the last pool.
const DIM: usize = 2048;
/// Classes of the graph, of which 1000 mean something.
const CLASSES: usize = 1008;
/// Images computed at once.
const GROUP: usize = 8;
/// ε of the batch norms.
const EPS: f64 = 1e-3;

/// The network.
pub struct Inception {
    convs: HashMap<String, Conv>,
    fc: Vec<f32>,
    fc_packed: PackedWeight,
    fc_bias: Vec<f32>,
    sha256: String,
}

/// Means over the pixels at four depths, as torch-fidelity taps the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Taps {
    /// `[B, 64]`, after the first pool.
    pub after_64: Vec<f32>,
    /// `[B, 192]`, after the second pool.
    pub after_192: Vec<f32>,
    /// `[B, 768]`, before the last reduction.
    pub after_768: Vec<f32>,
    /// `[B, 2048]`: the features.
    pub features: Vec<f32>,
    /// `[B, 1008]`: logits without the bias.
    pub logits_unbiased: Vec<f32>,
    /// `[B, 1008]`: logits.
    pub logits: Vec<f32>,
}

/// Name, input channels, outputs, kernel, stride, padding.
type Layer = (&'static str, usize, usize, [usize; 2], usize, [usize; 2]);

const POINT: [usize; 2] = [1, 1];
const NONE: [usize; 2] = [0, 0];

/// The stem.
const STEM: [Layer; 5] = [
    ("Conv2d_1a_3x3", 3, 32, [3, 3], 2, NONE),
    ("Conv2d_2a_3x3", 32, 32, [3, 3], 1, NONE),
    ("Conv2d_2b_3x3", 32, 64, [3, 3], 1, [1, 1]),
    ("Conv2d_3b_1x1", 64, 80, POINT, 1, NONE),
    ("Conv2d_4a_3x3", 80, 192, [3, 3], 1, NONE),
];

/// The layers of a block of kind A at 35², with `c` inputs and `pool` outputs of its pooled branch.
fn block_a(c: usize, pool: usize) -> Vec<Layer> {
    vec![
        ("branch1x1", c, 64, POINT, 1, NONE),
        ("branch5x5_1", c, 48, POINT, 1, NONE),
        ("branch5x5_2", 48, 64, [5, 5], 1, [2, 2]),
        ("branch3x3dbl_1", c, 64, POINT, 1, NONE),
        ("branch3x3dbl_2", 64, 96, [3, 3], 1, [1, 1]),
        ("branch3x3dbl_3", 96, 96, [3, 3], 1, [1, 1]),
        ("branch_pool", c, pool, POINT, 1, NONE),
    ]
}

/// From 35² to 17².
fn block_b() -> Vec<Layer> {
    vec![
        ("branch3x3", 288, 384, [3, 3], 2, NONE),
        ("branch3x3dbl_1", 288, 64, POINT, 1, NONE),
        ("branch3x3dbl_2", 64, 96, [3, 3], 1, [1, 1]),
        ("branch3x3dbl_3", 96, 96, [3, 3], 2, NONE),
    ]
}

/// At 17², with `m` channels in the middle of the factored 7×7 branches.
fn block_c(m: usize) -> Vec<Layer> {
    let (row, column, along, across) = ([1, 7], [7, 1], [0, 3], [3, 0]);
    vec![
        ("branch1x1", 768, 192, POINT, 1, NONE),
        ("branch7x7_1", 768, m, POINT, 1, NONE),
        ("branch7x7_2", m, m, row, 1, along),
        ("branch7x7_3", m, 192, column, 1, across),
        ("branch7x7dbl_1", 768, m, POINT, 1, NONE),
        ("branch7x7dbl_2", m, m, column, 1, across),
        ("branch7x7dbl_3", m, m, row, 1, along),
        ("branch7x7dbl_4", m, m, column, 1, across),
        ("branch7x7dbl_5", m, 192, row, 1, along),
        ("branch_pool", 768, 192, POINT, 1, NONE),
    ]
}

/// From 17² to 8².
fn block_d() -> Vec<Layer> {
    vec![
        ("branch3x3_1", 768, 192, POINT, 1, NONE),
        ("branch3x3_2", 192, 320, [3, 3], 2, NONE),
        ("branch7x7x3_1", 768, 192, POINT, 1, NONE),
        ("branch7x7x3_2", 192, 192, [1, 7], 1, [0, 3]),
        ("branch7x7x3_3", 192, 192, [7, 1], 1, [3, 0]),
        ("branch7x7x3_4", 192, 192, [3, 3], 2, NONE),
    ]
}

/// At 8².
fn block_e(c: usize) -> Vec<Layer> {
    vec![
        ("branch1x1", c, 320, POINT, 1, NONE),
        ("branch3x3_1", c, 384, POINT, 1, NONE),
        ("branch3x3_2a", 384, 384, [1, 3], 1, [0, 1]),
        ("branch3x3_2b", 384, 384, [3, 1], 1, [1, 0]),
        ("branch3x3dbl_1", c, 448, POINT, 1, NONE),
        ("branch3x3dbl_2", 448, 384, [3, 3], 1, [1, 1]),
        ("branch3x3dbl_3a", 384, 384, [1, 3], 1, [0, 1]),
        ("branch3x3dbl_3b", 384, 384, [3, 1], 1, [1, 0]),
        ("branch_pool", c, 192, POINT, 1, NONE),
    ]
}

impl Inception {
    /// Reads the published weights, or those at `given`.
    ///
    /// # Errors
    /// When they are missing, damaged or of another network.
    pub fn open(given: Option<&Path>) -> Result<Self, EvalError> {
        if given == Some(Path::new(formula::NAME)) {
            return Self::formula();
        }
        let path = INCEPTION.find(given)?;
        let sha256 = INCEPTION.check(&path)?;
        Self::build(&mut FileTensors::open(&path)?, sha256)
    }

    /// With the weights of a formula.
    ///
    /// # Errors
    /// Never in fact.
    pub fn formula() -> Result<Self, EvalError> {
        Self::build(&mut Formula, formula::NAME.into())
    }

    /// Builds the network from its tensors, folding the batch norms into the filters.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn build(tensors: &mut dyn Tensors, sha256: String) -> Result<Self, EvalError> {
        let mut convs = HashMap::new();
        let blocks = [
            ("", STEM.to_vec()),
            ("Mixed_5b.", block_a(192, 32)),
            ("Mixed_5c.", block_a(256, 64)),
            ("Mixed_5d.", block_a(288, 64)),
            ("Mixed_6a.", block_b()),
            ("Mixed_6b.", block_c(128)),
            ("Mixed_6c.", block_c(160)),
            ("Mixed_6d.", block_c(160)),
            ("Mixed_6e.", block_c(192)),
            ("Mixed_7a.", block_d()),
            ("Mixed_7b.", block_e(1280)),
            ("Mixed_7c.", block_e(2048)),
        ];
        for (block, layers) in blocks {
            for (layer, inputs, outputs, kernel, stride, padding) in layers {
                let name = format!("{block}{layer}");
                let shape = [outputs, inputs, kernel[0], kernel[1]];
                let filters = tensors.tensor(&format!("{name}.conv.weight"), &shape)?;
                let mut norm =
                    |part: &str| tensors.tensor(&format!("{name}.bn.{part}"), &[outputs]);
                let (gain, bias) = (norm("weight")?, norm("bias")?);
                let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
                let scale: Vec<f64> = gain
                    .iter()
                    .zip(&variance)
                    .map(|(&gain, &variance)| f64::from(gain) / (f64::from(variance) + EPS).sqrt())
                    .collect();
                let bias = (0..outputs)
                    .map(|o| (f64::from(bias[o]) - f64::from(mean[o]) * scale[o]) as f32)
                    .collect();
                let scale: Vec<f32> = scale.into_iter().map(|s| s as f32).collect();
                let conv = Conv::new(&filters, &scale, bias, kernel, stride, padding);
                convs.insert(name, conv);
            }
        }
        let fc = tensors.tensor("fc.weight", &[CLASSES, DIM])?;
        let fc_bias = tensors.tensor("fc.bias", &[CLASSES])?;
        Ok(Self { convs, fc, fc_packed: PackedWeight::default(), fc_bias, sha256 })
    }

    /// Everything that torch-fidelity reads off the network, for a few images.
    pub fn taps(&self, images: Images<'_>) -> Taps {
        let mut x = Pixels::unset(images.batch, [SIZE, SIZE], 3);
        let resized = resize(images, SIZE, SIZE);
        x.data.iter_mut().zip(resized).for_each(|(x, v)| *x = (v - 128.0) / 128.0);

        for layer in ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"] {
            x = self.conv(layer, &x);
        }
        x = max_pool(&x, 3, 2);
        let after_64 = x.mean();
        x = self.conv("Conv2d_4a_3x3", &self.conv("Conv2d_3b_1x1", &x));
        x = max_pool(&x, 3, 2);
        let after_192 = x.mean();
        for block in ["Mixed_5b", "Mixed_5c", "Mixed_5d"] {
            x = self.forward_a(block, &x);
        }
        x = self.forward_b("Mixed_6a", &x);
        for block in ["Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"] {
            x = self.forward_c(block, &x);
        }
        let after_768 = x.mean();
        x = self.forward_d("Mixed_7a", &x);
        x = self.forward_e("Mixed_7b", &x, Pool::Average);
        // The last block's pool takes the maximum: the graph's own oddity.
        x = self.forward_e("Mixed_7c", &x, Pool::Max);
        let features = x.mean();
        let mut logits_unbiased = vec![0.0; images.batch * CLASSES];
        let weight = self.fc_packed.with(&self.fc, CLASSES, DIM);
        linear(&features, weight, None, &mut logits_unbiased);
        let rows = logits_unbiased.chunks_exact(CLASSES);
        let logits = rows.flat_map(|row| row.iter().zip(&self.fc_bias).map(|(x, b)| x + b));
        let logits = logits.collect();
        Taps { after_64, after_192, after_768, features, logits_unbiased, logits }
    }

    fn layer(&self, name: &str) -> &Conv {
        // `build` has inserted every layer of the tables, whose names the forward pass uses.
        &self.convs[name]
    }

    fn conv(&self, name: &str, x: &Pixels) -> Pixels {
        self.layer(name).forward(x)
    }

    /// The layers `names` one after the other; the last writes into `y` from channel `first` on.
    /// Returns the channel behind its own.
    fn branch(
        &self,
        block: &str,
        names: &[&str],
        x: &Pixels,
        y: &mut Pixels,
        first: usize,
    ) -> usize {
        let mut layers = names.iter().map(|name| self.layer(&format!("{block}.{name}")));
        let last = layers.next_back();
        let mut inner: Option<Pixels> = None;
        for layer in layers {
            inner = Some(layer.forward(inner.as_ref().unwrap_or(x)));
        }
        last.map_or(first, |layer| {
            layer.forward_into(inner.as_ref().unwrap_or(x), y, first);
            first + layer.filters.outputs()
        })
    }

    fn outputs(&self, block: &str, names: &[&str]) -> usize {
        names.iter().map(|name| self.layer(&format!("{block}.{name}")).filters.outputs()).sum()
    }

    fn forward_a(&self, block: &str, x: &Pixels) -> Pixels {
        let last = ["branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool"];
        let mut y = Pixels::unset(x.batch, [x.height, x.width], self.outputs(block, &last));
        let mut at = self.branch(block, &["branch1x1"], x, &mut y, 0);
        at = self.branch(block, &["branch5x5_1", "branch5x5_2"], x, &mut y, at);
        let double = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"];
        at = self.branch(block, &double, x, &mut y, at);
        self.branch(block, &["branch_pool"], &same_pool(x, Pool::Average), &mut y, at);
        y
    }

    fn forward_b(&self, block: &str, x: &Pixels) -> Pixels {
        let convs = self.outputs(block, &["branch3x3", "branch3x3dbl_3"]);
        let size = self.layer(&format!("{block}.branch3x3")).output(x);
        let mut y = Pixels::unset(x.batch, size, convs + x.channels);
        let mut at = self.branch(block, &["branch3x3"], x, &mut y, 0);
        let double = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"];
        at = self.branch(block, &double, x, &mut y, at);
        pool_into(x, pool_shape(x, 3, 2, 0), Pool::Max, &mut y, at);
        y
    }

    fn forward_c(&self, block: &str, x: &Pixels) -> Pixels {
        let last = ["branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"];
        let mut y = Pixels::unset(x.batch, [x.height, x.width], self.outputs(block, &last));
        let mut at = self.branch(block, &["branch1x1"], x, &mut y, 0);
        at = self.branch(block, &["branch7x7_1", "branch7x7_2", "branch7x7_3"], x, &mut y, at);
        let double = [
            "branch7x7dbl_1",
            "branch7x7dbl_2",
            "branch7x7dbl_3",
            "branch7x7dbl_4",
            "branch7x7dbl_5",
        ];
        at = self.branch(block, &double, x, &mut y, at);
        self.branch(block, &["branch_pool"], &same_pool(x, Pool::Average), &mut y, at);
        y
    }

    fn forward_d(&self, block: &str, x: &Pixels) -> Pixels {
        let convs = self.outputs(block, &["branch3x3_2", "branch7x7x3_4"]);
        let shape = pool_shape(x, 3, 2, 0);
        let mut y = Pixels::unset(x.batch, shape.output(), convs + x.channels);
        let mut at = self.branch(block, &["branch3x3_1", "branch3x3_2"], x, &mut y, 0);
        let long = ["branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"];
        at = self.branch(block, &long, x, &mut y, at);
        pool_into(x, shape, Pool::Max, &mut y, at);
        y
    }

    fn forward_e(&self, block: &str, x: &Pixels, kind: Pool) -> Pixels {
        let last = [
            "branch1x1",
            "branch3x3_2a",
            "branch3x3_2b",
            "branch3x3dbl_3a",
            "branch3x3dbl_3b",
            "branch_pool",
        ];
        let mut y = Pixels::unset(x.batch, [x.height, x.width], self.outputs(block, &last));
        let mut at = self.branch(block, &["branch1x1"], x, &mut y, 0);
        let inner = self.conv(&format!("{block}.branch3x3_1"), x);
        at = self.branch(block, &["branch3x3_2a"], &inner, &mut y, at);
        at = self.branch(block, &["branch3x3_2b"], &inner, &mut y, at);
        let inner = self.conv(&format!("{block}.branch3x3dbl_1"), x);
        let inner = self.conv(&format!("{block}.branch3x3dbl_2"), &inner);
        at = self.branch(block, &["branch3x3dbl_3a"], &inner, &mut y, at);
        at = self.branch(block, &["branch3x3dbl_3b"], &inner, &mut y, at);
        self.branch(block, &["branch_pool"], &same_pool(x, kind), &mut y, at);
        y
    }
}

impl Extractor for Inception {
    fn name(&self) -> &'static str {
        INCEPTION.extractor
    }

    fn weights_sha256(&self) -> &str {
        &self.sha256
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn classes(&self) -> usize {
        CLASSES
    }

    fn extract(&self, images: Images<'_>) -> Result<Extracted, EvalError> {
        Ok(in_groups(images, GROUP, |images| {
            let taps = self.taps(images);
            Extracted { features: taps.features, logits: taps.logits_unbiased }
        }))
    }
}
