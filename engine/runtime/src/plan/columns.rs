//! A table's schema, derived once from its plan: what Delta can hold, under legal names.
//!
//! In: the plan of a statement. Out: the plan with a cast projection at its end and the schema of
//! the table, or the column that cannot be held and the cast that would help; also whether the columns
//! that a view shows as gauges can be.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, col};
use datafusion::prelude::Expr as SqlExpr;
use sluice_core::{PASSED_COLUMNS, Problems};

use super::statement::{Wrong, wrong};
use crate::job::{Job, ViewSpec, suggest};

/// Characters Delta refuses in column names.
const ILLEGAL: &str = " ,;{}()\n\t=";

/// `plan` with its output cast to what a table can hold, and the table's schema.
pub(super) fn table_columns(plan: LogicalPlan) -> Result<(LogicalPlan, SchemaRef), Wrong> {
    let mut fields: Vec<Field> = Vec::new();
    let mut casts: Vec<SqlExpr> = Vec::new();
    let mut changed = false;
    for (qualifier, field) in plan.schema().iter() {
        let name = field.name();
        check_name(name, &fields)?;
        let wanted = holdable(name, field.data_type())?;
        let column: Expr = Expr::Column((qualifier, field).into());
        if &wanted == field.data_type() {
            changed |= qualifier.is_some();
            casts.push(column.alias(name));
        } else {
            changed = true;
            casts.push(held(column, field.data_type(), wanted.clone()).alias(name));
        }
        fields.push(Field::new(name, wanted, true));
    }
    let schema = Arc::new(Schema::new(fields));
    if !changed {
        return Ok((plan, schema));
    }
    let plan = LogicalPlanBuilder::from(plan)
        .project(casts)
        .and_then(LogicalPlanBuilder::build)
        .map_err(wrong)?;
    Ok((plan, schema))
}

/// `column`, of type `from`, as the type a table keeps for it. A time without a zone is one of UTC,
/// whose numbers are the same: by way of them it costs nothing, while a cast would look each time up
/// in the zone's history.
fn held(column: Expr, from: &DataType, wanted: DataType) -> Expr {
    let zoneless = matches!(from, DataType::Date64 | DataType::Timestamp(_, None));
    if !zoneless || !matches!(wanted, DataType::Timestamp(_, _)) {
        return cast(column, wanted);
    }
    let micros = cast(column, DataType::Timestamp(TimeUnit::Microsecond, None));
    cast(cast(micros, DataType::Int64), wanted)
}

/// Projects `plan` to the columns of `schema`, by name.
pub(super) fn select_columns(plan: LogicalPlan, names: &[&str]) -> Result<LogicalPlan, Wrong> {
    LogicalPlanBuilder::from(plan)
        .project(names.iter().map(|n| col(format!("\"{n}\""))))
        .and_then(LogicalPlanBuilder::build)
        .map_err(wrong)
}

fn check_name(name: &str, before: &[Field]) -> Result<(), Wrong> {
    let hint = "give it a name with AS";
    if name.chars().any(|c| ILLEGAL.contains(c)) || name.contains('.') {
        return Err(Wrong {
            message: format!("a column of a table has no legal name column={name}"),
            hint: hint.into(),
            at: None,
        });
    }
    if name.starts_with('_') && !PASSED_COLUMNS.contains(&name) {
        return Err(Wrong {
            message: format!("names that start with _ belong to Sluice column={name}"),
            hint: hint.into(),
            at: None,
        });
    }
    if before.iter().any(|f| f.name().eq_ignore_ascii_case(name)) {
        return Err(Wrong {
            message: format!("two columns have the same name column={name}"),
            hint: hint.into(),
            at: None,
        });
    }
    Ok(())
}

/// The type a table keeps for values of `data_type`.
fn holdable(name: &str, data_type: &DataType) -> Result<DataType, Wrong> {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Dictionary,
        FixedSizeBinary, Float16, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary,
        LargeList, LargeUtf8, List, Struct, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8,
        Utf8View,
    };
    Ok(match data_type {
        Int8
        | Int16
        | Int32
        | Int64
        | Float32
        | Float64
        | Boolean
        | Utf8
        | Binary
        | Date32
        | Decimal128(_, _) => data_type.clone(),
        UInt8 => Int16,
        UInt16 => Int32,
        UInt32 | UInt64 => Int64,
        Float16 => Float32,
        LargeUtf8 | Utf8View => Utf8,
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Decimal32(p, s) | Decimal64(p, s) => Decimal128(*p, *s),
        Date64 | Timestamp(_, _) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Dictionary(_, values) => holdable(name, values)?,
        List(item) | LargeList(item) => {
            List(Arc::new(Field::new("element", holdable(name, item.data_type())?, true)))
        }
        Struct(fields) => {
            let mut kept = Vec::with_capacity(fields.len());
            for field in fields {
                kept.push(Field::new(field.name(), holdable(name, field.data_type())?, true));
            }
            Struct(kept.into())
        }
        other => {
            let cast = match other {
                DataType::Null => format!("CAST({name} AS VARCHAR)"),
                DataType::Decimal256(_, _) => format!("CAST({name} AS DECIMAL(38, 10))"),
                _ => format!("CAST({name} AS VARCHAR) or arrow_cast to a number"),
            };
            return Err(Wrong {
                message: format!("a table cannot hold this type column={name} type={other}"),
                hint: format!("write {cast}"),
                at: None,
            });
        }
    })
}

/// Finds columns that a view is to show as gauges or labels and that it lacks, or whose type is none
/// for it.
pub(super) fn check_metrics(spec: &ViewSpec, schema: &Schema, job: &Job, problems: &mut Problems) {
    let Some(metrics) = &spec.metrics else { return };
    let mut check = |key: &str, columns: &[String], fits: fn(&DataType) -> bool, hint: &str| {
        for (i, column) in columns.iter().enumerate() {
            let span = || job.span(&format!("{}/metrics/{key}/{i}", spec.pointer));
            let (message, hint) = match schema.field_with_name(column) {
                Ok(field) if fits(field.data_type()) => continue,
                Ok(field) => {
                    let of = field.data_type();
                    let what =
                        if key == "value" { "a gauge cannot show" } else { "a label cannot be" };
                    (format!("{what} this type column={column} type={of}"), hint.to_string())
                }
                Err(_) => {
                    let names = schema.fields().iter().map(|f| f.name().as_str());
                    let hint = suggest::names(column, names, "name a column of the view");
                    (format!("the view has no such column column={column}"), hint)
                }
            };
            problems.push(&job.file, span(), message, Some(hint));
        }
    };
    let value = "numbers, booleans and timestamps can be shown; cast it in the statement";
    check("value", &metrics.values, is_value, value);
    let label =
        "texts, whole numbers, booleans and dates tell series apart; cast it in the statement";
    check("labels", &metrics.labels, is_label, label);
}

fn is_value(of: &DataType) -> bool {
    of.is_numeric() || matches!(of, DataType::Boolean | DataType::Timestamp(_, _))
}

fn is_label(of: &DataType) -> bool {
    of.is_integer() || of.is_string() || matches!(of, DataType::Boolean | DataType::Date32)
}

/// Whether a column of this type can be written to a Parquet file and read back the same.
pub fn can_be_kept(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) => can_be_kept(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| can_be_kept(f.data_type())),
        DataType::Dictionary(_, values) => can_be_kept(values),
        other => {
            other.is_integer()
                || other.is_floating()
                || other.is_decimal()
                || other.is_string()
                || other.is_binary()
                || matches!(other, DataType::Boolean | DataType::Date32 | DataType::Date64)
                || matches!(other, DataType::Timestamp(_, _))
                || matches!(other, DataType::Time32(_) | DataType::Time64(_))
        }
    }
}
