//! The history of every key: its rows in the order that decides, oldest first.
//!
//! In: incoming rows, the table's rows, what is remembered. Out: entries in order, which of them a
//! field of the result comes from, and what to remember of them. It decides nothing about rows of
//! the table: that is [`super::resolve`]'s.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use arrow::row::Rows;
use sluice_core::Result;

use super::remembered::Layout;
use super::{Numbers, UpsertSpec, complete, converter, with_schema};

/// Where a sequence is: which of [`Histories::ages`], and its row.
type Age = (usize, usize);

/// One row of a key's history, or one field of the table's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Which batch; the table's rows are the last.
    pub source: usize,
    pub row: usize,
    pub old: bool,
    pub delete: bool,
    carries: Carries,
    age: Age,
}

/// Which fields an entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    All,
    /// The key and the sequence, of a row whose other fields are entries of their own.
    Frame,
    Field(usize),
    /// A delete that is remembered.
    None,
}

impl Entry {
    /// Whether it stands for the row the table has.
    pub fn is_table_row(&self) -> bool {
        self.old && matches!(self.carries, Carries::All | Carries::Frame)
    }
}

/// What is left of a history: after the last delete.
pub(super) fn alive(history: &[Entry]) -> &[Entry] {
    match history.iter().rposition(|e| e.delete) {
        Some(last) => &history[last + 1..],
        None => history,
    }
}

/// All entries per key, oldest first; keys in the order of their first incoming row.
pub(super) struct Histories {
    pub of_key: Vec<Vec<Entry>>,
    /// Incoming batches, then the table's rows.
    sources: Vec<RecordBatch>,
    frame: Vec<usize>,
    /// Per key, whether something is remembered of it.
    known: Vec<bool>,
    /// The sequences of each source, then those that are remembered; nothing without a sequence.
    ages: Vec<ArrayRef>,
    comparable: Option<Vec<Rows>>,
}

impl Histories {
    pub fn new(
        spec: &UpsertSpec,
        incoming: &[RecordBatch],
        old: &RecordBatch,
        remembered: Option<&RecordBatch>,
    ) -> Result<Self> {
        let sources: Vec<RecordBatch> = incoming.iter().chain([old]).cloned().collect();
        let mut ages: Vec<ArrayRef> = match spec.sequence {
            Some(column) => sources.iter().map(|b| b.column(column).clone()).collect(),
            None => vec![],
        };
        let layout = Layout::new(spec, old.schema_ref());
        if let Some(remembered) = remembered {
            ages.extend(layout.ages().map(|c| remembered.column(c).clone()));
        }
        let comparable = match spec.sequence {
            Some(column) => {
                let rows = converter(old.schema_ref(), &[column])?;
                let rows = ages.iter().map(|a| rows.convert_columns(std::slice::from_ref(a)));
                Some(rows.collect::<std::result::Result<Vec<_>, _>>()?)
            }
            None => None,
        };
        let mut frame = spec.keys.clone();
        frame.extend(spec.sequence);
        let mut histories =
            Self { of_key: vec![], sources, frame, known: vec![], ages, comparable };
        histories.gather(spec, incoming.len(), remembered, &layout)?;
        histories.sort(spec, incoming)?;
        Ok(histories)
    }

    fn gather(
        &mut self,
        spec: &UpsertSpec,
        incoming: usize,
        remembered: Option<&RecordBatch>,
        layout: &Layout,
    ) -> Result<()> {
        let old = self.sources[incoming].clone();
        let key_rows = converter(old.schema_ref(), &spec.keys)?;
        let mut numbers = Numbers::default();
        for (source, batch) in self.sources[..incoming].iter().enumerate() {
            let rows = key_rows.convert_columns(batch.project(&spec.keys)?.columns())?;
            let whole = complete(batch, &spec.keys);
            let deletes = spec.delete.map(|column| batch.column(column).as_boolean());
            for row in (0..batch.num_rows()).filter(|&row| whole.value(row)) {
                let (number, is_new) = numbers.number(rows.row(row).as_ref());
                if is_new {
                    self.of_key.push(vec![]);
                }
                let delete = deletes.is_some_and(|d| d.is_valid(row) && d.value(row));
                let (carries, age) = (Carries::All, (source, row));
                self.of_key[number].push(Entry { source, row, old: false, delete, carries, age });
            }
        }
        self.known = vec![false; self.of_key.len()];
        // Per key, the row that says how old its fields are.
        let mut dated: Vec<Option<usize>> = vec![None; self.of_key.len()];
        if let Some(remembered) = remembered {
            let columns: Vec<usize> = (0..spec.keys.len()).collect();
            let rows = key_rows.convert_columns(remembered.project(&columns)?.columns())?;
            for row in 0..remembered.num_rows() {
                let Some(number) = numbers.of(rows.row(row).as_ref()) else { continue };
                self.known[number] = true;
                if layout.flag(remembered, layout.deleted(), row) {
                    let (carries, age) = (Carries::None, (incoming + 1, row));
                    let entry =
                        Entry { source: incoming, row, old: true, delete: true, carries, age };
                    self.of_key[number].push(entry);
                }
                if spec.coalesce && layout.flag(remembered, layout.dated(), row) {
                    dated[number] = Some(row);
                }
            }
        }
        let rows = key_rows.convert_columns(old.project(&spec.keys)?.columns())?;
        for row in 0..old.num_rows() {
            let Some(number) = numbers.of(rows.row(row).as_ref()) else { continue };
            let carries = if dated[number].is_some() { Carries::Frame } else { Carries::All };
            let age = (incoming, row);
            let whole = Entry { source: incoming, row, old: true, delete: false, carries, age };
            self.of_key[number].push(whole);
            let Some(at) = dated[number] else { continue };
            for (k, &column) in layout.fields().iter().enumerate() {
                if old.column(column).is_valid(row) {
                    let (carries, age) = (Carries::Field(column), (incoming + 2 + k, at));
                    self.of_key[number].push(Entry { carries, age, ..whole });
                }
            }
        }
        Ok(())
    }

    fn sort(&mut self, spec: &UpsertSpec, incoming: &[RecordBatch]) -> Result<()> {
        let mut positions = vec![];
        if let Some((column, first)) = spec.position.zip(incoming.first()) {
            let rows = converter(first.schema_ref(), &[column])?;
            for batch in incoming {
                positions.push(rows.convert_columns(&[batch.column(column).clone()])?);
            }
        }
        let by_position = |a: &Entry, b: &Entry| match positions.is_empty() {
            true => Ordering::Equal,
            false => positions[a.source].row(a.row).cmp(&positions[b.source].row(b.row)),
        };
        let mut of_key = std::mem::take(&mut self.of_key);
        for entries in &mut of_key {
            // The sort is stable, so that rows that compare equal stay as they came. What the table
            // has is what a delete of the same sequence left: that came later.
            entries.sort_by(|a, b| {
                self.by_age(a.age, b.age).then(b.old.cmp(&a.old)).then_with(|| match a.old {
                    true => b.delete.cmp(&a.delete),
                    false => by_position(a, b),
                })
            });
        }
        self.of_key = of_key;
        Ok(())
    }

    fn by_age(&self, a: Age, b: Age) -> Ordering {
        match &self.comparable {
            Some(rows) => rows[a.0].row(a.1).cmp(&rows[b.0].row(b.1)),
            None => Ordering::Equal,
        }
    }

    /// One column of every source, to pick from.
    pub fn parts(&self, column: usize) -> Vec<&dyn Array> {
        self.sources.iter().map(|batch| batch.column(column).as_ref()).collect()
    }

    /// The entry a field of the result comes from; nothing when the field is NULL.
    pub fn pick<'e>(
        &self,
        spec: &UpsertSpec,
        alive: &'e [Entry],
        column: usize,
    ) -> Option<&'e Entry> {
        if !spec.coalesce {
            return alive.last();
        }
        let known = |e: &&Entry| {
            let carries = match e.carries {
                Carries::All => true,
                Carries::Frame => self.frame.contains(&column),
                Carries::Field(field) => field == column,
                Carries::None => false,
            };
            carries && self.sources[e.source].column(column).is_valid(e.row)
        };
        alive.iter().rev().find(known)
    }

    /// Whether what is left of a key's history is not the row that the table has.
    pub fn changes(&self, spec: &UpsertSpec, alive: &[Entry]) -> bool {
        let Some(row) = alive.iter().find(|e| e.is_table_row()) else { return true };
        if !spec.coalesce {
            return alive.last().is_some_and(|e| !e.old);
        }
        let old = &self.sources[row.source];
        (0..old.num_columns()).any(|column| match self.pick(spec, alive, column) {
            Some(entry) => !entry.old,
            None => old.column(column).is_valid(row.row),
        })
    }

    /// What to remember of the keys: rows for [`super::Remembered::put`].
    pub fn remember(&self, spec: &UpsertSpec, schema: &SchemaRef) -> Result<RecordBatch> {
        let layout = Layout::new(spec, self.sources[self.sources.len() - 1].schema_ref());
        let mut kept: Vec<Kept> = vec![];
        for (history, known) in self.of_key.iter().zip(&self.known) {
            let one = self.kept(spec, &layout, history);
            if *known || one.delete.is_some() || !one.fields.is_empty() {
                kept.push(one);
            }
        }
        let mut columns: Vec<ArrayRef> = vec![];
        for &key in &spec.keys {
            let picks: Vec<(usize, usize)> = kept.iter().map(|k| k.key).collect();
            columns.push(interleave(&self.parts(key), &picks)?);
        }
        let flags = |flag: fn(&Kept) -> bool| -> ArrayRef {
            std::sync::Arc::new(kept.iter().map(|k| Some(flag(k))).collect::<BooleanArray>())
        };
        columns.push(flags(|k| k.delete.is_some()));
        columns.push(self.ages_at(kept.iter().map(|k| k.delete))?);
        if spec.coalesce {
            columns.push(flags(|k| !k.fields.is_empty()));
            for field in 0..layout.fields().len() {
                let ages = kept.iter().map(|k| k.fields.get(field).copied().flatten());
                columns.push(self.ages_at(ages)?);
            }
        }
        with_schema(schema, columns, kept.len())
    }

    fn kept(&self, spec: &UpsertSpec, layout: &Layout, history: &[Entry]) -> Kept {
        let key = history.iter().find(|e| e.carries == Carries::All || e.is_table_row());
        let mut kept = Kept { key: key.map_or((0, 0), |e| (e.source, e.row)), ..Kept::default() };
        let alive = alive(history);
        // A delete without a sequence is older than anything that can still come.
        let delete = history.iter().rfind(|e| e.delete).map(|e| e.age);
        let dated = |age: &Age| self.ages[age.0].is_valid(age.1);
        kept.delete = delete.filter(|_| spec.coalesce || alive.is_empty()).filter(dated);
        let Some(winner) = alive.iter().rev().find(|e| !matches!(e.carries, Carries::Field(_)))
        else {
            return kept;
        };
        let fields = layout.fields().iter();
        let ages: Vec<Option<Age>> =
            fields.map(|&f| self.pick(spec, alive, f).map(|e| e.age)).collect();
        let differs = |age: &Option<Age>| age.is_some_and(|a| self.by_age(a, winner.age).is_ne());
        if spec.coalesce && ages.iter().any(differs) {
            kept.fields = ages;
        }
        kept
    }

    fn ages_at(&self, ages: impl Iterator<Item = Option<Age>>) -> Result<ArrayRef> {
        let nothing = new_null_array(self.ages[0].data_type(), 1);
        let mut parts: Vec<&dyn Array> = self.ages.iter().map(|a| a.as_ref()).collect();
        parts.push(nothing.as_ref());
        let absent = (parts.len() - 1, 0);
        let picks: Vec<Age> = ages.map(|age| age.unwrap_or(absent)).collect();
        Ok(interleave(&parts, &picks)?)
    }
}

/// What is to be remembered of one key.
#[derive(Default)]
struct Kept {
    /// A row that has the key.
    key: (usize, usize),
    delete: Option<Age>,
    /// Per field of the layout; empty when all are as old as the row.
    fields: Vec<Option<Age>>,
}
