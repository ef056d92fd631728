//! Views that join one growing table with others: new rows are joined and added, as long as the
//! others stay as they are.
//!
//! In: the optimised plan of a statement. Out: the table whose new rows give new rows of the view
//! and take none away, or why there is none. Whether the others changed is seen epoch by epoch.

use datafusion::logical_expr::{JoinType, LogicalPlan};

use super::view::{Growth, has_subquery};

/// The growing table, with the reason in words.
pub(super) fn growing(
    plan: &LogicalPlan,
    inputs: &[String],
    growth: &(dyn Fn(&str) -> Growth + Send + Sync),
) -> Result<(String, String), String> {
    let mut why_not = None;
    for name in inputs.iter().filter(|i| growth(i) == Growth::Append) {
        match grows_through(plan, name) {
            Ok(()) => {
                let others: Vec<&str> =
                    inputs.iter().filter(|i| *i != name).map(String::as_str).collect();
                let others = others.join(", ");
                let reason = format!(
                    "new rows of {name} are joined with {others}; recomputed when {others} changed"
                );
                return Ok((name.clone(), reason));
            }
            Err(reason) => why_not = why_not.or(Some(reason)),
        }
    }
    Err(why_not.unwrap_or_else(|| "none of the relations it joins only grows".to_string()))
}

/// Whether each new row of `name` gives its rows by itself, whatever rows there were before.
fn grows_through(plan: &LogicalPlan, name: &str) -> Result<(), String> {
    if count(plan, name) != 1 {
        return Err(format!("{name} is read more than once"));
    }
    let mut at = plan;
    loop {
        at = match at {
            LogicalPlan::TableScan(_) => return Ok(()),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Unnest(_) => {
                if at.expressions().iter().any(has_subquery) {
                    return Err("it holds a subquery".to_string());
                }
                at.inputs().first().copied().ok_or("it has no input")?
            }
            LogicalPlan::Join(join) => {
                use JoinType::{
                    Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark,
                    RightSemi,
                };
                let left = count(&join.left, name) > 0;
                match (left, join.join_type) {
                    (true, Inner | Left | LeftSemi | LeftAnti | LeftMark) => join.left.as_ref(),
                    (false, Inner | Right | RightSemi | RightAnti | RightMark) => {
                        join.right.as_ref()
                    }
                    (_, kind) => {
                        return Err(format!(
                            "new rows of {name} may replace rows of a {kind} join"
                        ));
                    }
                }
            }
            other => return Err(format!("it holds a {} besides the join", other.display())),
        };
    }
}

/// How often a relation is read.
fn count(plan: &LogicalPlan, name: &str) -> usize {
    let here = match plan {
        LogicalPlan::TableScan(scan) => usize::from(scan.table_name.table() == name),
        _ => 0,
    };
    here + plan.inputs().into_iter().map(|input| count(input, name)).sum::<usize>()
}
