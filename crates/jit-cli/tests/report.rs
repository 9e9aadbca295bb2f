//! `jit report` end to end: a real run, and what cannot be reported.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;
use common::Place;

#[test]
fn a_trained_run_becomes_a_page_in_every_form() {
    let place = Place::new();
    place.ok("train --config tiny.toml --out run --set train.sample_every=2");
    let ran = place.ok("report run");
    assert_eq!(
        ran.out,
        format!("report: {}\n", std::path::Path::new("run").join("report.html").display())
    );
    assert_eq!(ran.err, "");
    let html = String::from_utf8(place.bytes("run/report.html")).unwrap();
    assert!(html.contains("<h1>Run run</h1>") && html.contains("model.hidden_size"), "{html}");
    // Three grids along training.
    assert_eq!(html.matches("data:image/png;base64,").count(), 3);

    let ran = place.ok("report run --markdown docs/study.md --csv tables");
    assert!(
        ran.out.contains("study.md and 5 pictures") && ran.out.contains("tables: tables"),
        "{}",
        ran.out
    );
    let page = String::from_utf8(place.bytes("docs/study.md")).unwrap();
    for picture in ["study/loss.svg", "study/loss-by-t.svg", "study/samples-2-0.png"] {
        assert!(page.contains(&format!("({picture})")), "{page}");
        assert!(!place.bytes(&format!("docs/{picture}")).is_empty());
    }
    let result = String::from_utf8(place.bytes("tables/result.csv")).unwrap();
    assert!(result.starts_with("what,value\nsteps,6\n"), "{result}");
    // The page comes out the same again: what is kept changes only with what was run.
    place.ok("report run --markdown docs/study.md");
    assert_eq!(page.as_bytes(), place.bytes("docs/study.md"));
}

#[test]
fn damage_is_a_warning_and_nothing_an_error() {
    let place = Place::new();
    place.ok("train --config tiny.toml --out run --max-steps 2");
    std::fs::write(place.path("run/evals.jsonl"), "{}\n").unwrap();
    std::fs::write(place.path("run/samples/step-00000001.png"), "no picture").unwrap();
    let ran = place.ok("report run");
    for part in ["warning: `run/evals.jsonl`, line 1: missing field", "step-00000001.png"] {
        assert!(ran.err.contains(part), "{part}\n{}", ran.err);
    }
    std::fs::create_dir(place.path("empty")).unwrap();
    let err = place.fails(1, "report empty");
    assert!(err.contains("`empty` holds no run: expected the folder of a study"), "{err}");
    let err = place.fails(2, "report run --markdown page.html");
    assert!(err.contains("give a name that ends in .md"), "{err}");
}
