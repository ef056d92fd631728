//! Where requests come in: connections, TLS, and the end of both without refusing anybody.
//!
//! In: a socket, a router that `app` wrapped, a token that ends it. Out: answers, until the last
//! connection is closed or the limit of the drain is over.
//!
//! ```text
//! stop ─► NOTICE ────────────► SETTLE ────────────► LINGER ──────────► rest of the drain
//!         accepts on; answers   the kernel drops      the socket is      idle connections are
//!         say close, readiness  SYNs, what has begun  closed; known      closed, requests in
//!         says draining         is accepted           clients go on      flight end
//! ```
//!
//! **Restart.** The next process binds the same address (`SO_REUSEPORT`) and opens it when it is ready,
//! then the last one gets SIGTERM. The kernel deals connections to both sockets, and would reset those
//! that wait at one when it is closed. So the old socket drops SYNs first, whose senders ask again after
//! a second and reach the new one, accepts everything that waits, and only then is closed. A socket
//! that a supervisor handed over is left open for the next process, with all that wait at it.
//! PostgreSQL's port is not here.
//!
//! **Places.** Connections that are open are counted, and one address has no more than its share of
//! them, or a single client that asks for nothing would keep everybody out. This machine and the
//! proxies of the project are spared: others come by way of them.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{AddrListener, Address, Handle, Server};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sluice_core::metric::{HTTP_CONNECTIONS, HTTP_REFUSED, Recorder};
use sluice_core::{Clock, Error, Result};
use sluice_runtime::job::{Project, ServeSpec, TlsSpec};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::auth::Access;
use super::limit::{Client, Share, Shares};
use super::rules::is_proxy;
use super::socket::{Bound, Claim, hold_new};
use super::stream::{Connection, Guarded};
use crate::serve::Parts;

/// How long answers say that connections end, and readiness that nothing new is to come.
const NOTICE: Duration = Duration::from_secs(1);

/// How long handshakes that have begun may take: a round trip around the world.
const SETTLE: Duration = Duration::from_millis(250);

/// How long idle connections stay open: closing one just as its client asks would refuse it.
const LINGER: Duration = Duration::from_secs(3);

/// How often it is looked at whether all connections are closed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The largest head of a request, as common servers have it.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Of so many places one address has one at most: many people may share an address, and somebody
/// who holds connections for nothing leaves the other half.
const SHARE: usize = 2;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;

/// A port that is taken and not yet open.
#[derive(Debug)]
pub(crate) struct Port {
    bound: Bound,
    tls: Option<RustlsConfig>,
}

/// What the loop that accepts needs.
pub(super) struct Conduct {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<dyn Recorder>,
    pub(super) stop: CancellationToken,
    /// How long the end may take.
    pub(super) drain: Duration,
    /// Connections that may be open at once.
    pub(super) connections: usize,
    /// Whether an address may have more than its share of them.
    pub(super) spared: Spared,
}

/// Says of an address whether others come by way of it.
pub(super) type Spared = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

impl Port {
    /// Takes the port before anything starts. Errors: `Config` for an address that cannot be had or
    /// that others can reach while nobody needs a token, and for certificates that cannot be read.
    pub(crate) fn take(serve: &ServeSpec, access: &Access) -> Result<Self> {
        let tls = serve.tls.as_ref().map(tls_config).transpose()?.map(RustlsConfig::from_config);
        let bound = Bound::take("http", 0, &serve.http, &serve.state, access.is_open())?;
        if tls.is_none() && !bound.address.ip().to_canonical().is_loopback() {
            tracing::warn!(address = %bound.address, "tokens cross the network as they are: no TLS");
        }
        Ok(Self { bound, tls })
    }

    /// A port without TLS.
    #[cfg(test)]
    pub(super) fn plain(bound: Bound) -> Self {
        Self { bound, tls: None }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.bound.address
    }

    /// The address as a browser wants it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Opens the port and serves until `parts.stop`, then drains.
    pub(crate) async fn serve(self, parts: Arc<Parts>, router: Router) -> Result<()> {
        let serve = parts.project.borrow().serve.clone();
        let projects = parts.project.subscribe();
        let trusted = projects.clone();
        let conduct = Conduct {
            clock: parts.environment.clock.clone(),
            metrics: parts.environment.metrics.clone(),
            stop: parts.stop.clone(),
            drain: serve.drain,
            connections: serve.limits.connections,
            spared: Arc::new(move |address: IpAddr| {
                let address = address.to_canonical();
                address.is_loopback() || is_proxy(&trusted.borrow(), address)
            }),
        };
        // The parts are the router's; held here they would outlive it.
        drop(parts);
        if let Some(tls) = self.tls.clone() {
            tokio::spawn(follow(tls, projects, conduct.stop.clone()));
        }
        self.run(router, conduct).await
    }

    /// See [`Port::serve`].
    pub(super) async fn run(self, router: Router, conduct: Conduct) -> Result<()> {
        let failed = |e: io::Error| Error::unavailable("cannot serve HTTP").because(e);
        let passed = self.bound.passed;
        let (listener, claim) = self.bound.open().map_err(failed)?;
        let doors = Arc::new(Doors::new(listener, passed, &conduct).map_err(failed)?);
        let handle = Handle::new();
        let drain = tokio::spawn(drain(conduct, handle.clone(), doors.clone(), claim));
        let mut server = Server::<Peer>::from_listener(Entry(doors)).handle(handle);
        let builder = server.http_builder();
        builder.http1().max_buf_size(HEAD_BYTES_MAX);
        builder
            .http2()
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
        let service = router.into_make_service_with_connect_info::<Peer>();
        let served = match self.tls {
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE_MAX);
                server.acceptor(acceptor).serve(service).await
            }
            None => server.serve(service).await,
        };
        drain.abort();
        served.map_err(failed)
    }
}

/// Ends it in the order that the file's header shows.
async fn drain(conduct: Conduct, handle: Handle<Peer>, doors: Arc<Doors>, claim: Option<Claim>) {
    let Conduct { clock, stop, drain, .. } = conduct;
    stop.cancelled().await;
    let begun = clock.monotonic();
    clock.sleep(NOTICE.min(drain / 4)).await;
    if !doors.passed && doors.hold() {
        clock.sleep(SETTLE).await;
    }
    doors.last.cancel();
    doors.closed.cancelled().await;
    drop(claim);
    let until = clock.monotonic() + LINGER.min(drain / 4);
    while handle.connection_count() > 0 && clock.monotonic() < until {
        clock.sleep(LOOK_EVERY).await;
    }
    let spent = clock.monotonic().saturating_sub(begun);
    handle.graceful_shutdown(Some(drain.saturating_sub(spent).max(LOOK_EVERY)));
    pending::<()>().await;
}

/// A client's end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// What is known of the connection.
    pub(super) connection: Arc<Connection>,
}

impl Connected<Peer> for Peer {
    fn connect_info(peer: Peer) -> Self {
        peer
    }
}

impl Address for Peer {
    type Stream = Guarded<TcpStream>;
    type Listener = Entry;
}

/// What connections come in by.
struct Doors {
    /// None when it is closed.
    listener: Mutex<Option<Arc<TcpListener>>>,
    /// The same socket: what waits at it is asked of the kernel itself.
    queue: Mutex<Option<std::net::TcpListener>>,
    /// Connections that waited when it was closed.
    waiting: Mutex<VecDeque<(TcpStream, SocketAddr)>>,
    places: Arc<Semaphore>,
    shares: Arc<Shares>,
    spared: Spared,
    open: Arc<AtomicUsize>,
    clock: Arc<dyn Clock>,
    metrics: Arc<dyn Recorder>,
    passed: bool,
    /// Cancelled when what waits is to be accepted, and the socket to be closed.
    last: CancellationToken,
    /// Cancelled when that is done.
    closed: CancellationToken,
}

/// The doors as the server takes them.
pub(super) struct Entry(Arc<Doors>);

/// A place among the connections that may be open.
struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    _share: Option<Share>,
    open: Arc<AtomicUsize>,
    metrics: Arc<dyn Recorder>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.open.fetch_sub(1, Ordering::SeqCst).saturating_sub(1);
        self.metrics.set(&HTTP_CONNECTIONS, &[], open as f64);
    }
}

impl Doors {
    fn new(listener: std::net::TcpListener, passed: bool, conduct: &Conduct) -> io::Result<Self> {
        let queue = listener.try_clone()?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self {
            listener: Mutex::new(Some(Arc::new(listener))),
            queue: Mutex::new(Some(queue)),
            waiting: Mutex::default(),
            places: Arc::new(Semaphore::new(conduct.connections.clamp(1, Semaphore::MAX_PERMITS))),
            shares: Shares::new((conduct.connections / SHARE).max(1)),
            spared: conduct.spared.clone(),
            open: Arc::default(),
            clock: conduct.clock.clone(),
            metrics: conduct.metrics.clone(),
            passed,
            last: CancellationToken::new(),
            closed: CancellationToken::new(),
        })
    }

    /// Whether new connections are kept away from now on; those that have begun are completed.
    fn hold(&self) -> bool {
        self.queue.lock().as_ref().is_some_and(hold_new)
    }

    /// The next connection. Without one, and closed, it waits for ever.
    async fn next(&self) -> io::Result<(Guarded<TcpStream>, Peer)> {
        loop {
            let waiting = self.waiting.lock().pop_front();
            if let Some((stream, address)) = waiting {
                // It was accepted already: there is no place to wait for.
                return Ok(self.enter(stream, address, None, None));
            }
            let listener = self.listener.lock().clone();
            let Some(listener) = listener else {
                self.closed.cancel();
                return pending().await;
            };
            let place = tokio::select! {
                biased;
                () = self.last.cancelled() => None,
                place = self.place() => place,
            };
            let accepted = tokio::select! {
                biased;
                () = self.last.cancelled() => None,
                accepted = listener.accept() => Some(accepted?),
            };
            match accepted {
                Some((stream, address)) => {
                    // Without a share it is closed again.
                    let Some(share) = self.share(address.ip()) else { continue };
                    return Ok(self.enter(stream, address, place, Some(share)));
                }
                None => self.close(),
            }
        }
    }

    /// A place for one more: whoever has none waits in the kernel's queue.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if self.places.available_permits() == 0 {
            self.metrics.count(&HTTP_REFUSED, &["connections"], 1);
            tracing::warn!(
                open = self.open.load(Ordering::SeqCst),
                "no more connections are taken"
            );
        }
        self.places.clone().acquire_owned().await.ok()
    }

    /// A part of the places for one more connection of `address`; none where it has all that one
    /// may.
    fn share(&self, address: IpAddr) -> Option<Share> {
        let share = self.shares.take(Client::at(Some(address)), (self.spared)(address));
        if share.is_none() {
            self.metrics.count(&HTTP_REFUSED, &["connections"], 1);
            tracing::debug!(%address, "an address has all connections that one may have");
        }
        share
    }

    /// Takes what waits, unless it waits for the next process, and closes the socket.
    fn close(&self) {
        let queue = self.queue.lock().take();
        if let Some(queue) = queue.filter(|_| !self.passed) {
            let mut waiting = self.waiting.lock();
            loop {
                let accepted = queue.accept().and_then(|(stream, address)| {
                    stream.set_nonblocking(true)?;
                    Ok((TcpStream::from_std(stream)?, address))
                });
                match accepted {
                    Ok(accepted) => waiting.push_back(accepted),
                    // The client went away while it waited.
                    Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::error!(%error, "connections that waited are refused");
                        break;
                    }
                }
            }
        }
        *self.listener.lock() = None;
    }

    fn enter(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        permit: Option<OwnedSemaphorePermit>,
        share: Option<Share>,
    ) -> (Guarded<TcpStream>, Peer) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection waits for full packets");
        }
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.metrics.set(&HTTP_CONNECTIONS, &[], open as f64);
        let (open, metrics) = (self.open.clone(), self.metrics.clone());
        let place = Place { _permit: permit, _share: share, open, metrics };
        let connection = Connection::new(self.clock.clone());
        let peer = Peer { address, connection: connection.clone() };
        (Guarded::new(stream, connection, place), peer)
    }
}

impl AddrListener<Guarded<TcpStream>, Peer> for Entry {
    async fn bind_to(_peer: Peer) -> io::Result<Self> {
        // The port was taken long before.
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn accept_stream(&self) -> io::Result<(Guarded<TcpStream>, Peer)> {
        self.0.next().await
    }

    fn get_local_addr(&self) -> io::Result<Peer> {
        let listener = self.0.listener.lock();
        let address = listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.local_addr()?;
        Ok(Peer { address, connection: Connection::new(self.0.clock.clone()) })
    }
}

/// Reads the certificate again whenever the definitions are replaced. One that cannot be read leaves
/// the last one in force.
async fn follow(
    tls: RustlsConfig,
    mut projects: watch::Receiver<Arc<Project>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = projects.changed() => if changed.is_err() { return },
        }
        let spec = projects.borrow_and_update().serve.tls.clone();
        let Some(spec) = spec else {
            tracing::warn!("the project has no certificate any more: restart to serve without TLS");
            continue;
        };
        match tls_config(&spec) {
            Ok(config) => tls.reload_from_config(config),
            Err(error) => tracing::error!(error = %error.chain(), "the last certificate stays"),
        }
    }
}

/// What certificate and key make. Errors: `Config`.
pub(crate) fn tls_config(spec: &TlsSpec) -> Result<Arc<ServerConfig>> {
    let odd = |what: &str, file: &std::path::Path| {
        Error::config(format!("{what} file={}", file.display()))
            .hint("serve.tls names a certificate and its key, both in PEM")
    };
    let no_certificate = || odd("the certificate cannot be read", &spec.cert);
    let certificates = CertificateDer::pem_file_iter(&spec.cert)
        .and_then(|all| all.collect::<Result<Vec<_>, _>>())
        .map_err(|e| no_certificate().because(e))?;
    if certificates.is_empty() {
        return Err(no_certificate());
    }
    let key = PrivateKeyDer::from_pem_file(&spec.key)
        .map_err(|e| odd("the key cannot be read", &spec.key).because(e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit =
        |e: rustls::Error| odd("the key does not fit the certificate", &spec.key).because(e);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
