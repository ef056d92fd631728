//! The worker: runs one epoch's nodes in order and gathers what its manifest will say.
//!
//! In: what sources handed out. Out: a manifest whose every file is durable, not sealed. When it
//! fails, its memory is of no use any more: the caller drops it and recovers.

mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use sluice_core::{Error, Kind, Offset, Offsets, Phases, Result, Step, reach};
use sluice_lake::delta::schema_string;
use sluice_lake::manifest::{
    Action, EpochKind, FileRef, FilesAction, Manifest, TableCounts, TableMeta, TablePart,
};
use sluice_lake::parquet::Layout;
use sluice_lake::store::Location;

use super::intake::Taken;
use super::relation::{Relation, Relations};
use super::routing::Router;
use super::{Environment, Identity, Lake, Strand};
use crate::catalog::{Behind, CountedReader, IntakeTable, rows_table};
use crate::function::EpochTime;
use crate::job::TableFormat;
use crate::operator::upsert::Remembered;
use crate::plan::{Carried, Graph, Node, Role, TableNode};
use crate::state::StateFolder;
use crate::view::IncrementalView;

/// Everything a job's runner keeps between epochs.
pub struct WorkerState {
    /// Heads of all tables.
    pub relations: Relations,
    /// Retained groups of incremental views.
    pub views: BTreeMap<String, IncrementalView>,
    /// What is remembered beside keyed tables.
    pub remembered: BTreeMap<String, Remembered>,
    /// Expectations of tables, with their recent outcomes.
    pub routers: BTreeMap<String, Router>,
    /// The files that make up each owner's state.
    pub files: BTreeMap<String, Vec<FileRef>>,
    /// State files that the last sealed epoch replaced.
    pub superseded: Vec<String>,
    /// The next position of every source.
    pub offsets: BTreeMap<String, Offsets>,
    /// The newest event time up to which sources were taken, as manifests say it.
    pub watermarks: BTreeMap<String, i64>,
    /// Hashes of those parts of the job that no table carries.
    pub definitions: BTreeMap<String, String>,
    /// Whether sources know columns that no manifest does.
    pub learned: bool,
    /// The next epoch.
    pub epoch: u64,
    /// Hash of the manifest before it.
    pub previous: Option<String>,
    /// When the epoch before it opened, milliseconds since 1970.
    pub opened_at_ms: Option<i64>,
    /// Tables of an earlier life that the next epoch replaces, whether or not it has rows for
    /// them.
    pub leftovers: BTreeSet<String>,
    /// Folders of datasets and sinks, by their names in manifests, in which the next epoch deletes
    /// the files of earlier lives.
    pub cleared: BTreeMap<String, Location>,
    /// Tables of an earlier life that the next epoch makes its own.
    pub adopted: BTreeSet<String>,
    /// The epoch that rows which are set aside say they came in; none: the one at work.
    pub stamp: Option<u64>,
}

/// Tables of other jobs, as those published them when the run began.
#[derive(Debug, Default)]
pub struct ForeignTables {
    /// By name.
    pub tables: BTreeMap<String, Arc<dyn TableProvider>>,
    /// Per job, the number of its epochs that are seen.
    pub epochs: BTreeMap<String, u64>,
}

/// Runs epochs of one job.
pub struct Worker {
    /// What the process shares.
    pub env: Environment,
    /// The job's plans.
    pub graph: Arc<Graph>,
    /// The SQL session.
    pub context: SessionContext,
    /// What `now()` shows.
    pub time: EpochTime,
    /// Where everything lies.
    pub lake: Lake,
    /// The runner's names.
    pub identity: Identity,
    /// The folder of state files.
    pub folder: StateFolder,
    /// What is kept between epochs.
    pub state: WorkerState,
    /// Tables of other jobs.
    pub foreign: ForeignTables,
    /// Seconds that relations took in the epoch at work.
    pub seconds: BTreeMap<String, f64>,
    /// Where the run's time goes.
    pub phases: Arc<Phases>,
}

/// The rows an epoch adds to a relation.
#[derive(Debug, Clone)]
pub(super) enum NewRows {
    /// Few enough to have been kept.
    Memory(Vec<RecordBatch>),
    /// To be read back from files just written.
    Files(Vec<sluice_lake::manifest::DataFile>),
    /// Rows were replaced or removed: only the head tells.
    Replaced,
}

/// An epoch at work.
pub(super) struct Open<'a> {
    pub epoch: u64,
    /// Keeps this attempt's file names apart from any other's.
    pub unique: String,
    pub opened_at_ms: i64,
    pub taken: &'a [Taken],
    pub new_rows: BTreeMap<String, NewRows>,
    pub tables: BTreeMap<String, TablePart>,
    pub state: BTreeMap<String, Vec<FileRef>>,
}

/// An error of rows or of memory, which alone does not say whose rows they were.
fn failed_in(error: Error, key: &str, name: &str) -> Error {
    match error.kind() {
        Kind::Data => error.of(key, name),
        Kind::Unavailable if !error.retry() => error.of(key, name),
        _ => error,
    }
}

impl Worker {
    /// Runs the nodes over `taken`. The manifest is ready to be sealed.
    pub async fn run(&mut self, taken: &[Taken], kind: EpochKind) -> Result<Manifest> {
        let mut open = self.open(taken);
        self.time.set_ms(open.opened_at_ms);
        let graph = self.graph.clone();
        for node in &graph.order {
            let began = self.env.clock.monotonic();
            let name = match node {
                Node::Table(i) => {
                    let (node, name) = (&graph.tables[*i], &graph.tables[*i].spec.name);
                    let run = self.run_table(&mut open, node).await;
                    run.map_err(|e| failed_in(e, "table", name))?;
                    name.clone()
                }
                Node::View(i) => {
                    let (node, name) = (&graph.views[*i], &graph.views[*i].spec.name);
                    let run = self.run_view(&mut open, node).await;
                    run.map_err(|e| failed_in(e, "view", name))?;
                    name.clone()
                }
            };
            self.spent(name, began);
        }
        for sink in &graph.sinks {
            let began = self.env.clock.monotonic();
            self.run_sink(&mut open, sink).await?;
            self.spent(super::sink_name(&sink.spec.name), began);
        }
        // What still cannot be decoded stands there already.
        let again = matches!(self.identity.strand, Strand::Replay(_));
        for taken in taken.iter().filter(|_| !again) {
            self.run_rejected(&mut open, taken).await?;
        }
        self.replace_leftovers(&mut open)?;
        self.clear_folders(&mut open);
        reach(Step::FilesWritten, open.epoch);
        self.write_state(&mut open).await?;
        reach(Step::StateWritten, open.epoch);
        Ok(self.manifest(open, kind))
    }

    /// An epoch that takes note of what sources have without reading it, and makes the tables that
    /// are there its own.
    pub async fn adopt(&mut self, taken: &[Taken]) -> Result<Manifest> {
        let mut open = self.open(taken);
        let there: Vec<String> = std::mem::take(&mut self.state.adopted).into_iter().collect();
        for name in there {
            let relation = self.relation(&name)?.clone();
            if !relation.exists {
                continue;
            }
            let action = match relation.format {
                TableFormat::Delta => {
                    let mut action = self.delta_action(&open, &relation, vec![], vec![])?;
                    action.evolve = Some(self.table_meta(&open, &relation)?);
                    action.operation = "SET TBLPROPERTIES".to_string();
                    Action::Delta(action)
                }
                TableFormat::Parquet => self.rename_action(&open, &relation)?,
            };
            // What `audit` starts counting from.
            let rows_in = relation.files.iter().map(|f| f.rows).sum();
            let counts = TableCounts { rows_in, ..TableCounts::default() };
            self.record(&mut open, &name, action, counts)?;
        }
        self.write_state(&mut open).await?;
        Ok(self.manifest(open, EpochKind::Adopt))
    }

    /// An epoch of a job whose rows come by chains beside its own: whatever is not there is made, so
    /// that those only have to append.
    pub async fn found(&mut self, kind: EpochKind) -> Result<Manifest> {
        let mut open = self.open(&[]);
        let names: Vec<String> = self.state.relations.keys().cloned().collect();
        for name in names {
            let relation = self.relation(&name)?.clone();
            if !relation.exists || relation.evolves {
                let action = self.delta_action(&open, &relation, vec![], vec![])?;
                self.record(&mut open, &name, Action::Delta(action), TableCounts::default())?;
            }
        }
        self.state.leftovers.clear();
        self.write_state(&mut open).await?;
        Ok(self.manifest(open, kind))
    }

    /// An epoch in which nothing happens.
    pub fn pause(&self) -> Manifest {
        self.manifest(self.open(&[]), EpochKind::Compaction)
    }

    /// Whether something of such a job is not as it is to be.
    pub fn unfounded(&self) -> bool {
        let wrong = |r: &Relation| !r.exists || r.evolves;
        self.state.epoch == 0
            || !self.state.leftovers.is_empty()
            || self.state.relations.values().any(wrong)
    }

    /// Empties tables of an earlier life for which this epoch has no rows.
    fn replace_leftovers(&mut self, open: &mut Open<'_>) -> Result<()> {
        for name in std::mem::take(&mut self.state.leftovers) {
            let relation = self.relation(&name)?.clone();
            if relation.exists {
                continue;
            }
            let action = self.delta_action(open, &relation, vec![], vec![])?;
            self.record(open, &name, Action::Delta(action), TableCounts::default())?;
        }
        Ok(())
    }

    /// Marks the folders in which files of earlier lives are still to be deleted.
    fn clear_folders(&mut self, open: &mut Open<'_>) {
        for (name, folder) in std::mem::take(&mut self.state.cleared) {
            let part = open.tables.entry(name).or_insert_with(|| TablePart {
                counts: TableCounts::default(),
                action: Action::None,
            });
            match &mut part.action {
                Action::Files(files) => files.clear = true,
                other => {
                    let location = folder.path.to_string();
                    *other = Action::Files(FilesAction {
                        location,
                        clear: true,
                        replace: true,
                        copies: Vec::new(),
                    });
                }
            }
        }
    }

    fn spent(&mut self, name: String, began: std::time::Duration) {
        let spent = self.env.clock.monotonic().saturating_sub(began).as_secs_f64();
        *self.seconds.entry(name).or_default() += spent;
    }

    /// Whether another job published something since the last epoch.
    pub fn foreign_changed(&self) -> bool {
        !gone_on(&self.foreign.epochs, &self.state.offsets).is_empty()
    }

    /// The table that stands for an input of a node, or none when nothing is new in it.
    pub(super) fn input(
        &self,
        open: &Open<'_>,
        name: &str,
        role: Role,
        carried: Carried,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(source) = self.graph.sources.iter().find(|s| s.spec.name == name) {
            let Some(taken) = open.taken.iter().find(|t| t.name == source.spec.name) else {
                return Ok(None);
            };
            let partitions = self.env.partitions;
            let behind = match carried {
                Carried { position: true, .. } => Behind::Position,
                Carried { source_file: true, .. } => Behind::SourceFile,
                _ => Behind::Nothing,
            };
            let reader = CountedReader::shared(&taken.reader, &self.phases);
            let intake = IntakeTable::new(reader, &taken.splits, partitions, &taken.tally, behind);
            return Ok(Some(Arc::new(intake)));
        }
        if let Some(table) = self.foreign.tables.get(name) {
            return Ok(Some(table.clone()));
        }
        let relation = self.relation(name)?;
        if role == Role::Head {
            return relation.provider(&self.context, &self.lake).map(Some);
        }
        match open.new_rows.get(name) {
            None => Ok(None),
            Some(NewRows::Memory(rows)) => {
                rows_table(relation.schema.clone(), rows.clone()).map(Some)
            }
            Some(NewRows::Files(files)) => {
                relation.provider_of(&self.context, &self.lake, files).map(Some)
            }
            Some(NewRows::Replaced) => Err(Error::bug(format!(
                "a node reads new rows of a table whose rows were replaced table={name}"
            ))),
        }
    }

    /// A relation of the job.
    pub fn relation_at(&self, name: &str) -> Result<&Relation> {
        self.relation(name)
    }

    pub(super) fn relation(&self, name: &str) -> Result<&Relation> {
        self.state
            .relations
            .get(name)
            .ok_or_else(|| Error::bug(format!("a relation is not open name={name}")))
    }

    /// Records what an epoch does to a relation and moves its head.
    pub(super) fn record(
        &mut self,
        open: &mut Open<'_>,
        name: &str,
        action: Action,
        counts: TableCounts,
    ) -> Result<()> {
        let relation = self
            .state
            .relations
            .get_mut(name)
            .ok_or_else(|| Error::bug(format!("a relation is not open name={name}")))?;
        relation.apply(&action);
        open.tables.insert(name.to_string(), TablePart { counts, action });
        Ok(())
    }

    /// An epoch that has done nothing yet.
    pub(super) fn open<'t>(&self, taken: &'t [Taken]) -> Open<'t> {
        Open {
            epoch: self.state.epoch,
            unique: self.fresh_name(),
            opened_at_ms: self.env.clock.wall_ms(),
            taken,
            new_rows: BTreeMap::new(),
            tables: BTreeMap::new(),
            state: BTreeMap::new(),
        }
    }

    /// Characters that keep this attempt's files apart from any other's: eight where only attempts
    /// at the same epoch could be meant, more where other chains count their epochs too.
    pub(super) fn fresh_name(&self) -> String {
        let wanted = if self.identity.strand.is_beside() { 16 } else { 8 };
        self.env.ids.fresh().get(..wanted).unwrap_or("00000000").to_string()
    }

    /// Moves on after `manifest` was sealed.
    pub fn sealed(&mut self, manifest: &Manifest, hash: String) {
        self.supersede(manifest);
        self.state.epoch = manifest.epoch + 1;
        self.state.previous = Some(hash);
        self.state.opened_at_ms = Some(manifest.opened_at_ms);
        self.state.offsets = manifest.offsets.clone();
        self.state.watermarks = manifest.watermarks.clone();
        self.state.files = manifest.state.clone();
        self.state.learned = false;
        self.state.routers.values().for_each(Router::sealed);
    }

    pub(super) fn router(&self, node: &TableNode) -> Router {
        let kept = self.state.routers.get(&node.spec.name).cloned();
        kept.unwrap_or_else(|| Router::new(node, Default::default(), &self.env.memory))
    }

    pub(super) fn layout(&self, relation: &Relation) -> Result<Layout> {
        let base = relation.base(&self.lake);
        Layout::new(base, relation.schema.clone(), relation.partition_by.clone())
    }

    /// What a table is created with.
    pub(super) fn table_meta(&self, open: &Open<'_>, relation: &Relation) -> Result<TableMeta> {
        let properties = BTreeMap::from([
            ("sluice.job".to_string(), self.identity.job.clone()),
            ("sluice.incarnation".to_string(), self.identity.incarnation.clone()),
            ("sluice.table".to_string(), relation.name.clone()),
            ("sluice.definition".to_string(), relation.definition.clone()),
        ]);
        Ok(TableMeta {
            schema: schema_string(&relation.schema)?,
            partition_by: relation.partition_by.clone(),
            properties,
            id: self.env.ids.fresh(),
            name: relation.name.clone(),
            created_ms: open.opened_at_ms,
        })
    }
}

/// Which jobs published since `offsets` were sealed; `epochs` is what each has.
pub fn gone_on(epochs: &BTreeMap<String, u64>, offsets: &BTreeMap<String, Offsets>) -> Vec<String> {
    let has = |(job, epochs): &(&String, &u64)| {
        let seen = offsets.get(&job_source(job)).and_then(|o| o.get(EPOCHS_PARTITION));
        seen != Some(&Offset::At(**epochs))
    };
    epochs.iter().filter(has).map(|(job, _)| job.clone()).collect()
}

/// How many epochs of another job `offsets` have seen.
pub fn other_epochs(offsets: &BTreeMap<String, Offsets>, job: &str) -> u64 {
    match offsets.get(&job_source(job)).and_then(|o| o.get(EPOCHS_PARTITION)) {
        Some(Offset::At(epochs)) => *epochs,
        _ => 0,
    }
}

/// The partition under which the epochs of another job are counted.
const EPOCHS_PARTITION: &str = "epochs";

/// The name under which another job's epochs stand among the sources.
fn job_source(job: &str) -> String {
    format!("job:{job}")
}
