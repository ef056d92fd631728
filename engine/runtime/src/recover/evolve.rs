//! How the columns of a table may change from one epoch to the next.
//!
//! In: the columns a table has and those its job gives now. Out: whether it goes on as it is, gets
//! columns, or is built afresh; or why it cannot go on, naming column and types. Old files are never
//! rewritten for it: readers give null for a column that a file does not have.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields, Schema};
use sluice_core::{Error, Result, type_name};
use sluice_lake::delta::{Head, widens};

use crate::epoch::{Kind, Relation};

/// What becomes of a table whose definition may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// It goes on.
    Same,
    /// It goes on with other columns.
    Wider(Wider),
    /// A view of another definition, or with other columns.
    Afresh,
}

/// How the columns of a table get wider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wider {
    /// Columns it gets, which are null in its old rows.
    pub new: Vec<String>,
    /// Columns of a wider type than before.
    pub retyped: Vec<String>,
}

impl Wider {
    /// For people.
    pub fn text(&self) -> String {
        let part = |columns: &[String], text: &str| {
            (!columns.is_empty()).then(|| format!("{text} columns={}", columns.join(", ")))
        };
        let new = part(&self.new, "gets new columns, which are null in the rows it has");
        let retyped = part(&self.retyped, "gets wider types, views over it are built afresh");
        new.into_iter().chain(retyped).collect::<Vec<_>>().join("; ")
    }
}

/// Compares a relation with its table. Errors: `Config` when it cannot go on.
pub(super) fn fit(relation: &Relation, head: &Head) -> Result<Fit> {
    let columns = compare(&head.schema, &relation.schema);
    if relation.kind == Kind::View {
        let same = head.properties().get("sluice.definition") == Some(&relation.definition);
        return Ok(if same && columns == Ok(Fit::Same) { Fit::Same } else { Fit::Afresh });
    }
    let before = head.partition_by();
    if relation.partition_by != before {
        let (table, now) = (&relation.name, &relation.partition_by);
        return Err(Error::config(format!(
            "the table is partitioned by other columns than its job says table={table} \
             before={before:?} now={now:?}"
        ))
        .hint(AGAIN));
    }
    columns.map_err(|refusal| refusal.error(&relation.name))
}

/// The same for a chain beside the job's own, which may not know yet what columns another has given
/// to the table: those are null in its rows.
pub(super) fn fit_beside(relation: &Relation, head: &Head) -> Result<Fit> {
    let known = |f: &&FieldRef| relation.schema.field_with_name(f.name()).is_ok();
    let schema =
        Schema::new(head.schema.fields().iter().filter(known).cloned().collect::<Fields>());
    fit(relation, &Head { schema: Arc::new(schema), ..head.clone() })
}

const AGAIN: &str =
    "run with --rebuild to make it again from the sources, or give the table a new name";

/// Why a table cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    column: String,
    before: DataType,
    /// None when the job does not give the column any more.
    now: Option<DataType>,
}

/// What lies between the columns `before` and those of `now`; the order does not count.
fn compare(before: &Schema, now: &Schema) -> Result<Fit, Refusal> {
    let mut wider = Wider::default();
    for field in before.fields() {
        let (name, old) = (field.name().clone(), field.data_type());
        match now.field_with_name(&name).ok().map(|f| f.data_type().clone()) {
            Some(given) if given == *old => {}
            Some(given) if widens(old, &given) => wider.retyped.push(name),
            given => return Err(Refusal { column: name, before: old.clone(), now: given }),
        }
    }
    let new = now.fields().iter().filter(|f| before.field_with_name(f.name()).is_err());
    wider.new = new.map(|f| f.name().clone()).collect();
    Ok(if wider == Wider::default() { Fit::Same } else { Fit::Wider(wider) })
}

impl Refusal {
    fn error(self, table: &str) -> Error {
        let Self { column, before, now } = self;
        let (sql, before) = (sql_type(&before), type_name(&before));
        let Some(now) = now else {
            return Error::config(format!(
                "the table has a column that its job does not give any more table={table} \
                 column={column} type={before}"
            ))
            .hint(format!(
                "select it again, be it as CAST(NULL AS {sql}) AS {column}; or {AGAIN}"
            ));
        };
        let now = type_name(&now);
        Error::config(format!(
            "a column of the table has another type than its job gives it table={table} \
             column={column} before={before} now={now}"
        ))
        .hint(format!("write CAST(… AS {sql}) AS {column} in its statement; or {AGAIN}"))
    }
}

/// The name of a type in SQL.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Binary => "BYTEA".into(),
        DataType::Decimal128(p, s) => format!("DECIMAL({p}, {s})"),
        DataType::Timestamp(_, _) => "TIMESTAMP".into(),
        _ => "VARCHAR".into(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let field = |(name, t): &(&str, DataType)| Field::new(*name, t.clone(), true);
        Schema::new(columns.iter().map(field).collect::<Vec<_>>())
    }

    #[test]
    fn columns_may_come_get_wider_and_stand_elsewhere_and_nothing_else() {
        let (id, text) = (("id", DataType::Int64), ("text", DataType::Utf8));
        let small = ("small", DataType::Int16);
        let before = schema(&[id.clone(), text.clone(), small.clone()]);
        let refused = |column: &str, before: &DataType, now: Option<DataType>| {
            Err(Refusal { column: column.into(), before: before.clone(), now })
        };
        let cases = [
            (vec![id.clone(), text.clone(), small.clone()], Ok(Fit::Same)),
            (vec![small.clone(), text.clone(), id.clone()], Ok(Fit::Same)),
            (
                vec![("new", DataType::Utf8), text.clone(), id.clone(), small.clone()],
                Ok(Fit::Wider(Wider { new: vec!["new".into()], retyped: vec![] })),
            ),
            (
                vec![("small", DataType::Int64), id.clone(), text.clone()],
                Ok(Fit::Wider(Wider { new: vec![], retyped: vec!["small".into()] })),
            ),
            (vec![id.clone()], refused("text", &text.1, None)),
            (
                vec![id.clone(), ("text", DataType::Int32)],
                refused("text", &text.1, Some(DataType::Int32)),
            ),
            (
                vec![("id", DataType::Int32), text.clone()],
                refused("id", &id.1, Some(DataType::Int32)),
            ),
        ];
        for (now, fit) in cases {
            assert_eq!(compare(&before, &schema(&now)), fit, "{now:?}");
        }
    }
}
