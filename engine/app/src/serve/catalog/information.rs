//! `information_schema`: tables, columns, views and schemata as the SQL standard has them.
//!
//! In: the relations of a project. Out: rows that are made when they are asked for. Types have
//! PostgreSQL's names, where DataFusion's own information_schema has Arrow's.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::error::Result as SqlResult;

use super::PG_CATALOG;
use super::columns::Typed;
use super::relations::{OWNER, Relation, Relations};

/// The tables there are.
const TABLES: [&str; 4] = ["tables", "columns", "views", "schemata"];

/// The schema itself.
#[derive(Debug)]
pub(super) struct Information {
    relations: Relations,
}

impl Information {
    pub(super) fn new(relations: Relations) -> Self {
        Self { relations }
    }

    fn rows(&self, name: &str) -> Option<Vec<(&'static str, ArrayRef)>> {
        let database = self.relations.database();
        let all = self.relations.all();
        Some(match name {
            "tables" => tables(database, &all),
            "columns" => columns(database, &all),
            "views" => views(database, &all),
            "schemata" => schemata(database, &self.relations.schemas()),
            _ => return None,
        })
    }
}

#[async_trait]
impl SchemaProvider for Information {
    fn table_names(&self) -> Vec<String> {
        TABLES.map(str::to_string).to_vec()
    }

    async fn table(&self, name: &str) -> SqlResult<Option<Arc<dyn TableProvider>>> {
        let Some(columns) = self.rows(name) else { return Ok(None) };
        let field =
            |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(schema.clone(), arrays)?;
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name)
    }
}

fn tables(database: &str, all: &[Relation]) -> Vec<(&'static str, ArrayRef)> {
    let kind = |one: &Relation| if one.is_view { "VIEW" } else { "BASE TABLE" };
    vec![
        ("table_catalog", same(database, all.len())),
        ("table_schema", texts(all.iter().map(|one| Some(one.schema.as_str())))),
        ("table_name", texts(all.iter().map(|one| Some(one.name.as_str())))),
        ("table_type", texts(all.iter().map(|one| Some(kind(one))))),
        ("is_insertable_into", same("NO", all.len())),
        ("is_typed", same("NO", all.len())),
    ]
}

fn views(database: &str, all: &[Relation]) -> Vec<(&'static str, ArrayRef)> {
    let views: Vec<&Relation> = all.iter().filter(|one| one.is_view).collect();
    vec![
        ("table_catalog", same(database, views.len())),
        ("table_schema", texts(views.iter().map(|one| Some(one.schema.as_str())))),
        ("table_name", texts(views.iter().map(|one| Some(one.name.as_str())))),
        ("view_definition", texts(views.iter().map(|_| None))),
        ("is_updatable", same("NO", views.len())),
    ]
}

fn schemata(database: &str, names: &[String]) -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("catalog_name", same(database, names.len())),
        ("schema_name", texts(names.iter().map(|name| Some(name.as_str())))),
        ("schema_owner", same(OWNER, names.len())),
    ]
}

fn columns(database: &str, all: &[Relation]) -> Vec<(&'static str, ArrayRef)> {
    struct Column<'a> {
        of: &'a Relation,
        field: &'a Field,
        at: i32,
        typed: Typed,
    }
    let mut rows = Vec::new();
    for of in all {
        for (field, at) in of.columns.fields().iter().zip(1..) {
            rows.push(Column { of, field, at, typed: Typed::of(field) });
        }
    }
    let nullable = |row: &Column<'_>| if row.field.is_nullable() { "YES" } else { "NO" };
    let count = rows.len();
    vec![
        ("table_catalog", same(database, count)),
        ("table_schema", texts(rows.iter().map(|row| Some(row.of.schema.as_str())))),
        ("table_name", texts(rows.iter().map(|row| Some(row.of.name.as_str())))),
        ("column_name", texts(rows.iter().map(|row| Some(row.field.name().as_str())))),
        ("ordinal_position", numbers(rows.iter().map(|row| Some(row.at)))),
        ("column_default", texts(rows.iter().map(|_| None))),
        ("is_nullable", texts(rows.iter().map(|row| Some(nullable(row))))),
        ("data_type", texts(rows.iter().map(|row| Some(row.typed.name.as_str())))),
        ("character_maximum_length", numbers(rows.iter().map(|_| None))),
        ("numeric_precision", numbers(rows.iter().map(|row| row.typed.precision))),
        ("numeric_scale", numbers(rows.iter().map(|row| row.typed.scale))),
        ("datetime_precision", numbers(rows.iter().map(|row| row.typed.fraction))),
        ("udt_catalog", same(database, count)),
        ("udt_schema", same(PG_CATALOG, count)),
        ("udt_name", texts(rows.iter().map(|row| Some(row.typed.short.as_str())))),
        ("is_identity", same("NO", count)),
        ("is_generated", same("NEVER", count)),
        ("is_updatable", same("NO", count)),
    ]
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn same(value: &str, count: usize) -> ArrayRef {
    texts(std::iter::repeat_n(Some(value), count))
}

fn numbers(values: impl Iterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;

    use super::*;

    fn relations() -> Vec<Relation> {
        let fields = vec![
            Field::new("day", DataType::Date32, false),
            Field::new("revenue", DataType::Decimal128(12, 2), true),
        ];
        let columns = Arc::new(Schema::new(fields));
        vec![
            Relation {
                schema: "public".into(),
                name: "sales".into(),
                columns: columns.clone(),
                is_view: false,
            },
            Relation { schema: "_sluice".into(), name: "epochs".into(), columns, is_view: true },
        ]
    }

    fn column(rows: &[(&'static str, ArrayRef)], name: &str) -> Vec<String> {
        let (_, array) = rows.iter().find(|(known, _)| *known == name).unwrap();
        let text = datafusion::arrow::compute::cast(array, &DataType::Utf8).unwrap();
        let text = text.as_any().downcast_ref::<StringArray>().unwrap().clone();
        text.iter().map(|value| value.unwrap_or("null").to_string()).collect()
    }

    #[test]
    fn tables_and_columns_are_those_of_the_project() {
        let all = relations();
        let rows = tables("shop", &all);
        assert_eq!(column(&rows, "table_name"), ["sales", "epochs"]);
        assert_eq!(column(&rows, "table_type"), ["BASE TABLE", "VIEW"]);
        let rows = columns("shop", &all);
        assert_eq!(column(&rows, "ordinal_position"), ["1", "2", "1", "2"]);
        assert_eq!(column(&rows, "is_nullable"), ["NO", "YES", "NO", "YES"]);
        assert_eq!(column(&rows, "data_type"), ["date", "numeric", "date", "numeric"]);
        assert_eq!(column(&rows, "numeric_scale"), ["null", "2", "null", "2"]);
        assert_eq!(column(&views("shop", &all), "table_name"), ["epochs"]);
        let names = ["public".to_string(), "pg_catalog".to_string()];
        assert_eq!(column(&schemata("shop", &names), "schema_name"), names);
    }
}
