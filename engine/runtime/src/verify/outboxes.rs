//! The recount of outboxes: what was sealed for a sink is delivered, refused and kept, or waits.
//!
//! In: manifests, delivery records, footers. Out: a check per sink outside of the lake. What the
//! outside has is not asked: that it has a file is its own word, which the record was written on.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use sluice_core::{Result, format_count};
use sluice_lake::manifest::{Base, Entry, OutboxFile};
use sluice_lake::parquet::footer_rows;

use super::audit::Check;
use crate::epoch::Lake;
use crate::outbox::{Outbox, Record, Waiting, undelivered_rows};
use crate::plan::sink_name;
use crate::query::Readable;

/// Files looked at at once: each is two small requests.
const FILES_AT_ONCE: usize = 16;

/// What each sink outside of the lake is recorded to have. To be read before the manifests: what is
/// sealed meanwhile counts as waiting then.
pub(super) async fn records(
    job: &Readable,
    lake: &Lake,
) -> Result<BTreeMap<String, Option<Record>>> {
    let mut records = BTreeMap::new();
    for sink in job.graph.outlets() {
        let outbox = Outbox::new(&lake.root, &job.graph.job.name, &sink.spec.name);
        records.insert(sink.spec.name.clone(), outbox.record().await?);
    }
    Ok(records)
}

/// One check per sink.
pub(super) async fn check(
    job: &Readable,
    lake: &Lake,
    (entries, base): (&[Entry], Option<&Base>),
    records: BTreeMap<String, Option<Record>>,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (sink, record) in records {
        let sealed = Sealed::of(&sink, entries, base, record.as_ref());
        checks.push(check_sink(job, lake, &sink, sealed, record).await?);
    }
    Ok(checks)
}

/// What the manifests of the newest life say of a sink.
#[derive(Debug, Default)]
struct Sealed {
    /// The life's first epoch.
    since: u64,
    incarnation: String,
    rows: u64,
    /// Of all lives, since what waits is delivered whatever life it is of.
    waiting: Vec<Waiting>,
}

impl Sealed {
    fn of(sink: &str, entries: &[Entry], base: Option<&Base>, record: Option<&Record>) -> Self {
        let Some(last) = entries.last() else { return Self::default() };
        let incarnation = last.manifest.incarnation.clone();
        let folded = base.filter(|base| base.incarnation == incarnation);
        let of_base = folded.and_then(|base| base.tables.get(&sink_name(sink)));
        let mut rows = of_base.map_or(0, |counts| counts.written);
        let mut since = folded.map(|base| base.since);
        let mut waiting = Vec::new();
        // What is folded may still be there, when a crash came between.
        let counted = |n: u64| base.is_none_or(|base| n < base.from || n >= base.to);
        for Entry { manifest, .. } in entries {
            let here = Waiting::of(manifest, sink);
            if manifest.incarnation == incarnation && counted(manifest.epoch) {
                since.get_or_insert(manifest.epoch);
                rows += here.as_ref().map_or(0, |w| w.backlog().rows);
            }
            let waits = |w: &Waiting| record.is_none_or(|record| w.epoch > record.epoch);
            waiting.extend(here.filter(waits));
        }
        Self { since: since.unwrap_or(0), incarnation, rows, waiting }
    }
}

async fn check_sink(
    job: &Readable,
    lake: &Lake,
    sink: &str,
    sealed: Sealed,
    record: Option<Record>,
) -> Result<Check> {
    let outbox = Outbox::new(&lake.root, &job.graph.job.name, sink);
    let of_life = record.as_ref().filter(|record| record.incarnation == sealed.incarnation);
    let (delivered, undelivered) = of_life.map_or((0, 0), |r| (r.delivered, r.undelivered));
    let of_life_waits = sealed.waiting.iter().filter(|w| w.incarnation == sealed.incarnation);
    let waiting: u64 = of_life_waits.map(|w| w.backlog().rows).sum();
    let mut findings = Vec::new();
    if delivered + undelivered + waiting != sealed.rows {
        findings.push(format!(
            "{} are sealed, {delivered} are delivered, {undelivered} refused, {waiting} wait",
            format_count(sealed.rows, "row")
        ));
    }
    let schema = job.graph.sinks.iter().find(|s| s.spec.name == sink);
    let schema = schema.and_then(|s| job.graph.columns_of(&s.spec.from));
    if let (Some(schema), Some(record)) = (schema, of_life) {
        let kept = undelivered_rows(&outbox, &schema, (sealed.since, record.epoch)).await?;
        if kept != record.undelivered {
            findings.push(format!("{undelivered} rows were refused, {kept} are kept"));
        }
    }
    let files = sealed.waiting.iter().map(|w| w.files.len() as u64).sum();
    findings.extend(broken(&outbox, lake, &sealed.waiting).await?);
    let counted = format!(
        "{}: {delivered} delivered, {undelivered} refused, {waiting} waiting in {}",
        format_count(sealed.rows, "row"),
        format_count(files, "file")
    );
    Ok(Check::new(format!("sink {sink}"), counted, &findings))
}

/// Files that wait and are gone, cut, or hold other rows than their manifest says.
async fn broken(outbox: &Outbox, lake: &Lake, waiting: &[Waiting]) -> Result<Vec<String>> {
    let files = waiting.iter().flat_map(|w| w.files.iter().map(|f| (w.epoch, f.clone())));
    let files: Vec<_> = files.collect();
    let looks = stream::iter(files).map(|(epoch, file)| async move {
        let found = look(outbox, lake, &file).await?;
        Ok::<_, sluice_core::Error>(found.map(|what| (epoch, what)))
    });
    let found: Vec<_> = looks.buffered(FILES_AT_ONCE).try_collect().await?;
    let found: Vec<_> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // It may have been delivered, and deleted, since the record was read.
    let now = outbox.record().await?.map(|record| record.epoch);
    let still = found.into_iter().filter(|(epoch, _)| now.is_none_or(|now| *epoch > now));
    Ok(still.map(|(_, what)| what).collect())
}

async fn look(outbox: &Outbox, lake: &Lake, file: &OutboxFile) -> Result<Option<String>> {
    let path = &file.path;
    let at = lake.store_root().join(path)?;
    match at.store.head(&at.path).await? {
        None => return Ok(Some(format!("a file of the outbox is gone path={path}"))),
        Some(meta) if meta.size != file.bytes => {
            let (is, was) = (meta.size, file.bytes);
            return Ok(Some(format!("a file has {is} bytes, not {was} path={path}")));
        }
        Some(_) => {}
    }
    let layout = outbox.layout(&std::sync::Arc::new(arrow::datatypes::Schema::empty()));
    let data = sluice_lake::manifest::DataFile {
        path: path.clone(),
        bytes: file.bytes,
        rows: file.rows,
        ..Default::default()
    };
    Ok(match footer_rows(&layout, &data).await {
        Ok(rows) if rows != file.rows => {
            Some(format!("a file holds {rows} rows, not {} path={path}", file.rows))
        }
        Ok(_) => None,
        Err(e) => Some(e.chain()),
    })
}
