//! A weight that may vary with t, as text: `0.5`, `0.2..0.8` or `0.2..0.8@0.5`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A weight w(t) along the time from noise, t = 0, to the image, t = 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum WeightSchedule {
    /// `0.5`: always the same.
    Constant(f32),
    /// `0.2..0.8`: from the first at t = 0 to the second at t = 1, in a straight line.
    Ramp {
        /// The weight at t = 0.
        from: f32,
        /// The weight at t = 1.
        to: f32,
    },
    /// `0.2..0.8@0.5`: from the first to the second at once.
    Step {
        /// The weight before.
        from: f32,
        /// The weight from then on.
        to: f32,
        /// When it changes.
        at: f32,
    },
}

/// A text that is no weight.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error(
    "`{0}` is no weight: expected a number such as `0.5`, `0.2..0.8` for a straight line from t = 0 \
     to t = 1, or `0.2..0.8@0.5` for a change at once at t = 0.5"
)]
pub struct ScheduleError(String);

impl WeightSchedule {
    /// w(t).
    pub fn at(self, t: f32) -> f32 {
        match self {
            Self::Constant(w) => w,
            Self::Ramp { from, to } => from + (to - from) * t,
            Self::Step { from, to, at } => {
                if t < at {
                    from
                } else {
                    to
                }
            }
        }
    }

    /// The weights at both ends; no other is beyond them.
    pub fn ends(self) -> [f32; 2] {
        match self {
            Self::Constant(w) => [w, w],
            Self::Ramp { from, to } | Self::Step { from, to, .. } => [from, to],
        }
    }
}

impl FromStr for WeightSchedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let number = |text: &str| text.trim().parse().ok().filter(|w: &f32| w.is_finite());
        let parse = || match (text.split_once(".."), text.split_once('@')) {
            (None, None) => Some(Self::Constant(number(text)?)),
            (Some((from, to)), None) => Some(Self::Ramp { from: number(from)?, to: number(to)? }),
            (_, Some((change, at))) => {
                let (from, to) = change.split_once("..")?;
                let at = number(at).filter(|at| (0.0..=1.0).contains(at))?;
                Some(Self::Step { from: number(from)?, to: number(to)?, at })
            }
        };
        parse().ok_or_else(|| ScheduleError(text.to_string()))
    }
}

impl fmt::Display for WeightSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(w) => write!(f, "{w}"),
            Self::Ramp { from, to } => write!(f, "{from}..{to}"),
            Self::Step { from, to, at } => write!(f, "{from}..{to}@{at}"),
        }
    }
}

impl TryFrom<String> for WeightSchedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        text.parse()
    }
}

impl From<WeightSchedule> for String {
    fn from(schedule: WeightSchedule) -> Self {
        schedule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        let read = |text: &str| text.parse::<WeightSchedule>().unwrap();
        assert_eq!(read("0.5"), WeightSchedule::Constant(0.5));
        assert_eq!(read("0.2..0.8"), WeightSchedule::Ramp { from: 0.2, to: 0.8 });
        assert_eq!(read("-1 .. 2e0"), WeightSchedule::Ramp { from: -1.0, to: 2.0 });
        let step = WeightSchedule::Step { from: 0.2, to: 0.8, at: 0.5 };
        assert_eq!(read("0.2..0.8@0.5"), step);
        for text in ["0.5", "0..1", "0.2..0.8@0.5", "-3"] {
            assert_eq!(read(text).to_string(), text);
        }
        for text in ["", "half", "0.2..", "..0.5", "0.2..0.8..1", "0.5@0.5", "0..1@2", "nan", "inf"]
        {
            let error = text.parse::<WeightSchedule>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no weight")), "{error}");
        }
    }

    #[test]
    fn weights_change_along_t() {
        let at = |text: &str, t| text.parse::<WeightSchedule>().unwrap().at(t);
        assert_eq!([at("0.5", 0.0), at("0.5", 1.0)], [0.5, 0.5]);
        assert_eq!([at("1..3", 0.0), at("1..3", 0.25), at("1..3", 1.0)], [1.0, 1.5, 3.0]);
        let step = [0.0, 0.49, 0.5, 1.0].map(|t| at("1..3@0.5", t));
        assert_eq!(step, [1.0, 1.0, 3.0, 3.0]);
    }
}
