//! Columns that come later, and columns that are not there, in files that bring their types: what a
//! source of Parquet or Avro does with them, up to the tables. JSON, where each row may differ, is
//! beside them for what is not there.

use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray};

use super::evolution::read_by;
use crate::support::files::{self, parquet};
use crate::support::place::Place;

const JOB: &str = "lines.yaml";

/// 4.50.
const CENTS: i64 = 450;
/// 2024-01-31T08:00:00Z, in microseconds.
const SEEN_US: i64 = 1_706_688_000_000_000;

/// A kind of file, and how one is written.
struct Kind {
    ending: &'static str,
    /// With the columns `id` and `text`, a row per id.
    plain: fn(&[i64]) -> Vec<u8>,
    /// With two more, before and behind: a price of 4.50 and a time in the first row, nothing in
    /// the others.
    wide: fn(&[i64]) -> Vec<u8>,
    /// With `id` only.
    narrow: fn(&[i64]) -> Vec<u8>,
}

const KINDS: [Kind; 2] = [
    Kind {
        ending: "parquet",
        plain: |ids| parquet(vec![("id", numbers(ids)), ("text", texts(ids))]),
        wide: |ids| {
            let (price, seen) = (prices(ids), times(ids));
            let columns = [("id", numbers(ids)), ("text", texts(ids)), ("seen", seen)];
            parquet([("unitPrice", price)].into_iter().chain(columns).collect())
        },
        narrow: |ids| parquet(vec![("id", numbers(ids))]),
    },
    Kind {
        ending: "avro",
        plain: |ids| {
            let row = |id: &i64| [files::long(*id), files::text(&text(*id))].concat();
            files::avro(&record(&[ID, TEXT]), &ids.iter().map(row).collect::<Vec<_>>())
        },
        wide: |ids| {
            let maybe = |value: Option<Vec<u8>>| match value {
                Some(value) => files::one(1, value),
                None => files::one(0, Vec::new()),
            };
            let row = |(id, price, seen): (&i64, Option<i64>, Option<i64>)| {
                let price = price.map(|cents| files::bytes(&(cents as i16).to_be_bytes()));
                let (id, text) = (files::long(*id), files::text(&text(*id)));
                [maybe(price), id, text, maybe(seen.map(files::long))].concat()
            };
            let others = first(ids, CENTS).zip(first(ids, SEEN_US));
            let rows = ids.iter().zip(others).map(|(id, (price, seen))| row((id, price, seen)));
            files::avro(&record(&[PRICE, ID, TEXT, SEEN]), &rows.collect::<Vec<_>>())
        },
        narrow: |ids| {
            let rows: Vec<_> = ids.iter().map(|id| files::long(*id)).collect();
            files::avro(&record(&[ID]), &rows)
        },
    },
];

const ID: &str = r#"{"name": "id", "type": "long"}"#;
const TEXT: &str = r#"{"name": "text", "type": "string"}"#;
const PRICE: &str = r#"{"name": "unitPrice", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}]}"#;
const SEEN: &str =
    r#"{"name": "seen", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]}"#;

/// The schema of an Avro file.
fn record(fields: &[&str]) -> String {
    format!(r#"{{"type": "record", "name": "line", "fields": [{}]}}"#, fields.join(", "))
}

fn numbers(ids: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(ids.to_vec()))
}

fn texts(ids: &[i64]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(ids.iter().map(|id| text(*id))))
}

fn prices(ids: &[i64]) -> ArrayRef {
    let cents: Vec<Option<i128>> = first(ids, i128::from(CENTS)).collect();
    Arc::new(Decimal128Array::from(cents).with_precision_and_scale(9, 2).unwrap())
}

fn times(ids: &[i64]) -> ArrayRef {
    let micros: Vec<Option<i64>> = first(ids, SEEN_US).collect();
    Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
}

fn text(id: i64) -> String {
    format!("text {id}")
}

/// A value for the first of the rows, and nothing for the others.
fn first<T: Copy>(ids: &[i64], value: T) -> impl Iterator<Item = Option<T>> {
    (0..ids.len()).map(move |row| (row == 0).then_some(value))
}

/// `{setting}` is a line of the source, `{required}` stands behind the type of `text`.
fn job(ending: &str, setting: &str, required: &str) -> String {
    format!(
        r#"job: lines
lake: "${{vars.lake}}"
vars: {{lake: ./lake}}
sources:
  lines:
    connector: files
    path: "./input/*.{ending}"
    {setting}
    schema: {{fields: [{{name: id, type: int64}}, {{name: text, type: string{required}}}]}}
tables:
  kept: {{sql: SELECT * FROM lines}}
  newest: {{sql: SELECT * FROM lines, key: [id]}}
views:
  copy: {{sql: SELECT * FROM kept WHERE id > 1}}
  counted: {{sql: "SELECT id % 2 AS odd, count(*) AS n FROM kept GROUP BY 1"}}
"#
    )
}

fn put(place: &Place, kind: &Kind, number: u32, bytes: &[u8]) {
    let folder = place.path("input");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{number}.{}", kind.ending)), bytes).unwrap();
}

/// A job that has taken one plain file and finds a wide one and another plain one now.
fn met(kind: &Kind, setting: &str) -> Place {
    let place = Place::local();
    place.write(JOB, &job(kind.ending, setting, ""));
    put(&place, kind, 1, &(kind.plain)(&[1, 2]));
    place.run(JOB);
    put(&place, kind, 2, &(kind.wide)(&[3, 4]));
    put(&place, kind, 3, &(kind.plain)(&[5]));
    place
}

/// All of a table, header first.
fn all(place: &Place, table: &str) -> Vec<Vec<String>> {
    place.table(JOB, &format!("SELECT * FROM {table} ORDER BY id"))
}

fn strings(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_string()).collect()
}

/// Rows as a query gives them, header first; `header` names what is behind `id` and `text`, and so
/// do the rows.
fn expected(header: &[&str], rows: &[(i64, &[&str])]) -> Vec<Vec<String>> {
    let mut all = vec![[strings(&["id", "text"]), strings(header)].concat()];
    for (id, more) in rows {
        all.push([vec![id.to_string(), text(*id)], strings(more)].concat());
    }
    all
}

/// The same without more columns.
fn plain(ids: &[i64]) -> Vec<Vec<String>> {
    let none: &[&str] = &[];
    let rows: Vec<(i64, &[&str])> = ids.iter().map(|id| (*id, none)).collect();
    expected(none, &rows)
}

#[test]
fn a_new_column_stops_the_job_before_its_file() {
    for kind in &KINDS {
        let place = met(kind, "on_new_column: fail");
        for _ in 0..2 {
            let stopped = place.job("run", JOB).expect(1);
            let file = format!("2.{}", kind.ending);
            stopped.says(&["the file has a column of its own", "column=unitPrice", &file]);
            stopped.says(&["hint: ", "on_new_column"]);
            assert_eq!(all(&place, "kept"), plain(&[1, 2]), "{}", kind.ending);
        }
        place.holds(JOB);
    }
}

#[test]
fn a_new_column_is_passed_over() {
    for kind in &KINDS {
        let place = met(kind, "on_new_column: ignore");
        place.run(JOB);
        for table in ["kept", "newest"] {
            assert_eq!(all(&place, table), plain(&[1, 2, 3, 4, 5]), "{} {table}", kind.ending);
        }
        place.holds(JOB);
    }
}

#[test]
fn a_new_column_is_added_with_its_type() {
    for kind in &KINDS {
        let place = met(kind, "on_new_column: add");
        place.run(JOB);
        let header = ["unit_price", "seen"];
        let rows: [(i64, &[&str]); 5] = [
            (1, &["", ""]),
            (2, &["", ""]),
            (3, &["4.50", "2024-01-31T08:00:00Z"]),
            (4, &["", ""]),
            (5, &["", ""]),
        ];
        let check = |place: &Place| {
            for table in ["kept", "newest"] {
                assert_eq!(all(place, table), expected(&header, &rows), "{} {table}", kind.ending);
            }
            assert_eq!(all(place, "copy"), expected(&header, &rows[1..]), "{}", kind.ending);
            let types = "SELECT arrow_typeof(unit_price), arrow_typeof(seen) FROM kept LIMIT 1";
            let types = place.sql(JOB, types);
            assert_eq!(types, [["Decimal128(9, 2)", "Timestamp(µs, \"UTC\")"]], "{}", kind.ending);
            place.holds(JOB);
        };
        check(&place);
        for client in ["deltalake", "polars", "duckdb"] {
            let read = read_by(client, &place, "kept", &["id", "unit_price", "seen"]);
            assert_eq!(read, "5 5 1 1", "{client} {}", kind.ending);
        }
        place.run(JOB);
        check(&place);
        place.job("run", JOB).arg("--rebuild").ok();
        check(&place);
    }
}

#[test]
fn a_new_column_is_rescued() {
    for kind in &KINDS {
        let place = met(kind, "on_new_column: rescue");
        place.run(JOB);
        let rescued = r#"{"unitPrice":4.50,"seen":"2024-01-31T08:00:00Z"}"#;
        let rows: [(i64, &[&str]); 5] =
            [(1, &[""]), (2, &[""]), (3, &[rescued]), (4, &[""]), (5, &[""])];
        for table in ["kept", "newest"] {
            assert_eq!(
                all(&place, table),
                expected(&["_rescued"], &rows),
                "{} {table}",
                kind.ending
            );
        }
        place.holds(JOB);
    }
}

#[test]
fn a_column_that_is_not_there_stops_the_job_or_is_null() {
    for kind in &KINDS {
        let place = Place::local();
        place.write(JOB, &job(kind.ending, "on_missing_column: fail", ""));
        put(&place, kind, 1, &(kind.plain)(&[1, 2]));
        put(&place, kind, 2, &(kind.narrow)(&[3]));
        let file = format!("2.{}", kind.ending);
        let stopped = place.job("run", JOB).expect(1);
        stopped.says(&["a column is missing in the file", "column=text", &file, "hint: "]);
        let before = plain(&[1, 2]);
        assert_eq!(all(&place, "kept"), before, "{}: what comes before is sealed", kind.ending);
        place.holds(JOB);

        // What the schema requires is never made up.
        place.write(JOB, &job(kind.ending, "on_missing_column: \"null\"", ", required: true"));
        let stopped = place.job("run", JOB).expect(1);
        stopped.says(&["a column is missing in the file", "column=text", &file, "requires it"]);
        assert_eq!(all(&place, "kept"), before, "{}", kind.ending);

        place.write(JOB, &job(kind.ending, "on_missing_column: null", ""));
        place.run(JOB);
        let rows = place.sql(JOB, "SELECT id, text, text IS NULL FROM kept ORDER BY id");
        let row = |id: i64| [id.to_string(), text(id), "false".to_string()];
        let null = ["3", "", "true"].map(str::to_string);
        assert_eq!(rows, [row(1), row(2), null], "{}", kind.ending);
        assert_eq!(place.cell(JOB, "SELECT count(text) FROM newest"), "2", "{}", kind.ending);
        place.holds(JOB);
    }
}

#[test]
fn a_field_that_an_object_lacks_is_null_or_rejects_the_row() {
    let lines = "{\"id\": 1, \"text\": \"a\"}\n{\"id\": 2}\n{\"text\": \"z\"}\n";
    for setting in ["on_missing_column: fail", "on_missing_column: \"null\""] {
        let place = Place::local();
        place.write(JOB, &job("jsonl", setting, ""));
        place.write("input/1.jsonl", lines);
        place.run(JOB);
        let rows = place.sql(JOB, "SELECT id, text FROM kept ORDER BY text, id");
        assert_eq!(rows, [["1", "a"], ["", "z"], ["2", ""]], "{setting}");
        assert_eq!(place.cell(JOB, "SELECT count(*) FROM lines__rejected"), "0", "{setting}");
        place.holds(JOB);

        let place = Place::local();
        place.write(JOB, &job("jsonl", setting, ", required: true"));
        place.write("input/1.jsonl", lines);
        place.run(JOB);
        let rows = place.sql(JOB, "SELECT id, text FROM kept ORDER BY text");
        assert_eq!(rows, [["1", "a"], ["", "z"]], "{setting}");
        let rejected = place.sql(JOB, "SELECT position, reason FROM lines__rejected");
        let position = lines.find("{\"id\": 2}").unwrap().to_string();
        let reason = "column text: required but empty".to_string();
        assert_eq!(rejected, [[position, reason]], "{setting}");
        place.holds(JOB);
    }
}
