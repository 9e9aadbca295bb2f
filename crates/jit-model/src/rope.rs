//! 2-D rotary position embedding (spec §1): half of each head turns with the row, half with the
//! column.

/// Cosines then sines, `[2, context + N, head_dim]`, for a `grid` × `grid` image behind `context`
/// class tokens, which are not turned (cosine 1, sine 0).
///
/// The angle of token (row, column) in dimension j of an axis' half is `pos / 10000^(2i/(h/2))`
/// with i = ⌊j/2⌋: every angle twice in a row, for the interleaved pairs that are rotated.
pub fn table(head_dim: usize, grid: usize, context: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let frequencies: Vec<f32> = (0..half / 2)
        .map(|i| (1.0 / 10_000f64.powf(2.0 * i as f64 / half as f64)) as f32)
        .collect();
    let tokens = context + grid * grid;
    let mut angles = vec![0f32; tokens * head_dim];
    for (token, row) in angles.chunks_mut(head_dim).enumerate().skip(context) {
        let position = [(token - context) / grid, (token - context) % grid];
        for (axis, part) in row.chunks_mut(half).enumerate() {
            for (j, angle) in part.iter_mut().enumerate() {
                *angle = position[axis] as f32 * frequencies[j / 2];
            }
        }
    }
    let sines: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
    angles.iter().map(|a| a.cos()).chain(sines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_turns_the_first_half_and_class_tokens_stay() {
        let (h, grid, context) = (8, 3, 2);
        let t = table(h, grid, context);
        let tokens = context + grid * grid;
        let (cos, sin) = t.split_at(tokens * h);
        assert!(cos[..context * h].iter().all(|&c| c == 1.0));
        assert!(sin[..context * h].iter().all(|&s| s == 0.0));
        // Token (row 2, column 1): angles 2, 2, 0.02, 0.02 then 1, 1, 0.01, 0.01.
        let at = (context + 2 * grid + 1) * h;
        let angles = [2.0f64, 2.0, 0.02, 0.02, 1.0, 1.0, 0.01, 0.01];
        for (j, a) in angles.iter().enumerate() {
            assert!((f64::from(cos[at + j]) - a.cos()).abs() < 1e-6, "cos {j}");
            assert!((f64::from(sin[at + j]) - a.sin()).abs() < 1e-6, "sin {j}");
        }
    }
}
