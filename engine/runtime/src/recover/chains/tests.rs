//! What several chains show as one, by examples.

use super::*;

fn record(job: &str, epoch: u64, life: &str, tables: &[(&str, i64)]) -> Published {
    let table = |(name, version): &(&str, i64)| {
        let location = format!("lake/{name}");
        ((*name).to_string(), PublishedTable::Delta { location, version: *version })
    };
    Published {
        epoch,
        incarnation: life.to_string(),
        job: job.to_string(),
        published_at_ms: epoch as i64,
        tables: tables.iter().map(table).collect(),
    }
}

#[test]
fn each_table_is_seen_at_its_newest_version() {
    let own = record("j", 2, "a", &[("t", 5), ("u", 9)]);
    let others = vec![
        record("j@0of2", 7, "a", &[("t", 8), ("u", 4), ("t__quarantine", 0)]),
        record("j@1of2", 3, "a", &[("t", 7)]),
    ];
    let seen = united(own, others);
    assert_eq!((seen.epoch, seen.published_at_ms), (2 + 8 + 4, 7));
    assert_eq!(seen.tables, record("", 0, "", &[("t", 8), ("u", 9), ("t__quarantine", 0)]).tables);
}

#[test]
fn records_of_an_earlier_life_only_count() {
    let seen =
        united(record("j", 0, "b", &[("t", 1)]), vec![record("j@0of1", 4, "a", &[("t", 9)])]);
    assert_eq!((seen.epoch, seen.published_at_ms), (5, 0));
    assert_eq!(seen.tables, record("", 0, "", &[("t", 1)]).tables);
}

#[test]
fn names_tell_the_job() {
    assert_eq!(shard_chain("lines", Shard { index: 2, count: 4 }), "lines@2of4");
    assert_eq!(replay_chain("lines", Again::Rejected, "raw"), "lines@replay-rejected-raw");
}
