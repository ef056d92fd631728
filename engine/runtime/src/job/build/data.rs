//! Data schemas: found, read and checked where they are written.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use sluice_core::{DataSchema, FieldSpec, parse_type};

use super::Builder;
use crate::job::check::check;
use crate::job::read::Document;
use crate::job::report::Report;
use crate::job::schema::data_schema;
use crate::job::spec::SchemaEntry;

impl Builder<'_, '_> {
    /// The schema that the entry at `pointer` names or holds; none when it is wrong.
    pub(super) fn data_schema(&mut self, pointer: &str, entry: SchemaEntry) -> Option<DataSchema> {
        let name = match entry {
            SchemaEntry::Inline(schema) => {
                let right = check_fields(&schema, pointer, self.report);
                return right.then_some(schema);
            }
            SchemaEntry::File(name) => name,
        };
        if self.tree.failed.contains(pointer) {
            return None;
        }
        let candidates = candidates(self.file(), &name);
        let Some(path) = candidates.iter().find(|path| path.is_file()) else {
            let looked: Vec<String> = candidates.iter().map(|p| p.display().to_string()).collect();
            let elsewhere = match looked.len() {
                1 => "; a folder `schemas` beside or above the job file is another place",
                _ => "",
            };
            let hint = format!("looked for {}{elsewhere}", looked.join(" and "));
            self.report.at(pointer, format!("no such schema file file={name}"), hint);
            return None;
        };
        match fs::read_to_string(path) {
            Ok(text) => read(path, &text, self.report),
            Err(error) => {
                let message = format!("cannot read the schema file={}", path.display());
                self.report.at(pointer, message, format!("make it readable ({error})"));
                None
            }
        }
    }
}

/// Where a schema may be: beside the job file, or in the nearest `schemas` folder above it.
fn candidates(job_file: &Path, name: &str) -> Vec<PathBuf> {
    let folder = job_file.parent().unwrap_or(Path::new(""));
    let mut found = vec![folder.join(name)];
    // Made absolute, because the folders above a relative path end at the current one.
    let absolute = std::path::absolute(job_file).unwrap_or_else(|_| job_file.to_path_buf());
    let above = absolute.ancestors().skip(1).map(|folder| folder.join("schemas"));
    found.extend(above.into_iter().find(|schemas| schemas.is_dir()).map(|s| s.join(name)));
    found
}

fn read(path: &Path, text: &str, report: &mut Report<'_>) -> Option<DataSchema> {
    let document = Document::parse(path, text, report.problems())?;
    let mut report = Report::new(&document, report.problems());
    let silent = Default::default();
    let checked = check(&data_schema(), &document.value, "", &silent, &[], &mut report);
    if !checked.fits {
        return None;
    }
    let schema: DataSchema = serde_json::from_value(checked.value).ok()?;
    let right = check_fields(&schema, "", &mut report);
    (right && checked.damaged.is_empty()).then_some(schema)
}

fn check_fields(schema: &DataSchema, pointer: &str, report: &mut Report<'_>) -> bool {
    if schema.fields.is_empty() {
        let hint = "add at least one: {name: id, type: int64}";
        report.at(&format!("{pointer}/fields"), "a schema without fields", hint);
        return false;
    }
    check_list(&schema.fields, pointer, report)
}

/// Checks fields that stand beside each other, and those inside of them.
fn check_list(fields: &[FieldSpec], pointer: &str, report: &mut Report<'_>) -> bool {
    let mut right = true;
    for (i, field) in fields.iter().enumerate() {
        let place = format!("{pointer}/fields/{i}");
        right &= check_field(field, &fields[..i], &place, report);
        right &= check_list(&field.fields, &place, report);
    }
    right
}

fn check_field(
    field: &FieldSpec,
    before: &[FieldSpec],
    place: &str,
    report: &mut Report<'_>,
) -> bool {
    let mut right = true;
    let mut wrong = |key: &str, message: String, hint: &str| {
        report.at(&format!("{place}/{key}"), message, hint);
        right = false;
    };
    let name = &field.name;
    if !is_column(name) {
        let hint = "names are snake_case and begin with a letter; the name in the data goes into \
                    `from:`";
        wrong("name", format!("not a name of a column name={name}"), hint);
    }
    if before.iter().any(|earlier| earlier.name == *name) {
        wrong("name", format!("the column is there twice name={name}"), "rename one of the two");
    }
    match parse_type(&field.data_type) {
        Err(error) => wrong("type", error.message().to_string(), error.hint_text().unwrap_or("")),
        Ok(data_type) if field.format.is_some() && !is_timed(&data_type) => {
            let hint = "take it away, or make the type date or timestamp";
            wrong("format", format!("only dates and times have a format name={name}"), hint);
        }
        // What is wrong inside is told there.
        Ok(data_type) if nests(&data_type) == field.fields.is_empty() => {
            if let Err(error) = field.arrow_type() {
                wrong("type", error.message().to_string(), error.hint_text().unwrap_or(""));
            }
        }
        Ok(_) => {}
    }
    right
}

/// Whether values are dates or times, or lists of them.
fn is_timed(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_timed(item.data_type()),
        other => other.is_temporal(),
    }
}

fn nests(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => nests(item.data_type()),
        other => matches!(other, DataType::Struct(_)),
    }
}

fn is_column(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(inner)
}
