//! Parquet files that others wrote: one, a folder of them, or a folder with partition folders.
//!
//! In: a location. Out: a table over the files that lie there now. Columns are those of all files
//! together; partition columns are read from folder names like `month=2026-01` and are whole
//! numbers or dates where all values are, else text.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::prelude::SessionContext;
use object_store::ObjectMeta;
use object_store::path::Path;
use sluice_core::{Error, Result};
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::values_of_path;
use sluice_lake::store::Location;

use super::external::plain_schema;
use crate::catalog::FilesTable;

/// The table over the Parquet files at `location`. Errors: `Config` when there are none, `Data`
/// when they do not fit together.
pub(super) async fn provider(
    context: &SessionContext,
    location: &Location,
) -> Result<Arc<dyn TableProvider>> {
    let (folder, objects) = objects(location).await?;
    let partition_by = partition_columns(&folder, &objects);
    let mut files = Vec::with_capacity(objects.len());
    for meta in &objects {
        files.push(data_file(&folder, meta, &partition_by)?);
    }
    let store = folder.store.object_store();
    let inferred = ParquetFormat::default().infer_schema(&context.state(), &store, &objects).await;
    let inferred = inferred.map_err(|e| {
        let place = folder.describe();
        Error::data(format!("these parquet files cannot be read as one table path={place}"))
            .hint("name a folder, or one file, whose columns have the same types throughout")
            .because(e)
    })?;
    let schema = with_partitions(&plain_schema(&inferred), &partition_by, &files);
    let table = FilesTable::new(context, &folder, Arc::new(schema), &partition_by, &files)?;
    Ok(Arc::new(table))
}

/// The object at `location` itself; none for a folder, which some stores refuse to look at so.
pub(super) async fn file(location: &Location) -> Option<ObjectMeta> {
    location.store.head(&location.path).await.ok().flatten()
}

/// The Parquet files at `location`, and the folder that their paths start from.
async fn objects(location: &Location) -> Result<(Location, Vec<ObjectMeta>)> {
    if let Some(meta) = file(location).await {
        let parts: Vec<_> = meta.location.parts().collect();
        let above = parts.iter().take(parts.len().saturating_sub(1)).cloned();
        let folder = Location { store: location.store.clone(), path: Path::from_iter(above) };
        return Ok((folder, vec![meta]));
    }
    let listed = location.store.list(&location.path).await?;
    let place = location.describe();
    if let Some(meta) = listed.iter().find(|m| m.location.as_ref().ends_with(".metadata.json")) {
        let found = meta.location.filename().unwrap_or_default();
        let text = format!("this is an Iceberg table, which cannot be read path={place} {found}");
        return Err(Error::config(text)
            .hint("name its folder of data files only if no rows were ever deleted from it"));
    }
    let wanted = |m: &ObjectMeta| m.size > 0 && is_data(location, &m.location);
    let files: Vec<ObjectMeta> = listed.into_iter().filter(wanted).collect();
    if files.is_empty() {
        let text = format!("there is no Delta table and no Parquet file here path={place}");
        return Err(Error::config(text).hint(
            "name a Delta table, a .parquet file, or a folder with some; CSV and JSON are read by \
             jobs",
        ));
    }
    Ok((location.clone(), files))
}

/// Whether an object is a Parquet file that no name on its way hides.
fn is_data(folder: &Location, path: &Path) -> bool {
    let hidden = |part: &str| part.starts_with(['_', '.']) && !part.contains('=');
    let parts = segments(folder, path);
    let name = parts.last().map(String::as_str).unwrap_or_default();
    let parquet = [".parquet", ".parq", ".pq"].iter().any(|end| name.ends_with(end));
    parquet && !parts.iter().any(|part| hidden(part))
}

/// The names on the way from `folder` to an object.
fn segments(folder: &Location, path: &Path) -> Vec<String> {
    let parts = path.prefix_match(&folder.path);
    parts.map(|parts| parts.map(|p| p.as_ref().to_string()).collect()).unwrap_or_default()
}

/// The partition columns that the first file's folders name.
fn partition_columns(folder: &Location, objects: &[ObjectMeta]) -> Vec<String> {
    let Some(first) = objects.first() else { return Vec::new() };
    let mut parts = segments(folder, &first.location);
    parts.pop();
    parts.iter().filter_map(|p| p.split_once('=')).map(|(name, _)| name.to_string()).collect()
}

fn data_file(folder: &Location, meta: &ObjectMeta, partition_by: &[String]) -> Result<DataFile> {
    let parts = segments(folder, &meta.location);
    let (name, folders) = parts.split_last().ok_or_else(|| Error::bug("a file has no name"))?;
    let mut named: Vec<&str> =
        folders.iter().map(String::as_str).filter(|p| p.contains('=')).collect();
    named.push(name);
    let values = values_of_path(&named.join("/"), partition_by).ok_or_else(|| {
        let (place, wanted) = (folder.store.describe(&meta.location), partition_by.join("/"));
        Error::data(format!("a file lies in other partition folders path={place} others={wanted}"))
            .hint("name a folder below which all files have the same partition columns")
    })?;
    Ok(DataFile {
        path: parts.join("/"),
        partition_values: values,
        bytes: meta.size,
        modified_ms: meta.last_modified.timestamp_millis(),
        ..DataFile::default()
    })
}

/// The columns of the files and behind them those of the folders, which go before.
fn with_partitions(files: &Schema, partition_by: &[String], data: &[DataFile]) -> Schema {
    let stored = files.fields().iter().filter(|f| !partition_by.contains(f.name()));
    let mut fields: Vec<Field> = stored.map(|f| f.as_ref().clone()).collect();
    for name in partition_by {
        let values = data.iter().map(|file| &file.partition_values);
        fields.push(Field::new(name, partition_type(name, values), true));
    }
    Schema::new(fields)
}

/// The narrowest of whole number, date and text that holds all values of a partition column.
fn partition_type<'a>(
    name: &str,
    files: impl Iterator<Item = &'a BTreeMap<String, Option<String>>> + Clone,
) -> DataType {
    let values = files.filter_map(|values| values.get(name)?.as_deref());
    if values.clone().next().is_none() {
        return DataType::Utf8;
    }
    if values.clone().all(|v| v.parse::<i64>().is_ok()) {
        return DataType::Int64;
    }
    let date = |v: &str| v.len() == 10 && v.parse::<NaiveDate>().is_ok();
    if values.clone().all(date) { DataType::Date32 } else { DataType::Utf8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_columns_are_as_narrow_as_their_values() {
        let cases: [(&[Option<&str>], DataType); 6] = [
            (&[Some("1"), Some("-7"), None], DataType::Int64),
            (&[Some("01"), Some("12")], DataType::Int64),
            (&[Some("2026-01-31")], DataType::Date32),
            (&[Some("2026-01-31"), Some("2026-02")], DataType::Utf8),
            (&[Some("1"), Some("a")], DataType::Utf8),
            (&[None], DataType::Utf8),
        ];
        for (values, expected) in cases {
            let files: Vec<BTreeMap<String, Option<String>>> = values
                .iter()
                .map(|v| BTreeMap::from([("p".to_string(), v.map(str::to_string))]))
                .collect();
            assert_eq!(partition_type("p", files.iter()), expected, "{values:?}");
        }
    }

    #[test]
    fn hidden_files_are_no_data() {
        let folder = sluice_lake::store::open("memory://hidden/lake", &Default::default()).unwrap();
        let cases = [
            ("lake/a.parquet", true),
            ("lake/x=1/a.pq", true),
            ("lake/_x=1/a.parquet", true),
            ("lake/_temporary/a.parquet", false),
            ("lake/.a.parquet", false),
            ("lake/a.csv", false),
        ];
        for (path, expected) in cases {
            assert_eq!(is_data(&folder, &Path::from(path)), expected, "{path}");
        }
    }
}
