//! The recount of tables: rows from Parquet footers, files from the store, against the manifests.

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt, stream};
use sluice_core::{Result, format_count};
use sluice_lake::delta;
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::{Layout, footer_rows};
use sluice_lake::snapshot::Published;
use sluice_lake::store::Location;

use super::audit::{Check, Total, Totals};
use crate::catalog::SnapshotTable;
use crate::epoch::{Lake, sink_name};
use crate::query::{Readable, snapshot_table};

/// Footers read at once: requests are small, and a table may have ten thousand files.
const FOOTERS_AT_ONCE: usize = 16;

/// Checks every table of the last published snapshot, and the files of sinks.
pub(super) async fn check_tables(
    job: &Readable,
    lake: &Lake,
    published: Option<&Published>,
    totals: &[Totals; 2],
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, schema) in job.graph.relations() {
        let of = |t: &Totals| t.tables.get(&name).cloned().unwrap_or_default();
        let sealed = of(&totals[1]);
        let title = format!("table {name}");
        let table = match newest(job, published, &name, &schema).await {
            Ok(Some(table)) => table,
            Ok(None) => continue,
            Err(e) => {
                checks.push(Check::new(title, String::new(), &[e.chain()]));
                continue;
            }
        };
        let layout = Layout {
            location: table.location.clone(),
            schema: table.schema.clone(),
            partition_by: table.partition_by.clone(),
        };
        let (rows, mut findings) = count(&layout, &table.files).await?;
        let there = i128::from(rows);
        if findings.is_empty() && !totals[0].allow(&totals[1], &name, there) {
            let there = format_count(rows, "row");
            findings.push(format!("the table holds {there}, the manifests say {}", sealed.rows));
            if !totals[1].folded {
                findings.extend(strangers(&table.location, &table.files, &sealed).await?);
            }
        }
        let counted = in_files(rows, table.files.len());
        checks.push(Check::new(title, counted, &findings));
    }
    for sink in job.graph.sinks.iter().filter(|s| s.target.is_none()) {
        let name = sink_name(&sink.spec.name);
        let total = totals[0].tables.get(&name).cloned().unwrap_or_default();
        checks.push(check_sink(lake, &sink.spec.name, &total).await?);
    }
    Ok(checks)
}

/// A table as it is now: a Delta table's newest version, whoever wrote it; a dataset as published.
async fn newest(
    job: &Readable,
    published: Option<&Published>,
    name: &str,
    schema: &SchemaRef,
) -> Result<Option<SnapshotTable>> {
    let Some(table) = snapshot_table(job, published, name, schema).await? else { return Ok(None) };
    match delta::load(&table.location).await? {
        None => Ok(Some(table)),
        Some(head) => Ok(Some(SnapshotTable {
            schema: head.schema.clone(),
            partition_by: head.partition_by().to_vec(),
            files: head.files.values().cloned().collect(),
            version: Some(head.version),
            location: table.location,
        })),
    }
}

/// Rows by the files' footers, and files that are gone, cut or hold other rows than the log says.
async fn count(layout: &Layout, files: &[DataFile]) -> Result<(u64, Vec<String>)> {
    let looks = stream::iter(files.iter().cloned()).map(|file| look(layout, file));
    let found: Vec<std::result::Result<u64, String>> =
        looks.buffer_unordered(FOOTERS_AT_ONCE).try_collect().await?;
    let rows = found.iter().filter_map(|f| f.as_ref().ok()).sum();
    let mut findings: Vec<String> =
        found.into_iter().filter_map(std::result::Result::err).collect();
    findings.sort();
    Ok((rows, findings))
}

/// The rows of one file, or what is wrong with it.
async fn look(layout: &Layout, file: DataFile) -> Result<std::result::Result<u64, String>> {
    let at = layout.location.join(&file.path)?;
    let Some(found) = at.store.head(&at.path).await? else {
        return Ok(Err(format!("a file is gone path={}", file.path)));
    };
    if found.size != file.bytes {
        let (is, was) = (found.size, file.bytes);
        return Ok(Err(format!("a file has {is} bytes, not {was} path={}", file.path)));
    }
    Ok(match footer_rows(layout, &file).await {
        // The rows of listed files are not known and given as 0.
        Ok(rows) if file.rows > 0 && rows != file.rows => {
            let there = format_count(rows, "row");
            Err(format!("a file holds {there}, not {} path={}", file.rows, file.path))
        }
        Ok(rows) => Ok(rows),
        Err(e) => Err(e.chain()),
    })
}

/// Files of the table that no manifest names.
async fn strangers(location: &Location, files: &[DataFile], total: &Total) -> Result<Vec<String>> {
    let base = location.path.to_string();
    let known = |f: &&DataFile| {
        total.files.contains_key(&f.path) || total.files.contains_key(&format!("{base}/{}", f.path))
    };
    let mut found: Vec<String> = files
        .iter()
        .filter(|f| !known(f))
        .map(|f| {
            let there = format_count(f.rows, "row");
            format!("a file that no epoch wrote holds {there} path={}", f.path)
        })
        .collect();
    let there = |path: &String| files.iter().any(|f| f.path == *path || path.ends_with(&f.path));
    let missing = total.files.iter().filter(|(path, _)| !there(path));
    let version = delta::load(location).await?.map(|h| h.version);
    found.extend(missing.map(|(path, rows)| {
        let there = format_count(*rows, "row");
        format!("a file of {there} is not in the table path={path} version={version:?}")
    }));
    Ok(found)
}

async fn check_sink(lake: &Lake, name: &str, total: &Total) -> Result<Check> {
    let mut findings = Vec::new();
    let root = lake.store_root();
    for path in total.files.keys() {
        let at = root.join(path)?;
        if at.store.head(&at.path).await?.is_none() {
            findings.push(format!("a file is gone path={path}"));
        }
    }
    let counted = in_files(total.rows, total.files.len());
    Ok(Check::new(format!("sink {name}"), counted, &findings))
}

/// `3 rows in 1 file`.
fn in_files(rows: impl TryInto<u64>, files: usize) -> String {
    let rows = format_count(rows.try_into().unwrap_or(0), "row");
    format!("{rows} in {}", format_count(files as u64, "file"))
}
