//! What makes a job what it is, as a hash: what changes it, changes the rows.
//!
//! In: a job. Out: SHA-256 in hexadecimal over SQL, schemas, keys, formats, partitioning and
//! expectations. Paths, limits, schedules, secrets and texts for people are not in it. Beside it,
//! hashes of all settings of one source or sink, paths included, by which a change of them is seen.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_core::{Config, FieldSpec, type_name};

use super::model::{
    ExpectAction, Job, Merge, Refresh, SinkSpec, SourceSpec, TableFormat, TableSpec, ViewSpec,
};

impl Job {
    /// Hash of everything the job's rows depend on.
    pub fn definition_hash(&self) -> String {
        let mut parts = BTreeMap::new();
        for source in &self.sources {
            parts.insert(format!("source/{}", source.name), source_hash(source));
        }
        for table in &self.tables {
            parts.insert(format!("table/{}", table.name), table_hash(table));
        }
        for view in &self.views {
            parts.insert(format!("view/{}", view.name), view_hash(view));
        }
        hash(&parts)
    }

    /// Hash of all that a run of the job depends on but the values of its secrets: places, limits
    /// and sinks too. When it starts is not in it, and neither are texts for people.
    pub fn run_hash(&self) -> String {
        let mut parts = Vec::new();
        for source in &self.sources {
            parts.push((&source.name, source.settings_hash(), String::new()));
        }
        for table in &self.tables {
            let expect = table.expect.iter().map(|e| (&e.name, e.fail_above)).collect::<Vec<_>>();
            let beside = format!("{:?} {:?} {expect:?}", table.folder, table.files);
            parts.push((&table.name, table_hash(table), beside));
        }
        for view in &self.views {
            let beside = format!("{:?} {:?}", view.folder, view.metrics);
            parts.push((&view.name, view_hash(view), beside));
        }
        for sink in &self.sinks {
            parts.push((&sink.name, sink.settings_hash(), format!("{:?}", sink.backlog)));
        }
        let limits = format!("{:?} {}", self.epoch, self.shards);
        hash(&(parts, &self.lake, format!("{:?}", self.stores), limits))
    }

    /// Hash of the definition of one table or view of this job; what it reads is not in it.
    pub fn table_hash(&self, name: &str) -> Option<String> {
        let table = self.tables.iter().find(|t| t.name == name).map(table_hash);
        table.or_else(|| self.views.iter().find(|v| v.name == name).map(view_hash))
    }
}

impl SourceSpec {
    /// Hash of where the source reads and how, but not of its name.
    pub fn settings_hash(&self) -> String {
        hash(&(&self.connector, settings(&self.config), source_hash(self)))
    }

    /// Hash of the columns of its rows and of how they are written.
    pub fn schema_hash(&self) -> String {
        source_hash(self)
    }
}

impl SinkSpec {
    /// Hash of what the sink writes, where and how, but not of its name.
    pub fn settings_hash(&self) -> String {
        hash(&(&self.connector, &self.from, settings(&self.config)))
    }
}

fn settings(config: &Config) -> BTreeMap<&String, &Value> {
    config.value.as_object().into_iter().flatten().collect()
}

#[derive(Serialize)]
struct TableDefinition<'a> {
    sql: &'a str,
    key: &'a [String],
    sequence_by: Option<&'a str>,
    delete_when: Option<&'a str>,
    merge: Merge,
    partition_by: &'a [String],
    format: TableFormat,
    event_time: Option<(&'a str, u128)>,
    expect: BTreeMap<&'a str, (&'a str, ExpectAction)>,
}

fn table_hash(table: &TableSpec) -> String {
    let time = table.event_time.as_ref();
    let expect = table.expect.iter().map(|e| (e.name.as_str(), (e.that.text.as_str(), e.action)));
    hash(&TableDefinition {
        sql: &table.sql.text,
        key: &table.key,
        sequence_by: table.sequence_by.as_deref(),
        delete_when: table.delete_when.as_ref().map(|sql| sql.text.as_str()),
        merge: table.merge,
        partition_by: &table.partition_by,
        format: table.format,
        event_time: time.map(|t| (t.column.as_str(), t.lateness.as_millis())),
        expect: expect.collect(),
    })
}

#[derive(Serialize)]
struct ViewDefinition<'a> {
    sql: &'a str,
    refresh: Refresh,
}

fn view_hash(view: &ViewSpec) -> String {
    hash(&ViewDefinition { sql: &view.sql.text, refresh: view.refresh })
}

#[derive(Serialize)]
struct SourceDefinition<'a> {
    connector: &'a str,
    /// Name, type, whether it may be null.
    columns: Vec<(&'a str, String, bool)>,
    /// Name, where it comes from, how it is written.
    fields: Vec<(&'a str, &'a str, Option<&'a str>)>,
}

fn source_hash(source: &SourceSpec) -> String {
    let columns = source.schema.fields().iter();
    // What the data taught is no part of what the job says.
    let fields = source.config.schema.iter().flat_map(|s| &s.fields).filter(|f| !f.learned);
    hash(&SourceDefinition {
        connector: &source.connector,
        columns: columns
            .map(|f| (f.name().as_str(), type_name(f.data_type()), f.is_nullable()))
            .collect(),
        fields: fields.flat_map(origins).collect(),
    })
}

/// Where a field and those inside of it come from.
fn origins(field: &FieldSpec) -> Vec<(&str, &str, Option<&str>)> {
    let own = (field.name.as_str(), field.origin(), field.format.as_deref());
    std::iter::once(own).chain(field.fields.iter().flat_map(origins)).collect()
}

/// The structs above have no maps without order, so that their JSON is canonical.
fn hash<T: Serialize>(definition: &T) -> String {
    let bytes = serde_json::to_vec(definition).unwrap_or_default();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
