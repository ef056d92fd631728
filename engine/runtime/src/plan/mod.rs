//! From a checked job to a graph of plans: what each table and view reads and how it is made.
//!
//! In: a [`Job`] and the connectors' registry. Out: a [`Graph`] whose plans are made once and run
//! every epoch, or all problems of all statements at once. Nothing is read or written here.

mod build_side;
mod columns;
mod graph;
mod joined;
mod joins;
mod order;
mod places;
mod run;
mod sinks;
mod sort;
mod statement;
mod table;
mod view;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::PhysicalExpr;

use crate::job::{ExpectAction, Job, SinkSpec, SourceSpec, TableSpec, ViewSpec};

pub use columns::can_be_kept;
pub use graph::{Foreign, Graph, build_pack};
pub use joins::{Join, Joins, joins};
pub use order::{DIGESTS, ORDER_DEPENDENT};
pub use run::{gathered, leaf_plan, physical, spilling, streams};
pub use sort::sorted;
pub use statement::{Names, Planned, UNKNOWN_RELATION, check_query, plan_statement};
pub use view::{Incremental, Strategy};

/// The leaf that stands for the groups an incremental view has just worked out.
pub const GROUPS_LEAF: &str = "__groups";

/// A source and the schema of its rows.
#[derive(Debug, Clone)]
pub struct SourceNode {
    /// As written in the job.
    pub spec: SourceSpec,
    /// The rows' schema, without the position column.
    pub schema: SchemaRef,
    /// Whether rows may be taken back by the file they came from.
    pub retracts: bool,
}

/// How a table reads one of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The rows that are new in this epoch.
    New,
    /// All rows, those of this epoch included.
    Head,
}

/// A relation a table or view reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Source, table or view.
    pub name: String,
    /// How it is read.
    pub role: Role,
}

/// A table and the plan that gives its new rows.
#[derive(Debug, Clone)]
pub struct TableNode {
    /// As written in the job.
    pub spec: TableSpec,
    /// Gives the table's columns; for keyed tables the position follows them when it is carried.
    pub plan: LogicalPlan,
    /// The table's columns.
    pub schema: SchemaRef,
    /// What the plan reads.
    pub inputs: Vec<Input>,
    /// What the plan takes from its source besides the source's columns.
    pub carried: Carried,
    /// Expectations, ready to evaluate over the table's columns.
    pub expectations: Vec<ExpectationNode>,
    /// `delete_when`, ready to evaluate over the table's columns.
    pub delete_when: Option<Arc<dyn PhysicalExpr>>,
}

/// Columns that a plan takes from its source behind the source's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// The file a row came from: the last column of a table whose rows may be taken back.
    pub source_file: bool,
    /// The position: the last column of the plan of a keyed table, not of the table.
    pub position: bool,
}

/// An expectation with its predicate.
#[derive(Debug, Clone)]
pub struct ExpectationNode {
    /// Its name in the job.
    pub name: String,
    /// Must be true for a row to pass.
    pub predicate: Arc<dyn PhysicalExpr>,
    /// What happens to a row that does not pass.
    pub action: ExpectAction,
    /// The share of broken rows above which the run fails, 0 to 1.
    pub fail_above: Option<f64>,
}

/// A view and the strategy it is kept by.
#[derive(Debug, Clone)]
pub struct ViewNode {
    /// As written in the job.
    pub spec: ViewSpec,
    /// The whole statement over all rows: what `verify` compares with.
    pub plan: LogicalPlan,
    /// The view's columns.
    pub schema: SchemaRef,
    /// What it reads.
    pub inputs: Vec<String>,
    /// How it is kept.
    pub strategy: Strategy,
    /// Why, and why not by a better one.
    pub reason: String,
}

/// A sink and what it is fed from.
#[derive(Debug, Clone)]
pub struct SinkNode {
    /// As written in the job.
    pub spec: SinkSpec,
    /// Where it is, when it is outside of the lake and fed from an outbox.
    pub target: Option<String>,
}

/// A node of the graph in the order of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Index into the graph's tables.
    Table(usize),
    /// Index into the graph's views.
    View(usize),
}

/// The name of a sink among a manifest's tables.
pub fn sink_name(name: &str) -> String {
    format!("sink:{name}")
}

/// The name under which queries find what `sink` refused.
pub fn undelivered_name(sink: &str) -> String {
    format!("{sink}__undelivered")
}

/// The name of the table that keeps what `source` could not decode.
pub fn rejected_name(source: &str) -> String {
    format!("{source}__rejected")
}

/// The name of the table that keeps rows of `table` that broke an expectation.
pub fn quarantine_name(table: &str) -> String {
    format!("{table}__quarantine")
}

/// The job a graph was built from, for callers that have only the graph.
pub type SharedJob = Arc<Job>;
