//! A golden-case file: its tensors with checked shapes, its metadata, the network it describes.

use std::path::{Path, PathBuf};

use jit_model::config::{MlpKind, ModelConfig};
use jit_model::objective::{AuxHeadKind, Auxiliary, ObjectiveConfig, RotationKind};
use jit_model::params::{ParamSpec, Registry};
use jit_model::weights::File;
use jit_model::{Device, Params};
use serde::de::DeserializeOwned;

use super::VerifyError;

/// An open golden case.
pub struct Case {
    path: PathBuf,
    file: File,
}

impl Case {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read, or is neither safetensors nor a torch checkpoint.
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        Ok(Self { path: path.to_path_buf(), file: File::open(path)? })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name without folder and ending.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it is a torch checkpoint.
    pub fn is_torch(&self) -> bool {
        self.file.as_pth().is_some()
    }

    /// The names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.file.names()
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.file.shape(name).is_some()
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, VerifyError> {
        match self.file.shape(name) {
            Some(shape) => Ok(shape),
            // Reading it fails with the nearest name.
            None => Ok(self.file.tensor(name)?.shape),
        }
    }

    /// A tensor of any shape.
    ///
    /// # Errors
    /// When there is no such tensor or it cannot be read.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, VerifyError> {
        Ok(self.file.tensor(name)?.into_f32())
    }

    /// A tensor that must have this shape.
    ///
    /// # Errors
    /// As [`Case::values`], or when the shape is another.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, VerifyError> {
        let found = self.shape(name)?;
        if found != shape {
            return Err(self.misfit(name, format!("{found:?}"), format!("{shape:?}")));
        }
        self.values(name)
    }

    /// Whole numbers from 0 to `limit`, of this shape.
    ///
    /// # Errors
    /// As [`Case::tensor`], or when a number is another.
    pub fn indices(
        &self,
        name: &str,
        shape: &[usize],
        limit: u32,
    ) -> Result<Vec<u32>, VerifyError> {
        let tensor = self.file.tensor(name)?;
        if tensor.shape != shape {
            return Err(self.misfit(name, format!("{:?}", tensor.shape), format!("{shape:?}")));
        }
        let expected = format!("whole numbers from 0 to {limit}");
        let Some(values) = tensor.to_i64() else {
            return Err(self.misfit(name, "of floating-point numbers".into(), expected));
        };
        let index = |v: i64| u32::try_from(v).ok().filter(|&i| i <= limit);
        values
            .into_iter()
            .map(|v| index(v).ok_or_else(|| self.misfit(name, format!("{v}"), expected.clone())))
            .collect()
    }

    /// An error about a tensor.
    pub fn misfit(&self, tensor: &str, found: String, expected: String) -> VerifyError {
        VerifyError::Tensor { path: self.path.clone(), tensor: tensor.into(), found, expected }
    }

    /// A metadata entry, if there is one.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.file.metadata().get(key).map(String::as_str)
    }

    /// An error about a metadata entry.
    pub fn bad_metadata(&self, key: &str, expected: &str) -> VerifyError {
        VerifyError::Metadata {
            path: self.path.clone(),
            key: key.to_string(),
            found: self.metadata(key).map_or("missing".into(), |v| format!("`{v}`")),
            expected: expected.to_string(),
        }
    }

    /// A number in the metadata.
    ///
    /// # Errors
    /// When it is missing or no number.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, VerifyError> {
        let value = self.metadata(key).and_then(|v| v.parse().ok());
        value.ok_or_else(|| self.bad_metadata(key, "a number"))
    }

    /// A name in the metadata, if there is one.
    fn named<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, VerifyError> {
        let Some(text) = self.metadata(key) else { return Ok(None) };
        let value = serde_json::from_value(serde_json::Value::String(text.to_string()));
        value.map(Some).map_err(|e| self.bad_metadata(key, &e.to_string()))
    }

    /// The network that the file describes: the metadata's `config`, `patch_embed` and `mlp`, and
    /// what the parameters themselves tell. `prefix` is that of the parameters.
    ///
    /// # Errors
    /// When the configuration is missing or no network can have it.
    pub fn model(&self, prefix: &str) -> Result<ModelConfig, VerifyError> {
        let text = self.metadata("config");
        let text = text.ok_or_else(|| self.bad_metadata("config", "a JSON object"))?;
        let mut model: ModelConfig =
            serde_json::from_str(text).map_err(|e| self.bad_metadata("config", &e.to_string()))?;
        let proj1 = format!("{prefix}net.x_embedder.proj1.weight");
        if let Some([_, channels, ..]) = self.file.shape(&proj1).as_deref() {
            model.channels = *channels;
        }
        if let Some(kind) = self.named("patch_embed")? {
            model.patch_embed = kind;
        }
        model.mlp = match self.named("mlp")? {
            Some(kind) => kind,
            None if self.has(&format!("{prefix}net.blocks.0.mlp.0.weight")) => MlpKind::Bottleneck,
            None => model.mlp,
        };
        // A golden case is without chance: dropout is off.
        (model.attention_dropout, model.projection_dropout) = (0.0, 0.0);
        self.check_model(&model)?;
        Ok(model)
    }

    /// That a network can have this configuration.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_model(&self, model: &ModelConfig) -> Result<(), VerifyError> {
        let path = self.path.clone();
        model.validate().map_err(|source| VerifyError::Config { path, source })
    }

    /// The objective: the default one but for what metadata (`lambda`, `prediction`, `loss`,
    /// `t_eps`) and heads tell.
    ///
    /// # Errors
    /// When a metadata entry makes no sense.
    pub fn objective(&self) -> Result<ObjectiveConfig, VerifyError> {
        let mut o = ObjectiveConfig::default();
        for (auxiliary, head) in
            [(Auxiliary::Time, "time_head"), (Auxiliary::Rotation, "rotation_head")]
        {
            let single = self.has(&format!("param.{head}.weight"));
            if single || self.has(&format!("param.{head}.0.weight")) {
                o.auxiliary = auxiliary;
                o.auxiliary_head = if single { AuxHeadKind::Linear } else { AuxHeadKind::Mlp };
                o.auxiliary_weight = self.number("lambda")?;
            }
        }
        // Only the second-pass variant has a rotated z.
        let in_place = o.auxiliary == Auxiliary::Rotation && !self.has("aux.z_rotated");
        o.rotation = if in_place { RotationKind::InPlace } else { RotationKind::SecondPass };
        o.rotation = self.named("rotation")?.unwrap_or(o.rotation);
        o.prediction = self.named("prediction")?.unwrap_or(o.prediction);
        o.loss = self.named("loss")?.unwrap_or(o.loss);
        if self.metadata("t_eps").is_some() {
            o.t_eps = self.number("t_eps")?;
        }
        o.validate().map_err(|e| self.bad_metadata("lambda", &e.to_string()))?;
        Ok(o)
    }

    /// Values for every parameter of `registry`, named with `prefix` in the file.
    ///
    /// # Errors
    /// When one is missing or of another shape, or the file has one that the network has not.
    pub fn params<D: Device>(
        &self,
        dev: &D,
        registry: &Registry,
        prefix: &str,
    ) -> Result<Params<D>, VerifyError> {
        let known = |name: &str| registry.specs().iter().any(|s| s.name == name);
        for name in self.names() {
            if let Some(rest) = name.strip_prefix(prefix)
                && !known(rest)
            {
                let expected = "a parameter of the network in the metadata";
                return Err(self.misfit(&name, "unknown".into(), expected.into()));
            }
        }
        let value = |s: &ParamSpec| self.tensor(&format!("{prefix}{}", s.name), &s.shape);
        let values = registry.specs().iter().map(value).collect::<Result<Vec<_>, _>>()?;
        Ok(Params::upload(dev, registry, &values))
    }
}
