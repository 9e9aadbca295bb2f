//! From values to places on an axis, and the round values at which it has ticks.

use super::figure::Axis;

/// An axis with its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    log: bool,
    low: f64,
    high: f64,
}

/// Room beyond the outermost values, as a part of the range.
const MARGIN: f64 = 0.04;

impl Scale {
    /// The scale that shows all of `values` that can be shown; `None` if there are none.
    pub fn new(axis: &Axis, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut scale = Self { log: axis.log, low: f64::INFINITY, high: f64::NEG_INFINITY };
        for value in values {
            let Some(place) = scale.place(value) else { continue };
            (scale.low, scale.high) = (scale.low.min(place), scale.high.max(place));
        }
        if scale.low > scale.high {
            return None;
        }
        let range = scale.high - scale.low;
        let margin = if range > 0.0 { MARGIN * range } else { 0.05 * scale.low.abs().max(0.1) };
        // The margin makes no share negative.
        let positive = !scale.log && scale.low >= 0.0;
        let low = scale.low - margin;
        scale.low = if positive { low.max(0.0) } else { low };
        scale.high += margin;
        let within = axis.within.map(|(low, high)| (scale.place(low), scale.place(high)));
        if let Some((Some(low), Some(high))) = within {
            (scale.low, scale.high) = (scale.low.min(low), scale.high.max(high));
        }
        Some(scale)
    }

    /// Where a value lies before the range is known; `None` where the axis cannot show it.
    fn place(&self, value: f64) -> Option<f64> {
        let place = if self.log { value.log10() } else { value };
        place.is_finite().then_some(place)
    }

    /// Where a value lies, 0 at the lower end and 1 at the upper.
    pub fn unit(&self, value: f64) -> Option<f64> {
        self.place(value).map(|place| (place - self.low) / (self.high - self.low))
    }

    /// Round values in the range, about `count` of them, with what is written beside them.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.log {
            let all = self.log_ticks(count);
            if all.len() >= 2 {
                return all;
            }
        }
        let ends = if self.log {
            (10f64.powf(self.low), 10f64.powf(self.high))
        } else {
            (self.low, self.high)
        };
        linear_ticks(ends.0, ends.1, count)
    }

    /// 1, 2 and 5 of each decade while they are few, else powers of ten alone.
    fn log_ticks(&self, count: usize) -> Vec<(f64, String)> {
        let decades = self.low.floor() as i32..=self.high.ceil() as i32;
        let of = |factors: &[f64], stride: usize| -> Vec<(f64, String)> {
            let decades = decades.clone().step_by(stride);
            let all = decades.flat_map(|d| factors.iter().map(move |f| f * 10f64.powi(d)));
            let inside = all.filter(|v| (0.0..=1.0).contains(&self.unit(*v).unwrap_or(-1.0)));
            inside.map(|v| (v, label(v, digits(v)))).collect()
        };
        let fine = of(&[1.0, 2.0, 5.0], 1);
        if fine.len() <= count + 2 {
            fine
        } else {
            of(&[1.0], fine.len().div_ceil(3 * count).max(1))
        }
    }
}

fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<(f64, String)> {
    let rough = (high - low) / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * power).into_iter().find(|s| *s >= rough * 0.85);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    // Very narrow ranges far from zero have no ticks that f64 can tell apart.
    (first..=last)
        .take(2 * count + 2)
        .map(|i| (i as f64 * step, label(i as f64 * step, digits(step))))
        .collect()
}

/// Digits after the point that tell multiples of `step` apart.
fn digits(step: f64) -> usize {
    (-(step.abs() * 1.0001).log10().floor()).clamp(0.0, 8.0) as usize
}

fn label(value: f64, digits: usize) -> String {
    let (scaled, unit) = match value.abs() {
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => return super::table::decimal(value, digits, false),
    };
    format!(
        "{}{unit}",
        super::table::decimal(scaled, usize::from(scaled.fract().abs() > 1e-9), false)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(log: bool, values: [f64; 2]) -> Vec<String> {
        let axis = Axis { log, ..Axis::default() };
        let ticks = Scale::new(&axis, values).unwrap().ticks(5);
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_tell_values_apart() {
        assert_eq!(labels(false, [0.0, 1.0]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(
            labels(false, [0.011, 0.013]),
            ["0.0110", "0.0115", "0.0120", "0.0125", "0.0130"]
        );
        assert_eq!(labels(false, [-30.0, 60.0]), ["−20", "0", "20", "40", "60"]);
        assert_eq!(labels(false, [0.0, 50_000.0]), ["0", "10k", "20k", "30k", "40k", "50k"]);
        assert_eq!(labels(true, [0.1, 3.0]), ["0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(labels(true, [1e-4, 1e4]), ["0.001", "0.1", "10", "1000"]);
    }

    #[test]
    fn what_cannot_be_shown_is_left_out() {
        let log = Axis { log: true, ..Axis::default() };
        assert_eq!(Scale::new(&log, [0.0, -1.0, f64::NAN]), None);
        let scale = Scale::new(&log, [0.0, 1.0, 100.0]).unwrap();
        assert_eq!(scale.unit(-3.0), None);
        assert!((scale.unit(10.0).unwrap() - 0.5).abs() < 1e-12);
        // Shares of zero have no negative neighbours.
        let zero = Scale::new(&Axis::default(), [0.0, 0.0]).unwrap();
        assert_eq!(zero.unit(0.0), Some(0.0));
        // One value alone lies in the middle.
        let one = Scale::new(&Axis::default(), [7.0]).unwrap();
        assert!((one.unit(7.0).unwrap() - 0.5).abs() < 1e-12 && one.ticks(5).len() > 1);
    }
}
