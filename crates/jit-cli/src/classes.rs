//! The classes to draw, as the command line names them.

use jit_core::suggest;
use jit_core::text::Show;

/// Why a class cannot be drawn.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ClassError {
    /// Neither a name nor a number of a class.
    #[error("--classes: there is no class `{}`{}; expected {expected}", name.shown(), hint.shown())]
    Unknown {
        /// What was given.
        name: String,
        /// The nearest name, or nothing.
        hint: String,
        /// What would do.
        expected: String,
    },
    /// The model was trained without classes.
    #[error("--classes {0}: the model was trained without classes")]
    Unconditional(String),
}

/// Up to this many classes have a column each.
const MAX_COLUMNS: usize = 20;

/// The numbers of the classes in `text`: numbers or names separated by commas, or `all`. A name that
/// has a comma itself stands alone, or in double quotes as in CSV. Without classes it is the null class
/// alone, which has number 0 then.
///
/// # Errors
/// [`ClassError`] with the nearest name.
pub fn parse(text: &str, classes: usize, names: &[String]) -> Result<Vec<u32>, ClassError> {
    match (text, classes) {
        ("all", 0) => Ok(vec![0]),
        ("all", _) => Ok((0..classes as u32).collect()),
        (_, 0) => Err(ClassError::Unconditional(text.to_string())),
        _ if names.iter().any(|name| name == text) => Ok(vec![one(text, classes, names)?]),
        _ => parts(text).iter().map(|part| one(part, classes, names)).collect(),
    }
}

/// What commas separate, but for those in double quotes; a quote that is meant is doubled there.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.trim_start().chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                part.push('"');
            }
            '"' if quoted || part.trim().is_empty() => quoted = !quoted,
            ',' if !quoted => parts.push(std::mem::take(&mut part).trim().to_string()),
            c => part.push(c),
        }
    }
    parts.push(part.trim().to_string());
    parts
}

/// A name goes before a number: folders may be called `7`.
fn one(text: &str, classes: usize, names: &[String]) -> Result<u32, ClassError> {
    let named = names.iter().position(|name| name == text).map(|i| i as u32);
    let numbered = || text.parse().ok().filter(|&n: &u32| (n as usize) < classes);
    named.or_else(numbered).ok_or_else(|| ClassError::Unknown {
        name: text.to_string(),
        hint: suggest::hint(text, names.iter().map(String::as_str)),
        expected: match names {
            [] => format!("a number from 0 to {}", classes - 1),
            _ => format!("a name, or a number from 0 to {}", classes - 1),
        },
    })
}

/// How many images are drawn unless told: four of each class if they are few.
pub fn default_count(classes: usize) -> usize {
    if (2..=MAX_COLUMNS).contains(&classes) { 4 * classes } else { 16 }
}

/// Columns of a sheet: one a class if they are few, else as many as rows.
pub fn columns(classes: usize, count: usize) -> usize {
    let square = (count as f64).sqrt().ceil() as usize;
    if (2..=MAX_COLUMNS).contains(&classes) { classes } else { square.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_numbers_and_names() {
        let names = ["cat", "dog", "0"].map(str::to_string);
        assert_eq!(parse("all", 3, &names), Ok(vec![0, 1, 2]));
        assert_eq!(parse("dog, 0,1", 3, &names), Ok(vec![1, 2, 1]));
        assert_eq!(parse("3,7", 10, &[]), Ok(vec![3, 7]));
        assert_eq!(parse("all", 0, &[]), Ok(vec![0]));
        let commas = ["tench, Tinca", "all", "5\" disk", "cat"].map(str::to_string);
        assert_eq!(parse("tench, Tinca", 4, &commas), Ok(vec![0]));
        assert_eq!(parse(r#" "tench, Tinca" , cat, 2"#, 4, &commas), Ok(vec![0, 3, 2]));
        assert_eq!(parse(r#""all",5" disk,"5"" disk""#, 4, &commas), Ok(vec![1, 2, 2]));
        assert_eq!(parse("all", 4, &commas), Ok(vec![0, 1, 2, 3]));
        let message = |text, classes| parse(text, classes, &names).unwrap_err().to_string();
        assert_eq!(
            message("dgo", 3),
            "--classes: there is no class `dgo` (did you mean `dog`?); expected a name, or a number \
             from 0 to 2"
        );
        assert!(message("3", 3).contains("no class `3`"));
        assert!(message("3", 0).contains("without classes"));
    }

    #[test]
    fn few_classes_have_a_column_each() {
        assert_eq!((default_count(10), columns(10, 40)), (40, 10));
        assert_eq!((default_count(1000), columns(1000, 16)), (16, 4));
        assert_eq!((default_count(1), columns(1, 7), columns(1, 0)), (16, 3, 1));
    }
}
