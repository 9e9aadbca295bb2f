//! How far two tensors are apart.

/// The agreement that is asked for: in f32 what the golden cases' own description says; in bf16,
/// whose rounding of 2⁻⁹ enters at every linear layer, see `docs/numerics.md`.
pub mod tolerance {
    use jit_model::device::Precision;

    /// Outputs and losses, relative.
    pub fn output(precision: Precision) -> f64 {
        match precision {
            Precision::F32 => 1e-5,
            Precision::Bf16 => 2e-2,
        }
    }

    /// Sampler trajectories, relative. Guidance by 2.9 multiplies what one pass differs by up to 4.8
    /// times, and every step adds to it.
    pub fn trajectory(precision: Precision) -> f64 {
        match precision {
            Precision::F32 => 1e-5,
            Precision::Bf16 => 1e-1,
        }
    }

    /// Gradients and the weights after ten steps, relative.
    pub fn gradient(precision: Precision) -> f64 {
        match precision {
            Precision::F32 => 1e-4,
            Precision::Bf16 => 5e-2,
        }
    }

    /// Features of images, relative.
    pub const FEATURE: f64 = 1e-4;

    /// Metrics of given features, relative.
    pub const METRIC: f64 = 1e-6;

    /// Resized pixels, in steps of 1/255.
    pub const PIXEL: f64 = 1.0;
}

/// The comparison of some tensors of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The file, without its folder.
    pub case: String,
    /// What was compared.
    pub quantity: String,
    /// How many tensors were compared.
    pub tensors: usize,
    /// The tensor with the largest error.
    pub worst: String,
    /// Its error; NaN where something is not a number.
    pub error: f64,
    /// The largest error allowed.
    pub tolerance: f64,
}

impl Check {
    /// A check that has compared nothing yet.
    pub fn new(case: &str, quantity: &str, tolerance: f64) -> Self {
        Self {
            case: case.to_string(),
            quantity: quantity.to_string(),
            tensors: 0,
            worst: String::new(),
            error: 0.0,
            tolerance,
        }
    }

    /// Compares by the largest deviation relative to the largest value expected.
    pub fn relative(&mut self, name: &str, have: &[f32], want: &[f32]) {
        self.record(name, relative_error(have, want));
    }

    /// Takes an error measured elsewhere.
    pub fn record(&mut self, name: &str, error: f64) {
        self.tensors += 1;
        // A NaN is worse than any number and stays.
        let worse = error.is_nan() || error > self.error;
        if self.tensors == 1 || (worse && !self.error.is_nan()) {
            self.error = error;
            self.worst = name.to_string();
        }
    }

    /// Whether something was compared and all of it lies within the tolerance.
    pub fn passed(&self) -> bool {
        self.tensors > 0 && self.error <= self.tolerance
    }

    /// An error in the unit of the check: relative ones are small, pixels count.
    pub fn show(&self, error: f64) -> String {
        if self.tolerance >= 1.0 { format!("{error}") } else { format!("{error:.1e}") }
    }
}

/// max |a − b| / max |b|. NaN where either holds one or the lengths differ; where all of b is zero,
/// 0 if all of a is, else infinite.
pub fn relative_error(have: &[f32], want: &[f32]) -> f64 {
    if have.len() != want.len() {
        return f64::NAN;
    }
    let mut deviation = 0f64;
    let mut largest = 0f64;
    for (&a, &b) in have.iter().zip(want) {
        let d = (f64::from(a) - f64::from(b)).abs();
        if d.is_nan() {
            return f64::NAN;
        }
        deviation = deviation.max(d);
        largest = largest.max(f64::from(b).abs());
    }
    if deviation == 0.0 { 0.0 } else { deviation / largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_largest_value() {
        assert_eq!(relative_error(&[1.0, 4.0], &[1.0, 4.0]), 0.0);
        assert_eq!(relative_error(&[1.0, 4.5], &[1.5, 4.0]), 0.125);
        assert_eq!(relative_error(&[0.0], &[0.0]), 0.0);
        assert_eq!(relative_error(&[1e-9], &[0.0]), f64::INFINITY);
        assert!(relative_error(&[f32::NAN, 0.0], &[1.0, 0.0]).is_nan());
        assert!(relative_error(&[f32::INFINITY], &[f32::INFINITY]).is_nan());
        assert!(relative_error(&[1.0], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn a_check_keeps_its_worst_tensor_and_fails_on_nan_and_on_nothing() {
        let mut check = Check::new("a", "outputs", 0.1);
        assert!(!check.passed(), "nothing was compared");
        check.relative("good", &[1.0], &[1.0]);
        check.relative("worse", &[1.05], &[1.0]);
        check.relative("fine", &[1.01], &[1.0]);
        assert!(check.passed() && check.worst == "worse" && check.tensors == 3);
        check.relative("nan", &[f32::NAN], &[1.0]);
        check.relative("bad", &[9.0], &[1.0]);
        assert!(!check.passed() && check.worst == "nan");
    }
}
