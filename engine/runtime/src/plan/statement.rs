//! From SQL text to a logical plan over leaves, with every error at its place in the job file.
//!
//! In: a statement of the job and the relations it may name. Out: an optimised plan, or problems.
//! It does not decide how a table or view is kept.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::Dialect;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Ast;
use sluice_core::Problems;

use crate::catalog::Leaf;
use crate::job::SqlText;

/// What is wrong with a statement that names a relation which is not there.
pub const UNKNOWN_RELATION: &str = "no source, table or view has this name";

/// The relations a statement may name, with their schemas.
pub type Names = BTreeMap<String, SchemaRef>;

/// A planned statement.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The optimised plan over leaves.
    pub plan: LogicalPlan,
    /// The relations it reads, in the order they are met.
    pub inputs: Vec<String>,
}

/// Plans `sql`; what is wrong goes to `problems`.
pub async fn plan_statement(
    context: &SessionContext,
    sql: &SqlText,
    names: &Names,
    problems: &mut Problems,
) -> Option<Planned> {
    match try_plan(context, sql, names).await {
        Ok(planned) => Some(planned),
        Err(wrong) => {
            let (line, column) = wrong.at.unwrap_or((1, 1));
            let (file, span) = sql.locate(line, column);
            problems.push(&file, Some(span), wrong.message, Some(wrong.hint));
            None
        }
    }
}

/// Whether `sql`, whose parameters have `values`, can be planned and its types go together; what is
/// wrong goes to `problems`.
pub async fn check_query(
    context: &SessionContext,
    sql: &SqlText,
    names: &Names,
    values: Vec<(String, ScalarValue)>,
    problems: &mut Problems,
) {
    let Some(planned) = plan_statement(context, sql, names, problems).await else { return };
    // One without a value was told where parameters are read; without it types are not known.
    let has_value = |asked: &String| {
        let asked = asked.trim_start_matches('$');
        values.iter().any(|(name, _)| name == asked)
    };
    let asked = planned.plan.get_parameter_names();
    if !asked.is_ok_and(|asked| asked.iter().all(has_value)) {
        return;
    }
    let bound = planned.plan.with_param_values(values).map_err(wrong);
    if let Err(wrong) = bound.and_then(|plan| optimise(context, &plan)) {
        let (line, column) = wrong.at.unwrap_or((1, 1));
        let (file, span) = sql.locate(line, column);
        problems.push(&file, Some(span), wrong.message, Some(wrong.hint));
    }
}

/// What is wrong with a statement, at a line and column of its text (from 1).
#[derive(Debug)]
pub(super) struct Wrong {
    pub message: String,
    pub hint: String,
    pub at: Option<(u32, u32)>,
}

async fn try_plan(
    context: &SessionContext,
    sql: &SqlText,
    names: &Names,
) -> Result<Planned, Wrong> {
    let state = context.state();
    let statement = state.sql_to_statement(&sql.text, &Dialect::Generic).map_err(wrong)?;
    let is_query = matches!(&statement, Statement::Statement(s) if matches!(**s, Ast::Query(_)));
    if !is_query {
        return Err(Wrong {
            message: "the statement is not a query".into(),
            hint: "write a SELECT; Sluice itself writes the tables".into(),
            at: None,
        });
    }
    let references = state.resolve_table_references(&statement).map_err(wrong)?;
    for reference in references {
        let name = reference.table().to_string();
        if reference.schema().is_some() {
            return Err(unknown(&reference.to_string(), &name, &sql.text, names));
        }
        let Some(schema) = names.get(&name) else {
            return Err(unknown(&name, &name, &sql.text, names));
        };
        register_leaf(context, &name, schema)?;
    }
    let plan = context.state().statement_to_plan(statement).await.map_err(wrong)?;
    let inputs = Leaf::names(&plan).map_err(|e| Wrong {
        message: e.chain(),
        hint: "simplify the statement".into(),
        at: None,
    })?;
    Ok(Planned { plan, inputs })
}

/// Optimises a plan once, for all epochs.
pub(super) fn optimise(context: &SessionContext, plan: &LogicalPlan) -> Result<LogicalPlan, Wrong> {
    context.state().optimize(plan).map_err(wrong)
}

fn register_leaf(context: &SessionContext, name: &str, schema: &SchemaRef) -> Result<(), Wrong> {
    let leaf = std::sync::Arc::new(Leaf::new(name, schema.clone()));
    // The name may hold an earlier leaf of the same relation: later ones replace it.
    context.deregister_table(name).map_err(wrong)?;
    context.register_table(name, leaf).map_err(wrong)?;
    Ok(())
}

/// A scan of `name` with positional columns, for plans made from pieces.
pub(super) fn leaf_scan(name: &str, schema: &SchemaRef) -> Result<LogicalPlan, DataFusionError> {
    let leaf = std::sync::Arc::new(Leaf::new(name, schema.clone()));
    datafusion::logical_expr::LogicalPlanBuilder::scan(name, provider_as_source(leaf), None)?
        .build()
}

fn unknown(shown: &str, name: &str, text: &str, names: &Names) -> Wrong {
    let near = names
        .keys()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .min();
    let hint = match near {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None if names.is_empty() => "declare a source or a table first".to_string(),
        None => {
            let known: Vec<&str> = names.keys().map(String::as_str).collect();
            format!("known here: {}", known.join(", "))
        }
    };
    let message = format!("{UNKNOWN_RELATION} name={shown}");
    Wrong { message, hint, at: find_word(text, name) }
}

/// Turns DataFusion's error into a message, a hint and a place.
pub(super) fn wrong(error: DataFusionError) -> Wrong {
    let diagnostic = error.diagnostic().cloned();
    let text = error.strip_backtrace();
    let at = diagnostic
        .as_ref()
        .and_then(|d| d.span)
        .map(|s| (narrow(s.start.line), narrow(s.start.column)))
        .or_else(|| place_in(&text));
    let hint = diagnostic
        .as_ref()
        .and_then(|d| d.helps.first().map(|h| h.message.clone()))
        .or_else(|| diagnostic.as_ref().and_then(|d| d.notes.first().map(|n| n.message.clone())))
        .unwrap_or_else(|| {
            "the dialect is DataFusion's SQL; names are lower-cased unless in double quotes".into()
        });
    let message = diagnostic.map(|d| d.message).unwrap_or(text);
    Wrong { message: tidy(&message), hint, at }
}

fn narrow(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// sqlparser writes its places into the text: `… at Line: 2, Column: 7`.
fn place_in(text: &str) -> Option<(u32, u32)> {
    let (_, after) = text.rsplit_once("Line: ")?;
    let (line, after) = after.split_once(", Column: ")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, digits.parse().ok()?))
}

fn tidy(message: &str) -> String {
    let mut text = message.trim();
    let prefixes = [
        "Error during planning: ",
        "Schema error: ",
        "SQL error: ",
        "type_coercion",
        "caused by",
        "This feature is not implemented: ",
    ];
    while let Some(rest) = prefixes.iter().find_map(|p| text.strip_prefix(p)) {
        text = rest.trim_start();
    }
    let text = text.strip_prefix("ParserError(\"").unwrap_or(text);
    let text = text.strip_suffix("\")").unwrap_or(text);
    let first = text.lines().next().unwrap_or(text);
    // The place is shown ahead of the message, as a place in the file.
    let first = first.split(" at Line: ").next().unwrap_or(first).trim_end_matches('.');
    let mut letters = first.chars();
    match letters.next() {
        Some(c) if letters.clone().next().is_some_and(|n| n.is_lowercase() || n == ' ') => {
            c.to_lowercase().chain(letters).collect()
        }
        _ => first.to_string(),
    }
}

/// Line and column of the first whole word `word` in `text`, from 1.
pub(super) fn find_word(text: &str, word: &str) -> Option<(u32, u32)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (line_no, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        let mut from = 0;
        while let Some(found) = lower[from..].find(&word.to_lowercase()) {
            let start = from + found;
            let end = start + word.len();
            let before = lower[..start].chars().next_back();
            let after = lower.get(end..).and_then(|rest| rest.chars().next());
            if !before.is_some_and(is_word) && !after.is_some_and(is_word) {
                let column = lower[..start].chars().count();
                return Some((narrow(line_no as u64 + 1), narrow(column as u64 + 1)));
            }
            from = start + word.len().max(1);
        }
    }
    None
}

/// The first node of `plan` for which `find` gives something.
pub(super) fn find_node<T>(
    plan: &LogicalPlan,
    mut find: impl FnMut(&LogicalPlan) -> Option<T>,
) -> Option<T> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        found = find(node);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.ok().and(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole() {
        let text = "SELECT xy\nFROM x_y, XY";
        assert_eq!(find_word(text, "xy"), Some((1, 8)));
        assert_eq!(find_word(text, "x_y"), Some((2, 6)));
        assert_eq!(find_word(text, "nothing"), None);
    }

    #[test]
    fn the_parsers_place_is_read_from_its_text() {
        assert_eq!(place_in("expected: ), found: EOF at Line: 2, Column: 7"), Some((2, 7)));
        assert_eq!(place_in("no place"), None);
    }
}
