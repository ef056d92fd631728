//! The socket requests come in by: bound here, or handed over by whoever started the process.
//!
//! In: an address, the state folder, what a supervisor left in the environment (`LISTEN_FDS`). Out: a
//! socket that is bound and not yet open. Nothing is accepted here.
//!
//! Two processes of one project may have the same address at once (`SO_REUSEPORT`), so that the next
//! one answers before the last one ends. The kernel would let any two processes of a user share it, so
//! a file in the state folder says whose address it is; anybody else finds it taken.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_core::{Error, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::environment;

/// Connections that may wait to be accepted; the kernel's own limit is 4096 on most machines.
const BACKLOG: i32 = 1024;

/// The first descriptor that a supervisor hands over.
const FIRST_PASSED: i32 = 3;

/// Which of the handed descriptors are in use, so that none is taken twice.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// A socket that nobody can connect to yet.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: Socket,
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// Whether somebody else keeps it open when this process ends.
    pub(crate) passed: bool,
    claim: Option<Claim>,
}

impl Bound {
    /// Takes the socket that was handed over as `name`, or as number `place` without names, else binds
    /// `address`. Errors: `Config` for an address that is none, is taken, or that others can reach
    /// while `open`, which says that nobody needs a token.
    pub(crate) fn take(
        name: &str,
        place: usize,
        address: &str,
        state: &Path,
        open: bool,
    ) -> Result<Self> {
        let failed = |e: io::Error| {
            Error::config(format!("the socket that was handed over cannot be used name={name}"))
                .hint("hand over a stream socket that listens, as systemd's ListenStream does")
                .because(e)
        };
        if let Some(socket) = passed(name, place).transpose().map_err(failed)? {
            let local = socket.local_addr().map_err(failed)?.as_socket();
            let address = local.ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
            refuse_strangers(&address.to_string(), address, open)?;
            return Ok(Self { socket, address, passed: true, claim: None });
        }
        let odd = |e: io::Error| {
            Error::config(format!("this is no address address={address}"))
                .hint("write HOST:PORT, such as 127.0.0.1:8080; port 0 takes any")
                .because(e)
        };
        let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(odd)?.collect();
        for one in &found {
            refuse_strangers(address, *one, open)?;
        }
        let mut last = odd(io::ErrorKind::NotFound.into());
        for one in found {
            match bind(one, state) {
                Ok(bound) => return Ok(bound),
                Err(error) => last = taken(name, address, error),
            }
        }
        Err(last)
    }

    /// Opens it: connections wait from now on until they are accepted.
    pub(crate) fn open(self) -> io::Result<(TcpListener, Option<Claim>)> {
        if !self.passed {
            self.socket.listen(BACKLOG)?;
        }
        self.socket.set_nonblocking(true)?;
        Ok((self.socket.into(), self.claim))
    }
}

fn taken(name: &str, address: &str, error: io::Error) -> Error {
    let others = "another program has it, or another project";
    Error::config(format!("the address cannot be listened at address={address}"))
        .hint(format!("{others}; `serve.{name}` or --{name} names another one"))
        .because(error)
}

/// Refuses to let other machines in while nobody needs a token, as `open` says. Errors: `Config`.
pub(crate) fn refuse_strangers(text: &str, address: SocketAddr, open: bool) -> Result<()> {
    if !open || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let message = format!("others can reach this address and nobody needs a token address={text}");
    Err(Error::config(message)
        .hint("add `users:` with tokens (`sluice token` makes one), or listen at 127.0.0.1"))
}

/// Binds an address that is free, or that an earlier process of this project has.
fn bind(address: SocketAddr, state: &Path) -> io::Result<Bound> {
    let shared = match bound(address, false) {
        // The kernel would share it with a process that allows that, whoever it belongs to.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !Claim::is_ours(state, address) {
                return Err(error);
            }
            bound(address, true)?
        }
        Err(error) => return Err(error),
        Ok(alone) => {
            // A port that the kernel chose is asked for again by its number.
            let chosen = alone.local_addr()?.as_socket().unwrap_or(address);
            drop(alone);
            bound(chosen, true)?
        }
    };
    let address = shared.local_addr()?.as_socket().unwrap_or(address);
    let claim = Claim::make(state, address)?;
    Ok(Bound { socket: shared, address, passed: false, claim: Some(claim) })
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    #[cfg(not(unix))]
    let _ = shared;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A note in the state folder that an address is this project's.
#[derive(Debug)]
pub(crate) struct Claim {
    file: PathBuf,
    pid: String,
}

impl Claim {
    fn file(state: &Path, address: SocketAddr) -> PathBuf {
        let name: String = address
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        state.join("listening").join(name)
    }

    fn make(state: &Path, address: SocketAddr) -> io::Result<Self> {
        let file = Self::file(state, address);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let pid = std::process::id().to_string();
        fs::write(&file, &pid)?;
        Ok(Self { file, pid })
    }

    /// Whether a process of this project has the address.
    fn is_ours(state: &Path, address: SocketAddr) -> bool {
        let Ok(pid) = fs::read_to_string(Self::file(state, address)) else { return false };
        let processes = Path::new("/proc");
        let digits = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        digits && (!processes.join("self").exists() || processes.join(&pid).exists())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The next process may have written its own already.
        let own = fs::read_to_string(&self.file).is_ok_and(|pid| pid == self.pid);
        if own && let Err(error) = fs::remove_file(&self.file) {
            tracing::warn!(%error, "a note about the address stays in the state folder");
        }
    }
}

/// A socket that was handed over, if there is one.
fn passed(name: &str, place: usize) -> Option<io::Result<Socket>> {
    let names = environment::passed_sockets();
    let named = names.iter().position(|known| known == name);
    let nameless = || names.iter().all(|known| known != "http" && known != "postgres");
    let place = named.or_else(|| (place < names.len() && nameless()).then_some(place))?;
    let bit = 1_u64.checked_shl(u32::try_from(place).ok()?)?;
    if TAKEN.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return None;
    }
    Some(adopted(FIRST_PASSED + i32::try_from(place).ok()?))
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "a descriptor that was handed over has only its number")]
fn adopted(descriptor: i32) -> io::Result<Socket> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: whoever started this process says that the descriptor is open and ours, and `TAKEN`
    // that nobody has it yet.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let socket = Socket::from(owned);
    socket.set_cloexec(true)?;
    Ok(socket)
}

#[cfg(not(unix))]
fn adopted(_descriptor: i32) -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// From now on the kernel drops what would begin a connection, and completes those that have begun.
/// Whoever is dropped asks again a second later, and finds the process that has the address then. False
/// where the kernel cannot.
pub(crate) fn hold_new(listener: &TcpListener) -> bool {
    #[cfg(target_os = "linux")]
    {
        use socket2::SockFilter;
        // Byte 13 of a TCP header has the flags; SYN is the second.
        let drop_syn = [
            SockFilter::new(0x30, 0, 0, 13),
            SockFilter::new(0x45, 0, 1, 0x02),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        SockRef::from(listener).attach_filter(&drop_syn).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = SockRef::from(listener);
        false
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn take(address: &str, state: &Path, open: bool) -> Result<Bound> {
        Bound::take("http", 0, address, state, open)
    }

    #[test]
    fn other_machines_are_let_in_only_with_tokens() {
        let state = tempfile::tempdir().unwrap();
        for address in ["0.0.0.0:0", "[::]:0"] {
            let error = take(address, state.path(), true).unwrap_err();
            assert!(error.hint_text().is_some_and(|hint| hint.contains("users")), "{error:?}");
        }
        assert!(take("127.0.0.1:0", state.path(), true).is_ok());
        assert!(take("0.0.0.0:0", state.path(), false).is_ok());
        for address in ["nonsense", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(take(address, state.path(), false).is_err(), "{address}");
        }
    }

    #[test]
    fn one_project_shares_its_address_and_no_other_gets_it() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = take("127.0.0.1:0", ours.path(), true).unwrap();
        let address = first.address.to_string();
        let (_first, claim) = first.open().unwrap();
        assert!(take(&address, theirs.path(), true).is_err());
        let second = take(&address, ours.path(), true).unwrap();
        let (_second, _claim) = second.open().unwrap();
        assert!(TcpStream::connect(&address).is_ok());
        drop(claim);
    }

    #[test]
    fn an_address_that_somebody_else_took_stays_taken() {
        let state = tempfile::tempdir().unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let error = take(&address.to_string(), state.path(), true).unwrap_err();
        assert!(error.hint_text().is_some(), "{error:?}");
        // A note that a dead process left makes it nobody's.
        fs::create_dir_all(state.path().join("listening")).unwrap();
        fs::write(Claim::file(state.path(), address), "4294967294").unwrap();
        assert!(!Claim::is_ours(state.path(), address));
    }

    #[test]
    fn connections_that_have_begun_outlive_the_hold() {
        let state = tempfile::tempdir().unwrap();
        let bound = take("127.0.0.1:0", state.path(), true).unwrap();
        let address = bound.address;
        let (listener, _claim) = bound.open().unwrap();
        let _waiting = TcpStream::connect(address).unwrap();
        hold_new(&listener);
        assert!(listener.accept().is_ok());
    }
}
