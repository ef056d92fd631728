//! Publishing a sealed epoch: Delta versions, final names, the record that readers go by.
//!
//! In: a manifest. Out: every table moved to it, whoever calls, however often. A lost race that
//! took away a file the epoch removes is repaired from the change file, and the repair is sealed
//! before it is committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use sluice_core::{Clock, Error, Memory, Result, Step, reach};
use sluice_lake::delta::{self, Committed, Head, Txn};
use sluice_lake::manifest::{Action, DeltaAction, Manifest, Sealed};
use sluice_lake::parquet::{FileNaming, Layout, PartitionedWriter, WriteOptions};
use sluice_lake::snapshot::{Published, PublishedTable, Snapshots};
use sluice_lake::store::Location;
use sluice_lake::table;

use super::relation::Relation;
use super::{Identity, Lake};
use crate::job::TableFormat;

/// Repairs of one epoch: every one lost to another foreign rewrite of the same rows.
const REPAIRS_MAX: u32 = 20;

/// A table as its publisher knows it.
#[derive(Debug)]
pub struct PublisherTable {
    /// Its folder.
    pub location: Location,
    /// Its columns and partitions.
    pub layout: Layout,
    /// Its key columns.
    pub key: Vec<String>,
    /// The newest log entry read; none while the table does not exist, and for datasets.
    pub head: Option<Head>,
    /// How it is stored.
    pub format: TableFormat,
    /// Whether it exists as a dataset.
    pub exists: bool,
    /// The files of a dataset.
    pub files: u64,
}

/// Publishes the epochs of one job.
pub struct Publisher {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The memory pool, for repairs.
    pub memory: Arc<dyn Memory>,
    /// Where everything lies.
    pub lake: Lake,
    /// The runner's names.
    pub identity: Identity,
    /// Tables are published side by side; their repairs are sealed one after another.
    pub repairing: tokio::sync::Mutex<()>,
    /// All tables by name.
    pub tables: BTreeMap<String, PublisherTable>,
}

/// What publishing found.
#[derive(Debug, Default)]
pub struct PublishOutcome {
    /// Tables that somebody else changed meanwhile, with their files as they are now.
    pub foreign: BTreeMap<String, Vec<sluice_lake::manifest::DataFile>>,
}

impl PublisherTable {
    /// The publisher's view of a relation.
    pub fn new(relation: &Relation, head: Option<Head>) -> Result<Self> {
        let layout = Layout::new(
            relation.location.clone(),
            relation.schema.clone(),
            relation.partition_by.clone(),
        )?;
        Ok(Self {
            location: relation.location.clone(),
            layout,
            key: relation.key.clone(),
            head,
            format: relation.format,
            exists: relation.exists,
            files: relation.files.len() as u64,
        })
    }
}

impl Publisher {
    /// Publishes `manifest`. An error leaves it sealed: publishing it again finishes it.
    pub async fn publish(&mut self, manifest: &Manifest) -> Result<PublishOutcome> {
        reach(Step::PublishStarted, manifest.epoch);
        // Hints only make finding the newest faster: nothing waits for them but the end.
        let (lake, epoch) = (self.lake.clone(), manifest.epoch);
        let snapshots = Snapshots::new(&lake.root, &manifest.job);
        let recorded = async {
            match epoch.checked_sub(1) {
                Some(before) => snapshots.set_hint(before).await,
                None => Ok(()),
            }
        };
        let hints = futures::future::try_join(lake.chain.set_last(epoch), recorded);
        let (outcome, _) = futures::future::try_join(self.make_visible(manifest), hints).await?;
        Ok(outcome)
    }

    async fn make_visible(&mut self, manifest: &Manifest) -> Result<PublishOutcome> {
        let mut taken = std::mem::take(&mut self.tables);
        let mut work: Vec<BoxFuture<'_, Result<Done>>> = Vec::new();
        for (name, part) in &manifest.tables {
            let table = taken.remove(name);
            work.push(self.publish_table(manifest, name, &part.action, table).boxed());
        }
        let done = try_join_all(work).await;
        self.tables = taken;
        let mut outcome = PublishOutcome::default();
        for (name, table, foreign) in done? {
            if let Some(files) = foreign {
                outcome.foreign.insert(name.clone(), files);
            }
            if let Some(table) = table {
                self.tables.insert(name, table);
            }
        }
        reach(Step::TablesPublished, manifest.epoch);
        self.record(manifest).await?;
        reach(Step::RecordWritten, manifest.epoch);
        Ok(outcome)
    }

    async fn publish_table(
        &self,
        manifest: &Manifest,
        name: &str,
        action: &Action,
        table: Option<PublisherTable>,
    ) -> Result<Done> {
        let mut foreign = None;
        let mut table = table;
        match action {
            // What waits in an outbox is there already.
            Action::None | Action::Outbox(_) => {}
            Action::Files(files) => {
                let (store, life) = (&self.lake.root.store, &manifest.incarnation);
                table::publish_files(store, files, manifest.epoch, life).await?;
                if let Some(table) = &mut table {
                    table.exists = true;
                    let before = if files.replace { 0 } else { table.files };
                    table.files = before + files.copies.len() as u64;
                }
                reach(Step::TablePublished, manifest.epoch);
            }
            Action::Delta(action) => {
                let table = table.as_mut().ok_or_else(|| {
                    Error::bug(format!("a manifest names an unknown table table={name}"))
                })?;
                foreign = self.commit(manifest, name, action, table).await?;
                reach(Step::TablePublished, manifest.epoch);
            }
        }
        Ok((name.to_string(), table, foreign))
    }

    async fn commit(
        &self,
        manifest: &Manifest,
        name: &str,
        action: &DeltaAction,
        table: &mut PublisherTable,
    ) -> Result<Option<Vec<sluice_lake::manifest::DataFile>>> {
        let txn = Txn {
            app_id: self.identity.txn(name),
            version: i64::try_from(manifest.epoch)
                .map_err(|e| Error::bug("an epoch is too large for Delta").because(e))?,
        };
        let before = table.head.as_ref().map(|h| h.version);
        let mut action = action.clone();
        for _ in 0..REPAIRS_MAX {
            let now_ms = self.clock.wall_ms();
            let done =
                delta::commit(&table.location, &mut table.head, &action, &txn, now_ms).await?;
            match done {
                Committed::Done { version } => {
                    return Ok(foreign_files(before, version, table));
                }
                Committed::Already { .. } => return Ok(None),
                Committed::RemovesGone { paths, version } => {
                    tracing::warn!(
                        table = name,
                        epoch = manifest.epoch,
                        version,
                        files = paths.len(),
                        "files to be removed were rewritten by somebody else: repairing"
                    );
                    action = match self.repaired_already(manifest, name, &action).await? {
                        Some(sealed) => sealed,
                        None => self.repair(manifest, name, &action, table).await?,
                    };
                }
            }
        }
        Err(Error::conflict(format!(
            "somebody else rewrites the table faster than it can be repaired table={name}"
        ))
        .hint("stop the other writer, then run again: the epoch is sealed and will be finished"))
    }

    /// A repair that somebody sealed and did not get to commit. Nobody needs to look for one
    /// before: files that are gone do not come back.
    async fn repaired_already(
        &self,
        manifest: &Manifest,
        name: &str,
        tried: &DeltaAction,
    ) -> Result<Option<DeltaAction>> {
        let repair = self.lake.chain.latest_repair(manifest.epoch).await?;
        let part = repair.and_then(|mut entry| entry.manifest.tables.remove(name));
        Ok(part.and_then(|part| match part.action {
            Action::Delta(action) if action != *tried => Some(action),
            _ => None,
        }))
    }

    /// The epoch's change to one table, worked out again on the table as it is now, and sealed.
    async fn repair(
        &self,
        manifest: &Manifest,
        name: &str,
        action: &DeltaAction,
        table: &PublisherTable,
    ) -> Result<DeltaAction> {
        let head = table
            .head
            .as_ref()
            .ok_or_else(|| Error::bug("a table without a head lost its files"))?;
        let mut repaired = action.clone();
        repaired.base_version = Some(head.version);
        if !action.data_change {
            // A compaction that lost its files has nothing left to do.
            repaired.adds.clear();
            repaired.removes.clear();
        } else if table.key.is_empty() || action.change_file.is_none() {
            // The whole table is replaced: whatever is there now goes.
            repaired.removes = head.files.values().cloned().collect();
        } else if let Some(change_file) = &action.change_file {
            let writer = self.repair_writer(manifest, name, table)?;
            let files: Vec<_> = head.files.values().cloned().collect();
            let (store, schema) = (&self.lake.root.store, &table.layout.schema);
            let mut held = self.memory.reserve(&format!("repair of table {name}"));
            let changes =
                table::read_change_file(store, change_file, schema, held.as_mut()).await?;
            let rewritten =
                table::apply_change_file(&table.layout, &files, &table.key, &changes, writer)
                    .await?;
            repaired.adds = rewritten.adds;
            repaired.removes = rewritten.removes;
        }
        self.seal_repair(manifest, name, &repaired).await?;
        Ok(repaired)
    }

    /// Seals the next `<n>.r<k>`: the epoch with this table's action replaced, earlier repairs kept.
    async fn seal_repair(
        &self,
        manifest: &Manifest,
        name: &str,
        action: &DeltaAction,
    ) -> Result<()> {
        let _one_at_a_time = self.repairing.lock().await;
        let earlier = self.lake.chain.latest_repair(manifest.epoch).await?;
        let mut repair = earlier.map_or_else(|| manifest.clone(), |e| e.manifest);
        repair.repairs += 1;
        repair.run.clone_from(&self.identity.run);
        if let Some(part) = repair.tables.get_mut(name) {
            part.action = Action::Delta(action.clone());
        }
        match self.lake.chain.seal_repair(&repair).await? {
            Sealed::Won { .. } => Ok(()),
            Sealed::Lost { run, host, .. } => Err(fenced(manifest.epoch, &run, &host)),
        }
    }

    fn repair_writer(
        &self,
        manifest: &Manifest,
        name: &str,
        table: &PublisherTable,
    ) -> Result<PartitionedWriter> {
        let modified_ms = self.clock.wall_ms();
        let unique = self.identity.run.get(..8).unwrap_or("00000000");
        let prefix = format!("part-{:020}-{unique}-r{modified_ms}", manifest.epoch);
        PartitionedWriter::new(
            table.layout.clone(),
            WriteOptions::default(),
            FileNaming { prefix, modified_ms },
            self.memory.reserve(name),
        )
    }

    async fn record(&self, manifest: &Manifest) -> Result<()> {
        let mut tables = BTreeMap::new();
        for name in manifest.tables.keys() {
            let Some(table) = self.tables.get(name) else { continue };
            let location = table.location.path.to_string();
            let published = match (&table.head, table.format) {
                (Some(head), TableFormat::Delta) => {
                    PublishedTable::Delta { location, version: head.version }
                }
                (None, TableFormat::Parquet) if table.exists => PublishedTable::Files {
                    location,
                    incarnation: manifest.incarnation.clone(),
                    epoch: manifest.epoch,
                    files: table.files,
                    partition_by: Some(table.layout.partition_by.clone()),
                },
                _ => continue,
            };
            tables.insert(name.clone(), published);
        }
        let record = Published {
            job: manifest.job.clone(),
            epoch: manifest.epoch,
            incarnation: manifest.incarnation.clone(),
            published_at_ms: self.clock.wall_ms(),
            tables,
        };
        Snapshots::new(&self.lake.root, &manifest.job).write(&record).await
    }
}

type Done = (String, Option<PublisherTable>, Option<Vec<sluice_lake::manifest::DataFile>>);

/// The table's files when versions between ours show that somebody else wrote.
fn foreign_files(
    before: Option<i64>,
    version: i64,
    table: &PublisherTable,
) -> Option<Vec<sluice_lake::manifest::DataFile>> {
    let expected = before.map_or(0, |v| v + 1);
    let head = table.head.as_ref()?;
    (version > expected).then(|| head.files.values().cloned().collect())
}

/// Somebody else sealed what this runner wanted to seal.
pub fn fenced(epoch: u64, run: &str, host: &str) -> Error {
    Error::fenced(format!("another runner sealed this epoch epoch={epoch} run={run} host={host}"))
        .hint("the other runner goes on; stop it before you start this one again")
}
