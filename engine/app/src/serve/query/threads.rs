//! Threads of their own for queries.
//!
//! In: work that keeps a processor busy. Out: the same work on threads that answer no requests. A
//! query runs for milliseconds between two moments in which it lets others work; on the threads of
//! the server an acknowledgement of a webhook would wait that long, and there are more than one of
//! them. Here the operating system shares the processors out, in pieces that are short.

use std::future::Future;

use sluice_core::{Error, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{AbortHandle, JoinHandle};

/// Deep SQL is planned recursively, and copied and dropped so, where nobody looks how much is left.
/// It takes memory only as far as it is used.
const STACK_BYTES: usize = 32 << 20;

/// The threads of all queries.
#[derive(Debug)]
pub(super) struct Threads {
    /// Always there but while it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// So many.
    pub fn start(count: usize) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count.max(1))
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|e| Error::unavailable("cannot start threads for queries").because(e))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Begins `work`; none while the process ends.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<JoinHandle<T>> {
        self.runtime.as_ref().map(|runtime| runtime.spawn(work))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped by a task, which must not wait.
            runtime.shutdown_background();
        }
    }
}

/// Ends a task when it is dropped.
#[derive(Debug)]
pub(super) struct EndOnDrop(pub AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
