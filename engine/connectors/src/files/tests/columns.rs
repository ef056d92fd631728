//! Files whose columns are not those of the schema.

use super::*;

/// The rows of an intake, all columns but the position.
async fn wide(source: &dyn Source, intake: &Intake) -> Vec<String> {
    let (batches, _) = read_all(source, intake).await.unwrap();
    let line = |batch: &RecordBatch, row: usize| {
        let columns = &batch.columns()[..batch.num_columns() - 1];
        let cell = |c: &Arc<dyn arrow::array::Array>| {
            arrow::util::display::array_value_to_string(c, row).unwrap()
        };
        columns.iter().map(cell).collect::<Vec<_>>().join("|")
    };
    batches.iter().flat_map(|b| (0..b.num_rows()).map(move |row| line(b, row))).collect()
}

#[tokio::test]
async fn columns_that_do_not_fit_stop_the_poll_or_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "new.csv", "Text,extra,id\nx,1,7\n");
    write(folder.path(), "less.csv", "id\n7\n");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let fails = [
        (json!({"path": path("new.csv")}), "the file has a column of its own column=extra"),
        (json!({"path": path("less.csv")}), "a column is missing in the file column=Text"),
    ];
    for (value, message) in fails {
        let error = started(value).await.poll(EVERYTHING).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.message().starts_with(message), "{error}");
        assert!(error.hint_text().is_some());
    }
    let reads = [
        (json!({"path": path("new.csv"), "on_new_column": "ignore"}), "7|x"),
        (json!({"path": path("less.csv"), "on_missing_column": "null"}), "7|"),
    ];
    for (value, row) in reads {
        let mut source = started(value).await;
        let intake = source.poll(EVERYTHING).await.unwrap();
        assert_eq!(rows(source.as_ref(), &intake).await.0, [row]);
    }
}

#[tokio::test]
async fn lines_that_end_in_cr_only_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    write(folder.path(), "old.csv", "id,Text\r7,x\r8,y\r");
    for header in [true, false] {
        let value = json!({"path": path("old.csv"), "header": header});
        let intake = started(value).await.poll(EVERYTHING).await.unwrap();
        let [file] = &intake.unreadable[..] else { panic!("{:?}", intake.unreadable) };
        assert!(file.reason.starts_with("the lines of the file end in CR only; "), "{file:?}");
        assert_eq!((intake.splits.len(), intake.advances.len()), (0, 1));
    }
    // Within quotes, or at the end of the only line, it is something else.
    write(folder.path(), "one.csv", "id,\"Te\rxt\",Text\r");
    let value = json!({"path": path("one.csv"), "on_new_column": "ignore"});
    assert_eq!(started(value).await.poll(EVERYTHING).await.unwrap().splits.len(), 0);
}

#[tokio::test]
async fn an_epoch_ends_before_a_file_with_a_new_column() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "1.csv", "id,Text\n1,a\n");
    write(folder.path(), "2.csv", "id,Text\n2,b\n");
    write(folder.path(), "3.csv", "id,Text,extra\n3,c,!\n");
    write(folder.path(), "4.csv", "id,Text\n4,d\n");
    let pattern = folder.path().join("*.csv").display().to_string();
    let mut source = started(json!({"path": pattern})).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert!(intake.more);
    assert_eq!(rows(source.as_ref(), &intake).await.0, ["1|a", "2|b"]);
    for _ in 0..2 {
        let error = source.poll(EVERYTHING).await.unwrap_err();
        assert!(error.message().contains("3.csv"), "{error}");
    }
    write(folder.path(), "3.csv", "id,Text\n3,c\n");
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await.0, ["3|c", "4|d"]);
}

#[tokio::test]
async fn a_new_column_is_asked_for_and_then_read() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "1.csv", "id,Text\n1,a\n");
    write(folder.path(), "2.csv", "id,Text,Unit Price\n2,b,7\n");
    write(folder.path(), "3.csv", "id,text2,Text,Unit Price\n3,!,c,8\n");
    let pattern = folder.path().join("*.csv").display().to_string();
    let value = json!({"path": pattern, "on_new_column": "add"});
    let mut source = started(value.clone()).await;
    let first = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &first).await.0, ["1|a"]);
    // The first file that is wider ends the epoch; what those behind it have is told as well.
    let asked: Vec<(&str, &str)> =
        first.columns.iter().map(|c| (c.name.as_str(), c.origin())).collect();
    assert_eq!(asked, [("unit_price", "Unit Price"), ("text2", "text2")]);
    let again = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((again.advances.len(), again.columns.len(), again.more), (0, 2, true));

    let mut wider = config(value);
    wider.schema.as_mut().unwrap().fields.extend(first.columns);
    let mut source = SourceFactory::build(&Factory, &wider, &context()).await.unwrap();
    let last = first.advances.last().unwrap();
    let offsets = [(last.partition.clone(), last.to.clone())].into();
    let state = first.state.into_iter().collect();
    source.seek(Start { offsets, state, ..Start::default() }).await.unwrap();
    let second = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(second.columns, []);
    assert_eq!(wide(source.as_ref(), &second).await, ["2|b|7|", "3|c|8|!"]);
    // Files without a learned column are read although `on_missing_column` says `fail`.
    write(folder.path(), "4.csv", "id,Text\n4,d\n");
    let third = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(wide(source.as_ref(), &third).await, ["4|d||"]);
}

#[tokio::test]
async fn a_key_of_json_is_asked_for_once_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let line = "{\"id\": 1, \"Text\": \"a\", \"unitPrice\": 7, \"text\": 1}\n";
    write(folder.path(), "1.jsonl", line);
    let value = json!({"path": folder.path(), "format": "json", "on_new_column": "add"});
    let mut source = started(value.clone()).await;
    let first = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(first.columns, []);
    // Nothing was read yet.
    assert_eq!(source.poll(EVERYTHING).await.unwrap().columns, []);
    let rescued = r#"1|a|{"unitPrice":7,"text":1}"#;
    for _ in 0..2 {
        assert_eq!(wide(source.as_ref(), &first).await, [rescued]);
    }
    write(folder.path(), "2.jsonl", "{\"id\": 2, \"text\": [true]}\n");
    let asked = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((asked.advances.len(), asked.splits.len(), asked.more), (0, 0, true));
    let names: Vec<(&str, &str)> =
        asked.columns.iter().map(|c| (c.name.as_str(), c.origin())).collect();
    assert_eq!(names, [("unit_price", "unitPrice"), ("text_2", "text")]);
    assert_eq!(source.poll(EVERYTHING).await.unwrap().columns, asked.columns);

    let mut wider = config(value);
    wider.schema.as_mut().unwrap().fields.extend(asked.columns);
    let mut source = SourceFactory::build(&Factory, &wider, &context()).await.unwrap();
    let offsets = [("files".to_string(), first.advances[0].to.clone())].into();
    let state = first.state.into_iter().collect();
    source.seek(Start { offsets, state, ..Start::default() }).await.unwrap();
    let second = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(wide(source.as_ref(), &second).await, ["2|||[true]|"]);
    assert_eq!(source.poll(EVERYTHING).await.unwrap().columns, []);
}

#[tokio::test]
async fn keys_that_are_data_do_not_become_columns_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let max = json_format::LEARNED_MAX;
    let line = |i: usize| format!("{{\"id\": {i}, \"day {i:04}\": 1}}\n");
    write(folder.path(), "1.jsonl", (0..max + 50).map(line).collect::<String>());
    let value = json!({"path": folder.path(), "format": "json", "on_new_column": "add"});
    let mut source = started(value.clone()).await;
    let first = source.poll(EVERYTHING).await.unwrap();
    read_all(source.as_ref(), &first).await.unwrap();
    let asked = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((asked.columns.len(), asked.columns[max - 1].origin()), (max, "day 0199"));
    assert!(asked.notes[0].starts_with("no more columns are added"), "{:?}", asked.notes);

    let mut wider = config(value);
    wider.schema.as_mut().unwrap().fields.extend(asked.columns);
    let mut source = SourceFactory::build(&Factory, &wider, &context()).await.unwrap();
    source.seek(Start::default()).await.unwrap();
    let again = source.poll(EVERYTHING).await.unwrap();
    let rows = wide(source.as_ref(), &again).await;
    assert!(rows.last().unwrap().ends_with(r#"|{"day 0249":1}"#), "{:?}", rows.last());
    assert_eq!(source.poll(EVERYTHING).await.unwrap().columns, []);
}

#[tokio::test]
async fn what_the_schema_has_no_column_for_is_rescued() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "1.csv", "id,Text\n1,a\n");
    write(folder.path(), "2.csv", "more,id,Text,say\n7,2,b,\"x \"\"y\"\"\"\n,3,c,\n");
    let pattern = folder.path().join("*.csv").display().to_string();
    let mut source = started(json!({"path": pattern, "on_new_column": "rescue"})).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let rows = wide(source.as_ref(), &intake).await;
    assert_eq!(rows, ["1|a|", r#"2|b|{"more":"7","say":"x \"y\""}"#, "3|c|"]);
}

#[tokio::test]
async fn rescued_text_is_read_as_the_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv").display().to_string();
    let text = b"id,Text,nam\xe9\n1,a,caf\xe9 \x80\n2,b,c\n";
    write(folder.path(), "a.csv", text);
    let value = json!({"path": path, "on_new_column": "rescue", "encoding": "windows-1252"});
    let mut source = started(value).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let rescued = wide(source.as_ref(), &intake).await;
    assert_eq!(rescued, [r#"1|a|{"namé":"café €"}"#, r#"2|b|{"namé":"c"}"#]);

    write(folder.path(), "a.csv", b"id,Text,name\n1,a,caf\xe9\n2,b,c\n");
    let mut source = started(json!({"path": path, "on_new_column": "rescue"})).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let (_, rejected) = read_all(source.as_ref(), &intake).await.unwrap();
    let reasons: Vec<(u64, &str)> =
        rejected.iter().map(|r| (r.position, r.reason.as_str())).collect();
    assert_eq!(reasons, [(13, "field name: not valid UTF-8")]);
    assert_eq!(wide(source.as_ref(), &intake).await, [r#"2|b|{"name":"c"}"#]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_taken_once_and_tried_again_when_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "1.csv", "id,Text\n1,a\n");
    write(folder.path(), "2.csv", "id,Text,Text\n2,b,c\n");
    let pattern = folder.path().join("*.csv").display().to_string();
    let value = json!({"path": pattern, "on_changed_file": "fail"});
    let mut source = started(value.clone()).await;
    let first = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &first).await.0, ["1|a"]);
    assert_eq!((first.unreadable.len(), first.unreadable[0].position), (1, 0));
    assert!(first.unreadable[0].object.ends_with("2.csv"));
    assert_eq!(source.poll(EVERYTHING).await.unwrap().advances, []);

    let start = || Start {
        offsets: [("files".to_string(), first.advances[0].to.clone())].into(),
        state: first.state.clone().into_iter().collect(),
        ..Start::default()
    };
    let mut again = build(value).await.unwrap();
    again.seek(start()).await.unwrap();
    assert_eq!(again.poll(EVERYTHING).await.unwrap().advances, []);
    write(folder.path(), "2.csv", "id,Text\n2,b\n");
    let second = again.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(again.as_ref(), &second).await.0, ["2|b"]);

    // Other settings are a reason to try again, too.
    let other = json!({"path": folder.path().join("*.csv"), "delimiter": ";"});
    let mut other = build(other).await.unwrap();
    other.seek(start()).await.unwrap();
    assert_eq!(other.poll(EVERYTHING).await.unwrap().unreadable.len(), 1);
}

#[tokio::test]
async fn what_breaks_off_inside_is_found_by_a_careful_poll() {
    use std::io::Write as _;

    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "1.csv", "id,Text\n1,a\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"id,Text\n").unwrap();
    (0..200_000).for_each(|i| gzip.write_all(format!("{i},x\n").as_bytes()).unwrap());
    let whole = gzip.finish().unwrap();
    std::fs::write(folder.path().join("2.csv.gz"), &whole[..whole.len() / 2]).unwrap();
    let value = json!({"path": folder.path().display().to_string(), "format": "csv"});
    let mut source = started(value.clone()).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((intake.splits.len(), intake.unreadable.len()), (2, 0));
    let read = sluice_core::testing::read_all(source.as_ref(), &intake).await;
    assert_eq!(read.unwrap_err().kind(), Kind::Unreadable);

    let mut careful = build(value).await.unwrap();
    careful.seek(Start { careful: true, ..Start::default() }).await.unwrap();
    let intake = careful.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(careful.as_ref(), &intake).await.0, ["1|a"]);
    assert!(intake.unreadable[0].object.ends_with("2.csv.gz"));
}
