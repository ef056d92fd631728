//! Bodies on their way in and out.
//!
//! In: a request's body, with how large it may be and how slow; an answer's body, with who wants to
//! know when it has left. Out: the same bodies, as streams that keep to that; answers leave in
//! pieces, so that it shows whether somebody takes them. What happens to a request that broke the
//! limits is decided by [`Arriving::verdict`], whatever its handler made of a body that broke off.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _};
use sluice_core::Clock;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;

/// While nothing of a body comes.
const STALL_MAX: Duration = Duration::from_secs(10);

/// From the first byte of a body to its last: 1 MiB at 140 kbit/s, which is slower than any network
/// that people still use.
const WHOLE_MAX: Duration = Duration::from_secs(60);

/// Bytes of an answer that leave as one: somebody who takes 2 KiB a second asks for the next ones
/// before it is said that nobody takes them.
const PIECE_MAX: usize = 64 << 10;

/// Of a body that breaks no limit the fault is zero.
const LARGE: u8 = 1;
const SLOW: u8 = 2;

/// What became of a body that arrives.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    fault: AtomicU8,
    limit: u64,
    bytes: AtomicU64,
}

impl Arriving {
    /// Watches the body of `request`, which may have `limit` bytes. Errors: it says that it has more.
    pub(super) fn watch(
        request: Request,
        limit: u64,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Request, Arc<Self>), ApiError> {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit) {
            return Err(ApiError::too_large(limit));
        }
        let arriving = Arc::new(Self { limit, ..Self::default() });
        if request.body().is_end_stream() {
            return Ok((request, arriving));
        }
        let (clock, watched) = (clock.clone(), arriving.clone());
        let request = request.map(|body| {
            let body = body.into_data_stream();
            Body::from_stream(Inbound {
                body,
                watched,
                clock,
                stall: None,
                whole: None,
                began: None,
            })
        });
        Ok((request, arriving))
    }

    /// What the caller is told: the handler's answer, unless the body broke a limit.
    pub(super) fn verdict(&self, response: Response) -> Response {
        if response.status().is_success() {
            return response;
        }
        match self.fault.load(Ordering::SeqCst) {
            LARGE => ApiError::too_large(self.limit).into_response(),
            SLOW => ApiError::too_slow().into_response(),
            _ => response,
        }
    }

    /// Bytes that have come.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

/// A body that arrives.
struct Inbound {
    body: BodyDataStream,
    watched: Arc<Arriving>,
    clock: Arc<dyn Clock>,
    stall: Option<BoxFuture<'static, ()>>,
    whole: Option<BoxFuture<'static, ()>>,
    /// When its first bytes came.
    began: Option<Duration>,
}

impl Inbound {
    fn broken(&self, fault: u8, why: &'static str) -> Poll<Option<Result<Bytes, BoxError>>> {
        self.watched.fault.store(fault, Ordering::SeqCst);
        Poll::Ready(Some(Err(why.into())))
    }

    fn is_slow(&mut self, context: &mut Context<'_>) -> bool {
        let clock = &self.clock;
        let stall = self.stall.get_or_insert_with(|| clock.sleep(STALL_MAX));
        let whole = self.whole.get_or_insert_with(|| clock.sleep(WHOLE_MAX));
        stall.as_mut().poll(context).is_ready() || whole.as_mut().poll(context).is_ready()
    }
}

impl Stream for Inbound {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.body.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                let more = bytes.len() as u64;
                let before = this.watched.bytes.fetch_add(more, Ordering::SeqCst);
                if before.saturating_add(more) > this.watched.limit {
                    return this.broken(LARGE, "the body is larger than it may be");
                }
                this.stall = None;
                // A body that trickles is never waited for: the whole time counts here too.
                let now = this.clock.monotonic();
                let began = *this.began.get_or_insert(now);
                if now.saturating_sub(began) > WHOLE_MAX {
                    return this.broken(SLOW, "the body did not arrive in time");
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if this.is_slow(context) => {
                this.broken(SLOW, "the body did not arrive in time")
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Told of an answer that leaves; dropped when it has left, or its caller.
pub(super) trait Leaving: Send + Unpin + 'static {
    /// More is asked for: what was sent before was taken.
    fn asked(&mut self);

    /// So many bytes left.
    fn sent(&mut self, bytes: u64);

    /// The last of them left.
    fn whole(&mut self);
}

/// Lets `leaving` watch the body of `response`. Streams of events end when `stop` says so: nothing else
/// would end them, and their listeners come again by themselves.
pub(super) fn watched(
    response: Response,
    mut leaving: impl Leaving,
    stop: &CancellationToken,
) -> Response {
    if response.body().is_end_stream() {
        leaving.whole();
        return response;
    }
    let (mut head, body) = response.into_parts();
    if let (Some(length), false) =
        (body.size_hint().exact(), head.headers.contains_key(header::CONTENT_LENGTH))
    {
        // A stream has no length of its own.
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let events = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
    let chunks = Outbound { body: body.into_data_stream(), rest: Bytes::new(), leaving };
    let body = match events {
        true => Body::from_stream(chunks.take_until(stop.clone().cancelled_owned())),
        false => Body::from_stream(chunks),
    };
    Response::from_parts(head, body)
}

/// A body that leaves.
struct Outbound<L> {
    body: BodyDataStream,
    /// What is left of the last part of the body.
    rest: Bytes,
    leaving: L,
}

impl<L> Outbound<L> {
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, axum::Error>>> {
        if self.rest.is_empty() {
            match self.body.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(part))) => self.rest = part,
                other => return other,
            }
        }
        let end = self.rest.len().min(PIECE_MAX);
        Poll::Ready(Some(Ok(self.rest.split_to(end))))
    }
}

impl<L: Leaving> Stream for Outbound<L> {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.leaving.asked();
        let polled = this.poll_piece(context);
        match &polled {
            Poll::Ready(Some(Ok(bytes))) => this.leaving.sent(bytes.len() as u64),
            Poll::Ready(None) => this.leaving.whole(),
            _ => {}
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Writes down what it is told.
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Leaving for Told {
        fn asked(&mut self) {
            self.0.lock().push("asked".to_string());
        }

        fn sent(&mut self, bytes: u64) {
            self.0.lock().push(bytes.to_string());
        }

        fn whole(&mut self) {
            self.0.lock().push("whole".to_string());
        }
    }

    #[tokio::test]
    async fn answers_leave_in_pieces_that_are_asked_for() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sent: Vec<u8> = (0..PIECE_MAX + 7).map(|at| (at % 251) as u8).collect();
        let response = Response::new(Body::from(sent.clone()));
        let response = watched(response, Told(told.clone()), &CancellationToken::new());
        assert_eq!(response.headers()[header::CONTENT_LENGTH], sent.len().to_string());
        let mut pieces = response.into_body().into_data_stream();
        let mut got = Vec::new();
        let mut sizes = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.unwrap();
            sizes.push(piece.len());
            got.extend_from_slice(&piece);
        }
        assert!(got == sent, "{} bytes", got.len());
        assert_eq!(sizes, [PIECE_MAX, 7]);
        let first = PIECE_MAX.to_string();
        assert_eq!(*told.lock(), ["asked", first.as_str(), "asked", "7", "asked", "whole"]);
    }
}
