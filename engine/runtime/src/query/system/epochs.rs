//! `_sluice.epochs`: a row per sealed epoch, and one for all that were folded together.

use futures::{StreamExt, TryStreamExt, stream};
use sluice_core::Result;
use sluice_lake::manifest::{Action, Base, Counts, EpochKind, Manifest, TableCounts};

use super::chain::all_remembered;
use super::column::{Column, instant, number, text};
use crate::epoch::Environment;
use crate::plan::{quarantine_name, rejected_name};
use crate::query::Readable;

/// Published records read at once: enough to hide a store's latency.
const RECORDS_AT_ONCE: usize = 8;

/// One row. What is not known of folded epochs is none.
#[derive(Default)]
pub(super) struct Row {
    job: String,
    epoch: u64,
    epochs: u64,
    kind: &'static str,
    incarnation: String,
    run: Option<String>,
    host: Option<String>,
    opened_ms: Option<i64>,
    published_ms: Option<i64>,
    sources: Counts,
    tables: TableCounts,
    files: Option<Files>,
}

/// What an epoch did to files.
#[derive(Default)]
struct Files {
    added: u64,
    removed: u64,
    bytes: u64,
}

pub(super) const COLUMNS: &[Column<Row>] = &[
    text("job", |r| Some(r.job.clone())),
    number("epoch", |r| Some(r.epoch)),
    number("epochs", |r| Some(r.epochs)),
    text("kind", |r| Some(r.kind.to_string())),
    text("incarnation", |r| Some(r.incarnation.clone())),
    text("run", |r| r.run.clone()),
    text("host", |r| r.host.clone()),
    instant("opened_at", |r| r.opened_ms),
    instant("published_at", |r| r.published_ms),
    number("rows_taken", |r| Some(r.sources.taken())),
    number("rows_rejected", |r| Some(r.sources.rejected)),
    number("rows_pruned", |r| Some(r.sources.pruned)),
    number("rows_written", |r| Some(r.tables.written)),
    number("rows_removed", |r| Some(r.tables.removed)),
    number("rows_quarantined", |r| Some(r.tables.quarantined)),
    number("rows_dropped", |r| Some(r.tables.dropped)),
    number("rows_late", |r| Some(r.tables.late)),
    number("rows_deduplicated", |r| Some(r.tables.deduplicated)),
    number("files_added", |r| Some(r.files.as_ref()?.added)),
    number("files_removed", |r| Some(r.files.as_ref()?.removed)),
    number("bytes_added", |r| Some(r.files.as_ref()?.bytes)),
];

pub(super) async fn rows(env: &Environment, jobs: &[Readable]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (_, known) in all_remembered(env, jobs).await? {
        let epochs: Vec<u64> = known.manifests.iter().map(|m| m.epoch).collect();
        let records = stream::iter(epochs).map(|n| {
            let snapshots = known.snapshots.clone();
            async move { snapshots.get(n).await }
        });
        let published: Vec<_> = records.buffered(RECORDS_AT_ONCE).try_collect().await?;
        let folded = known.base.as_ref();
        rows.extend(folded.map(|base| of_base(&known.job, base)));
        for (manifest, record) in known.manifests.iter().zip(published) {
            let published_ms = record.map(|r| r.published_at_ms);
            rows.push(Row { published_ms, ..of_manifest(&known.job, manifest) });
        }
    }
    Ok(rows)
}

fn of_manifest(job: &str, manifest: &Manifest) -> Row {
    let mut row = Row {
        job: job.to_string(),
        epoch: manifest.epoch,
        epochs: 1,
        kind: match manifest.kind {
            EpochKind::Data => "data",
            EpochKind::Compaction => "compaction",
            EpochKind::Rebuild => "rebuild",
            EpochKind::Adopt => "adopt",
        },
        incarnation: manifest.incarnation.clone(),
        run: Some(manifest.run.clone()),
        host: Some(manifest.host.clone()),
        opened_ms: Some(manifest.opened_at_ms),
        ..Row::default()
    };
    let mut files = Files::default();
    for part in manifest.sources.values() {
        row.sources.add(&part.rows);
    }
    for (name, part) in &manifest.tables {
        if is_main(name) {
            row.tables.add(&part.counts);
        }
        files.add(&part.action);
    }
    Row { files: Some(files), ..row }
}

fn of_base(job: &str, base: &Base) -> Row {
    let mut row = Row {
        job: job.to_string(),
        epoch: base.to.saturating_sub(1),
        epochs: base.to.saturating_sub(base.since),
        kind: "folded",
        incarnation: base.incarnation.clone(),
        ..Row::default()
    };
    for part in base.sources.values() {
        row.sources.add(&part.rows);
    }
    for (_, counts) in base.tables.iter().filter(|(name, _)| is_main(name)) {
        row.tables.add(counts);
    }
    row
}

/// Whether rows of this name are counted: those of tables and views. Rejected and quarantined rows
/// have columns of their own, and sinks get rows that are counted already.
fn is_main(name: &str) -> bool {
    let beside = [rejected_name(""), quarantine_name("")];
    !name.starts_with("sink:") && !beside.iter().any(|end| name.ends_with(end.as_str()))
}

impl Files {
    fn add(&mut self, action: &Action) {
        match action {
            Action::None | Action::Outbox(_) => {}
            Action::Delta(delta) => {
                self.added += delta.adds.len() as u64;
                self.removed += delta.removes.len() as u64;
                self.bytes += delta.adds.iter().map(|f| f.bytes).sum::<u64>();
            }
            Action::Files(files) => {
                self.added += files.copies.len() as u64;
                self.bytes += files.copies.iter().map(|c| c.bytes).sum::<u64>();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_once() {
        for (name, counted) in
            [("a", true), ("sink:a", false), ("a__rejected", false), ("a__quarantine", false)]
        {
            assert_eq!(is_main(name), counted, "{name}");
        }
    }
}
