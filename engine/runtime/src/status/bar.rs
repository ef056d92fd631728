//! Histograms: how a column's values are spread over ranges of equal width.
//!
//! In: the least and the largest value as numbers. Out: the ranges, and their ends as a person
//! writes them. Counting the rows is SQL's work.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

/// Ranges of a histogram: what an eye can tell apart in a line of text.
pub(super) const BARS: u32 = 16;

const DAY_MS: f64 = 86_400_000.0;

/// Rows whose values lie in one range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Where it begins; the value itself when each value has its own.
    pub from: String,
    /// Where it ends: excluded, but for the last one; as `from` when each value has its own.
    pub to: String,
    /// Rows.
    pub rows: u64,
}

/// What numbers stand for a column's values in a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// The numbers themselves.
    Number,
    /// Days since 1970.
    Day,
    /// So many units per millisecond since 1970.
    Time(TimeUnit),
}

impl Axis {
    /// The axis of values of a type; none where they have no distances.
    pub fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            t if t.is_numeric() => Some(Self::Number),
            DataType::Date32 => Some(Self::Day),
            DataType::Timestamp(unit, _) => Some(Self::Time(*unit)),
            _ => None,
        }
    }

    /// A position as a person writes it.
    pub fn show(self, at: f64) -> String {
        let ms = match self {
            Self::Number => return format!("{}", (at * 1e6).round() / 1e6),
            Self::Day => at.floor() * DAY_MS,
            Self::Time(TimeUnit::Second) => at * 1e3,
            Self::Time(TimeUnit::Millisecond) => at,
            Self::Time(TimeUnit::Microsecond) => at / 1e3,
            Self::Time(TimeUnit::Nanosecond) => at / 1e6,
        };
        #[expect(clippy::cast_possible_truncation, reason = "a place in a histogram, not a value")]
        let time = DateTime::from_timestamp_millis(ms as i64);
        match (self, time) {
            (Self::Day, Some(time)) => time.date_naive().to_string(),
            (_, Some(time)) => time.to_rfc3339_opts(SecondsFormat::Secs, true),
            (_, None) => format!("{at}"),
        }
    }

    /// The empty bars between two positions; none where there is no distance.
    pub fn bars(self, low: f64, high: f64) -> Option<Vec<Bar>> {
        let width = width(low, high)?;
        let end = |n: u32| self.show(if n == BARS { high } else { low + f64::from(n) * width });
        Some((0..BARS).map(|n| Bar { from: end(n), to: end(n + 1), rows: 0 }).collect())
    }
}

/// The width of a bar; none where there is no distance, or more than a number can say.
pub(super) fn width(low: f64, high: f64) -> Option<f64> {
    let width = (high - low) / f64::from(BARS);
    (width.is_finite() && width > 0.0).then_some(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_join_and_cover_everything() {
        let bars = Axis::Number.bars(-8.0, 8.0).unwrap();
        assert_eq!(bars.len(), 16);
        assert_eq!((bars[0].from.as_str(), bars[15].to.as_str()), ("-8", "8"));
        assert!(bars.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!(Axis::Number.bars(1.0, 1.0), None);
        assert_eq!(Axis::Number.bars(f64::MIN, f64::MAX), None);
        assert_eq!(Axis::Number.bars(f64::NAN, 1.0), None);
    }

    #[test]
    fn places_are_written_in_the_words_of_their_type() {
        let cases = [
            (DataType::Int64, 3.0, "3"),
            (DataType::Decimal128(12, 2), 0.25, "0.25"),
            (DataType::Date32, 365.7, "1971-01-01"),
            (DataType::Timestamp(TimeUnit::Microsecond, None), 1e6, "1970-01-01T00:00:01Z"),
        ];
        for (data_type, at, shown) in cases {
            assert_eq!(Axis::of(&data_type).map(|a| a.show(at)).as_deref(), Some(shown));
        }
        assert_eq!(Axis::of(&DataType::Utf8), None);
    }
}
