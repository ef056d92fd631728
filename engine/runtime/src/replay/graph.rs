//! Which jobs may take rows again, and the plans by which they do.
//!
//! In: a job's graph, and a source or table. Out: the same graph with tables only, in which rows of a
//! quarantine come in behind the table's own statement; or the reason why not.

use std::collections::BTreeSet;

use serde_json::Value;
use sluice_core::{Config, Error, Result};

use crate::epoch::Again;
use crate::job::{Merge, SourceSpec, TableFormat};
use crate::plan::{
    Carried, Graph, Input, Node, Role, SourceNode, TableNode, leaf_plan, quarantine_name,
};

/// The input by which the rows enter.
pub(super) fn input_name(from: Again, name: &str) -> String {
    match from {
        Again::Rejected => name.to_string(),
        Again::Quarantined => quarantine_name(name),
    }
}

/// The tables that get rows.
fn fed(graph: &Graph, from: Again, name: &str) -> BTreeSet<String> {
    let mut fed = BTreeSet::new();
    if from == Again::Quarantined {
        fed.insert(name.to_string());
    }
    // In the order of work each table comes after those it reads.
    for node in &graph.order {
        let Node::Table(i) = node else { continue };
        let table = &graph.tables[*i];
        let reads = |input: &Input| {
            let source = from == Again::Rejected && input.name == name;
            input.role == Role::New && (source || fed.contains(&input.name))
        };
        if table.inputs.iter().any(reads) {
            fed.insert(table.spec.name.clone());
        }
    }
    fed
}

/// Refuses what cannot take rows out of turn.
pub(super) fn check(graph: &Graph, from: Again, name: &str) -> Result<()> {
    let hint = "mend the job and run with --rebuild, which reads everything again";
    if graph.job.shards > 1 {
        return Err(Error::config(format!(
            "a job with shards takes no rows again, whose epochs say nothing of when they came \
             job={}",
            graph.job.name
        ))
        .hint(hint));
    }
    let fed = fed(graph, from, name);
    let known = match from {
        Again::Rejected => graph.sources.iter().any(|s| s.spec.name == name),
        Again::Quarantined => graph.tables.iter().any(|t| t.spec.name == name),
    };
    if !known {
        let what = if from == Again::Rejected { "source" } else { "table" };
        let job = &graph.job.name;
        return Err(Error::config(format!("the job has no such {what} name={name} job={job}"))
            .hint("`sluice plan` names them all"));
    }
    for table in graph.tables.iter().filter(|t| fed.contains(&t.spec.name)) {
        if let Some(why) = against(table) {
            let table = &table.spec.name;
            return Err(Error::config(format!("{why} table={table}")).hint(hint));
        }
    }
    let feeds = |from: &String| fed.contains(from) || from == name;
    match graph.sinks.iter().find(|sink| feeds(&sink.spec.from)) {
        Some(sink) => Err(Error::config(format!(
            "a sink would not get the rows that are taken again sink={}",
            sink.spec.name
        ))
        .hint(hint)),
        None => Ok(()),
    }
}

/// What keeps a table from taking rows again.
fn against(table: &TableNode) -> Option<&'static str> {
    let spec = &table.spec;
    if spec.format != TableFormat::Delta {
        return Some("rows are taken again into Delta tables only");
    }
    if !spec.key.is_empty() && spec.sequence_by.is_none() {
        return Some(
            "the table has a key and no `sequence_by`: an old row that is taken again would count \
             as the newest",
        );
    }
    if spec.delete_when.is_some() || spec.merge == Merge::Coalesce {
        return Some(
            "what is remembered of deleted keys and old values beside the table is its job's own: \
             rows taken again would not meet it",
        );
    }
    let file = "its rows may be taken back by the file they came from, which is not known of rows \
                that are taken again";
    table.carried.source_file.then_some(file)
}

/// The plans of a replay: tables without views and sinks.
pub(super) fn of_replay(graph: &Graph, from: Again, name: &str) -> Result<Graph> {
    let mut graph = graph.clone();
    graph.sinks.clear();
    graph.order.retain(|node| matches!(node, Node::Table(_)));
    if from == Again::Rejected {
        return Ok(graph);
    }
    let input = input_name(from, name);
    let table = graph.tables.iter_mut().find(|t| t.spec.name == name);
    let table = table.ok_or_else(|| Error::bug("a replay of no table"))?;
    table.plan = leaf_plan(&input, &table.schema)?;
    table.inputs = vec![Input { name: input.clone(), role: Role::New }];
    table.carried = Carried::default();
    let schema = table.schema.clone();
    let config = Config {
        name: input.clone(),
        file: graph.job.file.clone(),
        value: Value::Null,
        spans: Default::default(),
        schema: None,
    };
    let (pointer, connector) = (table.spec.pointer.clone(), "quarantine".to_string());
    let spec = SourceSpec { name: input, connector, config, schema: schema.clone(), pointer };
    graph.sources.push(SourceNode { spec, schema, retracts: false });
    Ok(graph)
}
