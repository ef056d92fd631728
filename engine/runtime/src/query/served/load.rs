//! One job as it is kept between questions: its lake, its records, its relations.
//!
//! In: a job, and the wish to look again. Out: a new [`ShownJob`] when something changed: all of
//! its tables at one epoch, or none of them. An error leaves what was shown, and the next look goes
//! on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};
use sluice_core::Result;
use sluice_lake::store::{self, Location};

use super::keep::{self, Kept, Origin};
use super::look::Look;
use super::shown::ShownJob;
use crate::epoch::Environment;
use crate::outbox::undelivered_schema;
use crate::plan::{Graph, undelivered_name};
use crate::query::Readable;
use crate::query::held::kind_of;
use crate::recover::definition_of;

/// Tables that are loaded at once: enough to hide a store's latency.
const TABLES_AT_ONCE: usize = 8;

/// How long a lake that does not answer is left alone at first, and at most.
const REST: Duration = Duration::from_millis(400);
const REST_MAX: Duration = Duration::from_secs(5);

/// One job.
#[derive(Debug)]
pub(super) struct Loaded {
    job: Readable,
    definition: Arc<str>,
    /// None until its store was opened.
    root: Option<Location>,
    look: Look,
    relations: BTreeMap<String, Kept>,
    /// By the name of the sink.
    undelivered: BTreeMap<String, Kept>,
    /// Whether something was published that is not shown.
    due: bool,
    /// Failures since it answered, and until when it is left alone, by the monotonic clock.
    failures: u32,
    rests_until: Duration,
    /// What is shown of it; none before the first look.
    pub shown: Option<Arc<ShownJob>>,
}

impl Loaded {
    /// A job that was not looked at.
    pub fn new(job: &Readable) -> Self {
        Self {
            job: job.clone(),
            definition: definition(&job.graph),
            root: None,
            look: Look::default(),
            relations: BTreeMap::new(),
            undelivered: BTreeMap::new(),
            due: true,
            failures: 0,
            rests_until: Duration::ZERO,
            shown: None,
        }
    }

    /// Goes on with `job`, which has the same name. What is known of the lake stays where the lake
    /// does.
    pub fn adopt(&mut self, job: &Readable) {
        if is_same(&self.job, job) {
            return;
        }
        let mut next = Self::new(job);
        if self.job.graph.job.lake == job.graph.job.lake {
            next.look = std::mem::take(&mut self.look);
            let stale = |(name, kept): (String, Kept)| (name, kept.stale());
            next.relations = std::mem::take(&mut self.relations).into_iter().map(stale).collect();
        }
        *self = next;
    }

    /// Whether its lake failed a moment ago and is left alone.
    pub fn rests(&self, env: &Environment) -> bool {
        env.clock.monotonic() < self.rests_until
    }

    /// Looks again, and loads what moved. Gives whether something else is to be shown.
    pub async fn refresh(&mut self, env: &Environment, context: &SessionContext) -> Result<bool> {
        let looked = self.renew(env, context).await;
        self.failures = if looked.is_ok() { 0 } else { self.failures.saturating_add(1) };
        if looked.is_err() {
            let doubled = REST * 2_u32.saturating_pow(self.failures.saturating_sub(1).min(8));
            self.rests_until = env.clock.monotonic() + doubled.min(REST_MAX);
        }
        looked
    }

    async fn renew(&mut self, env: &Environment, context: &SessionContext) -> Result<bool> {
        let name = self.job.graph.job.name.clone();
        let root = match &self.root {
            Some(root) => root.clone(),
            None => store::open(&self.job.graph.job.lake, &self.job.secrets)?,
        };
        self.root = Some(root.clone());
        let looked = self.look.again(&root, &name, env.clock.monotonic()).await?;
        self.due |= looked.newer;
        let origin = Origin {
            root,
            graph: self.job.graph.clone(),
            published: Arc::new(self.look.published()),
            context: context.clone(),
        };
        let mut changed = self.due;
        if self.due {
            self.load(&origin).await?;
        }
        // Sinks deliver at their own pace: their records are not those of epochs.
        if self.due || looked.whole {
            changed |= self.load_undelivered(&origin).await?;
        }
        if changed {
            self.shown = Some(Arc::new(self.now(&origin)));
            self.due = false;
        }
        Ok(changed)
    }

    async fn load(&mut self, origin: &Origin) -> Result<()> {
        let mut work: Vec<BoxFuture<'static, (String, Result<Kept>)>> = Vec::new();
        for (name, schema) in origin.graph.relations() {
            let before = self.relations.remove(&name);
            let origin = origin.clone();
            work.push(Box::pin(async move {
                let kept = keep::relation(origin, name.clone(), schema, before).await;
                (name, kept)
            }));
        }
        let mut loaded = stream::iter(work).buffer_unordered(TABLES_AT_ONCE);
        let mut failed = None;
        while let Some((name, kept)) = loaded.next().await {
            match kept {
                Ok(kept) => drop(self.relations.insert(name, kept)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn load_undelivered(&mut self, origin: &Origin) -> Result<bool> {
        let mut changed = false;
        for (sink, schema) in outlets(&origin.graph) {
            let before = self.undelivered.remove(&sink);
            let (kept, newer) =
                keep::undelivered(origin.clone(), sink.clone(), schema, before).await?;
            self.undelivered.insert(sink, kept);
            changed |= newer;
        }
        Ok(changed)
    }

    /// What is loaded, in the order of the job's file.
    fn now(&self, origin: &Origin) -> ShownJob {
        let relations = origin.graph.relations().into_iter();
        let relations = relations.filter_map(|(name, _)| self.relations.get(&name));
        let outlets = outlets(&origin.graph).into_iter();
        let outlets = outlets.filter_map(|(sink, _)| self.undelivered.get(&sink));
        ShownJob {
            job: self.job.clone(),
            definition: self.definition.clone(),
            published: origin.published.as_ref().clone(),
            tables: relations.chain(outlets).map(|kept| kept.table.clone()).collect(),
        }
    }
}

/// Whether two readings are one and the same.
pub(super) fn is_same(a: &Readable, b: &Readable) -> bool {
    Arc::ptr_eq(&a.graph, &b.graph)
}

/// Everything of a job that a question may name, with what it is and its columns.
pub(super) fn names(graph: &Graph) -> Vec<(String, &'static str, SchemaRef)> {
    let relations = graph.relations().into_iter();
    let relations = relations.map(|(name, schema)| {
        let kind = kind_of(graph, &name).name();
        (name, kind, schema)
    });
    let outlets = outlets(graph).into_iter().map(|(sink, schema)| {
        (undelivered_name(&sink), "undelivered", undelivered_schema(&schema))
    });
    relations.chain(outlets).collect()
}

/// Changes with how any relation of a job is made.
pub(super) fn definition(graph: &Graph) -> Arc<str> {
    let mut hash = Sha256::new();
    for (name, schema) in graph.relations() {
        hash.update(&name);
        hash.update(definition_of(graph, &name));
        hash.update(schema.to_string());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// The sinks outside of the lake, with the columns of their rows.
fn outlets(graph: &Graph) -> Vec<(String, SchemaRef)> {
    let with_columns = |sink: &crate::plan::SinkNode| {
        Some((sink.spec.name.clone(), graph.columns_of(&sink.spec.from)?))
    };
    graph.outlets().filter_map(with_columns).collect()
}
