//! The files that are meant, and how a job names them.
//!
//! In: paths as they were typed: files, folders, patterns, or the list a shell made of a pattern.
//! Out: files, a few of them to be looked at, and the shortest `path:` that means the same files.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::{Context, Error, Result};
use sluice_lake::store;

use super::super::object::{Found, Object};
use super::super::pattern::Pattern;
use super::super::source::Root;

/// Files that are looked into: enough to meet what differs between them.
const SAMPLE_FILES_MAX: usize = 100;

/// Small files are looked into although they are more, if they have no more bytes than these.
const SMALL_FILES_MAX: usize = 2000;
const SMALL_FILES_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Signs of a pattern that hardly ever stand in names.
const WILD: [char; 2] = ['*', '?'];

/// Endings of compressed files.
const PACKED: [&str; 3] = [".gz", ".zst", ".zstd"];

/// What was found.
pub(super) struct Listing {
    /// All files, by path.
    pub(super) objects: Vec<Object>,
    /// What a job says to mean them.
    pub(super) paths: Vec<String>,
    /// Files of the folders that are of another kind, by their ending.
    pub(super) left_out: BTreeMap<String, usize>,
}

/// Finds the files of `paths`. Errors: `Config` when there are none.
pub(super) async fn find(paths: &[String], context: &Context) -> Result<Listing> {
    let mut objects: Vec<Object> = Vec::new();
    let mut known = BTreeSet::new();
    let mut left_out = BTreeMap::new();
    let mut one_file = false;
    for path in paths {
        let (mut listed, is_file) = list(path, context).await?;
        one_file = is_file;
        if !path.contains(WILD) {
            listed = of_one_kind(listed, &mut left_out);
        }
        for object in listed {
            if known.insert(object.found().path.clone()) {
                objects.push(object);
            }
        }
    }
    objects.sort_by(|a, b| a.found().path.cmp(&b.found().path));
    if objects.is_empty() {
        let message = format!("no file is there path={}", paths.join(", "));
        return Err(Error::config(message).hint("name files, a folder or a quoted pattern"));
    }
    let paths = match paths {
        [path] if one_file => vec![literal(path)],
        [path] if path.contains(WILD) => vec![path.clone()],
        [path] => vec![of_folder(path, &objects)],
        several => shortest(several, &objects, context).await?,
    };
    Ok(Listing { objects, paths, left_out })
}

/// Of the files of a folder those with the ending that has most of the bytes; the others are
/// counted.
fn of_one_kind(objects: Vec<Object>, left_out: &mut BTreeMap<String, usize>) -> Vec<Object> {
    let kind = |o: &Object| plain(ending(&o.found().path)).to_string();
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for object in &objects {
        *bytes.entry(kind(object)).or_default() += object.found().size;
    }
    let Some((most, _)) = bytes.into_iter().max_by_key(|(_, bytes)| *bytes) else {
        return objects;
    };
    let (kept, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(|o| kind(o) == most);
    for object in others {
        *left_out.entry(kind(&object)).or_default() += 1;
    }
    kept
}

/// An ending without that of the compression.
fn plain(ending: &str) -> &str {
    PACKED.iter().find_map(|packed| ending.strip_suffix(packed)).unwrap_or(ending)
}

/// Some of `objects`, spread over all of them.
pub(super) fn some(objects: &[Object]) -> Vec<Object> {
    let bytes: u64 = objects.iter().map(|object| object.found().size).sum();
    let small = objects.len() <= SMALL_FILES_MAX && bytes <= SMALL_FILES_BYTES_MAX;
    let count = if small { objects.len() } else { objects.len().min(SAMPLE_FILES_MAX) };
    let at = |i: usize| i * (objects.len() - 1) / (count - 1).max(1);
    (0..count).filter_map(|i| objects.get(at(i)).cloned()).collect()
}

/// A path as a pattern that means this path only.
pub(super) fn literal(path: &str) -> String {
    let mut text = String::new();
    for c in path.chars() {
        match c {
            '*' | '?' | '[' | '{' => text.extend(['[', c, ']']),
            c => text.push(c),
        }
    }
    text
}

/// The ending of a path: `.csv`, `.csv.gz`.
pub(super) fn ending(path: &str) -> &str {
    let name = &path[path.rfind('/').map_or(0, |at| at + 1)..];
    let bare = plain(name);
    bare.rfind('.').filter(|at| *at > 0).map_or(&name[bare.len()..], |at| &name[at..])
}

/// The files of one path, and whether it is itself a file. A path that exists is taken as it
/// stands, whatever signs are in it.
async fn list(path: &str, context: &Context) -> Result<(Vec<Object>, bool)> {
    let listed = list_pattern(path, context).await?;
    if listed.0.is_empty() && path.contains(['[', '{']) {
        return list_pattern(&literal(path), context).await;
    }
    Ok(listed)
}

async fn list_pattern(path: &str, context: &Context) -> Result<(Vec<Object>, bool)> {
    let pattern = Pattern::new(path)?;
    let location = store::open(pattern.base(), &context.secrets)?;
    let (store, base) = (location.store.clone(), location.path.to_string());
    let root = Root { pattern, location };
    // Every file ends with nothing: a folder means all its files here.
    let found = root.list(0, &[""]).await?;
    let is_file = found.first().is_some_and(|f| f.location == base);
    let objects = found.into_iter().map(|found: Found| Object::new(store.clone(), found));
    Ok((objects.collect::<Result<_>>()?, is_file))
}

/// What a job says to mean exactly `objects`.
async fn shortest(paths: &[String], objects: &[Object], context: &Context) -> Result<Vec<String>> {
    let parent = |path: &str| path.rfind('/').map_or(String::new(), |at| path[..=at].to_string());
    let folders: BTreeSet<String> = paths.iter().map(|path| parent(path)).collect();
    let endings: BTreeSet<&str> = paths.iter().map(|path| ending(path)).collect();
    if let (Some(folder), Some(end), 1, 1) =
        (folders.first(), endings.first(), folders.len(), endings.len())
    {
        let pattern = format!("{}*{}", literal(folder), literal(end));
        let (found, _) = list_pattern(&pattern, context).await?;
        let same = found.len() == objects.len();
        if same && found.iter().all(|f| objects.iter().any(|o| o.found().path == f.found().path)) {
            return Ok(vec![pattern]);
        }
    }
    Ok(paths.iter().map(|path| literal(path)).collect())
}

/// A folder as a pattern: which files are meant does not depend on what a format calls its own.
fn of_folder(path: &str, objects: &[Object]) -> String {
    let endings: BTreeSet<&str> = objects.iter().map(|o| ending(&o.found().path)).collect();
    let folder = literal(path.trim_end_matches('/'));
    let list: Vec<&str> = endings.into_iter().map(|e| e.trim_start_matches('.')).collect();
    match list.as_slice() {
        [""] => format!("{folder}/**/*"),
        [one] => format!("{folder}/**/*.{one}"),
        several => format!("{folder}/**/*.{{{}}}", several.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_what_patterns_are_made_of() {
        let cases = [
            ("a/b.csv", ".csv"),
            ("a/b.csv.gz", ".csv.gz"),
            ("a/2024.01.csv.zst", ".csv.zst"),
            ("a/b", ""),
            ("a/b.gz", ".gz"),
            ("a.d/b", ""),
            (".hidden", ""),
        ];
        for (path, wanted) in cases {
            assert_eq!(ending(path), wanted, "{path}");
        }
        assert_eq!(literal("a[1]*.csv"), "a[[]1][*].csv");
    }
}
