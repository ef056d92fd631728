//! One memory pool for everything, as a trait: connectors reserve, `runtime` implements it over
//! DataFusion's pool.

use std::sync::Arc;

use crate::Result;

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
