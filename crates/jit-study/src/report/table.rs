//! Tables, before anyone decides how they look.

use super::statistics::Estimate;

/// A table whose first column names its rows.
#[derive(Clone, Debug)]
pub struct Table {
    /// A word for links and file names.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// What one must know to read it.
    pub notes: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<Column>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Entry>>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Whether it holds numbers, which stand to the right.
    pub numeric: bool,
}

/// A column of words.
pub fn words(name: &str) -> Column {
    Column { name: name.into(), numeric: false }
}

/// A column of numbers.
pub fn numbers(name: &str) -> Column {
    Column { name: name.into(), numeric: true }
}

/// What stands in a place of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The content.
    pub value: Value,
    /// What is special about it.
    pub mark: Mark,
}

/// The content of a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing is known.
    Missing,
    /// Words.
    Words(String),
    /// Something as a program writes it.
    Code(String),
    /// A number.
    Number {
        /// The number.
        value: f64,
        /// How far it may be off.
        half_width: Option<f64>,
        /// Digits after the point.
        decimals: usize,
        /// Whether a plus is written.
        signed: bool,
    },
}

/// What is special about a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    #[default]
    None,
    /// The best of its column.
    Best,
    /// Not distinguishable from the best.
    Near,
    /// Clearly better than the baseline.
    Better,
    /// Clearly worse than the baseline.
    Worse,
    /// Something went wrong.
    Fault,
}

impl Entry {
    /// Nothing is known.
    pub fn missing() -> Self {
        Self { value: Value::Missing, mark: Mark::None }
    }

    /// Words.
    pub fn words(text: impl Into<String>) -> Self {
        Self { value: Value::Words(text.into()), mark: Mark::None }
    }

    /// Something as a program writes it.
    pub fn code(text: impl Into<String>) -> Self {
        Self { value: Value::Code(text.into()), mark: Mark::None }
    }

    /// A number.
    pub fn number(value: f64, decimals: usize) -> Self {
        let value = Value::Number { value, half_width: None, decimals, signed: false };
        Self { value, mark: Mark::None }
    }

    /// A mean with its interval.
    pub fn estimate(estimate: &Estimate, decimals: usize) -> Self {
        let Estimate { mean: value, half_width, .. } = *estimate;
        let value = Value::Number { value, half_width, decimals, signed: false };
        Self { value, mark: Mark::None }
    }

    /// The same with a sign.
    pub fn signed(mut self) -> Self {
        if let Value::Number { signed, .. } = &mut self.value {
            *signed = true;
        }
        self
    }

    /// The same, marked.
    pub fn marked(self, mark: Mark) -> Self {
        Self { mark, ..self }
    }
}

impl Mark {
    /// The sign that stands behind what is marked, so that no meaning rests on colour or weight alone.
    pub fn sign(self) -> &'static str {
        match self {
            Self::None | Self::Fault => "",
            Self::Best => "★",
            Self::Near => "≈",
            Self::Better => "▲",
            Self::Worse => "▼",
        }
    }
}

/// A number with a true minus, so that columns align.
pub fn decimal(value: f64, decimals: usize, signed: bool) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let zero = text.chars().all(|c| c == '0' || c == '.');
    match (value < 0.0 && !zero, signed && !zero) {
        (true, _) => format!("−{text}"),
        (false, true) => format!("+{text}"),
        (false, false) => text,
    }
}

/// `12.3` or `12.3 ± 0.4`.
pub fn with_interval(value: f64, half: Option<f64>, decimals: usize, signed: bool) -> String {
    let value = decimal(value, decimals, signed);
    half.map_or(value.clone(), |half| format!("{value} ± {half:.decimals$}"))
}

/// Digits after the point so that the typical interval shows two figures, and without intervals the
/// largest value shows four.
pub fn decimals<'a>(estimates: impl IntoIterator<Item = &'a Estimate>) -> usize {
    let (mut halves, mut largest) = (Vec::new(), 0.0f64);
    for estimate in estimates {
        halves.extend(estimate.half_width);
        largest = largest.max(estimate.mean.abs());
    }
    // What rounding leaves of equal values is no interval.
    halves.retain(|half| *half > 1e-9 * largest);
    halves.sort_by(f64::total_cmp);
    let (size, figures) = match halves.get(halves.len() / 2) {
        Some(half) => (*half, 2.0),
        None => (largest, 4.0),
    };
    if size <= 0.0 {
        return 2;
    }
    (figures - 1.0 - size.log10().floor()).clamp(0.0, 6.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_what_their_interval_allows() {
        let estimate = |mean, half_width| Estimate { mean, half_width, count: 3 };
        assert_eq!(decimals(&[estimate(119.4591, Some(1.23))]), 1);
        assert_eq!(decimals(&[estimate(0.1132, Some(0.0042))]), 4);
        assert_eq!(decimals(&[estimate(119.4591, None), estimate(0.1, None)]), 1);
        assert_eq!(decimals(&[estimate(0.0, Some(0.0))]), 2);
        assert_eq!(decimals(&[estimate(0.3, Some(1e-17))]), 4);
        assert_eq!(decimals(&[estimate(5.0, Some(1e9))]), 0);
    }

    #[test]
    fn signs_are_true_and_zero_has_none() {
        assert_eq!(decimal(-1.25, 1, false), "−1.2");
        assert_eq!(decimal(1.25, 2, true), "+1.25");
        assert_eq!(decimal(-0.001, 2, true), "0.00");
        assert_eq!(with_interval(-1.5, Some(0.25), 2, true), "−1.50 ± 0.25");
    }
}
