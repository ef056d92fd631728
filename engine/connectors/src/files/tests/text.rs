//! Text in other encodings, compressed, cut, and what only looks like text.

use super::*;

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[tokio::test]
async fn encodings_are_read_as_they_are_declared() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let marked = utf16("\u{feff}id,Text\n1,\"é\n€\"\n");
    write(folder.path(), "a.csv", &marked);
    write(folder.path(), "a.csv.zst", zstd::bulk::compress(&marked, 3).unwrap());
    write(folder.path(), "b.csv", utf16("id,Text\n1,\"é\n€\"\n"));
    write(folder.path(), "c.csv", b"id,Text\n1,\"\xe9\n\x80\"\n");
    write(folder.path(), "d.json", utf16("\u{feff}[{\"id\": 1, \"Text\": \"é\\n€\"}]"));
    write(folder.path(), "e.json", "\u{feff}{\"id\": 1, \"Text\": \"é\\n€\"}\n");
    let cases = [
        ("a.csv", "utf-16"),
        ("a.csv.zst", "utf-16"),
        ("b.csv", "utf-16"),
        ("b.csv", "utf-16le"),
        ("c.csv", "windows-1252"),
        ("d.json", "utf-16"),
        ("e.json", "utf-8"),
    ];
    for (name, encoding) in cases {
        let value = json!({"path": path(name), "encoding": encoding, "split_bytes": 1});
        let mut source = started(value).await;
        let intake = source.poll(EVERYTHING).await.unwrap();
        let (rows, rejected) = rows(source.as_ref(), &intake).await;
        assert_eq!((rows, rejected), (vec!["1|é\n€".to_string()], vec![]), "{name} {encoding}");
    }
}

#[tokio::test]
async fn what_only_looks_like_text_cannot_be_read_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let gzip = csv_file(&numbers(0..10), true);
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("a.csv", utf16("\u{feff}id,Text\n1,x\n"), "encoding: utf-16"),
        ("b.csv", utf16("id,Text\n1,x\n"), "encoding: utf-16"),
        ("c.json", utf16("{\"id\": 1}\n"), "encoding: utf-16"),
        ("d.csv", gzip.clone(), "compression: gzip"),
        ("e.csv.zst", gzip, "check that it is zstd and whole"),
        ("f.json", b"PAR1\x15\x04..".to_vec(), "format: parquet"),
    ];
    for (name, bytes, hint) in cases {
        write(folder.path(), name, bytes);
        let mut source = started(json!({"path": folder.path().join(name)})).await;
        let intake = source.poll(EVERYTHING).await.unwrap();
        let [set_aside] = intake.unreadable.as_slice() else { panic!("{name}: {intake:?}") };
        assert!(set_aside.object.ends_with(name), "{set_aside:?}");
        assert!(set_aside.reason.contains(hint), "{set_aside:?}");
        assert_eq!(intake.splits, []);
    }
}

#[tokio::test]
async fn zstd_that_is_cut_short_names_the_file_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let whole = zstd::bulk::compress(&csv_file(&numbers(0..100_000), false), 3).unwrap();
    write(folder.path(), "a.csv.zst", &whole[..whole.len() - 5]);
    let mut source = started(json!({"path": folder.path().join("a.csv.zst")})).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let error = read_all(source.as_ref(), &intake).await.unwrap_err();
    assert!(error.message().ends_with(&format!("a.csv.zst at={}", whole.len() - 5)), "{error}");
}

/// Lines of which some are bad.
const LINE: &str =
    "(\\{\"id\": ?[0-9]{1,3}(,\"Text\":\"(a|\\\\\\\\n|é){0,5}\")?\\}|\\{\"id\": x|é)?\r?\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn splits_of_any_size_give_the_same_lines(
        lines in prop::collection::vec(LINE, 0..60),
        split_bytes in 1_u64..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), "a.jsonl", format!("\u{feff}{}", lines.concat()));
            let path = folder.path().join("a.jsonl").display().to_string();
            let (rows, rejected, one) = read_split(&path, 1 << 30).await;
            let (again, rejected_again, _) = read_split(&path, split_bytes).await;
            prop_assert!(one <= 1);
            prop_assert_eq!((rows, rejected), (again, rejected_again));
            Ok(())
        })?;
    }
}
