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

use crate::support::place::{Place, listing};
use crate::support::root;

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
    assert!(cases.len() >= 17, "only {} cases", cases.len());
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

fn gzipped(place: &Place, text: &str) -> Vec<u8> {
    let path = place.write("whole", text);
    let gzip = Command::new("gzip").arg("--stdout").arg(path).output().unwrap();
    assert!(gzip.status.success());
    gzip.stdout
}

#[test]
fn nothing_of_a_file_that_breaks_off_deep_inside_is_kept_until_it_is_whole() {
    let place = Place::local();
    place.write("lines.yaml", LINES);
    let whole = gzipped(&place, &noise(50_000));
    place.write("input/1.csv", "id,text\n1,a\n");
    place.write("input/9.csv", "id,text\n2,b\n");
    for name in ["input/2.csv.gz", "input/3.csv.gz"] {
        fs::write(place.path(name), &whole[..whole.len() - 1000]).unwrap();
    }
    let run = place.job("run", "lines.yaml").expect(1);
    assert!(run.stdout.contains("2 files could not be read, the rest is sealed"), "{}", run.text());
    let reason = format!("the file cannot be decompressed at={}", whole.len() - 1000);
    let file = |name: &str| [name, "0", &reason].map(str::to_string);
    assert_eq!(rejected(&place), [file("2.csv.gz"), file("3.csv.gz")]);
    assert_eq!(place.sql("lines.yaml", "SELECT n, ids FROM total"), [["2", "3"]]);
    place.holds("lines.yaml");
    place.run("lines.yaml");

    fs::write(place.path("input/3.csv.gz"), &whole).unwrap();
    place.run("lines.yaml");
    assert_eq!(place.cell("lines.yaml", "SELECT n FROM total"), "50002");
    assert_eq!(rejected(&place).len(), 2, "the row of the first try stays");
    place.holds("lines.yaml");
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
