//! What a run tells while it works and when it ended.

use std::collections::BTreeMap;

use serde::Serialize;
use sluice_lake::manifest::{Action, Manifest};

use crate::epoch::{Kind, Relation, Relations, Taken, sink_name};
use crate::outbox::Given;
use crate::plan::{Graph, rejected_name};

/// Told what happens as it happens. Called from the run's task: must not block.
pub trait Progress: Send + Sync {
    /// An epoch opened over this many estimated rows and stored bytes.
    fn intake(&self, job: &str, rows_estimated: u64, bytes: u64);

    /// An epoch is sealed.
    fn epoch(&self, job: &str, report: &EpochReport);

    /// Something a person should know.
    fn note(&self, text: &str);
}

/// Tells nobody.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn intake(&self, _job: &str, _rows_estimated: u64, _bytes: u64) {}

    fn epoch(&self, _job: &str, _report: &EpochReport) {}

    fn note(&self, _text: &str) {}
}

/// One sealed epoch.
#[derive(Debug, Clone, Serialize)]
pub struct EpochReport {
    /// Its number.
    pub epoch: u64,
    /// Rows decoded.
    pub rows: u64,
    /// From opening to seal.
    pub seconds: f64,
}

/// What a run did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// The job.
    pub job: String,
    /// Epochs sealed, compactions included.
    pub epochs: u64,
    /// From start to end.
    pub seconds: f64,
    /// Per table and per place for rows besides tables.
    pub tables: Vec<TableSummary>,
    /// Per view.
    pub views: Vec<ViewSummary>,
    /// Per sink.
    pub sinks: Vec<SinkSummary>,
    /// Rows of sources that were not read, because no statement needs them.
    pub pruned: u64,
    /// Files that could not be read at all.
    pub unreadable: Vec<Unreadable>,
    /// Seconds of each phase of the work, over all cores; see [`sluice_core::Phase`].
    pub phases: BTreeMap<&'static str, f64>,
}

/// A file that could not be read at all; a row of the source's rejected ones stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The source.
    pub source: String,
    /// The file.
    pub path: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What a run did to a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TableSummary {
    /// Its name.
    pub name: String,
    /// `table`, `rejected` or `quarantine`.
    pub kind: String,
    /// Rows that entered.
    pub rows_in: u64,
    /// Rows written.
    pub written: u64,
    /// Rows sent to quarantine.
    pub quarantined: u64,
    /// Rows of its source that could not be decoded.
    pub rejected: u64,
    /// Rows dropped by expectations.
    pub dropped: u64,
    /// Rows that lost to another of their key.
    pub deduplicated: u64,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Time spent on it.
    pub seconds: f64,
}

/// What a run did to a view.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ViewSummary {
    /// Its name.
    pub name: String,
    /// `append`, `incremental` or `full`.
    pub strategy: String,
    /// Rows it holds.
    pub rows: u64,
    /// Rows its aggregate read.
    pub rows_in: u64,
    /// Rows or groups worked on.
    pub touched: u64,
    /// Time spent on it.
    pub seconds: f64,
}

/// What a run wrote through a sink.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SinkSummary {
    /// Its name.
    pub name: String,
    /// Rows written.
    pub rows: u64,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Rows that it has, where it is outside of the lake; none where it is not.
    pub delivered: Option<u64>,
    /// Rows that it refused.
    pub undelivered: u64,
    /// Rows that wait for it.
    pub waiting: u64,
    /// Time spent on it.
    pub seconds: f64,
}

impl Summary {
    /// Adds what a sink outside of the lake was given.
    pub(super) fn given(&mut self, sink: &str, given: Given) {
        if let Some(sink) = self.sinks.iter_mut().find(|s| s.name == sink) {
            sink.delivered = Some(sink.delivered.unwrap_or(0) + given.delivered);
            sink.undelivered += given.undelivered;
            sink.waiting = given.waiting.rows;
        }
    }

    /// A summary of nothing yet.
    pub(super) fn new(graph: &Graph) -> Self {
        let view = |v: &crate::plan::ViewNode| ViewSummary {
            name: v.spec.name.clone(),
            strategy: v.strategy.name().to_string(),
            ..ViewSummary::default()
        };
        let table = |name: &str, kind: &str| TableSummary {
            name: name.to_string(),
            kind: kind.to_string(),
            ..TableSummary::default()
        };
        Summary {
            job: graph.job.name.clone(),
            tables: graph.tables.iter().map(|t| table(&t.spec.name, "table")).collect(),
            views: graph.views.iter().map(view).collect(),
            sinks: graph
                .sinks
                .iter()
                .map(|s| SinkSummary { name: s.spec.name.clone(), ..SinkSummary::default() })
                .collect(),
            ..Summary::default()
        }
    }

    /// Adds a sealed epoch and the seconds its nodes took.
    pub(super) fn add(
        &mut self,
        graph: &Graph,
        manifest: &Manifest,
        relations: &Relations,
        seconds: &BTreeMap<String, f64>,
    ) {
        self.epochs += 1;
        self.pruned += manifest.sources.values().map(|part| part.rows.pruned).sum::<u64>();
        for (name, part) in &manifest.tables {
            let (files, bytes) = written(&part.action);
            let spent = seconds.get(name).copied().unwrap_or(0.0);
            if let Some(view) = self.views.iter_mut().find(|v| v.name == *name) {
                view.rows_in += part.counts.rows_in;
                view.touched += part.counts.entering;
                view.seconds += spent;
            } else if let Some(sink) = self.sinks.iter_mut().find(|s| sink_name(&s.name) == *name) {
                sink.rows += part.counts.written;
                sink.files += files;
                sink.bytes += bytes;
                sink.seconds += spent;
            } else if let Some(relation) = relations.get(name) {
                let rejected = rejected_rows(graph, manifest, name);
                let table = self.table(relation, files);
                let Some(table) = table else { continue };
                table.rows_in += part.counts.entering;
                table.written += part.counts.written;
                table.quarantined += part.counts.quarantined;
                table.rejected += rejected;
                table.dropped += part.counts.dropped;
                table.deduplicated += part.counts.deduplicated;
                table.files += files;
                table.bytes += bytes;
                table.seconds += spent;
            }
        }
        self.hold(relations);
    }

    /// Adds what another chain of the job did.
    pub(super) fn absorb(&mut self, other: Summary) {
        self.epochs += other.epochs;
        self.pruned += other.pruned;
        self.unreadable.extend(other.unreadable);
        self.spent(&other.phases);
        for table in other.tables {
            match self.tables.iter_mut().find(|t| t.name == table.name) {
                Some(own) => own.absorb(&table),
                None => self.tables.push(table),
            }
        }
        for sink in other.sinks {
            if let Some(own) = self.sinks.iter_mut().find(|s| s.name == sink.name) {
                own.rows += sink.rows;
                own.files += sink.files;
                own.bytes += sink.bytes;
                own.seconds += sink.seconds;
            }
        }
    }

    /// Adds seconds of phases.
    pub(super) fn spent(&mut self, phases: &BTreeMap<&'static str, f64>) {
        for (phase, seconds) in phases {
            *self.phases.entry(phase).or_default() += seconds;
        }
    }

    /// Takes note of the files that a sealed epoch set aside.
    pub(super) fn set_aside(&mut self, taken: &[Taken]) {
        for source in taken {
            self.unreadable.extend(source.unreadable.iter().map(|file| Unreadable {
                source: source.name.clone(),
                path: file.object.clone(),
                reason: file.reason.clone(),
            }));
        }
    }

    /// Takes note of how many rows views hold.
    pub(super) fn hold(&mut self, relations: &Relations) {
        for view in &mut self.views {
            if let Some(relation) = relations.get(&view.name) {
                view.rows = relation.files.iter().map(|f| f.rows).sum();
            }
        }
    }

    /// The line of a table; places besides tables get one with their first file.
    fn table(&mut self, relation: &Relation, files: u64) -> Option<&mut TableSummary> {
        let at = self.tables.iter().position(|t| t.name == relation.name);
        if let Some(at) = at {
            return self.tables.get_mut(at);
        }
        if files == 0 {
            return None;
        }
        let kind = match relation.kind {
            Kind::Rejected => "rejected",
            Kind::Quarantine => "quarantine",
            Kind::Table | Kind::View => "table",
        };
        self.tables.push(TableSummary {
            name: relation.name.clone(),
            kind: kind.to_string(),
            ..TableSummary::default()
        });
        self.tables.last_mut()
    }
}

impl TableSummary {
    fn absorb(&mut self, other: &Self) {
        self.rows_in += other.rows_in;
        self.written += other.written;
        self.quarantined += other.quarantined;
        self.rejected += other.rejected;
        self.dropped += other.dropped;
        self.deduplicated += other.deduplicated;
        self.files += other.files;
        self.bytes += other.bytes;
        self.seconds += other.seconds;
    }
}

fn written(action: &Action) -> (u64, u64) {
    match action {
        Action::None => (0, 0),
        Action::Outbox(a) => (a.files.len() as u64, a.files.iter().map(|f| f.bytes).sum()),
        Action::Delta(a) => (a.adds.len() as u64, a.adds.iter().map(|f| f.bytes).sum()),
        Action::Files(a) => (a.copies.len() as u64, a.copies.iter().map(|c| c.bytes).sum()),
    }
}

/// Rows the sources of a table could not decode in this epoch.
fn rejected_rows(graph: &Graph, manifest: &Manifest, table: &str) -> u64 {
    if let Some(node) = graph.tables.iter().find(|t| t.spec.name == table) {
        let parts = node.inputs.iter().filter_map(|i| manifest.sources.get(&i.name));
        return parts.map(|p| p.rows.rejected).sum();
    }
    let source = graph.sources.iter().find(|s| rejected_name(&s.spec.name) == table);
    let part = source.and_then(|s| manifest.sources.get(&s.spec.name));
    part.map_or(0, |p| p.rows.rejected)
}
