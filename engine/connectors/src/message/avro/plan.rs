//! What becomes of the fields of a schema in the columns of a source, decided once per schema.
//!
//! In: types, columns. Out: a plan, or why messages of the schema cannot be read. Fields are found
//! by their names; values are looked at only when they are there.

use arrow::datatypes::DataType;
use sluice_core::type_name;

use super::schema::{Id, Node, Types};
use crate::format::json::{Column, Record, Unknown, joined};

/// What becomes of a value.
#[derive(Debug)]
pub(in crate::message) enum Plan {
    /// It is one of the column.
    Value,
    /// Its JSON is text of the column.
    Json,
    /// Its fields are those of the column.
    Record(Vec<Step>),
    /// Its items are those of the column.
    List(Box<Plan>),
    /// Its entries are items of the column, with key and value at these places.
    Entries { key: usize, value: usize, plan: Box<Plan> },
    /// What its branch says.
    Union(Vec<Plan>),
    /// It cannot be.
    Never,
}

/// What becomes of a field.
#[derive(Debug)]
pub(in crate::message) struct Step {
    pub(in crate::message) name: String,
    pub(in crate::message) id: Id,
    /// The place of its column; none when it has none.
    pub(in crate::message) into: Option<(usize, Plan)>,
    /// Whether it is kept without a column.
    pub(in crate::message) rescued: bool,
}

/// The plan of a record's fields. Errors: why there is none.
pub(in crate::message) fn steps(
    types: &Types,
    fields: &[(String, Id)],
    record: &Record,
    unknown: Unknown,
) -> Result<Vec<Step>, String> {
    let mut steps = Vec::with_capacity(fields.len());
    for (name, id) in fields {
        let within = |e: String| match e.strip_prefix("column ") {
            Some(rest) => format!("column {}", joined(name, rest)),
            None => format!("column {name}: {e}"),
        };
        let into = match record.place(name) {
            None if unknown == Unknown::Fail => return Err(within("not in the schema".into())),
            None => None,
            Some(place) => {
                let column = &record.columns()[place];
                match plan(types, *id, column, unknown).map_err(within)? {
                    Plan::Never => {
                        let wanted = type_name(column.data_type());
                        return Err(within(format!("cannot be read as {wanted}")));
                    }
                    plan => Some((place, plan)),
                }
            }
        };
        let rescued = into.is_none() && unknown.is_rescued();
        steps.push(Step { name: name.clone(), id: *id, into, rescued });
    }
    Ok(steps)
}

fn plan(types: &Types, id: Id, column: &Column, unknown: Unknown) -> Result<Plan, String> {
    let node = &types.get(id).node;
    if let Node::Union(branches) = node {
        let mut plans = Vec::with_capacity(branches.len());
        for branch in branches {
            plans.push(plan(types, *branch, column, unknown)?);
        }
        let is_null = |id: &Id| types.get(*id).node == Node::Null;
        let mut others = plans.iter().zip(branches).filter(|(_, id)| !is_null(id)).peekable();
        let never = others.peek().is_some() && others.all(|(plan, _)| matches!(plan, Plan::Never));
        return Ok(if never { Plan::Never } else { Plan::Union(plans) });
    }
    Ok(match (node, column.fields(), column.items()) {
        (Node::Null, _, _) => Plan::Value,
        (Node::Record(fields), Some(record), _) => {
            Plan::Record(steps(types, fields, record, unknown)?)
        }
        (Node::Array(item), _, Some(items)) => match plan(types, *item, items, unknown)? {
            Plan::Never => Plan::Never,
            plan => Plan::List(Box::new(plan)),
        },
        (Node::Map(id), _, Some(items)) => entries(types, *id, items, unknown)?,
        (_, Some(_), _) | (_, _, Some(_)) => Plan::Never,
        (Node::Record(_) | Node::Array(_) | Node::Map(_), _, _) => match column.data_type() {
            DataType::Utf8 => Plan::Json,
            _ => Plan::Never,
        },
        _ => Plan::Value,
    })
}

/// The plan of a map whose values are of type `id`.
fn entries(types: &Types, id: Id, items: &Column, unknown: Unknown) -> Result<Plan, String> {
    let places = items.fields().and_then(|fields| {
        let places = fields.place("key").zip(fields.place("value"));
        places.filter(|_| fields.columns().len() == 2)
    });
    let (Some((key, value)), Some(fields)) = (places, items.fields()) else {
        return Ok(Plan::Never);
    };
    Ok(match plan(types, id, &fields.columns()[value], unknown)? {
        Plan::Never => Plan::Never,
        plan => Plan::Entries { key, value, plan: Box::new(plan) },
    })
}
