//! `jit eval`, `jit stats` and `jit weights` end to end.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;
use common::Place;
use serde_json::Value;

/// A run whose network draws more than noise, and 60 of its images in two forms.
fn drawn() -> Place {
    let place = Place::new();
    place.ok(
        "train --config tiny.toml --out run --max-steps 10 --lr 0.02 --set optim.warmup_epochs=0",
    );
    place.ok("sample --checkpoint run --count 60 --npz images.npz --folder images");
    place
}

const FEW: &str = "--kid-subset 20 --resamples 3";

fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&place.ok(&format!("eval {line} {FEW} --json")).out).unwrap()
}

#[test]
fn drawn_archived_and_single_images_get_the_same_metrics() {
    let place = drawn();
    let archived = json(&place, "images.npz --reference digits");
    let single = json(&place, "images --reference digits --cache kept");
    let drawn =
        json(&place, "--checkpoint run --count 60 --batch-size 7 --threads 1 --folder again");
    assert_eq!(archived["metrics"], drawn["metrics"]);
    assert_eq!(place.bytes("images/000041.png"), place.bytes("again/000041.png"));
    // A folder without classes does not tell which digits were asked for.
    assert!(archived["metrics"]["class_accuracy"]["mean"].is_number());
    assert!(single["metrics"]["class_accuracy"].is_null());
    for metric in ["fid", "inception_score", "kid", "precision", "recall"] {
        assert_eq!(archived["metrics"][metric], single["metrics"][metric], "{metric}");
        assert_eq!(archived["floor"][metric], single["floor"][metric], "{metric}");
    }
    let fid = |side: &str| archived[side]["fid"]["mean"].as_f64().unwrap();
    assert!(fid("metrics") > 10.0 * fid("floor"), "noise is worse than digits");
    // From the kept features, the same again.
    assert_eq!(single, json(&place, "images --reference digits --cache kept"));
}

#[test]
fn the_table_names_the_count_and_the_floor() {
    let place = drawn();
    let ran = place.ok(&format!("eval images.npz --reference digits {FEW} --paper-columns"));
    for part in
        ["FID-60 ", "held-out real (floor)", "class accuracy-60", "swapped columns", "k = 3"]
    {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    let ran = place.ok("eval images.npz --reference digits --metrics fid --resamples 0");
    assert!(ran.out.contains("FID-60") && !ran.out.contains("precision"), "{}", ran.out);
}

#[test]
fn statistics_stand_for_images_unless_made_otherwise() {
    let place = drawn();
    place.ok("stats digits --size 28 digits.npz");
    let from_images = json(&place, "images.npz --reference digits");
    let from_stats = json(&place, "images.npz --reference digits.npz");
    assert_eq!(from_images["metrics"]["fid"], from_stats["metrics"]["fid"]);
    assert!(from_stats["metrics"]["recall"].is_null());
    let err = place.fails(1, "eval images.npz --reference digits.npz --protocol paper");
    assert!(err.contains("the protocol jit, and this evaluation uses paper"), "{err}");
    let err = place.fails(1, "eval images.npz --reference digits.npz --extractor inception");
    assert!(err.contains("the extractor digits, and this evaluation uses inception"), "{err}");
    place.ok("stats digits --size 32 large.npz");
    let err = place.fails(1, "eval images.npz --reference large.npz");
    assert!(err.contains("the resolution 32, and this evaluation uses 28"), "{err}");
}

#[test]
fn what_cannot_be_evaluated_says_so_before_the_work() {
    let place = drawn();
    let told = |line: &str, code: i32, part: &str| {
        let err = place.fails(code, line);
        assert!(err.contains(part), "{line}: {err}");
        assert!(!err.contains("image 60"), "nothing was extracted: {err}");
    };
    told(
        "eval images.npz --reference digits --kid-subset 1000",
        1,
        "at least 1000 generated images, and there are 60",
    );
    let line = "eval images.npz --reference digits --metrics precision-recall --neighbours 60";
    told(line, 1, "at least 61 generated images");
    told("eval nowhere --reference digits", 1, "there is no such folder or file");
    told("eval images.npz", 2, "--reference");
    told("eval run --reference digits", 1, "run");
    std::fs::create_dir(place.path("empty")).unwrap();
    told("eval empty --reference digits", 1, "holds no picture");
    std::fs::write(place.path("cut.npz"), &place.bytes("images.npz")[..500]).unwrap();
    told("eval cut.npz --reference digits", 1, "cut.npz");
    let mut lies = place.bytes("images.npz");
    let shape = lies.windows(8).position(|at| at == b"(60, 28,").unwrap();
    lies[shape + 1..shape + 3].copy_from_slice(b"99");
    std::fs::write(place.path("lies.npz"), lies).unwrap();
    told("eval lies.npz --reference digits", 1, "`lies.npz` is damaged");
    std::fs::create_dir(place.path("mixed")).unwrap();
    place.ok("sample --checkpoint run --count 2 --folder mixed");
    place.ok("sample --checkpoint run --count 10 --out mixed/grid.png");
    told(
        "eval mixed --reference digits --kid-subset 2 --neighbours 1 --splits 1",
        1,
        "differ in size",
    );
    told("eval images.npz --reference images --extractor inception --weights here", 1, "here");
}

#[test]
fn few_images_leave_out_what_they_cannot_tell_and_nothing_else() {
    let place = drawn();
    let ran = place.ok("eval images.npz --reference digits --resamples 0");
    assert!(
        ran.out.contains("KID-60") && ran.out.contains("KID is of subsets of 60"),
        "{}",
        ran.out
    );
    place.ok("sample --checkpoint run --count 3 --npz three.npz");
    let ran = place.ok("eval three.npz --reference digits --resamples 0");
    for part in ["FID-3", "KID-3", "Left out: precision needs", "Left out: IS needs at least 10"] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    let ran = place.ok("eval three.npz --reference digits --resamples 0 --json");
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["left_out"][0]["metric"], "is");
    assert_eq!(told["left_out"][1]["metric"], "precision-recall");
    assert_eq!(told["options"]["kid_subset"], 3);
    assert!(told["metrics"]["fid"].is_object() && told["metrics"]["precision"].is_null());
}

#[test]
fn weights_of_another_network_are_refused_by_tensor_and_shape() {
    let place = drawn();
    let checkpoint = "run/checkpoints/step-00000010/model.safetensors";
    let line = "eval images.npz --reference digits --extractor inception --metrics fid";
    let err = place.fails(1, &format!("{line} --weights {checkpoint}"));
    let part = "tensor `Conv2d_1a_3x3.conv.weight` is missing; expected [32, 3, 3, 3]";
    assert!(err.contains(part), "{err}");
}

#[test]
fn weights_are_listed_and_a_wrong_file_is_not_taken() {
    let place = Place::new();
    let ran = place.ok("weights list");
    assert!(ran.out.contains("inception") && ran.out.contains("embedded"), "{}", ran.out);
    let name = "vgg16-397923af.pth";
    std::fs::create_dir(place.path("weights")).unwrap();
    std::fs::write(place.path("weights").join(name), "no weights").unwrap();
    let err = place.fails(1, "weights fetch vgg16 --to weights");
    assert!(err.contains("starts with 397923af"), "{err}");
}

#[test]
fn training_evaluates_on_its_way_and_is_the_same_without() {
    let place = Place::new();
    let train = |out: &str, more: &str| {
        place.ok(&format!("train --config tiny.toml --out {out} {more}"));
    };
    train("watched", "--eval-every 4 --set train.eval_count=30");
    train("alone", "");
    let weights = "checkpoints/step-00000006/model.safetensors";
    assert_eq!(
        place.bytes(&format!("watched/{weights}")),
        place.bytes(&format!("alone/{weights}"))
    );
    let lines = |run: &str| {
        let text = String::from_utf8(place.bytes(&format!("{run}/evals.jsonl"))).unwrap();
        let timeless = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            assert!(line.as_object_mut().unwrap().remove("seconds").is_some());
            line
        };
        text.lines().map(timeless).collect::<Vec<Value>>()
    };
    let evals = lines("watched");
    let steps: Vec<u64> = evals.iter().map(|eval| eval["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 6], "every fourth step and the last");
    assert!(evals[0]["fid"]["mean"].as_f64().unwrap() > 0.0);
    // Stopped after the first and continued: the same lines.
    train("resumed", "--eval-every 4 --set train.eval_count=30 --max-steps 4");
    train("resumed", "--eval-every 4 --set train.eval_count=30");
    assert_eq!(lines("resumed"), evals);
}
