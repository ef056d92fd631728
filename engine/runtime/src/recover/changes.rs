//! What a run would change: the job as it is written, against what lies in its lake.
//!
//! In: a job's graph. Out: one line per relation, source or sink that a run would make, change,
//! leave behind or refuse. Nothing is written.

use std::sync::Arc;

use sluice_core::{Result, Secrets};
use sluice_lake::delta::Head;
use sluice_lake::manifest::Manifest;
use sluice_lake::snapshot::Snapshots;

use super::definition::{changed_parts, check_parts, was_away};
use super::evolve::{Fit, fit};
use super::open::{Opening, lake_of};
use super::past::{Past, past};
use super::reset::{Mark, half_reset};
use crate::epoch::{Environment, Identity, Kind, Relation, sink_name};
use crate::job::TableFormat;
use crate::plan::{Graph, quarantine_name, rejected_name};

/// What a run would change, for `plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The relation, source or sink; the job's name when it is about all of it.
    pub relation: String,
    /// What will happen to it.
    pub text: String,
}

impl Change {
    fn new(relation: &str, text: impl Into<String>) -> Self {
        Self { relation: relation.to_string(), text: text.into() }
    }
}

/// Compares the job with what lies in its lake.
pub async fn definition_changes(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
) -> Result<Vec<Change>> {
    let orphans = match past(env, graph, secrets).await? {
        Past::TablesOnly { tables, .. } => tables,
        _ => Vec::new(),
    };
    let lake = lake_of(env, graph, secrets)?;
    let last = lake.chain.last().await?;
    let manifest = last.as_ref().map(|e| e.manifest.clone());
    let incarnation = manifest.as_ref().map(|m| m.incarnation.clone()).unwrap_or_default();
    let identity = Identity::main(&graph.job.name, String::new(), incarnation);
    let record = Snapshots::new(&lake.root, &identity.job).latest().await?;
    let opening = Opening::looking(env, graph, lake, identity, last, record);
    let relations = opening.relations()?;
    let heads = opening.heads(&relations).await?;
    let mut changes = reset(&opening, manifest.as_ref()).await?;
    for relation in relations.values() {
        let strange = heads.get(&relation.name).and_then(|h| h.properties().get("sluice.job"));
        let strange = strange.is_some_and(|job| *job != graph.job.name);
        if orphans.contains(&relation.name) && !strange {
            changes.push(Change::new(&relation.name, WITHOUT_EPOCHS));
            continue;
        }
        let text = change(&opening, relation, heads.get(&relation.name), manifest.as_ref());
        changes.extend(text.map(|text| Change::new(&relation.name, text)));
    }
    if let Some(manifest) = &manifest {
        changes.extend(left_behind(graph, manifest));
        changes.extend(new_inputs(graph, manifest));
        let told = changed_parts(graph, manifest);
        changes.extend(told.iter().map(|part| Change::new(&part.name, part.text)));
        if let Err(e) = check_parts(graph, manifest) {
            changes.push(Change::new(&graph.job.name, refused(&e)));
        }
    }
    Ok(changes)
}

/// What a reset left to do.
async fn reset(opening: &Opening<'_>, manifest: Option<&Manifest>) -> Result<Vec<Change>> {
    let lake = &opening.lake;
    let Some(mark) = Mark::read(lake).await? else { return Ok(Vec::new()) };
    let (tables, views) = match mark.pending(lake, manifest).await? {
        Some(Mark::Job) => {
            let job = lake.chain.job();
            return Ok(vec![Change::new(job, refused(&half_reset(job)))]);
        }
        Some(Mark::Tables { tables, views, .. }) => (tables, views),
        None => return Ok(Vec::new()),
    };
    let table = |name: &String| {
        Change::new(name, "was reset: all tables of the job will be made again from the sources")
    };
    let view = |name: &String| Change::new(name, "was reset: will be built afresh from its inputs");
    Ok(tables.iter().map(table).chain(views.iter().map(view)).collect())
}

/// Of tables that a run would refuse, because no epoch of the job is there that knows them.
const WITHOUT_EPOCHS: &str = "is there, but the manifests of the job are gone: a run refuses it, \
                              unless with --adopt, which keeps it, or --rebuild, which makes it \
                              again";

fn refused(error: &sluice_core::Error) -> String {
    let hint = error.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("a run will be refused: {}{hint}", error.message())
}

/// What happens to one relation; nothing when it goes on as it is.
fn change(
    opening: &Opening<'_>,
    relation: &Relation,
    head: Option<&Head>,
    manifest: Option<&Manifest>,
) -> Option<String> {
    if let Err(e) = opening.judge_one(relation, head) {
        return Some(refused(&e));
    }
    if relation.format == TableFormat::Parquet
        && let Err(e) = opening.check_dataset(relation, u64::MAX)
    {
        return Some(refused(&e));
    }
    if !matches!(relation.kind, Kind::Table | Kind::View) {
        return None;
    }
    let known = manifest.is_some_and(|m| m.tables.contains_key(&relation.name));
    let there = match relation.format {
        TableFormat::Delta => head.is_some(),
        TableFormat::Parquet => known,
    };
    if !there {
        return Some(created(relation, manifest));
    }
    let head = head?;
    let away = match was_away(relation, manifest) {
        Ok(away) => away,
        Err(e) => return Some(refused(&e)),
    };
    match fit(relation, head) {
        Err(e) => Some(refused(&e)),
        Ok(_) if away => Some("was away: will be built afresh from its inputs".to_string()),
        Ok(Fit::Afresh) => Some("changed: will be built afresh from its inputs".to_string()),
        Ok(Fit::Wider(wider)) => Some(wider.text()),
        Ok(Fit::Same)
            if head.properties().get("sluice.definition") == Some(&relation.definition) =>
        {
            None
        }
        Ok(Fit::Same) => Some("changed: applies to rows from the next epoch on".to_string()),
    }
}

fn created(relation: &Relation, manifest: Option<&Manifest>) -> String {
    match (relation.kind, manifest) {
        (Kind::Table, Some(manifest)) => format!(
            "will be created, with rows from epoch {} on; what its sources gave before comes in \
             only with --rebuild",
            manifest.epoch + 1
        ),
        _ => "will be created".to_string(),
    }
}

/// What the chain knows and the job does not any more.
fn left_behind(graph: &Graph, manifest: &Manifest) -> Vec<Change> {
    let is_place = |name: &str| {
        let gone = manifest.tables.keys().chain(manifest.offsets.keys());
        gone.into_iter().any(|n| quarantine_name(n) == name || rejected_name(n) == name)
    };
    let relations: Vec<String> = graph.relations().into_iter().map(|(name, _)| name).collect();
    let sinks: Vec<String> = graph.sinks.iter().map(|s| sink_name(&s.spec.name)).collect();
    let tables = manifest.tables.keys().filter(|name| {
        !relations.contains(name) && !sinks.contains(name) && !is_place(name.as_str())
    });
    let tables = tables.map(|name| {
        let text = "is not in the job any more: what was written stays, nothing is added";
        Change::new(name.strip_prefix("sink:").unwrap_or(name), text)
    });
    let sources = manifest.offsets.keys().filter(|name| {
        !name.starts_with("job:") && !graph.sources.iter().any(|s| s.spec.name == **name)
    });
    let sources = sources.map(|name| {
        let text = "is not in the job any more: if it comes back, it goes on where it stopped";
        Change::new(name, text)
    });
    tables.chain(sources).collect()
}

/// Sources and sinks that the chain does not know yet.
fn new_inputs(graph: &Graph, manifest: &Manifest) -> Vec<Change> {
    let sources = graph.sources.iter().map(|s| &s.spec.name);
    let sources = sources.filter(|name| !manifest.offsets.contains_key(*name));
    let sources =
        sources.map(|name| Change::new(name, "is a new source: everything it has will be read"));
    let sinks = graph.sinks.iter().map(|s| &s.spec.name);
    let sinks = sinks.filter(|name| !manifest.tables.contains_key(&sink_name(name)));
    let sinks = sinks.map(|name| {
        let text = format!(
            "is a new sink: it gets rows from epoch {} on; earlier ones only with --rebuild",
            manifest.epoch + 1
        );
        Change::new(name, text)
    });
    sources.chain(sinks).collect()
}
