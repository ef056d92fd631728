//! A job's tree with what its project lends it, and with what the target in use puts in its place.
//!
//! ```text
//! project ─► job ─► target of the project ─► target of the job ─► --set        later wins
//! ```
//!
//! In: the tree of a job, that of its project, a target. Out: one tree, as if all of it stood in
//! the job's file, that still knows where each value was written. Entries are lent one by one: a
//! job that has a variable of its own keeps the project's others. Interpolation comes later, so
//! that a variable of the project may be changed by a job and shows in everything that refers to
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use sluice_core::Span;

use super::choose_target;
use super::tree::{Document, segment};
use crate::job::LoadOptions;

/// Sections whose entries a project lends to jobs that have none of the same name.
const SHARED: [&str; 4] = ["vars", "secrets", "storage", "epoch"];

/// Those of a target.
const OF_TARGETS: [&str; 3] = ["vars", "secrets", "storage"];

/// What stands in a tree and not at its place in the tree's file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lent {
    /// The project's tree.
    by: Option<Arc<Document>>,
    /// JSON pointers of what the project lent; they are the same in its tree.
    borrowed: BTreeSet<String>,
    /// JSON pointers of what a target put in the place of other values, and where it stands.
    moved: BTreeMap<String, String>,
}

/// `document` within its project, with the lake and buckets of the target in use.
pub(crate) fn layered(
    mut document: Document,
    project: Option<&Arc<Document>>,
    options: &LoadOptions,
) -> Document {
    if let Some(project) = project {
        document.borrow_from(project);
    }
    if let Some(target) = choose_target(&document.value, options) {
        document.aim(&target);
    }
    document
}

impl Document {
    /// The file and place of the value at `pointer`, or of the nearest value around it.
    pub(crate) fn place(&self, pointer: &str) -> (&Path, Option<Span>) {
        let pointer = self.written_at(pointer);
        let document = self.lender(&pointer).unwrap_or(self);
        (document.file.as_path(), document.span(&pointer))
    }

    /// The file and place of the key of the value at `pointer`.
    pub(crate) fn key_place(&self, pointer: &str) -> (&Path, Option<Span>) {
        let pointer = self.written_at(pointer);
        let document = self.lender(&pointer).unwrap_or(self);
        (document.file.as_path(), document.key_span(&pointer))
    }

    /// Where the value at `pointer` is written: elsewhere when a target put it there.
    pub(crate) fn written_at(&self, pointer: &str) -> String {
        for (at, rest) in upwards(pointer) {
            if let Some(from) = self.lent.moved.get(at) {
                return format!("{from}{rest}");
            }
        }
        pointer.to_string()
    }

    /// Whether the value at `pointer` is written in the project's file.
    pub(crate) fn is_borrowed(&self, pointer: &str) -> bool {
        self.lender(&self.written_at(pointer)).is_some()
    }

    /// What the project has at `pointer` where the job has a value of its own.
    pub(crate) fn of_project(&self, pointer: &str) -> Option<&Value> {
        let own = self.lender(pointer).is_none();
        self.lent.by.as_ref().filter(|_| own)?.value.pointer(pointer)
    }

    /// The project's tree when it lent what is written at `pointer`.
    fn lender(&self, pointer: &str) -> Option<&Document> {
        let by = self.lent.by.as_deref()?;
        upwards(pointer).any(|(at, _)| self.lent.borrowed.contains(at)).then_some(by)
    }

    fn borrow_from(&mut self, project: &Arc<Document>) {
        self.lent.by = Some(project.clone());
        for section in SHARED {
            self.borrow_entries(project, &format!("/{section}"));
        }
        self.borrow(project, "/lake");
        let targets = project.value.get("targets").and_then(Value::as_object);
        let is_default = |target: &Value| target.get("default") == Some(&Value::Bool(true));
        if targets.is_some_and(|targets| targets.values().any(is_default)) {
            self.forget_defaults();
        }
        for name in targets.into_iter().flat_map(Map::keys) {
            let target = format!("/targets{}", segment(name));
            for section in OF_TARGETS {
                self.borrow_entries(project, &format!("{target}/{section}"));
            }
            for key in ["lake", "default"] {
                self.borrow(project, &format!("{target}/{key}"));
            }
            // A target without keys is one all the same.
            self.borrow(project, &target);
        }
    }

    /// One target is in use for all of a project: where it has a default, those of jobs do not
    /// count.
    fn forget_defaults(&mut self) {
        let targets = self.value.get_mut("targets").and_then(Value::as_object_mut);
        for target in targets.into_iter().flatten().filter_map(|(_, t)| t.as_object_mut()) {
            target.shift_remove("default");
        }
    }

    fn borrow_entries(&mut self, project: &Document, section: &str) {
        let entries = project.value.pointer(section).and_then(Value::as_object);
        for name in entries.into_iter().flat_map(Map::keys) {
            self.borrow(project, &format!("{section}{}", segment(name)));
        }
    }

    /// Takes the project's value at `pointer` when there is none.
    fn borrow(&mut self, project: &Document, pointer: &str) {
        let Some(value) = project.value.pointer(pointer) else { return };
        if self.value.pointer(pointer).is_some() || !put(&mut self.value, pointer, value.clone()) {
            return;
        }
        self.lent.borrowed.insert(pointer.to_string());
        let broken = project.broken.iter().filter(|at| is_within(at, pointer));
        self.broken.extend(broken.cloned());
    }

    /// Puts the lake and the buckets of a target in the place of those for all.
    fn aim(&mut self, target: &str) {
        let target = format!("/targets{}", segment(target));
        self.displace(&format!("{target}/lake"), "/lake");
        let storage = format!("{target}/storage");
        let entries = self.value.pointer(&storage).and_then(Value::as_object);
        let names: Vec<String> = entries.into_iter().flat_map(Map::keys).cloned().collect();
        for name in names {
            let name = segment(&name);
            self.displace(&format!("{storage}{name}"), &format!("/storage{name}"));
        }
    }

    fn displace(&mut self, from: &str, to: &str) {
        let Some(value) = self.value.pointer(from).cloned() else { return };
        if !put(&mut self.value, to, value) {
            return;
        }
        self.broken.retain(|at| !is_within(at, to));
        let broken = self.broken.iter().filter_map(|at| at.strip_prefix(from));
        let broken: Vec<String> = broken.map(|rest| format!("{to}{rest}")).collect();
        self.broken.extend(broken);
        self.lent.moved.insert(to.to_string(), from.to_string());
    }
}

/// Puts `value` at `pointer`, below mappings that are there or are made. False where something else
/// than a mapping stands in the way, which is told elsewhere.
fn put(tree: &mut Value, pointer: &str, value: Value) -> bool {
    let mut steps: Vec<String> =
        pointer.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
    let Some(last) = steps.pop() else { return false };
    let mut here = tree;
    for step in steps {
        let Some(entries) = here.as_object_mut() else { return false };
        here = entries.entry(step).or_insert_with(|| Value::Object(Map::new()));
    }
    let Some(entries) = here.as_object_mut() else { return false };
    entries.insert(last, value);
    true
}

/// `pointer` and those around it, each with what follows it.
fn upwards(pointer: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = pointer.rmatch_indices('/').map(|(at, _)| at);
    let ends = std::iter::once(pointer.len()).chain(ends);
    ends.filter(|at| *at > 0).map(move |at| pointer.split_at(at))
}

fn is_within(pointer: &str, outer: &str) -> bool {
    pointer.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use sluice_core::Problems;

    use super::*;

    fn parsed(file: &str, text: &str) -> Document {
        let mut problems = Problems::new();
        let document = Document::parse(Path::new(file), text, &mut problems);
        assert!(problems.is_empty(), "{problems}");
        document.unwrap()
    }

    fn shown(document: &Document, pointer: &str) -> String {
        let (file, span) = document.place(pointer);
        let value = document.value.pointer(pointer).cloned().unwrap_or_default();
        format!("{value} {}:{}", file.display(), span.map_or(0, |s| s.line))
    }

    const PROJECT: &str = "
vars: {a: 1, b: 2}
lake: all
storage: {s: {url: s3://a}}
targets:
  dev: {default: true}
  prod:
    vars: {a: 3}
    lake: of-target
    storage: {s: {url: s3://b}}
";

    #[test]
    fn entries_are_lent_one_by_one_and_know_their_places() {
        let project = Arc::new(parsed("p", PROJECT));
        let job = "vars: {b: 5}\ntargets:\n  prod: {vars: {b: 6}}\n  own: {default: true}\n";
        let job = layered(parsed("j", job), Some(&project), &LoadOptions::default());
        for (pointer, expected) in [
            ("/vars/a", "1 p:2"),
            ("/vars/b", "5 j:1"),
            ("/lake", "\"all\" p:3"),
            ("/storage/s/url", "\"s3://a\" p:4"),
            ("/targets/prod/vars/a", "3 p:8"),
            ("/targets/prod/vars/b", "6 j:3"),
            ("/targets/dev/default", "true p:6"),
            ("/targets/own/default", "null j:4"),
        ] {
            assert_eq!(shown(&job, pointer), expected, "{pointer}");
        }
        assert_eq!(job.of_project("/vars/b"), Some(&Value::from(2)));
        assert_eq!(job.of_project("/vars/a"), None);
    }

    #[test]
    fn a_target_puts_its_lake_and_buckets_in_the_place_of_those_for_all() {
        let project = Arc::new(parsed("p", PROJECT));
        let options = LoadOptions { target: Some("prod".into()), ..LoadOptions::default() };
        let job = layered(parsed("j", "lake: mine\n"), Some(&project), &options);
        assert_eq!(shown(&job, "/lake"), "\"of-target\" p:9");
        assert_eq!(shown(&job, "/storage/s/url"), "\"s3://b\" p:10");
        assert!(job.is_borrowed("/lake") && !job.is_borrowed("/job"));
        let own = layered(
            parsed("j", "lake: mine\ntargets: {prod: {lake: own}}\n"),
            Some(&project),
            &options,
        );
        assert_eq!(shown(&own, "/lake"), "\"own\" j:2");
        let alone = layered(parsed("j", "vars: [1]\nlake: mine\n"), Some(&project), &options);
        assert_eq!(shown(&alone, "/vars"), "[1] j:1", "what is wrong is left to those who tell");
    }
}
