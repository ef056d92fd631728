//! Other readers and writers of the same tables: Python's `deltalake`, `polars` and `duckdb`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::place::Place;
use super::{installed, root};

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

/// A foreign OPTIMIZE that goes on over some tables until it is dropped.
pub struct Optimizer {
    child: Child,
    _lifeline: ChildStdin,
}

impl Optimizer {
    pub fn start(place: &Place, tables: &[&str]) -> Self {
        let urls = tables.iter().map(|table| format!("{}/{table}", place.lake()));
        let mut child = Command::new(installed(".venv/bin/python"))
            .arg(root().join("tests/clients/optimize.py"))
            .args(urls)
            .envs(place.env())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lifeline = child.stdin.take().unwrap();
        Self { child, _lifeline: lifeline }
    }
}

impl Drop for Optimizer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One foreign OPTIMIZE of one table.
pub fn optimize(place: &Place, table: &str) {
    damage(place, "optimize", table);
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

    /// Compacts what it saw then, and gives what it said.
    pub fn compact(mut self) -> String {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}
