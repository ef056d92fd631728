//! A tree against a JSON Schema: all that is wrong, and what is left when the wrong parts are cut
//! away.
//!
//! In: a schema and a value. Out: problems with places, and [`Checked`], a value that fits the
//! schema, so that later checks find the other mistakes of the file. It does not change right
//! parts.

mod explain;
mod walk;

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Map, Value};

use self::explain::{Cut, Finding, explain};
use super::read::segment;
use super::report::Report;

/// How often a tree is cut and looked at again. A cut can only make an entry incomplete that then
/// goes as a whole, so that each round climbs one level of a tree that has six.
const ROUNDS_MAX: usize = 8;

/// What is left of a value.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Fits the schema, unless `whole` is false and nothing could be saved.
    pub(crate) value: Value,
    /// JSON pointers of what was cut away.
    pub(crate) damaged: BTreeSet<String>,
    /// Whether it fits.
    pub(crate) fits: bool,
}

/// Values to put where a required key is missing, so that the rest can be looked at: the key as a
/// JSON pointer, `*` for any name, and its value.
pub(crate) type Placeholders<'a> = &'a [(&'a str, &'a str)];

/// Checks `value`, which stands at `prefix` in the file. Problems at `silent` pointers have been
/// told already.
pub(crate) fn check(
    schema: &Value,
    value: &Value,
    prefix: &str,
    silent: &BTreeSet<String>,
    placeholders: Placeholders<'_>,
    report: &mut Report<'_>,
) -> Checked {
    let mut left = Checked { value: value.clone(), damaged: BTreeSet::new(), fits: false };
    let validator = match jsonschema::draft202012::new(schema) {
        Ok(validator) => validator,
        Err(error) => {
            let message = format!("the schema of this entry cannot be used error={error}");
            report.at(prefix, message, "this is a mistake in Sluice: please report it");
            return left;
        }
    };
    for round in 0..ROUNDS_MAX {
        let findings = find(&validator, schema, &left.value);
        if findings.is_empty() {
            left.fits = true;
            return left;
        }
        if round == 0 {
            tell(&findings, prefix, silent, report);
        }
        for finding in findings {
            cut(&mut left, &finding, prefix, placeholders);
        }
    }
    left
}

fn find(validator: &Validator, schema: &Value, value: &Value) -> Vec<Finding> {
    validator.iter_errors(value).flat_map(|error| explain(schema, &error)).collect()
}

fn tell(findings: &[Finding], prefix: &str, silent: &BTreeSet<String>, report: &mut Report<'_>) {
    for finding in findings {
        let pointer = format!("{prefix}{}", finding.pointer);
        if silent.contains(&pointer) {
            continue;
        }
        let (message, hint) = (finding.message.clone(), finding.hint.clone());
        match finding.cut {
            Cut::Key => report.at_key(&pointer, message, hint),
            Cut::Value | Cut::Around(_) => report.at(&pointer, message, hint),
        }
    }
}

fn cut(left: &mut Checked, finding: &Finding, prefix: &str, placeholders: Placeholders<'_>) {
    if let Cut::Around(missing) = &finding.cut {
        let at = format!("{}{}", finding.pointer, segment(missing));
        let found = placeholders.iter().find(|(place, _)| is_at(place, &at));
        if let (Some((_, text)), Some(Value::Object(around))) =
            (found, left.value.pointer_mut(&finding.pointer))
        {
            around.insert(missing.clone(), Value::String((*text).to_string()));
            left.damaged.insert(format!("{prefix}{at}"));
            return;
        }
    }
    remove(&mut left.value, &finding.pointer);
    left.damaged.insert(format!("{prefix}{}", finding.pointer));
}

/// Whether `pointer` is at `place`, in which `*` is any name.
fn is_at(place: &str, pointer: &str) -> bool {
    let (place, pointer) = (place.split('/'), pointer.split('/'));
    place.clone().count() == pointer.clone().count()
        && place.zip(pointer).all(|(wanted, name)| wanted == "*" || wanted == name)
}

/// Takes the value at `pointer` away; in a list, the whole list, so that the others keep their
/// places.
fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else {
        *value = Value::Object(Map::new());
        return;
    };
    match value.pointer_mut(parent) {
        Some(Value::Object(entries)) => {
            entries.shift_remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(_)) => remove(value, parent),
        _ => {}
    }
}
