//! What unknown files hold: the entry and the schema with which a job reads them.
//!
//! ```text
//! paths ─► listing ─► sniff (bytes: format, compression, encoding) ─► dialect (text: delimiter …)
//!       ─► read as text ─► profile ─► decide (types) ─► read with these types ─► facts, rejects
//! ```
//!
//! In: paths as they were typed. Out: [`Inferred`]. Files are read through the source itself, the
//! second time with the types that were chosen: rows that do not fit them are known and told. It
//! writes nothing, and it makes no SQL.

mod columns;
mod decide;
mod dialect;
mod facts;
mod json;
mod listing;
mod name;
mod profile;
mod read;
mod sniff;
mod times;
mod types;

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use serde_json::{Map, Value};
use sluice_core::{Config, Context, DataSchema, Error, FieldSpec, Result};

pub use facts::Facts;
pub use read::Rejects;

use super::object::Object;
use columns::Drafts;
use facts::Observer;
use listing::Listing;
use sniff::{Content, Head};

/// Bytes of each file that are looked at to know what it is.
const HEAD_BYTES: u64 = 256 * 1024;

/// Files looked at together.
const HEADS_AT_ONCE: usize = 8;

/// How a job reads the files, and what is in them.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// A name for the rows.
    pub name: String,
    /// What `path:` says.
    pub paths: Vec<String>,
    /// The other settings of the entry, in order.
    pub settings: Vec<Setting>,
    /// The fields.
    pub schema: DataSchema,
    /// What is known about each field.
    pub columns: Vec<Column>,
    /// Files that are meant, and how many of them were looked into.
    pub files: (usize, usize),
    /// Rows that were read.
    pub rows: u64,
    /// Whether these are all rows of all files.
    pub complete: bool,
    /// Rows that will be rejected.
    pub rejects: Vec<Rejects>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// One setting of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// Why.
    pub comment: String,
}

/// What is known about a field.
#[derive(Debug, Clone, Default)]
pub struct Column {
    /// What its values are.
    pub facts: Facts,
    /// What to know about its type.
    pub notes: Vec<String>,
}

/// Looks into the files of `paths`. Errors: `Config` when there is no file or they are of
/// different kinds, `Data` when they hold no rows that can be read.
pub async fn infer(paths: &[String], context: &Context) -> Result<Inferred> {
    let listing = listing::find(paths, context).await?;
    let sample = listing::some(&listing.objects);
    let heads = heads(&sample).await?;
    let content = content(&heads)?;
    let drafts = match content {
        Content::Parquet => columns::of_parquet(&sample, &heads).await?,
        Content::Avro => columns::of_avro(&sample, &heads).await?,
        Content::Json => columns::of_json(&heads)?,
        _ => columns::of_csv(&heads)?,
    };
    let looking = Looking { listing: &listing, sample: &sample, context };
    let (settings, schema, columns) = looking.decide(drafts).await?;
    looking.check(settings, schema, columns).await
}

/// A file that was looked at.
struct Looked {
    path: String,
    head: Head,
}

async fn heads(sample: &[Object]) -> Result<Vec<Looked>> {
    let look = |object: Object| async move {
        let size = object.found().size;
        let bytes = object.read(0..size.min(HEAD_BYTES)).await?;
        let head = sniff::head(&bytes, size <= HEAD_BYTES);
        Ok(Looked { path: object.found().path.clone(), head })
    };
    futures::stream::iter(sample.to_vec()).map(look).buffered(HEADS_AT_ONCE).try_collect().await
}

/// What all files hold. Errors: `Config` when they hold different things, or nothing of use.
fn content(heads: &[Looked]) -> Result<Content> {
    let mut kinds: BTreeMap<Content, &str> = BTreeMap::new();
    for looked in heads.iter().filter(|l| l.head.content != Content::Empty) {
        kinds.entry(looked.head.content).or_insert(&looked.path);
    }
    let refuse = |message: String, hint: &str| Err(Error::config(message).hint(hint));
    for (kind, path) in &kinds {
        if let Content::Other(what) = kind {
            let hint = "save it as CSV, or leave it out of the path";
            return refuse(format!("this is no file of rows, it is {what} path={path}"), hint);
        }
    }
    match kinds.keys().collect::<Vec<_>>().as_slice() {
        [] => refuse("the files are empty".to_string(), "name files that hold rows"),
        [one] => Ok(**one),
        _ => {
            let list: Vec<String> =
                kinds.iter().map(|(kind, path)| format!("{kind:?} {path}")).collect();
            let hint = "name files of one kind, and run init once for each";
            refuse(format!("the files are of different kinds: {}", list.join(", ")), hint)
        }
    }
}

/// What all steps look at.
struct Looking<'a> {
    listing: &'a Listing,
    sample: &'a [Object],
    context: &'a Context,
}

impl Looking<'_> {
    /// The entry as it would be for the sampled files only.
    fn config(&self, settings: &[Setting], schema: DataSchema) -> Config {
        let paths = self.sample.iter().map(|o| Value::from(listing::literal(&o.found().path)));
        let mut value: Map<String, Value> = Map::new();
        value.insert("path".to_string(), Value::Array(paths.collect()));
        // A sample is read from the beginning, in one piece.
        value.insert("split_bytes".to_string(), Value::from(u64::MAX / 2));
        value.extend(settings.iter().map(|s| (s.key.to_string(), s.value.clone())));
        Config {
            name: "sample".to_string(),
            file: "sample".into(),
            value: Value::Object(value),
            spans: BTreeMap::new(),
            schema: Some(schema),
        }
    }

    /// Chooses types, where files do not bring their own.
    async fn decide(&self, drafts: Drafts) -> Result<(Vec<Setting>, DataSchema, Vec<Column>)> {
        if let Some(known) = drafts.known {
            let (fields, notes): (Vec<_>, Vec<_>) = known.into_iter().unzip();
            let column = |notes| Column { facts: Facts::default(), notes };
            return Ok((drafts.settings, schema(fields), notes.into_iter().map(column).collect()));
        }
        let names = name::columns(&drafts.origins);
        let text = names.iter().zip(&drafts.origins);
        let text = text.map(|(name, origin)| field(name, origin, "string".to_string(), None));
        let config = self.config(&drafts.settings, schema(text.collect()));
        let mut profiles = vec![profile::Profile::default(); names.len()];
        let mut add = |batch: &arrow::array::RecordBatch| columns::add(&mut profiles, batch);
        let reading = read::read(&config, self.context, self.sample.len(), &mut add).await?;
        let complete = reading.complete && self.sample.len() == self.listing.objects.len();
        let whole = decide::whole(&profiles, drafts.semicolons, complete);
        let mut settings = drafts.settings;
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        let mut nulls = std::collections::BTreeSet::new();
        for ((name, origin), profile) in names.iter().zip(&drafts.origins).zip(&profiles) {
            let choice = decide::choose(name, profile, whole);
            fields.push(field(name, origin, choice.data_type, choice.format));
            nulls.extend(choice.nulls);
            columns.push(Column { facts: Facts::default(), notes: choice.notes });
        }
        settings.extend(columns::spelling(whole.style(), &nulls));
        Ok((settings, schema(fields), columns))
    }

    /// Reads the sample as the job will, and notes what its values are and what does not fit.
    async fn check(
        &self,
        settings: Vec<Setting>,
        schema: DataSchema,
        mut columns: Vec<Column>,
    ) -> Result<Inferred> {
        let config = self.config(&settings, schema.clone());
        let mut observers: Vec<Observer> = columns.iter().map(|_| Observer::default()).collect();
        let mut failed = None;
        let mut see = |batch: &arrow::array::RecordBatch| {
            if let Err(error) = Observer::all(&mut observers, batch) {
                failed.get_or_insert(error);
            }
        };
        let reading = read::read(&config, self.context, self.sample.len(), &mut see).await?;
        if let Some(error) = failed {
            return Err(error);
        }
        for (column, observer) in columns.iter_mut().zip(observers) {
            column.facts = observer.facts();
        }
        let all = self.listing.objects.len();
        let left_out = self.listing.left_out.iter();
        let left_out = left_out.map(|(ending, count)| {
            let files = sluice_core::format_count(*count as u64, "file");
            format!("left out: {files} of another kind, {ending:?}")
        });
        Ok(Inferred {
            name: name::of_path(&self.listing.paths[0]),
            paths: self.listing.paths.clone(),
            settings,
            schema,
            columns,
            files: (all, self.sample.len()),
            rows: reading.rows,
            complete: reading.complete && self.sample.len() == all,
            rejects: reading.rejects,
            notes: left_out.collect(),
        })
    }
}

fn schema(fields: Vec<FieldSpec>) -> DataSchema {
    DataSchema { schema: None, doc: None, fields }
}

fn field(name: &str, origin: &str, data_type: String, format: Option<String>) -> FieldSpec {
    FieldSpec {
        name: name.to_string(),
        from: (origin != name).then(|| origin.to_string()),
        data_type,
        format,
        ..FieldSpec::default()
    }
}
