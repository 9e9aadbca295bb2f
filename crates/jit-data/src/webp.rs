//! What animated WebP files need before they are decoded.

use std::borrow::Cow;

/// The file with its first frame marked as one that replaces the canvas under it.
///
/// libwebp, and so Pillow, blends no first frame with the empty canvas; the decoder would, and its
/// colours change where they are transparent.
pub fn with_plain_first_frame(bytes: &[u8]) -> Cow<'_, [u8]> {
    const NO_BLENDING: u8 = 2;
    match first_frame(bytes).map(|at| at + 15) {
        Some(flags) if bytes.get(flags).is_some_and(|byte| byte & NO_BLENDING == 0) => {
            let mut bytes = bytes.to_vec();
            bytes[flags] |= NO_BLENDING;
            Cow::Owned(bytes)
        }
        _ => Cow::Borrowed(bytes),
    }
}

/// Where the content of the first `ANMF` chunk begins.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let mut at = b"RIFF____WEBP".len();
    loop {
        let header = bytes.get(at..at + 8)?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if header.starts_with(b"ANMF") {
            return Some(at + 8);
        }
        at = at.checked_add(8)?.checked_add(length.checked_next_multiple_of(2)?)?;
    }
}
