//! The graph of a job: nodes in an order in which each reads only what came before it.
//!
//! In: the jobs of a pack, in run order. Out: a [`Graph`] per job, or all problems of all
//! statements. A table of another job is seen by its name and schema only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use sluice_core::{Error, FieldSpec, Problems, Registry, rejected_schema};

use super::columns::check_metrics;
use super::places::{check_circles, check_places};
use super::statement::Names;
use super::table::{Scope, plan_table};
use super::view::{Growth, plan_view};
use super::{Node, Role, SharedJob, SinkNode, SourceNode, TableNode, ViewNode};
use super::{quarantine_name, rejected_name};
use crate::catalog::quarantine_schema;
use crate::function::{EpochTime, with_time};
use crate::job::Pack;

/// A job's plans.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The job.
    pub job: SharedJob,
    /// What `now()` shows in its plans; set when an epoch opens.
    pub time: EpochTime,
    /// Its sources.
    pub sources: Vec<SourceNode>,
    /// Its tables.
    pub tables: Vec<TableNode>,
    /// Its views.
    pub views: Vec<ViewNode>,
    /// Its sinks.
    pub sinks: Vec<SinkNode>,
    /// Tables and views in the order of work.
    pub order: Vec<Node>,
    /// Relations of other jobs that its statements read.
    pub foreign: Vec<Foreign>,
}

/// A relation of another job of the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its name.
    pub name: String,
    /// The job it belongs to.
    pub job: String,
    /// The lake of that job.
    pub lake: String,
    /// Its partition columns.
    pub partition_by: Vec<String>,
    /// Its columns.
    pub schema: SchemaRef,
}

/// The graphs of all jobs of a pack, in run order.
pub async fn build_pack(
    context: &SessionContext,
    pack: &Pack,
    registry: &Registry,
) -> Result<Vec<Graph>, Problems> {
    let mut problems = Problems::new();
    let mut graphs = Vec::new();
    let mut others = Others::default();
    for job in &pack.jobs {
        let builder = build(context, job, registry, &others, &mut problems).await;
        let (graph, failed) = (builder.graph, builder.failed);
        others.tables.extend(graph.exports());
        others.failed.extend(failed);
        graphs.push(graph);
    }
    check_places(&graphs, registry, &mut problems);
    check_circles(&graphs, registry, &mut problems);
    if problems.is_empty() { Ok(graphs) } else { Err(problems) }
}

/// What the jobs before one have.
#[derive(Debug, Default)]
struct Others {
    /// What may be read.
    tables: Vec<Foreign>,
    /// What would be there, had its statement no problem.
    failed: BTreeSet<String>,
}

/// One job as far as it can be planned.
async fn build<'a>(
    context: &SessionContext,
    job: &SharedJob,
    registry: &Registry,
    others: &'a Others,
    problems: &mut Problems,
) -> Builder<'a> {
    let time = EpochTime::default();
    let context = with_time(context, &time);
    let mut builder = Builder::new(context, job, others, time);
    builder.sources(registry, problems);
    builder.statements(problems).await;
    builder.sinks(registry, problems);
    builder
}

impl Graph {
    /// The job planned again with columns that the data of its sources taught. Errors: `Config` when
    /// a statement does not go with them.
    pub async fn learn(
        &self,
        context: &SessionContext,
        registry: &Registry,
        columns: &BTreeMap<String, Vec<FieldSpec>>,
    ) -> Result<Graph, Error> {
        let job = Arc::new(self.job.learn(columns));
        let others = Others { tables: self.foreign.clone(), failed: BTreeSet::new() };
        let mut problems = Problems::new();
        let graph = build(context, &job, registry, &others, &mut problems).await.graph;
        let Some(problem) = problems.sorted().first().map(|p| p.to_string()) else {
            return Ok(graph);
        };
        let names = columns.values().flatten().map(FieldSpec::origin).collect::<Vec<_>>();
        Err(Error::config(format!(
            "the job does not go with new columns of its sources job={} columns={}: {problem}",
            job.name,
            names.join(", ")
        ))
        .hint("name the columns that its statements take, or set `on_new_column` to rescue"))
    }

    /// Whether a table, view or sink goes on from the new rows of `relation`.
    pub fn reads_new(&self, relation: &str) -> bool {
        let reads =
            |t: &TableNode| t.inputs.iter().any(|i| i.name == relation && i.role == Role::New);
        self.tables.iter().any(reads)
            || self.views.iter().any(|v| v.inputs.iter().any(|i| i == relation))
            || self.sinks.iter().any(|s| s.spec.from == relation)
    }

    /// Everything a query may name, with its columns: tables, views, rejected and quarantined rows.
    pub fn relations(&self) -> Vec<(String, SchemaRef)> {
        let mut list = Vec::new();
        for table in &self.tables {
            list.push((table.spec.name.clone(), table.schema.clone()));
            let schema = quarantine_schema(&table.schema);
            list.push((quarantine_name(&table.spec.name), schema));
        }
        for view in &self.views {
            list.push((view.spec.name.clone(), view.schema.clone()));
        }
        for source in &self.sources {
            list.push((rejected_name(&source.spec.name), rejected_schema()));
        }
        list
    }

    /// The partition columns of a relation.
    pub fn partition_by(&self, name: &str) -> Vec<String> {
        let table = self.tables.iter().find(|t| t.spec.name == name);
        table.map(|t| t.spec.partition_by.clone()).unwrap_or_default()
    }

    /// Sinks outside of the lake.
    pub fn outlets(&self) -> impl Iterator<Item = &SinkNode> {
        self.sinks.iter().filter(|sink| sink.target.is_some())
    }

    /// The columns that a sink fed from `name` gets: a relation's, or those of a source's rows.
    pub fn columns_of(&self, name: &str) -> Option<SchemaRef> {
        let relation = self.relations().into_iter().find(|(relation, _)| relation == name);
        let source = || self.sources.iter().find(|s| s.spec.name == name);
        relation.map(|(_, schema)| schema).or_else(|| Some(source()?.spec.schema.clone()))
    }

    fn exports(&self) -> Vec<Foreign> {
        let relations = self.relations().into_iter();
        let foreign = |(name, schema): (String, SchemaRef)| Foreign {
            partition_by: self.partition_by(&name),
            job: self.job.name.clone(),
            lake: self.job.lake.clone(),
            name,
            schema,
        };
        relations.map(foreign).collect()
    }
}

pub(super) struct Builder<'a> {
    context: SessionContext,
    pub(super) graph: Graph,
    names: Names,
    pub(super) growth: BTreeMap<String, Growth>,
    foreign: &'a [Foreign],
    /// Names without columns, because a statement has a problem: of other jobs, then also ours.
    failed: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    fn new(context: SessionContext, job: &SharedJob, others: &'a Others, time: EpochTime) -> Self {
        let graph = Graph {
            time,
            job: job.clone(),
            sources: Vec::new(),
            tables: Vec::new(),
            views: Vec::new(),
            sinks: Vec::new(),
            order: Vec::new(),
            foreign: Vec::new(),
        };
        let mut names = Names::new();
        let mut growth = BTreeMap::new();
        for relation in &others.tables {
            names.insert(relation.name.clone(), relation.schema.clone());
            growth.insert(relation.name.clone(), Growth::Foreign);
        }
        let failed = others.failed.union(&job.broken.iter().cloned().collect()).cloned().collect();
        Self { context, graph, names, growth, foreign: &others.tables, failed }
    }

    fn sources(&mut self, registry: &Registry, problems: &mut Problems) {
        let job = self.graph.job.clone();
        for spec in &job.sources {
            let Some(factory) = registry.source(&spec.connector) else { continue };
            match factory.schema(&spec.config) {
                Ok(schema) => {
                    self.names.insert(spec.name.clone(), schema.clone());
                    self.growth.insert(spec.name.clone(), Growth::Stream);
                    let retracts = factory.retracts(&spec.config);
                    self.graph.sources.push(SourceNode { spec: spec.clone(), schema, retracts });
                }
                Err(e) => {
                    let span = job.span(&format!("/sources/{}", spec.name));
                    let hint = e.hint_text().unwrap_or("see the connector's page").to_string();
                    problems.push(&job.file, span, e.chain(), Some(hint));
                }
            }
        }
    }

    /// Plans what can be planned until nothing is left; what reads a failed one is left out
    /// silently, because its own problem would only repeat the first.
    async fn statements(&mut self, problems: &mut Problems) {
        let job = self.graph.job.clone();
        let mut left: Vec<Waiting> = Vec::new();
        left.extend((0..job.tables.len()).map(Waiting::Table));
        left.extend((0..job.views.len()).map(Waiting::View));
        let declared: BTreeSet<String> = job
            .tables
            .iter()
            .map(|t| t.name.clone())
            .chain(job.views.iter().map(|v| v.name.clone()))
            .chain(self.failed.iter().cloned())
            .collect();
        while !left.is_empty() {
            let before = left.len();
            let mut later = Vec::new();
            for waiting in left {
                let (name, sql) = waiting.of(&job);
                let needs = mentioned(&self.context, &sql.text, &declared);
                if needs.iter().any(|n| self.failed.contains(n)) {
                    self.failed.insert(name);
                } else if needs.iter().any(|n| !self.names.contains_key(n) && *n != name) {
                    later.push(waiting);
                } else if !self.node(&waiting, problems).await {
                    self.failed.insert(name);
                }
            }
            if later.len() == before {
                self.report_cycle(&later, problems);
                return;
            }
            left = later;
        }
        self.used_foreign();
    }

    async fn node(&mut self, waiting: &Waiting, problems: &mut Problems) -> bool {
        let job = self.graph.job.clone();
        match waiting {
            Waiting::Table(i) => {
                let scope = Scope {
                    context: &self.context,
                    job: &job,
                    names: &self.names,
                    sources: &self.graph.sources,
                    growth: &self.growth,
                    foreign: self.foreign,
                };
                let Some(node) = plan_table(&scope, &job.tables[*i], problems).await else {
                    return false;
                };
                let name = node.spec.name.clone();
                let append = node.spec.key.is_empty() && !node.carried.source_file;
                let growth = if append { Growth::Append } else { Growth::Changing };
                self.names.insert(name.clone(), node.schema.clone());
                self.growth.insert(name, growth);
                self.graph.order.push(Node::Table(self.graph.tables.len()));
                self.graph.tables.push(node);
            }
            Waiting::View(i) => {
                let spec = &job.views[*i];
                let growth = |name: &str| *self.growth.get(name).unwrap_or(&Growth::Changing);
                let planned = plan_view(&self.context, spec, &self.names, &growth, problems).await;
                let Some(node) = planned else { return false };
                check_metrics(spec, &node.schema, &job, problems);
                let append = matches!(node.strategy, super::Strategy::Append);
                let growth = if append { Growth::Append } else { Growth::Changing };
                self.names.insert(spec.name.clone(), node.schema.clone());
                self.growth.insert(spec.name.clone(), growth);
                self.graph.order.push(Node::View(self.graph.views.len()));
                self.graph.views.push(node);
            }
        }
        true
    }

    fn report_cycle(&self, left: &[Waiting], problems: &mut Problems) {
        let names: Vec<String> = left.iter().map(|w| w.of(&self.graph.job).0).collect();
        for waiting in left {
            let (_, sql) = waiting.of(&self.graph.job);
            let (file, span) = sql.locate(1, 1);
            let message =
                format!("statements read each other in a circle names={}", names.join(", "));
            let hint = "break the circle: one of them must read only sources".to_string();
            problems.push(&file, Some(span), message, Some(hint));
        }
    }

    fn used_foreign(&mut self) {
        let tables = self.graph.tables.iter().flat_map(|t| t.inputs.iter().map(|i| &i.name));
        let views = self.graph.views.iter().flat_map(|v| v.inputs.iter());
        let used: BTreeSet<&String> = tables.chain(views).collect();
        let list = self.foreign.iter().filter(|f| used.contains(&f.name)).cloned().collect();
        self.graph.foreign = list;
    }
}

#[derive(Debug, Clone, Copy)]
enum Waiting {
    Table(usize),
    View(usize),
}

impl Waiting {
    fn of<'a>(&self, job: &'a SharedJob) -> (String, &'a crate::job::SqlText) {
        match self {
            Waiting::Table(i) => (job.tables[*i].name.clone(), &job.tables[*i].sql),
            Waiting::View(i) => (job.views[*i].name.clone(), &job.views[*i].sql),
        }
    }
}

/// The relations of this job that a statement names; none when it does not parse.
fn mentioned(context: &SessionContext, sql: &str, declared: &BTreeSet<String>) -> Vec<String> {
    let state = context.state();
    let Ok(statement) = state.sql_to_statement(sql, &datafusion::config::Dialect::Generic) else {
        return Vec::new();
    };
    let references = state.resolve_table_references(&statement).unwrap_or_default();
    let names = references.into_iter().map(|r| r.table().to_string());
    names.filter(|n| declared.contains(n)).collect()
}
