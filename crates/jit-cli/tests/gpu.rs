//! A graphics card against the processor, through the commands: the same golden cases, the same training, the
//! same images. Where a machine has no card, a driver that computes on the processor stands in for one.

#![cfg(feature = "gpu")]
// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;
use common::{Place, distance, golden, journal};

/// What this build has beside the processor. The emulator stands in for a card of NVIDIA's.
const DEVICES: &[&str] = &[
    #[cfg(feature = "wgpu")]
    "wgpu",
    #[cfg(feature = "cuda-emulator")]
    "cuda-emulator",
    #[cfg(all(feature = "cuda", not(feature = "cuda-emulator")))]
    "cuda",
];

const TRAIN: &str = "train --config tiny.toml --set train.precision=f32";

/// Weights, averages and moments after six steps at a rate of 10⁻³, where AdamW divides by gradients that
/// differ in their last bits: a thousandth of what the steps may move a weight.
const TOLERANCE: f32 = 6e-6;

fn on_device(place: &Place, device: &str, line: &str) -> String {
    place.ok(&format!("--device {device} {line}")).out
}

#[test]
fn golden_cases_agree() {
    let place = Place::new();
    let cases = [
        "jit-cli/tests/golden/model_linear_bottleneck.safetensors",
        "jit-cli/tests/golden/model_silu_swiglu_rotation.safetensors",
        "jit-cli/tests/golden/model_silu_swiglu_time.safetensors",
        "jit-cli/tests/golden/sampler.safetensors",
        "jit-train/tests/golden/training.safetensors",
        "jit-model/tests/golden/checkpoint-last.pth",
    ];
    let files: Vec<String> = cases.iter().map(|case| golden(case)).collect();
    for device in DEVICES {
        let line = format!("verify --precision f32 {}", files.join(" "));
        let table = on_device(&place, device, &line);
        assert!(table.lines().count() > 15 && !table.contains("FAIL"), "{device}: {table}");
    }
}

#[test]
fn a_run_is_the_processors_and_each_goes_on_with_the_others() {
    DEVICES.iter().for_each(|device| run_and_go_on(device));
}

fn run_and_go_on(device: &str) {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out cpu"));
    on_device(&place, device, &format!("{TRAIN} --out card --set train.log_every=4"));
    let differs = distance(&place, ["cpu", "card"], 6);
    assert!(differs > 0.0 && differs < TOLERANCE, "{differs}");
    let (cpu, card) = (journal(&place, "cpu"), journal(&place, "card"));
    assert_eq!((cpu.len(), card.len()), (6, 1), "every fourth step is written down");
    for key in ["step", "loss", "grad_norm", "lr"] {
        let [a, b] = [&cpu[3][key], &card[0][key]].map(|value| value.as_f64().unwrap());
        assert!((a - b).abs() <= 1e-5 * a.abs(), "{key}: {a} and {b}");
    }

    on_device(&place, device, &format!("{TRAIN} --out both --max-steps 2"));
    place.ok(&format!("{TRAIN} --out both --max-steps 4"));
    let line = format!("{TRAIN} --out both --checkpoint-blocks");
    on_device(&place, device, &line);
    assert!(distance(&place, ["cpu", "both"], 6) < TOLERANCE);
}

#[test]
fn two_networks_with_every_auxiliary_part_train_alike() {
    let place = Place::new();
    let line = format!(
        "{TRAIN} --set model.mlp=bottleneck --set model.patch_embed=silu --set \
         objective.auxiliary=rotation --set partner.mlp=swiglu --set optim.clip_norm=0.5"
    );
    place.ok(&format!("{line} --out cpu"));
    for device in DEVICES {
        on_device(&place, device, &format!("{line} --out {device}"));
        assert!(distance(&place, ["cpu", device], 6) < TOLERANCE, "{device}");
    }
}

#[test]
fn images_and_metrics_are_the_processors() {
    DEVICES.iter().for_each(|device| images_and_metrics(device));
}

fn images_and_metrics(device: &str) {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run"));
    place.ok("sample --checkpoint run --count 7 --npz cpu.npz");
    on_device(&place, device, "sample --checkpoint run --count 7 --npz card.npz");
    let (cpu, card) = (place.bytes("cpu.npz"), place.bytes("card.npz"));
    // Rounding to whole steps of brightness hides all but ties.
    let differ = cpu.iter().zip(&card).filter(|(a, b)| a != b).count();
    assert!(cpu.len() == card.len() && differ < 40, "{differ} of {} bytes", cpu.len());

    let eval = "eval --checkpoint run --count 60 --metrics fid --json";
    let fid = |text: &str| {
        let report: serde_json::Value = serde_json::from_str(text).unwrap();
        report["metrics"]["fid"]["mean"].as_f64().unwrap()
    };
    let (cpu, card) = (fid(&place.ok(eval).out), fid(&on_device(&place, device, eval)));
    assert!((cpu - card).abs() < 1e-3 * cpu, "{cpu} and {card}");
}

#[test]
fn what_does_not_fit_is_told_with_what_would() {
    DEVICES.iter().for_each(|device| does_not_fit(device));
}

fn does_not_fit(device: &str) {
    let place = Place::new();
    let line = format!("--device {device} {TRAIN} --out run --global-batch 64");
    // 2 MiB.
    let ran = place.limited(&line, "0.002");
    assert_ne!(ran.code, Some(0));
    assert!(ran.err.contains("a micro-batch of 64 images needs 2."), "{}", ran.err);
    let (_, rest) = ran.err.split_once("--set train.batch_size=").unwrap();
    let fits: usize = rest.split_once(' ').unwrap().0.parse().unwrap();
    assert!((1..64).contains(&fits), "{}", ran.err);
    let ran = place.limited(&format!("{line} --batch-size {fits}"), "0.002");
    assert_eq!(ran.code, Some(0), "{fits}: {}", ran.err);
    let ran = place.limited(&line, "much");
    assert!(ran.err.contains("JIT_DEVICE_MEMORY is `much`; expected a number"), "{}", ran.err);
}
