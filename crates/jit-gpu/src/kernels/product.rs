//! The matrix product `c = a·b`, batched, each operand with strides of its own: tiles in shared
//! memory, sixteen sums a unit. It is the product of devices without tensor cores, and the check on
//! those that have them.

use cubecl::prelude::*;

/// Rows and columns of an output tile.
pub const TILE: usize = 64;
/// Units of a cube: each computes 4×4 values of the tile.
pub const UNITS: u32 = 256;

/// Distances of an operand's neighbours: along the output, along the sum, from matrix to matrix.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Strides {
    pub outer: usize,
    pub inner: usize,
    pub matrix: usize,
}

/// Dense c `[matrices, m, n]`, of cubes (columns, rows, matrices). With `adds`, c is added to; with
/// `biased`, the bias `[n]` is. `a_along` and `b_along` say whether neighbours along the sum are
/// neighbours in memory, which is how tiles are then read.
#[cube(launch)]
pub fn product(
    a: &Tensor<f32>,
    b: &Tensor<f32>,
    bias: &Tensor<f32>,
    c: &mut Tensor<f32>,
    a_strides: Strides,
    b_strides: Strides,
    m: usize,
    n: usize,
    k: usize,
    #[comptime] a_along: bool,
    #[comptime] b_along: bool,
    #[comptime] adds: bool,
    #[comptime] biased: bool,
) {
    // [16, 64] each, the sum's index first.
    let mut a_tile = Shared::<[f32]>::new_slice(1024usize);
    let mut b_tile = Shared::<[f32]>::new_slice(1024usize);
    let unit = UNIT_POS as usize;
    let (row, column) = (unit / 16 * 4, unit % 16 * 4);
    let (first_row, first_column) = (CUBE_POS_Y as usize * 64, CUBE_POS_X as usize * 64);
    let matrix = CUBE_POS_Z as usize;

    let mut sums = Array::<f32>::new(16usize);
    #[unroll]
    for i in 0..16usize {
        sums[i] = 0.0f32;
    }
    for from in range_stepped(0usize, k, 16usize) {
        load(a, &mut a_tile, &a_strides, matrix, first_row, m, from, k, a_along);
        load(b, &mut b_tile, &b_strides, matrix, first_column, n, from, k, b_along);
        sync_cube();
        #[unroll]
        for p in 0..16usize {
            let mut x = Array::<f32>::new(4usize);
            let mut y = Array::<f32>::new(4usize);
            #[unroll]
            for i in 0..4usize {
                x[i] = a_tile[p * 64 + row + i];
                y[i] = b_tile[p * 64 + column + i];
            }
            #[unroll]
            for i in 0..4usize {
                #[unroll]
                for j in 0..4usize {
                    sums[i * 4 + j] += x[i] * y[j];
                }
            }
        }
        sync_cube();
    }
    #[unroll]
    for i in 0..4usize {
        #[unroll]
        for j in 0..4usize {
            let (r, q) = (first_row + row + i, first_column + column + j);
            if r < m && q < n {
                let at = (matrix * m + r) * n + q;
                let mut value = sums[i * 4 + j];
                if comptime!(biased) {
                    value += bias[q];
                }
                if comptime!(adds) {
                    value += c[at];
                }
                c[at] = value;
            }
        }
    }
}

/// A tile of an operand, zero beyond its edges.
#[cube]
fn load(
    x: &Tensor<f32>,
    tile: &mut Shared<[f32]>,
    strides: &Strides,
    matrix: usize,
    first: usize,
    outer: usize,
    from: usize,
    inner: usize,
    #[comptime] along: bool,
) {
    #[unroll]
    for i in 0..4usize {
        let e = UNIT_POS as usize + i * 256;
        let mut o = e % 64;
        let mut p = e / 64;
        if comptime!(along) {
            o = e / 16;
            p = e % 16;
        }
        let mut value = 0.0f32;
        if first + o < outer && from + p < inner {
            let at = matrix * strides.matrix + (first + o) * strides.outer;
            value = x[at + (from + p) * strides.inner];
        }
        tile[p * 64 + o] = value;
    }
}
