//! Borrowed matrices.

/// A matrix view, stored row by row or column by column.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// `data` as a `rows × cols` matrix, row by row.
    ///
    /// # Panics
    /// If `data` does not have `rows · cols` values.
    pub fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "length of a {rows} × {cols} matrix");
        MatRef { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transposed matrix, of the same data.
    pub fn transposed(self) -> Self {
        MatRef {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `rows × cols` values from `(row, col)` on.
    pub(crate) fn block(self, row: usize, rows: usize, col: usize, cols: usize) -> Self {
        assert!(row + rows <= self.rows && col + cols <= self.cols);
        let start = row * self.row_stride + col * self.col_stride;
        MatRef { data: self.data.get(start..).unwrap_or(&[]), rows, cols, ..self }
    }

    /// The value at `(row, col)`.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, col: usize) -> f32 {
        self.data[row * self.row_stride + col * self.col_stride]
    }

    /// Whether rows are contiguous; else columns are.
    #[inline(always)]
    pub(super) fn has_contiguous_rows(&self) -> bool {
        self.col_stride == 1
    }

    /// Row `row`, of a matrix whose rows are contiguous.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        debug_assert_eq!(self.col_stride, 1);
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// Column `col`, of a matrix whose columns are contiguous.
    #[inline(always)]
    pub(super) fn col(&self, col: usize) -> &'a [f32] {
        debug_assert_eq!(self.row_stride, 1);
        &self.data[col * self.col_stride..][..self.rows]
    }
}
