//! The small listener of a run that follows, where no server listens for it.
//!
//! In: an address. Out: requests, handed to the hub, until it closes. It has no pages, no users and
//! no encryption: a server has. So many connections have a place, others wait to be accepted; one
//! on which no request is at work gives its place up after a while. Bodies are `request`'s.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use futures::future::BoxFuture;
use sluice_core::{Clock, Error, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::hub::Hub;

/// Connections that have a place: as many as a server has, if nothing else is said.
const CONNECTIONS_MAX: usize = 1024;

/// From the first byte to the end of a request's head: any client manages, and who opens
/// connections to hold them does not hold them long.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// Between two requests. Longer than the minute that common proxies keep connections for, so that
/// they are the ones who close them.
const IDLE_MAX: Duration = Duration::from_secs(75);

/// Whether a source may listen at `address`. Errors: `Config` for what is no address, and for one
/// that others can reach where nothing is `verified`.
pub(super) fn check(address: &str, verified: bool) -> Result<()> {
    let wrong = || {
        Error::config(format!("not an address to listen at address={address:?}"))
            .hint("write it like 127.0.0.1:8088")
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let near = match bare.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    };
    if near || verified {
        return Ok(());
    }
    let message = format!(
        "others can reach this address and nobody has to prove who they are address={address}"
    );
    Err(Error::config(message)
        .hint("say with `verify` how deliveries prove whose they are, or listen at 127.0.0.1"))
}

/// Addresses that are listened at.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<BTreeSet<String>>);

impl Listeners {
    /// Listens at `address`, unless it does already. Errors: `Unavailable` when the address is
    /// taken.
    pub(super) async fn listen(&self, hub: &Arc<Hub>, address: &str) -> Result<()> {
        let mut known = self.0.lock().await;
        if known.contains(address) {
            return Ok(());
        }
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Error::unavailable(format!("cannot listen for webhooks address={address}"))
                .because(e)
                .hint("is another process listening there? `listen:` of the source names another")
        })?;
        let at = listener.local_addr().map_or_else(|_| address.to_string(), |at| at.to_string());
        tracing::info!(address = at, "listening for webhooks");
        let (router, closing) = (hub.router().layer(from_fn(counted)), hub.closing.clone());
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let entry = Entry { listener, places, clock: hub.means.clock.clone() };
        let service = router.into_make_service_with_connect_info::<Peer>();
        let serve = axum::serve(entry, service).with_graceful_shutdown(closing.cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the listener for webhooks broke off");
            }
        });
        known.insert(address.to_string());
        Ok(())
    }
}

/// A socket, and the places of its connections.
struct Entry {
    listener: TcpListener,
    places: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl Listener for Entry {
    type Io = Guarded<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded<TcpStream>, SocketAddr) {
        // Whoever has no place waits in the kernel's queue.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Guarded::new(stream, self.clock.clone(), place), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What requests know of their connection.
#[derive(Debug, Clone)]
struct Peer(Arc<Requests>);

impl Connected<IncomingStream<'_, Entry>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Entry>) -> Self {
        Self(stream.io().requests.clone())
    }
}

/// Counts a request among those at work until it is answered.
async fn counted(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    let _work = peer.0.begin();
    next.run(request).await
}

/// How many requests of a connection have begun, and how many were answered.
#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Requests {
    /// One more is at work until the guard is dropped.
    fn begin(self: &Arc<Self>) -> Work {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Work(self.clone())
    }
}

/// A request at work.
struct Work(Arc<Requests>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A stream that breaks off when it was held long enough without a request.
struct Guarded<S> {
    stream: S,
    clock: Arc<dyn Clock>,
    requests: Arc<Requests>,
    wait: Option<Wait>,
    _place: Option<OwnedSemaphorePermit>,
}

/// How long the next request is waited for.
struct Wait {
    /// Requests that had begun before.
    behind: u64,
    /// Whether its head has begun.
    head: bool,
    over: BoxFuture<'static, ()>,
}

impl<S> Guarded<S> {
    fn new(stream: S, clock: Arc<dyn Clock>, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { stream, clock, requests: Arc::default(), wait: None, _place: place }
    }

    /// Looks whether it is time to break off; `heard` is whether bytes have just come.
    fn look(&mut self, heard: bool, context: &mut Context<'_>) -> Poll<io::Error> {
        let begun = self.requests.begun.load(Ordering::SeqCst);
        if begun > self.requests.ended.load(Ordering::SeqCst) {
            self.wait = None;
            return Poll::Pending;
        }
        // Who connects wants to ask: the first head is owed from the beginning.
        let head = heard || begun == 0;
        let known = self.wait.take().filter(|wait| wait.behind == begun && (wait.head || !head));
        let mut wait = known.unwrap_or_else(|| {
            let over = self.clock.sleep(if head { HEAD_MAX } else { IDLE_MAX });
            Wait { behind: begun, head, over }
        });
        if wait.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "no request came in time"));
        }
        self.wait = Some(wait);
        Poll::Pending
    }

    /// The same where the other side takes nothing of an answer.
    fn written<T>(
        &mut self,
        done: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if done.is_pending() {
            return Poll::Ready(Err(ready!(self.look(false, context))));
        }
        done
    }
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
        // Who sends a head byte by byte is never waited for: it is looked at here too.
        match this.look(buffer.filled().len() > before, context) {
            Poll::Ready(late) => Poll::Ready(Err(late)),
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

    #[test]
    fn others_are_let_in_only_where_they_prove_who_they_are() {
        for near in ["127.0.0.1:0", "[::1]:8088", "localhost:8088", "[::ffff:127.0.0.1]:1"] {
            assert!(check(near, false).is_ok(), "{near}");
        }
        for far in ["0.0.0.0:8088", "[::]:8088", "10.0.0.7:1", "hooks.example:8088"] {
            let hint = check(far, false).unwrap_err().hint_text().unwrap_or_default().to_string();
            assert!(hint.contains("`verify`"), "{far}: {hint}");
            assert!(check(far, true).is_ok(), "{far}");
        }
        for none in ["", "8088", "127.0.0.1", ":8088", "127.0.0.1:99999"] {
            assert!(check(none, true).is_err(), "{none}");
        }
    }

    #[tokio::test]
    async fn who_asks_for_nothing_gives_the_place_up() {
        let clock = Arc::new(ManualClock::at(0));
        let (near, mut far) = tokio::io::duplex(64);
        let mut guarded = Guarded::new(near, clock.clone(), None);
        let mut buffer = [0; 4];
        // The clock moves as it is waited for: what is waited for is over at once.
        let late = guarded.read(&mut buffer).await.unwrap_err();
        assert_eq!((late.kind(), clock.monotonic()), (io::ErrorKind::TimedOut, HEAD_MAX));
        // A request may take its time.
        let work = guarded.requests.begin();
        far.write_all(b"body").await.unwrap();
        assert_eq!(guarded.read(&mut buffer).await.unwrap(), 4);
        drop(work);
        let late = guarded.read(&mut buffer).await.unwrap_err();
        assert_eq!(
            (late.kind(), clock.monotonic()),
            (io::ErrorKind::TimedOut, HEAD_MAX + IDLE_MAX)
        );
        // Bytes begin the next head.
        far.write_all(b"P").await.unwrap();
        assert!(guarded.read(&mut buffer).await.is_err());
        assert_eq!(clock.monotonic(), HEAD_MAX + IDLE_MAX + HEAD_MAX);
    }
}
