//! Everything in a lake that is a job's own, for who wants to be rid of it.
//!
//! In: a job's graph, manifests and last published record. Out: objects per table, dataset and
//! sink, in the order in which they may be deleted, and how many were found beside them that
//! nothing says are the job's. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use sluice_core::{Result, Secrets};
use sluice_lake::delta::{self, Head};
use sluice_lake::manifest::job_folder;
use sluice_lake::snapshot::PublishedTable;
use sluice_lake::store::Location;
use sluice_lake::table::life_of;

use super::super::chains;
use super::super::files::folders;
use super::super::open::{Opening, lake_of};
use super::mark::MARK;
use crate::epoch::{Environment, Identity, Lake};
use crate::job::TableFormat;
use crate::plan::Graph;

/// Names in a job's folder that stay: they are about who works the job, not about the job.
const STAYS: [&str; 3] = ["lock", "lease.json", MARK];

/// What lies in one place.
#[derive(Debug, Clone)]
pub struct Owned {
    /// The table or sink, or the job for its chain.
    pub name: String,
    /// Where.
    pub location: Location,
    /// The job's own objects, in the order in which they may be deleted.
    pub objects: Vec<ObjectMeta>,
    /// Objects beside them that stay.
    pub strange: u64,
}

/// Everything of a job: its tables, views, datasets, what its sinks wrote, and its chain last,
/// since that is what tells the rest.
pub async fn owned(env: &Environment, graph: &Arc<Graph>, secrets: &Secrets) -> Result<Vec<Owned>> {
    let lake = lake_of(env, graph, secrets)?;
    let job = graph.job.name.clone();
    let identity = Identity::main(&job, String::new(), String::new());
    let record = chains::published(&lake.root, &job).await?;
    let opening = Opening::looking(env, graph, lake, identity, None, record);
    let relations = opening.relations()?;
    let mut tables = BTreeMap::new();
    let mut files = folders(graph, &opening.lake, &env.registry, &relations)?;
    for relation in relations.values().filter(|r| r.format == TableFormat::Delta) {
        tables.insert(relation.name.clone(), relation.location.clone());
    }
    // Tables that are not in the job file any more.
    for (name, table) in opening.record.iter().flat_map(|record| &record.tables) {
        let (place, into) = match table {
            PublishedTable::Delta { location, .. } => (location, &mut tables),
            PublishedTable::Files { location, .. } => (location, &mut files),
        };
        let place = opening.lake.store_root().join(place)?;
        into.entry(name.clone()).or_insert(place);
    }
    let mut all = Vec::new();
    for (name, location) in tables {
        all.extend(table(&job, name, location).await?);
    }
    let lives = lives(&opening.lake).await?;
    for (name, location) in files {
        all.extend(dataset(&lives, name, location).await?);
    }
    for beside in chains::beside(&opening.lake.root, &job).await? {
        all.extend(chain(&opening.lake, &beside).await?);
    }
    all.extend(chain(&opening.lake, &job).await?);
    Ok(all)
}

/// The job's folder, the manifests last.
async fn chain(lake: &Lake, job: &str) -> Result<Option<Owned>> {
    let location = job_folder(&lake.root, job);
    let mut objects = location.store.list(&location.path).await?;
    let first = |meta: &ObjectMeta| below(&location, &meta.location).next();
    objects.retain(|meta| !first(meta).is_some_and(|name| STAYS.contains(&name.as_str())));
    objects.sort_by_key(|meta| first(meta).as_deref() == Some("epochs"));
    let found = !objects.is_empty();
    Ok(found.then(|| Owned { name: job.to_string(), location, objects, strange: 0 }))
}

/// A Delta table whose properties name the job; none where there is no such table.
async fn table(job: &str, name: String, location: Location) -> Result<Option<Owned>> {
    let Some(head) = delta::load(&location).await? else { return Ok(None) };
    let listed = location.store.list(&location.path).await?;
    if head.properties().get("sluice.job").map(String::as_str) != Some(job) {
        let strange = listed.len() as u64;
        return Ok(Some(Owned { name, location, objects: Vec::new(), strange }));
    }
    let removed = delta::remembered(&location).await?.removed.into_keys().collect();
    let (mut objects, strange): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|meta| is_of_table(&location, &head, &removed, meta));
    // The log goes last and its newest entry first: what is left of it tells whose table it is.
    let log = location.child("_delta_log").path;
    objects.sort_by(|a, b| {
        let key = |meta: &ObjectMeta| meta.location.prefix_matches(&log);
        key(a).cmp(&key(b)).then_with(|| b.location.cmp(&a.location))
    });
    Ok(Some(Owned { name, location, objects, strange: strange.len() as u64 }))
}

/// Whether an object is the table's: its log, a file the log knows, or one that is named as ours
/// are and lies directly in the table's folder or its partition folders.
fn is_of_table(
    location: &Location,
    head: &Head,
    removed: &BTreeSet<String>,
    meta: &ObjectMeta,
) -> bool {
    let parts: Vec<String> = below(location, &meta.location).collect();
    let path = parts.join("/");
    let Some((name, folders)) = parts.split_last() else { return false };
    let number = name.strip_prefix("part-").and_then(|rest| rest.split_once('-'));
    let ours = number.is_some_and(|(n, _)| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit()))
        && name.ends_with(".parquet")
        && folders.iter().all(|folder| folder.contains('='));
    folders.first().is_some_and(|folder| folder == "_delta_log")
        || head.files.contains_key(&path)
        || removed.contains(&path)
        || ours
}

/// The files of some lives of the job below a folder; none where there are none of anybody.
async fn dataset(
    lives: &BTreeSet<String>,
    name: String,
    location: Location,
) -> Result<Option<Owned>> {
    let mut listed = location.store.list(&location.path).await?;
    listed.retain(|meta| meta.location.filename().and_then(life_of).is_some());
    let (objects, strange): (Vec<_>, Vec<_>) = listed.into_iter().partition(|meta| {
        let life = meta.location.filename().and_then(life_of);
        life.is_some_and(|life| lives.iter().any(|known| known.starts_with(life)))
    });
    let strange = strange.len() as u64;
    let name = name.strip_prefix("sink:").unwrap_or(&name).to_string();
    let found = !objects.is_empty() || strange > 0;
    Ok(found.then_some(Owned { name, location, objects, strange }))
}

/// The incarnations that the job's manifests and records name.
async fn lives(lake: &Lake) -> Result<BTreeSet<String>> {
    let mut lives = BTreeSet::new();
    lives.extend(lake.chain.base().await?.map(|base| base.incarnation));
    let mut all = lake.chain.all().await?;
    while let Some(entry) = all.try_next().await? {
        lives.insert(entry.manifest.incarnation);
    }
    Ok(lives)
}

/// The names on the way from `folder` to an object.
fn below(folder: &Location, path: &Path) -> std::vec::IntoIter<String> {
    let parts = path.prefix_match(&folder.path);
    let parts: Vec<String> =
        parts.map(|parts| parts.map(|p| p.as_ref().to_string()).collect()).unwrap_or_default();
    parts.into_iter()
}
