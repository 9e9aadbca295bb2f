//! Metrics on given features, with what the reference library says of them in a `.json` beside.

use std::collections::BTreeMap;

use jit_eval::{
    Features, Moments, Stats, fid, inception_score, kid_of_first, kid_of_subsets, precision_recall,
};
use serde_json::Value;

use super::VerifyError;
use super::case::Case;
use super::measure::{Check, tolerance};

/// End of the names of generated features, `CASE.generated` `[N, D]`.
pub const GENERATED: &str = ".generated";

/// Parts of the inception score, and subsets of KID, in the reference's figures.
const SPLITS: usize = 10;
const SUBSETS: usize = 100;

/// Computes every metric that the `.json` has.
///
/// # Errors
/// When the `.json` or a tensor is missing, does not fit, or has too few rows for a metric.
pub fn verify(case: &Case) -> Result<Vec<Check>, VerifyError> {
    let told = expected(case)?;
    let new = |quantity: &str, tolerance| Check::new(&case.name(), quantity, tolerance);
    let mut exact = new("FID, IS, KID", tolerance::METRIC);
    let mut shares = new("precision, recall", 0.0);
    let mut subsets = new("KID of subsets, in deviations", 1.0);
    let mut statistics = new("statistics", tolerance::METRIC);
    for (name, metrics) in &told {
        let features = |part: &str| -> Result<Features, VerifyError> {
            let tensor = format!("{name}.{part}");
            let shape = case.shape(&tensor)?;
            let dim = shape.last().copied().unwrap_or(0);
            Ok(Features::new(dim, case.values(&tensor)?)?)
        };
        let (generated, real) = (features("generated")?, features("real")?);
        let value = |key: &str| {
            metrics.pointer(key).and_then(Value::as_f64).ok_or_else(|| VerifyError::Metadata {
                path: case.path().with_extension("json"),
                key: format!("{name}{key}"),
                found: "missing".into(),
                expected: "a number".into(),
            })
        };
        let mut compare = |metric: &str, have: f64, want: f64| {
            exact.record(&format!("{name}.{metric}"), (have - want).abs() / want.abs());
        };
        let gaussian = |features| Moments::of(features).gaussian();
        compare("fid", fid(&gaussian(&generated)?, &gaussian(&real)?)?, value("/fid")?);
        let score = inception_score(&features("logits")?, SPLITS)?;
        let base = "/isc_10_splits_unshuffled/inception_score";
        compare("is_mean", score.mean, value(&format!("{base}_mean"))?);
        compare("is_std", score.spread, value(&format!("{base}_std"))?);
        compare("kid", kid_of_first(&generated, &real)?, value("/kid_first_n")?);

        let size = generated.rows().min(real.rows()) / 2;
        let score = kid_of_subsets(&generated, &real, SUBSETS, size, 0)?;
        let base = "/kid_100_subsets_of_half/kernel_inception_distance";
        let (mean, std) = (value(&format!("{base}_mean"))?, value(&format!("{base}_std"))?);
        subsets.record(name, (score.mean - mean).abs() / std);

        for k in [3, 5] {
            let have = precision_recall(&generated, &real, k)?;
            for (which, have) in [("precision", have.precision), ("recall", have.recall)] {
                // The reference counts in f32.
                let want = value(&format!("/{which}_k{k}"))? as f32;
                let differs = f64::from((have as f32 - want).abs());
                shares.record(&format!("{name}.{which}_k{k}"), differs);
            }
        }
        let file = case.path().with_file_name(format!("stats_real_{name}.npz"));
        if file.is_file() {
            let (want, have) = (Stats::read(&file)?.gaussian, gaussian(&real)?);
            for (what, have, want) in
                [("mu", &have.mean, &want.mean), ("sigma", &have.covariance, &want.covariance)]
            {
                let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                let pairs = have.iter().zip(want);
                let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                statistics.record(&format!("{name}.{what}"), worst / largest);
            }
        }
    }
    Ok([exact, shares, subsets, statistics].into_iter().filter(|c| c.tensors > 0).collect())
}

/// The `.json` beside the case: metrics by case.
fn expected(case: &Case) -> Result<BTreeMap<String, Value>, VerifyError> {
    let path = case.path().with_extension("json");
    let fault = |found: String| VerifyError::Metadata {
        path: path.clone(),
        key: "*".into(),
        found,
        expected: "the metrics of each case, as JSON".into(),
    };
    let text = jit_core::input::read_text(&path, 64 << 20).map_err(|e| fault(e.to_string()))?;
    serde_json::from_str(&text).map_err(|error| fault(error.to_string()))
}
