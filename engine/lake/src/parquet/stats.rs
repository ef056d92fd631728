//! Delta statistics of a finished file from its Parquet metadata: one JSON text per file.
//!
//! Bounds are always true bounds: timestamps are cut to milliseconds downwards for the minimum and
//! upwards for the maximum, decimals are written digit by digit, a column in which a NaN was seen
//! has no bounds. Booleans and binary columns have counts only.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::DateTime;
use parquet::basic::{LogicalType, TimeUnit};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

/// Delta's default for `delta.dataSkippingNumIndexedCols`: more columns make the log large and are
/// rarely filtered on.
const COLUMNS_MAX: usize = 32;

const MS_PER_DAY: i64 = 86_400_000;

/// Statistics of the first 32 stored columns; `nan` says per column whether a NaN was seen.
pub(super) fn json(metadata: &ParquetMetaData, nan: &[bool]) -> String {
    let schema = metadata.file_metadata().schema_descr();
    let (mut mins, mut maxes, mut nulls) = (Tree::default(), Tree::default(), Tree::default());
    for index in 0..schema.num_columns() {
        let top = schema.get_column_root_idx(index);
        let column = schema.column(index);
        if top >= COLUMNS_MAX || column.max_rep_level() > 0 {
            continue;
        }
        let path = column.path().parts();
        let Some(facts) = ColumnFacts::of(metadata.row_groups(), index, &column) else { continue };
        nulls.insert(path, facts.nulls.to_string());
        let uncertain = is_float(&column) && (path.len() > 1 || nan.get(top) != Some(&false));
        if let (Some((min, max)), false) = (facts.bounds, uncertain) {
            if let Some(text) = min.json(Round::Down) {
                mins.insert(path, text);
            }
            if let Some(text) = max.json(Round::Up) {
                maxes.insert(path, text);
            }
        }
    }
    let rows = metadata.file_metadata().num_rows();
    let mut out = format!("{{\"numRecords\":{rows},\"minValues\":");
    mins.write(&mut out);
    out.push_str(",\"maxValues\":");
    maxes.write(&mut out);
    out.push_str(",\"nullCount\":");
    nulls.write(&mut out);
    out.push('}');
    out
}

/// What all row groups together say about one leaf column.
struct ColumnFacts {
    nulls: u64,
    /// `None` when some row group has rows but no bounds, or all values are null.
    bounds: Option<(Scalar, Scalar)>,
}

impl ColumnFacts {
    /// `None` when a row group does not even know its nulls.
    fn of(groups: &[RowGroupMetaData], index: usize, column: &ColumnDescriptor) -> Option<Self> {
        let mut nulls = 0;
        let mut bounds: Option<(Scalar, Scalar)> = None;
        let mut bounded = true;
        for group in groups {
            let chunk = group.column(index);
            let statistics = chunk.statistics()?;
            let null_count = statistics.null_count_opt()?;
            nulls += null_count;
            if i64::try_from(null_count).is_ok_and(|n| n == chunk.num_values()) {
                continue;
            }
            match Scalar::bounds(statistics, column) {
                Some(new) => bounds = Some(widen(bounds, new)),
                None => bounded = false,
            }
        }
        Some(Self { nulls, bounds: bounds.filter(|_| bounded) })
    }
}

fn widen(old: Option<(Scalar, Scalar)>, (min, max): (Scalar, Scalar)) -> (Scalar, Scalar) {
    match old {
        None => (min, max),
        Some((old_min, old_max)) => {
            (if min < old_min { min } else { old_min }, if max > old_max { max } else { old_max })
        }
    }
}

/// Which way a bound may be moved to fit its text form.
#[derive(Clone, Copy)]
enum Round {
    Down,
    Up,
}

/// A bound. Only values of one variant (one column) are ever compared.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Scalar {
    Int(i64),
    Float(f64),
    Decimal(i128, u32),
    Date(i32),
    /// Microseconds since 1970; whether they are in UTC.
    Time(i64, bool),
    Text(String),
}

impl Scalar {
    fn bounds(statistics: &Statistics, column: &ColumnDescriptor) -> Option<(Self, Self)> {
        let logical = column.logical_type_ref();
        let scale = match logical {
            Some(LogicalType::Decimal(d)) => Some(u32::try_from(d.scale).ok()?),
            _ => None,
        };
        match statistics {
            Statistics::Int32(s) => {
                let (min, max) = (*s.min_opt()?, *s.max_opt()?);
                let make = |v: i32| match (logical, scale) {
                    (_, Some(scale)) => Some(Self::Decimal(v.into(), scale)),
                    (Some(LogicalType::Date), _) => Some(Self::Date(v)),
                    (None | Some(LogicalType::Integer(_)), _) => Some(Self::Int(v.into())),
                    _ => None,
                };
                Some((make(min)?, make(max)?))
            }
            Statistics::Int64(s) => {
                let make = |v| Self::of_i64(v, logical, scale);
                Some((make(*s.min_opt()?)?, make(*s.max_opt()?)?))
            }
            Statistics::Float(s) => {
                Some((Self::Float((*s.min_opt()?).into()), Self::Float((*s.max_opt()?).into())))
            }
            Statistics::Double(s) => Some((Self::Float(*s.min_opt()?), Self::Float(*s.max_opt()?))),
            Statistics::FixedLenByteArray(_) => {
                let make = |b| Some(Self::Decimal(big_endian(b)?, scale?));
                Some((make(statistics.min_bytes_opt()?)?, make(statistics.max_bytes_opt()?)?))
            }
            Statistics::ByteArray(_) if matches!(logical, Some(LogicalType::String)) => {
                let make = |b: &[u8]| Some(Self::Text(std::str::from_utf8(b).ok()?.to_string()));
                Some((make(statistics.min_bytes_opt()?)?, make(statistics.max_bytes_opt()?)?))
            }
            Statistics::ByteArray(_) | Statistics::Boolean(_) | Statistics::Int96(_) => None,
        }
    }

    fn of_i64(value: i64, logical: Option<&LogicalType>, scale: Option<u32>) -> Option<Self> {
        match (logical, scale) {
            (_, Some(scale)) => Some(Self::Decimal(value.into(), scale)),
            (Some(LogicalType::Timestamp(t)), _) => {
                let micros = match t.unit {
                    TimeUnit::MILLIS => value.checked_mul(1000)?,
                    TimeUnit::MICROS => value,
                    TimeUnit::NANOS => return None,
                };
                Some(Self::Time(micros, t.is_adjusted_to_u_t_c))
            }
            (None | Some(LogicalType::Integer(_)), _) => Some(Self::Int(value)),
            _ => None,
        }
    }

    /// The bound as JSON; `None` when it cannot be written, such as an infinity.
    fn json(&self, round: Round) -> Option<String> {
        match self {
            Self::Int(value) => Some(value.to_string()),
            Self::Float(value) => value.is_finite().then(|| format!("{value:?}")),
            Self::Decimal(value, scale) => Some(decimal(*value, *scale as usize)),
            Self::Date(days) => {
                let day = DateTime::from_timestamp_millis(i64::from(*days) * MS_PER_DAY)?;
                Some(day.format("\"%Y-%m-%d\"").to_string())
            }
            Self::Time(micros, utc) => {
                let ms = match round {
                    Round::Down => micros.div_euclid(1000),
                    Round::Up => micros.checked_add(999)?.div_euclid(1000),
                };
                let time = DateTime::from_timestamp_millis(ms)?.format("%Y-%m-%dT%H:%M:%S%.3f");
                Some(format!("\"{time}{}\"", if *utc { "Z" } else { "" }))
            }
            Self::Text(text) => serde_json::to_string(text).ok(),
        }
    }
}

fn is_float(column: &ColumnDescriptor) -> bool {
    use parquet::basic::Type;
    matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE)
}

fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let mut wide = if negative { [0xFF; 16] } else { [0; 16] };
    let start = 16_usize.checked_sub(bytes.len())?;
    wide[start..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

fn decimal(value: i128, scale: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{part}")
}

/// Nested JSON objects whose leaves are JSON already.
#[derive(Default)]
struct Tree {
    leaf: Option<String>,
    children: BTreeMap<String, Tree>,
}

impl Tree {
    fn insert(&mut self, path: &[String], leaf: String) {
        let mut at = self;
        for part in path {
            at = at.children.entry(part.clone()).or_default();
        }
        at.leaf = Some(leaf);
    }

    fn write(&self, out: &mut String) {
        if let Some(leaf) = &self.leaf {
            out.push_str(leaf);
            return;
        }
        out.push('{');
        for (at, (name, child)) in self.children.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let name = serde_json::Value::from(name.as_str());
            // Writing to a String cannot fail.
            let _ = write!(out, "{comma}{name}:");
            child.write(out);
        }
        out.push('}');
    }
}
