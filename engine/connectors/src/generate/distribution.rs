//! Distributions of numbers: which curve, which limits, which type.
//!
//! In: `uniform`, `normal`, `log_normal`, `exponential` as written. Out: a curve of values and
//! whether they are floats or decimals. A column of a whole-number type rounds.

use arrow::datatypes::DataType;

use super::check::Check;
use super::column::Kind;
use super::config::{Generator, Outliers};
use super::number::{Curve, Shape};

/// Digits of a decimal whose settings give only a scale.
const PRECISION: u8 = 18;

/// What all distributions have.
struct Number {
    shape: Shape,
    limits: (Option<f64>, Option<f64>),
    scale: Option<u8>,
    outliers: Option<Outliers>,
}

impl Check<'_> {
    /// The distribution at `key`.
    pub(super) fn number(&mut self, generator: &Generator, key: &str) -> Option<Kind> {
        let number = generator.number()?;
        let key = format!("/{key}");
        self.shape(&number.shape, &key)?;
        self.outliers(number.outliers, &key)?;
        if let (Some(min), Some(max)) = number.limits
            && min > max
        {
            let message = format!("min is above max min={min} max={max}");
            return self.fault(&key, message, super::check::ORDER_HINT);
        }
        let Some(curve) = Curve::new(number.shape, number.limits, number.outliers) else {
            let hint = "move min and max to where the distribution has its numbers";
            return self.fault(&key, "min and max leave no numbers".into(), hint);
        };
        self.numeric(curve, number.scale, &key)
    }

    fn shape(&mut self, shape: &Shape, key: &str) -> Option<()> {
        let wrong = match *shape {
            Shape::Uniform { from, to } if from >= to => {
                Some(format!("from is not below to from={from} to={to}"))
            }
            Shape::Normal { std_dev, .. } if std_dev <= 0.0 => {
                Some(format!("std_dev is not above 0 std_dev={std_dev}"))
            }
            Shape::LogNormal { mu, sigma } if !(mu.is_finite() && sigma > 0.0) => {
                Some("median and sigma are not both above 0".to_string())
            }
            Shape::Exponential { mean } if mean <= 0.0 => {
                Some(format!("mean is not above 0 mean={mean}"))
            }
            _ => None,
        };
        match wrong {
            None => Some(()),
            Some(message) => self.fault(key, message, "use constant for a fixed number"),
        }
    }

    fn outliers(&mut self, outliers: Option<Outliers>, key: &str) -> Option<()> {
        let Some(Outliers { rate, .. }) = outliers else { return Some(()) };
        if (0.0..1.0).contains(&rate) {
            return Some(());
        }
        let key = format!("{key}/outliers/rate");
        self.fault(&key, format!("not a share rate={rate}"), "give a number from 0 to below 1")
    }

    /// Floats or decimals, as the scale and the wanted type say.
    fn numeric(&mut self, curve: Curve, scale: Option<u8>, key: &str) -> Option<Kind> {
        if let Some(digits) = scale.filter(|s| *s > PRECISION) {
            let hint = "give a scale up to 18, or type: decimal(38, scale)";
            return self.fault(key, format!("scale is above 18 scale={digits}"), hint);
        }
        let decimal = |precision: u8, scale: i8, bounds| {
            Some(Kind::Decimal { curve, precision, scale, bounds })
        };
        match &self.wanted {
            Some(DataType::Decimal128(precision, digits)) => {
                let (precision, digits) = (*precision, *digits);
                if scale.is_some_and(|s| i16::from(s) != i16::from(digits)) {
                    let message = "scale is not the type's scale".to_string();
                    return self.fault(key, message, "leave scale out, or write the same in type");
                }
                decimal(precision, digits, digits_of(precision))
            }
            Some(wanted) if wanted.is_integer() => decimal(19, 0, bounds_of(wanted)),
            _ => match scale {
                Some(scale) => decimal(PRECISION, scale as i8, digits_of(PRECISION)),
                None => Some(Kind::Float { curve }),
            },
        }
    }
}

impl Generator {
    fn number(&self) -> Option<Number> {
        if let Some(u) = &self.uniform {
            let shape = Shape::Uniform { from: u.from, to: u.to };
            return Some(Number { shape, limits: (None, None), scale: u.scale, outliers: None });
        }
        if let Some(n) = &self.normal {
            let shape = Shape::Normal { mean: n.mean, std_dev: n.std_dev };
            let (limits, outliers) = ((n.min, n.max), n.outliers);
            return Some(Number { shape, limits, scale: n.scale, outliers });
        }
        if let Some(n) = &self.log_normal {
            let shape = Shape::LogNormal { mu: n.median.ln(), sigma: n.sigma };
            let (limits, outliers) = ((n.min, n.max), n.outliers);
            return Some(Number { shape, limits, scale: n.scale, outliers });
        }
        let e = self.exponential.as_ref()?;
        let shape = Shape::Exponential { mean: e.mean };
        let (limits, outliers) = ((e.min, e.max), e.outliers);
        Some(Number { shape, limits, scale: e.scale, outliers })
    }
}

/// The range of `precision` digits, in floats that do not round out of it.
fn digits_of(precision: u8) -> (f64, f64) {
    let largest = 10f64.powi(i32::from(precision)).next_down().floor();
    (-largest, largest)
}

/// The range of a whole-number type, in floats that do not round out of it.
fn bounds_of(data_type: &DataType) -> (f64, f64) {
    match data_type {
        DataType::Int8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DataType::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DataType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => (i64::MIN as f64, (i64::MAX as f64).next_down()),
    }
}
