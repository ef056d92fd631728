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
use sluice_core::{Registry, parse_duration};

use super::check::check;
use super::model::{Job, SecretRef, TestSpec};
use super::named::Named;
use super::read::{Interpolated, Scope, segment};
use super::report::Report;
use super::schema::spec_schema;
use super::spec::{JobSpec, SecretEntry, TestEntry};
use super::suggest;

/// Builds the job of the file that `report` is about. None when not even its outline can be read;
/// otherwise a job that is whole only if nothing was reported.
pub(crate) fn build(
    tree: &Interpolated,
    scope: Scope,
    registry: &Registry,
    report: &mut Report<'_>,
) -> Option<Job> {
    let placeholders = [("job", "unnamed"), ("lake", ".")];
    let checked = check(&spec_schema(), &tree.value, "", &tree.failed, &placeholders, report);
    let spec: JobSpec = match serde_json::from_value(checked.value) {
        Ok(spec) => spec,
        Err(error) => {
            let message = format!("the job cannot be read error={error}");
            report.at("", message, "`sluice schema` prints what a job file may hold");
            return None;
        }
    };
    let names = Names::of(&tree.value);
    let mut builder = Builder { tree, registry, names, damaged: checked.damaged, report };
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

struct Builder<'a, 'b> {
    tree: &'a Interpolated,
    registry: &'a Registry,
    names: Names,
    /// Values that were cut away because they were wrong, by JSON pointer.
    damaged: BTreeSet<String>,
    report: &'a mut Report<'b>,
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
        let mut job = Job {
            name: spec.job,
            file: self.file().to_path_buf(),
            lake: spec.lake,
            target: scope.target,
            vars: scope.vars,
            secrets,
            stores: self.storage(spec.storage),
            shards: spec.shards.unwrap_or(1),
            sources: self.sources(spec.sources),
            tables: self.tables(spec.tables),
            views: self.views(spec.views),
            sinks: self.sinks(spec.sinks),
            epoch: self.epoch(spec.epoch),
            schedule: self.schedule(spec.schedule),
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

    fn file(&self) -> &Path {
        &self.report.document.file
    }

    /// Whether the value at `pointer` was there but wrong, which has been told.
    fn is_damaged(&self, pointer: &str) -> bool {
        self.damaged.contains(pointer) || self.tree.failed.contains(pointer)
    }

    /// Whether a key was written in the entry at `pointer` that looks like one of `keys`.
    fn is_misspelt(&self, pointer: &str, keys: &[&str]) -> bool {
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

    fn secrets(&mut self, entries: Named<SecretEntry>, pointer: &str) -> Vec<(String, SecretRef)> {
        let mut secrets = Vec::new();
        for (name, entry) in entries {
            let secret = match (entry.env, entry.file) {
                (Some(variable), None) => SecretRef::Env(variable),
                (None, Some(file)) => SecretRef::File(file.into()),
                _ => {
                    let place = format!("{pointer}{}", segment(&name));
                    if self.damaged.iter().any(|at| at.starts_with(&format!("{place}/"))) {
                        continue;
                    }
                    let hint = "write {env: NAME} or {file: path}";
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

    fn duration(&mut self, pointer: &str, text: &str) -> Option<Duration> {
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
