//! Opening a job: lease, last manifest, tables, their verdicts, the publication that is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_core::{
    Error, Offsets, Phases, REJECTED_FILE_COLUMN, Result, SOURCE_FILE_COLUMN, Secrets,
};
use sluice_core::{Start, Step, reach};
use sluice_lake::delta::{self, Head};
use sluice_lake::manifest::{Chain, Entry, Holder, Lease};
use sluice_lake::snapshot::{Published, Snapshots};
use sluice_lake::store::{self, Location};
use sluice_lake::table::{Dataset, list_dataset};

use super::definition::{
    changed_parts, check_parts, check_tables, definition_of, forget_tables, parts, was_away,
};
use super::evolve::{Fit, fit};
use super::files::{folders, refuse_strays, rooted};
use super::reset::marked;
use super::{Opened, Running, adopt, foreign, learned, state};
use crate::catalog::quarantine_schema;
use crate::epoch::{
    Environment, Identity, Kind, Lake, Publisher, PublisherTable, Relation, Relations, SourceRun,
    Worker, WorkerState, fenced, source_owner,
};
use crate::function::{SessionOptions, session};
use crate::job::{FilesSpec, TableFormat};
use crate::plan::{Graph, Strategy, quarantine_name, rejected_name};
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
}

/// The lake of a job.
pub fn lake_of(env: &Environment, graph: &Graph, secrets: &Secrets) -> Result<Lake> {
    let root = store::open(&graph.job.lake, secrets)?;
    let chain = Chain::new(&root, &graph.job.name, env.clock.clone());
    Ok(Lake { root, chain })
}

/// Opens a job on its lake.
pub async fn open(
    env: &Environment,
    graph: &Arc<Graph>,
    lake: Lake,
    secrets: &Secrets,
    mut options: RecoverOptions,
) -> Result<Running> {
    lake.root.store.probe(&lake.root.child("_sluice").path).await?;
    let job = graph.job.name.clone();
    let run = env.ids.fresh();
    let holder = Holder { run: run.clone(), host: env.host.clone(), pid: env.pid };
    let clock = env.clock.clone();
    let lease = Lease::acquire(&lake.root, &job, holder, options.take_over, clock).await?;
    let last = lake.chain.last().await?;
    let next = last.as_ref().map_or(0, |e| e.manifest.epoch + 1);
    lake.chain.discard_unreadable(next).await?;
    reach(Step::LeaseTaken, next);
    let afresh = marked(&lake, last.as_ref(), &mut options).await?;

    let fresh = options.rebuild || options.adopt || last.is_none();
    let incarnation = match &last {
        Some(entry) if !fresh => entry.manifest.incarnation.clone(),
        _ => env.ids.fresh(),
    };
    let identity = Identity { job, run, incarnation };
    let (chain, before) = (lake.chain.clone(), last.as_ref().map(|e| e.manifest.epoch));
    let record = Snapshots::new(&lake.root, &identity.job).latest().await?;
    let opening = Opening { env, graph, lake, identity, last, record, options, afresh };
    match restore(opening, secrets, fresh).await {
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
async fn restore(opening: Opening<'_>, secrets: &Secrets, fresh: bool) -> Result<Opened> {
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
            check_parts(graph, &entry.manifest)?;
            for part in changed_parts(graph, &entry.manifest).iter().filter(|p| p.loud) {
                tracing::warn!(name = part.name, "{}", part.text);
            }
        }
    }
    let mut publisher = opening.publisher(&relations, heads)?;
    if !fresh {
        opening.publish_last(&mut publisher).await?;
    }
    opening.load(&mut relations, &publisher).await?;
    opening.warn_of_new_tables(&relations);
    let folders = folders(graph, &opening.lake, &env.registry, &relations)?;
    if opening.last.is_none() && !options.rebuild && !options.adopt {
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
}

pub(super) type Heads = BTreeMap<String, Head>;

impl Opening<'_> {
    /// All relations of the job, without files yet.
    pub fn relations(&self) -> Result<Relations> {
        let mut relations = Relations::new();
        let mut add = |relation: Relation| {
            relations.insert(relation.name.clone(), relation);
        };
        for table in &self.graph.tables {
            let spec = &table.spec;
            let folder = place(&self.lake.root, &spec.folder)?;
            let definition = definition_of(self.graph, &spec.name);
            let main = Relation {
                name: spec.name.clone(),
                kind: Kind::Table,
                location: folder.child(&spec.name),
                schema: table.schema.clone(),
                partition_by: spec.partition_by.clone(),
                key: if table.carried.source_file {
                    vec![SOURCE_FILE_COLUMN.to_string()]
                } else {
                    spec.key.clone()
                },
                format: spec.format,
                wanted: spec.files.clone(),
                definition: definition.clone(),
                exists: false,
                evolves: false,
                files: Vec::new(),
            };
            let name = quarantine_name(&spec.name);
            add(Relation {
                location: folder.child(&name),
                name,
                kind: Kind::Quarantine,
                schema: quarantine_schema(&table.schema),
                partition_by: Vec::new(),
                wanted: FilesSpec::default(),
                key: if table.carried.source_file { main.key.clone() } else { Vec::new() },
                format: TableFormat::Delta,
                ..main.clone()
            });
            add(main);
        }
        for view in &self.graph.views {
            let key = match &view.strategy {
                Strategy::Incremental(pieces) => pieces.key.clone(),
                _ => Vec::new(),
            };
            let folder = place(&self.lake.root, &view.spec.folder)?;
            add(self.delta_relation(&view.spec.name, Kind::View, folder, &view.schema, key));
        }
        for source in &self.graph.sources {
            let name = rejected_name(&source.spec.name);
            let schema = sluice_core::rejected_schema();
            let root = self.lake.root.clone();
            let key = vec![REJECTED_FILE_COLUMN.to_string()];
            add(self.delta_relation(&name, Kind::Rejected, root, &schema, key));
        }
        Ok(relations)
    }

    fn delta_relation(
        &self,
        name: &str,
        kind: Kind,
        folder: Location,
        schema: &arrow::datatypes::SchemaRef,
        key: Vec<String>,
    ) -> Relation {
        Relation {
            name: name.to_string(),
            kind,
            location: folder.child(name),
            schema: schema.clone(),
            partition_by: Vec::new(),
            key,
            format: TableFormat::Delta,
            wanted: FilesSpec::default(),
            definition: definition_of(self.graph, name),
            exists: false,
            evolves: false,
            files: Vec::new(),
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

    /// Publishes what is missing of the last sealed epoch.
    async fn publish_last(&self, publisher: &mut Publisher) -> Result<()> {
        let Some(entry) = &self.last else { return Ok(()) };
        let snapshots = Snapshots::new(&self.lake.root, &self.identity.job);
        if snapshots.get(entry.manifest.epoch).await?.is_none() {
            let epoch = entry.manifest.epoch;
            tracing::info!(epoch, "publishing an epoch that was sealed and not finished");
            publisher.publish(&entry.manifest).await?;
        }
        Ok(())
    }

    /// Fills in what exists.
    async fn load(&self, relations: &mut Relations, publisher: &Publisher) -> Result<()> {
        if self.options.rebuild {
            return Ok(());
        }
        let manifest = self.last.as_ref().map(|e| &e.manifest);
        let mut retyped = BTreeSet::new();
        for relation in relations.values_mut() {
            match relation.format {
                TableFormat::Delta => {
                    let table = publisher.tables.get(&relation.name);
                    let Some(head) = table.and_then(|t| t.head.as_ref()) else { continue };
                    relation.files = head.files.values().cloned().collect();
                    let away = was_away(relation, manifest.filter(|_| !self.options.adopt))?;
                    let fit = fit(relation, head)?;
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
                    self.check_dataset(relation, files.len() as u64)?;
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
        let old = old && !self.options.rebuild && !self.options.adopt;
        for relation in relations.values().filter(|r| old && r.kind == Kind::Table && !r.exists) {
            let table = &relation.name;
            tracing::warn!(
                table,
                "a new table begins with the next rows; --rebuild makes it from all of them"
            );
        }
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
        let tables = publisher.tables.iter();
        let is_there = |t: &PublisherTable| {
            t.head.is_some() || (self.options.adopt && t.format == TableFormat::Parquet && t.exists)
        };
        let there: BTreeSet<String> =
            tables.filter(|(_, t)| is_there(t)).map(|(name, _)| name.clone()).collect();
        let time = self.graph.time.clone();
        let context = session(&SessionOptions {
            memory: self.env.pool.clone(),
            partitions: self.env.partitions,
            time: time.clone(),
        })?;
        let foreign = foreign::load(self.graph, &context, secrets).await?;
        let fresh = self.options.rebuild || self.options.adopt;
        let manifest = self.last.as_ref().map(|e| &e.manifest);
        let kept = manifest.filter(|_| !fresh);
        let mut definitions = kept.map(|m| m.definitions.clone()).unwrap_or_default();
        definitions.extend(parts(self.graph));
        forget_tables(self.graph, &mut definitions);
        let worker_state = WorkerState {
            relations,
            views: BTreeMap::new(),
            remembered: BTreeMap::new(),
            routers: BTreeMap::new(),
            files: kept.map(|m| m.state.clone()).unwrap_or_default(),
            offsets: kept.map(|m| m.offsets.clone()).unwrap_or_default(),
            epoch: manifest.map_or(0, |m| m.epoch + 1),
            previous: self.last.as_ref().map(|e| e.sha256.clone()),
            opened_at_ms: manifest.map(|m| m.opened_at_ms),
            cleared: BTreeMap::new(),
            learned: kept.is_some_and(|m| learned::is_news(&definitions, m)),
            definitions,
            superseded: Vec::new(),
            leftovers: if self.options.rebuild { there.clone() } else { BTreeSet::new() },
            adopted: if self.options.adopt { there } else { BTreeSet::new() },
        };
        let folder = StateFolder::new(&self.lake.root, &self.identity.job);
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

    async fn sources(&self, worker: &Worker, secrets: &Secrets) -> Result<Vec<SourceRun>> {
        let mut runs = Vec::new();
        for node in &self.graph.sources {
            let at = |error: Error| error.at_source(&node.spec.name);
            let factory = self.env.registry.source(&node.spec.connector);
            let factory = factory.ok_or_else(|| Error::bug("a source has no connector"))?;
            let context = self.env.context(&self.identity.job, secrets);
            let mut source = factory.build(&node.spec.config, &context).await.map_err(at)?;
            let name = node.spec.name.clone();
            let offsets: Offsets = worker.state.offsets.get(&name).cloned().unwrap_or_default();
            let files = worker.state.files.get(&source_owner(&name));
            let state = match files {
                Some(files) => worker.folder.read(files).await?,
                None => Vec::new(),
            };
            let RecoverOptions { careful, bounded, accept_loss, .. } = self.options;
            let start = Start { offsets: offsets.clone(), state, careful, bounded, accept_loss };
            source.seek(start).await.map_err(at)?;
            runs.push(SourceRun { name, source, offsets });
        }
        Ok(runs)
    }
}

/// Another runner went on meanwhile: tables are ahead of what was read here, and what was to be
/// restored is cleaned up. That is no reason to offer a rebuild.
async fn overtaken(chain: &Chain, last: Option<u64>) -> Result<Option<Error>> {
    let newest = chain.last().await?.map(|e| e.manifest);
    let newest = newest.filter(|m| Some(m.epoch) != last);
    Ok(newest.map(|m| fenced(m.epoch, &m.run, &m.host)))
}

fn place(root: &Location, folder: &str) -> Result<Location> {
    if folder.is_empty() { Ok(root.clone()) } else { root.join(folder) }
}
