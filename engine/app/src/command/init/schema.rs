//! The text of the schema file: the fields, each below what was seen of it.

use sluice_connectors::files::infer::{Column, Inferred};
use sluice_core::FieldSpec;

use super::yaml::{comment, scalar};
use super::{count, counted, sentence};

/// The whole file.
pub(super) fn text(found: &Inferred) -> String {
    let mut text = comment(
        0,
        &format!("What the rows are, as `sluice init` found them: {}.", sentence(found)),
    );
    text.push_str(&comment(
        0,
        "Above each field stands what was seen. Change names and types where you know better: \
         `from` is the name in the files, and `required: true` rejects rows without a value. \
         Types: string, int8 … int64, float32, float64, bool, date, timestamp, decimal(digits, \
         digits after the point), binary, struct with `fields`, list(type).",
    ));
    if !found.complete {
        text.push_str(&comment(
            0,
            "Not all rows were read: values that do not fit may come, and their rows go to the \
             rejected ones.",
        ));
    }
    text.push_str(&format!("schema: {}.v1\nfields:\n", found.name));
    for (field, column) in found.schema.fields.iter().zip(&found.columns) {
        text.push_str(&comment(2, &seen(column)));
        for note in column.notes.iter().cloned().chain(misfits(found, field)) {
            text.push_str(&comment(2, &note));
        }
        text.push_str(&line(field));
    }
    text
}

/// What does not fit a field.
fn misfits(found: &Inferred, field: &FieldSpec) -> Option<String> {
    let start = format!("column {}:", field.name);
    let reject = found.rejects.iter().find(|r| r.reason.starts_with(&start))?;
    let rows = counted(reject.rows, "row");
    let what = reject.example.strip_prefix(&start).unwrap_or(&reject.example).trim();
    Some(format!("{rows} will be rejected: {what}; `type: string` takes them as they are"))
}

/// `1 … 300, 20 different, 3 empty`.
fn seen(column: &Column) -> String {
    let facts = &column.facts;
    if facts.nulls == facts.rows {
        return "no value".to_string();
    }
    let mut parts = Vec::new();
    let shown = facts.examples.len();
    match (&facts.low, &facts.high, facts.distinct) {
        (_, _, Some(distinct)) if distinct <= shown => parts.push(facts.examples.join(", ")),
        (Some(low), Some(high), _) if low.len() + high.len() <= 60 => {
            parts.push(format!("{low} … {high}"));
        }
        _ => {}
    }
    let different = match facts.distinct {
        Some(distinct) if distinct <= shown => None,
        Some(distinct) if distinct as u64 == facts.rows => Some("all different".to_string()),
        Some(distinct) => Some(format!("{} different", count(distinct as u64))),
        None => Some("very many different".to_string()),
    };
    parts.extend(different);
    if facts.distinct.is_none_or(|d| d > shown) && shown > 0 {
        parts.push(format!("such as {}", facts.examples.join(", ")));
    }
    parts.push(match facts.nulls {
        0 => "never empty".to_string(),
        nulls => format!("empty in {} of {}", count(nulls), counted(facts.rows, "row")),
    });
    parts.join("; ")
}

fn line(field: &FieldSpec) -> String {
    format!("  - {}\n", entry(field))
}

fn entry(field: &FieldSpec) -> String {
    let mut parts = vec![format!("name: {}", scalar(&field.name))];
    parts.extend(field.from.iter().map(|from| format!("from: {}", scalar(from))));
    parts.push(format!("type: {}", scalar(&field.data_type)));
    parts.extend(field.format.iter().map(|format| format!("format: {}", scalar(format))));
    if !field.fields.is_empty() {
        let fields: Vec<String> = field.fields.iter().map(entry).collect();
        parts.push(format!("fields: [{}]", fields.join(", ")));
    }
    format!("{{{}}}", parts.join(", "))
}
