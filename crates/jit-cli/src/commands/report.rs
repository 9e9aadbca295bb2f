//! `jit report`: a page of a study or a run.

use std::io::Write;
use std::path::Path;

use jit_core::files::write_bytes_atomic;
use jit_core::output;
use jit_core::text::Show;
use jit_study::report::{self, Report};

use crate::cli::ReportArgs;
use crate::failure::{Failure, Outcome};
use crate::terminal::say;

/// The page in the folder of what it tells of.
pub const HTML: &str = "report.html";

/// Writes the report in every form that is asked for, and names the files.
///
/// # Errors
/// A folder without a run, or a file that cannot be written.
pub fn run(args: &ReportArgs, out: &mut dyn Write) -> Outcome {
    let ReportArgs { dir, out: html, markdown, csv, keep } = args;
    let report = Report::read(dir)?;
    for warning in report.warnings() {
        say(&format!("warning: {warning}"));
    }
    let or = |given: &Option<std::path::PathBuf>, name: &str| {
        given.clone().unwrap_or_else(|| dir.join(name))
    };
    if let Some(path) = html {
        output::write_bytes(path, report.html()?.as_bytes())?;
        if !output::is_stdout(path) {
            writeln!(out, "report: {}", path.shown())?;
        }
    } else if markdown.is_none() && csv.is_none() && keep.is_none() {
        write_html(&report, &dir.join(HTML), out)?;
    }
    if let Some(given) = markdown {
        write_markdown(&report, &or(given, "report.md"), out)?;
    }
    if let Some(given) = csv {
        let folder = or(given, "report");
        for (name, bytes) in report.csv()? {
            write_bytes_atomic(&folder.join(name), &bytes)?;
        }
        writeln!(out, "tables: {}", folder.shown())?;
    }
    if let Some(folder) = keep {
        let runs = report::keep(dir, folder)?;
        writeln!(out, "kept: {runs} runs in {}", folder.shown())?;
    }
    Ok(())
}

/// The page in one file, under the name that we give it.
pub fn write_html(report: &Report, path: &Path, out: &mut dyn Write) -> Outcome {
    write_bytes_atomic(path, report.html()?.as_bytes())?;
    writeln!(out, "report: {}", path.shown())?;
    Ok(())
}

/// The page, and its pictures in the folder of the same name.
fn write_markdown(report: &Report, path: &Path, out: &mut dyn Write) -> Outcome {
    let stem = path.file_stem().filter(|_| path.extension().is_some_and(|e| e == "md"));
    let Some(stem) = stem.and_then(|stem| stem.to_str()) else {
        let message = format!("`{}` is no name of a Markdown page", path.shown());
        return Err(Failure::usage(message).help("give a name that ends in .md"));
    };
    let page = report.markdown(stem)?;
    for (name, bytes) in &page.files {
        write_bytes_atomic(&path.with_file_name(name), bytes)?;
    }
    output::write_bytes(path, page.text.as_bytes())?;
    writeln!(out, "report: {} and {} pictures", path.shown(), page.files.len())?;
    Ok(())
}
