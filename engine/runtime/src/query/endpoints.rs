//! Whether the queries of a project's endpoints can be asked of its jobs.
//!
//! In: endpoints, the graphs of all jobs. Out: problems at their places in the project's file,
//! before anything is served. Nothing is run, and no lake is looked at: queries of the system
//! tables, whose columns no job declares, are left to their first caller.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::prelude::SessionContext;
use sluice_core::Problems;

use super::SYSTEM_SCHEMA;
use crate::job::{EndpointSpec, ParamSpec};
use crate::outbox::undelivered_schema;
use crate::plan::{Graph, Names, UNKNOWN_RELATION, check_query, undelivered_name};

/// Plans the query of each endpoint over the relations of `graphs`; what is wrong goes to
/// `problems`. Unless these are `all` relations, one that is not among them is no problem: its job is.
pub async fn check_endpoints(
    context: &SessionContext,
    endpoints: &[EndpointSpec],
    graphs: &[Arc<Graph>],
    all: bool,
    problems: &mut Problems,
) {
    let mut names = Names::new();
    for graph in graphs {
        names.extend(graph.relations());
        for sink in graph.outlets() {
            if let Some(schema) = graph.columns_of(&sink.spec.from) {
                names.insert(undelivered_name(&sink.spec.name), undelivered_schema(&schema));
            }
        }
    }
    for endpoint in endpoints {
        let Some(statement) = &endpoint.statement else { continue };
        if statement.contains(&format!("{SYSTEM_SCHEMA}.")) {
            continue;
        }
        let values = endpoint.params.iter().filter_map(unknown).collect();
        let mut found = Problems::new();
        check_query(context, statement, &names, values, &mut found).await;
        found.retain(|problem| all || !problem.message.starts_with(UNKNOWN_RELATION));
        problems.extend(found);
    }
}

/// The parameter with a value that says no more than its type.
fn unknown(param: &ParamSpec) -> Option<(String, ScalarValue)> {
    let value = ScalarValue::try_from(&param.data_type).ok()?;
    Some((param.name.clone(), value))
}
