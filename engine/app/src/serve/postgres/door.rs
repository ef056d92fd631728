//! Where PostgreSQL's clients come in, and how the door is closed without refusing anybody.
//!
//! In: the project's address, a certificate. Out: connections, each a task of its own; so many at
//! once. When the process is to end, what would begin a connection is dropped by the kernel, so
//! that its client finds the next process; who waits is let in; everybody may end the statement at
//! work, and is told to connect again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use datafusion_postgres::pgwire::tokio::TlsAcceptor;
use parking_lot::Mutex;
use rustls::ServerConfig;
use sluice_core::metric::{POSTGRES_REFUSED, POSTGRES_SESSIONS, Recorder};
use sluice_core::{Clock, Error, Result};
use sluice_runtime::job::{Project, ServeSpec, TlsSpec};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::answer::{Extended, Service};
use super::failure::code;
use super::line::{self, Shared};
use super::login::{Login, Refused};
use super::reading::Reader;
use super::session::Sessions;
use crate::serve::Parts;
use crate::serve::catalog::{Catalog, Rewriter};
use crate::serve::shell::{Access, Bound, Claim, hold_new, tls_config};

/// Connections that may be open at once: PostgreSQL's own default, and BI tools keep pools.
const SESSIONS_MAX: usize = 100;

/// Connections beyond those that are told so; more are closed without a word.
const TOLD_MAX: usize = 50;

/// How long handshakes that have begun may take: a round trip around the world.
const SETTLE: Duration = Duration::from_millis(250);

/// How long to wait when a connection cannot be accepted, as when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What PostgreSQL's clients call the protocol when they begin with TLS at once.
const ALPN: &[u8] = b"postgresql";

/// A port that is taken and not yet open.
pub(crate) struct Door {
    bound: Bound,
    tls: Option<Arc<ServerConfig>>,
}

impl Door {
    /// Takes the project's port; none where it has none. Errors: `Config` for an address that
    /// cannot be had, or that others can reach while nobody needs a token or there is no
    /// certificate.
    pub(crate) fn take(serve: &ServeSpec, access: &Access) -> Result<Option<Self>> {
        let Some(address) = &serve.postgres else { return Ok(None) };
        let tls = serve.tls.as_ref().map(certified).transpose()?;
        let bound = Bound::take("postgres", 1, address, &serve.state, access.is_open())?;
        let near = bound.address.ip().to_canonical().is_loopback();
        if !near && tls.is_none() {
            let message =
                format!("passwords would cross the network as they are address={address}");
            return Err(Error::config(message)
                .hint("name a certificate in serve.tls, or listen at 127.0.0.1"));
        }
        Ok(Some(Self { bound, tls }))
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.bound.address
    }

    /// Opens it, and serves until `parts.stop`, then ends within the drain's limit.
    pub(crate) async fn serve(self, parts: Arc<Parts>) -> Result<()> {
        let failed = |e: io::Error| Error::unavailable("cannot serve PostgreSQL").because(e);
        let project = parts.project.borrow().clone();
        let drain = project.serve.drain;
        let shared = Arc::new(shared(&parts, &project)?);
        let metrics = parts.environment.metrics.clone();
        let projects = parts.project.subscribe();
        // The parts are the connections'; held here they would outlive them.
        drop(parts);
        let passed = self.bound.passed;
        let (listener, claim) = self.bound.open().map_err(failed)?;
        let held = listener.try_clone().map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let tls = Arc::new(Mutex::new(self.tls.map(TlsAcceptor::from)));
        if tls.lock().is_some() {
            tokio::spawn(follow(tls.clone(), projects, shared.clone()));
        }
        let mut open = Open { tls, shared, metrics, tasks: JoinSet::new() };
        open.accept(&listener).await;
        open.close(listener, held, passed, claim, drain).await;
        Ok(())
    }
}

fn shared(parts: &Parts, project: &Project) -> Result<Shared> {
    let broken = |e: datafusion::sql::sqlparser::tokenizer::TokenizerError| {
        Error::bug("the catalogue's questions cannot be read").because(e.to_string())
    };
    let environment = &parts.environment;
    let sessions = Arc::new(Sessions::default());
    let login = Arc::new(Login {
        access: parts.access.clone(),
        clock: environment.clock.clone(),
        ids: environment.ids.clone(),
        sessions: sessions.clone(),
        metrics: environment.metrics.clone(),
    });
    let queries = parts.queries.clone();
    let catalog = Arc::new(Catalog::new(queries.clone(), &project.name)?);
    let service = Arc::new(Service {
        reader: Reader { queries, catalog },
        rewriter: Rewriter::new().map_err(broken)?,
        login: login.clone(),
    });
    Ok(Shared {
        extended: Arc::new(Extended(service.clone())),
        service,
        login,
        sessions,
        clock: environment.clock.clone(),
        stop: parts.stop.clone(),
    })
}

/// What certificate and key make for this protocol.
fn certified(spec: &TlsSpec) -> Result<Arc<ServerConfig>> {
    let mut config = tls_config(spec)?.as_ref().clone();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Reads the certificate again whenever the definitions are replaced. One that cannot be read
/// leaves the last one in force.
async fn follow(
    tls: Arc<Mutex<Option<TlsAcceptor>>>,
    mut projects: watch::Receiver<Arc<Project>>,
    shared: Arc<Shared>,
) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            changed = projects.changed() => if changed.is_err() { return },
        }
        let spec = projects.borrow_and_update().serve.tls.clone();
        match spec.as_ref().map(certified).transpose() {
            Ok(Some(config)) => *tls.lock() = Some(TlsAcceptor::from(config)),
            // What is said of HTTP's port is true of this one.
            Ok(None) => {}
            Err(error) => tracing::error!(error = %error.chain(), "the last certificate stays"),
        }
    }
}

/// The open door.
struct Open {
    tls: Arc<Mutex<Option<TlsAcceptor>>>,
    shared: Arc<Shared>,
    metrics: Arc<dyn Recorder>,
    tasks: JoinSet<()>,
}

impl Open {
    /// Lets clients in until the process is to end.
    async fn accept(&mut self, listener: &TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return,
                Some(_) = self.tasks.join_next() => {
                    self.count();
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => self.enter(socket),
                Err(error) => {
                    tracing::warn!(%error, "a PostgreSQL connection cannot be accepted");
                    self.shared.clock.sleep(PAUSE).await;
                }
            }
        }
    }

    fn enter(&mut self, socket: TcpStream) {
        let open = self.tasks.len();
        let refused = Refused { code: code::TOO_MANY, why: "sorry, too many clients already" };
        let refused = (open >= SESSIONS_MAX).then_some(refused);
        if refused.is_some() {
            self.metrics.count(&POSTGRES_REFUSED, &["connections"], 1);
            tracing::warn!(open, "no more PostgreSQL connections are taken");
        }
        if open >= SESSIONS_MAX + TOLD_MAX {
            return;
        }
        // Peers that vanish without a word are noticed by the kernel.
        if let Err(error) = socket2::SockRef::from(&socket).set_keepalive(true) {
            tracing::debug!(%error, "a connection is not kept alive");
        }
        let tls = self.tls.lock().clone();
        self.tasks.spawn(line::serve(socket, tls, self.shared.clone(), refused));
        self.count();
    }

    fn count(&self) {
        self.metrics.set(&POSTGRES_SESSIONS, &[], self.tasks.len() as f64);
    }

    /// Closes it: see the file's header.
    async fn close(
        mut self,
        listener: TcpListener,
        held: std::net::TcpListener,
        passed: bool,
        claim: Option<Claim>,
        drain: Duration,
    ) {
        let clock: Arc<dyn Clock> = self.shared.clock.clone();
        let end = clock.sleep(drain);
        if !passed && hold_new(&held) {
            clock.sleep(SETTLE).await;
        }
        drop(listener);
        // Whoever waits at a socket that was handed over waits for the next process.
        while !passed && let Ok((socket, _)) = held.accept() {
            let socket = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
            match socket {
                Ok(socket) => self.enter(socket),
                Err(error) => tracing::warn!(%error, "a connection that waited is lost"),
            }
        }
        drop((held, claim));
        let all = async {
            while self.tasks.join_next().await.is_some() {
                self.metrics.set(&POSTGRES_SESSIONS, &[], self.tasks.len() as f64);
            }
        };
        let ended = tokio::select! {
            () = all => true,
            () = end => false,
        };
        if !ended {
            tracing::warn!(open = self.tasks.len(), "statements are broken off: the drain is over");
            self.tasks.shutdown().await;
        }
    }
}
