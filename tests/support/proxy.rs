//! A bad network: a proxy of TCP connections that stalls, delays, resets and refuses on command.
//!
//! In: the port of a server on loopback. Out: a port in front of it. It knows no protocol: what a
//! Kafka broker tells its clients to come back to has to be this port already.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What is read at once: small, so that a cut falls into the middle of an answer.
const BUFFER_BYTES: usize = 16 * 1024;

/// Ports from here on: below those that the kernel gives to outgoing connections, so that nobody has
/// taken one meanwhile when a node is started again.
const PORTS_FROM: u16 = 17_000;
const PORTS: u16 = 12_000;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// Everything gets through.
    Fair,
    /// Nothing gets through, and nobody is told.
    Stalled,
    /// Everything gets through, later.
    Slow(Duration),
    /// Connections are ended as soon as they are made.
    Refusing,
}

/// What connections look at.
#[derive(Clone, Copy, Debug)]
struct State {
    weather: Weather,
    /// Connections of an earlier life end.
    life: u64,
}

/// A port of loopback that nobody listens on, never given twice in a process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes of several checkouts may run at once.
    let first = (std::process::id() * 61 % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let port = PORTS_FROM + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {PORTS_FROM} on is free");
}

/// A proxy, which ends when it is dropped.
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    _runtime: Runtime,
}

impl Proxy {
    /// In front of a port, where nobody needs to listen yet.
    pub fn to(port: u16) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let listener = runtime.block_on(TcpListener::bind(any)).unwrap();
        let own = listener.local_addr().unwrap().port();
        let (state, seen) = watch::channel(State { weather: Weather::Fair, life: 0 });
        runtime.spawn(accept(listener, ([127, 0, 0, 1], port).into(), seen));
        Self { port: own, state, _runtime: runtime }
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Nothing gets through until the weather changes; connections stay.
    pub fn stall(&self) {
        self.is(Weather::Stalled);
    }

    /// Everything takes so much longer, each way.
    pub fn delay(&self, ms: u64) {
        self.is(Weather::Slow(Duration::from_millis(ms)));
    }

    /// Ends all connections with a reset; new ones are made as before.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.life += 1);
    }

    /// Ends all connections with a reset, and those made from now on at once.
    pub fn refuse(&self) {
        self.is(Weather::Refusing);
        self.cut();
    }

    /// All is well again.
    pub fn heal(&self) {
        self.is(Weather::Fair);
    }

    fn is(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Receiver<State>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let mut state = state.clone();
        // This life is one that it has seen: only the next cut ends it.
        let State { weather, life } = *state.borrow_and_update();
        if weather == Weather::Refusing {
            reset(client);
            continue;
        }
        tokio::spawn(async move {
            // Where nobody listens the client is told the same way.
            let Ok(server) = TcpStream::connect(server).await else { return reset(client) };
            join(client, server, state, life).await;
        });
    }
}

/// Carries bytes both ways until both sides have ended, or one fails or the connection is cut: then
/// both are told by a reset, and what was in flight is lost.
async fn join(
    mut client: TcpStream,
    mut server: TcpStream,
    state: watch::Receiver<State>,
    life: u64,
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let there = carry(from_client, to_server, state.clone());
        let back = carry(from_server, to_client, state.clone());
        let mut cut = state;
        tokio::select! {
            carried = async { tokio::try_join!(there, back) } => carried.is_ok(),
            _ = cut.wait_for(|state| state.life > life) => false,
        }
    };
    if !ended {
        reset(client);
        reset(server);
    }
}

/// Carries bytes one way.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        // A delay ends early when the weather does.
        let weather = state.borrow_and_update().weather;
        if let Weather::Slow(delay) = weather {
            let _ = tokio::time::timeout(delay, state.changed()).await;
        }
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let passes = |state: &State| state.weather != Weather::Stalled;
        state.wait_for(passes).await.map_err(|_| gone())?;
        to.write_all(&buffer[..read]).await?;
    }
}

/// Ends a connection so that the other side sees a reset and not an end.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}
