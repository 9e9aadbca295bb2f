//! Digits as another hand might have written them: turned, scaled, slanted and moved a little.

use jit_core::rng::Stream;

use super::net::SIDE;

/// Largest turn, in radians.
const TURN: f32 = 0.22;
/// Largest change of size.
const SCALE: f32 = 0.14;
/// Largest slant.
const SLANT: f32 = 0.2;
/// Largest move, in pixels.
const MOVE: f32 = 2.0;

/// A tile `[28, 28]` from 0 to 1, distorted as `stream` says; black outside.
pub fn distort(tile: &[u8], stream: Stream, out: &mut [f32]) {
    let draw = |index: u32, range: f32| (2.0 * stream.uniform(index) - 1.0) * range;
    let (turn, slant) = (draw(0, TURN), draw(1, SLANT));
    let (wide, high) = (1.0 + draw(2, SCALE), 1.0 + draw(3, SCALE));
    let (dx, dy) = (draw(4, MOVE), draw(5, MOVE));
    let (sin, cos) = turn.sin_cos();
    let middle = (SIDE as f32 - 1.0) / 2.0;
    let pixel = |row: isize, column: isize| match (usize::try_from(row), usize::try_from(column)) {
        (Ok(row), Ok(column)) if row < SIDE && column < SIDE => {
            f32::from(tile[row * SIDE + column]) / 255.0
        }
        _ => 0.0,
    };
    for (at, out) in out.iter_mut().enumerate() {
        // Where this pixel comes from: the inverse map, bilinear.
        let (x, y) = ((at % SIDE) as f32 - middle - dx, (at / SIDE) as f32 - middle - dy);
        let (x, y) = (cos * x + sin * y, cos * y - sin * x);
        let (x, y) = ((x + slant * y) / wide + middle, y / high + middle);
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let (left, top) = (left as isize, top as isize);
        let row = |r| pixel(r, left) * (1.0 - fx) + pixel(r, left + 1) * fx;
        *out = row(top) * (1.0 - fy) + row(top + 1) * fy;
    }
}

#[cfg(test)]
mod tests {
    use jit_core::rng::Purpose;

    use super::*;

    #[test]
    fn a_digit_stays_about_where_and_as_heavy_as_it_was() {
        let mut tile = vec![0u8; SIDE * SIDE];
        for at in 0..8 * 8 {
            tile[(10 + at / 8) * SIDE + 10 + at % 8] = 255;
        }
        let mut seen = Vec::new();
        for sample in 0..50 {
            let mut out = vec![0.0; SIDE * SIDE];
            distort(&tile, Stream::new(1, Purpose::Distortion, 0, sample), &mut out);
            let weight: f32 = out.iter().sum();
            assert!((40.0..95.0).contains(&weight), "{weight} of 64");
            let centre = out.iter().enumerate().map(|(i, v)| v * (i % SIDE) as f32).sum::<f32>();
            assert!((centre / weight - 13.5).abs() < MOVE + 0.1);
            assert!(out.iter().all(|v| (0.0..=1.0001).contains(v)));
            seen.push(out);
        }
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "each is another");
    }
}
