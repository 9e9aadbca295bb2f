//! Squared distances of all pairs of two sets of features, block by block, so that memory grows with
//! the features and not with the pairs.

use std::ops::Range;

use jit_kernels::gemm::{MatRef, PackedB, Precision, Store, gemm};
use jit_kernels::par;

use crate::Features;

/// Rows and columns of a block: 4 MiB of distances, and panels of 16 MiB for VGG16.
const SIDE: usize = 1024;
/// Columns that one thread sees to.
const COLUMNS_AT_ONCE: usize = 64;

/// The squared distances of some rows of one set to some of the other.
pub struct Block {
    /// Rows of the first set.
    pub rows: Range<usize>,
    /// Rows of the second set, the block's columns.
    pub columns: Range<usize>,
    /// `[rows, columns]`
    distances: Vec<f32>,
}

/// Calls `visit` with the distances of every pair, a block at a time.
pub fn for_each_block(x: &Features, y: &Features, visit: impl FnMut(&Block)) {
    blocks(x, y, |_, _| true, visit);
}

/// Calls `visit` with the distances of every pair of rows of one set once: with blocks on the
/// diagonal, which hold a pair and its mirror image, and with those above it, which do not.
pub fn for_each_block_of_pairs(x: &Features, visit: impl FnMut(&Block)) {
    blocks(x, x, |rows, columns| rows.start <= columns.start, visit);
}

fn blocks(
    x: &Features,
    y: &Features,
    wanted: impl Fn(&Range<usize>, &Range<usize>) -> bool,
    mut visit: impl FnMut(&Block),
) {
    let (dim, x_squares, y_squares) = (x.dim(), squares(x), squares(y));
    let ranges = |n: usize| (0..n).step_by(SIDE).map(move |at| at..(at + SIDE).min(n));
    let mut block = Block { rows: 0..0, columns: 0..0, distances: Vec::new() };
    for columns in ranges(y.rows()) {
        let values = &y.data()[columns.start * dim..columns.end * dim];
        let matrix = MatRef::row_major(values, columns.len(), dim).transposed();
        let packed = PackedB::new(matrix, Precision::F32);
        for rows in ranges(x.rows()).filter(|rows| wanted(rows, &columns)) {
            let values = &x.data()[rows.start * dim..rows.end * dim];
            let matrix = MatRef::row_major(values, rows.len(), dim);
            block.distances.resize(rows.len() * columns.len(), 0.0);
            gemm(matrix, &packed, &mut block.distances, Store::Overwrite, None);
            (block.rows, block.columns) = (rows, columns.clone());
            block.finish(&x_squares, &y_squares);
            visit(&block);
        }
    }
}

impl Block {
    /// From products: ‖x − y‖² = ‖x‖² + ‖y‖² − 2·x·y, never below zero by rounding.
    fn finish(&mut self, x_squares: &[f32], y_squares: &[f32]) {
        let (x_squares, y_squares) =
            (&x_squares[self.rows.clone()], &y_squares[self.columns.clone()]);
        let ops = 4 * self.distances.len();
        par::for_each_chunk(&mut self.distances, y_squares.len(), ops, |row, products| {
            for (product, y_square) in products.iter_mut().zip(y_squares) {
                *product = (x_squares[row] + y_square - 2.0 * *product).max(0.0);
            }
        });
    }

    /// Whether every pair is here together with its mirror image.
    pub fn is_on_diagonal(&self) -> bool {
        self.rows == self.columns
    }

    /// Calls `f(row, distances, state)` for every row; `state` has `width` values for each row of the
    /// first set.
    pub fn for_each_row<T: Send>(
        &self,
        state: &mut [T],
        width: usize,
        f: impl Fn(usize, &[f32], &mut [T]) + Sync,
    ) {
        let count = self.columns.len();
        let state = &mut state[self.rows.start * width..self.rows.end * width];
        par::for_each_chunk(state, width, 2 * self.distances.len(), |i, state| {
            f(self.rows.start + i, &self.distances[i * count..][..count], state);
        });
    }

    /// Calls `f(row, distance, state)` for every row in every column; `state` has `width` values for
    /// each row of the second set.
    pub fn for_each_in_columns<T: Send>(
        &self,
        state: &mut [T],
        width: usize,
        f: impl Fn(usize, f32, &mut [T]) + Sync,
    ) {
        let count = self.columns.len();
        let state = &mut state[self.columns.start * width..self.columns.end * width];
        let ops = 2 * self.distances.len();
        par::for_each_chunk(state, COLUMNS_AT_ONCE * width, ops, |i, state| {
            for (row, distances) in self.rows.clone().zip(self.distances.chunks_exact(count)) {
                let distances = &distances[i * COLUMNS_AT_ONCE..];
                for (state, &distance) in state.chunks_exact_mut(width).zip(distances) {
                    f(row, distance, state);
                }
            }
        });
    }
}

/// ‖x‖² of each row, summed in f64.
fn squares(x: &Features) -> Vec<f32> {
    let square = |row: &[f32]| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() as f32;
    x.data().chunks_exact(x.dim()).map(square).collect()
}
