//! The report as one HTML file: no script, nothing fetched, everything from a file escaped by the
//! template. A content policy in the page forbids the browser what the page does not need.

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::document::{Document, Listing, Part, Section, pieces};
use super::figure::{Figure, Gallery, Picture};
use super::svg;
use super::table::{Column, Entry, Mark, Table, Value, decimal};

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    document: &'a Document,
    plot_style: &'a str,
    style: &'a str,
}

/// The page.
///
/// # Errors
/// When the template cannot be written, which takes no memory being left.
pub fn render(document: &Document) -> askama::Result<String> {
    Page { document, plot_style: svg::STYLE, style: include_str!("../../templates/page.css") }
        .render()
}

/// What the template asks of a section's parts.
impl Section {
    fn rendered(&self) -> askama::Result<Vec<String>> {
        self.parts.iter().map(part).collect()
    }
}

fn part(part: &Part) -> askama::Result<String> {
    match part {
        Part::Text(text) => Ok(format!("<p>{}</p>", prose(text))),
        Part::Table(table) => TableView { table, padded: padded(table) }.render(),
        Part::Figure(figure) => figure_view(figure),
        Part::Gallery(gallery) => GalleryView { gallery }.render(),
        Part::Listing(listing) => {
            let Listing { caption, folded, lines } = listing;
            ListingView { caption, folded: *folded, text: lines.join("\n") }.render()
        }
    }
}

/// Text with code in backticks.
#[derive(Template)]
#[template(path = "prose.html")]
struct Prose<'a> {
    pieces: Vec<(bool, &'a str)>,
}

/// Text as the templates write it.
fn prose(text: &str) -> Prose<'_> {
    Prose { pieces: pieces(text) }
}

#[derive(Template)]
#[template(path = "listing.html")]
struct ListingView<'a> {
    caption: &'a str,
    folded: bool,
    text: String,
}

#[derive(Template)]
#[template(path = "table.html")]
struct TableView<'a> {
    table: &'a Table,
    /// Of each column, the decimals of its intervals where any place has one.
    padded: Vec<Option<usize>>,
}

/// Numbers without an interval keep the room of one, so that a column's values align.
fn padded(table: &Table) -> Vec<Option<usize>> {
    let interval = |entry: &Entry| match entry.value {
        Value::Number { half_width: Some(_), decimals, .. } => Some(decimals),
        _ => None,
    };
    let column = |i: usize| table.rows.iter().find_map(|row| interval(row.get(i)?));
    (0..table.columns.len()).map(column).collect()
}

/// What stands before and behind the ± of a place.
impl Entry {
    fn digits(&self) -> Option<String> {
        match self.value {
            Value::Number { value, decimals, signed, .. } => Some(decimal(value, decimals, signed)),
            _ => None,
        }
    }

    fn interval(&self) -> Option<String> {
        match self.value {
            Value::Number { half_width: Some(half), decimals, .. } => {
                Some(format!("± {half:.decimals$}"))
            }
            _ => None,
        }
    }

    fn class(&self, column: &Column) -> String {
        let mark = match self.mark {
            Mark::None => "",
            Mark::Best => " best",
            Mark::Near => " near",
            Mark::Better => " better",
            Mark::Worse => " worse",
            Mark::Fault => " fault",
        };
        format!("{}{mark}", if column.numeric { "num" } else { "text" })
    }
}

#[derive(Template)]
#[template(path = "figure.html")]
struct FigureView<'a> {
    figure: &'a Figure,
    plots: Vec<String>,
    legend: Vec<(String, &'a str)>,
}

fn figure_view(figure: &Figure) -> askama::Result<String> {
    let plots = figure.plots.iter().map(svg::inline).collect::<askama::Result<_>>()?;
    let key = |(style, label): &'_ (_, String)| Ok((svg::swatch(*style)?, label.clone()));
    let keys: Vec<(String, String)> =
        figure.legend.iter().map(key).collect::<askama::Result<_>>()?;
    let legend = keys.iter().map(|(swatch, label)| (swatch.clone(), label.as_str())).collect();
    FigureView { figure, plots, legend }.render()
}

#[derive(Template)]
#[template(path = "gallery.html")]
struct GalleryView<'a> {
    gallery: &'a Gallery,
}

impl Picture {
    /// The file inside the page.
    fn data_uri(&self) -> String {
        format!("data:image/png;base64,{}", STANDARD.encode(&self.png))
    }
}
