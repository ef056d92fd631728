//! Connectors that know their settings and nothing else, for tests of the reader.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sluice_core::{
    BuiltSink, Config, Context, Error, Problems, Registry, Result, SinkFactory, Source,
    SourceFactory,
};

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FileFormat {
    /// Text.
    Csv,
    /// Objects.
    Json,
    /// Blocks.
    Avro,
    /// Columns.
    Parquet,
}

#[derive(Deserialize, JsonSchema)]
enum Encoding {
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "utf-16")]
    Utf16,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Compression {
    Auto,
    Gzip,
}

/// A part of the settings of the connector of this name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct FilesSettings {
    /// Where the files are.
    path: OneOrMany,
    format: Option<FileFormat>,
    compression: Option<Compression>,
    encoding: Option<Encoding>,
    delimiter: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
    null: Option<OneOrMany>,
    decimal: Option<String>,
    thousands: Option<String>,
    header: Option<bool>,
    min_age: Option<String>,
    on_changed_file: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct GenerateSettings {
    seed: Option<u64>,
    rows: Option<u64>,
    rate: Option<f64>,
    /// The columns by name.
    columns: Map<String, Value>,
}

struct Files;
struct Generate;

/// Knows its name and takes any settings: what is wrong with them its own tests tell.
struct Named(&'static str);

#[async_trait]
impl SourceFactory for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn config_schema(&self) -> Value {
        serde_json::json!({ "type": "object", "properties": {} , "additionalProperties": true })
    }

    fn check(&self, _: &Config, _: &mut Problems) {}

    fn schema(&self, _: &Config) -> Result<SchemaRef> {
        Ok(Arc::new(Schema::empty()))
    }

    fn retracts(&self, _config: &Config) -> bool {
        false
    }

    async fn build(&self, _: &Config, _: &Context) -> Result<Box<dyn Source>> {
        Err(Error::bug("these sources are never built"))
    }
}

#[async_trait]
impl SourceFactory for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn config_schema(&self) -> Value {
        schemars::schema_for!(FilesSettings).to_value()
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        if config.schema.is_none() {
            config.problem(problems, "", "a schema is needed", "add `schema:`");
        }
    }

    fn schema(&self, config: &Config) -> Result<SchemaRef> {
        config.schema.as_ref().ok_or_else(|| Error::config("no schema"))?.arrow()
    }

    fn retracts(&self, _config: &Config) -> bool {
        false
    }

    async fn build(&self, _: &Config, _: &Context) -> Result<Box<dyn Source>> {
        Err(Error::bug("these sources are never built"))
    }
}

impl SinkFactory for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn config_schema(&self) -> Value {
        schemars::schema_for!(FilesSettings).to_value()
    }

    fn check(&self, _: &Config, _: &mut Problems) {}

    fn build(&self, _: &Config) -> Result<BuiltSink> {
        Err(Error::bug("these sinks are never built"))
    }
}

#[async_trait]
impl SourceFactory for Generate {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn config_schema(&self) -> Value {
        schemars::schema_for!(GenerateSettings).to_value()
    }

    fn check(&self, _: &Config, _: &mut Problems) {}

    fn shards(&self, _config: &Config) -> Result<()> {
        Ok(())
    }

    fn schema(&self, config: &Config) -> Result<SchemaRef> {
        let columns = config.value["columns"].as_object().into_iter().flatten();
        let field = |(name, _): (&String, &Value)| Field::new(name, DataType::Int64, true);
        Ok(Arc::new(Schema::new(columns.map(field).collect::<Vec<_>>())))
    }

    fn retracts(&self, _config: &Config) -> bool {
        false
    }

    async fn build(&self, _: &Config, _: &Context) -> Result<Box<dyn Source>> {
        Err(Error::bug("these sources are never built"))
    }
}

/// A registry of all.
pub(crate) fn registry() -> Registry {
    let registry = Registry::default().with_source(Arc::new(Files));
    let registry = registry.with_source(Arc::new(Named("delta")));
    registry.with_source(Arc::new(Generate)).with_sink(Arc::new(Files))
}
