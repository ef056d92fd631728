//! One memory pool for everything, as a trait: connectors reserve, `runtime` implements it over
//! DataFusion's pool.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Kind, Result, format_bytes};

/// A pool of memory shared by the whole run.
pub trait Memory: Send + Sync + std::fmt::Debug {
    /// A reservation of 0 bytes for `owner`, which messages name.
    fn reserve(&self, owner: &str) -> Box<dyn Reservation>;

    /// How many bytes the pool has; none without a limit.
    fn bytes_max(&self) -> Option<usize>;
}

/// Bytes set aside; dropping gives them back.
pub trait Reservation: Send + Sync {
    /// Sets the reservation to `bytes`. An error leaves it as it was: spill or wait.
    fn resize(&mut self, bytes: usize) -> Result<()>;

    /// The same for an owner that can neither spill nor wait. What others could spill counts as
    /// room: they give way when they grow the next time, and until then more is reserved than
    /// there is. An error means that there would be no room even then; it leaves the reservation
    /// as it was.
    fn insist(&mut self, bytes: usize) -> Result<()>;

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

    fn bytes_max(&self) -> Option<usize> {
        None
    }
}

/// A reservation that takes no more than a share of the pool unless it insists, so that what it is
/// for stays as small beside much data as beside little: an owner that gives way when it cannot
/// grow does so before the pool is full.
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

    fn insist(&mut self, bytes: usize) -> Result<()> {
        self.held.insist(bytes)
    }

    fn bytes(&self) -> usize {
        self.held.bytes()
    }
}

/// One reservation that many take parts of, so that it has one owner and one share.
#[derive(Clone)]
pub struct Common {
    held: Arc<Mutex<Box<dyn Reservation>>>,
}

impl Common {
    /// Parts are taken of `held`, which nobody else resizes.
    pub fn of(held: Box<dyn Reservation>) -> Self {
        Self { held: Arc::new(Mutex::new(held)) }
    }

    /// A part of 0 bytes.
    pub fn part(&self) -> Box<dyn Reservation> {
        Box::new(Part { common: self.clone(), bytes: 0 })
    }
}

impl std::fmt::Debug for Common {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Common").field("bytes", &held.bytes()).finish()
    }
}

struct Part {
    common: Common,
    bytes: usize,
}

impl Part {
    fn set(
        &mut self,
        bytes: usize,
        set: impl FnOnce(&mut dyn Reservation, usize) -> Result<()>,
    ) -> Result<()> {
        let mut held = self.common.held.lock().unwrap_or_else(PoisonError::into_inner);
        let others = held.bytes().saturating_sub(self.bytes);
        set(held.as_mut(), others.saturating_add(bytes))?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Reservation for Part {
    fn resize(&mut self, bytes: usize) -> Result<()> {
        self.set(bytes, |held, all| held.resize(all))
    }

    fn insist(&mut self, bytes: usize) -> Result<()> {
        self.set(bytes, |held, all| held.insist(all))
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Giving back is never refused to one who insists.
        drop(self.insist(0));
    }
}

struct Counted(usize);

impl Reservation for Counted {
    fn resize(&mut self, bytes: usize) -> Result<()> {
        self.0 = bytes;
        Ok(())
    }

    fn insist(&mut self, bytes: usize) -> Result<()> {
        self.resize(bytes)
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
        assert!(share.insist(101).is_ok());
        assert!(share.resize(0).is_ok());
    }

    #[test]
    fn parts_share_what_is_common_and_give_it_back() {
        let common = Common::of(Share::of(&Unbounded, "readers", 100));
        let (mut one, mut other) = (common.part(), common.part());
        one.resize(60).unwrap();
        assert!(other.resize(41).is_err());
        assert_eq!(other.bytes(), 0);
        other.resize(40).unwrap();
        one.insist(90).unwrap();
        assert_eq!((one.bytes(), other.bytes()), (90, 40));
        assert_eq!(common.held.lock().unwrap().bytes(), 130);
        drop(one);
        assert_eq!(common.held.lock().unwrap().bytes(), 40);
        drop(other);
        assert_eq!(common.held.lock().unwrap().bytes(), 0);
    }
}
