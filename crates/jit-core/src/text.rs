//! Text from outside, made safe to print: names of classes, tensors and files may hold what a
//! terminal obeys, or what shows letters in another order than they are in.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

/// A name that shows as one line of plain text: line breaks, tabs, control characters and what
/// changes the direction of writing are escaped as JSON escapes them.
#[derive(Clone, Debug)]
pub struct Shown<'a>(Cow<'a, str>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(&self.0, acts))
    }
}

/// What can be shown.
pub trait Show {
    /// The name as it may be printed.
    fn shown(&self) -> Shown<'_>;
}

impl Show for str {
    fn shown(&self) -> Shown<'_> {
        Shown(self.into())
    }
}

impl Show for Path {
    fn shown(&self) -> Shown<'_> {
        Shown(self.to_string_lossy())
    }
}

impl Show for OsStr {
    fn shown(&self) -> Shown<'_> {
        Shown(self.to_string_lossy())
    }
}

/// Whole lines, in which line ends and tabs are meant: everything else that acts is escaped.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && c != '\n' && c != '\t')
}

/// Whether a character does something else than show: control characters, and Unicode's invisible
/// characters that turn or break lines, isolate, override, or hide.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn escaped(text: &str, act: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&act) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !act(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Units of UTF-16, so that JSON that passes here is JSON still.
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                out.push_str(&format!("\\u{unit:04x}"));
            }),
        }
    }
    out.into()
}

/// A writer of text for a terminal, which hands on [`lines`]. Bytes that are no text become `�`.
/// Each write is to hold whole characters, as those of `write!` do.
#[derive(Debug)]
pub struct Plain<W>(pub W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for chunk in bytes.utf8_chunks() {
            self.0.write_all(lines(chunk.valid()).as_bytes())?;
            if !chunk.invalid().is_empty() {
                self.0.write_all("\u{fffd}".as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_escaped_and_what_shows_is_not() {
        let name = "\u{1b}[31mred\r\n\u{9b}2J\u{202e}gnp.exe\u{7f}";
        assert_eq!(name.shown().to_string(), "\\u001b[31mred\\r\\n\\u009b2J\\u202egnp.exe\\u007f");
        let fine = "Käse, 日本 👩‍🔬 e\u{301} \\n";
        assert_eq!(fine.shown().to_string(), fine);
        assert_eq!(Path::new("a\nb").shown().to_string(), "a\\nb");
        assert_eq!(format!("{:<6}|{:>4}", "a\n".shown(), "b".shown()), "a\\n   |   b");
    }

    #[test]
    fn lines_and_tabs_of_a_text_stay() {
        assert_eq!(lines("a\tb\n\u{1b}c\r"), "a\tb\n\\u001bc\\r");
        let mut out = Plain(Vec::new());
        let title = "\u{1b}]0;title\u{7}";
        write!(out, "ok\n{title}").unwrap();
        out.write_all(b" \xff\x9b").unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "ok\n\\u001b]0;title\\u0007 ��");
    }

    #[test]
    fn json_stays_json() {
        let json = "[\"\u{202e}\u{e0041}\u{80}\"]";
        assert_eq!(lines(json), "[\"\\u202e\\udb40\\udc41\\u0080\"]");
    }
}
