//! The variables, secrets and target that hold for one reading of a job file or project.
//!
//! In: the tree with what a project lent it, `--target` and `--set`. Out: a value for every
//! variable, and where it was written. Later wins: `vars:`, then the target's, then `--set`.
//! Variables may refer to variables, in any order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::reference::{self, Expanded};
use super::tree::{Document, segment};
use crate::job::report::Report;
use crate::job::{LoadOptions, suggest};

/// What interpolation may refer to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// Variables with their values.
    pub(crate) vars: BTreeMap<String, Value>,
    /// Secrets, with the pointer of the declaration that holds.
    pub(crate) secrets: BTreeMap<String, Option<String>>,
    /// The target in use.
    pub(crate) target: Option<String>,
    /// Where the value of each variable is written, by JSON pointer; none: `--set` gave it.
    pub(crate) origins: BTreeMap<String, Option<String>>,
}

impl Scope {
    /// Works out the scope of `document`; what is wrong goes to `report`.
    pub(crate) fn new(document: &Document, options: &LoadOptions, report: &mut Report<'_>) -> Self {
        let root = &document.value;
        let mut scope = Self::default();
        for (name, value) in scalars(root.get("vars")) {
            let pointer = format!("/vars{}", segment(name));
            check_kind(document, &pointer, value, report);
            scope.vars.insert(name.clone(), value.clone());
            scope.origins.insert(name.clone(), Some(pointer));
        }
        scope.add_secrets(root.get("secrets"), "/secrets");
        check_targets(root, &scope, report);
        scope.target = choose_target(root, options);
        if let Some(target) = scope.target.clone() {
            let pointer = format!("/targets{}", segment(&target));
            let entry = root.pointer(&pointer).cloned().unwrap_or_default();
            for (name, value) in scalars(entry.get("vars")) {
                if scope.vars.contains_key(name) {
                    let place = format!("{pointer}/vars{}", segment(name));
                    scope.vars.insert(name.clone(), value.clone());
                    scope.origins.insert(name.clone(), Some(place));
                }
            }
            scope.add_secrets(entry.get("secrets"), &format!("{pointer}/secrets"));
        }
        scope.apply_set(options, report);
        scope.resolve(report);
        scope
    }

    fn add_secrets(&mut self, entries: Option<&Value>, pointer: &str) {
        for name in entries.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            self.secrets.insert(name.clone(), Some(format!("{pointer}{}", segment(name))));
        }
    }

    /// `--set`, read as the type that the variable has in the file.
    fn apply_set(&mut self, options: &LoadOptions, report: &mut Report<'_>) {
        for (name, text) in &options.set {
            let Some(default) = self.vars.get(name) else { continue };
            match typed(text, default) {
                Some(value) => {
                    self.vars.insert(name.clone(), value);
                    self.origins.insert(name.clone(), None);
                }
                None => {
                    let message =
                        format!("--set does not fit the variable name={name} text={text}");
                    let hint = format!("its default is {}: {default}", kind(default));
                    report.at(&format!("/vars{}", segment(name)), message, hint);
                }
            }
        }
    }

    /// Replaces references between variables, until none is left.
    fn resolve(&mut self, report: &mut Report<'_>) {
        let mut open: BTreeSet<String> = self.vars.keys().cloned().collect();
        loop {
            let ready: Vec<String> =
                open.iter().filter(|n| !self.waits(n, &open)).cloned().collect();
            if ready.is_empty() {
                break;
            }
            for name in ready {
                open.remove(&name);
                self.settle(&name, report);
            }
        }
        for name in open {
            let message = format!("variables refer to each other in a circle name={name}");
            report.at(&self.pointer(&name), message, "give one of them a value of its own");
            self.vars.insert(name, Value::Null);
        }
    }

    fn waits(&self, name: &str, open: &BTreeSet<String>) -> bool {
        let text = self.vars.get(name).and_then(Value::as_str).unwrap_or_default();
        reference::variables(text).iter().any(|other| open.contains(*other))
    }

    /// Where a variable is written; one that `--set` gave, where it is declared.
    fn pointer(&self, name: &str) -> String {
        let written = self.origins.get(name).cloned().flatten();
        written.unwrap_or_else(|| format!("/vars{}", segment(name)))
    }

    fn settle(&mut self, name: &str, report: &mut Report<'_>) {
        let Some(Value::String(text)) = self.vars.get(name) else { return };
        let pointer = self.pointer(name);
        let value = match reference::expand(text, self) {
            Ok(Expanded::Same) => return,
            Ok(Expanded::Text(text, _)) => Value::String(text),
            Ok(Expanded::Value(value)) => value,
            Ok(Expanded::Secret(_)) => {
                let hint = "use the secret where it is needed, in a connector's setting";
                report.at(&pointer, "a variable cannot hold a secret", hint);
                return;
            }
            Err((message, hint)) => {
                report.at(&pointer, message, hint);
                return;
            }
        };
        self.vars.insert(name.to_string(), value);
    }
}

/// A variable of a job that takes the place of its project's has the same type.
fn check_kind(document: &Document, pointer: &str, value: &Value, report: &mut Report<'_>) {
    let Some(of_project) = document.of_project(pointer) else { return };
    if kind(of_project) != kind(value) && !is_reference(of_project, value) {
        let message = format!("{} here, {} in the project", kind(value), kind(of_project));
        report.at(pointer, message, "give it the type it has in `sluice.yaml`, or another name");
    }
}

fn check_targets(root: &Value, scope: &Scope, report: &mut Report<'_>) {
    let targets = root.get("targets").and_then(Value::as_object);
    let mut default: Option<&str> = None;
    for (name, target) in targets.into_iter().flatten() {
        let pointer = format!("/targets{}", segment(name));
        if target.get("default") == Some(&Value::Bool(true)) {
            match default {
                None => default = Some(name),
                Some(first) => {
                    let message = format!("two targets are the default names={first}, {name}");
                    report.at(&format!("{pointer}/default"), message, "keep one of the two");
                }
            }
        }
        for (variable, value) in scalars(target.get("vars")) {
            let place = format!("{pointer}/vars{}", segment(variable));
            match scope.vars.get(variable) {
                None => {
                    let hint = "declare it under the job's `vars:`, with its default";
                    let hint = suggest::names(variable, scope.vars.keys(), hint);
                    report.at_key(&place, format!("no such variable name={variable}"), hint);
                }
                Some(of_job) if kind(of_job) != kind(value) && !is_reference(of_job, value) => {
                    let message = format!("{} here, {} in vars", kind(value), kind(of_job));
                    report.at(&place, message, "give it the type it has under `vars:`");
                }
                Some(_) => {}
            }
        }
    }
}

fn is_reference(a: &Value, b: &Value) -> bool {
    [a, b].iter().any(|v| v.as_str().is_some_and(|text| text.contains("${")))
}

/// `--target` when the file knows it, else the default one.
pub(crate) fn choose_target(root: &Value, options: &LoadOptions) -> Option<String> {
    let targets = root.get("targets").and_then(Value::as_object)?;
    if let Some(wanted) = &options.target {
        return targets.contains_key(wanted).then(|| wanted.clone());
    }
    let is_default = |target: &Value| target.get("default") == Some(&Value::Bool(true));
    targets.iter().find(|(_, target)| is_default(target)).map(|(name, _)| name.clone())
}

fn scalars(entries: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    let entries = entries.and_then(Value::as_object).into_iter().flatten();
    entries.filter(|(_, value)| !value.is_array() && !value.is_object() && !value.is_null())
}

fn typed(text: &str, default: &Value) -> Option<Value> {
    match default {
        Value::Number(_) => {
            let whole = text.parse::<i64>().ok().map(Value::from);
            whole.or_else(|| text.parse::<f64>().ok().filter(|f| f.is_finite()).map(Value::from))
        }
        Value::Bool(_) => text.parse::<bool>().ok().map(Value::from),
        _ => Some(Value::String(text.to_string())),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        _ => "text",
    }
}
