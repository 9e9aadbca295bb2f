//! The report's tables as CSV, numbers unrounded.

use jit_core::text::Show;

use super::document::Document;
use super::table::{Entry, Table, Value};

/// Name and content of a file for each table.
///
/// # Errors
/// When a table cannot be written, which takes no memory being left.
pub fn render(document: &Document) -> csv::Result<Vec<(String, Vec<u8>)>> {
    document.tables().map(|table| Ok((format!("{}.csv", table.id), file(table)?))).collect()
}

/// A column with intervals has a second beside it with half their width, and one with marks a third.
fn file(table: &Table) -> csv::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let has = |i: usize, what: fn(&Entry) -> bool| {
        table.rows.iter().any(|row| row.get(i).is_some_and(what))
    };
    let intervals: Vec<bool> =
        (0..table.columns.len()).map(|i| has(i, |e| half_width(e).is_some())).collect();
    let marks: Vec<bool> =
        (0..table.columns.len()).map(|i| has(i, |e| !e.mark.sign().is_empty())).collect();
    let mut head = Vec::new();
    for (i, column) in table.columns.iter().enumerate() {
        let name = inert(&column.name);
        head.push(name.clone());
        head.extend(intervals[i].then(|| format!("{name} ± 95 %")));
        head.extend(marks[i].then(|| format!("{name} mark")));
    }
    writer.write_record(head)?;
    for row in &table.rows {
        let mut record = Vec::new();
        for (i, entry) in row.iter().enumerate() {
            record.push(match &entry.value {
                Value::Missing => String::new(),
                Value::Words(text) | Value::Code(text) => inert(text),
                Value::Number { value, .. } => value.to_string(),
            });
            let half = half_width(entry).map_or_else(String::new, |half| half.to_string());
            record.extend(intervals[i].then_some(half));
            record.extend(marks[i].then(|| entry.mark.sign().to_string()));
        }
        writer.write_record(record)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn half_width(entry: &Entry) -> Option<f64> {
    match entry.value {
        Value::Number { half_width, .. } => half_width,
        _ => None,
    }
}

/// Text that a terminal does not obey and a spreadsheet does not compute: it computes what begins like a
/// formula, whoever wrote it. A number with a sign is a number.
fn inert(text: &str) -> String {
    let shown = text.shown();
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    match formula && !is_number(text) {
        true => format!("'{shown}"),
        false => shown.to_string(),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    digits && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::statistics::Estimate;
    use super::super::table::{Mark, numbers, words};
    use super::*;

    #[test]
    fn what_looks_like_a_formula_is_text_and_a_number_is_none() {
        for text in ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "-inf", "-"] {
            assert_eq!(inert(text), format!("'{text}"));
        }
        for text in ["-1", "-2.5e-3", "+7", "a=b", ""] {
            assert_eq!(inert(text), text);
        }
        assert_eq!(inert("\t=1\u{1b}[31m"), "'\\t=1\\u001b[31m");
        let table = Table {
            id: "t".into(),
            caption: String::new(),
            notes: Vec::new(),
            columns: vec![words("=HYPERLINK(\"x\")")],
            rows: Vec::new(),
        };
        assert!(file(&table).unwrap().starts_with(b"\"'=HYPERLINK"));
    }

    #[test]
    fn numbers_are_whole_and_words_are_no_formulas() {
        let estimate = Estimate { mean: 1.0 / 3.0, half_width: Some(0.25), count: 3 };
        let rows = vec![
            vec![Entry::words("=1+1, \"two\""), Entry::estimate(&estimate, 1).marked(Mark::Best)],
            vec![Entry::words("b"), Entry::missing()],
        ];
        let columns = vec![words("name"), numbers("FID")];
        let table =
            Table { id: "t".into(), caption: String::new(), notes: Vec::new(), columns, rows };
        let text = String::from_utf8(file(&table).unwrap()).unwrap();
        let expected = "name,FID,FID ± 95 %,FID mark\n\
                        \"'=1+1, \"\"two\"\"\",0.3333333333333333,0.25,★\nb,,,\n";
        assert_eq!(text, expected);
    }
}
