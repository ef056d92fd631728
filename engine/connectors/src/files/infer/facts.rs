//! What the values of a column are: from where to where, how many different ones, which.
//!
//! In: batches as they are decoded. Out: [`Facts`] per column, for people. Nothing depends on them.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, concat, sort_to_indices, take};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sluice_core::Result;

/// Different values that are told apart, by their hash: a megabyte or two for each column.
const DISTINCT_MAX: usize = 100_000;

/// Values that are shown.
const EXAMPLES_MAX: usize = 3;

/// A longer example is no example.
const EXAMPLE_CHARS_MAX: usize = 40;

/// What was seen in one column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Rows.
    pub rows: u64,
    /// Rows without a value.
    pub nulls: u64,
    /// Different values; none when there are more than 100,000.
    pub distinct: Option<usize>,
    /// The smallest value.
    pub low: Option<String>,
    /// The largest value.
    pub high: Option<String>,
    /// The first different values that are short enough.
    pub examples: Vec<String>,
}

/// Facts of one column in the making.
#[derive(Debug, Default)]
pub(super) struct Observer {
    rows: u64,
    nulls: u64,
    low: Option<ArrayRef>,
    high: Option<ArrayRef>,
    seen: HashSet<u64>,
    many: bool,
    examples: Vec<String>,
}

impl Observer {
    /// Looks at all columns of a batch, each with its observer.
    pub(super) fn all(observers: &mut [Observer], batch: &RecordBatch) -> Result<()> {
        for (observer, column) in observers.iter_mut().zip(batch.columns()) {
            observer.see(column)?;
        }
        Ok(())
    }

    fn see(&mut self, column: &ArrayRef) -> Result<()> {
        self.rows += column.len() as u64;
        self.nulls += column.null_count() as u64;
        if !column.data_type().is_nested() {
            self.low = outermost(self.low.take(), column, false)?;
            self.high = outermost(self.high.take(), column, true)?;
        }
        if self.many {
            return Ok(());
        }
        let options = FormatOptions::default();
        let texts = ArrayFormatter::try_new(column.as_ref(), &options)?;
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            let text = texts.value(row).to_string();
            let mut hash = DefaultHasher::new();
            text.hash(&mut hash);
            if !self.seen.insert(hash.finish()) {
                continue;
            }
            let short = text.chars().count() <= EXAMPLE_CHARS_MAX && !text.is_empty();
            if self.examples.len() < EXAMPLES_MAX && short {
                self.examples.push(text);
            }
            if self.seen.len() > DISTINCT_MAX {
                self.many = true;
                self.seen = HashSet::new();
                break;
            }
        }
        Ok(())
    }

    /// What was seen.
    pub(super) fn facts(self) -> Facts {
        let text = |value: Option<ArrayRef>| {
            let value = value.filter(|v| v.len() == 1 && v.is_valid(0))?;
            let options = FormatOptions::default();
            Some(ArrayFormatter::try_new(value.as_ref(), &options).ok()?.value(0).to_string())
        };
        Facts {
            rows: self.rows,
            nulls: self.nulls,
            distinct: (!self.many).then_some(self.seen.len()),
            low: text(self.low),
            high: text(self.high),
            examples: self.examples,
        }
    }
}

/// The smallest or largest of `before` and the values of `column`, as an array of one.
fn outermost(before: Option<ArrayRef>, column: &ArrayRef, high: bool) -> Result<Option<ArrayRef>> {
    let order = SortOptions { descending: high, nulls_first: false };
    let one = |array: &ArrayRef| -> Result<ArrayRef> {
        let first: UInt32Array = sort_to_indices(array.as_ref(), Some(order), Some(1))?;
        Ok(take(array.as_ref(), &first, None)?)
    };
    if column.is_empty() {
        return Ok(before);
    }
    let here = one(column)?;
    Ok(Some(match before {
        None => here,
        Some(before) => one(&(Arc::new(concat(&[before.as_ref(), here.as_ref()])?) as ArrayRef))?,
    }))
}
