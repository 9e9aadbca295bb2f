//! The marker segments of a JPEG file, read the way libjpeg reads them.
//!
//! Real files have bytes between segments, fill bytes, and markers that contradict each other.
//! libjpeg has a rule for each (`jdmarker.c`, `jdapimin.c`); the decoder knows some of them. So the
//! segments are read here first: what libjpeg passes over is left out before the decoder sees it.

use std::borrow::Cow;
use std::ops::Range;

use super::detail::Detail;
use crate::decode::DecodeError;

/// What the components of a picture mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    Grey,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// One component, as the frame header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    id: u8,
    /// Samples of each unit across, relative to other components.
    pub across: usize,
    /// Samples of each unit down.
    pub down: usize,
}

/// A frame header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub components: Vec<Component>,
    pub lossless: bool,
    progressive: bool,
    precision: u8,
}

/// A file whose segments were read.
#[derive(Debug)]
pub struct Stream<'a> {
    /// The file without what libjpeg passes over.
    pub bytes: Cow<'a, [u8]>,
    pub frame: Frame,
    pub color: Color,
    /// Whether an end-of-image marker follows the first scan's header.
    pub ended: bool,
}

mod marker {
    pub const TEMPORARY: u8 = 0x01;
    pub const FRAMES: std::ops::RangeInclusive<u8> = 0xC0..=0xCF;
    pub const HUFFMAN_TABLES: u8 = 0xC4;
    pub const ARITHMETIC_TABLES: u8 = 0xCC;
    pub const RESTARTS: std::ops::RangeInclusive<u8> = 0xD0..=0xD7;
    pub const START_OF_IMAGE: u8 = 0xD8;
    pub const END_OF_IMAGE: u8 = 0xD9;
    pub const START_OF_SCAN: u8 = 0xDA;
    pub const QUANTIZATION: u8 = 0xDB;
    pub const RESTART_INTERVAL: u8 = 0xDD;
    pub const LINES: u8 = 0xDC;
    pub const APPLICATION: std::ops::RangeInclusive<u8> = 0xE0..=0xEF;
    pub const JFIF: u8 = 0xE0;
    pub const ADOBE: u8 = 0xEE;
    pub const COMMENT: u8 = 0xFE;
}

/// Reads the segments of `bytes`.
///
/// # Errors
/// [`DecodeError::Content`] where libjpeg refuses the file, and for kinds that are not read.
pub fn read(bytes: &[u8]) -> Result<Stream<'_>, DecodeError> {
    if !bytes.starts_with(&[0xFF, marker::START_OF_IMAGE]) {
        return Err(DecodeError::Format);
    }
    let mut header = Header::default();
    let mut segments = Vec::new();
    let mut at = 2;
    // Up to the first scan, which is all that decides how the picture is read.
    loop {
        let (code, start) = next_marker(bytes, at).ok_or_else(cut_off)?;
        // Restart markers and the like have no content, and mean nothing here.
        if is_bare(code) {
            at = start + 2;
            continue;
        }
        if !has_segment(code) {
            return Err(content(match code {
                marker::END_OF_IMAGE => "it ends before any picture".to_owned(),
                marker::START_OF_IMAGE => "a second picture begins inside the header".to_owned(),
                _ => format!("the marker 0x{code:02X} is none of JPEG's"),
            }));
        }
        let body = segment(bytes, start)?;
        at = body.end;
        header.read(code, &bytes[body.clone()])?;
        segments.push((code, start, body));
        if code == marker::START_OF_SCAN {
            break;
        }
    }
    let frame = header
        .frame
        .take()
        .ok_or_else(|| content("a scan comes before the frame header".to_owned()))?;
    frame.check()?;
    let color = header.color(&frame)?;

    let mut kept = Kept::default();
    let mut detail = Detail::new(frame.components.iter().map(|component| component.id));
    kept.keep(0..2);
    for (code, start, body) in segments {
        if code == marker::START_OF_SCAN {
            detail.note(&bytes[body.clone()]);
        }
        // The decoder would let an Adobe marker win over JFIF's.
        let misleads = color == Color::YCbCr
            && code == marker::ADOBE
            && adobe_transform(&bytes[body.clone()]) == Some(0);
        if !misleads {
            kept.keep(start..body.end);
        }
    }
    let ended = keep_scans(bytes, at, &mut kept, &mut detail);
    if ended && frame.progressive && detail.is_made_up() {
        let reason = "its scans leave out detail, which libjpeg makes up by smoothing";
        return Err(content(reason.to_owned()));
    }
    Ok(Stream { bytes: kept.of(bytes), frame, color, ended })
}

/// Keeps what follows the first scan's header: entropy-coded data, and segments between scans.
/// Returns whether the image has an end. Where the data make no sense the rest is kept as it is:
/// the decoder tells what is wrong with it.
fn keep_scans(bytes: &[u8], mut at: usize, kept: &mut Kept, detail: &mut Detail) -> bool {
    loop {
        // Entropy-coded data: 0xFF is followed by 0x00 or is a marker, of which restarts belong to
        // it. More 0xFF before either are fill bytes.
        let Some((code, start)) = next_escape(bytes, at) else {
            kept.keep(at..bytes.len());
            return false;
        };
        let run = bytes[at..start].iter().rev().take_while(|&&byte| byte == 0xFF).count();
        kept.keep(at..start - run);
        at = start;
        if code == 0 || marker::RESTARTS.contains(&code) {
            kept.keep(start..start + 2);
            at = start + 2;
            continue;
        }
        // Segments between scans, and bytes between segments.
        let mut next = Some((code, start));
        loop {
            let Some((code, start)) = next else {
                kept.keep(at..bytes.len());
                return false;
            };
            if code == marker::END_OF_IMAGE {
                kept.keep(start..bytes.len());
                return true;
            }
            at = if is_bare(code) {
                start + 2
            } else {
                match has_segment(code).then(|| segment(bytes, start)) {
                    Some(Ok(segment)) => {
                        kept.keep(start..segment.end);
                        if code == marker::START_OF_SCAN {
                            detail.note(&bytes[segment.clone()]);
                        }
                        segment.end
                    }
                    _ => {
                        kept.keep(start..bytes.len());
                        let end = [0xFF, marker::END_OF_IMAGE];
                        return bytes[start..].windows(2).any(|pair| pair == end);
                    }
                }
            };
            if code == marker::START_OF_SCAN {
                break;
            }
            next = next_marker(bytes, at);
        }
    }
}

/// The next marker from `at` on, and where its last 0xFF is. Other bytes are passed over, and so
/// are escaped 0xFF.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        let (code, start) = next_escape(bytes, at)?;
        if code != 0 {
            return Some((code, start));
        }
        at = start + 2;
    }
}

/// The next byte that follows 0xFF and is not 0xFF itself, and where that 0xFF is.
fn next_escape(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let first = at + bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
    let code = first + bytes[first..].iter().position(|&byte| byte != 0xFF)?;
    Some((bytes[code], code - 1))
}

/// Whether a marker stands alone.
fn is_bare(code: u8) -> bool {
    marker::RESTARTS.contains(&code) || code == marker::TEMPORARY
}

/// Whether a length and that many bytes follow a marker.
fn has_segment(code: u8) -> bool {
    marker::FRAMES.contains(&code)
        || marker::APPLICATION.contains(&code)
        || matches!(
            code,
            marker::START_OF_SCAN
                | marker::QUANTIZATION
                | marker::RESTART_INTERVAL
                | marker::LINES
                | marker::COMMENT
        )
}

/// The content of the segment whose marker is at `start`.
fn segment(bytes: &[u8], start: usize) -> Result<Range<usize>, DecodeError> {
    let at = start + 2;
    let [high, low] = *bytes.get(at..at + 2).ok_or_else(cut_off)? else {
        return Err(cut_off());
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < 2 {
        return Err(content(format!(
            "a segment (marker 0x{:02X}) is {length} bytes long",
            bytes[start + 1]
        )));
    }
    if bytes.len() < at + length {
        return Err(cut_off());
    }
    Ok(at + 2..at + length)
}

fn cut_off() -> DecodeError {
    content("the file is cut off".to_owned())
}

fn content(text: String) -> DecodeError {
    DecodeError::Content(text)
}

/// Which ranges of a file the decoder shall see.
#[derive(Default)]
struct Kept(Vec<Range<usize>>);

impl Kept {
    fn keep(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.0.push(range),
        }
    }

    fn of(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        match &self.0[..] {
            [only] if only.len() == bytes.len() => Cow::Borrowed(bytes),
            ranges => Cow::Owned(ranges.iter().flat_map(|r| &bytes[r.clone()]).copied().collect()),
        }
    }
}

/// What the segments before the first scan tell.
#[derive(Default)]
struct Header {
    frame: Option<Frame>,
    jfif: bool,
    adobe_transform: Option<u8>,
}

impl Header {
    fn read(&mut self, code: u8, segment: &[u8]) -> Result<(), DecodeError> {
        match code {
            marker::JFIF => self.jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0"),
            marker::ADOBE => {
                self.adobe_transform = adobe_transform(segment).or(self.adobe_transform);
            }
            marker::HUFFMAN_TABLES | marker::ARITHMETIC_TABLES => {}
            code if marker::FRAMES.contains(&code) => {
                if self.frame.is_some() {
                    return Err(content("it has two frame headers".to_owned()));
                }
                self.frame = Some(Frame::read(code, segment)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// As libjpeg's `default_decompress_parms`.
    fn color(&self, frame: &Frame) -> Result<Color, DecodeError> {
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        Ok(match (ids.len(), self.adobe_transform) {
            (1, _) => Color::Grey,
            (3, _) if self.jfif => Color::YCbCr,
            (3, Some(0)) => Color::Rgb,
            (3, None) if ids == *b"RGB" => Color::Rgb,
            (3, _) => Color::YCbCr,
            (4, None | Some(0)) => Color::Cmyk,
            (4, _) => Color::Ycck,
            (count, _) => {
                return Err(content(format!(
                    "a picture of {count} components has no known colours"
                )));
            }
        })
    }
}

/// The colour transform of an Adobe segment, if it is one.
fn adobe_transform(segment: &[u8]) -> Option<u8> {
    segment.starts_with(b"Adobe").then(|| segment.get(11).copied()).flatten()
}

impl Frame {
    fn read(code: u8, segment: &[u8]) -> Result<Self, DecodeError> {
        let lossless = match code {
            0xC0..=0xC2 | 0xC9 | 0xCA => false,
            0xC3 | 0xCB => true,
            _ => {
                return Err(content(format!(
                    "frames of kind 0x{code:02X} (hierarchical) are not read"
                )));
            }
        };
        let [precision, h1, h0, w1, w0, count, components @ ..] = segment else {
            return Err(cut_off());
        };
        let components = components
            .chunks_exact(3)
            .take(usize::from(*count))
            .map(|c| Component {
                id: c[0],
                across: usize::from(c[1] >> 4),
                down: usize::from(c[1] & 15),
            })
            .collect::<Vec<_>>();
        if components.len() < usize::from(*count) {
            return Err(content("its frame header is too short".to_owned()));
        }
        Ok(Self {
            width: usize::from(u16::from_be_bytes([*w1, *w0])),
            height: usize::from(u16::from_be_bytes([*h1, *h0])),
            components,
            lossless,
            progressive: matches!(code, 0xC2 | 0xCA),
            precision: *precision,
        })
    }

    fn check(&self) -> Result<(), DecodeError> {
        if self.precision != 8 {
            return Err(content(format!(
                "its samples have {} bits, and only 8 are read; convert it to 8 bits",
                self.precision
            )));
        }
        if self.width == 0 || self.height == 0 {
            return Err(content(format!("its header tells {}×{} pixels", self.width, self.height)));
        }
        Ok(())
    }

    /// Largest sampling factors, across and down: those of the picture itself.
    pub fn full(&self) -> (usize, usize) {
        let largest =
            |of: fn(&Component) -> usize| self.components.iter().map(of).max().unwrap_or(1);
        (largest(|c| c.across), largest(|c| c.down))
    }
}
