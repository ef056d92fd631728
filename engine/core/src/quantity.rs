//! Durations and sizes as people write them: `500ms`, `2 days`, `64MiB`.

use std::time::Duration;

use crate::{Error, Result};

/// Reads `500ms`, `5s`, `2 days`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    humantime::parse_duration(text.trim()).map_err(|e| {
        Error::config(format!("not a duration text={text:?}"))
            .hint("write it like 500ms, 5s, 10min, 2 days")
            .because(e)
    })
}

/// Reads `64MiB`, `1GB`, `4096`; the result is in bytes.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let size: Result<bytesize::ByteSize, String> = text.trim().parse();
    size.map(|s| s.as_u64()).map_err(|e| {
        Error::config(format!("not a size text={text:?}"))
            .hint("write it like 64MiB, 1GiB or a number of bytes")
            .because(e)
    })
}

/// Writes bytes as `1.5 MiB`.
pub fn format_bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Counts things: `1 row`, `2 rows`.
pub fn format_count(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        let cases = [("500ms", 500), ("5s", 5_000), ("2 days", 172_800_000)];
        for (text, ms) in cases {
            assert_eq!(parse_duration(text).map(|d| d.as_millis()).ok(), Some(ms), "{text}");
        }
        let sizes = [("64MiB", 67_108_864), ("1kB", 1_000), ("4096", 4_096)];
        for (text, bytes) in sizes {
            assert_eq!(parse_bytes(text).ok(), Some(bytes), "{text}");
        }
        assert!(parse_duration("soon").is_err());
        assert!(parse_bytes("a lot").is_err());
    }
}
