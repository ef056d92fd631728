//! `audit --sources`: what brokers hold of the ranges that were taken is counted again. Markers,
//! aborted and compacted records are no loss; rows that no epoch took, and rows that never were, are
//! told with their ranges, also where the manifests add up.

use std::fs;

use serde_json::{Value, json};

use super::source::{compacted, compacted_more};
use super::stream::{JOB, Stream, rows};
use crate::support::kafka::{Broker, Outcome};

/// The job's manifests in the lake.
const EPOCHS: &str = "_sluice/samples/epochs";
/// The length of a manifest's name: twenty digits and `.json`.
const NAME_LENGTH: usize = 25;

/// What the audit that counts at the broker says of the source; it ends with `code`.
fn told(stream: &Stream<'_>, code: i32) -> String {
    let audit = stream.place.job("audit", JOB).arg("--sources").arg("--json").expect(code);
    let said: Value = serde_json::from_str(&audit.stdout).unwrap();
    let checks = said["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["check"] == "source samples").unwrap();
    assert_eq!(check["ok"], json!(code == 0), "{}", audit.text());
    check["detail"].as_str().unwrap().to_string()
}

fn says(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "`{part}` is not said: {told}");
    }
}

/// Makes the last manifest say that so many rows more were taken, and as many positions fewer were
/// gaps: what an epoch would say that took a record for a gap, or a gap for a record.
fn miscount(stream: &Stream<'_>, more: i64) {
    let names = stream.place.names(EPOCHS);
    let last = names.iter().filter(|name| name.len() == NAME_LENGTH).max().unwrap();
    let path = stream.place.lake_folder().join(EPOCHS).join(last);
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (figure, by) in [("rows/decoded", more), ("gaps", -more)] {
        let figure = manifest.pointer_mut(&format!("/sources/samples/{figure}")).unwrap();
        *figure = json!(figure.as_i64().unwrap() + by);
    }
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn gaps_are_told_from_rows_that_no_epoch_took() {
    let broker = Broker::shared();
    let topic = broker.topic("recounted", 2, &[]);
    let stream = Stream::of(broker, &topic);
    broker.transact(&topic, &rows(0, 40, 2), Outcome::Commit);
    broker.transact(&topic, &rows(40, 30, 2), Outcome::Abort);
    broker.produce(&topic, &rows(70, 10, 2));
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 50);
    // Two transactions leave a marker each in both partitions.
    let counted = [
        "50 rows taken, 50 there now, 0 positions deleted since",
        "30 are aborted rows, 4 markers of transactions",
    ];
    says(&told(&stream, 0), &counted);

    // In each, 20 rows and a marker, 15 aborted and a marker, 5 rows.
    let ranges = [0, 1].map(|partition| format!("{topic}/{partition} 0..42 has 25"));
    let named = |what: &str, stream: &Stream<'_>| {
        // What the manifests say adds up all the same.
        stream.audit();
        says(&told(stream, 1), &[what, &ranges[0], &ranges[1]]);
    };
    miscount(&stream, -3);
    named("3 rows in the ranges that were taken are in no epoch", &stream);
    miscount(&stream, 4);
    named("1 rows more were taken than the ranges ever held", &stream);
    miscount(&stream, -1);
    says(&told(&stream, 0), &counted);

    // What retention deletes later is no loss either: it was taken.
    broker.lose(&topic, 0, 10);
    says(&told(&stream, 0), &["50 rows taken, 40 there now, 10 positions deleted since"]);
}

#[test]
fn compaction_is_no_loss_before_a_run_and_after_it() {
    let broker = Broker::shared();
    let (topic, written) = compacted(broker);
    let stream = Stream::of(broker, &topic);
    stream.run().ok();
    let held = stream.cell("SELECT count(*) FROM kept");
    assert!(held.parse::<u64>().unwrap() < written, "{held} rows of {written}");
    let taken = format!("{held} rows taken, ");
    says(&told(&stream, 0), &[&taken, "passed over or compacted"]);
    compacted_more(broker, &topic, written);
    let told = told(&stream, 0);
    says(&told, &[&taken, "passed over or compacted"]);
    let there = told.split(&taken).nth(1).and_then(|rest| rest.split(' ').next());
    let there: u64 = there.unwrap().parse().unwrap();
    assert!(there < held.parse::<u64>().unwrap(), "nothing that was taken is gone: {told}");
}
