//! Opening a chain of a job: lease, last manifest, tables, their verdicts, the publication that is
//! missing.

mod relations;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_core::{Error, Kind as ErrorKind, Phases, Result, Secrets, Step, reach};
use sluice_lake::delta::{self, Head};
use sluice_lake::manifest::{Chain, Entry, Holder, Lease, Manifest};
use sluice_lake::snapshot::{Published, Snapshots};
use sluice_lake::store;
use sluice_lake::table::{Dataset, list_dataset};

use super::definition::{
    changed_parts, check_parts, check_shards, check_tables, forget_tables, parts, was_away,
};
use super::evolve::{Fit, fit, fit_beside};
use super::files::{folders, refuse_strays, rooted};
use super::reset::marked;
use super::{Opened, Running, adopt, chains, foreign, learned, state};
use crate::epoch::{
    Environment, Identity, Kind, Lake, Publisher, PublisherTable, Relations, Strand, Worker,
    WorkerState, fenced, gone_on,
};
use crate::function::{SessionOptions, session};
use crate::job::TableFormat;
use crate::plan::Graph;
use crate::state::StateFolder;

/// How to open a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoverOptions {
    /// Take the lease from a live holder.
    pub take_over: bool,
    /// Begin a new life of the chain: everything is read and written again.
    pub rebuild: bool,
    /// Begin a new life on the tables as they are; what sources have now counts as taken.
    pub adopt: bool,
    /// Do what a reset of tables asked for.
    pub marks: bool,
    /// Read what sources have to its end before the first epoch takes it.
    pub careful: bool,
    /// Take nothing that comes after the opening.
    pub bounded: bool,
    /// Go on behind what sources lost.
    pub accept_loss: bool,
    /// What the chain is to the job.
    pub strand: Strand,
    /// Ask no source anything: no epoch will take from one.
    pub idle: bool,
}

/// The lake of a job, with the job's own chain.
pub fn lake_of(env: &Environment, graph: &Graph, secrets: &Secrets) -> Result<Lake> {
    lake_with(env, graph, secrets, &graph.job.name)
}

/// The lake of a job, with one of its chains.
pub fn lake_with(env: &Environment, graph: &Graph, secrets: &Secrets, chain: &str) -> Result<Lake> {
    let root = store::open(&graph.job.lake, secrets)?;
    let chain = Chain::new(&root, chain, env.clock.clone());
    Ok(Lake { root, chain })
}

/// Opens the chain of `lake`, which is the job's own or one beside it, as the options say.
pub async fn open(
    env: &Environment,
    graph: &Arc<Graph>,
    lake: Lake,
    secrets: &Secrets,
    mut options: RecoverOptions,
) -> Result<Running> {
    lake.root.store.probe(&lake.root.child("_sluice").path).await?;
    let (job, chain) = (graph.job.name.clone(), lake.chain.clone());
    let run = env.ids.fresh();
    let holder = Holder { run: run.clone(), host: env.host.clone(), pid: env.pid };
    let clock = env.clock.clone();
    let lease = Lease::acquire(&lake.root, chain.job(), holder, options.take_over, clock).await?;
    let last = chain.last().await?;
    let next = last.as_ref().map_or(0, |e| e.manifest.epoch + 1);
    chain.discard_unreadable(next).await?;
    reach(Step::LeaseTaken, next);
    let mut afresh = BTreeSet::new();
    let (mut founder, mut replays) = (None, BTreeMap::new());
    if options.strand.is_beside() {
        founder = Some(chains::founder(env, &lake, &job).await?);
    } else {
        afresh = marked(&lake, last.as_ref(), &mut options).await?;
        // Before the tables are looked at, which then have at least what these epochs did.
        replays = chains::replays(&lake.root, &job).await?;
        let seen = last.as_ref().map(|e| &e.manifest.offsets);
        let stale = seen.is_some_and(|seen| !gone_on(&replays, seen).is_empty());
        // Who only looks after tables leaves views to the next run, and to readers.
        if stale && options.marks {
            afresh.extend(graph.views.iter().map(|v| v.spec.name.clone()));
        }
    }
    let life = founder.as_ref().or(last.as_ref()).map(|e| e.manifest.incarnation.clone());
    let same_life = |e: &Entry| life.as_ref() == Some(&e.manifest.incarnation);
    let anew = options.rebuild || options.adopt;
    let fresh = anew || !last.as_ref().is_some_and(same_life);
    let incarnation = life.filter(|_| !anew).unwrap_or_else(|| env.ids.fresh());
    let (strand, name) = (options.strand, chain.job().to_string());
    let identity = Identity { job, chain: name, strand, run, incarnation };
    let before = last.as_ref().map(|e| e.manifest.epoch);
    let record = Snapshots::new(&lake.root, &identity.chain).latest().await?;
    let opening = Opening {
        founder,
        fresh,
        replays,
        options,
        afresh,
        ..Opening::looking(env, graph, lake, identity, last, record)
    };
    match restore(opening, secrets).await {
        Ok(Opened { worker, publisher, sources }) => {
            Ok(Running { worker, publisher, sources, lease, adopting: options.adopt })
        }
        Err(error) => {
            // Or the next attempt would find a lease that lives: its own.
            lease.abandon().await;
            Err(overtaken(&chain, before).await?.unwrap_or(error))
        }
    }
}

/// From the last manifest to a job that can go on.
async fn restore(opening: Opening<'_>, secrets: &Secrets) -> Result<Opened> {
    let (env, graph, options) = (opening.env, opening.graph, opening.options);
    let mut relations = opening.relations()?;
    opening.refuse_delta_under_datasets(&relations).await?;
    let heads = opening.heads(&relations).await?;
    if options.adopt {
        opening.judge_adopted(&relations, &heads).await?;
        if let Some(entry) = &opening.last {
            check_tables(graph, &entry.manifest)?;
        }
    }
    if !options.rebuild && !options.adopt {
        opening.judge(&relations, &heads)?;
        if let Some(entry) = &opening.last {
            check_shards(graph, &entry.manifest)?;
        }
        if let Some(entry) = opening.last.as_ref().filter(|_| opening.reads_sources()) {
            check_parts(graph, &entry.manifest)?;
            for part in changed_parts(graph, &entry.manifest).iter().filter(|p| p.loud) {
                tracing::warn!(name = part.name, "{}", part.text);
            }
        }
    }
    let mut publisher = opening.publisher(&relations, heads)?;
    opening.publish_last(&mut publisher).await?;
    opening.load(&mut relations, &publisher).await?;
    opening.warn_of_new_tables(&relations);
    let folders = folders(graph, &opening.lake, &env.registry, &relations)?;
    let first = opening.last.is_none() && !options.strand.is_beside();
    if first && !options.rebuild && !options.adopt {
        refuse_strays(&folders).await?;
    }
    let mut opened = opening.start(relations, publisher, secrets).await?;
    if options.rebuild {
        opened.worker.state.cleared = folders;
    }
    Ok(opened)
}

pub(super) struct Opening<'a> {
    pub env: &'a Environment,
    pub graph: &'a Arc<Graph>,
    pub lake: Lake,
    pub identity: Identity,
    pub last: Option<Entry>,
    /// The newest published record.
    pub record: Option<Published>,
    pub options: RecoverOptions,
    /// Views that are to be built afresh although nothing is wrong with them.
    pub afresh: BTreeSet<String>,
    /// The last epoch of the job's own chain, where this is one beside it.
    pub founder: Option<Entry>,
    /// Whether the chain begins a life: its first, or because the job began one.
    pub fresh: bool,
    /// How many epochs each replay of the job published.
    pub replays: BTreeMap<String, u64>,
}

pub(super) type Heads = BTreeMap<String, Head>;

impl<'a> Opening<'a> {
    /// For who only looks at what is there.
    pub fn looking(
        env: &'a Environment,
        graph: &'a Arc<Graph>,
        lake: Lake,
        identity: Identity,
        last: Option<Entry>,
        record: Option<Published>,
    ) -> Self {
        Self {
            env,
            graph,
            lake,
            identity,
            last,
            record,
            options: RecoverOptions::default(),
            afresh: BTreeSet::new(),
            founder: None,
            fresh: false,
            replays: BTreeMap::new(),
        }
    }
}

impl Opening<'_> {
    /// The last manifest of this life of the chain.
    pub fn manifest(&self) -> Option<&Manifest> {
        let last = self.last.as_ref().map(|e| &e.manifest);
        last.filter(|_| !(self.fresh && self.options.strand.is_beside()))
    }

    /// Whether the chain takes rows of the job's sources, as they come.
    pub fn reads_sources(&self) -> bool {
        match self.options.strand {
            Strand::Main => self.graph.job.shards <= 1,
            Strand::Shard(_) => true,
            Strand::Replay(_) => false,
        }
    }

    pub async fn heads(&self, relations: &Relations) -> Result<Heads> {
        let delta = relations.values().filter(|r| r.format == TableFormat::Delta);
        let loads = delta.map(|r| async move {
            Ok::<_, Error>((r.name.clone(), delta::load(&r.location).await?))
        });
        let loaded = futures::future::try_join_all(loads).await?;
        Ok(loaded.into_iter().filter_map(|(name, head)| Some((name, head?))).collect())
    }

    fn publisher(&self, relations: &Relations, mut heads: Heads) -> Result<Publisher> {
        let mut tables = BTreeMap::new();
        for relation in relations.values() {
            let head = heads.remove(&relation.name);
            tables.insert(relation.name.clone(), PublisherTable::new(relation, head)?);
        }
        Ok(Publisher {
            clock: self.env.clock.clone(),
            memory: self.env.memory.clone(),
            lake: self.lake.clone(),
            identity: self.identity.clone(),
            repairing: tokio::sync::Mutex::new(()),
            tables,
        })
    }

    /// Publishes what is missing of the last sealed epoch. In a new life of the job that one is of no
    /// use any more, but for a replay into tables that were kept.
    async fn publish_last(&self, publisher: &mut Publisher) -> Result<()> {
        let Some(entry) = &self.last else { return Ok(()) };
        let kept = matches!(self.options.strand, Strand::Replay(_));
        if self.fresh && !kept {
            return Ok(());
        }
        let epoch = entry.manifest.epoch;
        let snapshots = Snapshots::new(&self.lake.root, &self.identity.chain);
        if snapshots.get(epoch).await?.is_some() {
            return Ok(());
        }
        tracing::info!(epoch, "publishing an epoch that was sealed and not finished");
        publisher.identity.incarnation.clone_from(&entry.manifest.incarnation);
        let published = publisher.publish(&entry.manifest).await.map(drop);
        publisher.identity.incarnation.clone_from(&self.identity.incarnation);
        match published {
            // The tables it was made for were replaced, and its rows are taken once more.
            Err(error) if self.fresh && error.kind() == ErrorKind::Conflict => Ok(()),
            published => published,
        }
    }

    /// Fills in what exists.
    async fn load(&self, relations: &mut Relations, publisher: &Publisher) -> Result<()> {
        if self.options.rebuild {
            return Ok(());
        }
        let beside = self.options.strand.is_beside();
        // Whether tables were away, and what datasets hold, the job's own chain knows.
        let manifest = self.founder.as_ref().or(self.last.as_ref()).map(|e| &e.manifest);
        let mut retyped = BTreeSet::new();
        for relation in relations.values_mut() {
            match relation.format {
                TableFormat::Delta => {
                    let table = publisher.tables.get(&relation.name);
                    let Some(head) = table.and_then(|t| t.head.as_ref()) else { continue };
                    relation.files = head.files.values().cloned().collect();
                    let known = manifest.filter(|_| !self.options.adopt && !beside);
                    let away = was_away(relation, known)?;
                    let fit =
                        if beside { fit_beside(relation, head)? } else { fit(relation, head)? };
                    let afresh = self.afresh.contains(&relation.name);
                    relation.exists = fit != Fit::Afresh && !away && !afresh;
                    relation.evolves = matches!(fit, Fit::Wider(_));
                    if matches!(fit, Fit::Wider(wider) if !wider.retyped.is_empty()) {
                        retyped.insert(relation.name.clone());
                    }
                }
                TableFormat::Parquet if self.options.adopt => {
                    relation.files = adopt::dataset(relation).await?;
                    relation.exists = !relation.files.is_empty();
                }
                TableFormat::Parquet => {
                    let known = manifest.filter(|m| m.tables.contains_key(&relation.name));
                    let Some(manifest) = known else { continue };
                    let wanted = Dataset {
                        incarnation: &manifest.incarnation,
                        epoch: manifest.epoch,
                        partition_by: &relation.partition_by,
                    };
                    let files = list_dataset(&relation.location, wanted).await?;
                    if !beside {
                        self.check_dataset(relation, files.len() as u64)?;
                    }
                    relation.exists = true;
                    relation.files = rooted(relation, files)?;
                }
            }
        }
        // What such views keep is of the old types.
        for view in &self.graph.views {
            if view.inputs.iter().any(|input| retyped.contains(input)) {
                retyped.insert(view.spec.name.clone());
                if let Some(relation) = relations.get_mut(&view.spec.name) {
                    relation.exists = false;
                }
            }
        }
        Ok(())
    }

    /// Says which tables begin without what their sources gave before.
    fn warn_of_new_tables(&self, relations: &Relations) {
        // Before anything was taken, the next rows are all rows.
        let taken = |last: &Entry| last.manifest.offsets.values().any(|source| !source.is_empty());
        let old = self.last.as_ref().is_some_and(taken);
        let old = old && !self.options.rebuild && !self.options.adopt && self.founder.is_none();
        for relation in relations.values().filter(|r| old && r.kind == Kind::Table && !r.exists) {
            let table = &relation.name;
            tracing::warn!(
                table,
                "a new table begins with the next rows; --rebuild makes it from all of them"
            );
        }
    }

    /// The tables that an earlier life has left.
    fn there(&self, publisher: &Publisher) -> BTreeSet<String> {
        let tables = publisher.tables.iter();
        let is_there = |t: &PublisherTable| {
            t.head.is_some() || (self.options.adopt && t.format == TableFormat::Parquet && t.exists)
        };
        tables.filter(|(_, t)| is_there(t)).map(|(name, _)| name.clone()).collect()
    }

    async fn start(
        self,
        relations: Relations,
        mut publisher: Publisher,
        secrets: &Secrets,
    ) -> Result<Opened> {
        for relation in relations.values() {
            if let Some(table) = publisher.tables.get_mut(&relation.name) {
                table.exists = relation.exists;
                table.files = relation.files.len() as u64;
            }
        }
        let there = self.there(&publisher);
        let time = self.graph.time.clone();
        let context = session(&SessionOptions {
            memory: self.env.pool.clone(),
            partitions: self.env.partitions,
            time: time.clone(),
        })?;
        let mut foreign = foreign::load(self.graph, &context, secrets).await?;
        foreign.epochs.extend(self.replays.clone());
        let manifest = self.last.as_ref().map(|e| &e.manifest);
        // A replay knows by the tables it reads themselves whether they are still the same.
        let replays = matches!(self.options.strand, Strand::Replay(_));
        let kept = manifest.filter(|_| replays || !self.fresh);
        let mut definitions = kept.map(|m| m.definitions.clone()).unwrap_or_default();
        if !replays {
            definitions.extend(parts(self.graph));
            forget_tables(self.graph, &mut definitions);
        }
        let worker_state = WorkerState {
            relations,
            views: BTreeMap::new(),
            remembered: BTreeMap::new(),
            routers: BTreeMap::new(),
            files: kept.map(|m| m.state.clone()).unwrap_or_default(),
            offsets: kept.map(|m| m.offsets.clone()).unwrap_or_default(),
            watermarks: kept.map(|m| m.watermarks.clone()).unwrap_or_default(),
            epoch: manifest.map_or(0, |m| m.epoch + 1),
            previous: self.last.as_ref().map(|e| e.sha256.clone()),
            opened_at_ms: manifest.map(|m| m.opened_at_ms),
            cleared: BTreeMap::new(),
            learned: !replays && kept.is_some_and(|m| learned::is_news(&definitions, m)),
            definitions,
            superseded: Vec::new(),
            leftovers: if self.options.rebuild { there.clone() } else { BTreeSet::new() },
            stamp: None,
            adopted: if self.options.adopt { there } else { BTreeSet::new() },
        };
        let folder = StateFolder::new(&self.lake.root, &self.identity.chain);
        let mut worker = Worker {
            env: self.env.clone(),
            graph: self.graph.clone(),
            context,
            time,
            lake: self.lake.clone(),
            identity: self.identity.clone(),
            folder,
            state: worker_state,
            seconds: BTreeMap::new(),
            phases: Phases::new(self.env.clock.clone()),
            foreign,
        };
        state::restore(&mut worker).await?;
        let sources = self.sources(&worker, secrets).await?;
        Ok(Opened { worker, publisher, sources })
    }
}

/// Another runner went on meanwhile: tables are ahead of what was read here, and what was to be
/// restored is cleaned up. That is no reason to offer a rebuild.
async fn overtaken(chain: &Chain, last: Option<u64>) -> Result<Option<Error>> {
    let newest = chain.last().await?.map(|e| e.manifest);
    let newest = newest.filter(|m| Some(m.epoch) != last);
    Ok(newest.map(|m| fenced(m.epoch, &m.run, &m.host)))
}
