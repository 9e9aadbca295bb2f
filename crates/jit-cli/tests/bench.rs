//! `jit bench` end to end, and the precision that it and training share.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;
use common::Place;
use serde_json::Value;

/// The JSON of a benchmark of the tiny network.
fn bench(place: &Place, line: &str) -> Value {
    let ran = place.ok(&format!("bench {line} --config tiny.toml --steps 2 --json"));
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn every_workload_reports_rates_that_follow_from_its_times() {
    let place = Place::new();
    for workload in ["train", "sample"] {
        let report = bench(&place, &format!("{workload} --batch-size 3"));
        let number = |key: &str| report[key].as_f64().unwrap();
        assert_eq!(report["workload"], workload);
        assert_eq!((number("batch_size"), number("steps")), (3.0, 2.0));
        assert_eq!(report["seconds"].as_array().unwrap().len(), 2);
        let rate = number("images_per_second") * number("seconds_per_step");
        let images = if workload == "train" { 3.0 } else { 1.5 };
        assert!((rate - images).abs() < 1e-9, "{report}");
        let share = number("gflops") / number("peak_gflops");
        assert!((number("share_of_peak") - share).abs() < 1e-9 && share > 0.0, "{report}");
        let kernels = report["kernels"].as_array().unwrap();
        let total: f64 = kernels.iter().map(|k| k["share_of_time"].as_f64().unwrap()).sum();
        assert!((total - 1.0).abs() < 1e-9, "{report}");
        let has = |name: &str| kernels.iter().any(|k| k["name"] == name);
        assert!(has("attention") && has("linear"), "{report}");
        assert_eq!(has("optimizer"), workload == "train");
    }
    let kernels = bench(&place, "kernels --precision bf16");
    assert_eq!((&kernels["workload"], &kernels["precision"]), (&"kernels".into(), &"bf16".into()));
    assert!(kernels["kernels"].as_array().unwrap().len() > 15);

    let text = place.ok("bench train --config tiny.toml --steps 1").out;
    assert!(text.contains("images      ") && text.contains("linear, weight gradient"), "{text}");
}

#[test]
fn a_second_model_is_not_left_out_in_silence() {
    let place = Place::new();
    let line = "bench train --config tiny.toml --steps 1 --set partner.mlp=bottleneck";
    let message = place.fails(2, line);
    assert!(message.contains("[partner]"), "{message}");
}

#[test]
fn a_run_records_its_precision_and_goes_on_in_no_other() {
    let place = Place::new();
    let train = |line: &str| format!("train --config tiny.toml --out run {line}");
    place.ok(&train("--max-steps 2 --precision bf16"));
    let config = String::from_utf8(place.bytes("run/config.toml")).unwrap();
    assert!(config.contains("precision = \"bf16\""), "{config}");
    let message = place.fails(2, &train("--max-steps 4 --precision f32"));
    assert!(message.contains("train.precision"), "{message}");
    // Not asked for, it is the recorded one.
    place.ok(&train("--max-steps 4"));

    place.ok("train --config tiny.toml --out whole --max-steps 4 --precision bf16");
    assert_eq!(place.checkpoint("run", 4), place.checkpoint("whole", 4));
    place.ok("train --config tiny.toml --out f32 --max-steps 4 --precision f32");
    assert_ne!(place.checkpoint("run", 4), place.checkpoint("f32", 4));

    let drawn = |flag: &str, name: &str| {
        place.ok(&format!("sample --checkpoint run --count 3 --npz {name} {flag}"));
        place.bytes(name)
    };
    assert_eq!(drawn("", "a.npz"), drawn("--precision bf16", "b.npz"));
}
