//! The kernels, compiled by NVRTC for the card at hand, and kept for the next time.

use std::ffi::{CStr, CString};
use std::path::PathBuf;

use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};

use crate::device::OpenError;
use crate::ops::source::source;

/// The cubin for a card of this capability: from the cache, or compiled.
pub fn kernels((major, minor): (i32, i32), card: &str) -> Result<Vec<u8>, OpenError> {
    // 9.0a has what 9.0 has and more, and runs on nothing else.
    let suffix = if (major, minor) == (9, 0) { "a" } else { "" };
    let options =
        [format!("--gpu-architecture=sm_{major}{minor}{suffix}"), "--std=c++17".to_string()];
    let source = source();
    let file = cache().map(|folder| {
        let mut hash = Sha256::new();
        for part in [&source, &options[0], &options[1], &version(), card] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let name: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
        folder.join(format!("kernels-{name}.cubin"))
    });
    if let Some(image) = file.as_ref().and_then(|file| std::fs::read(file).ok())
        && image.starts_with(b"\x7fELF")
    {
        return Ok(image);
    }
    let image = compile(&source, &options)?;
    if let Some(file) = &file {
        // A cache that cannot be written costs the next start some seconds, and nothing else.
        let _ = std::fs::create_dir_all(file.parent().unwrap_or(file));
        let _ = jit_core::files::write_bytes_atomic(file, &image);
    }
    Ok(image)
}

/// Where compiled kernels and chosen algorithms are kept.
pub fn cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base =
        base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.map(|base| base.join("jit-cuda"))
}

fn version() -> String {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: two numbers to write.
    let _ = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    format!("nvrtc {major}.{minor}")
}

fn compile(source: &str, options: &[String]) -> Result<Vec<u8>, OpenError> {
    let failed = |what: &str, log: String| OpenError::Compile { what: what.into(), log };
    let source = CString::new(source).map_err(|_| failed("the source", String::new()))?;
    let program = result::create_program(&source, Some(c"kernels.cu"))
        .map_err(|error| failed("the source", format!("{error:?}")))?;
    // SAFETY: the program is alive until it is destroyed below.
    let compiled = unsafe { result::compile_program(program, options) };
    let image = match compiled {
        Ok(()) => cubin(program).map_err(|error| failed("the result", format!("{error:?}"))),
        Err(error) => {
            // SAFETY: as above.
            let log = unsafe { result::get_program_log(program) }.unwrap_or_default();
            let log = if log.is_empty() {
                String::new()
            } else {
                // SAFETY: the log ends with a zero.
                unsafe { CStr::from_ptr(log.as_ptr()) }.to_string_lossy().into_owned()
            };
            Err(failed(&options.join(" "), format!("{error:?}: {log}")))
        }
    };
    // SAFETY: created above, and not used any more.
    let _ = unsafe { result::destroy_program(program) };
    image
}

fn cubin(program: sys::nvrtcProgram) -> Result<Vec<u8>, result::NvrtcError> {
    let mut bytes = 0;
    // SAFETY: the program was compiled.
    unsafe { sys::nvrtcGetCUBINSize(program, &mut bytes) }.result()?;
    let mut image = vec![0u8; bytes];
    // SAFETY: there is room for as many bytes as it said.
    unsafe { sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()) }.result()?;
    Ok(image)
}
