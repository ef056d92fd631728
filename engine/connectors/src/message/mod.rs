//! What messages of brokers and webhooks hold: one entry to all formats of them.
//!
//! In: [`Settings`], the keys of a source that say what its messages are, and its data schema. Out:
//! a [`MessageFormat`], or everything that is wrong with the settings. The way of a message is
//! `wire` (whose is it?) → `json`, `avro`, `protobuf`, `debezium` (bytes to columns) → `rows` (bad
//! ones are taken back). Schemas come from a `registry` and are `known` from then on. Where messages
//! come from is not known here.

mod avro;
mod config;
mod connect;
mod debezium;
mod json;
mod known;
mod protobuf;
mod raw;
mod registry;
#[cfg(test)]
mod registry_tests;
mod rows;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use sluice_core::{Clock, DataSchema, Error, Result};

use crate::files::dialect::dialect;
use crate::format::csv;
use crate::format::message::{MessageFormat, Tombstones};
use crate::settings::{Faults, check_fields};

pub use avro::Encoder as AvroEncoder;
pub use config::{Envelope, Format, Framing, OnNewColumn, Proto, RegistryConfig, Settings, Times};
pub use registry::{Registry, Schema, SchemaType};
pub use rows::{OP_COLUMN, SOURCE_TS_COLUMN};
pub use wire::framed;

use known::Known;
use rows::{Body, Columns};
use wire::Lookup;

impl Settings {
    /// The columns of a message. Pure. Errors: everything that is wrong with the settings, by JSON
    /// pointer within the entry.
    pub fn check(&self, schema: Option<&DataSchema>) -> Result<SchemaRef, Faults> {
        let mut faults = Faults::default();
        self.check_keys(&mut faults);
        let layout = self.layout(schema, &mut faults);
        match layout {
            Some(layout) if faults.is_empty() => Ok(layout.schema()),
            _ => Err(faults),
        }
    }

    /// The format. Reads the files that the settings name; asks no registry yet. Errors: everything
    /// that is wrong with the settings, by JSON pointer within the entry.
    pub fn build(
        &self,
        schema: Option<&DataSchema>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn MessageFormat>, Faults> {
        let mut faults = Faults::default();
        self.check_keys(&mut faults);
        let layout = self.layout(schema, &mut faults);
        let format = match layout {
            Some(Layout::Done(format)) => Some(format),
            Some(Layout::Columns(columns)) if faults.is_empty() => {
                self.lookup(&columns, clock, &mut faults).map(|lookup| {
                    let tombstones = match self.format {
                        Format::Debezium => Tombstones::Skip,
                        _ => Tombstones::Row,
                    };
                    Arc::new(rows::Format { columns, lookup, tombstones }) as Arc<dyn MessageFormat>
                })
            }
            _ => None,
        };
        match format {
            Some(format) if faults.is_empty() => Ok(format),
            _ => Err(faults),
        }
    }

    /// The columns, and for some formats all there is to them.
    fn layout(&self, schema: Option<&DataSchema>, faults: &mut Faults) -> Option<Layout> {
        if let Some(schema) = schema {
            check_fields(faults, schema);
        }
        if self.format == Format::Raw {
            let raw = faults.keep("/schema", raw::Raw::new(schema))?;
            return Some(Layout::Done(Arc::new(raw)));
        }
        let Some(schema) = schema else {
            let hint = "add `schema: <file>` or `schema: {fields: [{name: …, type: …}]}`";
            faults.add("", "a schema is needed to plan SQL without reading messages", hint);
            return None;
        };
        if self.format == Format::Csv {
            let dialect = dialect(faults, self.delimiter.as_deref(), self.quote.as_deref());
            let layout = csv::Layout::new(dialect, schema).and_then(csv::Messages::new);
            return Some(Layout::Done(Arc::new(faults.keep("/schema", layout)?)));
        }
        let changes = self.format == Format::Debezium;
        let columns = Columns::new(schema, self.on_new_column.unknown(), changes);
        faults.keep("/schema", columns).map(Layout::Columns)
    }

    /// Who reads messages.
    fn lookup(
        &self,
        columns: &Columns,
        clock: Arc<dyn Clock>,
        faults: &mut Faults,
    ) -> Option<Lookup> {
        let with = columns.clone();
        match self.format {
            Format::Json if self.is_framed() && self.registry.is_some() => {
                self.known(json::of_schema, clock, faults)
            }
            Format::Json => Some(self.alike(Arc::new(json::Json))),
            Format::Avro => match &self.avro_schema {
                Some(schema) => {
                    let text = schema.as_str().map_or_else(|| schema.to_string(), str::to_string);
                    let avro = avro::Avro::new(&text, &[], columns).map_err(|e| {
                        Error::config(format!("messages of avro_schema cannot be read: {e}"))
                            .hint("check it, and the fields of the schema")
                    });
                    Some(self.alike(Arc::new(faults.keep("/avro_schema", avro)?)))
                }
                None => self.known(move |s| avro::Avro::of_schema(s, &with), clock, faults),
            },
            Format::Protobuf => match &self.proto {
                Some(proto) => {
                    let read = protobuf::Protobuf::of_config(proto, columns);
                    Some(self.alike(Arc::new(faults.keep("/proto", read)?)))
                }
                None => self.known(move |s| protobuf::OfFile::of_schema(s, &with), clock, faults),
            },
            Format::Debezium => match self.envelope.unwrap_or_default() {
                Envelope::Json => Some(
                    self.alike(Arc::new(debezium::JsonChanges::new(self.times.map(Times::unit)))),
                ),
                Envelope::Avro => {
                    self.known(move |s| debezium::AvroChanges::of_schema(s, &with), clock, faults)
                }
            },
            Format::Csv | Format::Raw => None,
        }
    }

    /// All messages are read alike.
    fn alike(&self, body: Arc<dyn Body>) -> Lookup {
        match self.is_framed() {
            true => Lookup::Prefixed(body),
            false => Lookup::Fixed(body),
        }
    }

    /// Messages are read as the registry's schemas say.
    fn known(
        &self,
        compile: impl Fn(&Schema) -> Result<Arc<dyn Body>, String> + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
        faults: &mut Faults,
    ) -> Option<Lookup> {
        let registry = Registry::new(self.registry.as_ref()?, clock.clone());
        let registry = faults.keep("/registry/url", registry)?;
        Some(Lookup::Registry(Arc::new(Known::new(registry, clock, compile)), None))
    }

    /// Whether a schema's id stands before each message.
    fn is_framed(&self) -> bool {
        let default = match self.registry {
            Some(_) => Framing::Confluent,
            None => Framing::None,
        };
        self.framing.unwrap_or(default) == Framing::Confluent
    }

    /// Reports keys that say nothing with others.
    fn check_keys(&self, faults: &mut Faults) {
        use Format::{Avro, Csv, Debezium, Json, Protobuf};
        let columns: &[Format] = &[Json, Avro, Protobuf, Debezium];
        let keys: [(&str, bool, &[Format]); 9] = [
            ("/delimiter", self.delimiter.is_some(), &[Csv]),
            ("/quote", self.quote.is_some(), &[Csv]),
            ("/framing", self.framing.is_some(), columns),
            ("/registry", self.registry.is_some(), columns),
            ("/on_new_column", self.on_new_column != OnNewColumn::Fail, columns),
            ("/avro_schema", self.avro_schema.is_some(), &[Avro]),
            ("/proto", self.proto.is_some(), &[Protobuf]),
            ("/envelope", self.envelope.is_some(), &[Debezium]),
            ("/times", self.times.is_some(), &[Debezium]),
        ];
        for (pointer, _, formats) in
            keys.iter().filter(|(_, given, of)| *given && !of.contains(&self.format))
        {
            let (key, format) = (&pointer[1..], self.format.name());
            let of: Vec<&str> = formats.iter().map(|format| format.name()).collect();
            let hint = format!("remove it, or use `format: {}`", of.join("` or `"));
            faults.add(pointer, &format!("{key} says nothing about {format}"), &hint);
        }
        self.check_registry(faults);
    }

    /// Reports what does not go together where schemas come from.
    fn check_registry(&self, faults: &mut Faults) {
        let in_place = match self.format {
            Format::Avro => Some(("avro_schema", self.avro_schema.is_some())),
            Format::Protobuf => Some(("proto", self.proto.is_some())),
            Format::Debezium if self.envelope == Some(Envelope::Avro) => {
                Some(("envelope: json", false))
            }
            _ => None,
        };
        match (in_place, &self.registry) {
            (Some((key, false)), None) => {
                let hint = format!("add `registry: {{url: …}}`, or `{key}`");
                faults.add("/format", "nothing says what schema messages have", &hint);
            }
            (Some((key, true)), Some(_)) => {
                let message = format!("both a registry and {key} are given");
                faults.add("/registry", &message, "remove one of them");
            }
            _ => {}
        }
        if self.registry.is_some() && self.framing == Some(Framing::None) {
            let hint = "remove `framing`, or the registry";
            faults.add("/framing", "messages without framing name no schema of a registry", hint);
        }
        if let Some(proto) = &self.proto
            && proto.file.is_some() == proto.text.is_some()
        {
            faults.add("/proto", "a type is in a file or in a text", "give one of them");
        }
        if let Some(registry) = &self.registry {
            faults.keep("/registry/url", registry.parsed_url());
            let (user, token) = (registry.user.is_some(), registry.token.is_some());
            if user && token {
                let hint = "remove one of them";
                faults.add("/registry/token", "both a user and a token are given", hint);
            }
            if registry.password.is_some() && !user {
                faults.add("/registry/password", "a password without a user", "add `user`");
            }
        }
    }
}

/// What decides on the columns of a message.
enum Layout {
    /// Columns to read into.
    Columns(Columns),
    /// All there is.
    Done(Arc<dyn MessageFormat>),
}

impl Layout {
    fn schema(&self) -> SchemaRef {
        match self {
            Layout::Columns(columns) => columns.schema().clone(),
            Layout::Done(format) => format.schema(),
        }
    }
}
