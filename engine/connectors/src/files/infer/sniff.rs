//! What the first bytes of a file say: what it holds, how it is compressed and encoded.
//!
//! In: bytes as they are stored. Out: a [`Head`] with the beginning as text. It trusts bytes more
//! than names.

use std::io::Read;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Text that is looked at: a thousand records of ordinary width.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// Fields with delimiters between them.
    Csv,
    /// One JSON object per line.
    Json,
    /// Apache Parquet.
    Parquet,
    /// Apache Avro.
    Avro,
    /// Nothing at all.
    Empty,
    /// Something that is no rows, by its name.
    Other(&'static str),
}

/// How bytes are compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packed {
    No,
    Gzip,
    Zstd,
}

/// The beginning of a file.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) content: Content,
    pub(super) packed: Packed,
    pub(super) encoding: &'static Encoding,
    /// The beginning as text, up to a whole line where lines are.
    pub(super) text: String,
    /// Whether the text is all of the file.
    pub(super) ended: bool,
}

/// Looks at the first bytes of a file; `whole` says that they are all of it.
pub(super) fn head(bytes: &[u8], whole: bool) -> Head {
    let (packed, plain, ended) = unpack(bytes, whole);
    let encoding = encoding(&plain);
    let (text, _, _) = encoding.decode(&plain);
    let mut text = text.into_owned();
    if !ended && let Some(end) = text.rfind('\n') {
        text.truncate(end + 1);
    }
    let content = content(&plain, &text);
    Head { content, packed, encoding, text, ended }
}

/// The plain bytes at the beginning, and whether they are all.
fn unpack(bytes: &[u8], whole: bool) -> (Packed, Vec<u8>, bool) {
    let packed = match bytes {
        [0x1f, 0x8b, ..] => Packed::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packed::Zstd,
        _ => Packed::No,
    };
    let (plain, ended) = match packed {
        Packed::No => {
            let cut = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
            (cut.to_vec(), whole && cut.len() == bytes.len())
        }
        Packed::Gzip => some(flate2::read::MultiGzDecoder::new(bytes)),
        Packed::Zstd => match zstd::stream::read::Decoder::new(bytes) {
            Ok(decoder) => some(decoder),
            Err(_) => (Vec::new(), false),
        },
    };
    (packed, plain, ended && whole)
}

/// What can be read, up to a limit or to where the bytes are cut; and whether the end was reached.
fn some(mut from: impl Read) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    while plain.len() < TEXT_BYTES_MAX {
        match from.read(&mut piece) {
            Ok(0) => return (plain, true),
            Ok(read) => plain.extend_from_slice(&piece[..read]),
            Err(_) => break,
        }
    }
    (plain, false)
}

/// The encoding of a text: by its mark, by its zeros, or the one that its bytes are valid in.
fn encoding(plain: &[u8]) -> &'static Encoding {
    if let Some((encoding, _)) = Encoding::for_bom(plain) {
        return encoding;
    }
    let zeros = |odd: usize| plain.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
    let quarter = plain.len() / 8;
    match (zeros(0) > quarter, zeros(1) > quarter) {
        (false, true) => return UTF_16LE,
        (true, false) => return UTF_16BE,
        _ => {}
    }
    match std::str::from_utf8(plain) {
        Ok(_) => UTF_8,
        // A character that is cut at the end is no sign of another encoding.
        Err(error) if error.error_len().is_none() => UTF_8,
        Err(_) => WINDOWS_1252,
    }
}

fn content(plain: &[u8], text: &str) -> Content {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    match plain {
        [] => return Content::Empty,
        [b'P', b'A', b'R', b'1', ..] => return Content::Parquet,
        [b'O', b'b', b'j', 1, ..] => return Content::Avro,
        [b'P', b'K', 3, 4, ..] => return Content::Other("a zip archive or an Excel workbook"),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => return Content::Other("an old Excel workbook"),
        [b'%', b'P', b'D', b'F', ..] => return Content::Other("a PDF"),
        [b'O', b'R', b'C', ..] => return Content::Other("an ORC file"),
        [b'B', b'Z', b'h', ..] => return Content::Other("compressed by bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return Content::Other("compressed by xz"),
        _ => {}
    }
    let line = start.lines().next().unwrap_or("");
    let object = serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v.is_object());
    match start.chars().next() {
        None => Content::Empty,
        Some('{') if object => Content::Json,
        Some('{') => Content::Other("JSON that is not one object per line"),
        Some('[') if start[1..].trim_start().starts_with('{') => Content::Json,
        Some('<') => Content::Other("XML or HTML"),
        Some(_) if start.chars().take(1024).filter(|c| is_binary(*c)).count() > 8 => {
            Content::Other("binary")
        }
        Some(_) => Content::Csv,
    }
}

fn is_binary(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{80}'..='\u{9f}')
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_are_known_by_their_bytes() {
        let cases: [(&[u8], Content, &str); 11] = [
            (b"a,b\n1,2\n", Content::Csv, "UTF-8"),
            (b"\xef\xbb\xbfa;b\n", Content::Csv, "UTF-8"),
            (b"name\nM\xfcller\n", Content::Csv, "windows-1252"),
            (b"\xff\xfea\0,\0b\0\n\0", Content::Csv, "UTF-16LE"),
            (b"a\0,\0b\0\n\x001\0,\x002\0\n\0", Content::Csv, "UTF-16LE"),
            (b"\0a\0,\0b\0\n", Content::Csv, "UTF-16BE"),
            (b"{\"a\": 1}\n{\"a\": 2}\n", Content::Json, "UTF-8"),
            (b"PAR1....", Content::Parquet, "UTF-8"),
            (b"", Content::Empty, "UTF-8"),
            (b"<html>", Content::Other("XML or HTML"), "UTF-8"),
            (b"[\n{\"a\": 1}, {\"a\"", Content::Json, "UTF-8"),
        ];
        for (bytes, content, encoding) in cases {
            let head = head(bytes, true);
            assert_eq!((head.content, head.encoding.name()), (content, encoding), "{bytes:?}");
        }
    }

    #[test]
    fn compressed_text_is_seen_through_whole_or_cut() {
        let text = "id,amount\n".to_string() + &"1,2.5\n".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(text.as_bytes(), 3).unwrap();
        for (bytes, packed) in [(gzip, Packed::Gzip), (zstd, Packed::Zstd)] {
            let head = head(&bytes, true);
            assert_eq!((head.packed, head.content, head.ended), (packed, Content::Csv, true));
            assert_eq!(head.text, text);
            let cut = super::head(&bytes[..bytes.len() - 4], false);
            assert_eq!((cut.packed, cut.ended), (packed, false));
        }
    }
}
