//! A place where one test has its lake: a folder of its own, or a bucket of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::cli::{Output, Sluice};
use super::store::{self, Dialect, ObjectStore};
use super::{csv, root};

/// A folder for job files and input, and where the lake is.
pub struct Place {
    folder: TempDir,
    lake: String,
    env: BTreeMap<String, String>,
    /// A store of its own, which ends with the place.
    _store: Option<ObjectStore>,
}

/// Every kind of place, for tests that run on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Local,
    S3,
    Gcs,
    Azure,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Local, Kind::S3, Kind::Gcs, Kind::Azure];

    /// Those in a cloud.
    pub const CLOUDS: [Kind; 3] = [Kind::S3, Kind::Gcs, Kind::Azure];

    fn dialect(self) -> Option<Dialect> {
        match self {
            Kind::Local => None,
            Kind::S3 => Some(Dialect::S3),
            Kind::Gcs => Some(Dialect::Gcs),
            Kind::Azure => Some(Dialect::Azure),
        }
    }
}

impl Place {
    pub fn new(kind: Kind) -> Self {
        match kind.dialect() {
            None => Self::local(),
            Some(dialect) => Self::on(store::shared(dialect)),
        }
    }

    pub fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = folder.path().join("lake").display().to_string();
        Self { folder, lake, env: BTreeMap::new(), _store: None }
    }

    /// A lake in a new bucket of `store`.
    pub fn on(store: &ObjectStore) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = format!("{}/lake", store.bucket());
        Self { folder, lake, env: store.env(), _store: None }
    }

    /// This place on local disk, or its lake copied to an object store of its own, as old as it is.
    pub fn moved_to(self, kind: Kind) -> Self {
        let Some(dialect) = kind.dialect() else { return self };
        let store = ObjectStore::holding(dialect, self.lake_folder());
        let lake = format!("{}{}", dialect.url(store::HELD), self.lake());
        Self { folder: self.folder, lake, env: store.env(), _store: Some(store) }
    }

    /// URL or path of the lake.
    pub fn lake(&self) -> &str {
        &self.lake
    }

    /// The environment that reaches it.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// A path in the folder, which need not exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The lake's folder, on local disk.
    pub fn lake_folder(&self) -> &Path {
        assert!(self.env.is_empty(), "this lake is not on local disk");
        Path::new(&self.lake)
    }

    /// The names of what lies in a folder of the lake, folders not counted on an object store.
    pub fn names(&self, folder: &str) -> Vec<String> {
        if self.env.is_empty() {
            let entries = fs::read_dir(self.lake_folder().join(folder)).unwrap();
            return entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        }
        self.objects(folder).into_iter().map(|(_, name)| name).collect()
    }

    /// The size and the name of each object in a folder of the lake, on an object store.
    pub fn objects(&self, folder: &str) -> Vec<(u64, String)> {
        let script = root().join("tests/clients/names.py");
        let listed = super::clients::python(&script, &[&self.lake, folder], &self.env);
        let object = |line: &str| {
            let (size, name) = line.split_once(' ').unwrap();
            (size.parse::<u64>().unwrap(), name.to_string())
        };
        listed.lines().map(object).collect()
    }

    /// Writes a file in the folder, with the folders above it, under its final name at once.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, text).unwrap();
        fs::rename(&unfinished, &path).unwrap();
        path
    }

    /// `sluice <args>` in the folder; add the job's path and what it needs.
    pub fn sluice(&self, args: &[&str]) -> Sluice {
        Sluice::new(args).folder(self.folder.path()).envs(&self.env)
    }

    /// `sluice <command> <job>` with the lake set.
    pub fn job(&self, command: &str, job: &str) -> Sluice {
        self.sluice(&[command, job]).arg("--set").arg(format!("lake={}", self.lake))
    }

    /// Runs the job once; fails unless it succeeds.
    pub fn run(&self, job: &str) -> Output {
        self.job("run", job).ok()
    }

    /// The rows of a query, without the header.
    pub fn sql(&self, job: &str, query: &str) -> Vec<Vec<String>> {
        self.table(job, query).split_off(1)
    }

    /// The rows of a query, header first.
    pub fn table(&self, job: &str, query: &str) -> Vec<Vec<String>> {
        let output = self.job("sql", job).arg(query).arg("--format").arg("csv").ok();
        csv::parse(&output.stdout)
    }

    /// The one cell of a query's only row.
    pub fn cell(&self, job: &str, query: &str) -> String {
        let rows = self.sql(job, query);
        assert!(rows.len() == 1 && rows[0].len() == 1, "{query}: {rows:?}");
        rows[0][0].clone()
    }

    /// One figure per part, each the rest of a `SELECT` with a single answer.
    pub fn figures(&self, job: &str, parts: &[&str]) -> Vec<String> {
        self.sql(job, &figures(parts)).remove(0)
    }

    /// The number of the epoch that a run would open.
    pub fn next_epoch(&self, job: &str) -> u64 {
        let status = self.job("status", job).arg("--json").ok().stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["jobs"][0]["sealed"].as_u64().map_or(0, |sealed| sealed + 1)
    }

    /// Audit and verify hold.
    pub fn holds(&self, job: &str) {
        self.job("audit", job).ok();
        self.job("verify", job).ok();
    }
}

/// One row of figures as a query, each with a name of its own.
fn figures(parts: &[&str]) -> String {
    let named = parts.iter().enumerate().map(|(i, part)| format!("(SELECT {part}) AS f{i}"));
    format!("SELECT {}", named.collect::<Vec<_>>().join(", "))
}

/// All files below `folder`, sorted, with their sizes.
pub fn listing(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries.map(|entry| entry.unwrap()) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push((entry.path(), entry.metadata().unwrap().len())),
            }
        }
    }
    found.sort();
    found
}
