//! What animated WebP files need before they are decoded.

use std::borrow::Cow;

use crate::decode::DecodeError;

/// The flag of a frame that replaces the canvas under it.
const NO_BLENDING: u8 = 2;

/// The file with its first frame marked as one that replaces the canvas under it.
///
/// libwebp, and so Pillow, blends no first frame with the empty canvas; the decoder would, and its
/// colours change where they are transparent.
///
/// # Errors
/// [`DecodeError::Content`] for a first frame whose sizes contradict each other, which the decoder does
/// not look at.
pub fn with_plain_first_frame(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let Some(at) = first_frame(bytes) else { return Ok(Cow::Borrowed(bytes)) };
    let Some(header) = bytes.get(at..at + 16) else { return Ok(Cow::Borrowed(bytes)) };
    let three = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], 0]) + 1;
    let picture = lossy_size(bytes, at + 16);
    if let Some(size) = picture.filter(|&size| size != (three(6), three(9))) {
        let (width, height) = (three(6), three(9));
        return Err(DecodeError::Content(format!(
            "its first frame is {width}×{height} by its header and {}×{} by its content",
            size.0, size.1
        )));
    }
    if header[15] & NO_BLENDING != 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut bytes = bytes.to_vec();
    bytes[at + 15] |= NO_BLENDING;
    Ok(Cow::Owned(bytes))
}

/// Where the content of the first `ANMF` chunk begins.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let mut at = b"RIFF____WEBP".len();
    while !bytes.get(at..)?.starts_with(b"ANMF") {
        at = next_chunk(bytes, at)?;
    }
    Some(at + 8)
}

/// Where the chunk after the one at `at` begins.
fn next_chunk(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at + 4..at + 8)?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    at.checked_add(8)?.checked_add(length.checked_next_multiple_of(2)?)
}

/// Width and height of a lossy picture whose opacity is in the chunk at `at`.
fn lossy_size(bytes: &[u8], at: usize) -> Option<(u32, u32)> {
    if !bytes.get(at..)?.starts_with(b"ALPH") {
        return None;
    }
    // Behind the frame's tag and the start code, in 14 bits each.
    let content = next_chunk(bytes, at)?.checked_add(8 + 6)?;
    let size = bytes.get(content..content.checked_add(4)?)?;
    let side = |i: usize| u32::from(u16::from_le_bytes([size[i], size[i + 1]]) & 0x3FFF);
    Some((side(0), side(2)))
}
