//! Where an extractor's weights come from, and that they are the ones meant.

use std::env;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jit_core::files::FileError;
use jit_core::text::Show;
use jit_model::weights;
use sha2::{Digest, Sha256};

use crate::EvalError;

/// A published file of weights.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The extractor that reads it.
    pub extractor: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// Start of its SHA-256, as its name has it.
    pub hash: &'static str,
    /// Where it is published.
    pub url: &'static str,
    /// Its size in bytes is below this.
    pub max_bytes: u64,
}

/// Inception of 2015-12-05, released with torch-fidelity 0.2.0.
pub const INCEPTION: Published = Published {
    extractor: "inception",
    file: "weights-inception-2015-12-05-6726825d.pth",
    hash: "6726825d",
    url: "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    max_bytes: 200 << 20,
};

/// VGG16 of torchvision.
pub const VGG16: Published = Published {
    extractor: "vgg16",
    file: "vgg16-397923af.pth",
    hash: "397923af",
    url: "https://download.pytorch.org/models/vgg16-397923af.pth",
    max_bytes: 700 << 20,
};

/// The folder of weights that all programs of a user share: `$XDG_CACHE_HOME/jit/weights`, or
/// `~/.cache/jit/weights`.
pub fn cache_folder() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    cache.or_else(home).unwrap_or_default().join("jit/weights")
}

/// The environment variable that names a folder of weights.
pub const FOLDER: &str = "JIT_WEIGHTS_DIR";

impl Published {
    /// Where the file is: in `given` (itself, or a folder that holds it), in the folder that
    /// `JIT_WEIGHTS_DIR` names, or in the cache.
    ///
    /// # Errors
    /// [`EvalError::NoWeights`] with everything one needs to get it.
    pub fn find(&self, given: Option<&Path>) -> Result<PathBuf, EvalError> {
        let mut places = Vec::new();
        match given {
            Some(path) if path.is_file() => return Ok(path.into()),
            Some(path) => places.push(path.join(self.file)),
            None => {
                places.extend(env::var_os(FOLDER).map(|dir| Path::new(&dir).join(self.file)));
                places.push(cache_folder().join(self.file));
            }
        }
        if let Some(found) = places.iter().find(|path| path.is_file()) {
            return Ok(found.clone());
        }
        let folder = |path: &PathBuf| format!("`{}`", path.with_file_name("").shown());
        Err(EvalError::NoWeights {
            file: self.file,
            hash: self.hash,
            places: places.iter().map(folder).collect::<Vec<_>>().join(", "),
            extractor: self.extractor,
            url: self.url,
            folder: places.first().map(folder).unwrap_or_default(),
        })
    }

    /// Where the file belongs: in `folder`, else in the folder that `JIT_WEIGHTS_DIR` names, else in
    /// the cache.
    pub fn destination(&self, folder: Option<&Path>) -> PathBuf {
        let named = || env::var_os(FOLDER).map(PathBuf::from);
        folder.map(PathBuf::from).or_else(named).unwrap_or_else(cache_folder).join(self.file)
    }

    /// Checks a file that has the published name against the published hash, and returns its hash.
    /// Other files (converted to safetensors, say) are what they are.
    ///
    /// # Errors
    /// [`EvalError::Hash`] where it is another.
    pub fn check(&self, path: &Path) -> Result<String, EvalError> {
        let found = sha256(path)?;
        let named = path.file_name().is_some_and(|name| name == self.file);
        match named && !found.starts_with(self.hash) {
            true => Err(EvalError::Hash { path: path.into(), found, expected: self.hash }),
            false => Ok(found),
        }
    }
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path) -> Result<String, FileError> {
    let mut file = jit_core::input::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(jit_core::hex(&hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::at("read", path)(error)),
        }
    }
}

/// Tensors by name, for a network that is being built.
pub trait Tensors {
    /// The tensor `name` in row-major order.
    ///
    /// # Errors
    /// When it is missing or of another shape.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EvalError>;
}

/// The tensors of a `.pth` or safetensors file.
pub struct FileTensors {
    path: PathBuf,
    file: weights::File,
}

impl FileTensors {
    /// Opens the file.
    ///
    /// # Errors
    /// When it is none that can be read.
    pub fn open(path: &Path) -> Result<Self, EvalError> {
        Ok(Self { path: path.into(), file: weights::File::open(path)? })
    }
}

impl Tensors for FileTensors {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EvalError> {
        let found = self.file.shape(name);
        if found.as_deref() != Some(shape) {
            return Err(EvalError::Tensor {
                path: self.path.clone(),
                tensor: name.into(),
                found: found.map_or_else(|| "missing".into(), |shape| format!("{shape:?}")),
                expected: format!("{shape:?}"),
            });
        }
        Ok(self.file.tensor(name)?.into_f32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_says_how_to_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let message = VGG16.find(Some(dir.path())).unwrap_err().to_string();
        for part in [VGG16.file, VGG16.hash, VGG16.url, "jit weights fetch vgg16"] {
            assert!(message.contains(part), "{message}");
        }
        let path = dir.path().join(VGG16.file);
        std::fs::write(&path, "something else").unwrap();
        assert_eq!(VGG16.find(Some(dir.path())).unwrap(), path);
        let message = VGG16.check(&path).unwrap_err().to_string();
        assert!(message.contains("starts with 397923af"), "{message}");
        let other = dir.path().join("mine.pth");
        std::fs::rename(&path, &other).unwrap();
        assert_eq!(VGG16.check(&other).unwrap(), sha256(&other).unwrap());
    }

    #[test]
    fn tensors_of_another_shape_or_name_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let tensors = [("fc.weight", &[2, 3][..], &[0.5; 6][..])];
        weights::write_safetensors(&path, tensors, &Default::default()).unwrap();
        let mut file = FileTensors::open(&path).unwrap();
        assert_eq!(file.tensor("fc.weight", &[2, 3]).unwrap(), [0.5; 6]);
        let mut told = |name: &str| file.tensor(name, &[3, 2]).unwrap_err().to_string();
        let message = told("fc.weight");
        assert!(message.contains("w.safetensors`: tensor `fc.weight` is [2, 3]"), "{message}");
        assert!(message.contains("expected [3, 2]"), "{message}");
        assert!(told("fc.bias").contains("tensor `fc.bias` is missing"), "{}", told("fc.bias"));
    }

    #[test]
    fn hashes_are_those_of_the_standard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), known);
    }
}
