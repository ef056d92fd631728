//! What a question may do: read relations that are known, and nothing else.
//!
//! In: SQL text and a session. Out: a plan of which it is certain that it only scans tables of the
//! session, with the relations it reads and how long its answer stays true; or a refusal. What is
//! not on the list is refused: statements, DDL, DML, COPY, nodes of extensions, scans of anything
//! that no catalog of the session has.

use std::collections::BTreeSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ScalarValue, TableReference};
use datafusion::error::{DataFusionError, Result as SqlResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use sluice_core::{Error, Result};

use super::refused;
use crate::catalog::external;

/// Schemas that tell about the engine and its tables, not rows of jobs.
const ABOUT: [&str; 3] = [super::SYSTEM_SCHEMA, "information_schema", "pg_catalog"];

/// A question that only reads.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its plan, not optimised; parameters are in it as placeholders.
    pub plan: LogicalPlan,
    /// What it reads and how long that holds.
    pub facts: Facts,
}

/// What a plan reads, and how long its answer stays true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The relations of jobs that it reads, sorted; with the schema where it is not the default
    /// one.
    pub reads: Vec<String>,
    /// How long its answer holds.
    pub holds: Holds,
}

/// How long an answer stays true; the later ones for less time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// Until one of the relations that it reads changes.
    #[default]
    Epoch,
    /// Until then, or until the day is over: it asks for the date.
    Day,
    /// It asks what time it is, or about the engine itself.
    Moment,
    /// Not even for the next time that it is asked: it draws at random, or measures itself.
    Never,
}

/// Plans `sql` in the session of `state`. Errors: `Config`, with what helps.
pub async fn ask(state: &SessionState, sql: &str) -> Result<Question> {
    let plan = state.create_logical_plan(sql).await.map_err(refused)?;
    let facts = examine(state, &plan)?;
    Ok(Question { plan, facts })
}

/// `plan` with values in the place of its parameters, by their names without the dollar. Errors:
/// `Config` where one is missing.
pub fn bind(plan: LogicalPlan, values: &[(String, ScalarValue)]) -> Result<LogicalPlan> {
    let wanted = plan.get_parameter_names().map_err(refused)?;
    if wanted.is_empty() {
        return Ok(plan);
    }
    let is_given = |wanted: &&String| values.iter().any(|(name, _)| wanted[1..] == **name);
    if let Some(missing) = wanted.iter().find(|name| !is_given(name)) {
        return Err(Error::config(format!("a parameter has no value name={missing}"))
            .hint("give each `$name` of the statement a value"));
    }
    plan.with_param_values(values.to_vec()).map_err(refused)
}

/// What `plan`, which was made in the session of `state`, reads. Errors: `Config`, where it does
/// anything else.
pub fn examine(state: &SessionState, plan: &LogicalPlan) -> Result<Facts> {
    let walked = Walk::over(plan).map_err(refused)?;
    let mut facts = Facts { reads: Vec::new(), holds: walked.holds };
    for reference in walked.scanned {
        match place(state, &walked.recursive, &reference)? {
            Place::Relation(name) => facts.reads.push(name),
            Place::About => facts.holds = facts.holds.max(Holds::Moment),
            Place::Made => {}
        }
    }
    facts.reads.sort();
    facts.reads.dedup();
    Ok(facts)
}

/// What a scan is of.
enum Place {
    /// A relation of a job.
    Relation(String),
    /// The engine, or the list of tables.
    About,
    /// Rows that the question makes itself.
    Made,
}

fn place(
    state: &SessionState,
    recursive: &BTreeSet<String>,
    reference: &TableReference,
) -> Result<Place> {
    let table = reference.table();
    let functions = state.table_functions();
    if table.strip_suffix("()").is_some_and(|function| functions.contains_key(function)) {
        return Ok(Place::Made);
    }
    let defaults = &state.config_options().catalog;
    let schema = reference.schema().unwrap_or(&defaults.default_schema);
    let catalog = reference.catalog().unwrap_or(&defaults.default_catalog);
    if catalog == defaults.default_catalog && ABOUT.contains(&schema) {
        return Ok(Place::About);
    }
    let found = state.catalog_list().catalog(catalog).and_then(|catalog| catalog.schema(schema));
    if found.is_some_and(|schema| schema.table_exist(table)) {
        return Ok(Place::Relation(match schema == defaults.default_schema {
            true => table.to_string(),
            false => format!("{schema}.{table}"),
        }));
    }
    // Functions that are asked row by row, and rows of a recursive query, go by their bare names.
    if recursive.contains(table) || functions.contains_key(table) {
        return Ok(Place::Made);
    }
    let text = format!("a query only reads tables of jobs, this reads {reference}");
    Err(Error::config(text).hint("SHOW TABLES lists what there is to read"))
}

/// What one walk over a plan finds.
#[derive(Default)]
struct Walk {
    scanned: Vec<TableReference>,
    /// Names that stand for the rows a recursive query has so far.
    recursive: BTreeSet<String>,
    holds: Holds,
}

impl Walk {
    fn over(plan: &LogicalPlan) -> SqlResult<Self> {
        let mut walk = Self::default();
        plan.apply_with_subqueries(|node| walk.node(node))?;
        Ok(walk)
    }

    fn node(&mut self, node: &LogicalPlan) -> SqlResult<TreeNodeRecursion> {
        match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Unnest(_) => {}
            LogicalPlan::TableScan(scan) => self.scanned.push(scan.table_name.clone()),
            LogicalPlan::RecursiveQuery(query) => {
                self.recursive.insert(query.name.clone());
            }
            LogicalPlan::DescribeTable(_) => self.holds = self.holds.max(Holds::Moment),
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => self.holds = Holds::Never,
            LogicalPlan::Statement(statement) => return Err(changes(statement.name())),
            LogicalPlan::Dml(dml) => return Err(changes(&dml.op.to_string())),
            LogicalPlan::Ddl(ddl) => return Err(changes(ddl.name())),
            LogicalPlan::Copy(_) => return Err(changes("COPY")),
            LogicalPlan::Extension(extension) => return Err(changes(extension.node.name())),
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                self.holds = self.holds.max(holds(expr));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    }
}

fn changes(what: &str) -> DataFusionError {
    external(
        Error::config(format!("a query only reads, this is {what}"))
            .hint("change tables through the job file and `sluice run`"),
    )
}

/// How long the value of an expression stays the same for the same rows.
fn holds(expr: &Expr) -> Holds {
    let Expr::ScalarFunction(call) = expr else { return Holds::Epoch };
    match call.func.name() {
        "current_date" => Holds::Day,
        "now" | "current_time" => Holds::Moment,
        _ if call.func.signature().volatility == Volatility::Volatile => Holds::Never,
        _ => Holds::Epoch,
    }
}
