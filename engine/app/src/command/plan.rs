//! `sluice plan`: what reads what, how views are kept and why, how joins run, what would change in
//! the lake.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sluice_runtime::plan::{Graph, Join, Joins, Node, Role, TableNode};
use sluice_runtime::query::Readable;
use sluice_runtime::recover::{Change, definition_changes, joins};

use super::{planned, readable};
use crate::app::App;
use crate::args::PackArgs;
use crate::failure::Failure;
use crate::output::{Align, Grid};

/// One relation of a job, as people and programs see it.
struct Line {
    relation: String,
    kind: &'static str,
    reads: Vec<String>,
    strategy: &'static str,
    reason: String,
    joins: Option<Joins>,
}

pub(super) async fn plan(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let mut jobs = Vec::new();
    for Readable { graph, secrets } in readable(planned(app, args).await?)? {
        let changes = definition_changes(&app.environment, &graph, &secrets).await?;
        let joins = joins(&app.environment, &graph, &secrets).await?;
        jobs.push((lines(&graph, joins), changes, graph));
    }
    app.answer(
        || json!({ "jobs": jobs.iter().map(|(l, c, g)| job_json(g, l, c)).collect::<Vec<_>>() }),
        || jobs.iter().map(|(l, c, g)| job_text(g, l, c)).collect::<Vec<_>>().join("\n"),
    )
}

fn lines(graph: &Graph, mut joins: BTreeMap<String, Joins>) -> Vec<Line> {
    let sources = graph.sources.iter().map(|source| Line {
        relation: source.spec.name.clone(),
        kind: "source",
        reads: vec![source.spec.connector.clone()],
        strategy: "",
        reason: String::new(),
        joins: None,
    });
    let nodes = graph.order.iter().filter_map(|node| match node {
        Node::Table(i) => graph.tables.get(*i).map(table_line),
        Node::View(i) => graph.views.get(*i).map(|view| Line {
            relation: view.spec.name.clone(),
            kind: "view",
            reads: view.inputs.clone(),
            strategy: view.strategy.name(),
            reason: view.reason.clone(),
            joins: None,
        }),
    });
    let sinks = graph.sinks.iter().map(|sink| Line {
        relation: sink.spec.name.clone(),
        kind: "sink",
        reads: vec![sink.spec.from.clone()],
        strategy: "",
        reason: String::new(),
        joins: None,
    });
    let nodes = nodes.map(|line| Line { joins: joins.remove(&line.relation), ..line });
    sources.chain(nodes).chain(sinks).collect()
}

fn table_line(table: &TableNode) -> Line {
    let read = |input: &sluice_runtime::plan::Input| match input.role {
        Role::New => input.name.clone(),
        Role::Head => format!("{} (all rows)", input.name),
    };
    let (strategy, reason) = match table.spec.key.as_slice() {
        [] => ("append", "each epoch's rows are added".to_string()),
        key => ("upsert", format!("the last row per {} is kept", key.join(", "))),
    };
    Line {
        relation: table.spec.name.clone(),
        kind: "table",
        reads: table.inputs.iter().map(read).collect(),
        strategy,
        reason,
        joins: None,
    }
}

fn job_json(graph: &Graph, lines: &[Line], changes: &[Change]) -> Value {
    let relation = |line: &Line| {
        json!({
            "name": line.relation,
            "kind": line.kind,
            "reads": line.reads,
            "strategy": (!line.strategy.is_empty()).then_some(line.strategy),
            "reason": (!line.reason.is_empty()).then_some(&line.reason),
            "joins": line.joins,
        })
    };
    let change = |c: &Change| json!({ "relation": c.relation, "text": c.text });
    json!({
        "job": graph.job.name,
        "lake": graph.job.lake,
        "relations": lines.iter().map(relation).collect::<Vec<_>>(),
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
    })
}

fn job_text(graph: &Graph, lines: &[Line], changes: &[Change]) -> String {
    let left = ["relation", "kind", "reads", "strategy", "reason"].map(|name| (name, Align::Left));
    let mut grid = Grid::new(left).fitted();
    for line in lines {
        let reads = line.reads.join(", ");
        let strategy = line.strategy.to_string();
        let kind = line.kind.to_string();
        grid.row([line.relation.clone(), kind, reads, strategy, line.reason.clone()]);
    }
    let mut text = format!("job {} in {}\n{grid}\n", graph.job.name, graph.job.lake);
    // Writing to a string does not fail.
    for (line, joins) in lines.iter().filter_map(|line| Some((line, line.joins.as_ref()?))) {
        let each: Vec<String> = joins.joins.iter().map(join_text).collect();
        let _ = writeln!(text, "  {}: {}: {}", line.relation, each.join(", "), joins.reason);
    }
    if changes.is_empty() {
        text.push_str("no changes against the lake\n");
    }
    for change in changes {
        let _ = writeln!(text, "  {}: {}", change.relation, change.text);
    }
    text
}

fn join_text(join: &Join) -> String {
    let on = if join.on.is_empty() { String::new() } else { format!(" on {}", join.on) };
    format!("{} join{on}", join.runs)
}
