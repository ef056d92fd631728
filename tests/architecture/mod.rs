//! The house rules that can be counted, checked over the repository's own text.
//!
//! Each rule is a pure function from text to findings, with a test that shows it finding something
//! in a made-up bad input; the tests in this file run them all over what is really here. Style
//! that needs judgement is not checked.

mod code;
mod crates;
mod form;
mod ladder;
mod map;

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;
use code::Code;

/// Every Rust file of the repository, path from its root.
fn rust_files() -> Vec<(String, Code)> {
    let mut found = Vec::new();
    for top in ["engine", "tests", "benches"] {
        walk(&root().join(top), &mut |path| {
            if path.extension().is_some_and(|e| e == "rs") {
                found.push((relative(path), Code::new(&read(path))));
            }
        });
    }
    assert!(found.len() > 20, "only {} Rust files found", found.len());
    found
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

fn nothing(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn files_and_functions_stay_small_and_say_what_they_are_for() {
    nothing(rust_files().iter().flat_map(|(path, code)| form::check(path, code)).collect());
}

#[test]
fn folders_stay_small_and_shallow() {
    let paths: Vec<String> = rust_files().into_iter().map(|(path, _)| path).collect();
    nothing(form::check_folders(&paths));
}

#[test]
fn lints_are_bypassed_nowhere_but_at_the_real_clock() {
    nothing(rust_files().iter().flat_map(|(path, code)| form::check_lints(path, code)).collect());
}

#[test]
fn modules_use_only_those_below_them() {
    let files = rust_files();
    let mut findings = Vec::new();
    for ladder in [&ladder::LAKE, &ladder::RUNTIME] {
        for (path, code) in &files {
            findings.extend(ladder::check(ladder, path, code));
        }
    }
    nothing(findings);
}

#[test]
fn crates_use_only_those_below_them() {
    let mut manifests = Vec::new();
    walk(root(), &mut |path| {
        let path_text = relative(path);
        // Programs that stand for others beside ours are none of its crates.
        let others = ["target/", "benches/peers/"];
        if path_text.ends_with("Cargo.toml") && !others.iter().any(|o| path_text.starts_with(o)) {
            manifests.push((path_text, read(path)));
        }
    });
    nothing(crates::check(&manifests));
    let files: Vec<String> = rust_files().into_iter().map(|(path, _)| path).collect();
    nothing(crates::check_test_executables(&manifests, &files));
}

#[test]
fn the_readme_map_is_true() {
    let ignored = read(&root().join(".gitignore"));
    let folders: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !ignored.lines().any(|l| l == format!("/{name}")))
        .collect();
    let readme = read(&root().join("README.md"));
    nothing(map::check(&readme, &folders));
    let lost: Vec<String> = map::paths(&readme)
        .into_iter()
        .filter(|path| !root().join(path).exists())
        .map(|path| format!("README.md: the map names {path}, which is not there"))
        .collect();
    nothing(lost);
}

#[test]
fn every_folder_has_a_readme_whose_links_lead_somewhere() {
    let mut readmes = Vec::new();
    walk(root(), &mut |path| {
        let path_text = relative(path);
        if path_text.ends_with(".md") && !path_text.starts_with("target/") {
            readmes.push(path.to_path_buf());
        }
    });
    let mut findings = Vec::new();
    for folder in map::folders(&read(&root().join("README.md"))) {
        if !root().join(&folder).join("README.md").is_file() {
            findings.push(format!("{folder}: no README.md"));
        }
    }
    for readme in readmes {
        for link in map::links(&read(&readme)) {
            if !readme.parent().unwrap().join(&link).exists() {
                findings.push(format!("{}: link to nothing: {link}", relative(&readme)));
            }
        }
    }
    nothing(findings);
}

#[test]
fn continuous_integration_runs_the_command_of_the_readme() {
    let readme = read(&root().join("README.md"));
    let run = read(&root().join(".ci/run"));
    nothing(map::check_test_command(&readme, &run));
}
