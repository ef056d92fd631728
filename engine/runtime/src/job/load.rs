//! Job files to jobs: a file, a folder of them or a whole project, all problems at once.
//!
//! In: a path, a target, values of variables, the connectors. Out: [`Pack`]s in run order, or
//! everything that is wrong with them. Files are read; no store and no server is asked anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use sluice_core::{Problem, Problems, Registry};

use super::build::build;
use super::model::{Job, Pack};
use super::project::{
    Found, PROJECT_FILE, Project, around, check_sources, default_packs, file_above, file_at,
    folder_of, holds, read,
};
use super::read::{Document, Interpolated, Scope, layered, segment};
use super::report::Report;
use super::{LoadOptions, order, suggest};

/// Jobs, and the project they belong to.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The project; none: the jobs belong to none.
    pub project: Option<Project>,
    /// The packs that were asked for.
    pub packs: Vec<Pack>,
}

/// Reads the job file or pack at `path`. A pack is all `*.yaml` and `*.yml` of a folder, without
/// its sub-folders and without `sluice.yaml`. Errors: everything that is wrong with the files.
pub fn load(path: &Path, options: &LoadOptions, registry: &Registry) -> Result<Pack, Problems> {
    let (pack, problems) = read_pack(path, options, registry);
    if problems.is_empty() { Ok(pack) } else { Err(problems) }
}

/// Like [`load`], but gives what could be read also when something is wrong, so that its SQL can
/// be planned and all problems told together. Such a pack must not be run: of a job with a problem
/// the wrong parts are missing, and [`Job::broken`] names the relations that are.
///
/// What the pack's project lends it, is in its jobs: the nearest `sluice.yaml` in its folder or
/// above that counts the pack among its own.
pub fn read_pack(path: &Path, options: &LoadOptions, registry: &Registry) -> (Pack, Problems) {
    let found = found_above(path, options, registry);
    let mut problems = Problems::new();
    let packs = read_packs(&[path.to_path_buf()], found.as_ref(), options, registry, &mut problems);
    problems.extend(found.map(|found| found.problems).unwrap_or_default());
    let pack = packs.into_iter().next();
    (pack.unwrap_or_else(|| Pack { path: path.to_path_buf(), jobs: Vec::new() }), problems)
}

/// Reads what `path` names: a project's file or folder with all its packs, a pack, or a job file.
/// Like
/// [`read_pack`], it gives what could be read also when something is wrong.
pub fn read_all(path: &Path, options: &LoadOptions, registry: &Registry) -> (Loaded, Problems) {
    let Some(file) = file_at(path) else {
        let (pack, problems) = read_pack(path, options, registry);
        return (Loaded { project: None, packs: vec![pack] }, problems);
    };
    let found = read(&file, options, registry);
    let Some(document) = &found.document else {
        // Without it nobody knows what its jobs lack.
        return (Loaded { project: None, packs: Vec::new() }, found.problems);
    };
    let mut problems = Problems::new();
    let root = file.parent().unwrap_or(Path::new(""));
    let folders = found.project.as_ref().map(|project| project.packs.clone());
    let folders = folders.unwrap_or_else(|| default_packs(root));
    let packs = read_packs(&folders, Some(&found), options, registry, &mut problems);
    if let Some(project) = &found.project {
        let jobs: Vec<Arc<Job>> = packs.iter().flat_map(|pack| pack.jobs.clone()).collect();
        check_sources(document, project, &jobs, &mut problems);
    }
    problems.extend(found.problems);
    (Loaded { project: found.project, packs }, problems)
}

/// Reads a project with all its packs; around a pack or job file without one there is a project
/// with defaults. Errors: everything that is wrong with the files.
pub fn load_project(
    path: &Path,
    options: &LoadOptions,
    registry: &Registry,
) -> Result<(Project, Vec<Pack>), Problems> {
    let (loaded, problems) = read_all(path, options, registry);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok((loaded.whole(path), loaded.packs))
}

impl Loaded {
    /// The project, or one with defaults around what was read at `path`.
    pub fn whole(&self, path: &Path) -> Project {
        let pack = || self.packs.first().cloned();
        let empty = || Pack { path: path.to_path_buf(), jobs: Vec::new() };
        self.project.clone().unwrap_or_else(|| around(&pack().unwrap_or_else(empty)))
    }
}

/// The project that the pack or job file at `path` belongs to. One that cannot be read at all may
/// be its project.
fn found_above(path: &Path, options: &LoadOptions, registry: &Registry) -> Option<Found> {
    let found = read(&file_above(path)?, options, registry);
    let packs = found.project.as_ref().map(|project| project.packs.as_slice());
    packs.is_none_or(|packs| holds(packs, path)).then_some(found)
}

/// Reads the packs at `paths`, whose names are of one project.
fn read_packs(
    paths: &[PathBuf],
    found: Option<&Found>,
    options: &LoadOptions,
    registry: &Registry,
    problems: &mut Problems,
) -> Vec<Pack> {
    let project = found.and_then(|found| found.document.as_ref());
    let mut told = Problems::new();
    let mut counts = Vec::new();
    let mut drafts = Vec::new();
    let mut orders = Vec::new();
    for path in paths {
        let reader = Reader { project, options, registry };
        let own: Vec<Draft> = files_of(path, &mut told)
            .into_iter()
            .filter_map(|file| reader.draft(&file, &mut told))
            .collect();
        let beside = if path.is_file() { names_beside(path) } else { BTreeSet::new() };
        orders.push(order::run_order(&own, &beside, &mut told));
        counts.push(own.len());
        drafts.extend(own);
    }
    let of = match paths {
        [one] => one.as_path(),
        _ => project.map_or(Path::new("."), |project| project.file.as_path()),
    };
    check_options(of, &drafts, options, &mut told);
    check_unique(&drafts, &mut told);
    // What is wrong in the project's file is told once, by its own reading.
    let of_project = project.filter(|_| found.is_some_and(|found| !found.problems.is_empty()));
    told.retain(|problem: &Problem| of_project.is_none_or(|project| problem.file != project.file));
    problems.extend(told);
    let mut drafts = drafts.into_iter();
    let packs = paths.iter().zip(counts).zip(orders).map(|((path, count), order)| {
        let mut jobs: Vec<Option<Job>> =
            drafts.by_ref().take(count).map(|draft| draft.job).collect();
        let jobs = order.into_iter().filter_map(|i| jobs.get_mut(i)?.take().map(Arc::new));
        Pack { path: path.clone(), jobs: jobs.collect() }
    });
    packs.collect()
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

/// What all job files are read with.
struct Reader<'a> {
    project: Option<&'a Arc<Document>>,
    options: &'a LoadOptions,
    registry: &'a Registry,
}

impl Reader<'_> {
    fn draft(&self, file: &Path, problems: &mut Problems) -> Option<Draft> {
        let text = text_of(file, problems)?;
        let document = Document::parse(file, &text, problems)?;
        if is_schema(&document) {
            let hint = "put it into a folder `schemas` or a sub-folder: every YAML file of the \
                        pack's own folder is read as a job";
            let (span, message) =
                (document.key_span("/fields"), "this is a data schema, not a job");
            problems.push(file, span, message, Some(hint.to_string()));
            return None;
        }
        let document = layered(document, self.project, self.options);
        let mut report = Report::new(&document, problems);
        let scope = Scope::new(&document, self.options, &mut report);
        let tree = Interpolated::new(&document, &scope, &mut report);
        let name = tree.value.get("job").and_then(Value::as_str).map(str::to_string);
        let job = build(&tree, scope, self.registry, &mut report);
        Some(Draft { document, name, job })
    }
}

/// Whether a file that was taken for a job describes rows.
fn is_schema(document: &Document) -> bool {
    let has = |key: &str| document.value.get(key).is_some();
    has("fields") && !["job", "lake", "sources", "tables", "views"].into_iter().any(has)
}

/// The text of a file; one that cannot be had is told.
pub(super) fn text_of(file: &Path, problems: &mut Problems) -> Option<String> {
    match fs::read(file).map(String::from_utf8) {
        Ok(Ok(text)) => Some(text),
        Ok(Err(_)) => {
            let hint = Some("save the file as UTF-8".to_string());
            problems.push(file, None, "the file is not UTF-8 text", hint);
            None
        }
        Err(error) => {
            let hint = Some(format!("make the file readable ({error})"));
            problems.push(file, None, "cannot read the file", hint);
            None
        }
    }
}

impl Draft {
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
        let hint =
            "a pack is a folder with job files, *.yaml; a project is one with a `sluice.yaml`";
        let hint = Some(hint.to_string());
        problems.push(path, None, "there is no job file in the folder", hint);
    }
    files
}

/// Whether the file at `path` is a job's.
pub(super) fn is_job(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    is_yaml && name != PROJECT_FILE && !name.starts_with('.') && path.is_file()
}

/// The names of the jobs in the folder of a job file that was asked for alone.
fn names_beside(file: &Path) -> BTreeSet<String> {
    let folder = folder_of(file);
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

/// Jobs, and what they keep, have names of their own in a pack, and in a project: its SQL knows
/// all.
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
