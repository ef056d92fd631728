//! The settings of a `generate` source as they stand in the job file.
//!
//! In: the connector's keys. Out: plain structs that mirror them. What the types cannot say
//! (ranges, weights, which keys exclude each other) is checked when the plan is made.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A `generate` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Seed of all columns; default: 0.
    #[serde(default)]
    pub seed: u64,
    /// Rows in all; default: endless, which needs `rate`.
    pub rows: Option<u64>,
    /// Rows per second since the run started; default: all rows at once.
    pub rate: Option<f64>,
    /// The columns by name, in this order.
    #[schemars(with = "BTreeMap<String, Column>")]
    pub columns: Map<String, Value>,
}

/// A column: one generator or `by`, and what is done to its values.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Where the values come from.
    #[serde(flatten)]
    pub generator: Generator,
    /// Another generator for each value of an earlier `choice` column.
    pub by: Option<By>,
    /// The column's type, as in data schemas; default: what the generator makes.
    #[serde(rename = "type")]
    pub data_type: Option<String>,
    /// Share of rows that are null, 0 to 1; default: 0.
    pub nulls: Option<f64>,
    /// Wrong values at a rate; strings only.
    pub errors: Option<Errors>,
    /// Rows in a row that share one value; default: 1.
    pub repeat: Option<u64>,
    /// Whether the column only serves other columns and is not in the rows; default: false.
    #[serde(default)]
    pub hidden: bool,
}

/// Exactly one of these says where values come from.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// Numbers that count up; int64, with a format string.
    pub sequence: Option<Sequence>,
    /// Whole numbers of a range; int64, with a format string.
    pub integer: Option<Integer>,
    /// Dates of a range.
    pub date: Option<Dates>,
    /// Timestamps of a range, or one after another.
    pub timestamp: Option<Times>,
    /// One of some values, as a list or with weights.
    pub choice: Option<Choice>,
    /// Always the same value.
    pub constant: Option<Scalar>,
    /// Numbers spread evenly; float64, with a scale decimal(18, scale).
    pub uniform: Option<Uniform>,
    /// Numbers around a mean; float64, with a scale decimal(18, scale).
    pub normal: Option<Normal>,
    /// Numbers around a median with a long tail; float64, with a scale decimal(18, scale).
    pub log_normal: Option<LogNormal>,
    /// Numbers above zero, the small ones most often; float64, with a scale decimal(18, scale).
    pub exponential: Option<Exponential>,
}

/// Numbers that count up.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// The first number; default: 1.
    pub start: Option<i64>,
    /// The distance of neighbours; default: 1.
    pub step: Option<i64>,
    /// Text around the number: `M{:07}` makes M0000001.
    pub format: Option<String>,
}

/// Whole numbers of a range, ends included.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Integer {
    /// The smallest.
    pub from: i64,
    /// The largest.
    pub to: i64,
    /// Makes the k-th number about as frequent as 1 / k^zipf; default: all alike.
    pub zipf: Option<f64>,
    /// Text around the number: `AG_{:03}` makes AG_001.
    pub format: Option<String>,
}

/// Dates of a range, ends included.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dates {
    /// The first, `2024-01-31`.
    pub from: String,
    /// The last.
    pub to: String,
}

/// Timestamps: `from` and `to`, or `start` and `every`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// The first of a range in whole seconds, `2024-01-31 12:00:00` UTC.
    pub from: Option<String>,
    /// The last of the range.
    pub to: Option<String>,
    /// The first of timestamps that go on.
    pub start: Option<String>,
    /// The distance of neighbours, `1s`.
    pub every: Option<String>,
    /// At most how much later one comes, `500ms`; default: 0s.
    pub jitter: Option<String>,
}

/// Values to choose from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Choice {
    /// Values, all alike.
    Values(Vec<Scalar>),
    /// Values and their weights; the sum is free.
    Weights(BTreeMap<String, f64>),
}

/// A value of a list.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
}

/// Numbers spread evenly.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uniform {
    /// The smallest.
    pub from: f64,
    /// The largest.
    pub to: f64,
    /// Digits after the point; default: a float.
    pub scale: Option<u8>,
}

/// Numbers around a mean.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normal {
    /// The mean, before `min` and `max` cut.
    pub mean: f64,
    /// The standard deviation, before `min` and `max` cut.
    pub std_dev: f64,
    /// The smallest; default: none.
    pub min: Option<f64>,
    /// The largest; default: none.
    pub max: Option<f64>,
    /// Digits after the point; default: a float.
    pub scale: Option<u8>,
    /// Some values far larger than the others; default: none.
    pub outliers: Option<Outliers>,
}

/// Numbers whose logarithm is normal.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogNormal {
    /// Half of the numbers are below, before `min` and `max` cut.
    pub median: f64,
    /// The standard deviation of the natural logarithm.
    pub sigma: f64,
    /// The smallest; default: none.
    pub min: Option<f64>,
    /// The largest; default: none.
    pub max: Option<f64>,
    /// Digits after the point; default: a float.
    pub scale: Option<u8>,
    /// Some values far larger than the others; default: none.
    pub outliers: Option<Outliers>,
}

/// Numbers above zero.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exponential {
    /// The mean, before `min` and `max` cut.
    pub mean: f64,
    /// The smallest; default: 0.
    pub min: Option<f64>,
    /// The largest; default: none.
    pub max: Option<f64>,
    /// Digits after the point; default: a float.
    pub scale: Option<u8>,
    /// Some values far larger than the others; default: none.
    pub outliers: Option<Outliers>,
}

/// Values multiplied after `min` and `max`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outliers {
    /// Their share, 0 to 1.
    pub rate: f64,
    /// What they are multiplied with.
    pub factor: f64,
}

/// Another generator for each value of an earlier column, looked up before nulls and errors.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// A `choice` column that stands above.
    pub column: String,
    /// The generator of each value; all make one type.
    pub cases: BTreeMap<String, Generator>,
    /// The generator of all other values; needed unless every value has a case.
    pub default: Option<Generator>,
}

/// Wrong values at a rate.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// Their share, 0 to 1.
    pub rate: f64,
    /// What stands there instead, all alike.
    pub values: Vec<String>,
}
