//! Reports of a small study: what they say, number by number, and what they do with what is broken.
//!
//! The pages in `golden/` are written anew with `UPDATE_GOLDEN=1 cargo test -p jit-study --test report`.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

mod common;
use jit_study::report::{Report, ReportError};

/// The table of that name as rows of fields.
fn table(report: &Report, name: &str) -> Vec<Vec<String>> {
    let files = report.csv().unwrap();
    let (_, bytes) = files.iter().find(|(file, _)| file == &format!("{name}.csv")).unwrap();
    let rows = csv::ReaderBuilder::new().has_headers(false).from_reader(&bytes[..]).into_records();
    rows.map(|row| row.unwrap().iter().map(str::to_string).collect()).collect()
}

/// A place of a table by the beginning of its row's name and its column's name.
fn place(table: &[Vec<String>], row: &str, column: &str) -> String {
    let at =
        table[0].iter().position(|name| name == column).unwrap_or_else(|| panic!("{:?}", table[0]));
    table.iter().find(|fields| fields[0].starts_with(row)).unwrap()[at].clone()
}

fn close(text: &str, expected: f64) {
    let value: f64 = text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"));
    assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
}

fn small() -> (tempfile::TempDir, Report) {
    let dir = tempfile::tempdir().unwrap();
    common::study(dir.path());
    let report = Report::read(dir.path()).unwrap();
    (dir, report)
}

#[test]
fn means_and_intervals_are_those_computed_by_hand() {
    let (_dir, report) = small();
    let results = table(&report, "results");
    // FID of the baseline: 10, 11, 12. s = 1, t(2) = 4.30265273, half width 4.30265273/√3.
    close(&place(&results, "base", "FID-500 ↓"), 11.0);
    close(&place(&results, "base", "FID-500 ↓ ± 95 %"), 2.4841377);
    // FID of the wide network: 8.1, 9, 10; with the baseline's seeds −1.9, −2, −2:
    // mean −1.9666667, s = 0.0577350, half width 4.30265273·0.0577350/√3 = 0.1434218.
    close(&place(&results, "wide", "FID-500 ↓"), 9.0 + 0.1 / 3.0);
    let differences = table(&report, "differences");
    close(&place(&differences, "wide", "FID-500 ↓"), -1.9666667);
    close(&place(&differences, "wide", "FID-500 ↓ ± 95 %"), 0.1434218);
    assert_eq!(place(&differences, "wide", "FID-500 ↓ mark"), "▲");
    // The same seed makes recall equal steps in both: a difference without any spread.
    close(&place(&differences, "wide", "recall-500 ↑"), 0.3);
    assert_eq!(place(&differences, "wide", "precision-500 ↑ mark"), "▼");
}

#[test]
fn the_best_is_marked_and_what_cannot_be_told_from_it() {
    let (_dir, report) = small();
    let results = table(&report, "results");
    // `odd` has one seed left: its FID of 8.6 is the least, and nothing is known of its spread, so
    // that none can be told from it.
    let marks = |column: &str| {
        ["base", "wide", "odd"].map(|row| place(&results, row, &format!("{column} mark")))
    };
    assert_eq!(marks("FID-500 ↓"), ["≈", "≈", "★"]);
    assert_eq!(marks("precision-500 ↑"), ["★", "", "≈"]);
    assert_eq!(marks("recall-500 ↑"), ["", "★", "≈"]);
    assert_eq!(place(&results, "lost", "seeds"), "0 + 1 diverged");
    assert_eq!(place(&results, "lost", "FID-500 ↓"), "");
}

#[test]
fn fused_models_gain_what_lies_above_the_line_between_their_parents() {
    let (_dir, report) = small();
    let fused = table(&report, "fusion-1");
    let row = |weight: &str| fused.iter().find(|row| row[1] == weight).unwrap().clone();
    let at = |column: &str| fused[0].iter().position(|name| name == column).unwrap();
    // Seed 0 at weight 0.25: recall 0.475, between 0.41 and 0.71; the line has precision
    // 0.79 − 0.2·0.065/0.3 there. Seeds 1 and 2 likewise, with recall 0.4 and 0.39 to begin with.
    let line = |precision: f64, recall: f64| precision - 0.2 * (0.475 - recall) / 0.3;
    let gains = [0.798 - line(0.79, 0.41), 0.8 - line(0.8, 0.4), 0.802 - line(0.81, 0.39)];
    close(&row("0.25")[at("precision gained")], gains.iter().sum::<f64>() / 3.0);
    let page = report.markdown("pictures").unwrap().text;
    assert!(page.contains("Does a weight beat both parents?"), "{page}");
}

#[test]
fn the_published_row_stands_beside_ours_and_directions_are_judged() {
    let (_dir, report) = small();
    let published = table(&report, "published");
    close(&place(&published, "wide", "FID, published"), 106.2162);
    let directions = table(&report, "directions");
    let verdict = |metric: &str| directions.iter().find(|row| row[1] == metric).unwrap()[5].clone();
    assert_eq!(verdict("FID"), "the same way");
    assert_eq!(verdict("precision"), "the other way");
    let page = report.markdown("pictures").unwrap().text;
    assert!(page.contains("Precision and recall stand under their right names."), "{page}");
}

#[test]
fn what_is_missing_or_damaged_is_named_and_the_rest_is_reported() {
    let (dir, report) = small();
    let warnings = report.warnings().join("\n");
    for part in [
        "`odd` has no finished run with seed 1",
        "odd/seed-2/record.json` is no record of a run",
        "`lost`, seed 0, diverged at step 7",
        "`lost` has no finished run with seed 1, 2",
    ] {
        assert!(warnings.contains(part), "{part}\n{warnings}");
    }
    // A damaged suite and a damaged picture are named too, and the runs found without the suite.
    fs::write(dir.path().join("suite.toml"), "name = ").unwrap();
    let grid = dir.path().join("runs/base/seed-0/samples/step-00000003.png");
    fs::write(grid, "no picture").unwrap();
    fs::remove_file(dir.path().join("runs/wide/seed-1/metrics.jsonl")).unwrap();
    let report = Report::read(dir.path()).unwrap();
    let warnings = report.warnings().join("\n");
    for part in ["suite.toml is no suite", "step-00000003.png", "wide/seed-1/metrics.jsonl"] {
        assert!(warnings.contains(part), "{part}\n{warnings}");
    }
    assert_eq!(table(&report, "results").len(), 1 + 4);
    assert!(report.html().unwrap().contains("suite.toml is no suite"));
}

#[test]
fn a_folder_without_runs_is_an_error_that_says_what_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let told = |dir: &Path| Report::read(dir).unwrap_err();
    assert!(matches!(told(dir.path()), ReportError::Nothing { .. }));
    let message = told(dir.path()).to_string();
    assert!(message.contains("holds no run: expected the folder of a study"), "{message}");
    assert!(told(&dir.path().join("none")).to_string().contains("cannot list"));
    fs::write(dir.path().join("suite.toml"), "name = 'a'\ntitle = 'b'\n[[cells]]\nname = 'c'")
        .unwrap();
    let message = told(dir.path()).to_string();
    assert!(message.contains("no run is finished yet: `c` has no finished run"), "{message}");
}

#[test]
fn names_from_files_are_text() {
    let (_dir, report) = small();
    let html = report.html().unwrap();
    assert!(html.contains("&#60;script&#62;document.title="), "the name is shown");
    assert!(!html.contains("<script"), "and is no element");
    let page = report.markdown("pictures").unwrap();
    assert!(page.text.contains("&lt;script&gt;") && !page.text.contains("<script"));
    assert!(page.text.contains("\\| \\*\\*x\\*\\* &amp;"), "nor a column or bold");
    // A record that points out of its folder shows nothing.
    assert!(page.files.iter().all(|(name, _)| name.starts_with("pictures/")));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let (_dir, report) = small();
    let html = report.html().unwrap();
    for fetched in ["http://", "https://", "url(", "@import", "<script", "<iframe"] {
        assert!(!html.contains(fetched), "{fetched}");
    }
    let sources = html.matches("src=\"").count();
    assert_eq!(sources, html.matches("src=\"data:image/png;base64,").count());
    // Three experiments with three grids each.
    assert_eq!(sources, 9);
}

#[test]
fn pages_and_tables_are_the_kept_ones() {
    let (_dir, report) = small();
    let page = report.markdown("small").unwrap();
    kept("small.md", page.text.as_bytes());
    for (name, bytes) in report.csv().unwrap() {
        kept(&name, &bytes);
    }
    // The pictures that the page shows are those that come with it, in order.
    let shown = page.text.match_indices("](small/").map(|(at, _)| {
        let rest = &page.text[at + 2..];
        rest[..rest.find(')').unwrap()].to_string()
    });
    let files: Vec<String> = page.files.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(shown.collect::<Vec<_>>(), files);
}

/// Compares with a kept file, or keeps it. Folders that differ from run to run have no name.
fn kept(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let text: String = text.lines().map(|line| without_folder(line) + "\n").collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs", path.display());
}

/// The temporary folder's name taken out of a warning.
fn without_folder(line: &str) -> String {
    let temporary = std::env::temp_dir().display().to_string();
    match (line.find(&temporary), line.find("/runs/")) {
        (Some(from), Some(to)) if from < to => format!("{}DIR{}", &line[..from], &line[to..]),
        _ => line.to_string(),
    }
}

#[test]
fn a_single_run_has_a_page_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("my run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("config.toml"), "[model]\ndepth = 3\n[train]\nseed = 5\n").unwrap();
    fs::write(run.join("metrics.jsonl"), common::losses(100, 0)).unwrap();
    let report = Report::read(&run).unwrap();
    assert_eq!(report.warnings(), [] as [String; 0]);
    let result = table(&report, "result");
    close(&place(&result, "steps", "value"), 100.0);
    // The options that are not the default, and no comparison with anything.
    let settings = table(&report, "settings");
    assert_eq!(settings[1], ["model.depth", "3", "12"]);
    let page = report.markdown("run").unwrap();
    assert!(page.text.starts_with("# Run my run\n") && !page.text.contains("baseline"));
    assert!(page.files.iter().any(|(name, _)| name == "run/loss-by-t.svg"));
    assert!(report.html().unwrap().contains("time in training steps"));
}
