//! `jit ablate --dry-run`: what a study compares and what it costs, before anything starts.

use std::io::Write;
use std::path::Path;

use jit_core::text::Show;
use jit_study::estimate::{flops_per_image, parameters};
use jit_study::settings::leaves;
use jit_study::{Estimate, Plan, PlannedRun, layout};

use crate::commands::bench;
use crate::commands::info::{bytes, count};
use crate::device::{DeviceName, on_device};
use crate::failure::Outcome;
use crate::terminal::clock;

/// Prints the cells with what tells them apart, and the cost of the runs that are left.
///
/// # Errors
/// When the output cannot be written.
pub fn print(
    plan: &Plan,
    device: DeviceName,
    dir: &Path,
    images: usize,
    out: &mut dyn Write,
) -> Outcome {
    let suite = &plan.suite;
    writeln!(out, "suite       {}: {}", suite.name, suite.title)?;
    writeln!(out, "folder      {}", dir.shown())?;
    cells(plan, out)?;

    let is_left = |run: &&PlannedRun| !layout::record(dir, &run.cell, run.seed).exists();
    let left: Vec<_> = plan.runs.iter().filter(is_left).collect();
    let (seeds, runs, done) = (suite.seeds.len(), plan.runs.len(), plan.runs.len() - left.len());
    let finished = if done > 0 { format!(", {done} of them finished") } else { String::new() };
    writeln!(out, "runs        {runs} of {} cells and {seeds} seeds{finished}", suite.cells.len())?;
    let rows = plan.fusions.iter().filter(|row| !layout::fused(dir, &row.cell, row.seed).exists());
    let rows: Vec<_> = rows.collect();
    if !plan.fusions.is_empty() {
        let (rows, left) = (plan.fusions.len(), rows.len());
        writeln!(out, "fusions     {rows} of two models each, {left} of them to be drawn")?;
    }
    let trained = left.iter().map(|run| Estimate::of(&run.config, images));
    let pairs = rows.iter().filter_map(|row| plan.parents(row));
    let drawn = pairs.map(|[a, b]| Estimate::of_pair(&a.config, &b.config));
    let cost: Estimate = trained.chain(drawn).sum();
    let (steps, trained) = (cost.steps, cost.images);
    writeln!(out, "training    {steps} steps, {} images", count(trained))?;
    let shares: Vec<String> = suite.evaluation.fractions.iter().map(f64::to_string).collect();
    let (drawn, shares) = (count(cost.drawn), shares.join(", "));
    writeln!(out, "drawing     {drawn} images, after {shares} of each run")?;
    writeln!(out, "operations  {}", count(cost.flops() as u64))?;
    writeln!(out, "disk        about {}", bytes(cost.disk))?;
    if let Some(run) =
        left.first().copied().or_else(|| plan.runs.first().filter(|_| !rows.is_empty()))
    {
        let opened = device.open(run.config.train.precision)?;
        let pace = on_device!(&opened, dev => bench::pace(dev, &run.config));
        let (training, drawing) = (count(pace.training as u64), count(pace.drawing as u64));
        writeln!(
            out,
            "time        about {} here, at {training}FLOP/s in training and {drawing}FLOP/s in \
             drawing as just measured; metrics come on top",
            clock(cost.seconds(pace))
        )?;
    }
    Ok(())
}

/// A row for each cell: the options in which cells differ, parameters and operations.
fn cells(plan: &Plan, out: &mut dyn Write) -> Outcome {
    let varied = plan.varied();
    let mut table: Vec<Vec<String>> = vec![vec!["cell".into()]];
    table[0].extend(varied.iter().map(|(key, _)| key.clone()));
    table[0].extend(["parameters".to_string(), "operations an image".into()]);
    for (i, cell) in plan.suite.cells.iter().enumerate() {
        let Some(run) = plan.runs.iter().find(|run| run.cell == cell.name) else { continue };
        let mut row = vec![cell.name.clone()];
        row.extend(varied.iter().map(|(_, values)| values[i].clone()));
        row.extend([count(parameters(&run.config)), count(flops_per_image(&run.config))]);
        table.push(row);
    }
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    writeln!(out)?;
    for row in &table {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(text, &width)| format!("{text:<width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    let same = leaves(&plan.suite.base).len() - varied.len();
    writeln!(out, "The other {same} options are the same in all cells but for the seed.\n")?;
    Ok(())
}
