//! The bytes of a text file, decompressed and in an encoding that decoders know.
//!
//! In: a range of a stored file. Out: its text in pieces, while the next bytes are on their way as
//! long as the pool has room for them. It knows no records.

use bytes::{Buf, Bytes};
use sluice_core::{Error, Reservation, Result};
use tokio::task::JoinHandle;

use super::object::Object;
use crate::format::compress::{Codec, Expander};
use crate::format::encoding::{Encoding, Utf16};

/// Bytes per request where there is no room for more: what is left per core of the smallest pools,
/// and still some thousand rows.
const PIECE_BYTES_MIN: u64 = 256 * 1024;

/// Plain bytes taken out of a compressed file before they are decoded.
const EXPANDED_BYTES: usize = 1024 * 1024;

/// The text of one split.
pub(super) struct Text {
    pieces: Pieces,
    expander: Option<Expander>,
    transcoder: Option<Utf16>,
    /// Bytes of text before the first row, still to be dropped.
    skip: u64,
    /// Compressed bytes not yet taken.
    input: Bytes,
    ended: bool,
}

/// How a file is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub(super) codec: Option<Codec>,
    pub(super) encoding: Encoding,
}

impl Stored {
    /// Whether bytes of the text are those of the file, so that it can be read from anywhere.
    pub(super) fn is_plain(self) -> bool {
        self.codec.is_none() && self.encoding.transcoder().is_none()
    }
}

impl Text {
    /// The text of `range` of a file; of all of it from byte `start` of the text on, when it is not
    /// stored plainly.
    pub(super) fn new(
        object: Object,
        range: (u64, u64),
        stored: Stored,
        start: u64,
    ) -> Result<Self> {
        let path = object.found().path.clone();
        let expander = stored.codec.map(|codec| Expander::new(codec, &path)).transpose()?;
        Ok(Self {
            pieces: Pieces::new(object, range),
            expander,
            transcoder: stored.encoding.transcoder(),
            skip: if stored.is_plain() { 0 } else { start },
            input: Bytes::new(),
            ended: false,
        })
    }

    /// The next text; none at the end. What it takes is added to `beside`, the bytes that the
    /// split holds besides, in the split's reservation.
    pub(super) async fn next(
        &mut self,
        memory: &mut dyn Reservation,
        beside: usize,
    ) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let stored = match self.expander.is_some() {
            true => Some(self.expanded(memory, beside).await?),
            false => self.pieces.next(memory, beside).await?,
        };
        self.ended |= stored.is_none();
        let mut text = match (&mut self.transcoder, stored) {
            (None, None) => return Ok(None),
            (None, Some(bytes)) => bytes,
            (Some(transcoder), stored) => {
                let mut text = Vec::new();
                transcoder.push(&stored.unwrap_or_default(), self.ended, &mut text);
                text.into()
            }
        };
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(text.len());
        self.skip -= skipped as u64;
        text.advance(skipped);
        Ok(Some(text))
    }

    /// Bytes held: asked for ahead, or not yet taken out of the compressed ones.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.ahead.as_ref().map_or(0, |request| request.bytes) + self.input.len()
    }

    async fn expanded(&mut self, memory: &mut dyn Reservation, beside: usize) -> Result<Bytes> {
        let mut plain = Vec::new();
        let Some(expander) = &mut self.expander else { return Ok(Bytes::new()) };
        while plain.len() < EXPANDED_BYTES {
            if self.input.is_empty() {
                match self.pieces.next(memory, beside + plain.len()).await? {
                    Some(bytes) => self.input = bytes,
                    None => {
                        expander.finish(&mut plain)?;
                        self.ended = true;
                        break;
                    }
                }
            }
            let left = expander.push(&self.input, &mut plain)?.len();
            self.input.advance(self.input.len() - left);
        }
        Ok(plain.into())
    }
}

/// The first bytes of the text of a file, and whether they are all of it.
pub(super) async fn first_bytes(
    object: &Object,
    stored: Stored,
    wanted: u64,
) -> Result<(Vec<u8>, bool)> {
    let size = object.found().size;
    let end = wanted.min(size);
    let bytes = object.read(0..end).await?;
    let (plain, ended) = match stored.codec {
        None => (bytes.to_vec(), end == size),
        Some(codec) => {
            let mut expander = Expander::new(codec, &object.found().path)?;
            let mut plain = Vec::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() && (plain.len() as u64) < wanted {
                rest = expander.push(rest, &mut plain)?;
            }
            let ended = rest.is_empty() && end == size;
            if ended {
                expander.finish(&mut plain)?;
            }
            (plain, ended)
        }
    };
    let Some(mut transcoder) = stored.encoding.transcoder() else { return Ok((plain, ended)) };
    let mut text = Vec::new();
    transcoder.push(&plain, ended, &mut text);
    Ok((text, ended))
}

/// The bytes of a range in order, one request ahead where there is room for it.
struct Pieces {
    object: Object,
    at: u64,
    end: u64,
    ahead: Option<Request>,
}

impl Pieces {
    fn new(object: Object, (at, end): (u64, u64)) -> Self {
        Self { object, at, end, ahead: None }
    }

    /// The next bytes; none at the end.
    async fn next(&mut self, memory: &mut dyn Reservation, beside: usize) -> Result<Option<Bytes>> {
        let most = self.object.piece_bytes();
        let mut current = match self.ahead.take() {
            Some(request) => request,
            None if self.at >= self.end => return Ok(None),
            None if memory.resize(beside + self.piece(most)).is_ok() => self.request(most),
            None => {
                memory.insist(beside + self.piece(PIECE_BYTES_MIN))?;
                self.request(PIECE_BYTES_MIN)
            }
        };
        let both = current.bytes + self.piece(most);
        if self.at < self.end && memory.resize(beside + both).is_ok() {
            self.ahead = Some(self.request(most));
        }
        let read = (&mut current.read).await;
        read.map_err(|e| Error::bug("reading stopped").because(e))?.map(Some)
    }

    /// Bytes of the next piece, of at most `most`.
    fn piece(&self, most: u64) -> usize {
        usize::try_from(most.min(self.end.saturating_sub(self.at))).unwrap_or(usize::MAX)
    }

    /// Asks for the next piece.
    fn request(&mut self, most: u64) -> Request {
        let bytes = self.piece(most);
        let range = self.at..self.at + bytes as u64;
        self.at = range.end;
        let object = self.object.clone();
        Request { bytes, read: tokio::spawn(async move { object.read(range).await }) }
    }
}

/// A request under way; dropping it ends it.
struct Request {
    bytes: usize,
    read: JoinHandle<Result<Bytes>>,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.read.abort();
    }
}
