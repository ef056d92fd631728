//! One connection's bytes, with a limit on how long it may hold its place without using it.
//!
//! In: a stream, and what the requests on it tell ([`Connection`]). Out: the same stream, which breaks
//! off when a request's head does not come in time, when nobody asks for long, or when the other side
//! does not take what it asked for. Bodies that arrive slowly are `body`'s.
//!
//! Over HTTP/2 answers wait for windows that the other side opens, and nothing waits at the socket:
//! so answers tell when bytes of them lie ready, and when the next ones are asked for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use sluice_core::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// From the first byte to the end of a request's head, TLS included: any client manages, and who opens
/// connections to hold them does not hold them long.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// Between two requests. Longer than the minute that common proxies keep connections for, so that they
/// are the ones who close them.
const IDLE_MAX: Duration = Duration::from_secs(75);

/// While the other side takes nothing of an answer.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the requests on a connection and its bytes know of each other.
#[derive(Debug)]
pub(super) struct Connection {
    clock: Arc<dyn Clock>,
    /// Requests whose answer has not left.
    busy: AtomicUsize,
    /// When the last answer left, else when the connection was made, by the monotonic clock.
    idle_since_ms: AtomicU64,
    /// Requests so far.
    asked: AtomicU64,
    /// Whether it is HTTP/2, where bytes between requests mean nothing.
    multiplexed: AtomicBool,
    untaken: Mutex<Untaken>,
}

/// Answers of which bytes lie ready.
#[derive(Debug, Default)]
struct Untaken {
    answers: usize,
    /// Since when nothing of any answer was taken; none while no bytes lie ready.
    since: Option<Duration>,
}

impl Connection {
    /// A connection made now.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let now = clock.monotonic();
        Arc::new(Self {
            clock,
            busy: AtomicUsize::new(0),
            idle_since_ms: AtomicU64::new(millis(now)),
            asked: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            untaken: Mutex::default(),
        })
    }

    /// A request is at work until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, multiplexed: bool) -> Busy {
        self.busy.fetch_add(1, Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.multiplexed.fetch_or(multiplexed, Ordering::SeqCst);
        Busy { connection: self.clone(), offers: false }
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0
    }

    /// Bytes that come now, while nothing is at work: the head of the next request.
    fn hear(&self) -> Heard {
        Heard { at: self.clock.monotonic(), asked: self.asked.load(Ordering::SeqCst) }
    }

    /// Whether all that is at work are answers of which nothing is taken. Those of HTTP/1 are held
    /// up at the socket, where it is seen; here they only look like it while a client is slow.
    fn is_stuck(&self) -> bool {
        if !self.multiplexed.load(Ordering::SeqCst) {
            return false;
        }
        let untaken = self.untaken.lock();
        let all = untaken.answers >= self.busy.load(Ordering::SeqCst);
        let now = self.clock.monotonic();
        all && untaken.since.is_some_and(|since| now.saturating_sub(since) >= STALL_MAX)
    }

    /// Whether the place is to be given up; `heard` is when bytes came while nothing was at work.
    fn is_late(&self, heard: Option<Heard>) -> bool {
        if self.is_busy() {
            return self.is_stuck();
        }
        let now = self.clock.monotonic();
        let since = Duration::from_millis(self.idle_since_ms.load(Ordering::SeqCst));
        let asked = self.asked.load(Ordering::SeqCst);
        // What was heard before the last request was its own head.
        let begun = match heard.filter(|heard| heard.asked == asked) {
            Some(heard) if !self.multiplexed.load(Ordering::SeqCst) => Some(heard.at),
            _ if asked == 0 => Some(since),
            _ => None,
        };
        let (from, most) = begun.map_or((since, IDLE_MAX), |begun| (begun, HEAD_MAX));
        now.saturating_sub(from) >= most
    }
}

/// When bytes came while nothing was at work, and behind how many requests.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Duration,
    asked: u64,
}

/// A request at work.
#[derive(Debug)]
pub(super) struct Busy {
    connection: Arc<Connection>,
    /// Whether bytes of its answer lie ready.
    offers: bool,
}

impl Busy {
    /// Bytes of the answer lie ready.
    pub(super) fn offered(&mut self) {
        if !self.offers {
            self.offers = true;
            let mut untaken = self.connection.untaken.lock();
            untaken.answers += 1;
            untaken.since.get_or_insert_with(|| self.connection.clock.monotonic());
        }
    }

    /// More of the answer is asked for: what lay ready was taken.
    pub(super) fn taken(&mut self) {
        if self.offers {
            self.withdraw();
            let mut untaken = self.connection.untaken.lock();
            untaken.since = untaken.since.map(|_| self.connection.clock.monotonic());
        }
    }

    fn withdraw(&mut self) {
        self.offers = false;
        let mut untaken = self.connection.untaken.lock();
        untaken.answers = untaken.answers.saturating_sub(1);
        if untaken.answers == 0 {
            untaken.since = None;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.offers {
            self.withdraw();
        }
        let now = millis(self.connection.clock.monotonic());
        self.connection.idle_since_ms.store(now, Ordering::SeqCst);
        self.connection.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A stream that gives its place up.
pub(super) struct Guarded<S> {
    stream: S,
    connection: Arc<Connection>,
    /// When bytes came first while nothing was at work.
    heard: Option<Heard>,
    look: BoxFuture<'static, ()>,
    stall: Option<BoxFuture<'static, ()>>,
    /// Its place among the connections that may be open.
    _place: Box<dyn Send + Sync>,
}

impl<S> Guarded<S> {
    /// Guards a stream that was connected now; `place` is dropped with it.
    pub(super) fn new(
        stream: S,
        connection: Arc<Connection>,
        place: impl Send + Sync + 'static,
    ) -> Self {
        let look = connection.clock.sleep(LOOK_EVERY);
        Self { stream, connection, heard: None, look, stall: None, _place: Box::new(place) }
    }

    /// Looks whether it is time to give up, and asks to be woken when to look again.
    fn look(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.look.as_mut().poll(context));
            if self.connection.is_late(self.heard) {
                return Poll::Ready(late("no request came in time"));
            }
            self.look = self.connection.clock.sleep(LOOK_EVERY);
        }
    }

    /// The same while something is to be written.
    fn stalled(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let clock = &self.connection.clock;
        let stall = self.stall.get_or_insert_with(|| clock.sleep(STALL_MAX));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(late("the answer was not taken"))
    }

    fn written<T>(
        &mut self,
        done: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if done.is_pending() {
            return self.stalled(context).map(Err);
        }
        self.stall = None;
        done
    }
}

fn late(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_pending() {
            return this.look(context).map(Err);
        }
        if buffer.filled().len() > before && !this.connection.is_busy() {
            let now = this.connection.hear();
            if this.heard.is_none_or(|heard| heard.asked != now.asked) {
                this.heard = Some(now);
            }
        }
        // Who sends a head byte by byte is never waited for: it is looked at here too.
        match this.look(context) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(done, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.written(done, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_flush(context);
        this.written(done, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_shutdown(context);
        this.written(done, context)
    }
}

#[cfg(test)]
mod tests {
    use sluice_core::ManualClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn at(ms: i64) -> (Arc<ManualClock>, Arc<Connection>) {
        let clock = Arc::new(ManualClock::at(ms));
        (clock.clone(), Connection::new(clock))
    }

    #[test]
    fn a_place_is_given_up_when_it_is_not_used() {
        let (clock, fresh) = at(1_000);
        assert!(!fresh.is_late(None));
        clock.advance_ms(10_000);
        assert!(fresh.is_late(None), "nobody asked");

        let (clock, used) = at(1_000);
        let busy = used.begin(false);
        clock.advance_ms(600_000);
        assert!(!used.is_late(None), "an answer may take its time");
        drop(busy);
        clock.advance_ms(74_000);
        assert!(!used.is_late(None), "another request may come");
        let heard = Some(used.hear());
        clock.advance_ms(1_000);
        assert!(used.is_late(None), "none came");
        assert!(!used.is_late(heard), "one comes");
        clock.advance_ms(9_000);
        assert!(used.is_late(heard), "it does not end");
        drop(used.begin(false));
        clock.advance_ms(74_000);
        assert!(!used.is_late(heard), "it was a request's head, which came");
    }

    #[test]
    fn between_requests_of_http2_bytes_mean_nothing() {
        let (clock, connection) = at(1_000);
        drop(connection.begin(true));
        let heard = Some(connection.hear());
        clock.advance_ms(60_000);
        assert!(!connection.is_late(heard));
        clock.advance_ms(15_000);
        assert!(connection.is_late(heard));
    }

    #[test]
    fn answers_that_wait_for_a_window_do_not_hold_the_place_for_ever() {
        let (clock, connection) = at(1_000);
        let mut first = connection.begin(true);
        first.offered();
        clock.advance_ms(20_000);
        let mut second = connection.begin(true);
        clock.advance_ms(20_000);
        assert!(!connection.is_late(None), "the second one is not answered yet");
        second.offered();
        assert!(connection.is_late(None), "one more answer is no sign of life");
        second.taken();
        second.offered();
        clock.advance_ms(29_000);
        assert!(!connection.is_late(None), "something was taken");
        clock.advance_ms(1_000);
        assert!(connection.is_late(None), "nothing of either");
        drop((first, second));
        assert!(!connection.is_late(None), "nothing is at work");

        let (clock, plain) = at(1_000);
        let mut slow = plain.begin(false);
        slow.offered();
        clock.advance_ms(600_000);
        assert!(!plain.is_late(None), "the socket says it of HTTP/1");
    }

    #[tokio::test]
    async fn silence_ends_the_stream() {
        let (_, connection) = at(0);
        let (near, far) = tokio::io::duplex(16);
        let mut guarded = Guarded::new(near, connection, ());
        let mut buffer = [0; 4];
        // The clock moves as it is waited for.
        let read = guarded.read(&mut buffer).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(far);
    }

    #[tokio::test]
    async fn answers_that_nobody_takes_end_the_stream() {
        let (_, connection) = at(0);
        let (near, far) = tokio::io::duplex(4);
        let busy = connection.begin(false);
        let mut guarded = Guarded::new(near, connection, ());
        let written = guarded.write_all(b"more than fits").await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop((busy, far));
    }
}
