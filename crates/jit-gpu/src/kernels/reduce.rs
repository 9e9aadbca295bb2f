//! Sums, each in an order that depends on nothing but the shape.

use cubecl::prelude::*;

/// Units of a cube that reduces.
pub const WIDTH: usize = 128;

/// The sum of every unit's value, in every unit of a cube of [`WIDTH`].
#[cube]
pub fn cube_sum(value: f32, scratch: &mut Shared<[f32]>) -> f32 {
    fold(value, scratch, false)
}

/// The largest of every unit's values, in every unit of a cube of [`WIDTH`].
#[cube]
pub fn cube_max(value: f32, scratch: &mut Shared<[f32]>) -> f32 {
    fold(value, scratch, true)
}

/// A tree over the cube's units: 64 pairs, 32, … 1.
#[cube]
fn fold(value: f32, scratch: &mut Shared<[f32]>, #[comptime] largest: bool) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    #[unroll]
    for level in 0..7usize {
        let half = comptime!(64usize >> level);
        if unit < half {
            let other = scratch[unit + half];
            if comptime!(largest) {
                scratch[unit] = f32::max(scratch[unit], other);
            } else {
                scratch[unit] += other;
            }
        }
        sync_cube();
    }
    let result = scratch[0];
    sync_cube();
    result
}

/// One cube a partial: the squares of `x[cube·share ..]`, summed into `partials[first + cube]`.
#[cube(launch)]
pub fn square_sums(x: &Tensor<f32>, partials: &mut Tensor<f32>, share: usize, first: usize) {
    if CUBE_POS > 0 && CUBE_POS * share >= x.len() {
        terminate!();
    }
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    let from = CUBE_POS * share;
    let mut sum = 0.0f32;
    for i in range_stepped(from + UNIT_POS as usize, usize::min(from + share, x.len()), 128usize) {
        let v = x[i];
        sum += v * v;
    }
    let total = cube_sum(sum, &mut scratch);
    if UNIT_POS == 0 {
        partials[first + CUBE_POS] = total;
    }
}

/// One cube in all: the sum of `x` to `out[0]`.
#[cube(launch)]
pub fn total(x: &Tensor<f32>, out: &mut Tensor<f32>) {
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    let mut sum = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, x.len(), 128usize) {
        sum += x[i];
    }
    let total = cube_sum(sum, &mut scratch);
    if UNIT_POS == 0 {
        out[0] = total;
    }
}

/// One unit a (group, column): the sum of `share` rows of x `[R, C]` to partials `[groups, C]`.
#[cube(launch)]
pub fn column_sums(
    x: &Tensor<f32>,
    partials: &mut Tensor<f32>,
    rows: usize,
    columns: usize,
    share: usize,
) {
    if ABSOLUTE_POS < partials.len() {
        let (group, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
        let mut sum = 0.0f32;
        for row in group * share..usize::min(group * share + share, rows) {
            sum += x[row * columns + column];
        }
        partials[ABSOLUTE_POS] = sum;
    }
}

/// One unit a column: `out[c] += Σ_r x[r, c]`.
#[cube(launch)]
pub fn column_sums_add(x: &Tensor<f32>, out: &mut Tensor<f32>, rows: usize) {
    let columns = out.len();
    if ABSOLUTE_POS < columns {
        let mut sum = 0.0f32;
        for row in 0..rows {
            sum += x[row * columns + ABSOLUTE_POS];
        }
        out[ABSOLUTE_POS] += sum;
    }
}
