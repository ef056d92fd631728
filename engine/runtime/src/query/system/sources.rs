//! `_sluice.sources`: a row per source, with what this life of its job has taken of it.

use std::collections::BTreeMap;

use sluice_core::{Error, Result};
use sluice_lake::manifest::Counts;

use super::chain::{Remembered, all_remembered};
use super::column::{Column, instant, number, text};
use crate::epoch::Environment;
use crate::query::Readable;

/// One row.
#[derive(Default)]
pub(super) struct Row {
    job: String,
    source: String,
    connector: Option<String>,
    partitions: u64,
    offsets: String,
    rows: Counts,
    last: Option<(u64, i64)>,
}

pub(super) const COLUMNS: &[Column<Row>] = &[
    text("job", |r| Some(r.job.clone())),
    text("source", |r| Some(r.source.clone())),
    text("connector", |r| r.connector.clone()),
    number("partitions", |r| Some(r.partitions)),
    text("offsets", |r| Some(r.offsets.clone())),
    number("rows_taken", |r| Some(r.rows.taken())),
    number("rows_decoded", |r| Some(r.rows.decoded)),
    number("rows_rejected", |r| Some(r.rows.rejected)),
    number("rows_pruned", |r| Some(r.rows.pruned)),
    number("last_epoch", |r| Some(r.last?.0)),
    instant("last_taken_at", |r| Some(r.last?.1)),
];

pub(super) async fn rows(env: &Environment, jobs: &[Readable]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (job, known) in all_remembered(env, jobs).await? {
        let Some(last) = known.manifests.last() else { continue };
        let taken = taken(&known, &last.incarnation);
        for (name, offsets) in &last.offsets {
            let sources = job.graph.sources.iter();
            let spec = sources.map(|s| &s.spec).find(|spec| spec.name == *name);
            let json = serde_json::to_string(offsets);
            let (counts, last) = taken.get(name).copied().unwrap_or_default();
            rows.push(Row {
                job: known.job.clone(),
                source: name.clone(),
                connector: spec.map(|spec| spec.connector.clone()),
                partitions: offsets.len() as u64,
                offsets: json.map_err(|e| Error::bug("offsets are no json").because(e))?,
                rows: counts,
                last,
            });
        }
    }
    Ok(rows)
}

type Taken = (Counts, Option<(u64, i64)>);

/// Per source: rows over all epochs of one life, and the last epoch that took some, with its time.
fn taken(known: &Remembered, incarnation: &str) -> BTreeMap<String, Taken> {
    let mut sums: BTreeMap<String, Taken> = BTreeMap::new();
    let mut add = |source: &String, rows: &Counts, epoch: Option<(u64, i64)>| {
        let (sum, last) = sums.entry(source.clone()).or_default();
        sum.add(rows);
        *last = epoch.or(*last);
    };
    for base in known.base.iter().filter(|base| base.incarnation == incarnation) {
        base.sources.iter().for_each(|(source, part)| add(source, &part.rows, None));
    }
    for manifest in known.manifests.iter().filter(|m| m.incarnation == incarnation) {
        let at = (manifest.epoch, manifest.opened_at_ms);
        for (source, part) in manifest.sources.iter().filter(|(_, part)| !part.advances.is_empty())
        {
            add(source, &part.rows, Some(at));
        }
    }
    sums
}
