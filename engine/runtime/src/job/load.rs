//! Job files to jobs: a file or a folder of them, all problems at once.
//!
//! In: a path, a target, values of variables, the connectors. Out: a [`Pack`] in run order, or
//! everything that is wrong with it. Files are read; no store and no server is asked anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use sluice_core::{Problems, Registry};

use super::build::build;
use super::model::{Job, Pack};
use super::read::{Document, Interpolated, Scope, segment};
use super::report::Report;
use super::{LoadOptions, order, suggest};

/// The file of a project, which is not a job.
const PROJECT_FILE: &str = "sluice.yaml";

/// Reads the job file or pack at `path`. A pack is all `*.yaml` and `*.yml` of a folder, without
/// its sub-folders and without `sluice.yaml`. Errors: everything that is wrong with the files.
pub fn load(path: &Path, options: &LoadOptions, registry: &Registry) -> Result<Pack, Problems> {
    let (pack, problems) = read_pack(path, options, registry);
    if problems.is_empty() { Ok(pack) } else { Err(problems) }
}

/// Like [`load`], but gives what could be read also when something is wrong, so that its SQL can
/// be planned and all problems told together. Such a pack must not be run: of a job with a problem
/// the wrong parts are missing, and [`Job::broken`] names the relations that are.
pub fn read_pack(path: &Path, options: &LoadOptions, registry: &Registry) -> (Pack, Problems) {
    let mut problems = Problems::new();
    let drafts: Vec<Draft> = files_of(path, &mut problems)
        .into_iter()
        .filter_map(|file| Draft::read(&file, options, registry, &mut problems))
        .collect();
    check_options(path, &drafts, options, &mut problems);
    check_unique(&drafts, &mut problems);
    let beside = if path.is_file() { names_beside(path) } else { BTreeSet::new() };
    let order = order::run_order(&drafts, &beside, &mut problems);
    let mut jobs: Vec<Option<Job>> = drafts.into_iter().map(|draft| draft.job).collect();
    let jobs = order.into_iter().filter_map(|i| jobs.get_mut(i)?.take().map(Arc::new)).collect();
    (Pack { path: path.to_path_buf(), jobs }, problems)
}

/// A job file as far as it could be read.
pub(super) struct Draft {
    /// Its tree, for places.
    pub document: Document,
    /// The name it gives itself.
    pub name: Option<String>,
    /// The job; whole only when there are no problems.
    pub job: Option<Job>,
}

impl Draft {
    fn read(
        file: &Path,
        options: &LoadOptions,
        registry: &Registry,
        problems: &mut Problems,
    ) -> Option<Self> {
        let text = match fs::read(file).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => {
                let hint = Some("save the file as UTF-8".to_string());
                problems.push(file, None, "the file is not UTF-8 text", hint);
                return None;
            }
            Err(error) => {
                let hint = Some(format!("make the file readable ({error})"));
                problems.push(file, None, "cannot read the file", hint);
                return None;
            }
        };
        let document = Document::parse(file, &text, problems)?;
        let mut report = Report::new(&document, problems);
        let scope = Scope::new(&document, options, &mut report);
        let tree = Interpolated::new(&document, &scope, &mut report);
        let name = tree.value.get("job").and_then(Value::as_str).map(str::to_string);
        let job = build(&tree, scope, registry, &mut report);
        Some(Self { document, name, job })
    }

    fn keys(&self, section: &str) -> impl Iterator<Item = &String> {
        let entries = self.document.value.get(section).and_then(Value::as_object);
        entries.into_iter().flat_map(Map::keys)
    }
}

fn files_of(path: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_path_buf()];
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            let hint =
                Some(format!("give the path of a job file or of a folder of them ({error})"));
            problems.push(path, None, "no such job file or folder", hint);
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| is_job(p)).collect();
    files.sort();
    if files.is_empty() {
        let hint = Some("a pack is a folder with job files, *.yaml".to_string());
        problems.push(path, None, "there is no job file in the folder", hint);
    }
    files
}

fn is_job(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    is_yaml && name != PROJECT_FILE && !name.starts_with('.') && path.is_file()
}

/// The names of the jobs in the folder of a job file that was asked for alone.
fn names_beside(file: &Path) -> BTreeSet<String> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut ignored = Problems::new();
    let mut names = BTreeSet::new();
    for path in files_of(folder, &mut ignored) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let document = Document::parse(&path, &text, &mut ignored);
        let name = document.and_then(|d| d.value.get("job")?.as_str().map(str::to_string));
        names.extend(name);
    }
    names
}

/// `--target` and `--set` have to mean something to at least one job; a job that has targets has
/// to have the one that is asked for.
fn check_options(path: &Path, drafts: &[Draft], options: &LoadOptions, problems: &mut Problems) {
    if drafts.is_empty() {
        return;
    }
    if let Some(target) = &options.target {
        let known: BTreeSet<&String> = drafts.iter().flat_map(|d| d.keys("targets")).collect();
        let hint = suggest::names(target, known.iter().copied(), "declare it under `targets:`");
        let message = format!("no such target name={target}");
        if !known.contains(target) {
            problems.push(path, None, message, Some(hint));
        } else {
            for draft in drafts {
                let mut own = draft.keys("targets").peekable();
                if own.peek().is_some() && !own.any(|name| name == target) {
                    let span = draft.document.key_span("/targets");
                    problems.push(&draft.document.file, span, message.clone(), Some(hint.clone()));
                }
            }
        }
    }
    let known: BTreeSet<&String> = drafts.iter().flat_map(|d| d.keys("vars")).collect();
    for name in options.set.keys().filter(|name| !known.contains(name)) {
        let hint = suggest::names(name, known.iter().copied(), "declare it under `vars:`");
        problems.push(path, None, format!("--set of an unknown variable name={name}"), Some(hint));
    }
}

/// Jobs, and what they keep, have names of their own in a pack.
fn check_unique(drafts: &[Draft], problems: &mut Problems) {
    let mut jobs: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut relations: BTreeMap<&String, &Path> = BTreeMap::new();
    for draft in drafts {
        let file = draft.document.file.as_path();
        if let Some(name) = &draft.name
            && let Some(other) = jobs.insert(name, file)
        {
            let hint = format!("rename one: {} has this name too", other.display());
            let message = format!("two jobs have the same name name={name}");
            problems.push(file, draft.document.span("/job"), message, Some(hint));
        }
        let mut own: BTreeMap<&String, &str> = BTreeMap::new();
        for section in ["tables", "views"] {
            own.extend(draft.keys(section).map(|name| (name, section)));
        }
        for (name, section) in own {
            if let Some(other) = relations.insert(name, file) {
                let hint = format!("rename one: {} keeps this name too", other.display());
                let message = format!("the name is taken by another job name={name}");
                let pointer = format!("/{section}{}", segment(name));
                let span = draft.document.key_span(&pointer);
                problems.push(file, span, message, Some(hint));
            }
        }
    }
}
