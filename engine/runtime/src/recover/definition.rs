//! Definitions: whether what lies in a lake is what the job would make.

use std::collections::BTreeMap;

use arrow::datatypes::{FieldRef, SchemaRef};
use sha2::{Digest, Sha256};
use sluice_core::{Error, Result};
use sluice_lake::manifest::Manifest;

use super::learned;
use crate::epoch::{Kind, Relation};
use crate::job::{TableFormat, TableSpec};
use crate::plan::Graph;

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

/// What of a job no table carries in its properties: what sources read and how, the keys of
/// tables, the columns of datasets, what sinks write. A manifest keeps it, by kind and name.
pub(super) fn parts(graph: &Graph) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    for source in graph.sources.iter().map(|s| &s.spec) {
        let name = &source.name;
        parts.insert(format!("{CONNECTOR}{name}"), source.connector.clone());
        parts.insert(format!("{SCHEMA}{name}"), source.schema_hash());
        parts.insert(format!("{SOURCE}{name}"), source.settings_hash());
        if let Some(columns) = learned::written(source) {
            parts.insert(format!("{COLUMNS}{name}"), columns);
        }
    }
    for table in &graph.tables {
        let spec = &table.spec;
        let by = spec.sequence_by.as_deref().unwrap_or_default();
        parts.insert(format!("{KEY}{}", spec.name), format!("{} by {by}", spec.key.join(", ")));
        if spec.format == TableFormat::Parquet {
            parts.insert(format!("{DATASET}{}", spec.name), columns(&table.schema, spec));
        }
    }
    for sink in graph.sinks.iter().map(|s| &s.spec) {
        parts.insert(format!("{SINK}{}", sink.name), sink.settings_hash());
    }
    // Chains of jobs without shards are older than the word.
    if graph.job.shards > 1 {
        parts.insert(SHARDS.to_string(), graph.job.shards.to_string());
    }
    parts
}

const CONNECTOR: &str = "connector/";
const SCHEMA: &str = "schema/";
/// Columns that the data of a source taught, as JSON.
pub(super) const COLUMNS: &str = "columns/";
/// The hash of all settings of a source but its name.
const SOURCE: &str = "source/";
/// The key and sequence of a table, also of one without.
const KEY: &str = "key/";
const DATASET: &str = "dataset/";
const SINK: &str = "sink/";
/// Into how many slices the partitions are cut, where there are several.
const SHARDS: &str = "shards";

fn columns(schema: &SchemaRef, spec: &TableSpec) -> String {
    let column = |f: &FieldRef| format!("{} {}", f.name(), f.data_type());
    let columns = schema.fields().iter().map(column).collect::<Vec<_>>().join(", ");
    format!("{columns} by {}", spec.partition_by.join(", "))
}

/// Takes out what the manifests know of tables that are views now.
pub(super) fn forget_tables(graph: &Graph, definitions: &mut BTreeMap<String, String>) {
    for view in graph.views.iter().map(|v| &v.spec.name) {
        definitions.remove(&format!("{KEY}{view}"));
        definitions.remove(&format!("{DATASET}{view}"));
    }
}

/// Refuses to go on with tables whose rows would mix with others.
pub(super) fn check_tables(graph: &Graph, last: &Manifest) -> Result<()> {
    for (part, value) in &parts(graph) {
        let before = last.definitions.get(part);
        if let Some(table) = part.strip_prefix(DATASET)
            && let Some(before) = before.filter(|before| *before != value)
        {
            return Err(other_columns(table, before, value));
        }
        if let Some(table) = part.strip_prefix(KEY) {
            check_key(table, before, value, last)?;
        }
    }
    Ok(())
}

/// Refuses to go on where that would read data a second time, or mix rows that mean other things.
pub(super) fn check_parts(graph: &Graph, last: &Manifest) -> Result<()> {
    check_tables(graph, last)?;
    check_shards(graph, last)?;
    let now = parts(graph);
    for (part, value) in &now {
        let before = last.definitions.get(part);
        let changed = before.is_some_and(|before| before != value);
        if let Some(source) = part.strip_prefix(CONNECTOR)
            && changed
        {
            let before = before.map_or("", String::as_str);
            return Err(Error::config(format!(
                "a source has another connector than before, which knows nothing of its place \
                 source={source} before={before} now={value}"
            ))
            .hint("give the source a new name, or run with --rebuild"));
        }
        if let Some(source) = part.strip_prefix(SOURCE) {
            check_name(source, value, &now, last)?;
        }
    }
    Ok(())
}

/// Which chain has read how far of a partition follows from the number of slices.
pub(super) fn check_shards(graph: &Graph, last: &Manifest) -> Result<()> {
    let one = "1".to_string();
    let (before, now) = (last.definitions.get(SHARDS).unwrap_or(&one), graph.job.shards);
    // Manifests without definitions are older than they.
    if *before == now.to_string() || last.definitions.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!(
        "the number of shards changed, and with it which of them reads a partition before={before} \
         now={now}"
    ))
    .hint("set it back, or run with --rebuild to read the sources again"))
}

fn check_key(table: &str, before: Option<&String>, now: &str, last: &Manifest) -> Result<()> {
    let hint = "run with --rebuild to make it again from the sources, or give it a new name";
    match before {
        Some(before) if before != now => Err(Error::config(format!(
            "the key or sequence of the table changed, its rows follow the old one table={table} \
             before={before:?} now={now:?}"
        ))
        .hint(hint)),
        // Manifests without definitions are older than they.
        None if last.tables.contains_key(table) && !last.definitions.is_empty() => {
            Err(Error::config(format!("the table was a view until now table={table}")).hint(hint))
        }
        _ => Ok(()),
    }
}

fn check_name(
    source: &str,
    hash: &String,
    now: &BTreeMap<String, String>,
    last: &Manifest,
) -> Result<()> {
    let gone = |(part, h): &(&String, &String)| *h == hash && !now.contains_key(*part);
    let gone = last.definitions.iter().find(gone).and_then(|(part, _)| part.strip_prefix(SOURCE));
    let Some(gone) = gone.filter(|_| !last.offsets.contains_key(source)) else { return Ok(()) };
    Err(Error::config(format!(
        "a source was renamed: all it has would be read a second time source={source} \
         before={gone}"
    ))
    .hint(format!("name it `{gone}` again, or run with --rebuild to make all tables again")))
}

/// A source or sink whose settings changed. A run goes on with it.
pub(super) struct ChangedPart {
    pub name: String,
    /// What that means.
    pub text: &'static str,
    /// Whether rows before and after may not fit together, which a run says too.
    pub loud: bool,
}

/// Sources and sinks whose settings changed.
pub(super) fn changed_parts(graph: &Graph, last: &Manifest) -> Vec<ChangedPart> {
    let now = parts(graph);
    let changed = |part: &String| {
        last.definitions.get(part).is_some_and(|before| now.get(part) != Some(before))
    };
    let mut told = Vec::new();
    for source in graph.sources.iter().map(|s| &s.spec.name) {
        if changed(&format!("{SCHEMA}{source}")) {
            let text = "its schema changed: applies to what is read from now on; --rebuild reads \
                        everything again";
            told.push(ChangedPart { name: source.clone(), text, loud: true });
        } else if changed(&format!("{SOURCE}{source}")) {
            let text = "its settings changed: applies to what is read from now on";
            told.push(ChangedPart { name: source.clone(), text, loud: false });
        }
    }
    for sink in graph.sinks.iter().map(|s| &s.spec.name) {
        if changed(&format!("{SINK}{sink}")) {
            let text = "its settings changed: applies to files written from now on; the others \
                        stay as and where they are, unless with --rebuild";
            told.push(ChangedPart { name: sink.clone(), text, loud: true });
        }
    }
    told
}

fn other_columns(table: &str, before: &str, now: &str) -> Error {
    Error::config(format!(
        "the dataset has other columns or partitions than its job, whose files have to be alike \
         table={table} before={before:?} now={now:?}"
    ))
    .hint(
        "run with --rebuild to make it again from the sources, or give the table a new name; a \
         table with `format: delta` can get columns",
    )
}
