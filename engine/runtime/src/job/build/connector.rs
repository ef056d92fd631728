//! Sources and sinks: each is checked by the connector it names.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sluice_core::{Config, DataSchema, Span};

use super::Builder;
use crate::job::check::check;
use crate::job::model::{BacklogLimits, SinkSpec, SourceSpec};
use crate::job::named::Named;
use crate::job::read::segment;
use crate::job::schema::strict;
use crate::job::spec::{BacklogEntry, SinkEntry, SourceEntry};
use crate::job::suggest;

impl Builder<'_, '_> {
    pub(super) fn sources(&mut self, entries: Named<SourceEntry>) -> Vec<SourceSpec> {
        let mut sources = Vec::new();
        for (name, entry) in entries {
            sources.extend(self.source(name, entry));
        }
        sources
    }

    pub(super) fn sinks(&mut self, entries: Named<SinkEntry>) -> Vec<SinkSpec> {
        let mut sinks = Vec::new();
        for (name, entry) in entries {
            sinks.extend(self.sink(name, entry));
        }
        sinks
    }

    fn source(&mut self, name: String, entry: SourceEntry) -> Option<SourceSpec> {
        let pointer = format!("/sources{}", segment(&name));
        let schema_place = format!("{pointer}/schema");
        let (schema, schema_is_right) = match entry.schema {
            None => (None, !self.is_damaged(&schema_place)),
            Some(schema) => {
                let read = self.data_schema(&schema_place, schema);
                let is_right = read.is_some();
                (read, is_right)
            }
        };
        let Some(factory) = self.registry.source(&entry.connector).cloned() else {
            let known: Vec<&str> = self.registry.sources().map(|f| f.name()).collect();
            let only_sink = self.registry.sink(&entry.connector).is_some();
            self.unknown_connector(&pointer, &entry.connector, "source", &known, only_sink);
            return None;
        };
        let allowed = factory.config_schema();
        let (config, fits) = self.config(&name, &pointer, allowed, entry.settings, schema);
        if !fits || !schema_is_right {
            return None;
        }
        let before = self.report.problems().sorted().len();
        factory.check(&config, self.report.problems());
        if self.report.problems().sorted().len() > before {
            return None;
        }
        match factory.schema(&config) {
            Ok(schema) => {
                let connector = entry.connector;
                Some(SourceSpec { name, connector, config, schema, pointer })
            }
            Err(error) => {
                let hint = error.hint_text().unwrap_or("see the connector's page").to_string();
                self.report.at(&pointer, error.chain(), hint);
                None
            }
        }
    }

    fn sink(&mut self, name: String, entry: SinkEntry) -> Option<SinkSpec> {
        let pointer = format!("/sinks{}", segment(&name));
        let place = format!("{pointer}/from");
        if !self.names.all().any(|known| *known == entry.from) && !self.is_damaged(&place) {
            let hint = suggest::names(&entry.from, self.names.all(), "name one of this job");
            let message = format!("no such source, table or view name={}", entry.from);
            self.report.at(&place, message, hint);
        }
        let Some(factory) = self.registry.sink(&entry.connector).cloned() else {
            let known: Vec<&str> = self.registry.sinks().map(|f| f.name()).collect();
            let only_source = self.registry.source(&entry.connector).is_some();
            self.unknown_connector(&pointer, &entry.connector, "sink", &known, only_source);
            return None;
        };
        let allowed = factory.config_schema();
        let (config, fits) = self.config(&name, &pointer, allowed, entry.settings, None);
        if fits {
            factory.check(&config, self.report.problems());
        }
        if entry.backlog.is_some() && !factory.is_outlet() {
            let hint = "take it away: its files are published with the epoch";
            let message = "nothing waits for a sink on the lake's store";
            self.report.at_key(&format!("{pointer}/backlog"), message, hint.to_string());
        }
        let backlog = self.backlog(&pointer, entry.backlog.unwrap_or_default());
        let (connector, from) = (entry.connector, entry.from);
        fits.then_some(SinkSpec { name, connector, from, config, backlog, pointer })
    }

    fn backlog(&mut self, pointer: &str, entry: BacklogEntry) -> BacklogLimits {
        let default = BacklogLimits::default();
        let place = format!("{pointer}/backlog/bytes");
        let bytes = entry.bytes.and_then(|size| self.size(&place, &size));
        BacklogLimits {
            epochs: entry.epochs.unwrap_or(default.epochs),
            bytes: bytes.unwrap_or(default.bytes),
        }
    }

    fn unknown_connector(
        &mut self,
        pointer: &str,
        name: &str,
        kind: &str,
        known: &[&str],
        only_other: bool,
    ) {
        let place = format!("{pointer}/connector");
        if self.is_damaged(&place) {
            return;
        }
        let message = if only_other {
            format!("this connector is no {kind} name={name}")
        } else {
            format!("no such connector name={name}")
        };
        let hint = suggest::names(name, known.iter().copied(), "use one of this version");
        self.report.at(&place, message, hint);
    }

    /// `settings` with the text `null` where a connector has a choice of that name: it is written
    /// without quotes as well.
    fn chosen_nulls(
        &self,
        allowed: &Value,
        pointer: &str,
        mut settings: Map<String, Value>,
    ) -> Map<String, Value> {
        let nulls = &self.report.document.nulls;
        for (key, value) in &mut settings {
            let key = segment(key);
            let choices = allowed.pointer(&format!("/properties{key}/enum"));
            let may = choices.and_then(Value::as_array).is_some_and(|c| c.contains(&"null".into()));
            if may && nulls.contains(&format!("{pointer}{key}")) {
                *value = "null".into();
            }
        }
        settings
    }

    /// The entry as its connector sees it, and whether it fits the connector's schema.
    fn config(
        &mut self,
        name: &str,
        pointer: &str,
        allowed: Value,
        settings: Map<String, Value>,
        schema: Option<DataSchema>,
    ) -> (Config, bool) {
        let mut allowed = strict(allowed);
        // Known by the job file itself; here only so that a misspelt one is recognised.
        let own: &[&str] =
            if pointer.starts_with("/sources") { &["schema"] } else { &["from", "backlog"] };
        if let Some(Value::Object(properties)) = allowed.get_mut("properties") {
            properties.extend(own.iter().map(|key| (key.to_string(), Value::Bool(true))));
        }
        let settings = Value::Object(self.chosen_nulls(&allowed, pointer, settings));
        let failed = &self.tree.failed;
        let checked = check(&allowed, &settings, pointer, failed, &[], self.report);
        let below = format!("{pointer}/");
        let unresolved = failed.iter().any(|failed| failed.starts_with(&below));
        let config = Config {
            name: name.to_string(),
            file: self.file().to_path_buf(),
            value: checked.value,
            spans: self.spans_below(pointer),
            schema,
        };
        (config, checked.fits && checked.damaged.is_empty() && !unresolved)
    }

    fn spans_below(&self, pointer: &str) -> BTreeMap<String, Span> {
        let inside = |at: &str| -> Option<String> {
            let rest = at.strip_prefix(pointer)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_string())
        };
        let spans = self.report.document.spans.iter();
        spans.filter_map(|(at, span)| Some((inside(at)?, *span))).collect()
    }
}
