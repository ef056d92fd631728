//! Definitions: whether a table's rows are those of its statement, and what a run would change.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use sha2::{Digest, Sha256};
use sluice_core::{Error, Result, Secrets};
use sluice_lake::delta::Head;
use sluice_lake::manifest::Manifest;

use super::open::{Opening, RecoverOptions, lake_of};
use crate::epoch::{Environment, Identity, Kind, Relation};
use crate::job::TableFormat;
use crate::plan::Graph;

/// Whether the table's rows are those of its definition. A changed view is built afresh; a changed
/// table goes on with its next rows, as long as its columns are the same.
pub(super) fn same_definition(relation: &Relation, head: &Head) -> Result<bool> {
    let definition = head.properties().get("sluice.definition");
    if relation.kind == Kind::View {
        return Ok(definition == Some(&relation.definition));
    }
    let same = |(ours, theirs): (&FieldRef, &FieldRef)| {
        ours.name() == theirs.name() && ours.data_type() == theirs.data_type()
    };
    let (ours, theirs) = (relation.schema.fields(), head.schema.fields());
    let columns = ours.len() == theirs.len() && ours.iter().zip(theirs).all(same);
    let partitions = relation.partition_by == head.partition_by();
    if columns && partitions {
        return Ok(true);
    }
    let name = &relation.name;
    Err(Error::config(format!(
        "the table has other columns or partitions than its job table={name}"
    ))
    .hint("run with --rebuild to make it again from the sources, or give the table a new name"))
}

/// Whether the job went on for some epochs without a relation that it had, and has again. A view
/// is then built afresh; a table would lack the rows of those epochs, so that a person decides.
pub(super) fn was_away(relation: &Relation, last: Option<&Manifest>) -> Result<bool> {
    let away = last.is_some_and(|manifest| !manifest.tables.contains_key(&relation.name));
    if away && relation.kind == Kind::Table {
        let name = &relation.name;
        return Err(Error::config(format!(
            "the job went on without this table, which has lacked its rows since table={name}"
        ))
        .hint("run with --rebuild to make it again from the sources, or give it a new name"));
    }
    Ok(away && relation.kind == Kind::View)
}

/// The hash of what makes a relation's rows: its own statement and everything it reads of its job.
pub fn definition_of(graph: &Graph, name: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(graph.job.table_hash(name).unwrap_or_default());
    if let Some(view) = graph.views.iter().find(|v| v.spec.name == name) {
        for input in &view.inputs {
            if graph.views.iter().any(|v| v.spec.name == *input && v.spec.name != name) {
                hash.update(definition_of(graph, input));
            }
        }
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// What a run would change, for `plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The relation.
    pub relation: String,
    /// What will happen to it.
    pub text: String,
}

/// Compares the job with what lies in its lake. Nothing is written.
pub async fn definition_changes(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
) -> Result<Vec<Change>> {
    let lake = lake_of(env, graph, secrets)?;
    let last = lake.chain.last().await?;
    let manifest = last.as_ref().map(|e| e.manifest.clone());
    let incarnation = last.as_ref().map(|e| e.manifest.incarnation.clone()).unwrap_or_default();
    let identity = Identity { job: graph.job.name.clone(), run: String::new(), incarnation };
    let options = RecoverOptions::default();
    let opening = Opening { env, graph, lake, identity, last, record: None, options };
    let relations = opening.relations()?;
    let heads = opening.heads(&relations).await?;
    let mut changes = Vec::new();
    let mut say = |relation: &Relation, text: String| {
        changes.push(Change { relation: relation.name.clone(), text });
    };
    for relation in relations.values() {
        match (relation.kind, heads.get(&relation.name)) {
            (Kind::Table | Kind::View, None) if relation.format == TableFormat::Delta => {
                say(relation, "will be created".to_string());
            }
            (Kind::Table | Kind::View, Some(head)) => match same_definition(relation, head)
                .and_then(|same| Ok(!was_away(relation, manifest.as_ref())? && same))
            {
                Ok(true)
                    if head.properties().get("sluice.definition") != Some(&relation.definition) =>
                {
                    say(relation, "changed: applies to rows from the next epoch on".to_string());
                }
                Ok(true) => {}
                Ok(false) => say(
                    relation,
                    "changed, or was away: will be rebuilt from its inputs".to_string(),
                ),
                Err(e) => say(relation, format!("{}; --rebuild makes it again", e.message())),
            },
            _ => {}
        }
    }
    Ok(changes)
}
