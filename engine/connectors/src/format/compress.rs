//! gzip and zstd in pieces, with a bound on what comes out at once.
//!
//! In: compressed bytes in order, of one or several gzip members or zstd frames; or plain bytes.
//! Out: the plain bytes, or the compressed ones. It knows nothing of what they mean.

use std::io::Write;

use flate2::write::{GzEncoder, MultiGzDecoder};
use sluice_core::{Error, Result};
use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
use zstd::stream::write::Encoder as ZstdEncoder;

/// Compressed gzip taken at once. Deflate shrinks at most 1,032-fold, so that no more than 17 MiB
/// come out, whatever the file holds.
const GZIP_STEP_BYTES: usize = 16 * 1024;

/// Plain bytes that come out of zstd at once, which shrinks without a limit.
const ZSTD_STEP_BYTES: usize = 1024 * 1024;

/// zstd's own default: fast, and smaller than gzip.
const ZSTD_LEVEL: i32 = 3;

/// A way to compress a file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// gzip, RFC 1952.
    Gzip,
    /// zstd, RFC 8878.
    Zstd,
}

impl Codec {
    /// The codec that the ending of `path` says.
    pub fn of(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        match () {
            () if path.ends_with(".gz") => Some(Codec::Gzip),
            () if path.ends_with(".zst") => Some(Codec::Zstd),
            () => None,
        }
    }

    /// What names of such files end with, without a dot.
    pub fn ending(self) -> &'static str {
        match self {
            Codec::Gzip => "gz",
            Codec::Zstd => "zst",
        }
    }
}

/// A decompressor.
pub struct Expander {
    codec: Codec,
    inner: Expanding,
    path: String,
    /// Compressed bytes taken.
    taken: u64,
}

enum Expanding {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd { inner: zstd::stream::raw::Decoder<'static>, room: Vec<u8>, whole: bool },
}

impl std::fmt::Debug for Expander {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, taken, .. } = self;
        f.debug_struct("Expander").field("path", path).field("taken", taken).finish()
    }
}

impl Expander {
    /// A decompressor for the file that messages call `path`.
    pub fn new(codec: Codec, path: &str) -> Result<Self> {
        let inner = match codec {
            Codec::Gzip => Expanding::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Codec::Zstd => Expanding::Zstd {
                inner: zstd::stream::raw::Decoder::new()
                    .map_err(|e| Error::bug("zstd cannot begin").because(e))?,
                room: Vec::with_capacity(ZSTD_STEP_BYTES),
                whole: false,
            },
        };
        Ok(Self { codec, inner, path: path.to_string(), taken: 0 })
    }

    /// Takes the first bytes of `input`, appends what they hold to `out`, and gives the rest.
    /// Errors: unreadable when they are not compressed like this.
    pub fn push<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8]> {
        let taken = match &mut self.inner {
            Expanding::Gzip(inner) => {
                let step = input.len().min(GZIP_STEP_BYTES);
                inner.write_all(&input[..step]).map(|()| {
                    out.append(inner.get_mut());
                    step
                })
            }
            Expanding::Zstd { inner, room, whole } => zstd_step(inner, input, room).map(|step| {
                out.extend_from_slice(room);
                *whole = step.whole || (*whole && step.taken == 0);
                step.taken
            }),
        };
        let taken = taken.map_err(|e| broken(self.codec, &self.path, self.taken, e))?;
        self.taken += taken as u64;
        Ok(&input[taken..])
    }

    /// Ends. Errors: unreadable when the file is cut short.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let ended = match &mut self.inner {
            Expanding::Gzip(inner) => inner.try_finish().map(|()| out.append(inner.get_mut())),
            Expanding::Zstd { inner, room, whole } => loop {
                if *whole {
                    break Ok(());
                }
                match zstd_step(inner, &[], room) {
                    Ok(step) if room.is_empty() && !step.whole => {
                        break Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    Ok(step) => {
                        out.extend_from_slice(room);
                        *whole = step.whole;
                    }
                    Err(error) => break Err(error),
                }
            },
        };
        ended.map_err(|e| broken(self.codec, &self.path, self.taken, e))
    }
}

struct Step {
    taken: usize,
    /// Whether a frame ends here.
    whole: bool,
}

fn zstd_step(
    inner: &mut zstd::stream::raw::Decoder<'static>,
    input: &[u8],
    room: &mut Vec<u8>,
) -> std::io::Result<Step> {
    room.clear();
    let mut from = InBuffer::around(input);
    let mut to = OutBuffer::around(room);
    let left = inner.run(&mut from, &mut to)?;
    Ok(Step { taken: from.pos(), whole: left == 0 })
}

fn broken(codec: Codec, path: &str, at: u64, cause: std::io::Error) -> Error {
    let codec = match codec {
        Codec::Gzip => "gzip",
        Codec::Zstd => "zstd",
    };
    Error::unreadable(format!("the file cannot be decompressed path={path} at={at}"))
        .hint(format!("check that it is {codec} and whole, or leave it out of the path"))
        .because(cause)
}

/// A compressor in front of a growing piece of output; or none, and the bytes stay as they are.
pub enum Packer {
    /// Not compressed.
    Plain(Vec<u8>),
    /// gzip.
    Gzip(GzEncoder<Vec<u8>>),
    /// zstd.
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Packer::Plain(_) => "Plain",
            Packer::Gzip(_) => "Gzip",
            Packer::Zstd(_) => "Zstd",
        })
    }
}

impl Packer {
    /// A compressor for one file.
    pub fn new(codec: Option<Codec>) -> Result<Self> {
        Ok(match codec {
            None => Packer::Plain(Vec::new()),
            Some(Codec::Gzip) => {
                Packer::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
            Some(Codec::Zstd) => {
                Packer::Zstd(ZstdEncoder::new(Vec::new(), ZSTD_LEVEL).map_err(stopped)?)
            }
        })
    }

    /// Takes all of `plain`, which is empty then.
    pub fn push(&mut self, plain: &mut Vec<u8>) -> Result<()> {
        match self {
            Packer::Plain(out) if out.is_empty() => std::mem::swap(out, plain),
            Packer::Plain(out) => out.append(plain),
            Packer::Gzip(inner) => inner.write_all(plain).map_err(stopped)?,
            Packer::Zstd(inner) => inner.write_all(plain).map_err(stopped)?,
        }
        plain.clear();
        Ok(())
    }

    /// What is ready.
    pub fn take(&mut self) -> Vec<u8> {
        match self {
            Packer::Plain(out) => std::mem::take(out),
            Packer::Gzip(inner) => std::mem::take(inner.get_mut()),
            Packer::Zstd(inner) => std::mem::take(inner.get_mut()),
        }
    }

    /// Bytes held, with what the compressors keep in windows and tables.
    pub fn memory_bytes(&self) -> usize {
        const GZIP_BYTES: usize = 320 * 1024;
        const ZSTD_BYTES: usize = 4 * 1024 * 1024;
        match self {
            Packer::Plain(out) => out.capacity(),
            Packer::Gzip(inner) => GZIP_BYTES + inner.get_ref().capacity(),
            Packer::Zstd(inner) => ZSTD_BYTES + inner.get_ref().capacity(),
        }
    }

    /// Ends the file and gives its last bytes.
    pub fn finish(self) -> Result<Vec<u8>> {
        match self {
            Packer::Plain(out) => Ok(out),
            Packer::Gzip(inner) => inner.finish().map_err(stopped),
            Packer::Zstd(inner) => inner.finish().map_err(stopped),
        }
    }
}

fn stopped(cause: std::io::Error) -> Error {
    Error::bug("the compressor stopped").because(cause)
}

#[cfg(test)]
mod tests {
    use sluice_core::Kind;

    use super::*;

    fn packed(codec: Codec, plain: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new(Some(codec)).unwrap();
        let mut bytes = Vec::new();
        for piece in plain.chunks(1000) {
            packer.push(&mut piece.to_vec()).unwrap();
            bytes.append(&mut packer.take());
        }
        bytes.append(&mut packer.finish().unwrap());
        bytes
    }

    fn expanded(codec: Codec, packed: &[u8], piece: usize) -> Result<Vec<u8>> {
        let mut expander = Expander::new(codec, "a")?;
        let mut plain = Vec::new();
        for piece in packed.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() {
                let before = plain.len();
                rest = expander.push(rest, &mut plain)?;
                assert!(plain.len() - before <= 17 * 1024 * 1024);
            }
        }
        expander.finish(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn several_members_are_one_file_and_a_cut_one_is_told() {
        let plain: Vec<u8> = (0..100_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        for codec in [Codec::Gzip, Codec::Zstd] {
            let once = packed(codec, &plain);
            let twice = [once.clone(), once.clone()].concat();
            for piece in [1, 1000, 1 << 20] {
                assert_eq!(expanded(codec, &once, piece).unwrap(), plain);
                assert_eq!(expanded(codec, &twice, piece).unwrap(), plain.repeat(2));
            }
            for cut in [1, once.len() / 2, once.len() - 1, once.len() + 5] {
                let error = expanded(codec, &twice[..cut], 1000).unwrap_err();
                assert!(
                    error.kind() == Kind::Unreadable && error.message().contains("path=a at="),
                    "{error}"
                );
            }
            let error = expanded(codec, b"id,name\n1,not compressed\n", 1000).unwrap_err();
            assert_eq!(error.kind(), Kind::Unreadable, "{error}");
            assert!(expanded(codec, b"", 1000).is_err(), "a compressed file is never empty");
        }
    }

    #[test]
    fn a_little_that_holds_much_comes_out_in_steps() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        assert_eq!(expanded(Codec::Zstd, &bomb, 1 << 20).unwrap().len(), 64 << 20);
    }
}
