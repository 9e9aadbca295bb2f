//! Tokens and images: cutting, joining, turning, looking up.

use cubecl::prelude::*;

/// `[B, C, S, S] → [B, N, C·p·p]`, or to `[B, N, p·p·C]` with the channel last.
#[cube(launch)]
pub fn patchify(
    x: &Tensor<f32>,
    out: &mut Tensor<f32>,
    channels: usize,
    side: usize,
    patch: usize,
    #[comptime] channel_last: bool,
) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = x[pixel_of(ABSOLUTE_POS, channels, side, patch, channel_last)];
    }
}

/// `[B, N, p·p·C] → [B, C, S, S]`
#[cube(launch)]
pub fn unpatchify(
    tokens: &Tensor<f32>,
    out: &mut Tensor<f32>,
    channels: usize,
    side: usize,
    patch: usize,
) {
    if ABSOLUTE_POS < out.len() {
        out[pixel_of(ABSOLUTE_POS, channels, side, patch, true)] = tokens[ABSOLUTE_POS];
    }
}

/// The pixel of the value `i` of the patches.
#[cube]
fn pixel_of(
    i: usize,
    channels: usize,
    side: usize,
    patch: usize,
    #[comptime] channel_last: bool,
) -> usize {
    let width = channels * patch * patch;
    let grid = side / patch;
    let (token, inside) = (i / width, i % width);
    let image = token / (grid * grid);
    let cell = token % (grid * grid);
    let mut channel = inside / (patch * patch);
    let mut place = inside % (patch * patch);
    if comptime!(channel_last) {
        channel = inside % channels;
        place = inside / channels;
    }
    let y = cell / grid * patch + place / patch;
    let x = cell % grid * patch + place % patch;
    ((image * channels + channel) * side + y) * side + x
}

/// Rows of a table: `[R, D]`, indices `[n]` → `[n, D]`.
#[cube(launch)]
pub fn gather_rows(table: &Tensor<f32>, indices: &Tensor<u32>, out: &mut Tensor<f32>, dim: usize) {
    if ABSOLUTE_POS < out.len() {
        let row = indices[ABSOLUTE_POS / dim] as usize;
        out[ABSOLUTE_POS] = table[row * dim + ABSOLUTE_POS % dim];
    }
}

/// One unit a value of dy: the first occurrence of an index adds all of them, in order.
#[cube(launch)]
pub fn gather_rows_grad(
    dy: &Tensor<f32>,
    indices: &Tensor<u32>,
    dtable: &mut Tensor<f32>,
    dim: usize,
    count: usize,
) {
    if ABSOLUTE_POS < count * dim {
        let (i, c) = (ABSOLUTE_POS / dim, ABSOLUTE_POS % dim);
        let index = indices[i];
        let mut earlier = false;
        for j in 0..i {
            earlier = earlier || indices[j] == index;
        }
        if !earlier {
            let mut sum = 0.0f32;
            for j in i..count {
                if indices[j] == index {
                    sum += dy[j * dim + c];
                }
            }
            dtable[index as usize * dim + c] += sum;
        }
    }
}

/// Tokens `first..` of x `[B, from, D]` to the tokens `at..` of out `[B, to, D]`, `count` of them.
#[cube(launch)]
pub fn copy_tokens(
    x: &Tensor<f32>,
    out: &mut Tensor<f32>,
    total: usize,
    count: usize,
    dim: usize,
    from: usize,
    first: usize,
    to: usize,
    at: usize,
) {
    if ABSOLUTE_POS < total {
        let row = ABSOLUTE_POS / dim;
        let (image, token, c) = (row / count, row % count, ABSOLUTE_POS % dim);
        out[((image * to) + at + token) * dim + c] = x[((image * from) + first + token) * dim + c];
    }
}

/// `[B, N, D] → [B, D]`
#[cube(launch)]
pub fn mean_tokens(x: &Tensor<f32>, out: &mut Tensor<f32>, tokens: usize, dim: usize) {
    if ABSOLUTE_POS < out.len() {
        let (image, c) = (ABSOLUTE_POS / dim, ABSOLUTE_POS % dim);
        let mut sum = 0.0f32;
        for token in 0..tokens {
            sum += x[(image * tokens + token) * dim + c];
        }
        out[ABSOLUTE_POS] = sum / tokens as f32;
    }
}

#[cube(launch)]
pub fn mean_tokens_grad(dy: &Tensor<f32>, dx: &mut Tensor<f32>, tokens: usize, dim: usize) {
    if ABSOLUTE_POS < dx.len() {
        let image = ABSOLUTE_POS / (tokens * dim);
        dx[ABSOLUTE_POS] += dy[image * dim + ABSOLUTE_POS % dim] / tokens as f32;
    }
}

/// Image b turned by k[b]·90° counter-clockwise: `[B, C, S, S]`.
#[cube(launch)]
pub fn rot90(
    x: &Tensor<f32>,
    turns: &Tensor<u32>,
    out: &mut Tensor<f32>,
    channels: usize,
    side: usize,
) {
    if ABSOLUTE_POS < out.len() {
        let plane = ABSOLUTE_POS / (side * side);
        let (i, j) = (ABSOLUTE_POS / side % side, ABSOLUTE_POS % side);
        let k = turns[plane / channels];
        let mut from = i * side + j;
        if k == 1 {
            from = j * side + (side - 1 - i);
        } else if k == 2 {
            from = (side - 1 - i) * side + (side - 1 - j);
        } else if k == 3 {
            from = (side - 1 - j) * side + i;
        }
        out[ABSOLUTE_POS] = x[plane * side * side + from];
    }
}
