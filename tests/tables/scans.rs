//! How much of Parquet files is read: what no statement needs is counted, not read, and every table
//! has the rows that its statement says.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use crate::support::place::Place;

const JOB: &str = "events.yaml";

const SOURCE: &str = r#"job: events
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  events:
    connector: files
    path: ./input/*.parquet
    split_bytes: 4KiB
    schema:
      fields:
        - {name: id, type: int64}
        - {name: day, type: date}
        - {name: at, type: timestamp}
        - {name: region, type: string}
        - {name: amount, type: int32}
"#;

/// Two tables over one source with conditions of their own, and one that goes by position.
const NARROW: &str = r#"tables:
  late: {sql: "SELECT id, region FROM events WHERE day >= '2026-03-01'"}
  early: {sql: "SELECT id, amount FROM events WHERE day < DATE '2026-01-11' AND region = 'r0'"}
  last: {sql: "SELECT region, id FROM events WHERE at > '2026-03-01'", key: [region]}
views:
  regions: {sql: "SELECT region, count(*) AS n, sum(id) AS ids FROM late GROUP BY region"}
"#;

/// The days of 2026 from the first on, a row group each.
const DAYS: i64 = 100;
const ROWS_PER_DAY: i64 = 100;
const FIRST_DAY: i64 = 20_454;

/// The first of March, and what comes before the eleventh of January.
const LATE: i64 = 59;
const EARLY: i64 = 10;

/// Rows whose amount is too large for the schema: of a day that is read, and of one that is not.
const TOO_LARGE: [i64; 2] = [5 * ROWS_PER_DAY, 20 * ROWS_PER_DAY];

fn write_events(path: &Path, first_id: i64) {
    let ids: Vec<i64> = (0..DAYS * ROWS_PER_DAY).collect();
    let day = |id: &i64| FIRST_DAY + id / ROWS_PER_DAY;
    let column = |value: &dyn Fn(&i64) -> i64| Int64Array::from_iter_values(ids.iter().map(value));
    let days = Date32Array::from_iter_values(ids.iter().map(|id| day(id) as i32));
    let at = ids.iter().map(|id| day(id) * 86_400_000_000 + id);
    let regions = StringArray::from_iter_values(ids.iter().map(|id| format!("r{}", id % 4)));
    let amount = |id: &i64| if TOO_LARGE.contains(id) { i64::MAX } else { 1 };
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(column(&|id| first_id + id))),
        ("day", Arc::new(days)),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(at))),
        ("region", Arc::new(regions)),
        ("amount", Arc::new(column(&amount))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let day = usize::try_from(ROWS_PER_DAY).unwrap();
    let groups = WriterProperties::builder().set_max_row_group_row_count(Some(day)).build();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(groups)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

fn place(tables: &str) -> Place {
    let place = Place::local();
    place.write(JOB, &format!("{SOURCE}{tables}"));
    write_events(&place.path("input/a.parquet"), 0);
    place
}

/// Rows taken, decoded, rejected and pruned.
fn taken(place: &Place) -> Vec<String> {
    let columns = "rows_taken, rows_decoded, rows_rejected, rows_pruned";
    place.sql(JOB, &format!("SELECT {columns} FROM _sluice.sources")).remove(0)
}

#[test]
fn what_no_statement_needs_is_counted_and_not_read() {
    let place = place(NARROW);
    let said = place.job("run", JOB).arg("--json").ok().stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    let pruned = (LATE - EARLY) * ROWS_PER_DAY;
    assert_eq!(said["jobs"][0]["pruned"], pruned);
    let rows = DAYS * ROWS_PER_DAY;
    let expected = [rows, rows - pruned - 1, 1, pruned].map(|n| n.to_string());
    assert_eq!(taken(&place), expected);

    write_events(&place.path("input/b.parquet"), rows);
    let told = place.run(JOB);
    assert!(told.text().contains("4,900 rows of the sources not read"), "{}", told.text());
    assert_eq!(taken(&place), [rows, rows - pruned - 1, 1, pruned].map(|n| (2 * n).to_string()));

    let late: Vec<i64> = (LATE * ROWS_PER_DAY..rows).flat_map(|id| [id, id + rows]).collect();
    let early = (0..EARLY * ROWS_PER_DAY).filter(|id| id % 4 == 0 && !TOO_LARGE.contains(id));
    let early: Vec<i64> = early.flat_map(|id| [id, id + rows]).collect();
    let figures = |ids: &[i64]| (ids.len().to_string(), ids.iter().sum::<i64>().to_string());
    for (table, ids) in [("late", &late), ("early", &early)] {
        let found = place.sql(JOB, &format!("SELECT count(*), sum(id) FROM {table}")).remove(0);
        assert_eq!((found[0].clone(), found[1].clone()), figures(ids), "{table}");
    }
    // The later position wins: that of the second file's last rows.
    let last = place.sql(JOB, "SELECT region, id FROM last ORDER BY region");
    let expected = (0..4).map(|r| [format!("r{r}"), (2 * rows - 4 + r).to_string()]);
    assert_eq!(last, expected.collect::<Vec<_>>());
    let rejected =
        "SELECT position, bytes FROM events__rejected WHERE source_file LIKE '%a.parquet'";
    let rejected = place.sql(JOB, rejected);
    assert_eq!((rejected.len(), rejected[0][0].as_str()), (1, "500"));
    place.holds(JOB);
    let audit = place.job("audit", JOB).ok();
    assert!(audit.text().contains("rows decoded, 2 rejected, 9800 pruned"), "{}", audit.text());
}

/// Beside a table that wants all rows nothing is pruned, and the others are the same.
#[test]
fn a_row_that_one_statement_needs_is_decoded_for_all() {
    const QUERIES: [&str; 4] = [
        "SELECT * FROM late ORDER BY id",
        "SELECT * FROM early ORDER BY id",
        "SELECT * FROM last ORDER BY region",
        "SELECT * FROM regions ORDER BY region",
    ];
    let narrow = place(NARROW);
    narrow.run(JOB);
    let all = place(&NARROW.replace("views:", "  all: {sql: SELECT id FROM events}\nviews:"));
    all.run(JOB);
    for query in QUERIES {
        assert_eq!(all.sql(JOB, query), narrow.sql(JOB, query), "{query}");
    }
    let rows = DAYS * ROWS_PER_DAY;
    assert_eq!(taken(&all), [rows, rows - 2, 2, 0].map(|n| n.to_string()));
    all.holds(JOB);
}
