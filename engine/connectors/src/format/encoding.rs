//! Encodings of text other than UTF-8.
//!
//! In: bytes of a text file. Out: the same text in UTF-8. Encodings with one byte per character
//! hold ASCII as it is, so records are found, files are cut and positions are counted in the bytes
//! as they are stored, and only values are decoded. UTF-16 becomes UTF-8 as it is read. Nothing is
//! replaced: what is no character stays something that is no UTF-8 either, and its row is rejected.

use std::borrow::Cow;

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE, WINDOWS_1252, mem};
use schemars::JsonSchema;
use serde::Deserialize;

/// Stands for what is no character: no UTF-8 text has this byte.
const NO_CHARACTER: u8 = 0xFF;

/// How the characters of a file are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-16, big-endian if its byte order mark says so.
    #[serde(rename = "utf-16")]
    Utf16,
    /// UTF-16, little-endian.
    #[serde(rename = "utf-16le")]
    Utf16Le,
    /// UTF-16, big-endian.
    #[serde(rename = "utf-16be")]
    Utf16Be,
    /// ISO 8859-1.
    #[serde(rename = "latin-1")]
    Latin1,
    /// What Windows writes in western Europe.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

impl Encoding {
    /// A decoder that everything read goes through; none for the encodings that need none.
    pub fn transcoder(self) -> Option<Utf16> {
        let decoder = match self {
            // Goes over to big-endian when it sees the mark of that.
            Encoding::Utf16 => UTF_16LE.new_decoder(),
            Encoding::Utf16Le => UTF_16LE.new_decoder_with_bom_removal(),
            Encoding::Utf16Be => UTF_16BE.new_decoder_with_bom_removal(),
            Encoding::Utf8 | Encoding::Latin1 | Encoding::Windows1252 => return None,
        };
        Some(Utf16 { decoder })
    }

    /// Whether values have to go through [`Encoding::text`].
    pub(super) fn is_single_byte(self) -> bool {
        matches!(self, Encoding::Latin1 | Encoding::Windows1252)
    }

    /// A value as UTF-8; untouched where the bytes are meant to be that already.
    pub(super) fn text(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        let text = match self {
            Encoding::Latin1 => mem::decode_latin1(bytes),
            Encoding::Windows1252 => WINDOWS_1252.decode_without_bom_handling(bytes).0,
            _ => return Cow::Borrowed(bytes),
        };
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }
}

/// UTF-16 in pieces to UTF-8.
pub struct Utf16 {
    decoder: Decoder,
}

impl std::fmt::Debug for Utf16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Utf16").field("encoding", &self.decoder.encoding().name()).finish()
    }
}

impl Utf16 {
    /// Appends the text of the next bytes to `out`; `ended` says that they are the last.
    pub fn push(&mut self, bytes: &[u8], ended: bool, out: &mut Vec<u8>) {
        let mut rest = bytes;
        loop {
            let filled = out.len();
            let most = self.decoder.max_utf8_buffer_length_without_replacement(rest.len());
            out.resize(filled + most.unwrap_or(4 * rest.len() + 16), 0);
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(rest, &mut out[filled..], ended);
            out.truncate(filled + written);
            rest = &rest[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(_, _) => out.push(NO_CHARACTER),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(encoding: Encoding, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut transcoder = encoding.transcoder().unwrap();
        let mut out = Vec::new();
        for bytes in bytes.chunks(piece) {
            transcoder.push(bytes, false, &mut out);
        }
        transcoder.push(&[], true, &mut out);
        out
    }

    #[test]
    fn utf16_becomes_utf8_in_pieces_of_any_size() {
        let text = "id,naïve €\n𝄞,x\n";
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = |mark: [u8; 2], bytes: &[u8]| [&mark[..], bytes].concat();
        let cases = [
            (Encoding::Utf16, marked([0xFF, 0xFE], &le)),
            (Encoding::Utf16, marked([0xFE, 0xFF], &be)),
            (Encoding::Utf16, le.clone()),
            (Encoding::Utf16Le, marked([0xFF, 0xFE], &le)),
            (Encoding::Utf16Le, le),
            (Encoding::Utf16Be, be),
        ];
        for (encoding, bytes) in cases {
            for piece in [1, 2, 3, 7, 100] {
                assert_eq!(utf16(encoding, &bytes, piece), text.as_bytes(), "{encoding:?}");
            }
        }
    }

    #[test]
    fn half_a_character_is_no_utf8() {
        let lone = [b'a', 0, 0x00, 0xD8, b'b', 0, b'c'];
        for piece in [1, 2, 7] {
            let out = utf16(Encoding::Utf16Le, &lone, piece);
            assert_eq!(out, [b'a', NO_CHARACTER, b'b', NO_CHARACTER]);
        }
    }

    #[test]
    fn one_byte_is_one_character() {
        let text = |encoding: Encoding, bytes: &[u8]| {
            String::from_utf8(encoding.text(bytes).into_owned()).unwrap()
        };
        assert_eq!(text(Encoding::Latin1, b"caf\xe9 \x80"), "café \u{80}");
        assert_eq!(text(Encoding::Windows1252, b"caf\xe9 \x80"), "café €");
        assert_eq!(Encoding::Utf8.text(b"\xe9"), Cow::Borrowed(b"\xe9"));
    }
}
