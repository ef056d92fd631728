//! From a validated tree to a [`Job`]: what several keys mean together.
//!
//! In: an interpolated tree and the registry of connectors. Out: a job, and all problems that a
//! JSON Schema cannot see. SQL is not read here; data schemas and statement files are.

mod connector;
mod cron;
mod data;
mod relation;
mod shards;
mod storage;
mod timing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use sluice_core::{Registry, bucket_of, parse_duration};

use super::check::check;
use super::model::{Job, SecretRef, StoreSpec, TestSpec};
use super::named::Named;
use super::project::origins;
use super::read::{Interpolated, Scope, segment};
use super::report::Report;
use super::schema::spec_schema;
use super::spec::{JobSpec, SecretEntry, TestEntry};
use super::suggest;

pub(crate) use cron::parse as parse_cron;

/// Builds the job of the file that `report` is about. None when not even its outline can be read;
/// otherwise a job that is whole only if nothing was reported.
pub(crate) fn build(
    tree: &Interpolated,
    scope: Scope,
    registry: &Registry,
    report: &mut Report<'_>,
) -> Option<Job> {
    let placeholders = [("/job", "unnamed")];
    let checked = check(&spec_schema(), &tree.value, "", &tree.failed, &placeholders, report);
    let spec: JobSpec = match serde_json::from_value(checked.value) {
        Ok(spec) => spec,
        Err(error) => {
            let message = format!("the job cannot be read error={error}");
            report.at("", message, "`sluice schema` prints what a job file may hold");
            return None;
        }
    };
    let mut builder = Builder::new(tree, registry, checked.damaged, report);
    builder.check_names();
    Some(builder.job(spec, scope))
}

/// The names that statements and sinks may use, also those whose entries are wrong.
struct Names {
    sources: Vec<String>,
    tables: Vec<String>,
    views: Vec<String>,
}

impl Names {
    fn of(tree: &Value) -> Self {
        let keys = |section: &str| -> Vec<String> {
            let entries = tree.get(section).and_then(Value::as_object);
            entries.into_iter().flat_map(Map::keys).cloned().collect()
        };
        Self { sources: keys("sources"), tables: keys("tables"), views: keys("views") }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.sources.iter().chain(&self.tables).chain(&self.views)
    }
}

/// What a job, or the project around jobs, is built with.
pub(super) struct Builder<'a, 'b> {
    tree: &'a Interpolated,
    registry: &'a Registry,
    names: Names,
    /// Values that were cut away because they were wrong, by JSON pointer.
    damaged: BTreeSet<String>,
    pub(super) report: &'a mut Report<'b>,
}

impl<'a, 'b> Builder<'a, 'b> {
    pub(super) fn new(
        tree: &'a Interpolated,
        registry: &'a Registry,
        damaged: BTreeSet<String>,
        report: &'a mut Report<'b>,
    ) -> Self {
        Self { tree, registry, names: Names::of(&tree.value), damaged, report }
    }
}

impl Builder<'_, '_> {
    fn job(&mut self, spec: JobSpec, scope: Scope) -> Job {
        let secrets = self.secrets(spec.secrets, "/secrets");
        let mut secrets: BTreeMap<String, SecretRef> = secrets.into_iter().collect();
        for (name, target) in spec.targets {
            let pointer = format!("/targets{}/secrets", segment(&name));
            let own = self.secrets(target.secrets, &pointer);
            if scope.target.as_ref() == Some(&name) {
                secrets.extend(own);
            }
        }
        let (schedule, timing) = self.schedule(spec.schedule);
        let lake = spec.lake.unwrap_or_else(|| self.no_lake());
        let stores = self.storage(spec.storage);
        self.keep_used(&mut secrets, &scope, &stores);
        let origins = origins(self.report.document, &scope, &secrets, &stores);
        let mut job = Job {
            name: spec.job,
            file: self.file().to_path_buf(),
            lake,
            target: scope.target,
            vars: scope.vars,
            secrets,
            stores,
            origins,
            shards: spec.shards.unwrap_or(1),
            sources: self.sources(spec.sources),
            tables: self.tables(spec.tables),
            views: self.views(spec.views),
            sinks: self.sinks(spec.sinks),
            epoch: self.epoch(spec.epoch),
            schedule,
            timing,
            tests: self.tests(spec.tests),
            broken: Vec::new(),
            spans: self.report.document.spans.clone(),
        };
        let mut whole: BTreeSet<&String> = job.sources.iter().map(|s| &s.name).collect();
        whole.extend(job.tables.iter().map(|t| &t.name));
        whole.extend(job.views.iter().map(|v| &v.name));
        let broken = self.names.all().filter(|name| !whole.contains(name));
        let broken: Vec<String> = broken.cloned().collect();
        job.broken = broken;
        self.check_shards(&job);
        job
    }

    /// Tells that there is no lake, and gives one to look at the rest with.
    fn no_lake(&mut self) -> String {
        if !self.is_damaged("/lake") && !self.is_misspelt("", &["lake"]) {
            let hint = "add `lake:`: a URL or a path where its tables are kept; or one for all jobs \
                        in the project's `sluice.yaml`";
            self.report.at("", "a key is missing key=lake", hint);
        }
        ".".to_string()
    }

    /// Takes those secrets away that the project lent and nothing in the job needs: a job does not
    /// wait for the values of others.
    fn keep_used(
        &self,
        secrets: &mut BTreeMap<String, SecretRef>,
        scope: &Scope,
        stores: &[StoreSpec],
    ) {
        let mut used = BTreeSet::new();
        for section in ["sources", "sinks"] {
            texts(self.tree.value.get(section), &mut |text| {
                used.insert(text.to_string());
            });
        }
        used.extend(stores.iter().flat_map(|store| store.settings.values().cloned()));
        secrets.retain(|name, _| {
            let pointer = scope.secrets.get(name).cloned().flatten();
            let is_lent = pointer.is_some_and(|at| self.report.document.is_borrowed(&at));
            !is_lent || used.contains(&format!("${{secrets.{name}}}"))
        });
    }

    /// Whether something of the job lies in the bucket of `url`, or is read from there.
    fn names_bucket(&self, url: &str) -> bool {
        let mut found = false;
        let sections = self.tree.value.as_object().into_iter().flatten();
        // What variables and other targets would name shows where it is used.
        let apart = ["storage", "vars", "targets", "secrets"];
        for (_, section) in sections.filter(|(key, _)| !apart.contains(&key.as_str())) {
            texts(Some(section), &mut |text| found |= bucket_of(text) == bucket_of(url));
        }
        found
    }

    fn file(&self) -> &Path {
        &self.report.document.file
    }

    /// Whether a section has entries, right or wrong.
    pub(super) fn has_entries(&self, section: &str) -> bool {
        let entries = self.tree.value.get(section).and_then(Value::as_object);
        entries.is_some_and(|entries| !entries.is_empty())
    }

    /// Whether the value at `pointer` was there but wrong, which has been told.
    pub(super) fn is_damaged(&self, pointer: &str) -> bool {
        self.damaged.contains(pointer) || self.tree.failed.contains(pointer)
    }

    /// Whether something below `pointer` was there but wrong.
    pub(super) fn is_damaged_below(&self, pointer: &str) -> bool {
        let wrong = self.damaged.iter().chain(&self.tree.failed);
        wrong.filter_map(|at| at.strip_prefix(pointer)).any(|rest| rest.starts_with('/'))
    }

    /// Whether a key was written in the entry at `pointer` that looks like one of `keys`.
    pub(super) fn is_misspelt(&self, pointer: &str, keys: &[&str]) -> bool {
        let inside =
            self.damaged.iter().filter_map(|at| at.strip_prefix(pointer)?.strip_prefix('/'));
        inside.into_iter().any(|key| suggest::near(key, keys.iter().copied()).is_some())
    }

    fn check_names(&mut self) {
        let mut first: BTreeMap<String, &str> = BTreeMap::new();
        let sections = [
            ("sources", self.names.sources.clone()),
            ("tables", self.names.tables.clone()),
            ("views", self.names.views.clone()),
        ];
        for (section, names) in sections {
            for name in names {
                if let Some(earlier) = first.get(&name) {
                    let hint =
                        format!("rename one: there is a name {name} under `{earlier}:` already");
                    let pointer = format!("/{section}{}", segment(&name));
                    self.report.at_key(&pointer, format!("the name is taken name={name}"), hint);
                } else {
                    first.insert(name, section);
                }
            }
        }
    }

    pub(super) fn secrets(
        &mut self,
        entries: Named<SecretEntry>,
        pointer: &str,
    ) -> Vec<(String, SecretRef)> {
        let mut secrets = Vec::new();
        for (name, entry) in entries {
            let secret = match (entry.env, entry.file, entry.command) {
                (Some(variable), None, None) => SecretRef::Env(variable),
                (None, Some(file), None) => SecretRef::File(file.into()),
                (None, None, Some(command)) => SecretRef::Command(command),
                _ => {
                    let place = format!("{pointer}{}", segment(&name));
                    if self.damaged.iter().any(|at| at.starts_with(&format!("{place}/"))) {
                        continue;
                    }
                    let hint = "write {env: NAME}, {file: path} or {command: [program, argument]}";
                    self.report.at(&place, "a secret comes from one place", hint);
                    continue;
                }
            };
            secrets.push((name, secret));
        }
        secrets
    }

    fn tests(&mut self, entries: Vec<TestEntry>) -> Vec<TestSpec> {
        let kept: Vec<String> =
            self.names.tables.iter().chain(&self.names.views).cloned().collect();
        let sources = self.names.sources.clone();
        let mut tests = Vec::new();
        for (i, entry) in entries.into_iter().enumerate() {
            for (part, used, known) in
                [("given", &entry.given, &sources), ("expect", &entry.expect, &kept)]
            {
                for (name, _) in &used.0 {
                    if !known.contains(name) {
                        let what = if part == "given" { "source" } else { "table or view" };
                        let pointer = format!("/tests/{i}/{part}{}", segment(name));
                        let hint = suggest::names(name, known, "use one of this job");
                        self.report.at_key(&pointer, format!("no such {what} name={name}"), hint);
                    }
                }
            }
            let (given, expect) = (entry.given.0, entry.expect.0);
            tests.push(TestSpec { name: entry.name, given, expect });
        }
        tests
    }

    pub(super) fn duration(&mut self, pointer: &str, text: &str) -> Option<Duration> {
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                let hint = error.hint_text().unwrap_or_default().to_string();
                self.report.at(pointer, error.message(), hint);
                None
            }
        }
    }
}

/// Calls `with` for every text in `value`.
fn texts(value: Option<&Value>, with: &mut dyn FnMut(&str)) {
    match value {
        Some(Value::String(text)) => with(text),
        Some(Value::Array(items)) => items.iter().for_each(|item| texts(Some(item), with)),
        Some(Value::Object(entries)) => entries.values().for_each(|v| texts(Some(v), with)),
        _ => {}
    }
}
