//! How connectors are made: a name, a JSON Schema, a check, and a build.
//!
//! `app` puts the factories of `connectors` into a [`Registry`] and hands it to `runtime`; the two
//! never meet.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::{
    Advance, Clock, Config, Error, FileSink, Membership, Memory, Outlet, Problems, Reader, Recount,
    Result, Secrets, Source, Standing,
};

/// What a connector is given when it is built.
#[derive(Debug, Clone)]
pub struct Context {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The memory pool to reserve queues and buffers from.
    pub memory: Arc<dyn Memory>,
    /// The job's secrets.
    pub secrets: Secrets,
    /// The job's name.
    pub job: String,
}

/// Makes sources of one kind.
#[async_trait]
pub trait SourceFactory: Send + Sync {
    /// The value of `connector:`.
    fn name(&self) -> &'static str;

    /// JSON Schema of the entry without `connector` and `schema`; `additionalProperties: false`.
    fn config_schema(&self) -> serde_json::Value;

    /// Finds what the JSON Schema cannot say. Pure: no files, no network.
    fn check(&self, config: &Config, problems: &mut Problems);

    /// The rows' schema, without the position column. Pure: no files, no network.
    fn schema(&self, config: &Config) -> Result<SchemaRef>;

    /// Whether rows may be taken back later by the object they came from
    /// ([`crate::Intake::retracted`]).
    fn retracts(&self, config: &Config) -> bool;

    /// Whether a file at `path`, a path or URL, would be one of those that are read. Pure: no
    /// files, no network.
    fn takes(&self, _config: &Config, _path: &str) -> bool {
        false
    }

    /// Whether the source has numbered partitions that several chains can share out
    /// ([`crate::Start::shard`]), and which one a row is in never changes. Pure: no files, no
    /// network. Errors: `Config`, with why they cannot.
    fn shards(&self, _config: &Config) -> Result<()> {
        Err(Error::config("a job with shards takes sources that have partitions")
            .hint("take `shards` away, or read the source in another job"))
    }

    /// Joins the group of those processes that run this job's `shards` slices; none where the
    /// connector has no such group, and whoever comes first runs them. Asks servers. Errors: of
    /// kind `Config` when there are fewer partitions than slices.
    async fn membership(
        &self,
        _config: &Config,
        _context: &Context,
        _shards: u32,
    ) -> Result<Option<Box<dyn Membership>>> {
        Ok(None)
    }

    /// A reader of rows that could not be decoded when they were taken, for another try; none where
    /// their bytes are not enough for it.
    ///
    /// Each split it is given holds ([`crate::Split::held`]) an `arrow` batch of
    /// [`crate::rejected_schema`], whose `bytes` are never null nor cut; they are empty where there
    /// were none. Every row of it becomes one decoded row or more, in its place, or one rejected row
    /// with the object and position it has already. Columns that tell where a row came from and that
    /// the bytes do not hold are null.
    async fn again(&self, _config: &Config, _context: &Context) -> Result<Option<Arc<dyn Reader>>> {
        Ok(None)
    }

    /// Begins to take in what others send, where the source is one that is sent to: from now on it
    /// is taken in whether or not a run reads it. Called again when the definition changed, which
    /// then replaces the one before. Errors: of kind `Config` when another source listens there
    /// already; what listened before goes on.
    async fn listen(&self, _config: &Config, _context: &Context) -> Result<()> {
        Ok(())
    }

    /// Makes the source. May look at files and servers.
    async fn build(&self, config: &Config, context: &Context) -> Result<Box<dyn Source>>;

    /// What the source's partitions have now; nothing where that cannot be told. Asks servers.
    async fn standing(&self, _config: &Config, _context: &Context) -> Result<Vec<Standing>> {
        Ok(Vec::new())
    }

    /// Counts what lies in `ranges` again; nothing where positions are not rows. Asks servers.
    async fn recount(
        &self,
        _config: &Config,
        _context: &Context,
        _ranges: &[Advance],
    ) -> Result<Vec<Recount>> {
        Ok(Vec::new())
    }
}

/// A sink that was made.
#[derive(Clone)]
pub enum BuiltSink {
    /// It writes files on the lake's store, sealed and published with the epoch.
    Files(Arc<dyn FileSink>),
    /// It is outside of the lake, and fed from an outbox after the epoch is published.
    Outlet(Arc<dyn Outlet>),
}

impl BuiltSink {
    /// The file sink, if it is one.
    pub fn files(self) -> Option<Arc<dyn FileSink>> {
        match self {
            BuiltSink::Files(sink) => Some(sink),
            BuiltSink::Outlet(_) => None,
        }
    }

    /// The outlet, if it is one.
    pub fn outlet(self) -> Option<Arc<dyn Outlet>> {
        match self {
            BuiltSink::Files(_) => None,
            BuiltSink::Outlet(outlet) => Some(outlet),
        }
    }
}

/// Makes sinks of one kind.
pub trait SinkFactory: Send + Sync {
    /// The value of `connector:`.
    fn name(&self) -> &'static str;

    /// JSON Schema of the entry without `connector` and `from`; `additionalProperties: false`.
    fn config_schema(&self) -> serde_json::Value;

    /// Finds what the JSON Schema cannot say. Pure.
    fn check(&self, config: &Config, problems: &mut Problems);

    /// Whether several chains of a job may feed it at once.
    fn shards(&self) -> bool {
        false
    }

    /// Whether its sinks are outside of the lake and fed from outboxes.
    fn is_outlet(&self) -> bool {
        false
    }

    /// Makes the sink. Pure: no files, no network.
    fn build(&self, config: &Config) -> Result<BuiltSink>;
}

/// All connectors by name.
#[derive(Clone, Default)]
pub struct Registry {
    sources: BTreeMap<&'static str, Arc<dyn SourceFactory>>,
    sinks: BTreeMap<&'static str, Arc<dyn SinkFactory>>,
}

impl Registry {
    /// Adds a kind of source.
    #[must_use]
    pub fn with_source(mut self, factory: Arc<dyn SourceFactory>) -> Self {
        self.sources.insert(factory.name(), factory);
        self
    }

    /// Adds a kind of sink.
    #[must_use]
    pub fn with_sink(mut self, factory: Arc<dyn SinkFactory>) -> Self {
        self.sinks.insert(factory.name(), factory);
        self
    }

    /// The factory of sources named `connector`.
    pub fn source(&self, connector: &str) -> Option<&Arc<dyn SourceFactory>> {
        self.sources.get(connector)
    }

    /// The factory of sinks named `connector`.
    pub fn sink(&self, connector: &str) -> Option<&Arc<dyn SinkFactory>> {
        self.sinks.get(connector)
    }

    /// All kinds of sources, by name.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<dyn SourceFactory>> {
        self.sources.values()
    }

    /// All kinds of sinks, by name.
    pub fn sinks(&self) -> impl Iterator<Item = &Arc<dyn SinkFactory>> {
        self.sinks.values()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("sources", &self.sources.keys())
            .field("sinks", &self.sinks.keys())
            .finish()
    }
}
