//! Features kept by what they were made of: the pixels and the extractor's weights. Evaluating the
//! same references again costs reading them.

use std::path::{Path, PathBuf};

use jit_core::files::FileError;
use jit_model::weights::{Npz, Tensor, TensorData, WeightsError, write_npz};
use sha2::{Digest, Sha256};

use crate::extractor::{Extracted, Extractor, Images};

/// A folder of features.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// In `dir`, which is made when the first features are kept.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The file of these images by this extractor.
    pub(crate) fn file(&self, extractor: &dyn Extractor, images: Images<'_>) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(extractor.name());
        hash.update(extractor.weights_sha256());
        for extent in [images.batch, images.height, images.width] {
            hash.update((extent as u64).to_le_bytes());
        }
        hash.update(images.pixels);
        self.dir.join(format!("{}.npz", jit_core::hex(&hash.finalize())))
    }

    /// What was kept for so many images, if it is there and whole.
    pub(crate) fn read(
        &self,
        file: &Path,
        extractor: &dyn Extractor,
        batch: usize,
    ) -> Option<Extracted> {
        let read = || -> Result<(Tensor, Tensor), WeightsError> {
            let npz = Npz::open(file)?;
            Ok((npz.array("features")?, npz.array("logits")?))
        };
        let (features, logits) = file.is_file().then(read)?.ok()?;
        let fits = features.shape == [batch, extractor.dim()]
            && logits.shape == [batch, extractor.classes()];
        fits.then(|| Extracted { features: features.into_f32(), logits: logits.into_f32() })
    }

    /// Keeps features.
    pub(crate) fn write(
        &self,
        file: &Path,
        extractor: &dyn Extractor,
        batch: usize,
        extracted: &Extracted,
    ) -> Result<(), FileError> {
        std::fs::create_dir_all(&self.dir).map_err(FileError::at("create", &self.dir))?;
        let array = |columns: usize, values: &[f32]| Tensor {
            shape: vec![batch, columns],
            data: TensorData::F32(values.to_vec()),
        };
        write_npz(file, |npz| {
            npz.array("features", &array(extractor.dim(), &extracted.features))?;
            npz.array("logits", &array(extractor.classes(), &extracted.logits))
        })
    }
}
