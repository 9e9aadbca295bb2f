//! What each run cost, and on what machine.

use super::super::document::Part;
use super::super::study::{Cell, Run, Study};
use super::super::table::{Column, Entry, Mark, Table, numbers, words};
use crate::record::{Hardware, Record};

/// A row for each run.
pub fn parts(study: &Study) -> Vec<Part> {
    let mut machines: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    let mut total = (0.0, 0.0, 0.0);
    for (cell, run, record) in recorded(study) {
        let machine = machine(&record.hardware, &record.precision);
        let number = machines.iter().position(|m| *m == machine).unwrap_or_else(|| {
            machines.push(machine);
            machines.len() - 1
        });
        let (hours, flops) = (core_hours(record), flops(record));
        total = (
            total.0 + record.train_seconds + record.eval_seconds,
            total.1 + hours,
            total.2 + flops,
        );
        rows.push(row(cell, run, record, number));
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let (seconds, hours, flops) = total;
    let mut notes = vec![format!(
        "In all {} of computing, {hours:.2} core-hours, {:.3} PFLOP of training. An operation is an addition \
         or a multiplication of a matrix product.",
        duration(seconds),
        flops / 1e15
    )];
    let listed = machines.iter().enumerate();
    notes.extend(listed.map(|(i, machine)| format!("Machine {}: {machine}.", i + 1)));
    let caption = "Time and cost of each run".into();
    vec![Part::Table(Table { id: "cost".into(), caption, notes, columns: columns(), rows })]
}

fn recorded(study: &Study) -> impl Iterator<Item = (&Cell, &Run, &Record)> {
    let runs = study.all().flat_map(|cell| cell.runs.iter().map(move |run| (cell, run)));
    runs.filter_map(|(cell, run)| Some((cell, run, run.record.as_ref()?)))
}

fn columns() -> Vec<Column> {
    let mut columns = vec![words("experiment"), numbers("seed"), words("outcome")];
    columns.extend(
        [
            "parameters, M",
            "steps",
            "images",
            "training, s",
            "judging, s",
            "core-hours",
            "training, TFLOP",
            "GFLOP/s",
            "machine",
        ]
        .map(numbers),
    );
    columns
}

fn row(cell: &Cell, run: &Run, record: &Record, machine: usize) -> Vec<Entry> {
    let outcome = match &run.diverged {
        None => Entry::words("finished"),
        Some((step, message)) => {
            Entry::words(format!("diverged at step {step}: {message}")).marked(Mark::Fault)
        }
    };
    let trained = record.train_seconds > 0.0;
    let of_training = |value: f64, decimals| match trained {
        true => Entry::number(value, decimals),
        false => Entry::missing(),
    };
    vec![
        Entry::words(cell.name.clone()),
        Entry::number(run.seed as f64, 0),
        outcome,
        Entry::number(record.parameters as f64 / 1e6, 3),
        of_training(record.steps as f64, 0),
        of_training(record.images as f64, 0),
        of_training(record.train_seconds, 1),
        Entry::number(record.eval_seconds, 1),
        Entry::number(core_hours(record), 3),
        of_training(flops(record) / 1e12, 2),
        of_training(flops(record) / 1e9 / record.train_seconds, 1),
        Entry::number(machine as f64 + 1.0, 0),
    ]
}

/// Threads times the hours that they were held.
fn core_hours(record: &Record) -> f64 {
    record.hardware.threads as f64 * (record.train_seconds + record.eval_seconds) / 3600.0
}

/// Operations of the whole training.
fn flops(record: &Record) -> f64 {
    record.flops_per_image as f64 * record.images as f64
}

fn machine(hardware: &Hardware, precision: &str) -> String {
    let Hardware { processor, kernels, threads, memory_bytes } = hardware;
    let memory = match memory_bytes {
        0 => String::new(),
        bytes => format!(", {:.1} GiB of memory", *bytes as f64 / f64::from(1 << 30)),
    };
    let threads = super::counted(*threads, "thread");
    format!("{processor}, {threads}, kernels {kernels}, {precision}{memory}")
}

/// `42 s`, `3.5 min`, `2.1 h`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
