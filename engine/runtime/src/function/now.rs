//! `now()`, `current_timestamp`, `current_date` and `current_time`: the epoch's opening time.
//!
//! The wall clock is never read here. In the plans of jobs the functions are volatile to the
//! planner, so that a cached plan does not keep the time of the epoch in which it was made. In a
//! question, which is planned once, they are constants, by which files can be ruled out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
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

/// Replaces DataFusion's functions of the same names, and earlier ones of ours. They show what
/// `time` is when a plan runs.
pub(super) fn register(context: &SessionContext, time: &EpochTime) {
    replace(context, time, Volatility::Volatile);
}

/// The same for plans that run once: they show what `time` is when a plan is made.
pub(super) fn fix(context: &SessionContext, time: &EpochTime) {
    replace(context, time, Volatility::Stable);
}

fn replace(context: &SessionContext, time: &EpochTime, volatility: Volatility) {
    for part in [Part::Timestamp, Part::Date, Part::Time] {
        let udf = ScalarUDF::new_from_impl(TimeFunction::new(part, time.clone(), volatility));
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
    fn new(part: Part, time: EpochTime, volatility: Volatility) -> Self {
        let aliases = match part {
            Part::Timestamp => vec!["current_timestamp".to_string()],
            Part::Date => vec!["today".to_string()],
            Part::Time => vec![],
        };
        Self { part, time, signature: Signature::nullary(volatility), aliases }
    }

    fn is_fixed(&self) -> bool {
        self.signature.volatility != Volatility::Volatile
    }

    fn value(&self) -> ScalarValue {
        let micros = self.time.micros();
        match self.part {
            Part::Timestamp => ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())),
            Part::Date => {
                let days = i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX);
                ScalarValue::Date32(Some(days))
            }
            Part::Time => {
                let in_day = micros.rem_euclid(MICROS_PER_DAY);
                ScalarValue::Time64Nanosecond(Some(in_day.saturating_mul(1000)))
            }
        }
    }
}

impl PartialEq for TimeFunction {
    fn eq(&self, other: &Self) -> bool {
        self.part == other.part
            && self.is_fixed() == other.is_fixed()
            && Arc::ptr_eq(&self.time.0, &other.time.0)
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

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        // The constant that takes its place is never null, and must be what was planned with.
        let nullable = !self.is_fixed();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, nullable)))
    }

    fn simplify(
        &self,
        arguments: Vec<Expr>,
        _info: &SimplifyContext,
    ) -> Result<ExprSimplifyResult> {
        Ok(match self.is_fixed() {
            true => ExprSimplifyResult::Simplified(Expr::Literal(self.value(), None)),
            false => ExprSimplifyResult::Original(arguments),
        })
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value()))
    }
}
