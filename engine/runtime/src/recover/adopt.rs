//! Adopting a dataset: the files that are there are found by their names, whoever's life they are
//! of, so that the first epoch of the new life can give them names of its own.

use std::collections::BTreeMap;

use sluice_core::Result;
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::{Layout, footer_rows};
use sluice_lake::table::{Dataset, list_dataset};

use crate::epoch::Relation;

/// The files of the newest life that wrote into the dataset's folder, with whole paths and rows.
pub(super) async fn dataset(relation: &Relation) -> Result<Vec<DataFile>> {
    let listed = relation.location.store.list(&relation.location.path).await?;
    let mut lives: BTreeMap<String, i64> = BTreeMap::new();
    for file in &listed {
        let name = file.location.filename().unwrap_or_default();
        let life = name.strip_prefix("part-").and_then(|rest| rest.split('-').next());
        let Some(life) = life.filter(|l| l.len() == 8) else { continue };
        let newest = lives.entry(life.to_string()).or_default();
        *newest = (*newest).max(file.last_modified.timestamp_millis());
    }
    let Some((life, _)) = lives.iter().max_by_key(|(_, at)| **at) else { return Ok(Vec::new()) };
    let partition_by = &relation.partition_by;
    let wanted = Dataset { incarnation: life, epoch: u64::MAX, partition_by };
    let (location, schema) = (relation.location.clone(), relation.schema.clone());
    let layout = Layout { location, schema, partition_by: partition_by.clone() };
    let mut files = Vec::new();
    for file in list_dataset(&relation.location, wanted).await? {
        let rows = footer_rows(&layout, &file).await?;
        let path = relation.location.join(&file.path)?.path.to_string();
        files.push(DataFile { path, rows, ..file });
    }
    Ok(files)
}
