//! One relation as it is kept between questions: its table, and what is needed to move it on.
//!
//! In: what was published of it, and how it was kept before. Out: the same when nothing changed;
//! else a table over its files of now. Of a Delta table only the log's new entries are read.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use sluice_core::Result;
use sluice_lake::delta::{self, Head};
use sluice_lake::manifest::DataFile;
use sluice_lake::snapshot::{Published, PublishedTable};
use sluice_lake::store::Location;

use super::shown::ShownTable;
use crate::catalog::{Bounds, FilesTable, SnapshotTable, gone, place, rows_table};
use crate::outbox::{Outbox, undelivered_schema, undelivered_table};
use crate::plan::{Graph, undelivered_name};
use crate::query::held::kind_of;

/// Entries of a log that are read one after another: with more, a checkpoint is nearer, and those
/// behind it are read side by side.
const ENTRIES_MAX: i64 = 64;

/// A relation and what it was made from.
#[derive(Debug)]
pub(super) struct Kept {
    seen: Seen,
    /// Where its log is, what it said, and what it knows of columns.
    head: Option<(Location, Head, Bounds)>,
    pub table: Arc<ShownTable>,
}

/// What a relation was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// Something else than would be now.
    Other,
    /// What a record says of it; none: it was not there.
    Published(Option<PublishedTable>),
    /// What was delivered: the life of the chain, and an epoch.
    Delivered(Option<(String, u64)>),
}

/// What relations are loaded from. Cheap to clone.
#[derive(Clone)]
pub(super) struct Origin {
    pub root: Location,
    pub graph: Arc<Graph>,
    pub published: Arc<Option<Published>>,
    /// The session whose runtime knows the stores.
    pub context: SessionContext,
}

impl Kept {
    /// The same, to be made anew from what is known of its log.
    pub fn stale(self) -> Self {
        Self { seen: Seen::Other, ..self }
    }
}

/// A table, view, `__rejected` or `__quarantine`.
pub(super) async fn relation(
    from: Origin,
    name: String,
    schema: SchemaRef,
    before: Option<Kept>,
) -> Result<Kept> {
    let published = from.published.as_ref().as_ref();
    let seen = Seen::Published(published.and_then(|p| p.tables.get(&name)).cloned());
    if let Some(kept) = before.as_ref().filter(|kept| kept.seen == seen) {
        let table = kept.table.clone();
        return Ok(Kept { table, seen, head: before.and_then(|kept| kept.head) });
    }
    let mut table = ShownTable {
        kind: kind_of(&from.graph, &name).name(),
        doc: doc_of(&from.graph, &name),
        schema: schema.clone(),
        rows: Some(0),
        files: Some(0),
        provider: rows_table(schema.clone(), Vec::new())?,
        stamp: None,
        name,
    };
    let mut head = None;
    match &seen {
        Seen::Published(Some(PublishedTable::Delta { location, version })) => {
            let location = place(&from.root, location)?;
            let known =
                before.and_then(|kept| kept.head).filter(|(of, ..)| of.path == location.path);
            let (known, mut bounds) = match known {
                Some((_, head, bounds)) => (Some(head), bounds),
                None => (None, Bounds::default()),
            };
            let mut now = head_at(&location, *version, known)
                .await?
                .ok_or_else(|| gone(&table.name, &location))?;
            table.schema = now.schema.clone();
            table.rows = counted(now.files.values());
            table.files = Some(now.files.len() as u64);
            let (schema, by) = (now.schema.clone(), now.partition_by().to_vec());
            let files = FilesTable::new(&from.context, &location, schema, &by, now.files.values())?;
            // Those that were known before tell no more.
            bounds.widen(&now.schema, now.files.values());
            table.provider = Arc::new(files.with_bounds(bounds.clone()).keeping_footers());
            // Footers tell them again where they are needed.
            now.files.values_mut().for_each(|file| file.stats = None);
            head = Some((location, now, bounds));
        }
        Seen::Published(Some(PublishedTable::Files { .. })) => {
            let by = from.graph.partition_by(&table.name);
            let found =
                SnapshotTable::load(&from.root, published, &table.name, &schema, &by).await?;
            if let Some(found) = found {
                table.rows = counted(found.files.iter());
                table.files = Some(found.files.len() as u64);
                table.provider = files_of(&from.context, &found)?;
            }
        }
        _ => {}
    }
    Ok(Kept { seen, head, table: Arc::new(table) })
}

/// What the sink `sink`, whose rows have `schema`, refused.
pub(super) async fn undelivered(
    from: Origin,
    sink: String,
    schema: SchemaRef,
    before: Option<Kept>,
) -> Result<(Kept, bool)> {
    let outbox = Outbox::new(&from.root, &from.graph.job.name, &sink);
    let record = outbox.record().await?;
    let seen = Seen::Delivered(record.map(|record| (record.incarnation, record.epoch)));
    if let Some(kept) = before.filter(|kept| kept.seen == seen) {
        return Ok((kept, false));
    }
    let stamp = match &seen {
        Seen::Delivered(Some((life, epoch))) => Some(format!("{life}/{epoch}")),
        _ => None,
    };
    let found = undelivered_table(&outbox, &schema).await?;
    let table = ShownTable {
        name: undelivered_name(&sink),
        kind: "undelivered",
        doc: String::new(),
        schema: undelivered_schema(&schema),
        rows: counted(found.files.iter()),
        files: Some(found.files.len() as u64),
        provider: files_of(&from.context, &found)?,
        stamp,
    };
    Ok((Kept { seen, head: None, table: Arc::new(table) }, true))
}

fn files_of(context: &SessionContext, table: &SnapshotTable) -> Result<Arc<dyn TableProvider>> {
    let (schema, by) = (table.schema.clone(), &table.partition_by);
    let files = FilesTable::new(context, &table.location, schema, by, &table.files)?;
    Ok(Arc::new(files.keeping_footers()))
}

/// The head at `version`, moved there from an earlier one where that is near.
async fn head_at(location: &Location, version: i64, before: Option<Head>) -> Result<Option<Head>> {
    let near = |head: &Head| (0..=ENTRIES_MAX).contains(&version.saturating_sub(head.version));
    if let Some(mut head) = before.filter(near) {
        // Where the log does not go on from there, it is loaded as if it were new.
        let moved = delta::refresh_to(location, &mut head, version).await;
        if moved.is_ok() && head.version == version {
            return Ok(Some(head));
        }
    }
    delta::load_at(location, version).await
}

/// The rows of all files; none where one does not tell.
fn counted<'a>(files: impl Iterator<Item = &'a DataFile>) -> Option<u64> {
    files.map(|file| Some(file.rows).filter(|rows| *rows > 0)).sum()
}

/// What the job file says of a relation, for people.
fn doc_of(graph: &Graph, name: &str) -> String {
    let table = graph.tables.iter().find(|t| t.spec.name == name).map(|t| &t.spec.doc);
    let view = || graph.views.iter().find(|v| v.spec.name == name).map(|v| &v.spec.doc);
    table.or_else(view).cloned().unwrap_or_default()
}
