//! A small copy of a study: all that its report is made of, without weights, so that it can be kept
//! beside the page.

use std::io::{self, BufReader};
use std::path::Path;

use jit_core::files::{FileError, write_atomic, write_bytes_atomic};
use jit_core::input;
use jit_data::decode::decode_file;
use jit_data::grid::png_bytes;

use super::curve::thinned;
use super::load::{self, ReportError};
use super::study::{Run, Shot};
use super::thumbnail;
use crate::layout;
use crate::record::Record;

/// Lines of `metrics.jsonl` that are kept: means over equally many consecutive steps.
const LINES: usize = 32;

/// Copies what is needed of the study in `dir` to `to`, and returns how many runs that was.
///
/// # Errors
/// [`ReportError`] where there is no study, or when a file cannot be read or written.
pub fn keep(dir: &Path, to: &Path) -> Result<usize, ReportError> {
    let study = load::read(dir)?;
    if study.single {
        return Err(ReportError::NoStudy { dir: dir.display().to_string() });
    }
    copy(&layout::suite(dir), &layout::suite(to))?;
    let mut runs = 0;
    for cell in &study.cells {
        for (i, run) in cell.runs.iter().enumerate() {
            let folder = layout::run(to, &cell.name, run.seed);
            for name in [layout::RECORD, "config.toml"] {
                copy(&run.dir.join(name), &folder.join(name))?;
            }
            losses(run, &folder)?;
            // Pages show the grids of the first run.
            for shot in run.shots.iter().filter(|_| i == 0) {
                picture(shot, run, &folder)?;
            }
            runs += 1;
        }
    }
    for cell in &study.fused {
        for run in &cell.runs {
            if let Some(record) = &run.record {
                let mut record: Record = record.clone();
                record.evaluations.iter_mut().for_each(|evaluation| evaluation.samples = None);
                record.write(&layout::fused(to, &cell.name, run.seed))?;
                runs += 1;
            }
        }
    }
    Ok(runs)
}

fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    let mut source = input::open(from)?;
    write_atomic(to, |out| io::copy(&mut source, out).map(drop))
}

fn losses(run: &Run, folder: &Path) -> Result<(), ReportError> {
    let path = run.dir.join("metrics.jsonl");
    let file = input::open(&path)?;
    let lines = thinned(BufReader::new(file), LINES).map_err(FileError::at("read", &path))?;
    let line = |report| serde_json::to_string(report).map(|line| line + "\n");
    let text = lines.iter().map(line).collect::<Result<String, _>>();
    let text = text.map_err(|error| ReportError::Layout(error.to_string()))?;
    Ok(write_bytes_atomic(&folder.join("metrics.jsonl"), text.as_bytes())?)
}

/// The first rows of a grid: as many as its small picture is made of.
fn picture(shot: &Shot, run: &Run, folder: &Path) -> Result<(), ReportError> {
    let Ok(inside) = shot.path.strip_prefix(&run.dir) else { return Ok(()) };
    let failed = |error: jit_data::DataError| ReportError::Layout(error.to_string());
    let sheet = decode_file(&shot.path).map_err(failed)?;
    let sheet = thumbnail::first_rows(sheet, run.image_size());
    // Grey pictures are decoded to three equal channels.
    let grey = thumbnail::is_grey(&sheet);
    let (width, height) = (sheet.width(), sheet.height());
    let (sheet, channels) = if grey { (sheet.into_luma(), 1) } else { (sheet, 3) };
    let png = png_bytes(sheet.data(), width, height, channels).map_err(failed)?;
    Ok(write_bytes_atomic(&folder.join(inside), &png)?)
}
