//! How the joins of a statement would run: by hashing, or by sorting, which spills.
//!
//! In: a plan, and tables for those of its leaves whose rows are there. Out: what the planning of
//! an epoch would decide. Rows that are not there yet are supposed to be few, then very many: what
//! comes out the same both times does not depend on them. Nothing is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Join as JoinNode, LogicalPlan};
use datafusion::prelude::SessionContext;
use serde::Serialize;
use sluice_core::{Result, format_bytes};

use super::build_side::BuildSides;
use super::run::{build_sides, pool_bytes};
use crate::catalog::{Leaf, sql_error};

/// Few rows, and more than any table has: a trillion, with room for what estimates multiply it by.
const SUPPOSED_ROWS: [usize; 2] = [1, 1 << 40];

/// The joins of one statement.
#[derive(Debug, Clone, Serialize)]
pub struct Joins {
    /// Each of them, as they follow each other in the statement.
    pub joins: Vec<Join>,
    /// What the build sides of all hash joins together would hold, in bytes, as far as that does not
    /// depend on rows that are not there yet.
    pub build_bytes: Option<u64>,
    /// With more the joins are sort-merge joins; none where memory has no limit.
    pub build_bytes_max: Option<u64>,
    /// Why they run as they do.
    pub reason: String,
}

/// One join.
#[derive(Debug, Clone, Serialize)]
pub struct Join {
    /// What is compared.
    pub on: String,
    /// `hash`, `sort-merge`, `hash or sort-merge` where new rows decide, or `nested loop`.
    pub runs: &'static str,
}

/// What the rows of leaves that are not there yet do to the joins of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Hash,
    SortMerge,
    /// Few rows can be hashed, many cannot.
    Open,
}

/// A table for a leaf that has none yet, estimated at so many rows.
pub type Suppose<'a> = dyn Fn(&Leaf, usize) -> Result<Arc<dyn TableProvider>> + Send + Sync + 'a;

/// The joins of `plan` over `tables`; `suppose` gives a leaf that has no table there one that is
/// estimated at so many rows. None where nothing is joined.
pub async fn joins(
    context: &SessionContext,
    plan: &LogicalPlan,
    tables: &BTreeMap<String, Arc<dyn TableProvider>>,
    suppose: &Suppose<'_>,
) -> Result<Option<Joins>> {
    let nodes = nodes(plan)?;
    if nodes.is_empty() {
        return Ok(None);
    }
    let mut leaves = Leaf::all(plan)?;
    leaves.retain(|leaf| !tables.contains_key(leaf.name()));
    let mut bytes = [0; SUPPOSED_ROWS.len()];
    for (bytes, rows) in bytes.iter_mut().zip(SUPPOSED_ROWS) {
        let mut tables = tables.clone();
        for leaf in &leaves {
            tables.insert(leaf.name().to_string(), suppose(leaf, rows)?);
        }
        *bytes = build_sides(context, plan, &tables).await?.bytes;
    }
    let names: Vec<&str> = leaves.iter().map(Leaf::name).collect();
    Ok(Some(described(&nodes, bytes, &names, pool_bytes(context))))
}

/// In words, from the bytes of build sides with few and with very many rows in `open` leaves.
fn described(nodes: &[JoinNode], bytes: [usize; 2], open: &[&str], pool: Option<usize>) -> Joins {
    let [few, many] = bytes;
    let fits = |bytes: usize| pool.is_none_or(|pool| BuildSides { bytes }.fit(pool));
    let verdict = match (fits(few), fits(many)) {
        (_, true) => Verdict::Hash,
        (false, false) => Verdict::SortMerge,
        (true, false) => Verdict::Open,
    };
    let bytes_max = pool.map(BuildSides::bytes_max);
    let share = match bytes_max {
        Some(bytes) => format!("{}, a quarter of the memory", size(bytes)),
        None => "memory, which has no limit".to_string(),
    };
    let open = open.join(", ");
    let (build_bytes, reason) = match verdict {
        _ if nodes.iter().all(|node| node.on.is_empty()) => {
            (None, "no columns are compared for being equal".to_string())
        }
        Verdict::Hash if open.is_empty() => {
            (Some(few), format!("build sides of {} fit into {share}", size(few)))
        }
        Verdict::Hash => {
            let most = size(many);
            let reason = format!(
                "build sides of {most} at most fit into {share}, however many rows of {open} come"
            );
            (Some(many), reason)
        }
        Verdict::SortMerge => {
            let least = if open.is_empty() { "" } else { " at least" };
            let reason = format!("build sides of {}{least} are more than {share}", size(few));
            (Some(few), reason)
        }
        Verdict::Open => {
            let reason = format!(
                "sort-merge in epochs with so many rows of {open} that build sides are more than \
                 {share}"
            );
            (None, reason)
        }
    };
    Joins {
        joins: nodes.iter().map(|node| join(node, verdict)).collect(),
        build_bytes: build_bytes.map(|bytes| bytes as u64),
        build_bytes_max: bytes_max.map(|bytes| bytes as u64),
        reason,
    }
}

fn size(bytes: usize) -> String {
    format_bytes(bytes as u64)
}

fn join(node: &JoinNode, verdict: Verdict) -> Join {
    let compared = node.on.iter().map(|(left, right)| format!("{left} = {right}"));
    let on: Vec<String> = compared.chain(node.filter.iter().map(ToString::to_string)).collect();
    let runs = match verdict {
        _ if node.on.is_empty() => "nested loop",
        // What `NOT IN` means where there are nulls, only a hash join knows.
        _ if node.null_aware => "hash",
        Verdict::Hash => "hash",
        Verdict::SortMerge => "sort-merge",
        Verdict::Open => "hash or sort-merge",
    };
    Join { on: on.join(" AND "), runs }
}

/// The joins of a plan, those of its subqueries too, inner ones first.
fn nodes(plan: &LogicalPlan) -> Result<Vec<JoinNode>> {
    let mut nodes = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node {
            nodes.push(join.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|e| sql_error("cannot walk a query plan", e))?;
    nodes.reverse();
    Ok(nodes)
}
