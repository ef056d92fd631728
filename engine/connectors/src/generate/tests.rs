//! What `generate` promises: the same rows whichever way they are read, the types its settings
//! say, shares and limits as asked for, and a hint for everything that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use serde_json::json;
use sluice_core::testing::{read_all, source_conformance};
use sluice_core::{Clock, Limit, ManualClock, Offset, Start, Unbounded, type_name};

use super::*;

const NO_LIMIT: Limit = Limit { rows: u64::MAX, bytes: u64::MAX, files: u64::MAX };

fn config(value: Value) -> Config {
    let spans = BTreeMap::new();
    Config { name: "rows".into(), file: PathBuf::from("job.yaml"), value, spans, schema: None }
}

fn context(clock: &Arc<ManualClock>) -> Context {
    let (memory, secrets) = (Unbounded::shared(), Default::default());
    Context { clock: clock.clone(), memory, secrets, job: "j".into() }
}

fn plan(columns: Value) -> Plan {
    seeded(0, columns)
}

fn seeded(seed: u64, columns: Value) -> Plan {
    let value = json!({"seed": seed, "rows": 100_000, "columns": columns});
    plan_of(&config(value)).expect("a plan").1
}

fn column(plan: &Plan, name: &str, rows: u64) -> ArrayRef {
    let batch = plan.rows(0..rows).expect("rows");
    batch.column_by_name(name).expect("the column").clone()
}

fn strings(array: &ArrayRef) -> Vec<Option<String>> {
    array.as_string::<i32>().iter().map(|v| v.map(str::to_string)).collect()
}

/// One of everything.
fn everything() -> Value {
    json!({
        "id": {"sequence": {"format": "M{:07}"}},
        "kind": {"choice": {"a": 3, "b": 1}, "repeat": 7},
        "agency": {"integer": {"from": 1, "to": 120, "zipf": 1.0, "format": "AG_{:03}"}},
        "on": {"date": {"from": "2024-01-01", "to": "2025-12-31"}},
        "at": {"timestamp": {"start": "2024-01-01", "every": "1s", "jitter": "500ms"}},
        "amount": {"by": {
            "column": "kind",
            "cases": {"a": {"normal": {"mean": 100, "std_dev": 20, "scale": 2}}},
            "default": {"log_normal": {"median": 10, "sigma": 1, "scale": 2}},
        }},
        "text": {"uniform": {"from": 0, "to": 9, "scale": 3}, "type": "string",
                 "nulls": 0.1, "errors": {"rate": 0.1, "values": ["n/a", "???"]}},
    })
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source() {
    let clock = Arc::new(ManualClock::default());
    let limit = Limit { rows: 20_000, ..NO_LIMIT };
    let build = async || {
        let value = json!({"rows": 70_001, "columns": everything()});
        Factory.build(&config(value), &context(&clock)).await
    };
    source_conformance(build, limit).await.expect("every promise is kept");
}

#[test]
fn a_row_is_the_same_whichever_range_it_is_made_in() {
    let plan = plan(everything());
    let whole = plan.rows(0..10_000).expect("rows");
    for step in [1, 13, 777, 8192] {
        let starts = (0..10_000u64).step_by(step).take(300);
        let parts: Vec<RecordBatch> = starts
            .map(|start| plan.rows(start..(start + step as u64).min(10_000)).expect("rows"))
            .collect();
        let parts = concat_batches(&whole.schema(), &parts).expect("one schema");
        assert_eq!(parts, whole.slice(0, parts.num_rows()), "step={step}");
    }
    assert_eq!(plan.rows(9_000..9_100).expect("rows"), whole.slice(9_000, 100));
}

#[tokio::test]
async fn more_rows_append() {
    let clock = Arc::new(ManualClock::default());
    let mut read = Vec::new();
    for rows in [500, 300_000] {
        let config = config(json!({"rows": rows, "columns": everything()}));
        let mut source = Factory.build(&config, &context(&clock)).await.expect("a source");
        source.seek(Start::default()).await.expect("a start");
        let intake = source.poll(NO_LIMIT).await.expect("rows");
        assert!(!intake.more);
        let (batches, rejected) = read_all(source.as_ref(), &intake).await.expect("rows");
        assert!(rejected.is_empty());
        let schema = source.reader().schema();
        read.push(concat_batches(&schema, &batches).expect("one schema"));
    }
    assert_eq!((read[0].num_rows(), read[1].num_rows()), (500, 300_000));
    assert_eq!(read[0], read[1].slice(0, 500));
    let positions = read[1].column_by_name("_position").expect("positions");
    assert!(positions.as_primitive::<Int64Type>().values().iter().copied().eq(0..300_000));
}

#[test]
fn seeds_and_names_part_the_columns_and_neighbours_do_not_matter() {
    let number = json!({"uniform": {"from": 0, "to": 1}});
    let one = plan(json!({"a": number, "b": number}));
    let other = seeded(1, json!({"a": number}));
    let alone = plan(json!({"x": {"sequence": {}}, "a": number}));
    assert_ne!(&column(&one, "a", 100), &column(&one, "b", 100));
    assert_ne!(&column(&one, "a", 100), &column(&other, "a", 100));
    assert_eq!(&column(&one, "a", 100), &column(&alone, "a", 100));
}

#[test]
fn the_schema_follows_the_columns() {
    let plan = plan(json!({
        "a": {"sequence": {"start": 5, "step": 2}},
        "b": {"sequence": {"format": "{}"}},
        "c": {"integer": {"from": -2, "to": 2}, "type": "int8"},
        "d": {"date": {"from": "2024-02-28", "to": "2024-02-29"}},
        "e": {"timestamp": {"from": "2024-01-01", "to": "2024-01-01T00:00:09Z"}},
        "f": {"choice": [1, 2.5]},
        "g": {"choice": {"1.50": 1}, "type": "decimal(9, 3)"},
        "h": {"constant": true},
        "i": {"normal": {"mean": 0, "std_dev": 1}},
        "j": {"exponential": {"mean": 5, "scale": 2}},
        "k": {"uniform": {"from": 0, "to": 9}, "type": "int32"},
        "l": {"timestamp": {"start": "2024-01-01", "every": "12h"}, "type": "string"},
        "secret": {"choice": ["x"], "hidden": true},
        "m": {"by": {"column": "secret", "cases": {"x": {"constant": "y"}}}},
    }));
    let types: Vec<String> =
        plan.schema().fields().iter().map(|f| type_name(f.data_type())).collect();
    let expected = "int64 string int8 date timestamp float64 decimal(9, 3) bool float64 \
                    decimal(18, 2) int32 string string";
    assert_eq!(types.join(" "), expected);
    let batch = plan.rows(0..1000).expect("rows");
    assert_eq!(batch.num_columns(), types.len() + 1);
    assert_eq!(&batch["a"].as_primitive::<Int64Type>().values()[..3], &[5, 7, 9]);
    let days: BTreeSet<i32> =
        batch["d"].as_primitive::<Date32Type>().values().iter().copied().collect();
    assert_eq!(days, BTreeSet::from([19_781, 19_782]));
    let times = batch["e"].as_primitive::<TimestampMicrosecondType>();
    let seconds: BTreeSet<i64> = times.values().iter().map(|t| t - 1_704_067_200_000_000).collect();
    assert_eq!(seconds, (0..10).map(|s| s * 1_000_000).collect());
    assert_eq!(batch["g"].as_primitive::<Decimal128Type>().value(0), 1_500);
    assert_eq!(strings(&batch["l"])[1].as_deref(), Some("2024-01-01T12:00:00"));
    assert_eq!(strings(&batch["m"])[0].as_deref(), Some("y"));
}

#[test]
fn weights_and_curves_come_out_as_asked() {
    let plan = plan(json!({
        "country": {"choice": {"FR": 60, "ES": 30, "IT": 10, "never": 0}},
        "amount": {"normal": {"mean": 50, "std_dev": 10, "min": 0, "max": 100, "scale": 2}},
        "long": {"log_normal": {"median": 100, "sigma": 0.5, "max": 1000}},
    }));
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for country in strings(&column(&plan, "country", 100_000)).into_iter().flatten() {
        *counts.entry(country).or_default() += 1.0 / 100_000.0;
    }
    let near = |value: f64, expected: f64, by: f64| (value - expected).abs() < by;
    assert_eq!(counts.len(), 3, "{counts:?}");
    for (country, share) in [("FR", 0.6), ("ES", 0.3), ("IT", 0.1)] {
        assert!(near(counts[country], share, 0.01), "{counts:?}");
    }
    let amounts = column(&plan, "amount", 100_000);
    let amounts = amounts.as_primitive::<Decimal128Type>().values();
    assert!(amounts.iter().all(|a| (0..=10_000).contains(a)));
    let mean = amounts.iter().sum::<i128>() as f64 / 100_000.0;
    let variance = amounts.iter().map(|a| (*a as f64 - mean).powi(2)).sum::<f64>() / 100_000.0;
    assert!(near(mean, 5_000.0, 20.0) && near(variance.sqrt(), 1_000.0, 20.0));
    let long = column(&plan, "long", 100_000);
    let mut long = long.as_primitive::<Float64Type>().values().to_vec();
    long.sort_by(f64::total_cmp);
    assert!(near(long[50_000], 100.0, 2.0) && long[99_999] <= 1000.0 && long[0] > 0.0);
}

#[test]
fn nulls_and_errors_come_at_their_rates_and_leave_other_rows_alone() {
    let errors = json!({"rate": 0.02, "values": ["n/a", "???"]});
    let clean = plan(json!({"a": {"sequence": {"format": "{}"}}}));
    let spoilt =
        plan(json!({"a": {"sequence": {"format": "{}"}, "nulls": 0.05, "errors": errors}}));
    let (clean, spoilt) = (column(&clean, "a", 50_000), column(&spoilt, "a", 50_000));
    let (mut nulls, mut wrong) = (0, BTreeMap::new());
    for (clean, spoilt) in strings(&clean).into_iter().zip(strings(&spoilt)) {
        match spoilt {
            None => nulls += 1,
            Some(text) if Some(&text) != clean.as_ref() => *wrong.entry(text).or_insert(0) += 1,
            Some(_) => {}
        }
    }
    assert!((2_300..2_700).contains(&nulls), "{nulls}");
    assert_eq!(wrong.keys().map(String::as_str).collect::<Vec<_>>(), ["???", "n/a"]);
    assert!(wrong.values().all(|n| (400..600).contains(n)), "{wrong:?}");
}

#[test]
fn neighbours_share_values_and_cases_follow_their_column() {
    let plan = plan(json!({
        "kind": {"choice": ["sale", "return"], "repeat": 3, "nulls": 0.5},
        "number": {"repeat": 3, "by": {"column": "kind", "cases": {
            "sale": {"sequence": {"start": 100, "format": "{}"}},
            "return": {"sequence": {"start": 100, "format": "C{}"}},
        }}},
    }));
    let batch = plan.rows(1..3_001).expect("rows");
    let (kinds, numbers) = (strings(&batch["kind"]), strings(&batch["number"]));
    let mut returns = 0;
    for (row, (kind, number)) in (1..).zip(kinds.into_iter().zip(numbers)) {
        let number = number.expect("a number");
        let prefix = if number.starts_with('C') { "C" } else { "" };
        assert_eq!(number, format!("{prefix}{}", 100 + row / 3));
        assert!(kind.is_none_or(|kind| (kind == "return") == (prefix == "C")));
        returns += usize::from(prefix == "C");
    }
    assert!((1_200..1_800).contains(&returns), "{returns}");
}

#[tokio::test]
async fn a_rate_gives_what_is_due() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let config = config(json!({"rate": 10, "rows": 57, "columns": {"id": {"sequence": {}}}}));
    let mut source = Factory.build(&config, &context(&clock)).await.expect("a source");
    clock.advance_ms(60_000);
    let offsets = BTreeMap::from([("rows".to_string(), Offset::At(7))]);
    source.seek(Start { offsets, ..Start::default() }).await.expect("a start");
    assert!(source.poll(NO_LIMIT).await.expect("a poll").advances.is_empty());
    let mut polls = Vec::new();
    for limit in [2, 100, 100, 100] {
        clock.advance_ms(2_500);
        let intake = source.poll(Limit { rows: limit, ..NO_LIMIT }).await.expect("a poll");
        let to = intake.advances.first().and_then(|a| a.to.at());
        polls.push((to, intake.more));
    }
    assert_eq!(polls, [(Some(9), true), (Some(57), false), (None, false), (None, false)]);
}

/// What the polls of a run that is to end take: rows in all, whether there are more, and when, in
/// milliseconds since the run began. The last one is the first that says that nothing more is there.
async fn polls_to_the_end(settings: Value) -> Vec<(Option<u64>, bool, i64)> {
    let clock = Arc::new(ManualClock::default());
    let mut source = Factory.build(&config(settings), &context(&clock)).await.expect("a source");
    source.seek(Start { bounded: true, ..Start::default() }).await.expect("a start");
    let mut polls = Vec::new();
    loop {
        let intake = source.poll(NO_LIMIT).await.expect("a poll");
        let to = intake.advances.first().and_then(|a| a.to.at());
        polls.push((to, intake.more, clock.wall_ms()));
        if to.is_none() && !intake.more {
            return polls;
        }
    }
}

#[tokio::test]
async fn a_run_that_ends_waits_for_every_row_and_no_longer() {
    let columns = json!({"id": {"sequence": {}}});
    let found = polls_to_the_end(json!({"rate": 5, "rows": 5, "columns": columns})).await;
    let gathered = [(Some(2), false, 400), (Some(4), false, 800), (Some(5), false, 1_000)];
    assert_eq!(found[..3], gathered);
    assert_eq!(found[3..], [(None, false, 1_000)]);
    // A wait is cut, so that the run hears what else it is to do.
    let found = polls_to_the_end(json!({"rate": 0.8, "rows": 1, "columns": columns})).await;
    let waits = [(None, true, 500), (None, true, 1_000), (Some(1), false, 1_250)];
    assert_eq!(found[..3], waits);
    assert_eq!(found[3..], [(None, false, 1_250)]);
}

#[tokio::test]
async fn a_run_that_ends_takes_none_of_rows_without_end_and_says_so_once() {
    let clock = Arc::new(ManualClock::default());
    let config = config(json!({"rate": 1_000, "columns": {"id": {"sequence": {}}}}));
    let mut source = Factory.build(&config, &context(&clock)).await.expect("a source");
    source.seek(Start { bounded: true, ..Start::default() }).await.expect("a start");
    for notes in [1, 0] {
        clock.advance_ms(1_000);
        let intake = source.poll(NO_LIMIT).await.expect("a poll");
        assert_eq!((intake.advances.len(), intake.more, intake.notes.len()), (0, false, notes));
    }
}

#[tokio::test]
async fn limits_are_kept_and_fewer_rows_than_taken_is_nothing_to_do() {
    let clock = Arc::new(ManualClock::default());
    let config = config(json!({"rows": 600_000, "columns": {"id": {"sequence": {}}}}));
    let mut source = Factory.build(&config, &context(&clock)).await.expect("a source");
    source.seek(Start::default()).await.expect("a start");
    let few = source.poll(Limit { bytes: 6_400, ..NO_LIMIT }).await.expect("a poll");
    assert_eq!((few.advances[0].to.clone(), few.more), (Offset::At(100), true));
    let rest = source.poll(NO_LIMIT).await.expect("a poll");
    let ranges: Vec<(u64, u64)> = rest.splits.iter().map(|s| s.range).collect();
    assert_eq!(ranges, [(100, 262_244), (262_244, 524_388), (524_388, 600_000)]);
    assert_eq!(rest.splits.iter().map(|s| s.ordinal).collect::<Vec<_>>(), [0, 1, 2]);
    let offsets = BTreeMap::from([("rows".to_string(), Offset::At(700_000))]);
    source.seek(Start { offsets, ..Start::default() }).await.expect("a start");
    assert_eq!(source.poll(NO_LIMIT).await.expect("a poll").advances, []);
}

#[test]
fn the_config_schema_stands_alone_and_refuses_unknown_keys() {
    let schema = Factory.config_schema();
    assert_eq!(schema["additionalProperties"], json!(false));
    let column = &schema["properties"]["columns"]["additionalProperties"];
    assert_eq!(column["additionalProperties"], json!(false), "{column:#}");
    for key in ["sequence", "by", "type", "nulls", "errors", "repeat", "hidden"] {
        assert!(column["properties"][key].is_object(), "{key}");
    }
    let text = schema.to_string();
    assert!(!text.contains("$ref") && !text.contains("unevaluatedProperties"), "{text}");
}

fn wrong_columns() -> Value {
    json!({"rows": 1000, "rate": 0, "columns": {
        "_a": {"sequence": {}},
        "b": {},
        "c": {"sequence": {}, "choice": ["x"]},
        "d": {"sequence": {"format": "M{"}},
        "e": {"integer": {"from": 2, "to": 1}},
        "f": {"integer": {"from": 0, "to": 300}, "type": "int8"},
        "g": {"date": {"from": "2024-02-30", "to": "soon"}},
        "h": {"timestamp": {"from": "2024-01-02", "to": "2024-01-01"}},
        "i": {"timestamp": {"start": "2024-01-02"}},
        "j": {"timestamp": {"start": "2024-01-02", "every": "often"}},
        "k": {"choice": {"x": 0}},
        "l": {"choice": {"x": -1, "y": 2}},
        "m": {"choice": ["x"], "type": "int64"},
        "n": {"normal": {"mean": 0, "std_dev": 0}},
        "o": {"normal": {"mean": 0, "std_dev": 1, "min": 2, "max": 1}},
        "p": {"normal": {"mean": 0, "std_dev": 1, "min": 90}},
        "q": {"uniform": {"from": 0, "to": 1, "scale": 19}},
        "r": {"uniform": {"from": 0, "to": 1, "scale": 2}, "type": "decimal(9, 3)"},
        "s": {"sequence": {}, "type": "money"},
        "t": {"sequence": {}, "nulls": 1.5},
        "u": {"sequence": {}, "errors": {"rate": 0.1, "values": ["x"]}},
        "v": {"sequence": {}, "repeat": 0},
        "w": {"by": {"column": "later", "cases": {}}},
        "x": {"choice": ["s", "t"], "hidden": true},
        "y": {"by": {"column": "x", "cases": {"s": {"constant": 1}, "z": {"constant": "1"}}}},
        "z": {"choice": ["s"], "hidden": true},
        "a/b": {"date": {"from": "2024-01-01", "to": "2024-01-01"}, "type": "int64"},
    }})
}

#[test]
fn all_faults_are_found_at_once_each_with_its_place_and_a_hint() {
    let value = wrong_columns();
    let settings: Settings = config(value).parse().expect("settings");
    let faults = Plan::new(&settings).expect_err("faults");
    let found: Vec<String> =
        faults.iter().map(|f| format!("{} {}", f.pointer, f.message)).collect();
    let expected = [
        "/rate rate is not above 0",
        "/columns/_a not a column name",
        "/columns/b no generator is given",
        "/columns/c several generators are given keys=sequence, choice",
        "/columns/d/sequence/format the format has an open brace",
        "/columns/e/integer from is above to from=2 to=1",
        "/columns/f numbers do not fit type=int8 first=0 last=300",
        "/columns/g/date/from not a date",
        "/columns/g/date/to not a date",
        "/columns/h/timestamp from is after to",
        "/columns/i/timestamp a timestamp is neither",
        "/columns/j/timestamp/every not a duration",
        "/columns/k/choice there is nothing to choose from",
        "/columns/l/choice a weight is below 0",
        "/columns/m/choice a value does not read",
        "/columns/n/normal std_dev is not above 0",
        "/columns/o/normal min is above max",
        "/columns/p/normal min and max leave no numbers",
        "/columns/q/uniform scale is above 18",
        "/columns/r/uniform scale is not the type's scale",
        "/columns/s/type unknown type",
        "/columns/t/nulls not a share",
        "/columns/u/errors errors need a string column",
        "/columns/v/repeat repeat is 0",
        "/columns/w/by/column by needs a choice column",
        "/columns/y/by/cases/z no such value",
        "/columns/y/by/cases/z the cases make different types",
        "/columns/y/by no case for a value column=x value=\"t\"",
        "/columns/a~1b the generator's values do not become this type",
        "/columns/z no column goes by a hidden one",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} is not {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(faults.iter().all(|f| !f.hint.is_empty()));
}

#[test]
fn check_reports_into_the_job_file() {
    let mut problems = Problems::new();
    Factory.check(&config(json!({"columns": {"id": {"sequence": {}}}})), &mut problems);
    let text = problems.to_string();
    assert!(text.contains("rows without end need a rate") && text.contains("hint:"), "{text}");
    let mut none = Problems::new();
    Factory.check(&config(json!({"rows": 1, "columns": everything()})), &mut none);
    assert_eq!(none, Problems::new());
}
