//! The report before it is HTML, Markdown or CSV: sections of text, tables and figures. Everything in
//! it is plain text; each of the three escapes it in its own way.

use super::figure::{Figure, Gallery};
use super::table::Table;

/// A whole report.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The headline.
    pub title: String,
    /// What it is about, in a sentence or two.
    pub lead: String,
    /// What could not be read or must not be overlooked.
    pub warnings: Vec<String>,
    /// The body.
    pub sections: Vec<Section>,
}

/// A part of the report with a headline.
#[derive(Clone, Debug)]
pub struct Section {
    /// A word for links.
    pub id: &'static str,
    /// The headline.
    pub title: String,
    /// What it holds.
    pub parts: Vec<Part>,
}

/// A piece of a section.
#[derive(Clone, Debug)]
pub enum Part {
    /// A paragraph.
    Text(String),
    /// A table.
    Table(Table),
    /// Plots.
    Figure(Figure),
    /// Pictures in rows and columns.
    Gallery(Gallery),
    /// Commands, or anything else to be copied.
    Listing(Listing),
}

/// Lines to be copied.
#[derive(Clone, Debug)]
pub struct Listing {
    /// What they are.
    pub caption: String,
    /// The lines.
    pub lines: Vec<String>,
    /// Whether they are shown only when asked for.
    pub folded: bool,
}

impl Document {
    /// All tables, in their order.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.sections.iter().flat_map(|section| &section.parts).filter_map(|part| match part {
            Part::Table(table) => Some(table),
            _ => None,
        })
    }

    /// Adds a section, unless it is empty.
    pub fn push(&mut self, id: &'static str, title: &str, parts: Vec<Part>) {
        if !parts.is_empty() {
            self.sections.push(Section { id, title: title.into(), parts });
        }
    }
}

/// A text in pieces, with whether each is code: what stands between backticks, where these come in
/// pairs.
pub fn pieces(text: &str) -> Vec<(bool, &str)> {
    if text.matches('`').count() % 2 == 1 {
        return vec![(false, text)];
    }
    let pieces = text.split('`').enumerate().map(|(i, piece)| (i % 2 == 1, piece));
    pieces.filter(|(_, piece)| !piece.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_backticks_hold_code() {
        assert_eq!(pieces("`a` is b"), [(true, "a"), (false, " is b")]);
        assert_eq!(pieces("a ` b"), [(false, "a ` b")]);
        assert!(pieces("").is_empty());
    }
}
