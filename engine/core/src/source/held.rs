//! What a split carries along: bytes or rows that were fetched before the plan runs.
//!
//! In: anything its own connector knows. Out: the same, to the reader of that connector. Nobody else
//! looks inside; it is freed when the epoch is done with its splits.

use std::any::Any;
use std::sync::Arc;

/// Something shared that only its connector understands, or nothing.
#[derive(Clone, Default)]
pub struct Held(Option<Arc<dyn Any + Send + Sync>>);

impl Held {
    /// Holds `what`.
    pub fn new<T: Any + Send + Sync>(what: Arc<T>) -> Self {
        Self(Some(what))
    }

    /// What is held, if it is a `T`.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.clone()?.downcast().ok()
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Held(…)" } else { "Held" })
    }
}
