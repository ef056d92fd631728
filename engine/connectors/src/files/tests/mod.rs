//! The `files` source against folders on disk, and the settings of both ends.

mod columns;
mod memory;
mod scan;
mod text;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::cast::AsArray;
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_core::testing::{read_all, source_conformance};
use sluice_core::{
    Config, Context, DataSchema, FileSizing, Intake, Kind, Limit, ManualClock, Problems, Rejected,
    Result, Secrets, Source, Start, Unbounded,
};

use super::*;
use crate::format::compress::Codec;
use crate::format::csv::{Dialect, Encoder};
use crate::format::{json as json_format, parquet};

const EVERYTHING: Limit = Limit { rows: u64::MAX, bytes: u64::MAX, files: u64::MAX };

fn config(value: Value) -> Config {
    let fields = json!({"fields": [
        {"name": "id", "type": "int64"},
        {"name": "text", "from": "Text", "type": "string"},
    ]});
    let schema: DataSchema = serde_json::from_value(fields).unwrap();
    Config {
        name: "sales".into(),
        file: "job.yaml".into(),
        value,
        spans: Default::default(),
        schema: Some(schema),
    }
}

fn context() -> Context {
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    Context { clock, memory: Unbounded::shared(), secrets: Secrets::default(), job: "j".into() }
}

/// The source in a pool of its own, at its beginning.
async fn started_in(memory: Arc<dyn sluice_core::Memory>, value: Value) -> Box<dyn Source> {
    let context = Context { memory, ..context() };
    let mut source = SourceFactory::build(&Factory, &config(value), &context).await.unwrap();
    source.seek(Start::default()).await.unwrap();
    source
}

async fn build(value: Value) -> Result<Box<dyn Source>> {
    SourceFactory::build(&Factory, &config(value), &context()).await
}

async fn started(value: Value) -> Box<dyn Source> {
    let mut source = build(value).await.unwrap();
    source.seek(Start::default()).await.unwrap();
    source
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Moves the time of a file, so that a change is seen however coarse the disk's clock is.
fn touch(folder: &Path, name: &str, seconds: u64) {
    let file = std::fs::File::options().append(true).open(folder.join(name)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// The rows of an intake as `id|text`, and what was rejected.
async fn rows(source: &dyn Source, intake: &Intake) -> (Vec<String>, Vec<Rejected>) {
    let (batches, rejected) = read_all(source, intake).await.unwrap();
    let shown = batches.iter().flat_map(|batch| {
        let (ids, texts) = (batch.column(0), batch.column(1).as_string::<i32>().clone());
        let ids = ids.as_primitive::<Int64Type>().clone();
        (0..batch.num_rows()).map(move |i| format!("{}|{}", ids.value(i), texts.value(i)))
    });
    (shown.collect(), rejected)
}

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    let texts: Vec<String> = range.clone().map(|i| format!("text, {i}\nof a row")).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(range)) as _),
        ("Text", Arc::new(StringArray::from(texts)) as _),
    ])
    .unwrap()
}

fn encoded(mut encoder: Box<dyn sluice_core::FileEncoder>, rows: &RecordBatch) -> Vec<u8> {
    encoder.write(rows).unwrap();
    let mut bytes = encoder.take();
    bytes.extend(encoder.finish().unwrap());
    bytes
}

fn csv_file(rows: &RecordBatch, gzip: bool) -> Vec<u8> {
    encoded(
        Box::new(
            Encoder::new(rows.schema(), Dialect::default(), true, gzip.then_some(Codec::Gzip))
                .unwrap(),
        ),
        rows,
    )
}

#[tokio::test]
async fn all_formats_keep_the_promises_of_a_source() {
    for ending in ["csv", "csv.gz", "csv.zst", "jsonl", "jsonl.zst", "parquet"] {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..5 {
            let rows = numbers(i * 1000..(i + 1) * 1000);
            let bytes = match ending {
                "csv" => csv_file(&rows, false),
                "csv.gz" => csv_file(&rows, true),
                "csv.zst" => zstd::bulk::compress(&csv_file(&rows, false), 3).unwrap(),
                "jsonl" | "jsonl.zst" => {
                    let codec = Codec::of(ending);
                    encoded(
                        Box::new(json_format::Encoder::new(&rows.schema(), codec).unwrap()),
                        &rows,
                    )
                }
                _ => encoded(Box::new(parquet::Encoder::new(rows.schema()).unwrap()), &rows),
            };
            write(folder.path(), &format!("{i}.{ending}"), bytes);
        }
        let value = json!({
            "path": format!("{}/*.{ending}", folder.path().display()), "split_bytes": 10_000,
        });
        let limit = Limit { files: 2, ..EVERYTHING };
        source_conformance(async || build(value.clone()).await, limit).await.unwrap();
        let mut source = started(value).await;
        let intake = source.poll(EVERYTHING).await.unwrap();
        assert_eq!(intake.splits.len() > 5, matches!(ending, "csv" | "jsonl"), "{ending}");
        let (rows, rejected) = rows(source.as_ref(), &intake).await;
        assert_eq!((rows.len(), rejected.len()), (5000, 0), "{ending}");
        assert_eq!(rows[4999], "4999|text, 4999\nof a row");
    }
}

#[tokio::test]
async fn paths_are_files_folders_and_patterns() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.csv", "a.csv", "sub/c.csv", "sub/_tmp/d.csv", "e.txt"] {
        write(folder.path(), name, "id,Text\n1,x\n");
    }
    let at = |path: &str| format!("{}/{path}", folder.path().display());
    let cases = [
        (json!([at("b.csv")]), vec!["b.csv"]),
        (json!([at("")]), vec!["a.csv", "b.csv", "sub/c.csv"]),
        (json!([at("*.csv"), at("a.csv")]), vec!["a.csv", "b.csv"]),
        (json!([at("**/?.*"), at("none")]), vec!["a.csv", "b.csv", "e.txt", "sub/c.csv"]),
        (json!([at("none.csv")]), vec![]),
        (json!([at("none/*.csv")]), vec![]),
    ];
    for (path, names) in cases {
        let mut source = started(json!({"path": path, "format": "csv"})).await;
        let intake = source.poll(EVERYTHING).await.unwrap();
        let found: Vec<&str> = intake.splits.iter().map(|s| s.object.as_str()).collect();
        let wanted: Vec<String> = names.iter().map(|name| at(name)).collect();
        assert_eq!(found, wanted, "{path}");
        assert_eq!(intake.notes.is_empty(), !names.is_empty());
        assert_eq!(source.poll(EVERYTHING).await.unwrap().notes, Vec::<String>::new());
    }
}

#[tokio::test]
async fn limits_cut_between_files() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..4 {
        write(folder.path(), &format!("{i}.csv"), csv_file(&numbers(0..100), false));
    }
    let size = csv_file(&numbers(0..100), false).len() as u64;
    for (limit, files) in [
        (Limit { files: 3, ..EVERYTHING }, 3),
        (Limit { bytes: size + 1, ..EVERYTHING }, 2),
        (Limit { bytes: 1, ..EVERYTHING }, 1),
        (Limit { rows: 1, ..EVERYTHING }, 1),
    ] {
        let mut source = started(json!({"path": folder.path(), "format": "csv"})).await;
        let intake = source.poll(limit).await.unwrap();
        assert_eq!((intake.splits.len(), intake.more), (files, true), "{limit:?}");
    }
}

/// The rows, positions and rejected rows of one file read with splits of `split_bytes`.
async fn read_split(path: &str, split_bytes: u64) -> (Vec<RecordBatch>, Vec<Rejected>, usize) {
    let mut source = started(json!({"path": path, "split_bytes": split_bytes})).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let (batches, rejected) = read_all(source.as_ref(), &intake).await.unwrap();
    let schema = source.reader().schema();
    let rows = arrow::compute::concat_batches(&schema, &batches).unwrap();
    (vec![rows], rejected, intake.splits.len())
}

/// Records of which some are bad: stray quotes, text after quotes, quotes that stay open.
const RECORD: &str = "[0-9x]{0,3},(\"[a\n,]{0,6}\"|[a\"]{0,4}|\"\"\"\n\"|\"a)\r?\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn splits_of_any_size_give_the_same_rows(
        records in prop::collection::vec(RECORD, 0..60),
        split_bytes in 1_u64..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let text = format!("id,Text\n{}", records.concat());
            write(folder.path(), "a.csv", &text);
            let path = folder.path().join("a.csv").display().to_string();
            let (rows, rejected, one) = read_split(&path, 1 << 30).await;
            let (again, rejected_again, _) = read_split(&path, split_bytes).await;
            prop_assert!(one <= 1);
            prop_assert_eq!((rows, rejected), (again, rejected_again));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_changed_file_is_dealt_with_as_the_job_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv").display().to_string();
    let old = "id,Text\n1,x\n2,y\n";
    let grown = "id,Text\n1,x\n2,y\n3,z\n";
    for (policy, text, wanted, retracted) in [
        ("warn", grown, vec![], 0),
        ("replace", grown, vec!["1|x", "2|y", "3|z"], 1),
        ("append_tail", grown, vec!["3|z"], 0),
    ] {
        write(folder.path(), "a.csv", old);
        touch(folder.path(), "a.csv", 1_000);
        let value = json!({"path": path, "on_changed_file": policy});
        let mut source = started(value.clone()).await;
        let first = source.poll(EVERYTHING).await.unwrap();
        assert_eq!(source.poll(EVERYTHING).await.unwrap().advances, []);
        write(folder.path(), "a.csv", text);
        touch(folder.path(), "a.csv", 2_000);
        let second = source.poll(EVERYTHING).await.unwrap();
        assert_eq!(rows(source.as_ref(), &second).await.0, wanted, "{policy}");
        assert_eq!(second.retracted.len(), retracted, "{policy}");
        assert_eq!(second.notes.len(), usize::from(policy == "warn"), "{policy}");

        // What is sealed is not spoken of again, now or after a restart.
        assert_eq!(source.poll(EVERYTHING).await.unwrap().advances, [], "{policy}");
        let mut again = build(value).await.unwrap();
        let last = second.advances.last().unwrap();
        let start = Start {
            offsets: [(last.partition.clone(), last.to.clone())].into(),
            state: first.state.into_iter().chain(second.state).collect(),
            ..Start::default()
        };
        again.seek(start).await.unwrap();
        let third = again.poll(EVERYTHING).await.unwrap();
        assert_eq!((third.advances, third.notes), (vec![], vec![]), "{policy}");
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_read_stops_the_job_with_the_facts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv").display().to_string();
    for (policy, old, new, message) in [
        ("fail", "id,Text\n1,x\n", "id,Text\n1,xy\n", "a file changed after it was taken path="),
        ("append_tail", "id,Text\n1,x\n", "id,Text\n1\n", "a file changed and did not grow"),
        ("append_tail", "id,Text\n1,x\n", "id,Text\n2,x\n3,y\n", "in the part that was taken"),
        ("append_tail", "id,Text\n1,x", "id,Text\n1,xyz\n", "before its last line was complete"),
        ("append_tail", "id,Text\n1,\"x\n", "id,Text\n1,\"x\n2,y\"\n", "line was complete"),
    ] {
        write(folder.path(), "a.csv", old);
        touch(folder.path(), "a.csv", 1_000);
        let mut source = started(json!({"path": path, "on_changed_file": policy})).await;
        source.poll(EVERYTHING).await.unwrap();
        write(folder.path(), "a.csv", new);
        touch(folder.path(), "a.csv", 2_000);
        let error = source.poll(EVERYTHING).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.message().contains(message), "{error}");
        assert!(error.message().contains(&path), "{error}");
        assert!(error.hint_text().is_some());
    }
}

#[tokio::test]
async fn the_same_content_with_a_new_time_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.csv", "id,Text\n1,x\n");
    touch(folder.path(), "a.csv", 1_000);
    let path = folder.path().join("*.csv").display().to_string();
    let mut source = started(json!({"path": path, "on_changed_file": "fail"})).await;
    source.poll(EVERYTHING).await.unwrap();
    touch(folder.path(), "a.csv", 2_000);
    assert_eq!(source.poll(EVERYTHING).await.unwrap().advances, []);
    write(folder.path(), "b.csv", "id,Text\n2,x\n");
    let next = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(next.state.unwrap().num_rows(), 2, "the new time is sealed with the next file");
}

#[tokio::test]
async fn young_files_are_left_for_later() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "young.csv", "id,Text\n1,x\n");
    write(folder.path(), "old.csv", "id,Text\n2,y\n");
    touch(folder.path(), "young.csv", 1_799_999_999);
    touch(folder.path(), "old.csv", 1_799_999_000);
    let mut source =
        started(json!({"path": folder.path(), "format": "csv", "min_age": "1min"})).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await.0, ["2|y"]);
    assert!(!intake.more);
}

#[tokio::test]
async fn a_file_that_changes_or_vanishes_before_it_is_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("a.csv", Some("id,Text\n9,changed\n")), ("b.csv", None)] {
        write(folder.path(), name, "id,Text\n1,x\n");
        let path = folder.path().join(name);
        let mut source = started(json!({"path": path})).await;
        let intake = source.poll(EVERYTHING).await.unwrap();
        match text {
            Some(text) => write(folder.path(), name, text),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = read_all(source.as_ref(), &intake).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.message().contains(name), "{error}");
    }
}

#[tokio::test]
async fn gzip_that_is_cut_short_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let whole = csv_file(&numbers(0..100_000), true);
    write(folder.path(), "a.csv.gz", &whole[..whole.len() - 5]);
    let mut source = started(json!({"path": folder.path().join("a.csv.gz")})).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let error = read_all(source.as_ref(), &intake).await.unwrap_err();
    assert!(error.message().starts_with("the file cannot be decompressed path="), "{error}");

    write(folder.path(), "b.csv.gz", [whole.clone(), whole].concat());
    let mut source = started(json!({"path": folder.path().join("b.csv.gz")})).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let (batches, rejected) = read_all(source.as_ref(), &intake).await.unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!((rows, rejected.len()), (200_000, 1), "the second member's header is a bad row");
}

#[tokio::test]
async fn files_without_a_header_and_with_another_dialect_are_read() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.csv", "\u{feff}1;'x;y'\n2;'it''s'\n");
    write(folder.path(), "empty.csv", "");
    let mut source = started(json!({
        "path": folder.path(), "format": "csv", "header": false, "delimiter": ";", "quote": "'",
    }))
    .await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await.0, ["1|x;y", "2|it's"]);
    assert_eq!(intake.state.unwrap().num_rows(), 2, "the empty file is taken too");
}

#[test]
fn everything_wrong_with_the_settings_is_said_at_once() {
    let cases = [
        (json!({"path": "data/[a.csv", "min_age": "soon", "split_bytes": "much"}), 3),
        (json!({"path": []}), 1),
        (json!({"path": "data/*"}), 1),
        (json!({"path": ["a.csv", "b.parquet"]}), 1),
        (json!({"path": "a.parquet", "delimiter": ";", "header": false}), 2),
        (json!({"path": "a.csv", "delimiter": "ab", "quote": "é"}), 2),
        (json!({"path": "a.csv", "delimiter": "\"", "split_bytes": 0}), 2),
        (json!({"path": "a.csv", "compression": "gzip", "on_changed_file": "append_tail"}), 1),
        (json!({"path": "a.csv", "colour": "red"}), 1),
    ];
    for (value, count) in cases {
        let mut problems = Problems::new();
        SourceFactory::check(&Factory, &config(value.clone()), &mut problems);
        assert_eq!(problems.sorted().len(), count, "{value}\n{problems}");
        assert!(problems.sorted().iter().all(|p| p.hint.is_some()), "{problems}");
    }
    let mut without = config(json!({"path": "a.csv"}));
    without.schema = None;
    let mut problems = Problems::new();
    SourceFactory::check(&Factory, &without, &mut problems);
    assert!(problems.to_string().contains("a schema is needed"), "{problems}");

    let sinks = [
        (json!({"path": "out"}), 0),
        (json!({"path": "out", "files": 5, "file_size": "1MiB"}), 1),
        (json!({"path": "out", "format": "parquet", "header": true}), 1),
        (json!({"path": "out", "files": 0}), 1),
    ];
    for (value, count) in sinks {
        let mut problems = Problems::new();
        SinkFactory::check(&Factory, &config(value.clone()), &mut problems);
        assert_eq!(problems.sorted().len(), count, "{value}\n{problems}");
    }
}

#[test]
fn the_schemas_of_the_settings_refuse_unknown_keys() {
    for schema in [SourceFactory::config_schema(&Factory), SinkFactory::config_schema(&Factory)] {
        assert_eq!(schema["additionalProperties"], json!(false), "{schema}");
        assert!(schema["properties"]["path"]["description"].is_string(), "{schema}");
    }
}

#[test]
fn a_sink_says_how_its_files_are_named_and_sized() {
    let cases = [
        (json!({"path": "out"}), "csv", FileSizing::TargetBytes(128 << 20)),
        (json!({"path": "out", "compression": "gzip", "files": 5}), "csv.gz", FileSizing::Count(5)),
        (
            json!({"path": "out", "format": "parquet", "file_size": "1MiB"}),
            "parquet",
            FileSizing::TargetBytes(1 << 20),
        ),
    ];
    for (value, extension, sizing) in cases {
        let sink = SinkFactory::build(&Factory, &config(value)).unwrap().files().unwrap();
        assert_eq!((sink.path(), sink.extension(), sink.sizing()), ("out", extension, sizing));
        let rows = numbers(0..10);
        assert!(!encoded(sink.encoder(rows.schema()).unwrap(), &rows).is_empty());
    }
}
