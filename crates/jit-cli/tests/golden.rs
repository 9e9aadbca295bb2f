//! The golden cases of the reference implementation, through the code behind `jit verify`.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jit_cli::verify::{table, verify};
use jit_model::Cpu;
use jit_model::device::Precision;
use jit_train::Alone;

/// A file below `crates/`; a case lies in the crate that it tests first.
fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn holds(path: &str) {
    let checks = verify(&Alone, &Cpu::F32, &golden(path)).unwrap();
    assert!(!checks.is_empty());
    assert!(checks.iter().all(|check| check.passed()), "\n{}", table(&checks));
}

#[test]
fn every_model_variant_agrees() {
    let folder = golden("jit-cli/tests/golden");
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name());
    let names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
    let models = names.iter().filter(|n| n.starts_with("model_"));
    assert_eq!(models.clone().count(), 7);
    for model in models {
        holds(&format!("jit-cli/tests/golden/{model}"));
    }
}

#[test]
fn sampler_trajectories_agree() {
    holds("jit-cli/tests/golden/sampler.safetensors");
}

#[test]
fn ten_training_steps_agree() {
    holds("jit-train/tests/golden/training.safetensors");
}

#[test]
fn a_torch_checkpoint_agrees_from_either_of_its_files() {
    holds("jit-model/tests/golden/checkpoint-last.pth");
    holds("jit-model/tests/golden/checkpoint-last.expected.safetensors");
}

#[test]
fn image_transforms_agree() {
    holds("jit-data/tests/golden/transforms.safetensors");
}

#[test]
fn networks_that_judge_images_agree() {
    holds("jit-eval/tests/golden/extractors.safetensors");
}

#[test]
fn metrics_agree() {
    holds("jit-eval/tests/golden/metrics.safetensors");
}

#[test]
fn in_bf16_the_same_cases_hold_to_its_own_tolerances() {
    let bf16 = Cpu::new(Precision::Bf16);
    for path in [
        "jit-cli/tests/golden/model_silu_bottleneck.safetensors",
        "jit-cli/tests/golden/model_silu_swiglu_rotation.safetensors",
        "jit-cli/tests/golden/sampler.safetensors",
        "jit-train/tests/golden/training.safetensors",
        "jit-model/tests/golden/checkpoint-last.pth",
    ] {
        let checks = verify(&Alone, &bf16, &golden(path)).unwrap();
        assert!(checks.iter().all(|check| check.passed()), "\n{}", table(&checks));
        assert!(checks.iter().any(|check| check.error > 1e-3), "not rounded:\n{}", table(&checks));
    }
}

fn jit(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jit")).args(args).output().unwrap()
}

/// The bytes of a safetensors file with the numbers of one tensor changed.
fn corrupted(path: &Path, tensor: &str, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let offsets = header[tensor]["data_offsets"].as_array().unwrap();
    let at = |i: usize| 8 + length + offsets[i].as_u64().unwrap() as usize;
    let range = at(0)..at(1);
    change(&mut bytes[range]);
    bytes
}

#[test]
fn a_wrong_value_fails_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = golden("jit-cli/tests/golden/model_linear_swiglu.safetensors");
    let output = jit(&["verify", whole.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("gradients") && !text.contains("FAIL"), "{text}");

    let grad = "grad.net.blocks.1.attn.qkv.weight";
    for (tensor, quantity) in [(grad, "gradients"), ("x_pred", "outputs"), ("loss.total", "losses")]
    {
        let bytes = corrupted(&whole, tensor, |data| {
            for value in data.chunks_exact_mut(4) {
                let number = f32::from_le_bytes(value.try_into().unwrap());
                value.copy_from_slice(&(number * 1.004).to_le_bytes());
            }
        });
        let path = dir.path().join("wrong.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let output = jit(&["verify", path.to_str().unwrap()]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{tensor}\n{text}");
        let failed: Vec<&str> = text.lines().filter(|l| l.ends_with("FAIL")).collect();
        assert_eq!(failed.len(), 1, "{text}");
        let name = tensor.strip_prefix("grad.").unwrap_or(tensor);
        assert!(failed[0].contains(quantity) && failed[0].contains(name), "{text}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("1 of 3 checks exceed their tolerance"), "{errors}");
    }
}

#[test]
fn a_wrong_pixel_fails() {
    let dir = tempfile::tempdir().unwrap();
    let whole = golden("jit-data/tests/golden/transforms.safetensors");
    std::fs::create_dir(dir.path().join("images")).unwrap();
    for entry in std::fs::read_dir(whole.with_file_name("images")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join("images").join(path.file_name().unwrap())).unwrap();
    }
    let bytes = corrupted(&whole, "rgb_64x64.png@32", |data| data[77] ^= 0x40);
    let path = dir.path().join("wrong.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let output = jit(&["verify", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let failed: Vec<&str> = text.lines().filter(|l| l.ends_with("FAIL")).collect();
    assert!(failed.len() == 1 && failed[0].contains("rgb_64x64.png@32"), "{text}");
}

#[test]
fn files_that_are_no_cases_say_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &Path| {
        let output = jit(&["verify", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let none = message(&dir.path().join("none.safetensors"));
    assert!(none.contains("none.safetensors"), "{none}");
    let text = dir.path().join("text.safetensors");
    std::fs::write(&text, "not tensors").unwrap();
    assert!(message(&text).contains("of an unknown kind"));
    let other = message(&golden("jit-data/tests/golden/images/rgb_64x64.png"));
    assert!(other.contains("rgb_64x64.png"), "{other}");

    // A torch checkpoint without its outputs.
    let lonely = dir.path().join("lonely.pth");
    std::fs::copy(golden("jit-model/tests/golden/checkpoint-last.pth"), &lonely).unwrap();
    let lonely = message(&lonely);
    assert!(lonely.contains("lonely.expected.safetensors"), "{lonely}");
}
