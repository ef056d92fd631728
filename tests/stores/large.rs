//! Files that are uploaded in more than two parts, and read again in several pieces, on every store
//! in a cloud.

use crate::support::clients::totals;
use crate::support::place::{Kind, Place};

/// Enough that the table's file and the sink's are both larger than two parts of theirs.
const ROWS: u64 = 60_000;

/// More than two parts of 5 MiB, and more than two of 8 MiB.
const BYTES_MIN: [(&str, u64); 2] = [("kept", 12 << 20), ("export", 17 << 20)];

/// Text that no codec makes much smaller, and that follows from the row's number.
const NOISE: &str = "concat(encode(sha512(concat('a', id)), 'base64'), \
                     encode(sha512(concat('b', id)), 'base64'), \
                     encode(sha512(concat('c', id)), 'base64'), \
                     encode(sha512(concat('d', id)), 'base64'))";

const WRITES: &str = r#"job: writes
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  numbers: {connector: generate, rows: ROWS, columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: "SELECT id, NOISE AS noise FROM numbers"}
sinks:
  export: {connector: files, from: kept, path: "${vars.lake}/export", format: csv, files: 1}
"#;

const READS: &str = r#"job: reads
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines:
    connector: files
    path: "${vars.lake}/export/*.csv"
    split_bytes: 6MiB
    schema: {fields: [{name: id, type: int64}, {name: noise, type: string}]}
tables:
  again: {sql: "SELECT id, noise FROM lines"}
"#;

/// Every row is there with its text, by our reader and by another, and the audit holds.
fn complete(place: &Place, job: &str, table: &str) {
    let (rows, ids) = (ROWS.to_string(), (ROWS * (ROWS + 1) / 2).to_string());
    let query = format!(
        "SELECT count(*) AS n, sum(id) AS ids, count(*) FILTER (WHERE noise = {NOISE}) AS whole \
         FROM {table}"
    );
    assert_eq!(place.sql(job, &query), [[rows.as_str(), &ids, &rows]], "{table}");
    assert_eq!(totals(place, "deltalake", table, &["id"]), [rows, ids], "{table}");
    place.job("audit", job).ok();
}

fn large_files_go_and_come(kind: Kind) {
    let place = Place::new(kind);
    place.write("writes.yaml", &WRITES.replace("ROWS", &ROWS.to_string()).replace("NOISE", NOISE));
    place.write("reads.yaml", READS);
    // One thread writes one file.
    place.job("run", "writes.yaml").arg("--threads").arg("1").ok();
    complete(&place, "writes.yaml", "kept");
    for (folder, bytes_min) in BYTES_MIN {
        let objects = place.objects(folder);
        assert!(objects.iter().any(|(bytes, _)| *bytes > bytes_min), "{folder}: {objects:?}");
    }
    place.run("reads.yaml");
    complete(&place, "reads.yaml", "again");
}

#[test]
fn large_files_go_and_come_on_s3() {
    large_files_go_and_come(Kind::S3);
}

#[test]
fn large_files_go_and_come_on_gcs() {
    large_files_go_and_come(Kind::Gcs);
}

#[test]
fn large_files_go_and_come_on_azure() {
    large_files_go_and_come(Kind::Azure);
}
