//! How rows and figures are written: every kind of value in every format, byte for byte.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    Float32Array, Float64Array, Int64Array, ListArray, NullArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use sluice::failure::{Failure, error_text};
use sluice::output::{Format, TABLE_ROWS_MAX, count, row_writer, seconds};
use sluice_core::{Error, Memory as _, Problems, Span};

/// 2011-03-29T08:26:00.5Z in microseconds.
const INSTANT_US: i64 = 1_301_387_160_500_000;

#[test]
fn csv_tells_null_from_empty_and_quotes_what_must_be() {
    let text = strings(&[Some("plain"), Some(""), None, Some("a,b"), Some("say \"x\"\nthen")]);
    let shown = written(Format::Csv, &[("na,me", text)]);
    assert_eq!(shown, "\"na,me\"\nplain\n\"\"\n\n\"a,b\"\n\"say \"\"x\"\"\nthen\"\n");
}

#[test]
fn every_type_has_one_text() {
    let cases: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(Int64Array::from(vec![i64::MIN])), "-9223372036854775808"),
        (Arc::new(UInt64Array::from(vec![u64::MAX])), "18446744073709551615"),
        (Arc::new(Float64Array::from(vec![0.1])), "0.1"),
        (Arc::new(Float32Array::from(vec![0.1])), "0.1"),
        (Arc::new(Float64Array::from(vec![f64::NAN])), "NaN"),
        (Arc::new(BooleanArray::from(vec![true])), "true"),
        (Arc::new(Date32Array::from(vec![15_062])), "2011-03-29"),
        (instants(Some("UTC")), "2011-03-29T08:26:00.500Z"),
        (instants(Some("+02:00")), "2011-03-29T08:26:00.500Z"),
        (instants(None), "2011-03-29T08:26:00.500"),
        (Arc::new(TimestampMillisecondArray::from(vec![0]).with_timezone("UTC")), EPOCH),
        (decimals("1234567890123456789012345678901234567.8", 38, 1), LONG_DECIMAL),
        (Arc::new(BinaryArray::from(vec![&[0_u8, 0xff, 0x2a][..]])), "00ff2a"),
        (dictionary(), "b"),
        (Arc::new(list()), "\"[1,null]\""),
        (Arc::new(NullArray::new(1)), ""),
    ];
    for (array, expected) in cases {
        let kind = array.data_type().to_string();
        let lines = written(Format::Csv, &[("x", array)]);
        assert_eq!(lines, format!("x\n{expected}\n"), "{kind}");
    }
}

#[test]
fn json_numbers_are_exact_or_strings() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::INFINITY)]))),
        ("g", Arc::new(Float32Array::from(vec![Some(0.1), None]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(false), None]))),
        ("s", strings(&[Some("é\"\u{1b}"), None])),
    ];
    let shown = written(Format::Ndjson, &columns);
    let first = "{\"i\":9223372036854775807,\"u\":18446744073709551615,\"f\":1.5,\"g\":0.1,\
                 \"b\":false,\"s\":\"é\\\"\\u001b\"}\n";
    let second = "{\"i\":null,\"u\":0,\"f\":\"inf\",\"g\":null,\"b\":null,\"s\":null}\n";
    assert_eq!(shown, format!("{first}{second}"));
}

#[test]
fn json_keeps_decimals_times_and_nested_values() {
    let fields = vec![Field::new("n", DataType::Int64, true), Field::new("l", list_type(), true)];
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let nested = StructArray::new(fields.into(), vec![numbers, Arc::new(list())], None);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("d", decimals("-0.05", 10, 2)),
        ("t", instants(Some("UTC"))),
        ("o", Arc::new(nested)),
    ];
    let shown = written(Format::Json, &columns);
    let row = "{\"d\":\"-0.05\",\"t\":\"2011-03-29T08:26:00.500Z\",\"o\":{\"n\":7,\"l\":[1,null]}}";
    assert_eq!(shown, format!("[\n{row}\n]\n"));
}

#[test]
fn json_has_no_two_keys_of_one_name_and_an_empty_answer_is_an_array() {
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let shown = written(Format::Ndjson, &[("x", one.clone()), ("x", one.clone()), ("x_2", one)]);
    assert_eq!(shown, "{\"x\":1,\"x_2\":1,\"x_2_2\":1}\n");
    assert_eq!(written(Format::Json, &[("x", strings(&[]))]), "[]\n");
}

#[test]
fn tables_show_null_align_figures_and_move_no_cursor() {
    let text = strings(&[Some("a\u{1b}[2J"), None]);
    let figures: ArrayRef = Arc::new(Int64Array::from(vec![5, 12_345]));
    let shown = written(Format::Table, &[("name", text), ("n", figures)]);
    assert!(shown.contains("│ a\\u{1b}[2J ┆     5 │"), "{shown}");
    assert!(shown.contains("│ NULL       ┆ 12345 │"), "{shown}");
}

#[test]
fn tables_end_at_their_limit_and_csv_does_not() {
    let many = TABLE_ROWS_MAX as i64 + 10;
    let figures: ArrayRef = Arc::new(Int64Array::from_iter_values(0..many));
    let table = written(Format::Table, &[("n", figures.clone())]);
    assert!(table.contains(&format!(" {} ", many - 11)), "the last row that fits is there");
    assert!(!table.contains(&format!(" {} ", many - 10)), "the next one is not");
    let csv = written(Format::Csv, &[("n", figures)]);
    assert_eq!(csv.lines().count() as i64, many + 1);
}

#[test]
fn figures_for_people() {
    let counts = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
    for (n, text) in counts {
        assert_eq!(count(n), text);
    }
    let times = [(0.01234, "0.012"), (1.25, "1.2"), (99.9, "99.9"), (135.4, "135")];
    for (s, text) in times {
        assert_eq!(seconds(s), text);
    }
}

#[test]
fn failures_say_what_to_do_and_how_to_exit() {
    let cause = std::io::Error::other("disk full");
    let error = Error::unavailable("cannot write path=/x").because(cause).hint("make room");
    let text = "error: cannot write path=/x: disk full\nhint: make room\n";
    assert_eq!(error_text(&error), text);
    assert_eq!(Failure::from(error).exit_code(), 1);
    assert_eq!(Failure::from(Error::config("no such file")).exit_code(), 2);
    let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert_eq!(Failure::from(gone).exit_code(), 0);

    let mut problems = Problems::new();
    let at = Some(Span { line: 3, column: 7 });
    problems.push("job.yaml".as_ref(), at, "unknown key key=tabels", Some("tables".into()));
    let failure = Failure::from(problems);
    assert_eq!(failure.exit_code(), 2);
    let text = "job.yaml:3:7: unknown key key=tabels\n  hint: tables\n1 problem\n";
    assert_eq!(failure.text(), text);
    let json = failure.json().unwrap();
    assert_eq!(json["problems"][0]["line"], 3);
}

#[test]
fn the_pool_names_who_asked_for_too_much_and_keeps_what_was_held() {
    let memory = sluice::memory::PoolMemory::new(sluice::memory::pool(1000));
    let mut held = memory.reserve("a writer");
    held.resize(600).unwrap();
    let mut other = memory.reserve("another writer");
    let refused = other.resize(500).unwrap_err();
    assert!(refused.message().contains("another writer"), "{refused:?}");
    assert!(refused.hint_text().unwrap().contains("--memory"));
    assert_eq!((held.bytes(), other.bytes()), (600, 0));
    drop(held);
    other.resize(500).unwrap();
}

#[test]
fn who_insists_gets_what_others_can_spill_and_nothing_else() {
    let pool = sluice::memory::pool(1000);
    let memory = sluice::memory::PoolMemory::new(pool.clone());
    let spills: Arc<dyn MemoryPool> = pool;
    let sort = MemoryConsumer::new("a sort").with_can_spill(true).register(&spills);
    sort.try_grow(900).unwrap();
    let (mut reader, mut writer) = (memory.reserve("a reader"), memory.reserve("a writer"));
    writer.resize(100).unwrap();
    assert!(reader.resize(400).is_err());
    reader.insist(400).unwrap();
    assert!(sort.try_grow(1).is_err(), "the sort gives way when it grows");
    let refused = reader.insist(901).unwrap_err();
    assert!(refused.message().contains("a reader"), "{refused:?}");
    assert_eq!(reader.bytes(), 400);
    reader.insist(900).unwrap();
    reader.insist(0).unwrap();
    assert_eq!((spills.reserved(), memory.bytes_max()), (1000, Some(1000)));
}

#[test]
fn who_cannot_spill_has_a_little_room_beside_sorts_that_hold_too_much() {
    let pool: Arc<dyn MemoryPool> = sluice::memory::pool(1600);
    let consumer = |name: &str, spills| MemoryConsumer::new(name).with_can_spill(spills);
    let sort = consumer("a sort", true).register(&pool);
    sort.try_grow(1500).unwrap();
    let merge = consumer("a merge", false).register(&pool);
    merge.try_grow(200).unwrap();
    assert!(merge.try_grow(1).is_err(), "a sixteenth of the pool and no more");
    assert!(sort.try_grow(1).is_err());
    sort.free();
    merge.try_grow(1400).unwrap();
    assert!(merge.try_grow(1).is_err(), "nobody is there who could give way");
    merge.shrink(1600);
    assert_eq!(pool.reserved(), 0);
}

#[test]
fn the_size_of_a_machine_is_read_where_linux_says_it() {
    let text = "MemFree:  1 kB\nMemTotal:       16315652 kB\nCached: 2 kB\n";
    assert_eq!(sluice::memory::total_bytes(text), Some(16_315_652 * 1024));
    assert_eq!(sluice::memory::total_bytes("MemTotal: lots"), None);
    assert!(sluice::memory::default_bytes() > 0);
}

const EPOCH: &str = "1970-01-01T00:00:00Z";
const LONG_DECIMAL: &str = "1234567890123456789012345678901234567.8";

fn written(format: Format, columns: &[(&str, ArrayRef)]) -> String {
    let field =
        |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
    let rows = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    let mut out = Vec::new();
    let mut writer = row_writer(format, &schema, &mut out).unwrap();
    // In two pieces: where one batch ends must not be seen.
    let half = rows.num_rows() / 2;
    writer.write(&rows.slice(0, half)).unwrap();
    writer.write(&rows.slice(half, rows.num_rows() - half)).unwrap();
    writer.finish().unwrap();
    drop(writer);
    String::from_utf8(out).unwrap()
}

fn strings(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn instants(zone: Option<&str>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(vec![INSTANT_US]).with_timezone_opt(zone))
}

fn decimals(text: &str, precision: u8, scale: i8) -> ArrayRef {
    let digits: i128 = text.replace('.', "").parse().unwrap();
    let array = Decimal128Array::from(vec![digits]);
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

fn dictionary() -> ArrayRef {
    let array: DictionaryArray<Int32Type> = vec!["a", "b"].into_iter().collect();
    Arc::new(array.slice(1, 1))
}

fn list() -> ListArray {
    ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])])
}

fn list_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)))
}
