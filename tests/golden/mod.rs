//! Cases as data: a job or a pack, input in portions, and what queries answer after each.
//!
//! Every portion is a run of its own, so state is restored between them. After each, the expected
//! queries, `audit` and `verify` hold; after the last, one more run finds nothing to do and
//! changes nothing. All portions at once give the same last answers. A first line `# <query>` in an expected file says what is asked, the rest is
//! the exact answer as CSV. A file `exit` says which code the run of a portion ends with.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::place::{Kind, Place, listing};
use crate::support::root;

struct Case {
    folder: PathBuf,
    place: Place,
}

impl Case {
    fn new(name: &str, kind: Kind) -> Self {
        let folder = root().join("tests/golden").join(name);
        let place = Place::new(kind);
        copy(&folder.join("job"), &place.path("job"));
        fs::create_dir_all(place.path("input")).unwrap();
        Self { folder, place }
    }

    /// Runs every portion; fails at the first answer that is not as expected.
    fn check(&self) {
        let portions = children(&self.folder.join("input"));
        assert!(portions.len() > 1, "{}: one portion is no restart", self.folder.display());
        for portion in &portions {
            copy(portion, &self.place.path("input"));
            let expected = self.folder.join("expected").join(portion.file_name().unwrap());
            let code = fs::read_to_string(expected.join("exit")).unwrap_or("0".to_string());
            self.place.job("run", "job").expect(code.trim().parse().unwrap());
            self.answers(&expected);
        }
        self.place.job("run", "job").ok();
        let last = self.folder.join("expected").join(portions.last().unwrap().file_name().unwrap());
        self.answers(&last);
    }

    /// All portions in one epoch give what they gave one after another.
    fn check_at_once(&self) {
        let portions = children(&self.folder.join("input"));
        portions.iter().for_each(|portion| copy(portion, &self.place.path("input")));
        let expected =
            self.folder.join("expected").join(portions.last().unwrap().file_name().unwrap());
        let fails = expected.join("exit").exists();
        if !fails {
            self.place.job("run", "job").ok();
            self.answers_but(&expected, &["epoch"]);
        }
    }

    fn answers(&self, expected: &Path) {
        self.answers_but(expected, &[]);
    }

    /// Asks everything but queries with one of the words `without`.
    fn answers_but(&self, expected: &Path, without: &[&str]) {
        let mut asked = 0;
        for file in children(expected).iter().filter(|f| f.extension().is_some()) {
            let text = fs::read_to_string(file).unwrap();
            let (query, answer) = text.split_once('\n').unwrap();
            let query = query.strip_prefix("# ").unwrap();
            if without.iter().any(|word| query.contains(word)) {
                continue;
            }
            let sql = self.place.job("sql", "job").arg(query).arg("--format").arg("csv").ok();
            assert_eq!(sql.stdout, answer, "{}: {query}", file.display());
            asked += 1;
        }
        assert!(asked > 0, "{}: nothing is asked", expected.display());
        self.place.holds("job");
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for (file, _) in listing(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}

fn check(name: &str) {
    Case::new(name, Kind::Local).check();
    Case::new(name, Kind::S3).check();
    Case::new(name, Kind::Local).check_at_once();
}

#[test]
fn append() {
    check("append");
}

#[test]
fn json() {
    check("json");
}

#[test]
fn dialects() {
    check("dialects");
}

#[test]
fn upsert() {
    check("upsert");
}

#[test]
fn late() {
    check("late");
}

#[test]
fn views() {
    check("views");
}

#[test]
fn dataset() {
    check("dataset");
}

#[test]
fn quirks() {
    check("quirks");
}

#[test]
fn pack() {
    check("pack");
}

#[test]
fn fail() {
    check("fail");
}

#[test]
fn every_case_is_run() {
    let text = fs::read_to_string(root().join("tests/golden/mod.rs")).unwrap();
    for case in children(&root().join("tests/golden")).iter().filter(|path| path.is_dir()) {
        let name = case.file_name().unwrap().to_string_lossy();
        assert!(text.contains(&format!("check(\"{name}\")")), "{name} is not run");
    }
}
