//! A reader whose time is counted.
//!
//! In: a source's reader. Out: the same reader; the time its streams spend being polled, which is
//! decoding and not waiting for bytes, is added to the run's phases.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt};
use sluice_core::{Decoded, Phase, Phases, Reader, Result, RowStream, Scan, Split};

/// A reader and where its time is counted.
#[derive(Debug)]
pub struct CountedReader {
    inner: Arc<dyn Reader>,
    phases: Arc<Phases>,
}

impl CountedReader {
    /// `inner`, counted in `phases`.
    pub fn shared(inner: &Arc<dyn Reader>, phases: &Arc<Phases>) -> Arc<dyn Reader> {
        Arc::new(Self { inner: inner.clone(), phases: phases.clone() })
    }
}

impl Reader for CountedReader {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn open(&self, split: Split, scan: &Scan) -> RowStream {
        Counted { inner: self.inner.open(split, scan), phases: self.phases.clone() }.boxed()
    }
}

struct Counted {
    inner: RowStream,
    phases: Arc<Phases>,
}

impl Stream for Counted {
    type Item = Result<Decoded>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        let Self { inner, phases } = &mut *self;
        phases.during(Phase::Decode, || inner.poll_next_unpin(context))
    }
}
