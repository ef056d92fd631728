//! The `delta` source against tables on disk whose logs are written here, line by line.

use std::path::Path;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};
use serde_json::{Value, json};
use sluice_core::testing::{read_all, source_conformance};
use sluice_core::{
    Config, Context, DataSchema, FileEncoder, Intake, Kind, Limit, ManualClock, Offset, Problems,
    Result, Secrets, Source, SourceFactory, Start, Unbounded,
};

use super::Factory;
use super::position::{PARTITION, Position};
use crate::format::parquet::Encoder;

mod changes;
mod losses;

const EVERYTHING: Limit = Limit { rows: u64::MAX, bytes: u64::MAX, files: u64::MAX };

const SCHEMA: &str = r#"{"type":"struct","fields":[
    {"name":"id","type":"long","nullable":true,"metadata":{}},
    {"name":"Text","type":"string","nullable":true,"metadata":{}},
    {"name":"day","type":"date","nullable":true,"metadata":{}}]}"#;

/// A table that is written line by line.
struct Table {
    folder: tempfile::TempDir,
    next: i64,
}

impl Table {
    fn new() -> Self {
        let mut table = Self { folder: tempfile::tempdir().unwrap(), next: 0 };
        table.commit(&[Table::protocol(), Table::metadata("t", SCHEMA)]);
        table
    }

    fn protocol() -> Value {
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}})
    }

    fn metadata(id: &str, schema: &str) -> Value {
        json!({"metaData": {"id": id, "format": {"provider": "parquet", "options": {}},
            "schemaString": schema, "partitionColumns": ["day"],
            "configuration": {"delta.enableChangeDataFeed": "true"}}})
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn entry(&self, version: i64) -> std::path::PathBuf {
        self.path().join(format!("_delta_log/{version:020}.json"))
    }

    fn commit(&mut self, lines: &[Value]) {
        let info = json!({"commitInfo": {"timestamp": 1000 * self.next, "operation": "TEST"}});
        let lines = std::iter::once(&info).chain(lines).map(|line| format!("{line}\n"));
        std::fs::create_dir_all(self.path().join("_delta_log")).unwrap();
        std::fs::write(self.entry(self.next), lines.collect::<String>()).unwrap();
        self.next += 1;
    }

    /// A file with these ids, and with what happened to each if that is said.
    fn write(&self, name: &str, ids: &[i64], changes: Option<&[&str]>) -> u64 {
        let texts = StringArray::from_iter_values(ids.iter().map(|id| format!("text {id}")));
        let mut columns: Vec<(&str, arrow::array::ArrayRef)> =
            vec![("id", Arc::new(Int64Array::from(ids.to_vec()))), ("Text", Arc::new(texts))];
        if let Some(changes) = changes {
            columns.push(("_change_type", Arc::new(StringArray::from(changes.to_vec()))));
        }
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mut encoder = Encoder::new(rows.schema()).unwrap();
        encoder.write(&rows).unwrap();
        let bytes = Box::new(encoder).finish().unwrap();
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        bytes.len() as u64
    }

    fn add(&self, name: &str, ids: &[i64]) -> Value {
        let size = self.write(name, ids, None);
        let stats = json!({"numRecords": ids.len()}).to_string();
        json!({"add": {"path": name, "partitionValues": {"day": "2026-01-02"}, "size": size,
            "modificationTime": self.next, "dataChange": true, "stats": stats}})
    }

    fn append(&mut self, name: &str, ids: &[i64]) {
        let add = self.add(name, ids);
        self.commit(&[add]);
    }

    fn remove(name: &str) -> Value {
        json!({"remove": {"path": name, "deletionTimestamp": 0, "dataChange": true,
            "partitionValues": {"day": "2026-01-02"}}})
    }

    fn config(&self, more: Value) -> Config {
        let fields = json!({"fields": [
            {"name": "id", "type": "int64", "required": true},
            {"name": "text", "from": "Text", "type": "string"},
            {"name": "day", "type": "date"},
        ]});
        let schema: DataSchema = serde_json::from_value(fields).unwrap();
        let mut value = json!({"path": self.path(), "ask_every": "0s"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Config {
            name: "events".into(),
            file: "job.yaml".into(),
            value,
            spans: Default::default(),
            schema: Some(schema),
        }
    }

    async fn build(&self, more: Value) -> Result<Box<dyn Source>> {
        SourceFactory::build(&Factory, &self.config(more), &context()).await
    }

    async fn started(&self, more: Value, start: Start) -> Box<dyn Source> {
        let mut source = self.build(more).await.unwrap();
        source.seek(start).await.unwrap();
        source
    }
}

fn context() -> Context {
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    Context { clock, memory: Unbounded::shared(), secrets: Secrets::default(), job: "j".into() }
}

/// The rows of an intake, as `id` with what happened to it and in which version, if that is said.
async fn rows(source: &dyn Source, intake: &Intake) -> Vec<String> {
    let (batches, rejected) = read_all(source, intake).await.unwrap();
    assert_eq!(rejected, []);
    let mut positions = Vec::new();
    let mut shown = Vec::new();
    for batch in &batches {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let last = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>();
        positions.extend(last.values().iter().copied());
        for row in 0..batch.num_rows() {
            let mut text = ids.value(row).to_string();
            if let Some(change) = batch.column_by_name("_change_type") {
                text = format!("{} {text}", change.as_string::<i32>().value(row));
            }
            if let Some(version) = batch.column_by_name("_commit_version") {
                text += &format!(" @{}", version.as_primitive::<Int64Type>().value(row));
            }
            shown.push(text);
        }
    }
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "{positions:?}");
    shown
}

/// Where the intake ends.
fn after(intake: &Intake) -> Start {
    let last = intake.advances.last().unwrap();
    Start { offsets: [(last.partition.clone(), last.to.clone())].into(), ..Start::default() }
}

/// A table of ten versions with a row each, or a few.
fn grown() -> Table {
    let mut table = Table::new();
    for version in 1..10 {
        table.append(&format!("{version}.parquet"), &[version, version + 100]);
    }
    let adds =
        [table.add("x.parquet", &[7]), table.add("y.parquet", &[8]), table.add("z.parquet", &[9])];
    table.commit(&adds);
    table
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source() {
    let table = grown();
    let limit = Limit { files: 2, ..EVERYTHING };
    for more in [
        json!({}),
        json!({"start": {"version": 0}}),
        json!({"start": {"version": 3}, "changes": "feed", "metadata": ["commit_version"]}),
    ] {
        source_conformance(async || table.build(more.clone()).await, limit).await.unwrap();
    }
}

#[tokio::test]
async fn a_start_says_what_is_read() {
    let mut table = Table::new();
    table.append("a.parquet", &[1]);
    table.append("b.parquet", &[2]);
    let cases = [
        (json!("earliest"), vec!["1 @2", "2 @2"]),
        (json!("latest"), vec![]),
        (json!({"version": 0}), vec!["1 @1", "2 @2"]),
        (json!({"version": 2}), vec!["2 @2"]),
        (json!({"timestamp": "1970-01-01T00:00:01Z"}), vec!["1 @1", "2 @2"]),
        (json!({"timestamp": "1970-01-01 00:00:01.5"}), vec!["2 @2"]),
    ];
    let mut sources = Vec::new();
    for (start, want) in cases {
        let more = json!({"start": start, "metadata": ["commit_version"]});
        let mut source = table.started(more, Start::default()).await;
        let intake = source.poll(EVERYTHING).await.unwrap();
        assert_eq!(intake.advances[0].from, Offset::ZERO);
        assert_eq!(rows(source.as_ref(), &intake).await, want, "{start}");
        sources.push(source);
    }
    // Whatever the start, what comes later comes to all, and to one that goes on.
    table.append("c.parquet", &[3]);
    for mut source in sources {
        let intake = source.poll(EVERYTHING).await.unwrap();
        assert_eq!(rows(source.as_ref(), &intake).await, ["3 @3"]);
        assert!(source.poll(EVERYTHING).await.unwrap().advances.is_empty());
        let mut again = table.started(json!({}), after(&intake)).await;
        assert!(again.poll(EVERYTHING).await.unwrap().advances.is_empty());
    }
}

#[tokio::test]
async fn a_bounded_run_ends_where_the_table_ended() {
    let mut table = Table::new();
    table.append("a.parquet", &[1]);
    let bounded = Start { bounded: true, ..Start::default() };
    let mut source = table.started(json!({}), bounded).await;
    table.append("b.parquet", &[2]);
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((rows(source.as_ref(), &intake).await, intake.more), (vec!["1".into()], false));
    assert!(source.poll(EVERYTHING).await.unwrap().advances.is_empty());
}

#[tokio::test]
async fn a_table_that_is_not_there_yet_is_waited_for_and_then_read_whole() {
    let mut table = Table::new();
    let log = table.path().join("_delta_log");
    std::fs::rename(&log, table.path().join("aside")).unwrap();
    for start in ["earliest", "latest"] {
        let mut source = table.build(json!({"start": start, "ask_every": "0s"})).await.unwrap();
        source.seek(Start::default()).await.unwrap();
        let intake = source.poll(EVERYTHING).await.unwrap();
        assert_eq!((intake.advances.len(), intake.notes.len()), (0, 1));
        assert_eq!(source.poll(EVERYTHING).await.unwrap().notes.len(), 0);
        std::fs::rename(table.path().join("aside"), &log).unwrap();
        if start == "earliest" {
            table.append("a.parquet", &[1]);
        }
        let intake = source.poll(EVERYTHING).await.unwrap();
        assert_eq!(rows(source.as_ref(), &intake).await, ["1"], "{start}");
        std::fs::rename(&log, table.path().join("aside")).unwrap();
    }
}

#[tokio::test]
async fn columns_come_from_the_file_the_log_and_the_version() {
    let mut table = Table::new();
    table.append("a.parquet", &[1]);
    let mut null = table.add("b.parquet", &[2]);
    null["add"]["partitionValues"]["day"] = Value::Null;
    table.commit(&[null]);
    let more = json!({"metadata": ["commit_timestamp", "commit_version"], "start": {"version": 1}});
    let mut source = table.started(more, Start::default()).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let (batches, _) = read_all(source.as_ref(), &intake).await.unwrap();
    let all = arrow::compute::concat_batches(&source.reader().schema(), &batches).unwrap();
    let names: Vec<&str> = all.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    let want = ["id", "text", "day", "_commit_timestamp", "_commit_version", "_position"];
    assert_eq!(names, want);
    let micros = all.column(3).as_primitive::<TimestampMicrosecondType>();
    let versions = all.column(4).as_primitive::<Int64Type>();
    assert_eq!(all.column(1).as_string::<i32>().value(1), "text 2");
    assert_eq!(all.column(2).as_primitive::<Date32Type>().value(0), 20_455);
    assert!(all.column(2).is_null(1));
    assert_eq!((micros.values()[0], micros.values()[1]), (1_000_000, 2_000_000));
    assert_eq!((versions.value(0), versions.value(1)), (1, 2));
}

#[tokio::test]
async fn a_broken_file_is_one_rejected_row_of_a_careful_poll() {
    let mut table = Table::new();
    table.append("a.parquet", &[1]);
    table.append("b.parquet", &[2]);
    std::fs::write(table.path().join("a.parquet"), "not parquet").unwrap();
    let mut source = table.started(json!({}), Start::default()).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let error = read_all(source.as_ref(), &intake).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreadable);
    let careful = Start { careful: true, ..Start::default() };
    let mut source = table.started(json!({}), careful).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(rows(source.as_ref(), &intake).await, ["2"]);
    assert_eq!(intake.unreadable.len(), 1);
    assert!(intake.unreadable[0].object.ends_with("a.parquet"));
}

#[test]
fn positions_read_back() {
    for (files, snapshot) in [(None, false), (Some(3), false), (Some(0), true)] {
        let (table, entry) = ("a-b".to_string(), "0f".to_string());
        let position = Position { version: 7, files, snapshot, table, entry };
        assert_eq!(Position::read(&position.offset()).unwrap(), Some(position));
    }
    let nowhere = Position {
        version: -1,
        files: None,
        snapshot: false,
        table: String::new(),
        entry: String::new(),
    };
    assert_eq!(Position::read(&nowhere.offset()).unwrap(), Some(nowhere));
    assert_eq!(Position::read(&Offset::ZERO).unwrap(), None);
    assert!(Position::read(&Offset::Cursor("nonsense".into())).is_err());
}

#[test]
fn everything_wrong_with_the_settings_is_said_at_once() {
    let table = Table { folder: tempfile::tempdir().unwrap(), next: 0 };
    let cases = [
        (json!({}), 0),
        (json!({"start": {"version": 3}, "metadata": ["commit_version"]}), 0),
        (json!({"path": " ", "ask_every": "soon"}), 2),
        (json!({"start": {"timestamp": "yesterday"}}), 1),
        (json!({"start": "somewhere"}), 1),
        (json!({"changes": "feed", "on_change": "ignore"}), 1),
        (json!({"metadata": ["commit_version", "commit_version"]}), 1),
        (json!({"colour": "red"}), 1),
    ];
    for (value, count) in cases {
        let mut problems = Problems::new();
        SourceFactory::check(&Factory, &table.config(value.clone()), &mut problems);
        assert_eq!(problems.sorted().len(), count, "{value}\n{problems}");
        assert!(problems.sorted().iter().all(|p| p.hint.is_some()), "{problems}");
    }
    let mut without = table.config(json!({}));
    without.schema = None;
    let mut problems = Problems::new();
    SourceFactory::check(&Factory, &without, &mut problems);
    assert!(problems.to_string().contains("a schema is needed"), "{problems}");
    assert_eq!(Factory.config_schema()["additionalProperties"], json!(false));
}

#[test]
fn a_job_that_reads_its_own_table_is_found_out() {
    let table = Table { folder: tempfile::tempdir().unwrap(), next: 0 };
    let at = |path: &str| table.config(json!({ "path": path }));
    for (path, file, taken) in [
        ("./lake/t", "lake/t/part=1/x.parquet", true),
        ("lake/t", "lake/tt/x.parquet", false),
        ("s3://b/t/", "s3://b/t/x.parquet", true),
    ] {
        assert_eq!(Factory.takes(&at(path), file), taken, "{path} {file}");
    }
}

#[tokio::test]
async fn what_a_table_has_now_is_told() {
    let table = grown();
    let standing = Factory.standing(&table.config(json!({})), &context()).await.unwrap();
    assert_eq!(
        (standing[0].first.clone(), standing[0].end.clone()),
        (Offset::ZERO, Offset::At(11))
    );
    assert_eq!(standing[0].partition, PARTITION);
}
