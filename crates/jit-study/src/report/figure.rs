//! Figures, before anyone decides how they look.

/// Plots that share a legend.
#[derive(Clone, Debug)]
pub struct Figure {
    /// A word for links and file names.
    pub id: String,
    /// What it shows and how to read it.
    pub caption: String,
    /// The plots.
    pub plots: Vec<Plot>,
    /// What each style stands for.
    pub legend: Vec<(Style, String)>,
}

/// One pair of axes and what is drawn between them.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What goes upwards.
    pub title: String,
    /// What goes to the right.
    pub x: Axis,
    /// The upright axis.
    pub y: Axis,
    /// Lines and points.
    pub series: Vec<Series>,
}

/// An axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What it counts.
    pub label: String,
    /// Equal ratios are equally long.
    pub log: bool,
    /// The range that is shown at least.
    pub within: Option<(f64, f64)>,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// Colour, dashes and shape.
    pub style: Style,
    /// Whether a line joins the points.
    pub line: bool,
    /// Whether each has a symbol.
    pub symbols: bool,
    /// The points.
    pub points: Vec<Point>,
}

/// One of the styles that can be told apart: a colour, a dash pattern and a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style(pub usize);

/// A point with its intervals.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: Span,
    /// Upwards.
    pub y: Span,
    /// What the pointer is told.
    pub hint: String,
}

/// A value and the interval around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The value.
    pub at: f64,
    /// The ends of its interval.
    pub ends: Option<(f64, f64)>,
}

impl From<f64> for Span {
    fn from(at: f64) -> Self {
        Self { at, ends: None }
    }
}

/// Pictures in rows and columns.
#[derive(Clone, Debug)]
pub struct Gallery {
    /// A word for links and file names.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// What the rows are.
    pub corner: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Name and pictures of each row.
    pub rows: Vec<(String, Vec<Option<Picture>>)>,
}

/// A PNG file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The file.
    pub png: Vec<u8>,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// What it shows, in words.
    pub alt: String,
}
