//! Files whose columns are not those of the schema.

use super::*;

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
        let error = started(value).await.poll(EVERYTHING).await.unwrap_err();
        assert!(error.message().starts_with("the lines of the file end in CR only"), "{error}");
        assert!(error.hint_text().is_some());
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
