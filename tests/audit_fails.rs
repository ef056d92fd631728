//! `audit` can fail: a lake is damaged, and it names what is wrong and ends with 1.

use std::fs;

use crate::protocol::ledger::{JOB, Ledger};
use crate::support::clients::damage;
use crate::support::place::{Kind, listing};

/// A lake that is right; `complete` has seen `audit` succeed.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new(Kind::Local);
    ledger.feed(3);
    ledger.run().ok();
    ledger.complete();
    ledger
}

/// `audit` ends with 1 and its table of checks says each of `parts`.
fn audit_names(ledger: &Ledger, parts: &[&str]) {
    let output = ledger.place.job("audit", JOB).arg("--json").expect(1);
    for part in parts {
        assert!(output.stdout.contains(part), "`{part}` is not named\n{}", output.text());
    }
    let text = ledger.place.job("audit", JOB).expect(1);
    assert!(text.stdout.contains("FAILED"), "{}", text.text());
}

#[test]
fn a_data_file_is_gone() {
    let ledger = ledger();
    let path = damage(&ledger.place, "lose", "facts");
    let name = path.trim().rsplit('/').next().unwrap();
    audit_names(&ledger, &["table facts", name]);
}

#[test]
fn a_file_of_a_dataset_is_gone() {
    let ledger = ledger();
    let files = listing(&ledger.place.lake_folder().join("archive"));
    let (path, _) = &files[0];
    fs::remove_file(path).unwrap();
    audit_names(&ledger, &["table archive"]);
}

#[test]
fn a_manifest_is_gone() {
    let ledger = ledger();
    let name = "_sluice/ledger/epochs/00000000000000000001.json";
    fs::remove_file(ledger.place.lake_folder().join(name)).unwrap();
    audit_names(&ledger, &["epoch 1"]);
}

#[test]
fn a_manifest_is_changed() {
    let ledger = ledger();
    let name = "_sluice/ledger/epochs/00000000000000000001.json";
    let path = ledger.place.lake_folder().join(name);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"decoded\":", "\"decoded\": ", 1)).unwrap();
    audit_names(&ledger, &["epoch 2"]);
}

#[test]
fn a_range_of_rows_is_doubled() {
    let ledger = ledger();
    let path = damage(&ledger.place, "double", "facts");
    let name = path.trim().rsplit('/').next().unwrap();
    audit_names(&ledger, &["table facts", name]);
}

#[test]
fn a_range_of_rows_of_a_dataset_is_doubled() {
    let ledger = ledger();
    let files = listing(&ledger.place.lake_folder().join("archive"));
    let (path, _) = &files[0];
    // A name that readers take for a file of the job: the next number of the same epoch.
    let name = path.file_name().unwrap().to_string_lossy().replace(".parquet", "0.parquet");
    fs::copy(path, path.with_file_name(&name)).unwrap();
    audit_names(&ledger, &["table archive"]);
}
