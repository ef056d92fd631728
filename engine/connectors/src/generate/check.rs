//! From a generator's settings to what makes its values, or to all that is wrong with them.
//!
//! In: settings as written. Out: a [`Maker`] that cannot fail on ranges, weights or patterns any
//! more, and faults by JSON pointer. It looks at one generator at a time; what columns have to do
//! with each other is the plan's.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use sluice_core::{Error, type_name};

use super::column::{Kind, Maker, cast};
use super::config::{Generator, Integer, Sequence};
use super::number::Zipf;
use super::text::Pattern;

/// The longest text a setting may hold: a batch of 8192 rows of it stays far below the 2 GiB that
/// an Arrow string array can address.
pub(super) const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What to do when a range runs backwards.
pub(super) const ORDER_HINT: &str = "exchange the two";

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where, as a JSON pointer from the source's entry.
    pub pointer: String,
    /// What.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Fault {
    /// The first of `faults` as an error of the source `name`.
    pub(super) fn first(faults: Vec<Fault>, name: &str) -> Error {
        match faults.into_iter().next() {
            Some(fault) => {
                Error::config(format!("{} source={name} at={:?}", fault.message, fault.pointer))
                    .hint(fault.hint)
            }
            None => Error::bug(format!("refused without a reason source={name}")),
        }
    }
}

/// What a check knows and finds.
#[derive(Debug)]
pub(super) struct Check<'a> {
    /// The pointer of the settings that are looked at.
    pub pointer: String,
    /// The type asked for.
    pub wanted: Option<DataType>,
    /// Rows in all, when they end.
    pub rows: Option<u64>,
    /// What was found so far.
    pub faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    /// Adds a fault at `key` below the pointer; always `None`, to be returned.
    pub(super) fn fault<T>(&mut self, key: &str, message: String, hint: &str) -> Option<T> {
        let pointer = format!("{}{key}", self.pointer);
        self.faults.push(Fault { pointer, message, hint: hint.to_string() });
        None
    }

    /// The maker of a generator, or `None` and why not.
    pub(super) fn maker(&mut self, generator: &Generator) -> Option<Maker> {
        let kind = match self.only_key(generator)? {
            "sequence" => self.sequence(generator.sequence.as_ref()?),
            "integer" => self.integer(generator.integer.as_ref()?),
            "date" => self.date(generator.date.as_ref()?),
            "timestamp" => self.timestamp(generator.timestamp.as_ref()?),
            "choice" => self.choice(generator.choice.as_ref()?),
            "constant" => self.values(&[generator.constant.clone()?], &[1.0], "/constant"),
            key => self.number(generator, key),
        }?;
        let native = kind.data_type();
        let data_type = self.wanted.clone().unwrap_or_else(|| native.clone());
        if !becomes(&native, &data_type) {
            let (from, to) = (type_name(&native), type_name(&data_type));
            let message =
                format!("the generator's values do not become this type from={from} to={to}");
            return self.fault("", message, "change type, or leave it out");
        }
        self.ends_fit(&kind, &data_type)?;
        Some(Maker { kind, data_type })
    }

    fn only_key(&mut self, generator: &Generator) -> Option<&'static str> {
        let given = generator.given();
        match given.as_slice() {
            [one] => Some(one),
            [] => self.fault("", "no generator is given".into(), "give one, such as sequence: {}"),
            several => {
                let message = format!("several generators are given keys={}", several.join(", "));
                self.fault("", message, "keep one of them")
            }
        }
    }

    fn sequence(&mut self, spec: &Sequence) -> Option<Kind> {
        let pattern = self.pattern(spec.format.as_deref(), "/sequence/format")?;
        Some(Kind::Sequence {
            start: spec.start.unwrap_or(1),
            step: spec.step.unwrap_or(1),
            pattern,
        })
    }

    fn integer(&mut self, spec: &Integer) -> Option<Kind> {
        let Integer { from, to, zipf, .. } = *spec;
        let pattern = self.pattern(spec.format.as_deref(), "/integer/format")?;
        if from > to {
            return self.fault(
                "/integer",
                format!("from is above to from={from} to={to}"),
                ORDER_HINT,
            );
        }
        if zipf.is_some_and(|z| !(z.is_finite() && z > 0.0)) {
            let hint = "1.0 is usual, larger is steeper";
            return self.fault("/integer/zipf", "zipf is not above 0".into(), hint);
        }
        match to.checked_sub(from).and_then(|span| u64::try_from(span).ok()) {
            Some(span) => Some(Kind::Integer {
                from,
                span: span + 1,
                zipf: zipf.map(|exponent| Zipf::new(exponent, span + 1)),
                pattern,
            }),
            None => self.fault("/integer", "the range is too wide".into(), "narrow it"),
        }
    }

    /// A pattern that may be absent; the outer `None` is a fault.
    fn pattern(&mut self, text: Option<&str>, key: &str) -> Option<Option<Pattern>> {
        let Some(text) = text else { return Some(None) };
        if text.len() > TEXT_BYTES_MAX {
            return self.fault(key, "the format is above 64 KiB".into(), "shorten it");
        }
        match Pattern::parse(text) {
            Ok(pattern) => Some(Some(pattern)),
            Err(why) => {
                let hint = "write one {} or {:07} where the number goes, as in \"M{:07}\"";
                self.fault(key, format!("the format {why} format={text:?}"), hint)
            }
        }
    }

    /// Whether the first and last number of a range fit a narrower type.
    fn ends_fit(&mut self, kind: &Kind, to: &DataType) -> Option<()> {
        let (first, last) = match kind {
            Kind::Sequence { start, step, pattern: None } => {
                let last = i64::try_from(self.rows.unwrap_or(1).saturating_sub(1)).ok()?;
                (*start, start.saturating_add(step.saturating_mul(last)))
            }
            Kind::Integer { from, span, pattern: None, .. } => {
                (*from, from.wrapping_add_unsigned(span - 1))
            }
            _ => return Some(()),
        };
        let ends: ArrayRef = Arc::new(Int64Array::from(vec![first, last]));
        match cast(&ends, to) {
            Ok(_) => Some(()),
            Err(_) => {
                let to = type_name(to);
                let message = format!("numbers do not fit type={to} first={first} last={last}");
                self.fault("", message, "take a wider type")
            }
        }
    }
}

impl Generator {
    /// The keys that are given.
    fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("sequence", self.sequence.is_some()),
            ("integer", self.integer.is_some()),
            ("date", self.date.is_some()),
            ("timestamp", self.timestamp.is_some()),
            ("choice", self.choice.is_some()),
            ("constant", self.constant.is_some()),
            ("uniform", self.uniform.is_some()),
            ("normal", self.normal.is_some()),
            ("log_normal", self.log_normal.is_some()),
            ("exponential", self.exponential.is_some()),
        ];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
    }

    /// Whether nothing is given.
    pub(super) fn is_empty(&self) -> bool {
        self.given().is_empty()
    }
}

/// Whether values of one type can be had as another.
fn becomes(native: &DataType, wanted: &DataType) -> bool {
    let number = wanted.is_integer() || wanted.is_floating() || is_decimal(wanted);
    match native {
        _ if native == wanted || *wanted == DataType::Utf8 => true,
        DataType::Int64 => number,
        DataType::Float64 => wanted.is_floating(),
        DataType::Decimal128(_, 0) => number,
        DataType::Decimal128(_, _) => wanted.is_floating(),
        DataType::Timestamp(_, _) => *wanted == DataType::Date32,
        _ => false,
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(_, _))
}
