//! Sums and token bookkeeping: operations limited by memory, not arithmetic, so a plain
//! loop per chunk is already as fast as they get.

use crate::par;

/// Elements a task handles: large enough to hide the cost of a task, small enough to share out.
const CHUNK: usize = 1 << 14;

/// `a = 0`.
pub fn clear(a: &mut [f32]) {
    let len = a.len();
    par::for_each_chunk(a, CHUNK, len, |_, a| a.fill(0.0));
}

/// `a += b`.
pub fn add_assign(a: &mut [f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "add_assign: lengths differ");
    par::for_each_chunk(a, CHUNK, b.len(), |chunk, a| {
        for (a, b) in a.iter_mut().zip(&b[chunk * CHUNK..]) {
            *a += b;
        }
    });
}

/// `out = a·x + b·y`.
pub fn axpby(a: f32, x: &[f32], b: f32, y: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "axpby: x and out differ in length");
    assert_eq!(y.len(), out.len(), "axpby: y and out differ in length");
    par::for_each_chunk(out, CHUNK, x.len(), |chunk, out| {
        let (x, y) = (&x[chunk * CHUNK..], &y[chunk * CHUNK..]);
        for ((o, x), y) in out.iter_mut().zip(x).zip(y) {
            *o = a * x + b * y;
        }
    });
}

/// Adds one matrix to every element of a batch: `out[b] = x[b] + pos`, `x`, `out` `[B, N, D]`,
/// `pos` `[N, D]`.
pub fn add_rows(x: &[f32], pos: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "add_rows: x and out differ in length");
    assert_eq!(x.len() % pos.len(), 0, "add_rows: x is not a whole number of pos");
    par::for_each_chunk(out, pos.len(), x.len(), |image, out| {
        for ((o, x), p) in out.iter_mut().zip(&x[image * pos.len()..]).zip(pos) {
            *o = x + p;
        }
    });
}

/// The backward pass of [`add_rows`] for `pos`: `dpos += Σ_b dout[b]`, in order of b.
pub fn add_rows_grad(dout: &[f32], dpos: &mut [f32]) {
    let len = dpos.len();
    assert_eq!(dout.len() % len, 0, "add_rows_grad: dout is not a whole number of dpos");
    par::for_each_chunk(dpos, CHUNK, dout.len(), |chunk, dpos| {
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
    par::for_each_chunk(out, d, x.len(), |image, out| {
        out.fill(0.0);
        for row in x[image * n * d..][from * d..to * d].chunks_exact(d) {
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
    par::for_each_chunk(dx, n * d, b * n * d, |image, dx| {
        for row in dx[from * d..to * d].chunks_exact_mut(d) {
            for (v, g) in row.iter_mut().zip(&dy[image * d..]) {
                *v += inverse * g;
            }
        }
    });
}

/// Joins token sequences, neither of them empty: `a` `[B, n1, D]`, `b` `[B, n2, D]` to `out`
/// `[B, n1 + n2, D]`.
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
    par::for_each_chunk(out, (n1 + n2) * d, a.len() + b.len(), |i, out| {
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
    par::for_each_chunk2((a, n1 * d), (b, n2 * d), x.len(), |i, a, b| {
        let (first, second) = x[i * (n1 + n2) * d..][..(n1 + n2) * d].split_at(n1 * d);
        a.copy_from_slice(first);
        b.copy_from_slice(second);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    /// Two chunks and a ragged end.
    const LEN: usize = 2 * CHUNK + 7;

    #[test]
    fn clearing_leaves_zeros_only() {
        for len in [0, 1, CHUNK, 3 * CHUNK + 5] {
            let mut a = vec![f32::NAN; len];
            clear(&mut a);
            assert!(a.iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    fn sums_are_elementwise_over_all_chunks() {
        let (a, b) = (random(1, LEN), random(2, LEN));
        let mut out = vec![9.0; LEN];
        axpby(1.0, &a, 1.0, &b, &mut out);
        assert!((0..LEN).all(|i| out[i] == a[i] + b[i]));
        add_assign(&mut out, &b);
        assert!((0..LEN).all(|i| out[i] == a[i] + b[i] + b[i]));
        axpby(0.5, &a, -3.0, &b, &mut out);
        assert!((0..LEN).all(|i| out[i] == 0.5 * a[i] + -3.0 * b[i]));
    }

    #[test]
    fn rows_are_added_to_every_image_and_summed_back_over_them() {
        let (x, pos) = (random(1, 3 * LEN), random(2, LEN));
        let mut out = vec![9.0; 3 * LEN];
        add_rows(&x, &pos, &mut out);
        assert!((0..3 * LEN).all(|i| out[i] == x[i] + pos[i % LEN]));
        let mut dpos = vec![1.0; LEN];
        add_rows_grad(&x, &mut dpos);
        assert!((0..LEN).all(|i| dpos[i] == 1.0 + x[i] + x[LEN + i] + x[2 * LEN + i]));
    }

    #[test]
    fn the_mean_is_over_its_tokens_only_and_its_gradient_is_spread_over_them() {
        // [B, N, D] = [2, 4, 1], tokens 1..3.
        let x = [100., 1., 3., 100., 100., 5., 9., 100.];
        let mut out = [9.0; 2];
        mean_tokens(&x, 2, 4, 1, 1, 3, &mut out);
        assert_eq!(out, [2., 7.]);
        let mut dx = [1.0; 8];
        mean_tokens_grad_add(&[4., 6.], 2, 4, 1, 1, 3, &mut dx);
        assert_eq!(dx, [1., 3., 3., 1., 1., 4., 4., 1.]);
    }

    #[test]
    fn the_mean_is_accurate_over_many_tokens() {
        let (n, d) = (1024, 3);
        let x: Vec<f32> = random(1, n * d).iter().map(|v| 10.0 + v).collect();
        let expected: Vec<f32> = (0..d)
            .map(|c| {
                (x.iter().skip(c).step_by(d).map(|&v| f64::from(v)).sum::<f64>() / n as f64) as f32
            })
            .collect();
        let mut out = vec![0.0; d];
        mean_tokens(&x, 1, n, d, 0, n, &mut out);
        assert_close(&out, &expected, 1e-5);
    }

    #[test]
    fn splitting_undoes_joining() {
        let (a, b) = ([1., 2., 3., 4.], [5., 6., 7., 8., 9., 10., 11., 12.]);
        let mut out = [0.0; 12];
        concat_tokens(&a, &b, 2, 1, 2, 2, &mut out);
        assert_eq!(out, [1., 2., 5., 6., 7., 8., 3., 4., 9., 10., 11., 12.]);
        let (mut a2, mut b2) = ([0.0; 4], [0.0; 8]);
        split_tokens(&out, 2, 1, 2, 2, &mut a2, &mut b2);
        assert_eq!((a2, b2), (a, b));
    }
}
