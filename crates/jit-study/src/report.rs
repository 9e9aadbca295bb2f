//! What a folder of runs shows: one page with tables, figures and how to repeat each row.
//!
//! [`load`] reads the folder into a [`Study`]; [`content`] says what is to be seen in it, as a
//! [`Document`] of plain text, tables and figures; that becomes HTML, Markdown or CSV.

use std::path::Path;

mod axis;
mod content;
mod curve;
mod document;
mod figure;
mod html;
mod keep;
mod load;
mod markdown;
mod metric;
mod spreadsheet;
pub mod statistics;
mod study;
mod svg;
mod table;
mod thumbnail;

pub use document::Document;
pub use keep::keep;
pub use load::ReportError;
pub use markdown::Page;

/// A report, ready to be laid out.
#[derive(Clone, Debug)]
pub struct Report {
    document: Document,
}

impl Report {
    /// Reads the folder of a study or of a run.
    ///
    /// # Errors
    /// [`ReportError`] where there is no run. Whatever else is missing or damaged is among the
    /// [warnings](Self::warnings).
    pub fn read(dir: &Path) -> Result<Self, ReportError> {
        Ok(Self { document: content::document(&load::read(dir)?) })
    }

    /// What could not be read, or must not be overlooked.
    pub fn warnings(&self) -> &[String] {
        &self.document.warnings
    }

    /// One HTML file that needs nothing else.
    ///
    /// # Errors
    /// [`ReportError::Layout`].
    pub fn html(&self) -> Result<String, ReportError> {
        html::render(&self.document).map_err(layout)
    }

    /// A Markdown page whose pictures lie in a folder named `folder` beside it.
    ///
    /// # Errors
    /// [`ReportError::Layout`].
    pub fn markdown(&self, folder: &str) -> Result<Page, ReportError> {
        markdown::render(&self.document, folder).map_err(layout)
    }

    /// Name and content of a CSV file for each table.
    ///
    /// # Errors
    /// [`ReportError::Layout`].
    pub fn csv(&self) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
        spreadsheet::render(&self.document).map_err(layout)
    }
}

fn layout(error: impl std::fmt::Display) -> ReportError {
    ReportError::Layout(error.to_string())
}
