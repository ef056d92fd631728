//! Parquet, packed and UTF-16 files that nobody has described: `init` tells what they are, and the
//! job that it writes takes every row.

use std::fs;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Int32Array, ListArray, StringArray, StructArray,
    Time32MillisecondArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type};

use super::init::{job_file, rejected, table, taken};
use crate::support::files::parquet;
use crate::support::place::{Place, listing};

/// The rows that the job of [`exported`] writes.
const ROWS: u64 = 1000;

/// A place whose folder `files` holds what a sink has written; `how` says how it writes.
fn exported(how: &str) -> Place {
    let place = Place::local();
    let job = format!(
        r#"job: numbers
lake: "${{vars.lake}}"
vars: {{lake: ./lake}}
sources:
  generated: {{connector: generate, rows: {ROWS}, columns: {{id: {{sequence: {{start: 1}}}}}}}}
tables:
  numbers:
    sql: |
      SELECT id, 'n' || id AS name, CAST(CAST(id AS DOUBLE) / 4 AS DECIMAL(9, 2)) AS quarter,
             DATE '2024-01-01' + CAST(id % 28 AS INT) AS day
      FROM generated
sinks:
  files: {{connector: files, from: numbers, path: ./files, {how}}}
"#
    );
    place.write("numbers.yaml", &job);
    place.run("numbers.yaml");
    place
}

/// The fields of the schema that `init` wrote.
fn fields(place: &Place) -> Vec<String> {
    let table = table(&job_file(place));
    let schema = fs::read_to_string(place.path(&format!("pack/schemas/{table}.v1.yaml"))).unwrap();
    schema.lines().filter_map(|line| line.strip_prefix("  - ")).map(str::to_string).collect()
}

fn count(place: &Place, relation: &str) -> u64 {
    place.cell("pack", &format!("SELECT count(*) FROM {relation}")).parse().unwrap()
}

/// Describes what lies in `files`, which are `number` files, and takes it; gives the job file.
fn described(place: &Place, number: u64, quarter: &str) -> String {
    let said = taken(place, "files");
    assert_eq!((rejected(&said), said["files"].as_u64()), (0, Some(number)), "{said}");
    assert_eq!((said["rows"].as_u64(), said["complete"].as_bool()), (Some(ROWS), Some(true)));
    let quarter = format!("{{name: quarter, type: \"{quarter}\"}}");
    let day = "{name: day, type: date}";
    let wanted = ["{name: id, type: int64}", "{name: name, type: string}", &quarter, day];
    assert_eq!(fields(place), wanted);
    let job = job_file(place);
    let table = table(&job);
    let query = format!(
        "SELECT count(*), count(DISTINCT name), sum(id), sum(quarter), min(day), max(day) \
         FROM {table}"
    );
    let figures = ["1000", "1000", "500500", "125125.00", "2024-01-01", "2024-01-28"];
    assert_eq!(place.sql("pack", &query), [figures]);
    assert_eq!(count(place, &format!("{table}_files__rejected")), 0);
    job
}

#[test]
fn what_sinks_write_is_described_and_taken() {
    let cases = [
        ("format: parquet, files: 2", 2, "decimal(9, 2)", "format: parquet", "*.parquet"),
        ("format: csv, compression: gzip", 1, "decimal(18, 2)", "format: csv", "*.csv.gz"),
        ("format: json, compression: zstd", 1, "decimal(18, 2)", "format: json", "*.jsonl.zst"),
    ];
    for (how, number, quarter, format, pattern) in cases {
        let place = exported(how);
        let job = described(&place, number, quarter);
        assert!(job.contains(&format!("    {format}\n")), "{job}");
        assert!(job.contains(&format!("  files: \"files/**/{pattern}\"\n")), "{job}");
    }
}

#[test]
fn packed_files_are_told_by_their_bytes() {
    let cases = [
        ("format: csv, compression: gzip", "export.csv", "compression: gzip"),
        ("format: json, compression: zstd", "export.jsonl", "compression: zstd"),
    ];
    for (how, name, compression) in cases {
        let place = exported(how);
        let files = listing(&place.path("files"));
        assert_eq!(files.len(), 1, "{files:?}");
        fs::rename(&files[0].0, place.path("files").join(name)).unwrap();
        let job = described(&place, 1, "decimal(18, 2)");
        assert!(job.contains(&format!("    {compression}\n")), "{job}");
    }
}

#[test]
fn text_in_utf_16_is_described_and_taken() {
    let text = "Id;Name;Day;Amount\r\n1;Müller;30/01/2024;12.50\r\n2;Łukasz;31/01/2024;7.90\r\n\
                3;日本;01/02/2024;\r\n";
    let marked = format!("\u{feff}{text}");
    let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    let cases = [
        ("little-endian with a mark", little(&marked)),
        ("big-endian with a mark", big(&marked)),
        ("little-endian without", little(text)),
        ("big-endian without", big(text)),
    ];
    for (name, bytes) in cases {
        let place = Place::local();
        fs::create_dir(place.path("data")).unwrap();
        fs::write(place.path("data/people.csv"), bytes).unwrap();
        let said = taken(&place, "data/people.csv");
        assert_eq!((rejected(&said), said["rows"].as_u64()), (0, Some(3)), "{name}: {said}");
        let job = job_file(&place);
        assert!(job.contains("    encoding: utf-16"), "{name}\n{job}");
        assert!(job.contains("    delimiter: \";\"\n"), "{name}\n{job}");
        let wanted = [
            "{name: id, from: Id, type: int64}",
            "{name: name, from: Name, type: string}",
            "{name: day, from: Day, type: date, format: \"%d/%m/%Y\"}",
            "{name: amount, from: Amount, type: \"decimal(18, 2)\"}",
        ];
        assert_eq!(fields(&place), wanted, "{name}");
        let table = table(&job);
        let rows = [
            ["1", "Müller", "2024-01-30", "12.50"],
            ["2", "Łukasz", "2024-01-31", "7.90"],
            ["3", "日本", "2024-02-01", ""],
        ];
        let query = format!("SELECT * FROM {table} ORDER BY id");
        assert_eq!(place.sql("pack", &query), rows, "{name}");
        assert_eq!(count(&place, &format!("{table}_files__rejected")), 0, "{name}");
    }
}

/// Two orders; `more` stands behind their columns.
fn orders(more: (&str, ArrayRef)) -> Vec<u8> {
    let placed = TimestampMillisecondArray::from(vec![Some(1_706_688_000_000), None]);
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("Ann"), None]));
    let ages: ArrayRef = Arc::new(Int32Array::from(vec![40, 41]));
    let who =
        vec![Field::new("name", DataType::Utf8, true), Field::new("age", DataType::Int32, true)];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Order No", Arc::new(Int32Array::from(vec![1, 2]))),
        ("placedAt", Arc::new(placed)),
        ("who", Arc::new(StructArray::new(who.into(), vec![names, ages], None))),
        ("wakes", Arc::new(Time32MillisecondArray::from(vec![1, 2]))),
        ("big", Arc::new(UInt64Array::from(vec![1, 1_u64 << 63]))),
        ("weight", Arc::new(Float32Array::from(vec![1.5, 2.0]))),
        more,
    ];
    parquet(columns)
}

#[test]
fn the_types_of_parquet_files_are_those_of_the_job() {
    let place = Place::local();
    fs::create_dir(place.path("in")).unwrap();
    let counts = [Some(vec![Some(7), None]), Some(Vec::new())];
    let counts = ListArray::from_iter_primitive::<Int64Type, _, _>(counts);
    fs::write(place.path("in/a.parquet"), orders(("counts", Arc::new(counts)))).unwrap();
    let notes = StringArray::from(vec!["late", "later"]);
    fs::write(place.path("in/b.parquet"), orders(("note", Arc::new(notes)))).unwrap();

    let said = taken(&place, "in");
    assert_eq!((rejected(&said), said["rows"].as_u64()), (0, Some(4)), "{said}");
    let job = job_file(&place);
    let source = [
        "format: parquet\n",
        "# Some files do not have counts, note\n",
        "on_missing_column: \"null\"\n",
        "# No schema can hold wakes\n",
        "on_new_column: ignore\n",
    ];
    for line in source {
        assert!(job.contains(&format!("    {line}")), "{line}\n{job}");
    }
    let wanted = [
        "{name: order_no, from: \"Order No\", type: int32}",
        "{name: placed_at, from: placedAt, type: timestamp}",
        "{name: who, type: struct, fields: [{name: name, type: string}, {name: age, type: int32}]}",
        "{name: big, type: \"decimal(20, 0)\"}",
        "{name: weight, type: float32}",
        "{name: counts, type: \"list(int64)\"}",
        "{name: note, type: string}",
    ];
    assert_eq!(fields(&place), wanted);
    let table = table(&job);
    let query = format!(
        "SELECT order_no, placed_at, who['name'], who['age'], big, weight, counts, note \
         FROM {table} ORDER BY order_no, note NULLS FIRST"
    );
    let first = ["1", "2024-01-31T08:00:00Z", "Ann", "40", "1", "1.5"];
    let second = ["2", "", "", "41", "9223372036854775808", "2.0"];
    let row = |cells: [&'static str; 6], counts, note| [&cells[..], &[counts, note]].concat();
    let rows = [
        row(first, "[7,null]", ""),
        row(first, "", "late"),
        row(second, "[]", ""),
        row(second, "", "later"),
    ];
    assert_eq!(place.sql("pack", &query), rows);
    assert_eq!(count(&place, &format!("{table}_files__rejected")), 0);
}
