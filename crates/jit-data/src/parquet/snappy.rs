//! Snappy, with a way into the middle: its compressors cut their input into blocks of 64 KiB that do
//! not refer to each other, so that where the blocks begin suffices to decode a few of them.

use super::Fault;

/// Bytes of a block once it is decoded.
pub const BLOCK: usize = 1 << 16;

/// What a compressed piece stands for.
enum Element {
    /// So many bytes, from this position of the compressed ones on.
    Literal { at: usize, length: usize },
    /// So many bytes again, from so far back.
    Copy { back: usize, length: usize },
}

impl Element {
    fn length(&self) -> usize {
        match self {
            Self::Literal { length, .. } | Self::Copy { length, .. } => *length,
        }
    }
}

/// Where the first element is, and how many bytes it all decodes to.
fn preamble(bytes: &[u8]) -> Result<(usize, usize), Fault> {
    let mut length = 0u64;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7F) << (7 * i);
        if *byte < 0x80 {
            return Ok((i + 1, length as usize));
        }
    }
    Err(damaged())
}

/// The element at `at`, and where the next one is.
fn element(bytes: &[u8], at: usize) -> Result<(Element, usize), Fault> {
    let number = |from: usize, n: usize| -> Result<usize, Fault> {
        let bytes = bytes.get(from..from + n).ok_or_else(damaged)?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    };
    let tag = usize::from(*bytes.get(at).ok_or_else(damaged)?);
    let (length, at) = (tag >> 2, at + 1);
    Ok(match tag & 3 {
        0 => {
            let (length, at) = match length {
                0..60 => (length + 1, at),
                long => (number(at, long - 59)? + 1, at + long - 59),
            };
            let next = at.checked_add(length).filter(|&end| end <= bytes.len());
            (Element::Literal { at, length }, next.ok_or_else(damaged)?)
        }
        1 => {
            let back = (tag >> 5) << 8 | number(at, 1)?;
            (Element::Copy { back, length: (length & 7) + 4 }, at + 1)
        }
        2 => (Element::Copy { back: number(at, 2)?, length: length + 1 }, at + 2),
        _ => (Element::Copy { back: number(at, 4)?, length: length + 1 }, at + 4),
    })
}

/// Appends what the elements of `bytes` from `at` on stand for. Copies do not reach in front of what
/// is appended; `limit` bytes are enough.
fn append(bytes: &[u8], mut at: usize, out: &mut Vec<u8>, limit: usize) -> Result<(), Fault> {
    let first = out.len();
    while at < bytes.len() {
        let (element, next) = element(bytes, at)?;
        if element.length() > limit - (out.len() - first) {
            return Err(damaged());
        }
        match element {
            Element::Literal { at, length } => out.extend_from_slice(&bytes[at..at + length]),
            Element::Copy { back, length } => {
                let start = out.len().checked_sub(back).filter(|&start| start >= first && back > 0);
                let start = start.ok_or_else(damaged)?;
                if back >= length {
                    out.extend_from_within(start..start + length);
                } else {
                    (start..start + length).for_each(|i| out.push(out[i]));
                }
            }
        }
        at = next;
    }
    if out.len() - first == limit { Ok(()) } else { Err(damaged()) }
}

/// Decodes it all, which has to be `length` bytes; the caller has bounded them.
///
/// # Errors
/// When the bytes are damaged.
pub fn decode(bytes: &[u8], length: usize) -> Result<Vec<u8>, Fault> {
    let (at, claimed) = preamble(bytes)?;
    if claimed != length {
        return Err(damaged());
    }
    // What three bytes stand for at most; the rest would be a lie.
    let mut out = Vec::with_capacity(length.min(64 * bytes.len()));
    append(bytes, at, &mut out, length)?;
    Ok(out)
}

/// Where each block of [`BLOCK`] decoded bytes begins among the compressed ones, and their end; `None`
/// where blocks refer to each other.
///
/// # Errors
/// When the bytes are damaged.
pub fn blocks(bytes: &[u8]) -> Result<Option<Vec<u32>>, Fault> {
    let (mut at, length) = preamble(bytes)?;
    let mut starts = Vec::with_capacity(length.min(64 * bytes.len()) / BLOCK + 2);
    let mut out = 0;
    while at < bytes.len() {
        let within = out % BLOCK;
        if within == 0 {
            starts.push(at as u32);
        }
        let (element, next) = element(bytes, at)?;
        let before = match element {
            Element::Literal { .. } => 0,
            Element::Copy { back, .. } => back,
        };
        if within + element.length() > BLOCK || before > within {
            return Ok(None);
        }
        out += element.length();
        at = next;
    }
    starts.push(at as u32);
    if out == length { Ok(Some(starts)) } else { Err(damaged()) }
}

/// Appends one block, `length` bytes long, whose compressed bytes are given.
///
/// # Errors
/// When they are damaged.
pub fn append_block(bytes: &[u8], out: &mut Vec<u8>, length: usize) -> Result<(), Fault> {
    append(bytes, 0, out, length)
}

fn damaged() -> Fault {
    Fault::new("a page is damaged: it does not decompress")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs, noise and repeats of both, longer than a few blocks.
    fn data(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut out: Vec<u8> = Vec::new();
        while out.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            let n = (state >> 33) as usize % 3000 + 1;
            match (state >> 60) % 3 {
                0 => out.extend((0..n).map(|i| (state >> (i % 57)) as u8 ^ i as u8)),
                1 => out.extend(std::iter::repeat_n(state as u8, n)),
                _ => out.extend_from_within(out.len().saturating_sub(n)..),
            }
        }
        out.truncate(length);
        out
    }

    #[test]
    fn wholes_and_blocks_decode_to_what_was_compressed() {
        for (seed, length) in [(1, 0), (2, 1), (3, BLOCK), (4, BLOCK + 1), (5, 300_000)] {
            let plain = data(seed, length);
            let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
            assert_eq!(decode(&packed, length).unwrap(), plain);
            let starts = blocks(&packed).unwrap().unwrap();
            assert_eq!(starts.len(), length.div_ceil(BLOCK) + 1);
            for (block, ends) in plain.chunks(BLOCK).zip(starts.windows(2)) {
                let mut out = vec![7];
                let bytes = &packed[ends[0] as usize..ends[1] as usize];
                append_block(bytes, &mut out, block.len()).unwrap();
                assert_eq!(&out[1..], block);
            }
            assert!(decode(&packed, length + 1).is_err());
        }
    }

    proptest! {
        /// As the other decoder, whatever the bytes.
        #[test]
        fn damage_is_an_error_or_what_the_other_decoder_makes_of_it(
            seed in 0u64..50,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let plain = data(seed, 5000);
            let mut packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
            for (at, value) in changes {
                let at = at.index(packed.len());
                packed[at] = value;
            }
            let theirs = snap::raw::Decoder::new().decompress_vec(&packed).ok();
            let length = snap::raw::decompress_len(&packed).unwrap_or(0).min(1 << 20);
            prop_assert_eq!(decode(&packed, length).ok(), theirs.filter(|t| t.len() == length));
            let _ = blocks(&packed);
        }
    }
}
