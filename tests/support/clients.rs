//! Other readers and writers of the same tables: Python's `deltalake`, `polars` and `duckdb`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

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

/// One foreign OPTIMIZE of one table.
pub fn optimize(place: &Place, table: &str) {
    damage(place, "optimize", table);
}
