//! By which strategy a view is kept, and why not by a better one.
//!
//! In: the optimised plan of the view's statement and what its inputs are like. Out: a strategy
//! with the pieces it runs. The decision looks at plans only; no data is read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use sluice_core::Problems;

use super::columns::{can_be_kept, table_columns};
use super::joined::growing;
use super::order::check_order;
use super::statement::{
    Names, Wrong, find_node, find_word, leaf_scan, optimise, plan_statement, wrong,
};
use super::{GROUPS_LEAF, ViewNode};
use crate::job::{Refresh, ViewSpec};

/// How a view is kept.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// New rows of the input become new rows of the view. Work ∝ new rows.
    Append,
    /// New rows of the named input, joined with the others, become new rows of the view; when
    /// the others changed, the statement is run again.
    AppendJoin(String),
    /// Partial aggregates per group are kept. Work ∝ touched groups.
    Incremental(Box<Incremental>),
    /// The statement is run again over everything.
    Full,
}

impl Strategy {
    /// The word people see.
    pub fn name(&self) -> &'static str {
        match self {
            Strategy::Append | Strategy::AppendJoin(_) => "append",
            Strategy::Incremental(_) => "incremental",
            Strategy::Full => "full",
        }
    }
}

/// The pieces of an incremental view.
#[derive(Debug, Clone)]
pub struct Incremental {
    /// The aggregate over the input's leaf.
    pub aggregate: LogicalPlan,
    /// From the leaf [`GROUPS_LEAF`] (columns `c0`, `c1` …: groups, then aggregates) to the view.
    pub finish: LogicalPlan,
    /// The columns of [`GROUPS_LEAF`].
    pub groups: SchemaRef,
    /// The view's columns that hold the groups, in group order; empty for one global group.
    pub key: Vec<String>,
}

/// What is known of the relations a view may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// Rows are only ever added.
    Append,
    /// Rows may change or go away.
    Changing,
    /// Belongs to another job: seen at its last published epoch.
    Foreign,
    /// A source: its rows are not kept.
    Stream,
}

/// Plans one view; what is wrong goes to `problems`.
pub(super) async fn plan_view(
    context: &SessionContext,
    spec: &ViewSpec,
    names: &Names,
    growth: &(dyn Fn(&str) -> Growth + Send + Sync),
    problems: &mut Problems,
) -> Option<ViewNode> {
    let planned = plan_statement(context, &spec.sql, names, problems).await?;
    let made = check(&planned.plan, &planned.inputs, spec, growth)
        .and_then(|()| table_columns(planned.plan.clone()))
        .and_then(|(plan, schema)| Ok((optimise(context, &plan)?, schema)))
        .and_then(|(plan, schema)| {
            let (strategy, reason) = decide(context, &plan, &planned.inputs, spec, growth)?;
            Ok(ViewNode {
                spec: spec.clone(),
                plan,
                schema,
                inputs: planned.inputs.clone(),
                strategy,
                reason,
            })
        });
    match made {
        Ok(node) => Some(node),
        Err(wrong) => {
            let (line, column) = wrong.at.unwrap_or((1, 1));
            let (file, span) = spec.sql.locate(line, column);
            problems.push(&file, Some(span), wrong.message, Some(wrong.hint));
            None
        }
    }
}

fn check(
    plan: &LogicalPlan,
    inputs: &[String],
    spec: &ViewSpec,
    growth: &(dyn Fn(&str) -> Growth + Send + Sync),
) -> Result<(), Wrong> {
    if let Some(source) = inputs.iter().find(|i| growth(i) == Growth::Stream) {
        return Err(Wrong {
            message: format!("a view reads tables, this is a source name={source}"),
            hint: "keep its rows in a table first, then make the view from the table".into(),
            at: find_word(&spec.sql.text, source),
        });
    }
    let volatile = find_node(plan, |node| {
        node.expressions().into_iter().find(Expr::is_volatile).map(|e| e.to_string())
    });
    match volatile {
        None => check_order(plan, &spec.sql.text),
        Some(text) => {
            let name = text.split('(').next().unwrap_or_default().to_string();
            Err(Wrong {
                message: format!("a view cannot depend on when it is computed expression={text}"),
                hint: "compute it into a column of a table, where it is kept with the row".into(),
                at: find_word(&spec.sql.text, &name),
            })
        }
    }
}

/// The best strategy the plan allows.
fn decide(
    context: &SessionContext,
    plan: &LogicalPlan,
    inputs: &[String],
    spec: &ViewSpec,
    growth: &(dyn Fn(&str) -> Growth + Send + Sync),
) -> Result<(Strategy, String), Wrong> {
    let found = if spec.refresh == Refresh::Full {
        Err("the job file asks for it".to_string())
    } else {
        better(context, plan, inputs, growth)
    };
    match found {
        Ok((strategy, reason)) => Ok((strategy, reason)),
        Err(reason) if spec.refresh == Refresh::Incremental => Err(Wrong {
            message: format!("the view cannot be kept incrementally: {reason}"),
            hint: "change the statement, or write `refresh: full`".into(),
            at: None,
        }),
        Err(reason) => Ok((Strategy::Full, format!("recomputed: {reason}"))),
    }
}

/// Append or incremental, or why neither.
fn better(
    context: &SessionContext,
    plan: &LogicalPlan,
    inputs: &[String],
    growth: &(dyn Fn(&str) -> Growth + Send + Sync),
) -> Result<(Strategy, String), String> {
    let [input] = inputs else {
        let (name, reason) = growing(plan, inputs, growth)?;
        return Ok((Strategy::AppendJoin(name), reason));
    };
    match growth(input) {
        Growth::Append => {}
        Growth::Changing => return Err(format!("rows of {input} may change or go away")),
        Growth::Foreign => return Err(format!("{input} belongs to another job")),
        Growth::Stream => return Err(format!("{input} is a source")),
    }
    if is_stateless(plan) {
        let reason = format!("filters and projects {input}, which only grows");
        return Ok((Strategy::Append, reason));
    }
    let (chain, aggregate) = split_at_aggregate(plan)?;
    let LogicalPlan::Aggregate(node) = aggregate else {
        return Err("it has no aggregate".to_string());
    };
    if node.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
        return Err("it groups in several ways at once".to_string());
    }
    if !is_stateless(&node.input) {
        return Err("it aggregates more than a filtered, projected table".to_string());
    }
    check_state(node)?;
    let key = key_columns(&chain, aggregate, node.group_expr.len())?;
    let groups = group_schema(aggregate);
    let finish = finish_plan(&chain, aggregate, &groups)
        .and_then(|plan| optimise(context, &plan))
        .map_err(|w| w.message)?;
    let aggregate = optimise(context, aggregate).map_err(|w| w.message)?;
    let reason = format!("partial aggregates per group, {input} only grows");
    let pieces = Incremental { aggregate, finish, groups, key };
    Ok((Strategy::Incremental(Box::new(pieces)), reason))
}

/// Refuses aggregates whose partial state has no column type that a file can hold: it is made of
/// arguments and results.
fn check_state(node: &Aggregate) -> Result<(), String> {
    let results = node.schema.fields().iter().skip(node.group_expr.len());
    let mut types: Vec<DataType> = results.map(|f| f.data_type().clone()).collect();
    for expr in &node.aggr_expr {
        if let Expr::AggregateFunction(f) = expr.clone().unalias() {
            let arguments = f.params.args.iter();
            types.extend(arguments.filter_map(|a| a.get_type(node.input.schema()).ok()));
        }
    }
    match types.into_iter().find(|t| !can_be_kept(t)) {
        Some(of) => Err(format!("state of type {of} cannot be kept in a file")),
        None => Ok(()),
    }
}

fn is_stateless(plan: &LogicalPlan) -> bool {
    let here = matches!(
        plan,
        LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::TableScan(_)
    );
    let subqueries = plan.expressions().iter().any(has_subquery);
    here && !subqueries && plan.inputs().into_iter().all(is_stateless)
}

pub(super) fn has_subquery(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    expr.exists(|e| {
        Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)))
    })
    .unwrap_or(true)
}

/// The nodes above the aggregate, topmost first, and the aggregate.
fn split_at_aggregate(plan: &LogicalPlan) -> Result<(Vec<&LogicalPlan>, &LogicalPlan), String> {
    let mut chain = Vec::new();
    let mut at = plan;
    loop {
        match at {
            LogicalPlan::Aggregate(_) => return Ok((chain, at)),
            // A sort without a limit does not change which rows the view holds.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {}
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
                if at.expressions().iter().any(has_subquery) {
                    return Err("it holds a subquery".to_string());
                }
                chain.push(at);
            }
            LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => {
                return Err("ORDER BY with LIMIT needs all groups at once".to_string());
            }
            LogicalPlan::Window(_) => return Err("it holds a window function".to_string()),
            LogicalPlan::Join(_) => return Err("it joins".to_string()),
            LogicalPlan::Union(_) => return Err("it holds a UNION".to_string()),
            other => return Err(format!("{} is not kept incrementally", other.display())),
        }
        at = at.inputs().first().copied().ok_or("it has no input")?;
    }
}

/// The view's columns that carry the groups unchanged.
fn key_columns(
    chain: &[&LogicalPlan],
    aggregate: &LogicalPlan,
    groups: usize,
) -> Result<Vec<String>, String> {
    let width = aggregate.schema().fields().len();
    let mut origin: Vec<Option<usize>> = (0..width).map(|i| (i < groups).then_some(i)).collect();
    for node in chain.iter().rev() {
        if let LogicalPlan::Projection(projection) = node {
            let below = projection.input.schema();
            let of = |expr: &Expr| plain_column(expr).and_then(|c| below.maybe_index_of_column(c));
            origin = projection
                .expr
                .iter()
                .map(|e| of(e).and_then(|i| origin.get(i).copied().flatten()))
                .collect();
        }
    }
    let top = chain.first().copied().unwrap_or(aggregate);
    let mut key = Vec::with_capacity(groups);
    for group in 0..groups {
        let at = origin.iter().position(|o| *o == Some(group));
        let name = at.map(|i| top.schema().field(i).name().clone());
        let shown = aggregate.schema().field(group).name();
        key.push(name.ok_or_else(|| format!("the group {shown} is not a column of the view"))?);
    }
    Ok(key)
}

fn plain_column(expr: &Expr) -> Option<&datafusion::common::Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain_column(&alias.expr),
        Expr::Cast(cast) => plain_column(&cast.expr),
        _ => None,
    }
}

fn group_schema(aggregate: &LogicalPlan) -> SchemaRef {
    let fields = aggregate.schema().fields().iter().enumerate();
    let named = fields.map(|(i, f)| Field::new(format!("c{i}"), f.data_type().clone(), true));
    Arc::new(Schema::new(named.collect::<Vec<_>>()))
}

/// The nodes above the aggregate over the leaf of groups.
fn finish_plan(
    chain: &[&LogicalPlan],
    aggregate: &LogicalPlan,
    groups: &SchemaRef,
) -> Result<LogicalPlan, Wrong> {
    let leaf = leaf_scan(GROUPS_LEAF, groups).map_err(wrong)?;
    let renamed: Vec<Expr> = leaf
        .schema()
        .iter()
        .zip(aggregate.schema().iter())
        .map(|((from, column), (to, field))| {
            let column = Expr::Column((from, column).into());
            column.alias_qualified(to.cloned(), field.name())
        })
        .collect();
    let mut plan = LogicalPlanBuilder::from(leaf)
        .project(renamed)
        .and_then(LogicalPlanBuilder::build)
        .map_err(wrong)?;
    for node in chain.iter().rev() {
        plan = node.with_new_exprs(node.expressions(), vec![plan]).map_err(wrong)?;
    }
    Ok(plan)
}
