//! Bad data as cases: what becomes of every row and of every file that cannot be read.
//!
//! A folder in `bad-data/` has a job, its input, and the answers expected of queries, `__rejected`
//! with positions and reasons among them: the first line `# <query>` says what is asked, the rest is
//! the exact answer as CSV. A file `exit` says which code the first run ends with; the second finds
//! nothing to do. `audit` and `verify` hold. What would be too large to keep, or changes while it is
//! read, is made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use serde_json::Value;

use crate::support::files::parquet;
use crate::support::place::{Place, listing};
use crate::support::{root, wait};

fn folder() -> PathBuf {
    root().join("tests/bad-data")
}

fn copy(from: &Path, to: &Path) {
    for (file, _) in listing(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}

/// Runs one case; gives what is not as expected.
fn check(case: &Path) -> Vec<String> {
    let place = Place::local();
    copy(case, &place.path("."));
    let wanted = fs::read_to_string(case.join("exit")).unwrap_or("0".to_string());
    let run = place.job("run", "job.yaml").output();
    let mut wrong = Vec::new();
    if run.code != wanted.trim().parse().ok() || run.stderr.contains("panicked") {
        wrong.push(format!("the run ended with {:?}\n{}", run.code, run.text()));
    }
    for again in [false, true] {
        if again {
            place.run("job.yaml");
        }
        for (file, _) in listing(&case.join("expected")) {
            let text = fs::read_to_string(&file).unwrap();
            let (query, answer) = text.split_once('\n').unwrap();
            let query = query.strip_prefix("# ").unwrap();
            let sql = place.job("sql", "job.yaml").arg(query).arg("--format").arg("csv").output();
            if sql.stdout != answer {
                let name = file.file_name().unwrap().display();
                let text = format!("{name}\n{}{}", sql.stdout, sql.stderr);
                wrong.push(format!("{} again={again}: {text}", case.display()));
            }
        }
    }
    place.holds("job.yaml");
    wrong
}

#[test]
fn every_case_has_the_tables_that_are_expected() {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "only {} cases", cases.len());
    let wrong: Vec<String> = cases.iter().flat_map(|case| check(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const LINES: &str = r#"job: lines
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines:
    connector: files
    path: ./input
    format: csv
    schema: {fields: [{name: id, type: int64}, {name: text, type: string}]}
tables:
  kept: {sql: SELECT * FROM lines}
views:
  total: {sql: "SELECT count(*) AS n, sum(id) AS ids FROM kept"}
"#;

fn rejected(place: &Place) -> Vec<Vec<String>> {
    let query = "SELECT regexp_replace(source_file, '.*/', ''), position, split_part(reason, ':', 1) \
                 FROM lines__rejected ORDER BY 1, 2";
    place.sql("lines.yaml", query)
}

#[test]
fn long_lines_are_rows_up_to_the_limit() {
    let place = Place::local();
    place.write("lines.yaml", LINES);
    let (long, longer) = ("x".repeat(10 << 20), "y".repeat(17 << 20));
    place.write("input/1.csv", &format!("id,text\n1,a\n2,{long}\n3,{longer}\n4,b\n"));
    place.run("lines.yaml");
    let lengths = place.sql("lines.yaml", "SELECT id, length(text) FROM kept ORDER BY 1");
    assert_eq!(lengths, [["1", "1"], ["2", "10485760"], ["4", "1"]]);
    let position = ("id,text\n1,a\n2,\n".len() + long.len()).to_string();
    let cut = place
        .sql("lines.yaml", "SELECT position, length(encode(bytes, 'hex')) FROM lines__rejected");
    assert_eq!(cut, [[position, "131072".to_string()]]);
    place.holds("lines.yaml");
}

/// A big file is cut where rows seem to begin; within a long text they only seem to.
#[test]
fn lines_of_a_long_text_are_not_taken_for_rows() {
    let place = Place::local();
    place.write("lines.yaml", &LINES.replace("format: csv", "format: csv\n    split_bytes: 1MiB"));
    let row = |id: u64| format!("{id},a\n");
    let (before, after): (String, String) =
        ((0..20_000).map(row).collect(), (20_001..400_000).map(row).collect());
    let (text, rows) = ("7,x\n".repeat(600_000), 400_000_u64);
    place.write("input/1.csv", &format!("id,text\n{before}20000,\"{text}\"\n{after}"));
    let run = place.job("run", "lines.yaml").output();
    assert_eq!(run.code, Some(0), "{}", run.text());
    let ids = (rows * (rows - 1) / 2).to_string();
    let expected = [[rows.to_string(), ids]];
    assert_eq!(place.sql("lines.yaml", "SELECT n, ids FROM total"), expected);
    let length = place.cell("lines.yaml", "SELECT length(text) FROM kept WHERE id = 20000");
    assert_eq!(length, text.len().to_string());
    place.holds("lines.yaml");
}

/// Text that gzip does not make small.
fn noise(rows: u64) -> String {
    let mut text = "id,text\n".to_string();
    let mut state: u64 = 42;
    for id in 0..rows {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{id},{state:x}\n"));
    }
    text
}

fn gzipped(text: &str) -> Vec<u8> {
    let place = Place::local();
    let path = place.write("whole", text);
    let gzip = Command::new("gzip").arg("--stdout").arg(path).output().unwrap();
    assert!(gzip.status.success());
    gzip.stdout
}

/// The rows of a text as a sink packs them; their order may be another.
fn zstd_packed(text: &str) -> Vec<u8> {
    let place = Place::local();
    let sink = "sinks:\n  packed: {connector: files, from: kept, path: ./packed, \
                format: csv, compression: zstd, files: 1}\n";
    place.write("lines.yaml", &format!("{LINES}{sink}"));
    place.write("input/1.csv", text);
    place.run("lines.yaml");
    let files = listing(&place.path("packed"));
    assert_eq!(files.len(), 1, "{files:?}");
    fs::read(&files[0].0).unwrap()
}

/// Two files of 50,000 rows each that lack their last bytes, and what becomes of them later.
fn break_off_deep_inside(ending: &str, whole: &[u8]) {
    let place = Place::local();
    place.write("lines.yaml", LINES);
    place.write("input/1.csv", "id,text\n1,a\n");
    place.write("input/9.csv", "id,text\n2,b\n");
    let names = ["2", "3"].map(|name| format!("{name}.csv.{ending}"));
    for name in &names {
        fs::write(place.path("input").join(name), &whole[..whole.len() - 1000]).unwrap();
    }
    let run = place.job("run", "lines.yaml").expect(1);
    assert!(run.stdout.contains("2 files could not be read, the rest is sealed"), "{}", run.text());
    let reason = format!("the file cannot be decompressed at={}", whole.len() - 1000);
    let file = |name: &String| [name.clone(), "0".to_string(), reason.clone()];
    assert_eq!(rejected(&place), names.each_ref().map(file));
    assert_eq!(place.sql("lines.yaml", "SELECT n, ids FROM total"), [["2", "3"]]);
    place.holds("lines.yaml");
    place.run("lines.yaml");

    fs::write(place.path("input").join(&names[1]), whole).unwrap();
    place.run("lines.yaml");
    assert_eq!(place.cell("lines.yaml", "SELECT n FROM total"), "50002");
    assert_eq!(rejected(&place).len(), 2, "the row of the first try stays");
    place.holds("lines.yaml");
}

#[test]
fn nothing_of_a_file_that_breaks_off_deep_inside_is_kept_until_it_is_whole() {
    let text = noise(50_000);
    break_off_deep_inside("gz", &gzipped(&text));
    break_off_deep_inside("zst", &zstd_packed(&text));
}

/// A trial that comes to such a file says so, and one that ends before it does not.
#[test]
fn files_that_cannot_be_read_are_named_by_a_trial() {
    let whole = gzipped(&noise(50_000));
    // Where the first look at the file finds it out, and where only reading does.
    for length in [20, whole.len() - 1000] {
        let place = Place::local();
        place.write("lines.yaml", LINES);
        place.write("input/1.csv", "id,text\n1,a\n");
        fs::write(place.path("input/2.csv.gz"), &whole[..length]).unwrap();
        place.write("input/3.csv", "id,text\n3,c\n");
        let tried = |rows: &str| place.job("run", "lines.yaml").arg("--limit").arg(rows);
        let output = tried("100000").expect(1);
        let reason = format!("the file cannot be decompressed at={length}");
        for part in ["1 file could not be read", "input/2.csv.gz", &reason, "\nkept: 2 rows ("] {
            assert!(output.stdout.contains(part), "{part}\n{}", output.text());
        }
        let said: Value =
            serde_json::from_str(&tried("100000").arg("--json").expect(1).stdout).unwrap();
        assert_eq!(said["ok"], false);
        let unreadable = said["jobs"][0]["unreadable"].as_array().unwrap();
        assert_eq!(unreadable.len(), 1, "{said}");
        let path = unreadable[0]["path"].as_str().unwrap();
        assert!(path.ends_with("/input/2.csv.gz"), "{path}");

        let output = tried("1").ok();
        assert!(!output.text().contains("could not be read"), "{}", output.text());
        assert!(!place.lake_folder().exists(), "a trial leaves nothing behind");
    }
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_read_is_taken_as_it_is_in_the_end() {
    for (then, sum) in
        [("id,text\n1,a\n2,b\n3,c\n", 6), ("id,text\n1,a\n", 1), ("id,text\n7,z\n", 7)]
    {
        let place = Place::local();
        place.write("lines.yaml", LINES);
        place.write("input/1.csv", "id,text\n1,a\n2,b\n");
        place.write("input/2.csv", "id,text\n10,x\n");
        let run = place.job("run", "lines.yaml").env("SLUICE_STOP", "polled@1=freeze");
        let mut run = run.start();
        run.wait_frozen();
        fs::write(place.path("input/1.csv"), then).unwrap();
        let output = run.thaw();
        assert_eq!(output.code, Some(0), "{}", output.text());
        output.says(&["the file changed while it was being read", "1.csv", "trying again"]);
        let ids = (sum + 10).to_string();
        assert_eq!(place.cell("lines.yaml", "SELECT ids FROM total"), ids, "{then}");
        place.run("lines.yaml");
        assert_eq!(place.cell("lines.yaml", "SELECT ids FROM total"), ids, "{then}");
        place.holds("lines.yaml");
    }
}

/// As much as is read of a local file at once.
const PIECE_BYTES: u64 = 1 << 20;

/// A file that becomes another, and the rows and the sum of ids of what it is then.
struct Change<'a> {
    name: &'a str,
    before: &'a [u8],
    then: &'a [u8],
    rows: u64,
    ids: u64,
}

impl Change<'_> {
    /// Runs the job over the file and changes it in the middle: when more than a piece of it was
    /// read, and not half. None when the run was faster than that.
    fn in_the_middle(&self) -> Option<Place> {
        let place = Place::local();
        let format = if self.name.ends_with(".parquet") { "parquet" } else { "csv" };
        let format = format!("format: {format}\n    split_bytes: 8MiB");
        place.write("lines.yaml", &LINES.replace("format: csv", &format));
        fs::create_dir(place.path("input")).unwrap();
        let file = place.path("input").join(self.name);
        fs::write(&file, self.before).unwrap();
        let mut run = place.job("run", "lines.yaml").env("SLUICE_STOP", "polled@1=freeze").start();
        run.wait_frozen();
        let at = run.bytes_read().unwrap();
        run.signal("CONT");
        let begun = wait::until("the first piece to be read", 120, || match run.ended() {
            Some(_) => Some(false),
            None => (run.bytes_read()? > at + PIECE_BYTES).then_some(true),
        });
        if !begun {
            return None;
        }
        run.signal("STOP");
        if !run.freezes() || run.bytes_read()? - at > self.before.len() as u64 / 2 {
            return None;
        }
        fs::write(&file, self.then).unwrap();
        let output = run.thaw();
        assert_eq!(output.code, Some(0), "{}\n{}", self.name, output.text());
        output.says(&[self.name, "trying again"]);
        Some(place)
    }

    /// What was read of the file before it changed is not kept.
    fn check(&self) {
        let place = (0..20).find_map(|_| self.in_the_middle());
        let place = place.unwrap_or_else(|| panic!("{} was never met in the middle", self.name));
        for _ in 0..2 {
            let total = place.sql("lines.yaml", "SELECT n, ids FROM total");
            assert_eq!(total, [[self.rows.to_string(), self.ids.to_string()]], "{}", self.name);
            place.run("lines.yaml");
        }
        place.holds("lines.yaml");
    }
}

#[test]
fn a_file_that_changes_behind_its_first_piece_is_read_anew() {
    const ROWS: u64 = 1_500_000;
    let (text, ids) = (noise(ROWS), ROWS * (ROWS - 1) / 2);
    let before = text.as_bytes();
    let then = format!("{text}{ROWS},x\n");
    let then = then.as_bytes();
    Change { name: "grows.csv", before, then, rows: ROWS + 1, ids: ids + ROWS }.check();
    let then = b"id,text\n1,a\n2,b\n";
    Change { name: "shrinks.csv", before, then, rows: 2, ids: 3 }.check();
    // Of the same size, and other at a place that was read.
    let then = text.replacen("\n0,", "\n9,", 1);
    let then = then.as_bytes();
    Change { name: "other.csv", before, then, rows: ROWS, ids: ids + 9 }.check();
}

#[test]
fn a_packed_file_that_changes_behind_its_first_piece_is_read_anew() {
    const ROWS: u64 = 1_000_000;
    let (before, then) = (gzipped(&noise(ROWS)), gzipped(&noise(ROWS + 1)));
    let (before, then) = (before.as_slice(), then.as_slice());
    let ids = ROWS * (ROWS + 1) / 2;
    Change { name: "grows.csv.gz", before, then, rows: ROWS + 1, ids }.check();
}

#[test]
fn a_parquet_file_that_changes_behind_its_first_piece_is_read_anew() {
    const ROWS: u64 = 1_500_000;
    let (before, then) = (numbered(ROWS), numbered(ROWS + 1));
    let (before, then) = (before.as_slice(), then.as_slice());
    let ids = ROWS * (ROWS + 1) / 2;
    Change { name: "grows.parquet", before, then, rows: ROWS + 1, ids }.check();
    let then = numbered(3);
    let then = then.as_slice();
    Change { name: "shrinks.parquet", before, then, rows: 3, ids: 3 }.check();
}

/// The ids from 0 on in a Parquet file.
fn numbered(rows: u64) -> Vec<u8> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let texts = (0..rows).map(|id| format!("text {id}"));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    parquet(vec![("id", ids), ("text", texts)])
}

/// 3,000 small files, as a sensor writes them.
#[test]
fn many_small_files_are_taken_once() {
    let place = Place::local();
    place.write("lines.yaml", &LINES.replace("tables:", "epoch: {files: 1000}\ntables:"));
    for i in 0..3000 {
        let folder = place.path(&format!("input/{}", i / 500));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{i}.csv")), format!("id,text\n{i},a\n{i},b\n")).unwrap();
    }
    place.run("lines.yaml");
    let ids = (2999 * 3000).to_string();
    let expected = [["6000".to_string(), ids]];
    assert_eq!(place.sql("lines.yaml", "SELECT n, ids FROM total"), expected);
    let epoch = place.next_epoch("lines.yaml");
    assert!(epoch >= 3, "{epoch} epochs");
    place.run("lines.yaml");
    assert_eq!(place.next_epoch("lines.yaml"), epoch, "nothing is new");
    assert_eq!(place.sql("lines.yaml", "SELECT n, ids FROM total"), expected);
    place.holds("lines.yaml");
}
