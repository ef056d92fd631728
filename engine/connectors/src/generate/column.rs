//! Generators as functions from draws to Arrow arrays.
//!
//! In: the draws of some rows. Out: one array with a value per draw. Everything here works on
//! whole columns and was checked before; the only errors left are values that do not fit the type
//! asked for.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringArray, StringBuilder, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{CastOptions, cast_with_options, interleave, nullif, take};
use arrow::datatypes::{DataType, TimeUnit};
use sluice_core::Result;

use super::draw::{Draws, Weighted, below, unit};
use super::number::{Curve, Zipf};
use super::text::Pattern;

/// Makes values and gives them their type.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    /// What it makes.
    pub kind: Kind,
    /// The type the values are cast to.
    pub data_type: DataType,
}

/// What is made.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// `start + step * draw`.
    Sequence { start: i64, step: i64, pattern: Option<Pattern> },
    /// `from` and the `span` numbers after it.
    Integer { from: i64, span: u64, zipf: Option<Zipf>, pattern: Option<Pattern> },
    /// `from` in days since 1970 and the days after it, `days` in all.
    Date { from: i32, days: u64 },
    /// `start + every * draw` plus one of `steps` multiples of `unit`, in microseconds.
    Time { start: i64, every: i64, unit: i64, steps: u64 },
    /// One of some values.
    Choice { values: ArrayRef, weights: Weighted },
    /// Floats.
    Float { curve: Curve },
    /// Decimals; `bounds` are in units of the last digit.
    Decimal { curve: Curve, precision: u8, scale: i8, bounds: (f64, f64) },
}

impl Kind {
    /// The type it makes by itself.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Kind::Sequence { pattern: Some(_), .. } | Kind::Integer { pattern: Some(_), .. } => {
                DataType::Utf8
            }
            Kind::Sequence { .. } | Kind::Integer { .. } => DataType::Int64,
            Kind::Date { .. } => DataType::Date32,
            Kind::Time { .. } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Choice { values, .. } => values.data_type().clone(),
            Kind::Float { .. } => DataType::Float64,
            Kind::Decimal { precision, scale, .. } => DataType::Decimal128(*precision, *scale),
        }
    }

    /// The indices that a choice draws; nothing for other kinds.
    pub(super) fn codes(&self, draws: &Draws) -> Option<Vec<u32>> {
        let Kind::Choice { weights, .. } = self else { return None };
        Some(draws.words.iter().map(|&word| weights.index(word)).collect())
    }

    fn array(&self, draws: &Draws) -> Result<ArrayRef> {
        Ok(match self {
            Kind::Sequence { start, step, pattern } => {
                let number = |&at: &u64| {
                    start.saturating_add(step.saturating_mul(i64::try_from(at).unwrap_or(i64::MAX)))
                };
                numbers(draws.at.iter().map(number), pattern.as_ref())
            }
            Kind::Integer { from, span, zipf, pattern } => {
                let number = |&word: &u64| match zipf {
                    Some(zipf) => from.wrapping_add_unsigned(zipf.rank(unit(word))),
                    None => from.wrapping_add_unsigned(below(word, *span)),
                };
                numbers(draws.words.iter().map(number), pattern.as_ref())
            }
            Kind::Date { from, days } => {
                let date = |&word: &u64| from + below(word, *days) as i32;
                Arc::new(Date32Array::from_iter_values(draws.words.iter().map(date)))
            }
            Kind::Time { start, every, unit, steps } => {
                let time = |(&at, &word): (&u64, &u64)| {
                    let at = every.saturating_mul(i64::try_from(at).unwrap_or(i64::MAX));
                    let more = unit.saturating_mul(below(word, *steps) as i64);
                    start.saturating_add(at).saturating_add(more)
                };
                let values = draws.at.iter().zip(&draws.words).map(time);
                Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
            }
            Kind::Choice { values, .. } => {
                let codes = self.codes(draws).unwrap_or_default();
                take(values, &UInt32Array::from(codes), None)?
            }
            Kind::Float { curve } => {
                let values = draws.words.iter().map(|&word| curve.at(unit(word)));
                Arc::new(Float64Array::from_iter_values(values))
            }
            Kind::Decimal { curve, precision, scale, bounds } => {
                let factor = 10f64.powi(i32::from(*scale));
                let digits = |&word: &u64| {
                    let digits = (curve.at(unit(word)) * factor).round();
                    digits.clamp(bounds.0, bounds.1) as i128
                };
                let values = Decimal128Array::from_iter_values(draws.words.iter().map(digits));
                Arc::new(values.with_precision_and_scale(*precision, *scale)?)
            }
        })
    }
}

impl Maker {
    /// A value per draw.
    pub(super) fn array(&self, draws: &Draws) -> Result<ArrayRef> {
        cast(&self.kind.array(draws)?, &self.data_type)
    }
}

/// Numbers as they are, or as text.
fn numbers(numbers: impl Iterator<Item = i64>, pattern: Option<&Pattern>) -> ArrayRef {
    let Some(pattern) = pattern else { return Arc::new(Int64Array::from_iter_values(numbers)) };
    let (mut values, mut text) = (StringBuilder::new(), String::new());
    for number in numbers {
        pattern.write(number, &mut text);
        values.append_value(&text);
    }
    Arc::new(values.finish())
}

/// `array` as `to`; a value that does not fit is an error.
pub(super) fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    if let DataType::Timestamp(unit, Some(_)) = array.data_type() {
        // As UTC, and without the letter Z that text would end in.
        let plain = array.to_data().into_builder().data_type(DataType::Timestamp(*unit, None));
        let plain = arrow::array::make_array(plain.build()?);
        return Ok(cast_with_options(&plain, to, &options)?);
    }
    Ok(cast_with_options(array, to, &options)?)
}

/// Puts generators' rows back together: row i comes from `parts[of[i]]`, in order.
pub(super) fn merge(makers: &[Maker], of: &[u32], draws: &Draws) -> Result<ArrayRef> {
    let mut rows = vec![Vec::new(); makers.len()];
    let mut from = Vec::with_capacity(of.len());
    for (row, &maker) in of.iter().enumerate() {
        from.push((maker as usize, rows[maker as usize].len()));
        rows[maker as usize].push(row);
    }
    let mut parts = Vec::with_capacity(makers.len());
    for (maker, rows) in makers.iter().zip(&rows) {
        parts.push(maker.array(&draws.of(rows))?);
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    Ok(interleave(&parts, &from)?)
}

/// Nulls and wrong values, at their rates.
#[derive(Debug, Clone)]
pub(super) struct Flaws {
    /// The share of nulls.
    pub nulls: f64,
    /// The share of wrong values.
    pub errors: f64,
    /// The wrong values; strings.
    pub values: StringArray,
}

impl Flaws {
    /// `values` with flaws where `draws` say so.
    pub(super) fn apply(&self, values: ArrayRef, draws: &Draws) -> Result<ArrayRef> {
        let mut values = values;
        if self.errors > 0.0 {
            let from = draws.words.iter().enumerate().map(|(row, &word)| self.source(row, word));
            let from: Vec<(usize, usize)> = from.collect();
            if from.iter().any(|(array, _)| *array == 1) {
                values = interleave(&[values.as_ref(), &self.values], &from)?;
            }
        }
        if self.nulls > 0.0 {
            let null = |&word: &u64| Some(unit(word) < self.nulls);
            let nulls: BooleanArray = draws.words.iter().map(null).collect();
            values = nullif(&values, &nulls)?;
        }
        Ok(values)
    }

    /// Where the row's value is: in array 0, the right ones, or in array 1, the wrong ones.
    fn source(&self, row: usize, word: u64) -> (usize, usize) {
        let u = unit(word) - self.nulls;
        if u < 0.0 || u >= self.errors {
            return (0, row);
        }
        let count = self.values.len();
        (1, ((u / self.errors * count as f64) as usize).min(count - 1))
    }
}
