//! Fixed 2-D sin-cos positions, as MAE has them (spec §1).

/// The table `[N, D]` of a `grid` × `grid` image: half of D for the column (w first), half for the
/// row; in each half all sines, then all cosines, of `pos·10000^(−i/(D/4))`. Computed in f64.
pub fn sincos_2d(dim: usize, grid: usize) -> Vec<f32> {
    let quarter = dim / 4;
    let omega: Vec<f64> =
        (0..quarter).map(|i| 10_000f64.powf(-(i as f64) / quarter as f64)).collect();
    let mut table = Vec::with_capacity(grid * grid * dim);
    for row in 0..grid {
        for column in 0..grid {
            for position in [column, row] {
                table.extend(omega.iter().map(|o| (position as f64 * o).sin() as f32));
                table.extend(omega.iter().map(|o| (position as f64 * o).cos() as f32));
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_comes_first_and_sines_before_cosines() {
        let table = sincos_2d(8, 3);
        // Token 5 is row 1, column 2; omega = 1, 0.01.
        let expected = [2f64, 0.02].map(f64::sin).into_iter();
        let expected = expected.chain([2f64, 0.02].map(f64::cos));
        let expected = expected.chain([1f64, 0.01].map(f64::sin));
        let expected = expected.chain([1f64, 0.01].map(f64::cos));
        for (have, want) in table[5 * 8..6 * 8].iter().zip(expected) {
            assert!((f64::from(*have) - want).abs() < 1e-7);
        }
    }
}
