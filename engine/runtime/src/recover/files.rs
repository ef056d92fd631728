//! Files under final names, in datasets and where sinks write: those of an earlier life of a job.
//!
//! In: a job's graph and lake. Out: the folders, and a refusal when a job that begins finds files
//! there that no epoch knows. Deleting them is part of publishing.

use std::collections::BTreeMap;

use sluice_core::{Error, Registry, Result};
use sluice_lake::store::Location;
use sluice_lake::table::published_files;

use crate::epoch::{Lake, Relation, Relations, sink_location, sink_name};
use crate::job::TableFormat;
use crate::plan::Graph;

/// The folders of a job's datasets and sinks, by the name a manifest has for them.
pub(super) fn folders(
    graph: &Graph,
    lake: &Lake,
    registry: &Registry,
    relations: &Relations,
) -> Result<BTreeMap<String, Location>> {
    let datasets = relations.values().filter(|r| r.format == TableFormat::Parquet);
    let mut folders: BTreeMap<String, Location> =
        datasets.map(|r| (r.name.clone(), r.location.clone())).collect();
    for sink in &graph.sinks {
        let factory = registry.sink(&sink.spec.connector);
        let factory = factory.ok_or_else(|| Error::bug("a sink has no connector"))?;
        let Some(files) = factory.build(&sink.spec.config)?.files() else { continue };
        let path = files.path().to_string();
        folders.insert(sink_name(&sink.spec.name), sink_location(lake, &path)?);
    }
    Ok(folders)
}

/// Stops a job that begins where files of another life lie: its own would be rows once more.
pub(super) async fn refuse_strays(folders: &BTreeMap<String, Location>) -> Result<()> {
    for (name, location) in folders {
        let files = published_files(location).await?.len();
        if files > 0 {
            let place = location.describe();
            return Err(Error::conflict(format!(
                "no epoch of this job knows the files where it writes name={name} files={files} \
                 path={place}"
            ))
            .hint(
                "--rebuild deletes them and reads the sources again; --adopt keeps them and takes \
                 what comes from now on; or write to another folder",
            ));
        }
    }
    Ok(())
}

/// Paths relative to the store instead of the dataset's folder.
pub(super) fn rooted(
    relation: &Relation,
    files: Vec<sluice_lake::manifest::DataFile>,
) -> Result<Vec<sluice_lake::manifest::DataFile>> {
    let mut all = Vec::with_capacity(files.len());
    for file in files {
        let path = relation.location.join(&file.path)?.path.to_string();
        all.push(sluice_lake::manifest::DataFile { path, ..file });
    }
    Ok(all)
}
