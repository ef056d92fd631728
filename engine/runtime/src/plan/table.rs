//! What a table's statement may be, and how a keyed table's rows keep their order.
//!
//! A table takes the new rows of one input per epoch through stateless SQL; other inputs are
//! looked up as they stand. Aggregates, sorting and limits are for views.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, col};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;
use sluice_core::{POSITION_COLUMN, Problems, SOURCE_FILE_COLUMN, with_position};

use super::columns::{select_columns, table_columns};
use super::statement::{Names, Wrong, find_node, find_word, optimise, plan_statement, wrong};
use super::view::Growth;
use super::{Carried, ExpectationNode, Foreign, Input, Role, SourceNode, TableNode};
use crate::catalog::{Leaf, with_source_file};
use crate::job::{Job, SqlText, TableFormat, TableSpec, suggest};

/// What the graph knows when it plans a table.
pub(super) struct Scope<'a> {
    pub context: &'a SessionContext,
    pub job: &'a Job,
    pub names: &'a Names,
    /// The job's sources.
    pub sources: &'a [SourceNode],
    /// How the relations planned so far grow.
    pub growth: &'a BTreeMap<String, Growth>,
    /// Relations of other jobs.
    pub foreign: &'a [Foreign],
}

/// Plans one table; what is wrong goes to `problems`.
pub(super) async fn plan_table(
    scope: &Scope<'_>,
    spec: &TableSpec,
    problems: &mut Problems,
) -> Option<TableNode> {
    let planned = plan_statement(scope.context, &spec.sql, scope.names, problems).await?;
    let made = stateless(&planned.plan).and_then(|()| table_columns(planned.plan.clone()));
    let (plan, schema) = match made {
        Ok(made) => made,
        Err(wrong) => return report(spec, wrong, problems),
    };
    let inputs = match roles(scope, &planned.inputs) {
        Ok(inputs) => inputs,
        Err(wrong) => return report(spec, wrong, problems),
    };
    check_columns(scope.job, spec, &schema, problems);
    let (plan, schema, carried) = match carry(scope, spec, plan, schema, &inputs) {
        Ok(made) => made,
        Err(wrong) => return report(spec, wrong, problems),
    };
    let plan = match optimise(scope.context, &plan) {
        Ok(plan) => plan,
        Err(wrong) => return report(spec, wrong, problems),
    };
    let expectations = expectations(scope, spec, &schema, problems);
    let delete_when =
        spec.delete_when.as_ref().and_then(|text| predicate(scope, text, &schema, problems));
    let spec = spec.clone();
    Some(TableNode { spec, plan, schema, inputs, carried, expectations, delete_when })
}

fn report<T>(spec: &TableSpec, wrong: Wrong, problems: &mut Problems) -> Option<T> {
    let (line, column) = wrong.at.unwrap_or((1, 1));
    let (file, span) = spec.sql.locate(line, column);
    problems.push(&file, Some(span), wrong.message, Some(wrong.hint));
    None
}

/// Refuses what needs to see more than the epoch's new rows.
fn stateless(plan: &LogicalPlan) -> Result<(), Wrong> {
    let what = find_node(plan, |node| match node {
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Some("an aggregate"),
        LogicalPlan::Window(_) => Some("a window function"),
        LogicalPlan::Sort(_) => Some("ORDER BY"),
        LogicalPlan::Limit(_) => Some("LIMIT"),
        _ => None,
    });
    match what {
        None => Ok(()),
        Some(what) => Err(Wrong {
            message: format!("a table takes each epoch's new rows and cannot hold {what}"),
            hint: "make it a view: move it under `views:`".into(),
            at: None,
        }),
    }
}

/// The first source named is read as it flows, or, without one, the first table; all others are
/// looked up whole.
fn roles(scope: &Scope<'_>, inputs: &[String]) -> Result<Vec<Input>, Wrong> {
    let is_source = |i: &&String| scope.sources.iter().any(|s| s.spec.name == **i);
    let streams: Vec<&String> = inputs.iter().filter(is_source).collect();
    if streams.len() > 1 {
        return Err(Wrong {
            message: format!(
                "a table reads one source at a time sources={}, {}",
                streams[0], streams[1]
            ),
            hint: "make a table of each source, then join the tables in a view".into(),
            at: None,
        });
    }
    let driver = streams.first().copied().or(inputs.first()).cloned();
    if let Some(other) = scope.foreign.iter().find(|f| Some(&f.name) == driver.as_ref()) {
        return Err(Wrong {
            message: format!(
                "a table takes new rows of its own job, this is a table of another \
                 table={} job={}",
                other.name, other.job
            ),
            hint: "make it a view, or join the other job's table to a source".into(),
            at: None,
        });
    }
    let changing = driver.as_ref().filter(|d| scope.growth.get(*d) == Some(&Growth::Changing));
    if let Some(name) = changing {
        return Err(Wrong {
            message: format!(
                "a table takes rows that only grow, those of this may change name={name}"
            ),
            hint: "make it a view: move it under `views:`".into(),
            at: None,
        });
    }
    let role = |name: &String| if Some(name) == driver.as_ref() { Role::New } else { Role::Head };
    Ok(inputs.iter().map(|n| Input { name: n.clone(), role: role(n) }).collect())
}

fn check_columns(job: &Job, spec: &TableSpec, schema: &SchemaRef, problems: &mut Problems) {
    let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let mut check = |pointer: String, name: &str, what: &str| {
        if known.contains(&name) {
            return;
        }
        let message = format!("{what} is not a column of the table column={name}");
        let hint = format!("columns: {}", known.join(", "));
        problems.push(&job.file, job.span(&pointer), message, Some(hint));
    };
    for (i, name) in spec.key.iter().enumerate() {
        check(format!("{}/key/{i}", spec.pointer), name, "the key");
    }
    for (i, name) in spec.partition_by.iter().enumerate() {
        check(format!("{}/partition_by/{i}", spec.pointer), name, "partition_by");
    }
    for (i, name) in spec.files.zorder_by.iter().enumerate() {
        check(format!("{}/zorder_by/{i}", spec.pointer), name, "zorder_by");
    }
    if let Some(name) = &spec.sequence_by {
        check(format!("{}/sequence_by", spec.pointer), name, "sequence_by");
    }
    if known.iter().all(|name| spec.partition_by.iter().any(|by| by == name)) {
        let span = job.span(&format!("{}/partition_by", spec.pointer));
        let message = "all columns of the table are in partition_by, its files would hold nothing";
        let hint = "partition by columns with few values, and leave at least one other column";
        problems.push(&job.file, span, message, Some(hint.to_string()));
    }
    check_zorder(job, spec, schema, problems);
    check_event_time(job, spec, schema, problems);
}

/// Rows are sorted by columns that have an order and differ within a partition.
fn check_zorder(job: &Job, spec: &TableSpec, schema: &SchemaRef, problems: &mut Problems) {
    for (i, name) in spec.files.zorder_by.iter().enumerate() {
        let Ok(field) = schema.field_with_name(name) else { continue };
        let (message, hint) = if spec.partition_by.contains(name) {
            let message = format!("zorder_by names a partition column column={name}");
            (message, "rows of a file have one value in it: take it away")
        } else if field.data_type().is_nested() {
            let message = format!("zorder_by names a nested column column={name}");
            (message, "take a column with plain values, or make one in the statement")
        } else {
            continue;
        };
        let span = job.span(&format!("{}/zorder_by/{i}", spec.pointer));
        problems.push(&job.file, span, message, Some(hint.to_string()));
    }
}

fn check_event_time(job: &Job, spec: &TableSpec, schema: &SchemaRef, problems: &mut Problems) {
    let Some(event_time) = &spec.event_time else { return };
    let name = event_time.column.as_str();
    let is_time = |t: &DataType| matches!(t, DataType::Date32 | DataType::Timestamp(_, _));
    let times = schema.fields().iter().filter(|f| is_time(f.data_type()));
    let times: Vec<&str> = times.map(|f| f.name().as_str()).collect();
    let message = match schema.fields().iter().find(|f| f.name() == name) {
        Some(field) if is_time(field.data_type()) => return,
        Some(field) => {
            format!(
                "event_time is not a date or timestamp column={name} type={}",
                field.data_type()
            )
        }
        None => format!("event_time is not a column of the table column={name}"),
    };
    let otherwise = "take a column with a date or timestamp, or make one in the statement";
    let hint = suggest::names(name, times.iter().copied(), otherwise);
    let span = job.span(&format!("{}/event_time/column", spec.pointer));
    problems.push(&job.file, span, message, Some(hint));
}

/// The plan with what it has to carry behind its columns, where the statement only filters and
/// projects one source: the position for keyed tables, the file for rows that may be taken back.
fn carry(
    scope: &Scope<'_>,
    spec: &TableSpec,
    plan: LogicalPlan,
    schema: SchemaRef,
    inputs: &[Input],
) -> Result<(LogicalPlan, SchemaRef, Carried), Wrong> {
    let source = scope.sources.iter().find(|s| inputs.iter().any(|i| i.name == s.spec.name));
    let retracts = source.is_some_and(|s| s.retracts);
    let wanted = if retracts {
        Carried { source_file: true, position: false }
    } else {
        Carried { source_file: false, position: !spec.key.is_empty() }
    };
    let keyed = !spec.key.is_empty() || spec.format == TableFormat::Parquet;
    let single = source.is_some() && inputs.len() == 1;
    if retracts && (keyed || !single) {
        return Err(cannot_retract());
    }
    if wanted == Carried::default() || !single {
        return Ok((plan, schema, Carried::default()));
    }
    let Some(carried) = with_carried(&plan, wanted)? else {
        return if retracts {
            Err(cannot_retract())
        } else {
            Ok((plan, schema, Carried::default()))
        };
    };
    let column = if retracts { SOURCE_FILE_COLUMN } else { POSITION_COLUMN };
    let mut names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.push(column);
    let plan = select_columns(carried, &names)?;
    let schema = if retracts { with_source_file(&schema) } else { schema };
    Ok((plan, schema, wanted))
}

fn cannot_retract() -> Wrong {
    Wrong {
        message: "`on_changed_file: replace` takes rows back by their file, which this table \
                  cannot tell"
            .into(),
        hint: "let a Delta table without a key filter and project the source, and make the rest \
               from that table as views"
            .into(),
        at: None,
    }
}

fn with_carried(plan: &LogicalPlan, wanted: Carried) -> Result<Option<LogicalPlan>, Wrong> {
    let rebuilt = match plan {
        LogicalPlan::Projection(projection) => {
            let Some(input) = with_carried(&projection.input, wanted)? else { return Ok(None) };
            let mut exprs = projection.expr.clone();
            exprs.push(last_column(&input));
            LogicalPlan::Projection(
                datafusion::logical_expr::Projection::try_new(exprs, Arc::new(input))
                    .map_err(wrong)?,
            )
        }
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            let inputs = plan.inputs();
            let Some(input) = inputs.first().copied() else { return Ok(None) };
            let Some(input) = with_carried(input, wanted)? else { return Ok(None) };
            plan.with_new_exprs(plan.expressions(), vec![input]).map_err(wrong)?
        }
        LogicalPlan::TableScan(scan) => {
            let schema = scan.source.schema();
            let schema = if wanted.source_file {
                with_source_file(&schema)
            } else {
                with_position(schema.as_ref())
            };
            let leaf = Arc::new(Leaf::new(scan.table_name.table(), schema));
            let source = provider_as_source(leaf);
            LogicalPlan::TableScan(
                TableScanBuilder::new(scan.table_name.clone(), source).build().map_err(wrong)?,
            )
        }
        _ => return Ok(None),
    };
    Ok(Some(rebuilt))
}

fn last_column(input: &LogicalPlan) -> Expr {
    let last = input.schema().iter().last();
    match last {
        Some((qualifier, field)) => Expr::Column((qualifier, field).into()),
        None => col(POSITION_COLUMN),
    }
}

fn expectations(
    scope: &Scope<'_>,
    spec: &TableSpec,
    schema: &SchemaRef,
    problems: &mut Problems,
) -> Vec<ExpectationNode> {
    let mut nodes = Vec::new();
    for expect in &spec.expect {
        if let Some(predicate) = predicate(scope, &expect.that, schema, problems) {
            nodes.push(ExpectationNode {
                name: expect.name.clone(),
                predicate,
                action: expect.action,
                fail_above: expect.fail_above,
            });
        }
    }
    nodes
}

/// A condition over the table's columns, ready to evaluate.
fn predicate(
    scope: &Scope<'_>,
    text: &SqlText,
    schema: &SchemaRef,
    problems: &mut Problems,
) -> Option<Arc<dyn PhysicalExpr>> {
    match try_predicate(scope.context, text, schema) {
        Ok(predicate) => Some(predicate),
        Err(wrong) => {
            let (line, column) = wrong.at.unwrap_or((1, 1));
            let (file, span) = text.locate(line, column);
            problems.push(&file, Some(span), wrong.message, Some(wrong.hint));
            None
        }
    }
}

fn try_predicate(
    context: &SessionContext,
    text: &str,
    schema: &SchemaRef,
) -> Result<Arc<dyn PhysicalExpr>, Wrong> {
    let df_schema = DFSchema::try_from(schema.as_ref().clone()).map_err(wrong)?;
    let expr = context.parse_sql_expr(text, &df_schema).map_err(wrong)?;
    one_row_is_enough(&expr, text)?;
    let physical = context.create_physical_expr(expr, &df_schema).map_err(wrong)?;
    let data_type = physical.data_type(schema).map_err(wrong)?;
    if data_type == DataType::Boolean {
        return Ok(physical);
    }
    Err(Wrong {
        message: format!("the condition is not true or false type={data_type}"),
        hint: "write a comparison, such as `amount > 0`".into(),
        at: None,
    })
}

/// Refuses what cannot be told from one row.
fn one_row_is_enough(expr: &Expr, text: &str) -> Result<(), Wrong> {
    let mut found = None;
    let walked = expr.apply(|part| {
        found = match part {
            Expr::AggregateFunction(f) => Some(("an aggregate", f.func.name().to_string())),
            Expr::WindowFunction(f) => Some(("a window function", f.fun.name().to_string())),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
                Some(("a subquery", "select".to_string()))
            }
            _ => None,
        };
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    let Some((what, name)) = walked.ok().and(found) else { return Ok(()) };
    Err(Wrong {
        message: format!("a condition looks at one row, this is {what} name={name}"),
        hint: "compare columns of the row; what holds for many rows goes into a view".into(),
        at: find_word(text, &name),
    })
}
