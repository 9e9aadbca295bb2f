//! Two models that draw together, end to end.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;
use common::Place;
use serde_json::Value;

/// Ten steps are enough to leave zero.
const BRIEF: &str = "--max-steps 10 --lr 0.02 --set optim.warmup_epochs=0";

/// Two runs with networks of another kind, width and patch.
fn parents() -> Place {
    let place = Place::new();
    place.ok(&format!("train --config tiny.toml --out a {BRIEF}"));
    let other = "--set model.mlp=bottleneck --set model.patch_embed=silu --set model.patch_size=7 \
                 --set model.hidden_size=24 --set train.seed=8";
    place.ok(&format!("train --config tiny.toml --out b {BRIEF} {other}"));
    place
}

#[test]
fn fused_images_lie_between_those_of_the_parents() {
    let place = parents();
    let sample = |line: &str, name: &str| {
        place.ok(&format!("sample {line} --cfg 2 --count 7 --npz {name}"));
        place.bytes(name)
    };
    let a = sample("--checkpoint a", "a.npz");
    let b = sample("--checkpoint b", "b.npz");
    assert_eq!(a, sample("--checkpoint a --fuse b --fuse-weight 0", "none.npz"));
    assert_eq!(b, sample("--checkpoint a --fuse b --fuse-weight 1", "all.npz"));
    let half = sample("--checkpoint a --fuse b", "half.npz");
    assert!(half != a && half != b);
    assert_eq!(half, sample("--checkpoint a --fuse b --fuse-weight 0.5 --batch-size 2", "2.npz"));
    assert_ne!(half, sample("--checkpoint a --fuse b --fuse-weight 0.2..0.8", "ramp.npz"));
    assert_ne!(half, sample("--checkpoint a --fuse b --fuse-weight 0.2..0.8@0.4", "step.npz"));
    assert_ne!(half, sample("--checkpoint a --fuse b --fuse-average model", "raw.npz"));
    assert_ne!(half, sample("--checkpoint a --fuse b --fuse-mode guide", "guide.npz"));

    // The same as keys of a file, and with weights in a file.
    place.ok("convert b b.safetensors");
    std::fs::write(
        place.path("fusion.toml"),
        "[fusion]\nwith = \"b.safetensors\"\nweight = \"0.5\"\n",
    )
    .unwrap();
    assert_eq!(half, sample("--checkpoint a --config fusion.toml", "file.npz"));
}

#[test]
fn fused_images_are_judged_as_drawn_ones_are() {
    let place = parents();
    let fuse = "--checkpoint a --fuse b --fuse-mode guide --fuse-weight 0.5..1";
    let few = "--reference digits --kid-subset 20 --resamples 0 --json";
    let json = |line: &str| -> Value {
        serde_json::from_str(&place.ok(&format!("eval {line} {few}")).out).unwrap()
    };
    place.ok(&format!("sample {fuse} --count 40 --npz fused.npz"));
    let drawn = json(&format!("{fuse} --count 40"));
    assert_eq!(drawn["metrics"], json("fused.npz")["metrics"]);
    let generated = drawn["generated"].as_str().unwrap();
    assert!(generated.contains("guided by b/checkpoints/step-00000010"), "{generated}");
    assert!(generated.contains("weight 0.5..1"), "{generated}");
}

#[test]
fn what_cannot_be_fused_says_why() {
    let place = parents();
    place.ok(&format!("train --config tiny.toml --out large {BRIEF} --set model.image_size=32 --set model.patch_size=16"));
    std::fs::write(place.path("bad.toml"), "[fusion]\nwith = \"b\"\nweight = 0.5\n").unwrap();
    let cases = [
        (2, "--fuse large", "model.image_size is 28 in the first and 32 in the second"),
        (2, "--fuse b --fuse-weight half", "`half` is no weight"),
        (2, "--fuse b --fuse-weight half", "fusion.weight"),
        (2, "--fuse b --fuse-weight 1.5", "fusion.weight = 1.5: expected weights from 0 to 1"),
        (2, "--fuse b --fuse-average ema9", "`b/checkpoints/step-00000010` has no weights `ema9`"),
        (2, "--fuse-weight 0.5", "`--fuse-weight 0.5`: there is no second model"),
        (
            2,
            "--config bad.toml",
            "`bad.toml`: `fusion.weight` cannot be 0.5; expected text in quotes",
        ),
        (1, "--fuse nowhere", "nowhere"),
    ];
    for (code, line, expected) in cases {
        for command in ["sample --out a.png", "eval --count 20"] {
            let message = place.fails(code, &format!("{command} --checkpoint a {line}"));
            assert!(message.contains(expected), "{line}\n{message}");
        }
    }
    let message = place.fails(2, "sample --checkpoint a --fuse large");
    assert!(message.contains("a/checkpoints/step-00000010/ema-0.9.safetensors"), "{message}");
    assert!(message.contains("large/checkpoints/step-00000010/ema-0.9.safetensors"), "{message}");
    assert!(!place.path("samples.png").exists());
}

#[test]
fn two_that_were_trained_together_draw_together() {
    let place = Place::new();
    let joint = "train --config tiny.toml --out run --set partner.mlp=bottleneck \
                 --set partner.hidden_size=24";
    let ran = place.ok(&format!("{joint} {BRIEF}"));
    assert!(ran.err.contains(", partner "), "the partner's loss is shown\n{}", ran.err);
    let sample = |line: &str, name: &str| {
        place.ok(&format!("sample --checkpoint {line} --count 5 --npz {name}"));
        place.bytes(name)
    };
    let first = sample("run", "first.npz");
    let partner = sample("run --weights partner-ema-0.9", "partner.npz");
    let both = sample("run --fuse partner", "both.npz");
    assert!(both != first && both != partner);
    assert_eq!(first, sample("run --fuse partner --fuse-weight 0", "0.npz"));
    assert_eq!(partner, sample("run --fuse partner --fuse-weight 1", "1.npz"));
    // The partner's weights are the same set as the first's, unless another is asked for.
    let all = "--fuse partner --fuse-weight 1";
    let raw = sample("run --weights partner-model", "raw.npz");
    assert_eq!(raw, sample(&format!("run --weights model {all}"), "2.npz"));
    assert_eq!(raw, sample(&format!("run {all} --fuse-average model"), "3.npz"));
    assert_ne!(raw, partner);

    // Its files are whole by themselves.
    place.ok("convert run partner.safetensors --weights partner-ema-0.9");
    assert_eq!(partner, sample("partner.safetensors --steps 3", "file.npz"));
    let folder = "run/checkpoints/step-00000010/partner-ema-0.9.safetensors";
    assert_eq!(both, sample(&format!("run --fuse {folder}"), "folder.npz"));
    let info = place.ok("info --checkpoint run").out;
    assert!(info.contains("\nthe partner\n") && info.contains("\nboth in one run\nparameters "));

    let message = place.fails(2, "sample --checkpoint partner.safetensors --fuse partner");
    assert!(message.contains("fusion.with = partner: expected a model that is trained along"));
    let message = place.fails(2, "sample --checkpoint run --weights partner-model9");
    assert!(message.contains("(did you mean `partner-model`?)"), "{message}");
    let message = place.fails(2, &format!("{joint} --set partner.num_heads=5"));
    assert!(message.contains("partner.num_heads = 5: must divide hidden_size = 24"), "{message}");
    let message = place.fails(2, "train --config tiny.toml --set fusion.with=run");
    assert!(message.contains("fusion.with = run: expected `partner` or nothing"), "{message}");
}
