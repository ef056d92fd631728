//! The resolver against a model that keeps whole histories, and the rules one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type};

use super::*;
use crate::operator::random::Random;

/// key part 1, key part 2, sequence, x, y
type Row = (Option<i64>, Option<&'static str>, Option<i64>, Option<i64>, Option<i64>);
/// A row, whether it deletes, its position.
type New = (Row, Option<bool>, i64);
/// Sequence, position, the row, whether it deletes: oldest first.
type Event = (Option<i64>, i64, Row, bool);

fn table_schema() -> SchemaRef {
    let int = |name| Field::new(name, DataType::Int64, true);
    let text = Field::new("b", DataType::Utf8, true);
    Arc::new(Schema::new(vec![int("a"), text, int("seq"), int("x"), int("y")]))
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    let int = |f: fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(f).collect::<Int64Array>())
    };
    let text: StringArray = rows.iter().map(|r| r.1).collect();
    vec![int(|r| r.0), Arc::new(text), int(|r| r.2), int(|r| r.3), int(|r| r.4)]
}

fn old(rows: &[Row]) -> RecordBatch {
    RecordBatch::try_new(table_schema(), columns(rows)).unwrap()
}

fn incoming(rows: &[New]) -> RecordBatch {
    let mut all = columns(&rows.iter().map(|r| r.0).collect::<Vec<_>>());
    all.push(Arc::new(rows.iter().map(|r| r.1).collect::<BooleanArray>()));
    all.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2))));
    let mut fields: Vec<Arc<Field>> = table_schema().fields().to_vec();
    fields.push(Arc::new(Field::new("_delete", DataType::Boolean, true)));
    fields.push(Arc::new(Field::new("_position", DataType::Int64, false)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), all).unwrap()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let words = ["p", "q", "r"];
    let text = batch.column(1).as_string::<i32>();
    let int = |c: usize, row| {
        let column = batch.column(c).as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let word = |row| {
        let word = words.iter().find(|w| text.is_valid(row) && **w == text.value(row));
        word.copied()
    };
    let rows = 0..batch.num_rows();
    rows.map(|r| (int(0, r), word(r), int(2, r), int(3, r), int(4, r))).collect()
}

fn spec(coalesce: bool, sequence: bool) -> UpsertSpec {
    let sequence = sequence.then_some(2);
    UpsertSpec { keys: vec![0, 1], sequence, coalesce, delete: Some(5), position: Some(6) }
}

/// What the table holds after all of `new`, worked out one row at a time from each key's sorted
/// history, however it is cut into epochs.
fn model(spec: &UpsertSpec, new: &[New]) -> BTreeSet<Row> {
    let mut histories: BTreeMap<_, Vec<Event>> = BTreeMap::new();
    for (row, delete, position) in new.iter().filter(|n| n.0.0.is_some() && n.0.1.is_some()) {
        let entry = (spec.sequence.and(row.2), *position, *row, *delete == Some(true));
        histories.entry((row.0, row.1)).or_default().push(entry);
    }
    let mut after = BTreeSet::new();
    for mut history in histories.into_values() {
        history.sort();
        let mut now: Option<Row> = None;
        for (_, _, row, delete) in history {
            now = match (delete && spec.delete.is_some(), now) {
                (true, _) => None,
                (false, Some(o)) if spec.coalesce => {
                    Some((row.0, row.1, row.2.or(o.2), row.3.or(o.3), row.4.or(o.4)))
                }
                (false, _) => Some(row),
            };
        }
        after.extend(now);
    }
    after
}

fn apply(resolved: &Resolved, table: &[Row]) -> BTreeSet<Row> {
    let words = resolved.removed_keys.column(1).as_string::<i32>();
    let numbers = resolved.removed_keys.column(0).as_primitive::<Int64Type>();
    let removed: Vec<(i64, &str)> =
        (0..words.len()).map(|r| (numbers.value(r), words.value(r))).collect();
    let is_removed = |row: &&Row| removed.contains(&(row.0.unwrap(), row.1.unwrap()));
    let before = table.len();
    let mut after: BTreeSet<Row> = table.iter().filter(|r| !is_removed(r)).copied().collect();
    assert_eq!(before - after.len(), removed.len(), "only keys the table has, each once");
    for row in rows_of(&resolved.rows) {
        assert!(after.insert(row));
    }
    after
}

#[test]
fn any_rows_over_many_epochs_equal_the_model() {
    let mut random = Random::new(11);
    for round in 0..1500 {
        let mut spec = spec(random.one_in(2), random.one_in(2));
        if random.one_in(4) {
            spec.delete = None;
        }
        let mut table: Vec<Row> = vec![];
        let mut all: Vec<New> = vec![];
        let mut files: Vec<RecordBatch> = vec![];
        let mut remembered = Remembered::new(&spec, &table_schema()).unwrap();
        assert_eq!(
            remembered.is_some(),
            spec.sequence.is_some() && (spec.coalesce || spec.delete.is_some())
        );
        for _ in 0..6 {
            let (first, count) = (all.len() as i64, random.below(18) as i64);
            let mut new: Vec<New> =
                (first..first + count).map(|i| random_row(&mut random, i)).collect();
            all.extend(&new);
            // With positions the order in which rows come must not matter.
            for i in (1..new.len()).rev() {
                new.swap(i, random.below(i as u64 + 1) as usize);
            }
            let cut = random.below(count as u64 + 1) as usize;
            let mut batches = vec![incoming(&new[..cut]), incoming(&new[cut..])];
            if spec.delete.is_none() {
                spec.position = Some(5);
                let columns = [0, 1, 2, 3, 4, 6];
                batches = batches.iter().map(|b| b.project(&columns).unwrap()).collect();
            }
            let keys = key_batch(&spec, &batches).unwrap();
            let found = lookup(&table, &keys);
            let known = remembered.as_ref().map(|r| r.of(&keys).unwrap());
            let resolved = resolve(&spec, &batches, &old(&found), known.as_ref()).unwrap();
            let expected = model(&spec, &all);
            assert_eq!(apply(&resolved, &table), expected, "round {round} {new:?} {table:?}");

            let quarantined: u64 = resolved.null_keys.iter().map(|b| b.num_rows() as u64).sum();
            let written = resolved.inserted + resolved.updated;
            assert_eq!(written, resolved.rows.num_rows() as u64);
            let counted = written + resolved.deleted + resolved.deduplicated + quarantined;
            assert_eq!(counted, count as u64, "every incoming row is counted once");
            table = expected.into_iter().collect();
            if let (Some(remembered), Some(rows)) = (&mut remembered, &resolved.remember) {
                remembered.put(rows).unwrap();
                files.extend(remembered.delta().unwrap());
                if random.one_in(3) {
                    files = remembered.base().unwrap();
                }
            }
            if random.one_in(3) {
                remembered = Remembered::new(&spec, &table_schema()).unwrap();
                remembered.iter_mut().for_each(|r| r.restore(files.clone()).unwrap());
            }
        }
    }
}

#[test]
fn only_what_a_late_row_could_meet_is_remembered() {
    let spec = spec(true, true);
    let mut remembered = Remembered::new(&spec, &table_schema()).unwrap().unwrap();
    let mut table: Vec<Row> = vec![];
    let mut step = |new: New, kept: usize| {
        let rows = [incoming(&[new])];
        let keys = key_batch(&spec, &rows).unwrap();
        let known = remembered.of(&keys).unwrap();
        let resolved = resolve(&spec, &rows, &old(&table), Some(&known)).unwrap();
        table = apply(&resolved, &table).into_iter().collect();
        remembered.put(&resolved.remember.unwrap()).unwrap();
        let base = remembered.base().unwrap();
        assert_eq!(base.iter().map(RecordBatch::num_rows).sum::<usize>(), kept, "{new:?}");
    };
    step((row(Some(1), Some(10), Some(11)), None, 0), 0);
    step((row(Some(3), None, Some(31)), None, 1), 1);
    step((row(Some(4), Some(40), Some(41)), None, 2), 0);
    step((row(Some(5), None, None), Some(true), 3), 1);
    step((row(Some(2), Some(20), None), None, 4), 1);
    assert!(table.is_empty(), "a late row does not bring a deleted key back");
}

fn random_row(random: &mut Random, position: i64) -> New {
    let words = ["p", "q", "r"];
    let mut int = |limit, nulls| random.maybe(limit, nulls).map(|v| v as i64);
    let (a, b) = (int(3, 8), int(3, 8).map(|w| words[w as usize]));
    let row = (a, b, int(6, 5), int(100, 2), int(100, 2));
    (row, int(6, 4).map(|d| d == 0), position)
}

/// What the caller does with the keys: the table's rows that have one of them.
fn lookup(table: &[Row], keys: &RecordBatch) -> Vec<Row> {
    let words = keys.column(1).as_string::<i32>();
    let numbers = keys.column(0).as_primitive::<Int64Type>();
    let wanted: Vec<_> = (0..keys.num_rows()).map(|r| (numbers.value(r), words.value(r))).collect();
    let distinct: BTreeSet<_> = wanted.iter().collect();
    assert_eq!(distinct.len(), wanted.len());
    assert_eq!(words.null_count() + numbers.null_count(), 0);
    table.iter().filter(|r| wanted.contains(&(r.0.unwrap(), r.1.unwrap()))).copied().collect()
}

fn row(seq: Option<i64>, x: Option<i64>, y: Option<i64>) -> Row {
    (Some(1), Some("p"), seq, x, y)
}

#[test]
fn an_older_row_loses_to_the_table_and_an_equal_one_wins() {
    let table = old(&[row(Some(5), Some(50), None)]);
    let older = incoming(&[(row(Some(4), Some(40), Some(4)), None, 0)]);
    let lost = resolve(&spec(false, true), slice::from_ref(&older), &table, None).unwrap();
    assert_eq!((lost.deduplicated, lost.rows.num_rows(), lost.removed_keys.num_rows()), (1, 0, 0));

    let filled = resolve(&spec(true, true), &[older], &table, None).unwrap();
    assert_eq!(rows_of(&filled.rows), [row(Some(5), Some(50), Some(4))]);
    assert_eq!((filled.deduplicated, filled.updated), (0, 1));

    let equal = incoming(&[(row(Some(5), Some(51), None), None, 0)]);
    let won = resolve(&spec(false, true), &[equal], &table, None).unwrap();
    assert_eq!(rows_of(&won.rows), [row(Some(5), Some(51), None)]);

    let unknown = incoming(&[(row(None, Some(9), None), None, 0)]);
    let lost = resolve(&spec(false, true), &[unknown], &table, None).unwrap();
    assert_eq!(lost.deduplicated, 1, "a NULL sequence is older than any");
}

#[test]
fn a_delete_removes_and_a_later_row_inserts_afresh() {
    let table = old(&[row(Some(1), Some(10), Some(11))]);
    let gone = incoming(&[(row(Some(2), None, None), Some(true), 0)]);
    let resolved = resolve(&spec(true, true), slice::from_ref(&gone), &table, None).unwrap();
    assert_eq!((resolved.deleted, resolved.removed_keys.num_rows()), (1, 1));
    assert_eq!(resolved.rows.num_rows(), 0);

    let back = incoming(&[(row(Some(3), Some(30), None), Some(false), 1)]);
    let resolved = resolve(&spec(true, true), &[gone.clone(), back], &table, None).unwrap();
    assert_eq!(rows_of(&resolved.rows), [row(Some(3), Some(30), None)], "nothing of before");
    assert_eq!((resolved.deleted, resolved.updated, resolved.deduplicated), (0, 1, 1));

    let absent = resolve(&spec(true, true), &[gone], &old(&[]), None).unwrap();
    assert_eq!((absent.deleted, absent.removed_keys.num_rows()), (1, 0));
}

#[test]
fn rows_without_a_key_go_to_quarantine_with_the_tables_columns() {
    let nameless = (Some(1), None, Some(1), Some(2), Some(3));
    let rows = incoming(&[(nameless, None, 0), (row(None, Some(1), None), None, 1)]);
    let resolved = resolve(&spec(false, false), &[rows], &old(&[]), None).unwrap();
    let quarantined = concat_batches(&table_schema(), &resolved.null_keys).unwrap();
    assert_eq!(rows_of(&quarantined), [nameless]);
    assert_eq!((resolved.inserted, resolved.deduplicated), (1, 0));
}

#[test]
fn without_positions_rows_count_as_they_come() {
    let spec = UpsertSpec { position: None, delete: None, ..spec(false, false) };
    let batches =
        [old(&[row(None, Some(1), None)]), old(&[row(None, Some(2), None), row(None, None, None)])];
    let resolved = resolve(&spec, &batches, &old(&[]), None).unwrap();
    assert_eq!(rows_of(&resolved.rows), [row(None, None, None)]);
    assert_eq!((resolved.inserted, resolved.deduplicated), (1, 2));
}

#[test]
fn nothing_changes_nothing() {
    let resolved = resolve(&spec(true, true), &[], &old(&[]), None).unwrap();
    assert_eq!(resolved.rows.num_rows() + resolved.removed_keys.num_rows(), 0);
    assert_eq!(key_batch(&spec(true, true), &[]).unwrap().num_rows(), 0);
}

#[test]
fn columns_in_the_wrong_place_are_an_error() {
    let rows = incoming(&[(row(None, None, None), None, 0)]);
    for wrong in [
        UpsertSpec { keys: vec![], ..spec(false, true) },
        UpsertSpec { keys: vec![9], ..spec(false, true) },
        UpsertSpec { sequence: Some(6), ..spec(false, true) },
        UpsertSpec { delete: Some(6), ..spec(false, true) },
        UpsertSpec { position: Some(3), ..spec(false, true) },
    ] {
        assert!(resolve(&wrong, slice::from_ref(&rows), &old(&[]), None).is_err(), "{wrong:?}");
    }
}
