//! The suites that come with the program, and those in files.

use std::path::Path;

use jit_core::input::{self, MAX_CONFIG};

use crate::error::StudyError;
use crate::suite::Suite;

/// The embedded suites.
const FILES: [(&str, &str); 5] = [
    ("paper", include_str!("../../../suites/paper.toml")),
    ("smoke", include_str!("../../../suites/smoke.toml")),
    ("losses", include_str!("../../../suites/losses.toml")),
    ("bottleneck", include_str!("../../../suites/bottleneck.toml")),
    ("paper-imagenet", include_str!("../../../suites/paper-imagenet.toml")),
];

/// The names of the embedded suites.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The embedded suite of this name, or the one in the file of this path.
///
/// # Errors
/// [`StudyError::UnknownSuite`] with the nearest name, and files that are no suites.
pub fn open(name: &str) -> Result<Suite, StudyError> {
    let embedded = FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| text.to_string());
    let text = match embedded {
        Some(text) => text,
        None if Path::new(name).exists() => input::read_text(Path::new(name), MAX_CONFIG)?,
        None => {
            let hint = jit_core::suggest::hint(name, names());
            let known = names().collect::<Vec<_>>().join(", ");
            return Err(StudyError::UnknownSuite { name: name.into(), hint, known });
        }
    };
    Suite::from_toml(&text).map_err(|source| StudyError::Syntax { name: name.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expand::expand;

    #[test]
    fn every_embedded_suite_expands_under_its_own_name() {
        for name in names() {
            let suite = expand(open(name).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(suite.name, name);
            assert!(!suite.title.is_empty() && !suite.description.is_empty(), "{name}");
        }
    }

    #[test]
    fn an_unknown_suite_names_the_nearest_and_a_file_is_read() {
        let message = open("papr").unwrap_err().to_string();
        assert!(
            message.contains("did you mean `paper`?") && message.contains("losses"),
            "{message}"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, "name = 'mine'\ntitle = 'Mine'\n").unwrap();
        assert_eq!(open(path.to_str().unwrap()).unwrap().name, "mine");
        std::fs::write(&path, "name = 'mine'\ntitel = 'Mine'\n").unwrap();
        let message = open(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(
            message.contains("mine.toml` is not valid") && message.contains("titel"),
            "{message}"
        );
    }
}
