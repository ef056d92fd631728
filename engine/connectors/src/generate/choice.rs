//! Values to choose from: lists, weights and constants.
//!
//! In: scalars as written. Out: an array of one type, the type asked for or the one they share,
//! and the weights to draw it with.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use sluice_core::type_name;

use super::check::{Check, TEXT_BYTES_MAX};
use super::column::{Kind, cast};
use super::config::{Choice, Generator, Scalar};
use super::draw::Weighted;

impl Check<'_> {
    /// Values of a list or with weights.
    pub(super) fn choice(&mut self, choice: &Choice) -> Option<Kind> {
        match choice {
            Choice::Values(values) => self.values(values, &vec![1.0; values.len()], "/choice"),
            Choice::Weights(weights) => {
                let values: Vec<Scalar> = weights.keys().cloned().map(Scalar::Text).collect();
                let weights: Vec<f64> = weights.values().copied().collect();
                self.values(&values, &weights, "/choice")
            }
        }
    }

    /// `values` with their weights, set at `key`.
    pub(super) fn values(&mut self, values: &[Scalar], weights: &[f64], key: &str) -> Option<Kind> {
        let hint = "give at least one value with a weight above 0";
        if let Some(i) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            let (value, weight) = (values[i].text(), weights[i]);
            let message = format!("a weight is below 0 value={value:?} weight={weight}");
            return self.fault(key, message, "weights are 0 or more; their sum is free");
        }
        let sum: f64 = weights.iter().sum();
        if !(sum.is_finite() && sum > 0.0) {
            return self.fault(key, "there is nothing to choose from".into(), hint);
        }
        if values.iter().any(|v| v.text().len() > TEXT_BYTES_MAX) {
            return self.fault(key, "a value is above 64 KiB".into(), "shorten it");
        }
        let array = typed(values, self.wanted.as_ref());
        match array {
            Some(values) => Some(Kind::Choice { values, weights: Weighted::new(weights) }),
            None => {
                let wanted = self.wanted.as_ref().map(type_name).unwrap_or_default();
                let message = format!("a value does not read as the column's type type={wanted}");
                self.fault(key, message, "change the value or type")
            }
        }
    }
}

impl Generator {
    /// The names of the values of a choice, in the order of its codes.
    pub(super) fn choices(&self) -> Option<Vec<String>> {
        match (&self.choice, &self.constant) {
            (Some(Choice::Values(values)), _) => Some(values.iter().map(Scalar::text).collect()),
            (Some(Choice::Weights(weights)), _) => Some(weights.keys().cloned().collect()),
            (None, Some(value)) => Some(vec![value.text()]),
            (None, None) => None,
        }
    }
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
            Scalar::Text(value) => value.clone(),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Scalar::Int(value) => Some(*value as f64),
            Scalar::Float(value) => Some(*value),
            Scalar::Bool(_) | Scalar::Text(_) => None,
        }
    }
}

/// Values of a list as an array of the type asked for, or of the type they share.
fn typed(values: &[Scalar], wanted: Option<&DataType>) -> Option<ArrayRef> {
    let text = || Arc::new(StringArray::from_iter_values(values.iter().map(Scalar::text)));
    if let Some(wanted) = wanted {
        let text: ArrayRef = text();
        let known = !matches!(wanted, DataType::Timestamp(_, _) | DataType::Binary);
        return if known { cast(&text, wanted).ok().filter(|a| a.null_count() == 0) } else { None };
    }
    let ints = values.iter().map(|v| if let Scalar::Int(i) = v { Some(*i) } else { None });
    if let Some(ints) = ints.collect::<Option<Vec<i64>>>() {
        return Some(Arc::new(Int64Array::from(ints)));
    }
    if let Some(numbers) = values.iter().map(Scalar::number).collect::<Option<Vec<f64>>>() {
        return Some(Arc::new(Float64Array::from(numbers)));
    }
    let bools = values.iter().map(|v| if let Scalar::Bool(b) = v { Some(*b) } else { None });
    if let Some(bools) = bools.collect::<Option<Vec<bool>>>() {
        return Some(Arc::new(BooleanArray::from(bools)));
    }
    Some(text())
}
