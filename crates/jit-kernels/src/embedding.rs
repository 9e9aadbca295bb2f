//! Rows looked up in a table: the class embedding.

/// `out[i] = table[idx[i]]`, `table` `[R, D]`, `out` `[idx.len(), D]`.
///
/// # Panics
/// If an index is not below R: callers check labels where they enter the program.
pub fn gather_rows(table: &[f32], idx: &[u32], out: &mut [f32]) {
    let Some(d) = row_length(out.len(), idx.len()) else { return };
    for (out, &i) in out.chunks_exact_mut(d).zip(idx) {
        out.copy_from_slice(&table[i as usize * d..][..d]);
    }
}

/// The backward pass of [`gather_rows`]: `dtable[idx[i]] += dout[i]`, in order of i, so that
/// repeated indices always sum the same way.
///
/// # Panics
/// If an index is not below R.
pub fn scatter_rows_add(dout: &[f32], idx: &[u32], dtable: &mut [f32]) {
    let Some(d) = row_length(dout.len(), idx.len()) else { return };
    for (dout, &i) in dout.chunks_exact(d).zip(idx) {
        for (t, g) in dtable[i as usize * d..][..d].iter_mut().zip(dout) {
            *t += g;
        }
    }
}

/// D, or nothing when there are no rows.
fn row_length(len: usize, rows: usize) -> Option<usize> {
    if rows == 0 {
        assert_eq!(len, 0, "embedding: values without indices");
        return None;
    }
    assert_eq!(len % rows, 0, "embedding: rows of unequal length");
    Some(len / rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_looks_up_and_scattering_sums_repeats() {
        let table = [0., 1., 10., 11., 20., 21.];
        let mut out = [0.0; 6];
        gather_rows(&table, &[2, 0, 2], &mut out);
        assert_eq!(out, [20., 21., 0., 1., 20., 21.]);

        let mut dtable = [100.0; 6];
        scatter_rows_add(&[1., 2., 3., 4., 5., 6.], &[2, 0, 2], &mut dtable);
        assert_eq!(dtable, [103., 104., 100., 100., 106., 108.]);
    }

    #[test]
    #[should_panic]
    fn an_index_beyond_the_table_panics() {
        gather_rows(&[0.0; 4], &[2], &mut [0.0; 2]);
    }
}
