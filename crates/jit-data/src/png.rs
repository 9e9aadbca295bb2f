//! What is looked at in PNG files before they are decoded.

use crate::decode::DecodeError;

/// Refuses a palette that is no whole number of colours, which the decoder does not expect.
///
/// # Errors
/// [`DecodeError::Content`] with its length.
pub fn check_palette(bytes: &[u8]) -> Result<(), DecodeError> {
    const SIGNATURE: usize = 8;
    let mut at = SIGNATURE;
    while let Some(&[a, b, c, d]) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes([a, b, c, d]);
        let kind = bytes.get(at + 4..at + 8).unwrap_or_default();
        if kind == b"PLTE" && !length.is_multiple_of(3) {
            return Err(DecodeError::Content(format!(
                "its palette of {length} bytes is no whole number of colours"
            )));
        }
        // Length, kind and checksum stand around the content.
        match (length as usize).checked_add(12).and_then(|chunk| at.checked_add(chunk)) {
            Some(next) if kind != b"IDAT" => at = next,
            _ => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flate2::Crc;

    use crate::decode::decode_bytes;

    #[test]
    fn a_palette_of_broken_colours_is_refused() {
        let mut png = include_bytes!("../tests/decode/png_palette.png").to_vec();
        let at = png.windows(4).position(|kind| kind == b"PLTE").unwrap();
        let content = [&b"PLTE"[..], &[7; 49]].concat();
        let mut crc = Crc::new();
        crc.update(&content);
        let old = u32::from_be_bytes(*png[at - 4..].first_chunk().unwrap()) as usize;
        let new = [&49_u32.to_be_bytes()[..], &content, &crc.sum().to_be_bytes()].concat();
        png.splice(at - 4..at + 4 + old + 4, new);
        let message = decode_bytes(&png).unwrap_err().to_string();
        assert_eq!(message, "its palette of 49 bytes is no whole number of colours");
    }
}
