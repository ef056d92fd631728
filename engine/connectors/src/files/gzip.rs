//! gzip in pieces, with a bound on what comes out at once.
//!
//! In: compressed bytes in order, of one or several gzip members. Out: plain bytes. It knows
//! nothing of what they mean.

use std::io::Write;

use flate2::write::MultiGzDecoder;
use sluice_core::{Error, Result};

/// Compressed bytes taken at once. Deflate shrinks at most 1,032-fold, so that no more than 17 MiB
/// come out, whatever the file holds.
const STEP_BYTES: usize = 16 * 1024;

/// A decompressor.
#[derive(Debug)]
pub(super) struct Gunzip {
    inner: MultiGzDecoder<Vec<u8>>,
    path: String,
}

impl Gunzip {
    /// A decompressor for the file that messages call `path`.
    pub(super) fn new(path: &str) -> Self {
        Self { inner: MultiGzDecoder::new(Vec::new()), path: path.to_string() }
    }

    /// Takes the first bytes of `input`, appends what they hold to `out`, and gives the rest.
    /// Errors: `Unreadable` when they are not gzip.
    pub(super) fn push<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8]> {
        let (now, rest) = input.split_at(input.len().min(STEP_BYTES));
        self.inner.write_all(now).map_err(|e| broken(&self.path, e))?;
        out.append(self.inner.get_mut());
        Ok(rest)
    }

    /// Ends. Errors: `Unreadable` when the file is cut short.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.inner.try_finish().map_err(|e| broken(&self.path, e))?;
        out.append(self.inner.get_mut());
        Ok(())
    }
}

fn broken(path: &str, cause: std::io::Error) -> Error {
    Error::unreadable(format!("the file cannot be decompressed path={path}"))
        .hint("check that it is gzip and whole, or leave it out of the path")
        .because(cause)
}
