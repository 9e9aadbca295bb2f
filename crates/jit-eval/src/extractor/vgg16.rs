//! VGG16 (Simonyan and Zisserman 2015) with torchvision's layout and names: the features of precision
//! and recall.

use std::path::Path;

use jit_kernels::gemm::{MatRef, PackedB, Precision, Store, gemm};

use super::convnet::{Conv, Pixels, max_pool};
use super::formula::{self, Formula};
use super::weights::{FileTensors, Tensors, VGG16};
use super::{Extracted, Extractor, Images, in_groups, resize};
use crate::EvalError;

/// Side of the images that the network sees.
const SIZE: usize = 224;
/// Values of the hidden layers of the classifier.
const DIM: usize = 4096;
/// Images computed at once.
const GROUP: usize = 8;
/// ImageNet's mean and deviation, of values from 0 to 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Index of a convolution among torchvision's `features`, its inputs and outputs.
type Layer = (usize, usize, usize);

/// The convolutions between pools.
const STAGES: [&[Layer]; 5] = [
    &[(0, 3, 64), (2, 64, 64)],
    &[(5, 64, 128), (7, 128, 128)],
    &[(10, 128, 256), (12, 256, 256), (14, 256, 256)],
    &[(17, 256, 512), (19, 512, 512), (21, 512, 512)],
    &[(24, 512, 512), (26, 512, 512), (28, 512, 512)],
];
/// Channels and side of the last stage's output.
const LAST: (usize, usize) = (512, SIZE / 32);

/// The network, without its last layer.
pub struct Vgg16 {
    stages: Vec<Vec<Conv>>,
    fc1: Dense,
    fc2: Dense,
    sha256: String,
}

/// The second hidden layer of the classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct FullyConnected {
    /// `[B, 4096]`, before the ReLU.
    pub fc2: Vec<f32>,
    /// `[B, 4096]`, after it: the features.
    pub fc2_relu: Vec<f32>,
}

/// A linear layer whose weight is kept packed alone: unpacked it would be another half a gigabyte.
struct Dense {
    panels: PackedB,
    bias: Vec<f32>,
}

impl Dense {
    /// `weight` `[DIM, inputs]`
    fn new(weight: &[f32], bias: Vec<f32>) -> Self {
        let weight = MatRef::row_major(weight, DIM, weight.len() / DIM);
        Self { panels: PackedB::new(weight.transposed(), Precision::F32), bias }
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let inputs = self.panels.rows();
        let x = MatRef::row_major(x, x.len() / inputs, inputs);
        let mut y = vec![0.0; x.rows() * DIM];
        gemm(x, &self.panels, &mut y, Store::Overwrite, Some(&self.bias));
        y
    }
}

impl Vgg16 {
    /// Reads the published weights, or those at `given`.
    ///
    /// # Errors
    /// When they are missing, damaged or of another network.
    pub fn open(given: Option<&Path>) -> Result<Self, EvalError> {
        if given == Some(Path::new(formula::NAME)) {
            return Self::formula();
        }
        let path = VGG16.find(given)?;
        let sha256 = VGG16.check(&path)?;
        Self::build(&mut FileTensors::open(&path)?, sha256)
    }

    /// With the weights of a formula.
    ///
    /// # Errors
    /// Never in fact.
    pub fn formula() -> Result<Self, EvalError> {
        Self::build(&mut Formula, formula::NAME.into())
    }

    /// Builds the network from its tensors.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn build(tensors: &mut dyn Tensors, sha256: String) -> Result<Self, EvalError> {
        let mut conv = |&(index, inputs, outputs): &Layer| {
            let shape = [outputs, inputs, 3, 3];
            let filters = tensors.tensor(&format!("features.{index}.weight"), &shape)?;
            let bias = tensors.tensor(&format!("features.{index}.bias"), &[outputs])?;
            Ok(Conv::new(&filters, &vec![1.0; outputs], bias, [3, 3], 1, [1, 1]))
        };
        let stages = STAGES
            .iter()
            .map(|stage| stage.iter().map(&mut conv).collect())
            .collect::<Result<Vec<Vec<Conv>>, EvalError>>()?;
        let (channels, side) = LAST;
        let mut dense = |index: usize, inputs: usize| {
            let weight = tensors.tensor(&format!("classifier.{index}.weight"), &[DIM, inputs])?;
            let bias = tensors.tensor(&format!("classifier.{index}.bias"), &[DIM])?;
            Ok::<_, EvalError>((weight, bias))
        };
        let (mut weight, bias) = dense(0, channels * side * side)?;
        // torch flattens channels first, our pixels have them last.
        let mut row = vec![0.0; channels * side * side];
        for weights in weight.chunks_exact_mut(channels * side * side) {
            for (at, value) in row.iter_mut().enumerate() {
                *value = weights[at % channels * side * side + at / channels];
            }
            weights.copy_from_slice(&row);
        }
        let fc1 = Dense::new(&weight, bias);
        drop(weight);
        let (weight, bias) = dense(3, DIM)?;
        let fc2 = Dense::new(&weight, bias);
        Ok(Self { stages, fc1, fc2, sha256 })
    }

    /// The classifier's second hidden layer, for a few images.
    pub fn fully_connected(&self, images: Images<'_>) -> FullyConnected {
        let mut x = Pixels::unset(images.batch, [SIZE, SIZE], 3);
        let resized = resize(images, SIZE, SIZE);
        for (x, v) in x.data.chunks_exact_mut(3).zip(resized.chunks_exact(3)) {
            for c in 0..3 {
                x[c] = (v[c] / 255.0 - MEAN[c]) / DEVIATION[c];
            }
        }
        for stage in &self.stages {
            for conv in stage {
                x = conv.forward(&x);
            }
            x = max_pool(&x, 2, 2);
        }
        let fc2 = self.fc2.forward(&relu(self.fc1.forward(&x.data)));
        FullyConnected { fc2_relu: relu(fc2.clone()), fc2 }
    }
}

fn relu(mut x: Vec<f32>) -> Vec<f32> {
    x.iter_mut().for_each(|x| *x = x.max(0.0));
    x
}

impl Extractor for Vgg16 {
    fn name(&self) -> &'static str {
        VGG16.extractor
    }

    fn weights_sha256(&self) -> &str {
        &self.sha256
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn classes(&self) -> usize {
        0
    }

    fn extract(&self, images: Images<'_>) -> Result<Extracted, EvalError> {
        Ok(in_groups(images, GROUP, |images| Extracted {
            features: self.fully_connected(images).fc2_relu,
            logits: Vec::new(),
        }))
    }
}
