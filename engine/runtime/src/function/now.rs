//! `now()`, `current_timestamp`, `current_date` and `current_time`: the epoch's opening time.
//!
//! The wall clock is never read here. The functions are volatile to the planner, so that a cached
//! plan does not keep the time of the epoch in which it was made.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The opening time of the epoch at work, shared with the functions that show it.
#[derive(Debug, Clone, Default)]
pub struct EpochTime(Arc<AtomicI64>);

impl EpochTime {
    /// Sets it, in milliseconds since 1970-01-01 UTC.
    pub fn set_ms(&self, ms: i64) {
        self.0.store(ms.saturating_mul(1000), Ordering::SeqCst);
    }

    fn micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Replaces DataFusion's functions of the same names, and earlier ones of ours.
pub(super) fn register(context: &SessionContext, time: &EpochTime) {
    for part in [Part::Timestamp, Part::Date, Part::Time] {
        let udf = ScalarUDF::new_from_impl(TimeFunction::new(part, time.clone()));
        context.register_udf(udf);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Timestamp,
    Date,
    Time,
}

#[derive(Debug)]
struct TimeFunction {
    part: Part,
    time: EpochTime,
    signature: Signature,
    aliases: Vec<String>,
}

impl TimeFunction {
    fn new(part: Part, time: EpochTime) -> Self {
        let aliases = match part {
            Part::Timestamp => vec!["current_timestamp".to_string()],
            Part::Date => vec!["today".to_string()],
            Part::Time => vec![],
        };
        let signature = Signature::nullary(Volatility::Volatile);
        Self { part, time, signature, aliases }
    }
}

impl PartialEq for TimeFunction {
    fn eq(&self, other: &Self) -> bool {
        self.part == other.part && Arc::ptr_eq(&self.time.0, &other.time.0)
    }
}

impl Eq for TimeFunction {}

impl std::hash::Hash for TimeFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.part.hash(state);
    }
}

impl ScalarUDFImpl for TimeFunction {
    fn name(&self) -> &str {
        match self.part {
            Part::Timestamp => "now",
            Part::Date => "current_date",
            Part::Time => "current_time",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            Part::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Part::Date => DataType::Date32,
            Part::Time => DataType::Time64(TimeUnit::Nanosecond),
        })
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let micros = self.time.micros();
        let value = match self.part {
            Part::Timestamp => ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())),
            Part::Date => {
                let days = i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX);
                ScalarValue::Date32(Some(days))
            }
            Part::Time => {
                let in_day = micros.rem_euclid(MICROS_PER_DAY);
                ScalarValue::Time64Nanosecond(Some(in_day.saturating_mul(1000)))
            }
        };
        Ok(ColumnarValue::Scalar(value))
    }
}
