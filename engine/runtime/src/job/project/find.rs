//! Where projects and their packs are.
//!
//! In: a path. Out: the file of its project, the folders of a project's packs. Nothing is read but
//! the names in folders.

use std::fs;
use std::path::{Path, PathBuf};

use crate::job::load::is_job;

/// The file of a project, which is not a job.
pub(in crate::job) const PROJECT_FILE: &str = "sluice.yaml";

/// The file of the project that `path` names: itself, or in its folder.
pub(in crate::job) fn file_at(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        let file = path.join(PROJECT_FILE);
        return file.is_file().then_some(file);
    }
    let is_one = path.file_name().is_some_and(|name| name == PROJECT_FILE);
    (is_one && path.is_file()).then(|| path.to_path_buf())
}

/// The nearest project's file in the folder of the pack or job file at `path`, or above it.
pub(in crate::job) fn file_above(path: &Path) -> Option<PathBuf> {
    let folder = if path.is_dir() { path } else { folder_of(path) };
    let absolute = std::path::absolute(folder).ok()?;
    let file = absolute.ancestors().map(|f| f.join(PROJECT_FILE)).find(|file| file.is_file())?;
    // Shown in problems: as short as the path that was given.
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| file.strip_prefix(here).map(Path::to_path_buf).ok());
    Some(short.unwrap_or(file))
}

/// The packs of a project that names none: all sub-folders of `jobs` with job files, else its root.
pub(in crate::job) fn default_packs(root: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let is_pack = |path: &PathBuf| path.is_dir() && folders(path).iter().any(|file| is_job(file));
    let mut packs: Vec<PathBuf> = folders(&root.join("jobs")).into_iter().filter(is_pack).collect();
    packs.sort();
    if packs.is_empty() { vec![root.to_path_buf()] } else { packs }
}

/// Whether the pack or job file at `path` belongs to one of `packs`.
pub(in crate::job) fn holds(packs: &[PathBuf], path: &Path) -> bool {
    let folder = if path.is_dir() { path } else { folder_of(path) };
    let Ok(folder) = fs::canonicalize(folder) else { return false };
    packs.iter().any(|pack| fs::canonicalize(pack).is_ok_and(|pack| pack == folder))
}

/// The folder a file is in, which can be listed.
pub(in crate::job) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
