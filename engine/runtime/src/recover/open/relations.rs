//! What tables, views and places besides tables a job has, and where they lie.
//!
//! In: a graph and a lake. Out: relations without files. What lies there is not looked at.

use sluice_core::{REJECTED_FILE_COLUMN, Result, SOURCE_FILE_COLUMN};
use sluice_lake::store::Location;

use super::Opening;
use crate::catalog::quarantine_schema;
use crate::epoch::{Kind, Relation, Relations};
use crate::job::{FilesSpec, TableFormat};
use crate::plan::{Strategy, quarantine_name, rejected_name};
use crate::recover::definition::definition_of;

impl Opening<'_> {
    /// All relations of the job, without files yet.
    pub fn relations(&self) -> Result<Relations> {
        let mut relations = Relations::new();
        let mut add = |relation: Relation| {
            relations.insert(relation.name.clone(), relation);
        };
        for table in &self.graph.tables {
            let spec = &table.spec;
            let folder = place(&self.lake.root, &spec.folder)?;
            let definition = definition_of(self.graph, &spec.name);
            let main = Relation {
                name: spec.name.clone(),
                kind: Kind::Table,
                location: folder.child(&spec.name),
                schema: table.schema.clone(),
                partition_by: spec.partition_by.clone(),
                key: if table.carried.source_file {
                    vec![SOURCE_FILE_COLUMN.to_string()]
                } else {
                    spec.key.clone()
                },
                format: spec.format,
                wanted: spec.files.clone(),
                definition: definition.clone(),
                exists: false,
                evolves: false,
                files: Vec::new(),
            };
            let name = quarantine_name(&spec.name);
            add(Relation {
                location: folder.child(&name),
                name,
                kind: Kind::Quarantine,
                schema: quarantine_schema(&table.schema),
                partition_by: Vec::new(),
                wanted: FilesSpec::default(),
                key: if table.carried.source_file { main.key.clone() } else { Vec::new() },
                format: TableFormat::Delta,
                ..main.clone()
            });
            add(main);
        }
        for view in &self.graph.views {
            let key = match &view.strategy {
                Strategy::Incremental(pieces) => pieces.key.clone(),
                _ => Vec::new(),
            };
            let folder = place(&self.lake.root, &view.spec.folder)?;
            add(self.delta_relation(&view.spec.name, Kind::View, folder, &view.schema, key));
        }
        for source in &self.graph.job.sources {
            let name = rejected_name(&source.name);
            let schema = sluice_core::rejected_schema();
            let root = self.lake.root.clone();
            let key = vec![REJECTED_FILE_COLUMN.to_string()];
            add(self.delta_relation(&name, Kind::Rejected, root, &schema, key));
        }
        Ok(relations)
    }

    fn delta_relation(
        &self,
        name: &str,
        kind: Kind,
        folder: Location,
        schema: &arrow::datatypes::SchemaRef,
        key: Vec<String>,
    ) -> Relation {
        Relation {
            name: name.to_string(),
            kind,
            location: folder.child(name),
            schema: schema.clone(),
            partition_by: Vec::new(),
            key,
            format: TableFormat::Delta,
            wanted: FilesSpec::default(),
            definition: definition_of(self.graph, name),
            exists: false,
            evolves: false,
            files: Vec::new(),
        }
    }
}

fn place(root: &Location, folder: &str) -> Result<Location> {
    if folder.is_empty() { Ok(root.clone()) } else { root.join(folder) }
}
