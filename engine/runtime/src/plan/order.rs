//! What would make a view's result arbitrary: an order that matters and that nobody wrote.
//!
//! In: the plan of a view's statement as it was written. Out: the first function or clause that
//! takes rows in the order in which they happen to come. Whether an order that is written leaves
//! ties cannot be told from a plan.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, WindowFunctionDefinition};

use super::statement::{Wrong, find_node, find_word};

/// Aggregates whose result is another one when rows come in another order, unless they say which.
pub const ORDER_DEPENDENT: [&str; 6] =
    ["any_value", "array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// Aggregates that summarise by digests whose merge depends on its order: two ways through the
/// same rows give two results, none of them wrong, and a view could not be verified.
pub const DIGESTS: [&str; 3] =
    ["approx_median", "approx_percentile_cont", "approx_percentile_cont_with_weight"];

/// Window functions that say the same of all rows when there is no order.
const SAME_FOR_ALL: [&str; 4] = ["rank", "dense_rank", "percent_rank", "cume_dist"];

/// What is wrong, and the word of the statement to point at.
struct Finding {
    word: String,
    message: String,
    hint: String,
}

/// Refuses a statement whose rows depend on an order it does not give.
pub(super) fn check_order(plan: &LogicalPlan, text: &str) -> Result<(), Wrong> {
    match find_node(plan, in_node) {
        None => Ok(()),
        Some(Finding { word, message, hint }) => {
            Err(Wrong { message, hint, at: find_word(text, &word) })
        }
    }
}

fn in_node(node: &LogicalPlan) -> Option<Finding> {
    match node {
        LogicalPlan::Limit(limit) if !is_ordered(&limit.input) => {
            let word = if limit.fetch.is_some() { "limit" } else { "offset" };
            Some(Finding {
                word: word.into(),
                message: format!("{} without ORDER BY keeps any rows", word.to_uppercase()),
                hint: "say which rows come first: ORDER BY columns that no two rows share, in the \
                       same SELECT"
                    .into(),
            })
        }
        LogicalPlan::Distinct(Distinct::On(on)) if on.sort_expr.is_none() => Some(Finding {
            word: "distinct".into(),
            message: "DISTINCT ON without ORDER BY keeps any row of each group".into(),
            hint: "say which row comes first: ORDER BY the columns of DISTINCT ON, then others"
                .into(),
        }),
        _ => node.expressions().iter().find_map(in_expression),
    }
}

/// Whether which rows come first is said, or there is only one.
fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Distinct(Distinct::On(on)) => on.sort_expr.is_some(),
        LogicalPlan::Projection(projection) => is_ordered(&projection.input),
        other => other.max_rows().is_some_and(|rows| rows <= 1),
    }
}

fn in_expression(expr: &Expr) -> Option<Finding> {
    let mut found = None;
    let walked = expr.apply(|part| {
        found = match part {
            Expr::AggregateFunction(f) => {
                let (name, ordered) = (f.func.name(), !f.params.order_by.is_empty());
                in_aggregate(name, ordered)
            }
            Expr::WindowFunction(f) => in_window(f),
            _ => None,
        };
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.ok().and(found)
}

fn in_aggregate(name: &str, ordered: bool) -> Option<Finding> {
    if ORDER_DEPENDENT.contains(&name) && !ordered {
        return Some(Finding {
            word: name.into(),
            message: format!(
                "the result depends on the order in which rows arrive aggregate={name}"
            ),
            hint: format!("say which order: {name}(… ORDER BY …), or use min or max"),
        });
    }
    DIGESTS.contains(&name).then(|| Finding {
        word: name.into(),
        message: format!(
            "the estimate depends on the order in which rows are merged aggregate={name}"
        ),
        hint: "use median or percentile_cont, which are exact".into(),
    })
}

fn in_window(function: &WindowFunction) -> Option<Finding> {
    let (name, params) = (function.fun.name(), &function.params);
    let ordered = !params.order_by.is_empty();
    if let WindowFunctionDefinition::AggregateUDF(_) = function.fun
        && let Some(finding) = in_aggregate(name, ordered)
    {
        let hint = match DIGESTS.contains(&name) {
            true => finding.hint,
            false => format!("say which order: {name}(…) OVER (… ORDER BY …)"),
        };
        return Some(Finding { hint, ..finding });
    }
    let frame = &params.window_frame;
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    let arbitrary = match function.fun {
        WindowFunctionDefinition::AggregateUDF(_) => !whole,
        WindowFunctionDefinition::WindowUDF(_) => !SAME_FOR_ALL.contains(&name),
    };
    (arbitrary && !ordered).then(|| Finding {
        word: name.into(),
        message: format!(
            "the window function depends on the order of rows, which is not given function={name}"
        ),
        hint: format!("say which order: {name}(…) OVER (… ORDER BY …)"),
    })
}
