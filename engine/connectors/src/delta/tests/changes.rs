//! What versions do: to rows, in a feed and without one, and to columns.

use serde_json::json;
use sluice_core::testing::source_conformance;
use sluice_core::{Kind, Limit, Start};

use super::{EVERYTHING, SCHEMA, Table, after, rows};

#[tokio::test]
async fn a_feed_has_all_changes_and_those_that_came_last() {
    let mut table = Table::new();
    table.append("a.parquet", &[1, 2, 3]);
    // An update of two files with change files; the new rows of the first come before the old ones.
    let changes = ["update_postimage", "update_preimage", "delete"];
    let sizes = [
        table.write("_change_data/1.parquet", &[1, 1, 2], Some(&changes)),
        table.write("_change_data/2.parquet", &[3, 4], Some(&["update_preimage", "insert"])),
    ];
    let cdc = |n: usize| {
        json!({"cdc": {"path": format!("_change_data/{}.parquet", n + 1), "size": sizes[n],
            "partitionValues": {"day": "2026-01-02"}, "dataChange": false}})
    };
    let add = table.add("b.parquet", &[1, 4]);
    table.commit(&[cdc(0), cdc(1), Table::remove("a.parquet"), add]);
    // An overwrite without change files, a compaction.
    let add = table.add("c.parquet", &[5]);
    table.commit(&[add, Table::remove("b.parquet")]);
    let (mut add, mut remove) = (table.add("d.parquet", &[5]), Table::remove("c.parquet"));
    add["add"]["dataChange"] = json!(false);
    remove["remove"]["dataChange"] = json!(false);
    table.commit(&[add, remove]);

    let more = json!({"changes": "feed", "start": {"version": 1}});
    let want = [
        "insert 1",
        "insert 2",
        "insert 3",
        "update_preimage 1",
        "delete 2",
        "update_preimage 3",
        "update_postimage 1",
        "insert 4",
        "delete 1",
        "delete 4",
        "insert 5",
    ];
    let mut source = table.started(more.clone(), Start::default()).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await, want);
    // The same in pieces, each by another process.
    let (mut start, mut all) = (Start::default(), Vec::new());
    loop {
        let mut source = table.started(more.clone(), start).await;
        let intake = source.poll(Limit { files: 1, ..EVERYTHING }).await.unwrap();
        if intake.advances.is_empty() {
            break;
        }
        all.extend(rows(source.as_ref(), &intake).await);
        start = after(&intake);
    }
    assert_eq!(all, want);
    source_conformance(async || table.build(more.clone()).await, Limit { files: 1, ..EVERYTHING })
        .await
        .unwrap();
}

#[tokio::test]
async fn appends_refuse_other_changes_or_pass_over_them() {
    let mut table = Table::new();
    table.append("a.parquet", &[1]);
    let add = table.add("b.parquet", &[2]);
    table.commit(&[Table::remove("a.parquet"), add]);
    table.append("c.parquet", &[3]);
    let from_start = json!({"start": {"version": 0}});
    let mut source = table.started(from_start, Start::default()).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((rows(source.as_ref(), &intake).await, intake.more), (vec!["1".into()], true));
    for _ in 0..2 {
        let error = source.poll(EVERYTHING).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.message().contains("version=2 operation=\"TEST\""), "{error}");
        assert!(error.hint_text().unwrap().contains("changes: feed"));
    }
    let ignoring = json!({"start": {"version": 0}, "on_change": "ignore"});
    let mut source = table.started(ignoring, Start::default()).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await, ["1", "3"]);
    assert_eq!(intake.notes.len(), 1);
}

#[tokio::test]
async fn columns_may_come_but_not_go_or_change() {
    let without = SCHEMA.replace("Text", "other");
    let wider = SCHEMA.replace(
        r#""fields":["#,
        r#""fields":[{"name":"n","type":"long","nullable":true,"metadata":{}},"#,
    );
    let retyped = SCHEMA.replace("string", "binary");
    for (schema, message) in [
        (&wider, None),
        (&without, Some("a column is not in the table any more column=Text version=2")),
        (&retyped, Some("a column is of another type column=Text")),
    ] {
        let mut table = Table::new();
        table.append("a.parquet", &[1]);
        let mut source = table.started(json!({}), Start::default()).await;
        let first = source.poll(EVERYTHING).await.unwrap();
        let add = table.add("b.parquet", &[2]);
        table.commit(&[Table::metadata("t", schema), add]);
        let again = table.started(json!({}), after(&first)).await;
        for mut source in [source, again] {
            let polled = source.poll(EVERYTHING).await;
            match message {
                None => assert_eq!(rows(source.as_ref(), &polled.unwrap()).await, ["2"]),
                Some(message) => {
                    let error = polled.unwrap_err();
                    assert!(error.message().contains(message), "{error}");
                    assert!(error.message().contains("version=2"), "{error}");
                }
            }
        }
    }
    // A column that came with a later version is null before it.
    let mut table = Table::new();
    table.commit(&[Table::metadata("t", &without)]);
    table.append("a.parquet", &[1]);
    let mut source = table.started(json!({}), Start::default()).await;
    let error = source.poll(EVERYTHING).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.message().contains("column=Text"), "{error}");
    table.commit(&[Table::metadata("t", SCHEMA)]);
    let mut source = table.started(json!({"start": {"version": 2}}), Start::default()).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await, ["1"]);
}
