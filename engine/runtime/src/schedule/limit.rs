//! Sources that give few rows and end: for trying a job before it is run.
//!
//! In: a registry, a number of rows. Out: a registry whose sources hand out the first rows of what
//! they have, read when they are asked and held in memory, so that any number of tables reads the
//! same ones. What was taken is never acknowledged: whoever keeps rows until then keeps them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde_json::Value;
use sluice_core::{
    Config, Context, Decoded, Error, Intake, Limit, Offsets, Problems, Reader, Registry,
    Reservation, Result, RowStream, Scan, Source, SourceFactory, Split, Start,
};

/// `registry`, with sources that give `rows` rows each, rejected ones counted.
pub fn limited(registry: &Registry, rows: u64) -> Registry {
    registry.sources().fold(registry.clone(), |limited, inner| {
        limited.with_source(Arc::new(Factory { inner: inner.clone(), rows }))
    })
}

struct Factory {
    inner: Arc<dyn SourceFactory>,
    rows: u64,
}

#[async_trait]
impl SourceFactory for Factory {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn config_schema(&self) -> Value {
        self.inner.config_schema()
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        self.inner.check(config, problems);
    }

    fn schema(&self, config: &Config) -> Result<SchemaRef> {
        self.inner.schema(config)
    }

    fn retracts(&self, config: &Config) -> bool {
        self.inner.retracts(config)
    }

    async fn build(&self, config: &Config, context: &Context) -> Result<Box<dyn Source>> {
        let inner = self.inner.build(config, context).await?;
        let reader = Arc::new(Held { schema: inner.reader().schema(), splits: Vec::new() });
        let memory = context.memory.reserve(&format!("the first rows of {}", config.name));
        Ok(Box::new(Few { inner, left: self.rows, reader, memory }))
    }
}

/// A source at whose end are few rows.
struct Few {
    inner: Box<dyn Source>,
    left: u64,
    reader: Arc<Held>,
    memory: Box<dyn Reservation>,
}

impl Few {
    /// The chunks of a split, up to the rows that are left.
    async fn hold(&mut self, split: Split) -> Result<Vec<Decoded>> {
        let mut chunks = Vec::new();
        let mut rows = self.inner.reader().open(split, &Scan::default());
        while self.left > 0
            && let Some(decoded) = rows.next().await
        {
            let Decoded { rows, mut rejected, .. } = decoded?;
            let taken = self.left.min(rows.num_rows() as u64);
            self.left -= taken;
            let rows = rows.slice(0, usize::try_from(taken).unwrap_or(usize::MAX));
            rejected.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= rejected.len() as u64;
            self.memory.resize(self.memory.bytes() + rows.get_array_memory_size())?;
            chunks.push(Decoded::new(rows, rejected));
        }
        Ok(chunks)
    }
}

#[async_trait]
impl Source for Few {
    async fn seek(&mut self, start: Start) -> Result<()> {
        self.inner.seek(start).await
    }

    async fn poll(&mut self, limit: Limit) -> Result<Intake> {
        if self.left == 0 {
            return Ok(Intake::default());
        }
        let limit = Limit { rows: limit.rows.min(self.left), ..limit };
        let mut intake = self.inner.poll(limit).await?;
        self.memory.resize(0)?;
        let mut splits = Vec::with_capacity(intake.splits.len());
        for split in std::mem::take(&mut intake.splits) {
            let mut shown = split.clone();
            let chunks = self.hold(split).await?;
            shown.rows = chunks.iter().map(|c| c.rows.num_rows() as u64).sum();
            shown.detail = Value::from(splits.len());
            intake.splits.push(shown);
            splits.push(chunks);
        }
        self.reader = Arc::new(Held { schema: self.reader.schema.clone(), splits });
        intake.more &= self.left > 0;
        Ok(intake)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    async fn acknowledge(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }
}

/// The rows of one poll, by split.
#[derive(Debug)]
struct Held {
    schema: SchemaRef,
    splits: Vec<Vec<Decoded>>,
}

impl Reader for Held {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn open(&self, split: Split, _scan: &Scan) -> RowStream {
        let at = split.detail.as_u64().and_then(|at| usize::try_from(at).ok());
        let Some(chunks) = at.and_then(|at| self.splits.get(at)) else {
            let error = Error::bug(format!("a split of another poll object={}", split.object));
            return stream::once(async { Err(error) }).boxed();
        };
        let copy = |chunk: &Decoded| Ok(Decoded::new(chunk.rows.clone(), chunk.rejected.clone()));
        stream::iter(chunks.iter().map(copy).collect::<Vec<_>>()).boxed()
    }
}
