//! Other readers and writers of the same tables: Python's `deltalake`, `polars` and `duckdb`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use super::place::Place;
use super::{cli, installed, root, wait};

/// How long a client may take to end; far more than any does on a busy machine.
const SECONDS_MAX: u64 = 300;

/// Runs a script to its end and gives what it printed; fails when it fails.
pub fn python(script: &Path, args: &[&str], env: &BTreeMap<String, String>) -> String {
    let output = Command::new(installed(".venv/bin/python"))
        .arg(script)
        .args(args)
        .envs(env)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {args:?}\n{said}", script.display());
    String::from_utf8(output.stdout).unwrap()
}

/// The count of rows and the sums of columns, as another client reads them.
///
/// `client` is `deltalake`, `polars` or `duckdb` for a Delta table, `parquet` for DuckDB on a
/// folder of Parquet files with partition folders.
pub fn totals(place: &Place, client: &str, table: &str, columns: &[&str]) -> Vec<String> {
    let url = format!("{}/{table}", place.lake());
    let mut args = vec![client, url.as_str()];
    args.extend(columns);
    let printed = python(&root().join("tests/clients/totals.py"), &args, place.env());
    printed.lines().map(str::to_string).collect()
}

/// Damages a Delta table the way a foreign writer could: see `damage.py`.
pub fn damage(place: &Place, what: &str, table: &str) -> String {
    let url = format!("{}/{table}", place.lake());
    python(&root().join("tests/clients/damage.py"), &[what, &url], place.env())
}

/// A foreign OPTIMIZE that goes on over some tables until it is stopped.
pub struct Optimizer {
    child: Child,
    lifeline: Option<ChildStdin>,
    log: TempDir,
}

impl Optimizer {
    pub fn start(place: &Place, tables: &[&str]) -> Self {
        let log = tempfile::tempdir().unwrap();
        let urls = tables.iter().map(|table| format!("{}/{table}", place.lake()));
        let mut child = Command::new(installed(".venv/bin/python"))
            .arg(root().join("tests/clients/optimize.py"))
            .args(urls)
            .envs(place.env())
            .stdin(Stdio::piped())
            .stdout(File::create(log.path().join("stdout")).unwrap())
            .stderr(File::create(log.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let lifeline = child.stdin.take();
        Self { child, lifeline, log }
    }

    /// How many compactions have gone into a table's log so far; fails when it has died.
    pub fn committed(&mut self) -> usize {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the foreign OPTIMIZE has died\n{}", self.said());
        self.commits()
    }

    /// Keeps it from working while `work` goes on.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        cli::signal(self.child.id(), "STOP");
        let done = work();
        cli::signal(self.child.id(), "CONT");
        done
    }

    /// Lets it finish what it is at. Gives how many compactions it has committed in all; fails when
    /// anything went wrong that a writer beside others need not expect.
    pub fn stop(mut self) -> usize {
        drop(self.lifeline.take());
        let what = "the end of the foreign OPTIMIZE";
        let status = wait::until(what, SECONDS_MAX, || self.child.try_wait().unwrap());
        assert!(status.success(), "the foreign OPTIMIZE failed\n{}", self.said());
        self.commits()
    }

    fn commits(&self) -> usize {
        let said = fs::read_to_string(self.log.path().join("stdout")).unwrap();
        said.lines().filter(|line| line.starts_with("committed ")).count()
    }

    fn said(&self) -> String {
        let streams = ["stdout", "stderr"].map(|stream| self.log.path().join(stream));
        streams.map(|file| fs::read_to_string(file).unwrap()).concat()
    }
}

impl Drop for Optimizer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One foreign OPTIMIZE of one table; fails when there was nothing to compact.
pub fn optimize(place: &Place, table: &str) {
    damage(place, "optimize", table);
}

/// One foreign OPTIMIZE that sorts a table: it replaces every file, a single one too.
pub fn sort(place: &Place, table: &str) {
    damage(place, "sort", table);
}

/// A foreign OPTIMIZE that has looked at a table and has not begun yet.
pub struct StaleOptimizer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl StaleOptimizer {
    /// Looks at the table as it is now.
    pub fn load(place: &Place, table: &str) -> Self {
        let mut child = Command::new(installed(".venv/bin/python"))
            .arg(root().join("tests/clients/stale.py"))
            .arg(format!("{}/{table}", place.lake()))
            .envs(place.env())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "loaded\n", "{table} cannot be read");
        Self { child, said }
    }

    /// Compacts what it saw then, and says whether it was refused or how many files it removed.
    pub fn compact(mut self) -> String {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}
