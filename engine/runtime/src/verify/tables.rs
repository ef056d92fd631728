//! The recount of tables: rows from Parquet footers, files from the store, against the manifests.

use futures::{StreamExt, TryStreamExt, stream};
use sluice_core::{Error, Result};
use sluice_lake::delta;
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::footer_rows;
use sluice_lake::store::Location;

use super::audit::{Check, Total, Totals};
use crate::epoch::{Lake, sink_name};
use crate::query::{Readable, published, snapshot_table};

/// Footers read at once: requests are small, and a table may have ten thousand files.
const FOOTERS_AT_ONCE: usize = 16;

/// Checks every table of the last published snapshot, and the files of sinks.
pub(super) async fn check_tables(
    job: &Readable,
    lake: &Lake,
    totals: &Totals,
) -> Result<Vec<Check>> {
    let published = published(job).await?;
    let mut checks = Vec::new();
    for (name, schema) in job.graph.relations() {
        let total = totals.tables.get(&name).cloned().unwrap_or_default();
        let title = format!("table {name}");
        let table = match snapshot_table(job, published.as_ref(), &name, &schema).await {
            Ok(Some(table)) => table,
            Ok(None) => continue,
            Err(e) => {
                checks.push(Check::new(title, String::new(), &[e.chain()]));
                continue;
            }
        };
        let mut findings = count(&table.location, &table.files).await?;
        let rows: u64 = table.files.iter().map(|f| f.rows).sum();
        if table.files.iter().all(|f| f.rows > 0) && i128::from(rows) != total.rows {
            findings.push(format!("{rows} rows are there, the manifests say {}", total.rows));
            findings.extend(strangers(&table.location, &table.files, &total, totals).await?);
        }
        let counted = format!("{rows} rows in {} files", table.files.len());
        checks.push(Check::new(title, counted, &findings));
    }
    for sink in &job.graph.sinks {
        let name = sink_name(&sink.spec.name);
        let total = totals.tables.get(&name).cloned().unwrap_or_default();
        checks.push(check_sink(lake, &sink.spec.name, &total).await?);
    }
    Ok(checks)
}

/// Files that are gone, cut or hold other rows than the log says.
async fn count(location: &Location, files: &[DataFile]) -> Result<Vec<String>> {
    let looks = stream::iter(files.iter().cloned()).map(|file| async move {
        let at = location.join(&file.path)?;
        let Some(found) = at.store.head(&at.path).await? else {
            return Ok(Some(format!("a file is gone path={}", file.path)));
        };
        if found.size != file.bytes {
            let (is, was) = (found.size, file.bytes);
            return Ok(Some(format!("a file has {is} bytes, not {was} path={}", file.path)));
        }
        Ok(match footer_rows(location, &file).await {
            Ok(rows) if file.rows > 0 && rows != file.rows => {
                Some(format!("a file holds {rows} rows, not {} path={}", file.rows, file.path))
            }
            Ok(_) => None,
            Err(e) => Some(e.chain()),
        })
    });
    let found: Vec<Option<String>> =
        looks.buffer_unordered(FOOTERS_AT_ONCE).try_collect().await?;
    let mut found: Vec<String> = found.into_iter().flatten().collect();
    found.sort();
    Ok(found)
}


/// Files of the table that no manifest names.
async fn strangers(
    location: &Location,
    files: &[DataFile],
    total: &Total,
    totals: &Totals,
) -> Result<Vec<String>> {
    if totals.folded {
        return Ok(Vec::new());
    }
    let base = location.path.to_string();
    let known = |f: &&DataFile| {
        total.files.contains_key(&f.path) || total.files.contains_key(&format!("{base}/{}", f.path))
    };
    let mut found: Vec<String> = files
        .iter()
        .filter(|f| !known(f))
        .map(|f| format!("a file that no epoch wrote holds {} rows path={}", f.rows, f.path))
        .collect();
    let there = |path: &String| files.iter().any(|f| f.path == *path || path.ends_with(&f.path));
    let missing = total.files.iter().filter(|(path, _)| !there(path));
    let version = delta::load(location).await?.map(|h| h.version);
    found.extend(missing.map(|(path, rows)| {
        format!("a file of {rows} rows is not in the table path={path} version={version:?}")
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
    let counted = format!("{} rows in {} files", total.rows, total.files.len());
    Ok(Check::new(format!("sink {name}"), counted, &findings))
}
