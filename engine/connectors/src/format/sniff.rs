//! What the first bytes of a file say about it.
//!
//! In: the first bytes as stored. Out: a format, compression or encoding that they are a sign of;
//! none when they are no such sign. It decides nothing: whoever asks knows what was declared.

/// Bytes that [`sniff`] looks at.
const SNIFFED_BYTES: usize = 256;

/// What a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The mark or the zero bytes of UTF-16, little-endian.
    Utf16Le,
    /// The mark or the zero bytes of UTF-16, big-endian.
    Utf16Be,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// Parquet.
    Parquet,
    /// An Avro object container.
    Avro,
}

impl Sign {
    /// What it is a sign of, and the setting and value under which such a file is read.
    pub fn meaning(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Sign::Utf16Le | Sign::Utf16Be => ("in UTF-16", "encoding", "utf-16"),
            Sign::Gzip => ("compressed with gzip", "compression", "gzip"),
            Sign::Zstd => ("compressed with zstd", "compression", "zstd"),
            Sign::Parquet => ("parquet", "format", "parquet"),
            Sign::Avro => ("avro", "format", "avro"),
        }
    }
}

/// What `bytes`, with which a file begins, are a sign of.
pub fn sniff(bytes: &[u8]) -> Option<Sign> {
    // Text may begin with PAR1, but hardly with what follows it there.
    const MAGIC: [(&[u8], Sign); 6] = [
        (&[0xFF, 0xFE], Sign::Utf16Le),
        (&[0xFE, 0xFF], Sign::Utf16Be),
        (&[0x1F, 0x8B], Sign::Gzip),
        (&[0x28, 0xB5, 0x2F, 0xFD], Sign::Zstd),
        (b"PAR1\x15", Sign::Parquet),
        (b"Obj\x01", Sign::Avro),
    ];
    let magic = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
    magic.map(|(_, sign)| *sign).or_else(|| zeros(&bytes[..bytes.len().min(SNIFFED_BYTES)]))
}

/// UTF-16 without a mark: in a header of Latin letters every second byte is zero.
fn zeros(bytes: &[u8]) -> Option<Sign> {
    let pairs = bytes.len() / 2;
    let zeros = |of: usize| bytes.chunks_exact(2).filter(|pair| pair[of] == 0).count();
    let (high_first, low_first) = (zeros(0), zeros(1));
    let most = |count: usize| pairs >= 2 && 4 * count >= 3 * pairs;
    match (most(high_first), most(low_first)) {
        (true, false) if low_first == 0 => Some(Sign::Utf16Be),
        (false, true) if high_first == 0 => Some(Sign::Utf16Le),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_told_and_text_is_none() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: [(Vec<u8>, Option<Sign>); 11] = [
            (b"\xFF\xFEi\0d\0".to_vec(), Some(Sign::Utf16Le)),
            (b"\xFE\xFF\0i\0d".to_vec(), Some(Sign::Utf16Be)),
            (b"\0i\0d\0,\0n".to_vec(), Some(Sign::Utf16Be)),
            (utf16("id,prix €\n1,2\n"), Some(Sign::Utf16Le)),
            (b"\x1F\x8B\x08".to_vec(), Some(Sign::Gzip)),
            (b"\x28\xB5\x2F\xFD\0".to_vec(), Some(Sign::Zstd)),
            (b"PAR1\x15\x04".to_vec(), Some(Sign::Parquet)),
            (b"\xEF\xBB\xBFid,name\n".to_vec(), None),
            (b"id,name\n1,\0\0\0\n".to_vec(), None),
            (b"\0\0\0\0\0\0".to_vec(), None),
            (Vec::new(), None),
        ];
        for (bytes, sign) in cases {
            assert_eq!(sniff(&bytes), sign, "{bytes:?}");
        }
    }
}
