//! What a few seeds say: means with their interval, and differences of runs that share a seed.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The probability that an interval holds what it estimates.
pub const CONFIDENCE: f64 = 0.95;

/// A mean, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half the width of the Student t interval at [`CONFIDENCE`]; none from a single value.
    pub half_width: Option<f64>,
    /// Values behind it.
    pub count: usize,
}

impl Estimate {
    /// From independent values; `None` without any, or if one of them is no number.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 || !values.iter().all(|v| v.is_finite()) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let half_width = quantile(count - 1).map(|t| {
            let variance = squares / (count - 1) as f64;
            t * (variance / count as f64).sqrt()
        });
        Some(Self { mean, half_width, count })
    }

    /// Of the difference `ours − theirs` over the seeds that both have: what the seed does to both
    /// alike cancels. `None` without a common seed.
    pub fn of_difference(ours: &[(u64, f64)], theirs: &[(u64, f64)]) -> Option<Self> {
        let their = |seed| theirs.iter().find(|(s, _)| *s == seed).map(|(_, value)| value);
        let pairs = ours.iter().filter_map(|(seed, value)| Some(value - their(*seed)?));
        Self::of(&pairs.collect::<Vec<_>>())
    }

    /// The ends of the interval.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.half_width.map(|half| (self.mean - half, self.mean + half))
    }

    /// Whether the interval lies on one side of zero; `None` where there is no interval.
    pub fn is_clear(&self) -> Option<bool> {
        self.half_width.map(|half| self.mean.abs() > half)
    }
}

/// The factor of the standard error of a mean with so many degrees of freedom.
fn quantile(freedom: usize) -> Option<f64> {
    // The distribution refuses 0 degrees.
    let student = StudentsT::new(0.0, 1.0, freedom as f64).ok()?;
    Some(student.inverse_cdf(0.5 + CONFIDENCE / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-7 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn quantiles_are_those_of_printed_tables() {
        // With one and two degrees of freedom the quantile of p has a closed form.
        let p: f64 = 0.975;
        close(quantile(1).unwrap(), (std::f64::consts::PI * (p - 0.5)).tan());
        close(quantile(2).unwrap(), (2.0 * p - 1.0) * (2.0 / (4.0 * p * (1.0 - p))).sqrt());
        for (freedom, printed) in [(1, 12.7062), (4, 2.7764), (9, 2.2622), (30, 2.0423)] {
            assert!((quantile(freedom).unwrap() - printed).abs() < 5e-5, "{freedom}");
        }
        assert_eq!(quantile(0), None);
    }

    #[test]
    fn student_s_own_example_has_its_published_interval() {
        // The sleep of ten patients with two drugs (Student 1908); R's
        // `t.test(extra ~ group, sleep, paired = TRUE)` prints −1.58 and [−2.4598858, −0.7001142].
        let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let seeded = |values: [f64; 10]| (0..).zip(values).collect::<Vec<(u64, f64)>>();
        let (ours, mut theirs) = (seeded(first), seeded(second));
        // Pairs are found by their seed, not their place, and a seed without a partner is left out.
        theirs.reverse();
        theirs.push((77, 1e9));
        let estimate = Estimate::of_difference(&ours, &theirs).unwrap();
        let (low, high) = estimate.interval().unwrap();
        close(estimate.mean, -1.58);
        assert!((low + 2.4598858).abs() < 5e-8 && (high + 0.7001142).abs() < 5e-8, "{low} {high}");
        assert_eq!((estimate.count, estimate.is_clear()), (10, Some(true)));
    }

    #[test]
    fn one_value_has_no_interval_and_none_no_mean() {
        let one = Estimate::of(&[3.0]).unwrap();
        assert_eq!((one.mean, one.half_width, one.is_clear()), (3.0, None, None));
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[1.0, f64::NAN]), None);
        assert_eq!(Estimate::of_difference(&[(1, 2.0)], &[(2, 2.0)]), None);
        // Equal values differ clearly from zero, and equal runs do not differ.
        assert_eq!(Estimate::of(&[2.0, 2.0]).unwrap().is_clear(), Some(true));
        assert_eq!(Estimate::of(&[0.0, 0.0]).unwrap().is_clear(), Some(false));
    }
}
