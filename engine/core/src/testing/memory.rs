//! A memory pool that tests can look into.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Memory, Reservation, Result};

/// A pool of `max` bytes that remembers the most that was ever reserved. Nobody in it gives way.
#[derive(Debug, Clone)]
pub struct Pool {
    max: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    now: usize,
    most: usize,
}

impl Pool {
    /// A pool of `max` bytes.
    pub fn of(max: usize) -> Self {
        Self { max, held: Arc::default() }
    }

    /// What is reserved, and the most that ever was.
    pub fn told(&self) -> (usize, usize) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (held.now, held.most)
    }
}

impl Memory for Pool {
    fn reserve(&self, owner: &str) -> Box<dyn Reservation> {
        Box::new(Reserved { pool: self.clone(), owner: owner.to_string(), bytes: 0 })
    }

    fn bytes_max(&self) -> Option<usize> {
        Some(self.max)
    }
}

struct Reserved {
    pool: Pool,
    owner: String,
    bytes: usize,
}

impl Reservation for Reserved {
    fn resize(&mut self, bytes: usize) -> Result<()> {
        let mut held = self.pool.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = held.now - self.bytes + bytes;
        if now > self.pool.max {
            return Err(Error::unavailable(format!("no room owner={:?}", self.owner)));
        }
        *held = Held { now, most: held.most.max(now) };
        self.bytes = bytes;
        Ok(())
    }

    fn insist(&mut self, bytes: usize) -> Result<()> {
        self.resize(bytes)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
