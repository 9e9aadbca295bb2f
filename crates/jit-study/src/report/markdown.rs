//! The report as a Markdown page with its pictures beside it, for documents that are kept.

use jit_core::text::{self, Show};

use super::document::{Document, Listing, Part, pieces};
use super::figure::{Figure, Gallery};
use super::svg;
use super::table::{Entry, Table, Value, with_interval};

/// A page and the files that it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The page.
    pub text: String,
    /// Path, relative to the page, and content of each picture.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Lays the report out; its pictures go to a folder named `folder` beside the page.
///
/// # Errors
/// When a plot cannot be written, which takes no memory being left.
pub fn render(document: &Document, folder: &str) -> askama::Result<Page> {
    let mut page = Page::default();
    page.line(&format!("# {}", escaped(&document.title)));
    page.paragraph(&prose(&document.lead));
    if !document.warnings.is_empty() {
        page.paragraph("> **Before reading on**\n>");
    }
    for warning in &document.warnings {
        page.line(&format!("> - {}", prose(warning)));
    }
    for section in &document.sections {
        page.paragraph(&format!("## {}", escaped(&section.title)));
        for part in &section.parts {
            match part {
                Part::Text(text) => page.paragraph(&prose(text)),
                Part::Table(table) => page.table(table),
                Part::Figure(figure) => page.figure(figure, folder)?,
                Part::Gallery(gallery) => page.gallery(gallery, folder),
                Part::Listing(listing) => page.listing(listing),
            }
        }
    }
    Ok(page)
}

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A block after an empty line.
    fn paragraph(&mut self, text: &str) {
        self.line("");
        self.line(text);
    }

    fn row<'a>(&mut self, places: impl IntoIterator<Item = &'a str>) {
        let places: Vec<&str> = places.into_iter().collect();
        self.line(&format!("| {} |", places.join(" | ")));
    }

    fn table(&mut self, table: &Table) {
        self.paragraph(&format!("**{}**", escaped(&table.caption)));
        self.line("");
        let names: Vec<String> = table.columns.iter().map(|column| escaped(&column.name)).collect();
        self.row(names.iter().map(String::as_str));
        self.row(table.columns.iter().map(|column| if column.numeric { "--:" } else { ":--" }));
        for row in &table.rows {
            let places: Vec<String> = row.iter().map(entry).collect();
            self.row(places.iter().map(String::as_str));
        }
        for note in &table.notes {
            self.paragraph(&prose(note));
        }
    }

    fn figure(&mut self, figure: &Figure, folder: &str) -> askama::Result<()> {
        let path = format!("{folder}/{}.svg", figure.id);
        self.paragraph(&format!(
            "![{}]({})",
            escaped(&first_sentence(&figure.caption)),
            link(&path)
        ));
        self.paragraph(&prose(&figure.caption));
        self.files.push((path, svg::standalone(figure)?.into_bytes()));
        Ok(())
    }

    fn gallery(&mut self, gallery: &Gallery, folder: &str) {
        self.line("");
        let names: Vec<String> = gallery.columns.iter().map(|name| escaped(name)).collect();
        let corner = escaped(&gallery.corner);
        self.row([corner.as_str()].into_iter().chain(names.iter().map(String::as_str)));
        self.row((0..=names.len()).map(|_| ":--"));
        for (r, (label, pictures)) in gallery.rows.iter().enumerate() {
            let mut places = vec![escaped(label)];
            for (c, picture) in pictures.iter().enumerate() {
                let Some(picture) = picture else {
                    places.push("–".into());
                    continue;
                };
                // By number, since names come from files.
                let path = format!("{folder}/{}-{r}-{c}.png", gallery.id);
                places.push(format!("![{}]({})", escaped(&picture.alt), link(&path)));
                self.files.push((path, picture.png.clone()));
            }
            self.row(places.iter().map(String::as_str));
        }
        self.paragraph(&prose(&gallery.caption));
    }

    fn listing(&mut self, listing: &Listing) {
        let caption = escaped(&listing.caption);
        let lines = listing.lines.iter().map(|line| line.shown().to_string());
        let text = lines.collect::<Vec<_>>().join("\n");
        let fence = "`".repeat(longest_run(&text).max(2) + 1);
        let block = format!("{fence}\n{text}\n{fence}");
        if listing.folded {
            self.paragraph(&format!("<details><summary>{caption}</summary>"));
            self.paragraph(&block);
            self.paragraph("</details>");
        } else {
            self.paragraph(&caption);
            self.paragraph(&block);
        }
    }
}

/// A place of a table.
fn entry(entry: &Entry) -> String {
    let sign = entry.mark.sign();
    let text = match &entry.value {
        Value::Missing => "–".into(),
        Value::Words(text) => escaped(text),
        Value::Code(text) => code(text),
        Value::Number { value, half_width, decimals, signed } => {
            with_interval(*value, *half_width, *decimals, *signed)
        }
    };
    match sign {
        "" => text,
        "★" => format!("**{text}** {sign}"),
        _ => format!("{text} {sign}"),
    }
}

/// Text with code in backticks.
fn prose(text: &str) -> String {
    let piece = |(is_code, text)| if is_code { code(text) } else { escaped(text) };
    pieces(text).into_iter().map(piece).collect()
}

/// Text that is nothing but text to a reader of Markdown or HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' => out.extend(['\\', c]),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if text::acts(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A code span in a place of a table.
fn code(text: &str) -> String {
    let text = text.replace('|', "\\|").replace(text::acts, " ");
    if text.trim().is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(&text) + 1);
    let room = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{room}{text}{room}{fence}")
}

/// The most backticks in a row.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// A relative path as the target of a link.
fn link(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    let mut out = String::new();
    for c in path.chars() {
        match plain(c) {
            true => out.push(c),
            false => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| out.push_str(&format!("%{b:02X}")))
            }
        }
    }
    out
}

fn first_sentence(text: &str) -> String {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_text() {
        assert_eq!(escaped("a|b <script> *x*\n"), "a\\|b &lt;script&gt; \\*x\\* ");
        assert_eq!(escaped("a\u{202e}b\u{1b}[31m"), "a b \\[31m");
        assert_eq!(code("a\u{2066}\u{9b}b"), "`a  b`");
        assert_eq!(code("a|`b"), "``a\\|`b``");
        assert_eq!(link("a b/ü.svg"), "a%20b/%C3%BC.svg");
        let mut page = Page::default();
        let lines = vec!["```".to_string(), "# no headline".into(), "\u{1b}[2J\u{202e}x\r".into()];
        page.listing(&Listing { caption: "c".into(), lines, folded: false });
        let block = "````\n```\n# no headline\n\\u001b[2J\\u202ex\\r\n````\n";
        assert!(page.text.contains(block), "{}", page.text);
    }
}
