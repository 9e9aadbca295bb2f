//! Small numbers in runs and packed bits: levels, and numbers of dictionary entries.

use super::Fault;
use super::page::damaged;

/// The first `count` numbers of `width` bits; the caller has bounded their number.
///
/// # Errors
/// When there are fewer, or a width is beyond 32 bits.
pub fn hybrid(mut bytes: &[u8], width: u32, count: usize) -> Result<Vec<u32>, Fault> {
    if width > 32 {
        return Err(damaged());
    }
    let mut out = Vec::with_capacity(count.min(1 << 20));
    let width_bytes = width.div_ceil(8) as usize;
    while out.len() < count {
        let head = varint(&mut bytes)?;
        let left = count - out.len();
        if head & 1 == 0 {
            let (value, rest) = bytes.split_at_checked(width_bytes).ok_or_else(damaged)?;
            let value = value.iter().rev().fold(0, |v, &byte| v << 8 | u32::from(byte));
            let run = usize::try_from(head >> 1).unwrap_or(usize::MAX);
            if run == 0 {
                return Err(damaged());
            }
            out.extend(std::iter::repeat_n(value, run.min(left)));
            bytes = rest;
        } else {
            // Groups of eight, the last of which may be cut short where the page ends.
            let groups = usize::try_from(head >> 1).map_err(|_| damaged())?;
            let values = groups.saturating_mul(8).min(left);
            let needed = (values * width as usize).div_ceil(8);
            let packed = bytes.get(..needed).filter(|_| values > 0).ok_or_else(damaged)?;
            out.extend((0..values).map(|i| unpack(packed, i * width as usize, width)));
            let whole = groups.saturating_mul(width as usize);
            bytes = bytes.get(whole..).unwrap_or_default();
        }
    }
    Ok(out)
}

/// `width` bits from bit `at` on.
fn unpack(bytes: &[u8], at: usize, width: u32) -> u32 {
    let mut value = 0u64;
    for (i, byte) in bytes[at / 8..].iter().take(5).enumerate() {
        value |= u64::from(*byte) << (8 * i);
    }
    (value >> (at % 8) & ((1 << width) - 1)) as u32
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(damaged)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_packed_bits_mix() {
        // The format's own example: 0..8 in 3 bits each; then five times 6.
        let bytes = [3, 0b1000_1000, 0b1100_0110, 0b1111_1010, 10, 6];
        let expected = [0, 1, 2, 3, 4, 5, 6, 7, 6, 6, 6, 6, 6];
        assert_eq!(hybrid(&bytes, 3, 13).unwrap(), expected);
        assert_eq!(hybrid(&bytes, 3, 9).unwrap(), expected[..9]);
        assert!(hybrid(&bytes, 3, 14).is_err());
        assert_eq!(hybrid(&[8], 0, 4).unwrap(), [0; 4]);
        assert_eq!(hybrid(&[2, 1, 2, 3, 4], 32, 1).unwrap(), [0x0403_0201]);
        let wide = [3, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(hybrid(&wide, 11, 8).unwrap(), [2047; 8]);
    }

    #[test]
    fn lying_runs_allocate_no_more_than_asked() {
        assert_eq!(hybrid(&[0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 1], 1, 3).unwrap(), [1; 3]);
        assert!(hybrid(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1], 1, 30).is_err());
        assert!(hybrid(&[0, 0], 1, 3).is_err());
        assert!(hybrid(&[2, 0], 33, 1).is_err());
    }
}
