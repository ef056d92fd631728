//! Definitions: whether what lies in a lake is what the job would make.

use std::collections::BTreeMap;

use arrow::datatypes::{FieldRef, SchemaRef};
use sha2::{Digest, Sha256};
use sluice_core::{Error, Result};
use sluice_lake::delta::Head;
use sluice_lake::manifest::Manifest;

use crate::epoch::{Kind, Relation};
use crate::job::{TableFormat, TableSpec};
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
    Err(other_columns(&relation.name))
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

/// Hashes of those parts of a job that no table carries in its properties: what sources read, and
/// the columns of datasets.
pub(super) fn parts(graph: &Graph) -> BTreeMap<String, String> {
    let sources = graph.sources.iter();
    let sources = sources.map(|s| (format!("{SOURCE}{}", s.spec.name), s.spec.settings_hash()));
    let datasets = graph.tables.iter().filter(|t| t.spec.format == TableFormat::Parquet);
    let datasets =
        datasets.map(|t| (format!("{DATASET}{}", t.spec.name), columns(&t.schema, &t.spec)));
    sources.chain(datasets).collect()
}

/// Where the hash of a source's settings stands among a manifest's definitions.
const SOURCE: &str = "source/";

/// Where the columns of a dataset stand.
const DATASET: &str = "dataset/";

fn columns(schema: &SchemaRef, spec: &TableSpec) -> String {
    let column = |f: &FieldRef| format!("{} {}", f.name(), f.data_type());
    let columns = schema.fields().iter().map(column).collect::<Vec<_>>().join(", ");
    format!("{columns} by {}", spec.partition_by.join(", "))
}

/// Refuses to go on where a source was renamed, which would read its data a second time, and where
/// a dataset has other columns than its files.
pub(super) fn check_parts(graph: &Graph, last: &Manifest) -> Result<()> {
    let now = parts(graph);
    for (part, hash) in &now {
        let before = last.definitions.get(part);
        if let Some(name) = part.strip_prefix(DATASET)
            && before.is_some_and(|b| b != hash)
        {
            return Err(other_columns(name));
        }
        let Some(name) = part.strip_prefix(SOURCE) else { continue };
        let gone = |(p, h): &(&String, &String)| *h == hash && !now.contains_key(*p);
        let gone = last.definitions.iter().find(gone).and_then(|(p, _)| p.strip_prefix(SOURCE));
        if let Some(gone) = gone.filter(|_| !last.offsets.contains_key(name)) {
            return Err(Error::config(format!(
                "a source was renamed: all it has would be read a second time source={name} \
                 before={gone}"
            ))
            .hint(format!(
                "name it `{gone}` again, or run with --rebuild to make all tables again"
            )));
        }
    }
    Ok(())
}

fn other_columns(table: &str) -> Error {
    Error::config(format!("the table has other columns or partitions than its job table={table}"))
        .hint("run with --rebuild to make it again from the sources, or give the table a new name")
}
