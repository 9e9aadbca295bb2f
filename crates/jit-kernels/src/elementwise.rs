//! Sums, scalings and token bookkeeping: operations limited by memory, not arithmetic, so a plain
//! loop per chunk is already as fast as they get.

use rayon::prelude::*;

/// Elements a task handles: large enough to hide the cost of a task, small enough to share out.
const CHUNK: usize = 1 << 14;

/// `out = a + b`.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    axpby(1.0, a, 1.0, b, out);
}

/// `a += b`.
pub fn add_assign(a: &mut [f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "add_assign: lengths differ");
    a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK)).for_each(|(a, b)| {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
    });
}

/// `out = a·x + b·y`.
pub fn axpby(a: f32, x: &[f32], b: f32, y: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "axpby: x and out differ in length");
    assert_eq!(y.len(), out.len(), "axpby: y and out differ in length");
    let inputs = x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK));
    out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, (x, y))| {
        for ((o, x), y) in out.iter_mut().zip(x).zip(y) {
            *o = a * x + b * y;
        }
    });
}

/// `x *= a`.
pub fn scale(a: f32, x: &mut [f32]) {
    x.par_chunks_mut(CHUNK).for_each(|x| x.iter_mut().for_each(|v| *v *= a));
}

/// Adds one matrix to every element of a batch: `out[b] = x[b] + pos`, `x`, `out` `[B, N, D]`,
/// `pos` `[N, D]`.
pub fn add_rows(x: &[f32], pos: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "add_rows: x and out differ in length");
    assert_eq!(x.len() % pos.len(), 0, "add_rows: x is not a whole number of pos");
    out.par_chunks_mut(pos.len()).zip(x.par_chunks(pos.len())).for_each(|(out, x)| {
        for ((o, x), p) in out.iter_mut().zip(x).zip(pos) {
            *o = x + p;
        }
    });
}

/// The backward pass of [`add_rows`] for `pos`: `dpos += Σ_b dout[b]`, in order of b.
pub fn add_rows_grad(dout: &[f32], dpos: &mut [f32]) {
    let len = dpos.len();
    assert_eq!(dout.len() % len, 0, "add_rows_grad: dout is not a whole number of dpos");
    dpos.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, dpos)| {
        for image in dout.chunks_exact(len) {
            for (dp, d) in dpos.iter_mut().zip(&image[chunk * CHUNK..]) {
                *dp += d;
            }
        }
    });
}

/// Mean over the tokens `from..to`: `x` `[B, N, D]` to `out` `[B, D]`.
pub fn mean_tokens(
    x: &[f32],
    b: usize,
    n: usize,
    d: usize,
    from: usize,
    to: usize,
    out: &mut [f32],
) {
    assert!(from < to && to <= n, "mean_tokens: bad token range {from}..{to} of {n}");
    assert_eq!((x.len(), out.len()), (b * n * d, b * d), "mean_tokens: bad lengths");
    let inverse = 1.0 / (to - from) as f32;
    out.par_chunks_mut(d).zip(x.par_chunks(n * d)).for_each(|(out, x)| {
        out.fill(0.0);
        for row in x[from * d..to * d].chunks_exact(d) {
            for (o, v) in out.iter_mut().zip(row) {
                *o += v;
            }
        }
        out.iter_mut().for_each(|o| *o *= inverse);
    });
}

/// The backward pass of [`mean_tokens`]: adds `dy/(to−from)` to every token of the range of `dx`.
pub fn mean_tokens_grad_add(
    dy: &[f32],
    b: usize,
    n: usize,
    d: usize,
    from: usize,
    to: usize,
    dx: &mut [f32],
) {
    assert!(from < to && to <= n, "mean_tokens_grad_add: bad token range {from}..{to} of {n}");
    assert_eq!((dx.len(), dy.len()), (b * n * d, b * d), "mean_tokens_grad_add: bad lengths");
    let inverse = 1.0 / (to - from) as f32;
    dx.par_chunks_mut(n * d).zip(dy.par_chunks(d)).for_each(|(dx, dy)| {
        for row in dx[from * d..to * d].chunks_exact_mut(d) {
            for (v, g) in row.iter_mut().zip(dy) {
                *v += inverse * g;
            }
        }
    });
}

/// Joins token sequences: `a` `[B, n1, D]`, `b` `[B, n2, D]` to `out` `[B, n1 + n2, D]`.
pub fn concat_tokens(
    a: &[f32],
    b: &[f32],
    batch: usize,
    n1: usize,
    n2: usize,
    d: usize,
    out: &mut [f32],
) {
    assert_eq!((a.len(), b.len()), (batch * n1 * d, batch * n2 * d), "concat_tokens: bad inputs");
    assert_eq!(out.len(), batch * (n1 + n2) * d, "concat_tokens: bad output length");
    out.par_chunks_mut((n1 + n2) * d).enumerate().for_each(|(i, out)| {
        let (first, second) = out.split_at_mut(n1 * d);
        first.copy_from_slice(&a[i * n1 * d..][..n1 * d]);
        second.copy_from_slice(&b[i * n2 * d..][..n2 * d]);
    });
}

/// The inverse of [`concat_tokens`], which is also its backward pass: `x` `[B, n1 + n2, D]` to
/// `a` `[B, n1, D]` and `b` `[B, n2, D]`.
pub fn split_tokens(
    x: &[f32],
    batch: usize,
    n1: usize,
    n2: usize,
    d: usize,
    a: &mut [f32],
    b: &mut [f32],
) {
    assert_eq!(x.len(), batch * (n1 + n2) * d, "split_tokens: bad input length");
    assert_eq!((a.len(), b.len()), (batch * n1 * d, batch * n2 * d), "split_tokens: bad outputs");
    for (i, x) in x.chunks_exact((n1 + n2) * d).enumerate() {
        a[i * n1 * d..][..n1 * d].copy_from_slice(&x[..n1 * d]);
        b[i * n2 * d..][..n2 * d].copy_from_slice(&x[n1 * d..]);
    }
}
