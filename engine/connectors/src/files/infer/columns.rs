//! The columns that files say they have, before their values are looked at.
//!
//! In: the beginnings of the files. Out: [`Drafts`]: names as the files have them, types where
//! they bring their own, and the settings without which they cannot be read.

use std::collections::BTreeSet;

use ::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::SchemaRef;
use serde_json::{Value, json};
use sluice_core::{Error, Result};

use super::super::inspect::avro_head;
use super::super::object::Object;
use super::dialect::{self, Shape};
use super::json::{Known, Node};
use super::profile::{Profile, Style};
use super::sniff::{Content, Packed};
use super::{Looked, Setting, name, schema, types};
use crate::format::parquet;

/// What is known of the columns before their values are.
#[derive(Debug, Clone)]
pub(super) struct Drafts {
    /// Names in the data; of files without a header, made up.
    pub(super) origins: Vec<String>,
    /// Fields with what to know about them, where files say their types.
    pub(super) known: Option<Vec<Known>>,
    pub(super) settings: Vec<Setting>,
    /// Whether fields are separated as in countries with a decimal comma.
    pub(super) semicolons: bool,
}

/// Counts the texts of a batch of string columns.
pub(super) fn add(profiles: &mut [Profile], batch: &RecordBatch) {
    for (profile, column) in profiles.iter_mut().zip(batch.columns()) {
        if let Some(texts) = column.as_string_opt::<i32>() {
            texts.iter().for_each(|text| profile.add(text));
        }
    }
}

/// What CSV files say. Errors: `Data` when they begin with what is no table.
pub(super) fn of_csv(heads: &[Looked]) -> Result<Drafts> {
    let shapes: Vec<(&Looked, Shape)> = heads
        .iter()
        .filter_map(|looked| Some((looked, dialect::shape(&looked.head.text, looked.head.ended)?)))
        .collect();
    // The widest file knows most.
    let Some((first, shape)) = shapes.iter().max_by_key(|(_, shape)| (shape.header, shape.width))
    else {
        return Err(Error::data("the files hold no rows").hint("name files that hold rows"));
    };
    if shape.above > 0 {
        let lines = sluice_core::format_count(shape.above as u64, "line");
        let message = format!("{lines} above the table path={}", first.path);
        let hint = "remove what stands above the names of the columns";
        return Err(Error::data(message).hint(hint));
    }
    let mut settings = vec![setting("format", json!("csv"), "")];
    settings.extend(packing(heads));
    let delimiter = shape.delimiter;
    if delimiter != ',' {
        settings.push(setting(
            "delimiter",
            json!(delimiter.to_string()),
            "what stands between fields",
        ));
    }
    if shape.quote != '"' {
        settings.push(setting(
            "quote",
            json!(shape.quote.to_string()),
            "what stands around fields",
        ));
    }
    let origins = if shape.header {
        let (origins, differ) = union(shapes.iter().map(|(_, shape)| names(shape)));
        settings.extend(differ);
        origins
    } else {
        let comment = "the first line is data: columns are those of the schema, in order";
        settings.push(setting("header", json!(false), comment));
        (1..=shape.width).map(|i| format!("c{i}")).collect()
    };
    Ok(Drafts { origins, known: None, settings, semicolons: delimiter == ';' })
}

/// What the beginnings of JSON files say. Errors: `Data` when they hold no objects.
pub(super) fn of_json(heads: &[Looked]) -> Result<Drafts> {
    let mut node = Node::default();
    heads.iter().for_each(|looked| node.text(&looked.head.text));
    let origins = node.names();
    if origins.is_empty() {
        let hint = "an object per line, or one list of objects, are rows";
        return Err(Error::data("the files hold no JSON objects").hint(hint));
    }
    let whole = heads.iter().all(|looked| looked.head.ended);
    let mut settings = vec![setting("format", json!("json"), "")];
    settings.extend(packing(heads));
    if !whole {
        let comment = "only the beginnings of the files were seen: other fields go to _rescued";
        settings.push(setting("on_new_column", json!("rescue"), comment));
    }
    Ok(Drafts { origins, known: Some(node.known(whole)), settings, semicolons: false })
}

/// What Parquet files say. Errors: `Unreadable` for a broken file.
pub(super) async fn of_parquet(sample: &[Object], heads: &[Looked]) -> Result<Drafts> {
    let mut schemas = Vec::new();
    for object in filled(sample, heads) {
        let opened = ParquetRecordBatchStreamBuilder::new(object.clone()).await;
        let opened = opened.map_err(|e| parquet::error(e, &object.found().path))?;
        schemas.push(opened.schema().clone());
    }
    Ok(of_schemas("parquet", &schemas))
}

/// What Avro files say. Errors: `Unreadable` for a broken file.
pub(super) async fn of_avro(sample: &[Object], heads: &[Looked]) -> Result<Drafts> {
    let anything = parquet::Layout::new(&schema(Vec::new()))?;
    let mut schemas = Vec::new();
    for object in filled(sample, heads) {
        schemas.push(avro_head(object, &anything).await?.schema().clone());
    }
    Ok(of_schemas("avro", &schemas))
}

/// The files that hold something.
fn filled<'a>(sample: &'a [Object], heads: &'a [Looked]) -> impl Iterator<Item = &'a Object> {
    let both = sample.iter().zip(heads);
    both.filter(|(_, looked)| looked.head.content != Content::Empty).map(|(object, _)| object)
}

/// What files say that bring their types.
fn of_schemas(format: &str, schemas: &[SchemaRef]) -> Drafts {
    let mut settings = vec![setting("format", json!(format), "")];
    let names = |schema: &SchemaRef| schema.fields().iter().map(|f| f.name().clone()).collect();
    let (all, differ) = union(schemas.iter().map(names));
    settings.extend(differ);
    let (mut origins, mut known, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for (name, origin) in name::columns(&all).into_iter().zip(all) {
        let found = schemas.iter().find_map(|schema| schema.field_with_name(&origin).ok());
        match found.and_then(|found| types::known(&name, &origin, found.data_type())) {
            Some(field) => {
                known.push(field);
                origins.push(origin);
            }
            None => without.push(origin),
        }
    }
    if !without.is_empty() {
        let comment = format!("no schema can hold {}", without.join(", "));
        settings.push(setting("on_new_column", json!("ignore"), &comment));
    }
    Drafts { origins, known: Some(known), settings, semicolons: false }
}

/// Settings for how values are spelled in all columns.
pub(super) fn spelling(style: Style, nulls: &BTreeSet<&'static str>) -> Vec<Setting> {
    let mut settings = Vec::new();
    if style.mark != '.' {
        settings.push(setting(
            "decimal",
            json!(style.mark.to_string()),
            "numbers are written like 1,5",
        ));
    }
    if let Some(group) = style.group {
        let comment = format!("thousands are written like 1{group}000");
        settings.push(setting("thousands", json!(group.to_string()), &comment));
    }
    if !nulls.is_empty() {
        // Without the first, empty fields of text would be empty texts.
        let list = [""].iter().chain(nulls).map(|spelled| Value::from(*spelled)).collect();
        settings.push(setting("null", Value::Array(list), "what stands for no value"));
    }
    settings
}

fn setting(key: &'static str, value: Value, comment: &str) -> Setting {
    Setting { key, value, comment: comment.to_string() }
}

/// Compression that names do not tell, and encodings other than UTF-8.
fn packing(heads: &[Looked]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let named = |looked: &Looked| match looked.head.packed {
        Packed::No => true,
        Packed::Gzip => looked.path.to_ascii_lowercase().ends_with(".gz"),
        Packed::Zstd => looked.path.to_ascii_lowercase().ends_with(".zst"),
    };
    if let Some(looked) = heads.iter().find(|looked| !named(looked)) {
        let kind = if looked.head.packed == Packed::Gzip { "gzip" } else { "zstd" };
        settings.push(setting("compression", json!(kind), "the names of the files do not say it"));
    }
    let other = heads.iter().find(|l| l.head.encoding != encoding_rs::UTF_8);
    if let Some(looked) = other {
        let name = looked.head.encoding.name().to_ascii_lowercase();
        settings.push(setting("encoding", json!(name), "not UTF-8"));
    }
    settings
}

/// The names of a header as decoders read them.
fn names(shape: &Shape) -> Vec<String> {
    shape.first.iter().map(|name| name.trim().to_string()).collect()
}

/// All names in the order in which they come, and what is to be done when files differ.
fn union(files: impl Iterator<Item = Vec<String>>) -> (Vec<String>, Option<Setting>) {
    let files: Vec<Vec<String>> = files.collect();
    let mut all: Vec<String> = Vec::new();
    for name in files.iter().flatten() {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    let lacking = |name: &&String| files.iter().any(|file| !file.contains(name));
    let missing: Vec<&str> = all.iter().filter(lacking).map(String::as_str).collect();
    let differ = (!missing.is_empty()).then(|| {
        let comment = format!("some files do not have {}", missing.join(", "));
        setting("on_missing_column", json!("null"), &comment)
    });
    (all, differ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_all_files_are_kept_in_order() {
        let files = [vec!["a", "b"], vec!["a", "c", "b"]];
        let files = files.map(|file| file.into_iter().map(str::to_string).collect());
        let (all, differ) = union(files.into_iter());
        assert_eq!(all, ["a", "b", "c"]);
        let differ = differ.unwrap();
        assert_eq!((differ.key, differ.value), ("on_missing_column", json!("null")));
        assert_eq!(differ.comment, "some files do not have c");
    }
}
