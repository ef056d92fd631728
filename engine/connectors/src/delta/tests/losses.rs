//! What is gone, or is another table than before, stops the job; who accepts the loss goes on.

use serde_json::json;
use sluice_core::{Intake, Kind, Source, Start};

use super::{EVERYTHING, SCHEMA, Table, after, rows};

/// A table of four versions of which the first two were read.
async fn half_read() -> (Table, Start, Box<dyn Source>) {
    let mut table = Table::new();
    table.append("a.parquet", &[1]);
    let mut source = table.started(json!({"ask_every": "0s"}), Start::default()).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let start = after(&intake);
    table.append("b.parquet", &[2]);
    table.append("c.parquet", &[3]);
    (table, start, source)
}

/// What a restart reads, and what the run that goes on does: an error first, then, with the loss
/// accepted, these rows.
async fn lost(
    table: &Table,
    start: Start,
    mut running: Box<dyn Source>,
    message: &str,
    want: &[&str],
) -> Intake {
    let mut again = table.started(json!({}), start.clone()).await;
    for source in [&mut again, &mut running] {
        let error = source.poll(EVERYTHING).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.message().contains(message), "{error}");
        assert!(error.hint_text().unwrap().contains("--accept-loss"));
    }
    let mut accepting = table.started(json!({}), Start { accept_loss: true, ..start }).await;
    let intake = accepting.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(accepting.as_ref(), &intake).await, want);
    assert_eq!(intake.notes.len(), 1, "{:?}", intake.notes);
    // From there on nothing is missing.
    let mut after = table.started(json!({}), after(&intake)).await;
    assert!(after.poll(EVERYTHING).await.unwrap().advances.is_empty());
    intake
}

#[tokio::test]
async fn versions_that_were_cleaned_up_are_named() {
    let (mut table, start, running) = half_read().await;
    table.append("d.parquet", &[4]);
    let checkpoint =
        sluice_lake::store::open(table.path().to_str().unwrap(), &sluice_core::Secrets::default());
    sluice_lake::delta::checkpoint(&checkpoint.unwrap()).await.unwrap();
    for version in 0..=3 {
        std::fs::remove_file(table.entry(version)).unwrap();
    }
    let message = "versions were cleaned up before they were read";
    let intake = lost(&table, start, running, message, &["4"]).await;
    assert_eq!(intake.lost, 2);
    assert!(intake.notes[0].contains("from=2 to=3"), "{:?}", intake.notes);
}

#[tokio::test]
async fn a_table_that_was_made_again_is_another_one() {
    let (mut table, start, running) = half_read().await;
    std::fs::remove_dir_all(table.path().join("_delta_log")).unwrap();
    table.next = 0;
    table.commit(&[Table::protocol(), Table::metadata("another", SCHEMA)]);
    table.append("e.parquet", &[5]);
    table.append("f.parquet", &[6]);
    lost(&table, start, running, "another table stands in the place", &["5", "6"]).await;
}

#[tokio::test]
async fn a_table_that_is_replaced_in_its_own_log_is_another_one() {
    let (mut table, start, running) = half_read().await;
    let removes = ["a.parquet", "b.parquet", "c.parquet"].map(Table::remove);
    let add = table.add("e.parquet", &[5]);
    let lines = [&[Table::metadata("another", SCHEMA), add][..], &removes[..]].concat();
    table.commit(&lines);
    table.append("f.parquet", &[6]);
    // What comes before is read first.
    let mut source = running;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await, ["2", "3"]);
    let error = source.poll(EVERYTHING).await.unwrap_err();
    assert!(error.message().contains("another table"), "{error}");
    let accepting = Start { accept_loss: true, ..start };
    let mut source = table.started(json!({}), accepting).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await, ["2", "3", "5", "6"]);
    assert!(source.poll(EVERYTHING).await.unwrap().advances.is_empty());
}

#[tokio::test]
async fn a_table_that_was_set_back_is_noticed() {
    let (mut table, _, mut source) = half_read().await;
    let start = after(&source.poll(EVERYTHING).await.unwrap());
    std::fs::remove_file(table.entry(3)).unwrap();
    table.next = 3;
    lost(&table, start.clone(), source, "the table was set back", &[]).await;
    // Another version of the same number is no better.
    table.append("g.parquet", &[7]);
    table.append("h.parquet", &[8]);
    let mut source = table.started(json!({}), start.clone()).await;
    let error = source.poll(EVERYTHING).await.unwrap_err();
    assert!(error.message().contains("the log was rewritten"), "{error}");
    let mut source = table.started(json!({}), Start { accept_loss: true, ..start }).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await, ["8"]);
}

#[tokio::test]
async fn a_file_that_was_deleted_is_named_after_what_comes_before_it() {
    let (table, start, mut running) = half_read().await;
    std::fs::remove_file(table.path().join("c.parquet")).unwrap();
    let intake = running.poll(EVERYTHING).await.unwrap();
    assert_eq!((rows(running.as_ref(), &intake).await, intake.more), (vec!["2".into()], true));
    let error = running.poll(EVERYTHING).await.unwrap_err();
    assert!(error.message().contains("a file was deleted before it was read version=3"), "{error}");
    let mut source = table.started(json!({}), Start { accept_loss: true, ..start }).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((rows(source.as_ref(), &intake).await, intake.lost), (vec!["2".into()], 1));
}

#[tokio::test]
async fn a_table_that_is_gone_is_no_end() {
    let (table, start, mut running) = half_read().await;
    std::fs::remove_dir_all(table.path().join("_delta_log")).unwrap();
    let mut again = table.started(json!({}), start).await;
    for source in [&mut again, &mut running] {
        let error = source.poll(EVERYTHING).await.unwrap_err();
        assert!(error.message().starts_with("the table is gone table="), "{error}");
    }
}
