//! Inception score (Salimans et al. 2016): `exp E KL(p(y|x) ‖ p(y))`, over splits of the images.

use crate::evaluate::Score;
use crate::{EvalError, Features};

/// Mean and standard deviation over `splits` consecutive parts of the images' `logits` `[N, K]`;
/// probabilities and logarithms in f64.
///
/// # Errors
/// [`EvalError::TooFew`] for fewer images than splits.
pub fn inception_score(logits: &Features, splits: usize) -> Result<Score, EvalError> {
    let n = logits.rows();
    check(n, splits)?;
    let scores: Vec<f64> =
        (0..splits).map(|i| score(logits, i * n / splits..(i + 1) * n / splits)).collect();
    Ok(Score::of(&scores))
}

pub(crate) fn check(have: usize, splits: usize) -> Result<(), EvalError> {
    if have >= splits && splits > 0 {
        return Ok(());
    }
    let help = "generate more images, or lower --splits";
    let need = splits.max(1);
    Err(EvalError::TooFew { metric: "IS", what: "generated", need, have, help })
}

fn score(logits: &Features, rows: std::ops::Range<usize>) -> f64 {
    let images = rows.len() as f64;
    let log_probabilities: Vec<Vec<f64>> = rows.map(|i| log_softmax(logits.row(i))).collect();
    let mut marginal = vec![0.0; logits.dim()];
    for row in &log_probabilities {
        marginal.iter_mut().zip(row).for_each(|(m, log)| *m += log.exp() / images);
    }
    let divergence = |row: &Vec<f64>| -> f64 {
        let terms = row.iter().zip(&marginal);
        // A class of probability zero adds nothing.
        terms.filter(|(_, m)| **m > 0.0).map(|(log, m)| log.exp() * (log - m.ln())).sum()
    };
    (log_probabilities.iter().map(divergence).sum::<f64>() / images).exp()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits.iter().map(|&x| f64::from(x) - f64::from(max));
    let log_sum = shifted.clone().map(f64::exp).sum::<f64>().ln();
    shifted.map(|x| x - log_sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_and_even_is_the_number_of_classes_and_indifferent_is_one() {
        let sure: Vec<f32> = (0..40)
            .flat_map(|i| (0..4).map(move |k| if i % 4 == k { 50.0 } else { 0.0 }))
            .collect();
        let score = inception_score(&Features::new(4, sure).unwrap(), 10).unwrap();
        assert!((score.mean - 4.0).abs() < 1e-9 && score.spread < 1e-9, "{score:?}");
        let same = Features::new(4, vec![0.3; 160]).unwrap();
        assert!((inception_score(&same, 10).unwrap().mean - 1.0).abs() < 1e-12);
        assert!(inception_score(&same, 41).is_err());
    }
}
