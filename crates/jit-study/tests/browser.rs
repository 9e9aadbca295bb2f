//! The report in a real browser, wide and narrow, light and dark: nothing is cut off or complained about.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

mod common;
use jit_study::report::Report;

/// The browser: what `CHROMIUM` names, or the first that the system has.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().flat_map(|name| folders.iter().map(move |dir| dir.join(name))).find(|p| p.exists())
}

/// A page that shows another in frames as wide as a screen, and writes down what it measures there.
const FRAMES: &str = r#"<!DOCTYPE html><meta charset="utf-8"><title>frames</title>
<iframe src="PAGE" style="width:1280px;height:900px;border:0"></iframe>
<iframe src="PAGE" style="width:390px;height:844px;border:0"></iframe>
<iframe src="PAGE" style="width:320px;height:640px;border:0"></iframe>
<pre id="measured"></pre>
<script>
onload = () => {
  const measure = frame => {
    const page = frame.contentDocument, root = page.documentElement;
    const broken = [...page.images].filter(image => !image.naturalWidth).length;
    const style = getComputedStyle(page.body);
    return `width=${root.clientWidth} content=${root.scrollWidth} images=${page.images.length} ` +
      `broken=${broken} scripts=${page.scripts.length} title=${page.title} background=${style.backgroundColor}`;
  };
  document.getElementById('measured').textContent = [...document.querySelectorAll('iframe')].map(measure).join('\n');
};
</script>"#;

/// What the frames measured in a page, and what the browser complained about.
fn look(browser: &Path, dir: &Path, page: &str, dark: bool) -> (Vec<String>, String) {
    std::fs::write(dir.join("frames.html"), FRAMES.replace("PAGE", page)).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
    ]);
    command.args([
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]);
    command.args(["--allow-file-access-from-files", "--enable-logging=stderr", "--dump-dom"]);
    command.arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }));
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("file://{}", dir.join("frames.html").display()));
    let output = command.output().unwrap();
    let dom = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let measured =
        dom.split_once("<pre id=\"measured\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (measured, _) = measured.unwrap_or_else(|| panic!("no measurement in {dom}\n{errors}"));
    let complaints: Vec<&str> = errors.lines().filter(|line| line.contains("CONSOLE")).collect();
    (measured.lines().map(str::to_string).collect(), complaints.join("\n"))
}

/// A number of a measurement.
fn number(line: &str, key: &str) -> i64 {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(&format!("{key}=")));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in `{line}`"))
}

#[test]
fn the_page_fits_every_screen_and_the_browser_has_no_complaint() {
    let Some(browser) = browser() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "no Chromium was found: install it (Debian: apt-get install chromium) or name it in CHROMIUM"
        );
        eprintln!("NOT TESTED: no Chromium was found, so no browser has opened the report");
        return;
    };
    let dir = tempfile::tempdir().unwrap();

    // First that the measurement can fail: a page too wide for any screen, with a script and an error.
    let bad = "<body><div style='width:3000px'>x</div><script>console.error('seen')</script>";
    std::fs::write(dir.path().join("bad.html"), bad).unwrap();
    let (measured, complaints) = look(&browser, dir.path(), "bad.html", false);
    assert!(
        measured.iter().all(|line| number(line, "content") > number(line, "width")),
        "{measured:?}"
    );
    assert!(complaints.contains("seen") && number(&measured[0], "scripts") == 1, "{complaints}");

    common::study(&dir.path().join("study"));
    let html = Report::read(&dir.path().join("study")).unwrap().html().unwrap();
    std::fs::write(dir.path().join("report.html"), html).unwrap();
    let mut backgrounds = Vec::new();
    for dark in [false, true] {
        let (measured, complaints) = look(&browser, dir.path(), "report.html", dark);
        assert_eq!(complaints, "");
        assert_eq!(measured.len(), 3);
        for (line, width) in measured.iter().zip([1280, 390, 320]) {
            assert!((width - 20..=width).contains(&number(line, "width")), "{line}");
            assert!(
                number(line, "content") <= number(line, "width"),
                "it scrolls sideways: {line}"
            );
            assert_eq!((number(line, "images"), number(line, "broken")), (9, 0), "{line}");
            assert_eq!(number(line, "scripts"), 0, "{line}");
            assert!(line.contains("title=A small study"), "{line}");
        }
        backgrounds.push(measured[0].split_once("background=").unwrap().1.to_string());
    }
    assert_ne!(backgrounds[0], backgrounds[1], "dark is not light");
}
