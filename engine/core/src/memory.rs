//! One memory pool for everything, as a trait: connectors reserve, `runtime` implements it over
//! DataFusion's pool.

use std::sync::Arc;

use crate::{Error, Kind, Result, format_bytes};

/// A pool of memory shared by the whole run.
pub trait Memory: Send + Sync + std::fmt::Debug {
    /// A reservation of 0 bytes for `owner`, which messages name.
    fn reserve(&self, owner: &str) -> Box<dyn Reservation>;
}

/// Bytes set aside; dropping gives them back.
pub trait Reservation: Send + Sync {
    /// Sets the reservation to `bytes`. An error leaves it as it was: spill or wait.
    fn resize(&mut self, bytes: usize) -> Result<()>;

    /// Bytes reserved now.
    fn bytes(&self) -> usize;
}

/// A pool without a limit, for tests and tools.
#[derive(Debug, Default, Clone)]
pub struct Unbounded;

impl Unbounded {
    /// As a shared pool.
    pub fn shared() -> Arc<dyn Memory> {
        Arc::new(Self)
    }
}

impl Memory for Unbounded {
    fn reserve(&self, _owner: &str) -> Box<dyn Reservation> {
        Box::new(Counted(0))
    }
}

/// A reservation that never takes more than a share of the pool, so that what it is for stays as
/// small beside much data as beside little: an owner that gives way when it cannot grow does so
/// before the pool is full.
pub struct Share {
    owner: String,
    held: Box<dyn Reservation>,
    bytes_max: usize,
}

impl Share {
    /// A reservation of at most `bytes_max` bytes of `memory` for `owner`.
    pub fn of(memory: &dyn Memory, owner: &str, bytes_max: usize) -> Box<dyn Reservation> {
        Box::new(Self { owner: owner.to_string(), held: memory.reserve(owner), bytes_max })
    }
}

impl Reservation for Share {
    fn resize(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.bytes_max {
            let (wanted, share) = (bytes as u64, self.bytes_max as u64);
            let (wanted, share) = (format_bytes(wanted), format_bytes(share));
            let owner = &self.owner;
            let message =
                format!("not enough memory owner={owner:?} wanted={wanted} share={share}");
            return Err(Error::new(Kind::Unavailable, message)
                .with_retry(false)
                .hint("give the run more memory with --memory"));
        }
        self.held.resize(bytes)
    }

    fn bytes(&self) -> usize {
        self.held.bytes()
    }
}

struct Counted(usize);

impl Reservation for Counted {
    fn resize(&mut self, bytes: usize) -> Result<()> {
        self.0 = bytes;
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_ends_before_the_pool_does() {
        let mut share = Share::of(&Unbounded, "a writer", 100);
        assert!(share.resize(100).is_ok());
        let error = share.resize(101).unwrap_err();
        assert!(error.to_string().contains("a writer"), "{error}");
        assert_eq!(share.bytes(), 100);
        assert!(share.resize(0).is_ok());
    }
}
