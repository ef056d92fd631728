//! All columns of a source, ready to make any range of rows.
//!
//! In: settings. Out: a [`Plan`] with the rows' schema, or every fault at once. A plan is pure and
//! shared by all readers: row i is the same whichever range it is made in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sluice_core::{Error, Result, parse_type, with_position};

use super::check::{Check, Fault, TEXT_BYTES_MAX};
use super::column::{Flaws, Maker, merge};
use super::config::{By, Column, Errors, Settings};
use super::draw::{Draws, Stream};

/// The columns of a source.
#[derive(Debug)]
pub(super) struct Plan {
    columns: Vec<Planned>,
    schema: SchemaRef,
    with_position: SchemaRef,
}

#[derive(Debug)]
struct Planned {
    name: String,
    hidden: bool,
    repeat: u64,
    stream: Stream,
    values: Values,
    /// What spoils some values, and the stream that says which.
    flaws: Option<(Flaws, Stream)>,
    /// The names of a choice's values, which other columns may go by.
    choices: Option<Vec<String>>,
    /// Whether another column goes by this one.
    leads: bool,
}

#[derive(Debug)]
enum Values {
    One(Maker),
    /// The maker of each code of another column.
    By {
        leader: usize,
        case_of: Vec<u32>,
        makers: Vec<Maker>,
    },
}

impl Plan {
    /// Checks the settings and makes the plan.
    pub(super) fn new(settings: &Settings) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        check_settings(settings, &mut faults);
        let mut builder = Builder { settings, faults, columns: Vec::new() };
        for (name, value) in &settings.columns {
            let pointer = format!("/columns/{}", name.replace('~', "~0").replace('/', "~1"));
            builder.add(name, value, &pointer);
        }
        builder.finish()
    }

    /// The rows' schema, without the position.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows' schema, the position last.
    pub(super) fn schema_with_position(&self) -> &SchemaRef {
        &self.with_position
    }

    /// Makes rows, the row number as their position.
    pub(super) fn rows(&self, rows: Range<u64>) -> Result<RecordBatch> {
        let mut codes = vec![Vec::new(); self.columns.len()];
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.with_position.fields().len());
        for (i, column) in self.columns.iter().enumerate() {
            let draws = column.stream.draws(rows.clone(), column.repeat);
            if column.leads {
                codes[i] = column.codes(&draws);
            }
            if !column.hidden {
                arrays.push(column.array(&draws, &codes, &rows).map_err(|e| {
                    Error::data(format!("a value does not fit its column column={}", column.name))
                        .hint("change the column's type or its generator")
                        .because(e)
                })?);
            }
        }
        let positions = rows.map(|row| i64::try_from(row).unwrap_or(i64::MAX));
        arrays.push(Arc::new(Int64Array::from_iter_values(positions)));
        Ok(RecordBatch::try_new(self.with_position.clone(), arrays)?)
    }
}

impl Planned {
    fn codes(&self, draws: &Draws) -> Vec<u32> {
        match &self.values {
            Values::One(maker) => maker.kind.codes(draws).unwrap_or_default(),
            Values::By { .. } => Vec::new(),
        }
    }

    fn array(&self, draws: &Draws, codes: &[Vec<u32>], rows: &Range<u64>) -> Result<ArrayRef> {
        let array = match &self.values {
            Values::One(maker) => maker.array(draws)?,
            Values::By { leader, case_of, makers } => {
                let of: Vec<u32> =
                    codes[*leader].iter().map(|&code| case_of[code as usize]).collect();
                merge(makers, &of, draws)?
            }
        };
        match &self.flaws {
            Some((flaws, stream)) => flaws.apply(array, &stream.draws(rows.clone(), self.repeat)),
            None => Ok(array),
        }
    }

    fn data_type(&self) -> DataType {
        match &self.values {
            Values::One(maker) => maker.data_type.clone(),
            Values::By { makers, .. } => {
                makers.first().map_or(DataType::Utf8, |maker| maker.data_type.clone())
            }
        }
    }
}

fn check_settings(settings: &Settings, faults: &mut Vec<Fault>) {
    let mut fault = |pointer: &str, message: &str, hint: &str| {
        faults.push(Fault { pointer: pointer.into(), message: message.into(), hint: hint.into() });
    };
    if settings.rows.is_none() && settings.rate.is_none() {
        fault("", "rows without end need a rate", "give rows, rate, or both");
    }
    if settings.rows.is_some_and(|rows| i64::try_from(rows).is_err()) {
        fault("/rows", "too many rows", "give fewer");
    }
    if settings.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        fault("/rate", "rate is not above 0", "give rows per second, or leave it out");
    }
    if settings.columns.is_empty() {
        fault("/columns", "there are no columns", "give one, such as id: {sequence: {}}");
    }
}

struct Builder<'a> {
    settings: &'a Settings,
    faults: Vec<Fault>,
    /// What was planned so far; `None` stands for a column with faults.
    columns: Vec<(String, Option<Planned>)>,
}

impl Builder<'_> {
    fn add(&mut self, name: &str, value: &serde_json::Value, pointer: &str) {
        let column = match serde_json::from_value::<Column>(value.clone()) {
            Ok(column) => self.column(name, &column, pointer),
            Err(error) => {
                let message = format!("cannot read the column: {error}");
                self.check(pointer, None).fault("", message, "see connectors/generate.md")
            }
        };
        self.columns.push((name.to_string(), column));
    }

    fn check(&mut self, pointer: &str, wanted: Option<DataType>) -> Check<'_> {
        let (pointer, rows) = (pointer.to_string(), self.settings.rows);
        Check { pointer, wanted, rows, faults: &mut self.faults }
    }

    fn column(&mut self, name: &str, column: &Column, pointer: &str) -> Option<Planned> {
        self.check(pointer, None).name(name);
        let repeat = column.repeat.unwrap_or(1);
        if repeat == 0 {
            let hint = "1 gives every row a value of its own";
            self.check(pointer, None).fault::<()>("/repeat", "repeat is 0".into(), hint);
        }
        let wanted = match column.data_type.as_deref().map(parse_type).transpose() {
            Ok(wanted) => wanted,
            Err(error) => {
                let hint = error.hint_text().unwrap_or_default().to_string();
                return self.check(pointer, None).fault("/type", error.message().into(), &hint);
            }
        };
        let values = match &column.by {
            Some(by) => self.by(by, column, pointer, wanted)?,
            None => Values::One(self.check(pointer, wanted).maker(&column.generator)?),
        };
        let seed = self.settings.seed;
        let mut planned = Planned {
            name: name.to_string(),
            hidden: column.hidden,
            repeat: repeat.max(1),
            stream: Stream::new(seed, &format!("values of {name}")),
            choices: if column.by.is_none() { column.generator.choices() } else { None },
            values,
            flaws: None,
            leads: false,
        };
        let flaws = self.check(pointer, Some(planned.data_type())).flaws(column)?;
        planned.flaws = flaws.map(|f| (f, Stream::new(seed, &format!("flaws of {name}"))));
        Some(planned)
    }

    fn by(
        &mut self,
        by: &By,
        column: &Column,
        pointer: &str,
        wanted: Option<DataType>,
    ) -> Option<Values> {
        if !column.generator.is_empty() {
            let message = "by stands beside another generator".to_string();
            return self.check(pointer, None).fault("", message, "keep one of them");
        }
        let (leader, choices) = self.leader(by, pointer)?;
        let (mut makers, mut numbers) = (Vec::new(), BTreeMap::new());
        let named = by.cases.iter().map(|(case, g)| (Some(case.as_str()), g));
        for (case, generator) in named.chain(by.default.iter().map(|g| (None, g))) {
            let at = match case {
                Some(case) => {
                    format!("{pointer}/by/cases/{}", case.replace('~', "~0").replace('/', "~1"))
                }
                None => format!("{pointer}/by/default"),
            };
            if case.is_some_and(|case| !choices.iter().any(|c| c == case)) {
                let message = format!("no such value column={} value={case:?}", by.column);
                let hint = format!("its values are {}", choices.join(", "));
                self.check(&at, None).fault::<()>("", message, &hint);
            }
            if let Some(maker) = self.check(&at, wanted.clone()).maker(generator) {
                self.same_type(&makers, &maker, &at);
                numbers.insert(case, makers.len() as u32);
                makers.push(maker);
            }
        }
        let mut case_of = Vec::with_capacity(choices.len());
        for choice in &choices {
            let number = numbers.get(&Some(choice.as_str())).or_else(|| numbers.get(&None));
            let known = by.default.is_some() || by.cases.contains_key(choice);
            if !known {
                let message = format!("no case for a value column={} value={choice:?}", by.column);
                self.check(pointer, None).fault::<()>("/by", message, "add the case, or a default");
            }
            case_of.push(number.copied().unwrap_or(0));
        }
        (!makers.is_empty()).then_some(Values::By { leader, case_of, makers })
    }

    /// The column that `by` names, and its values.
    fn leader(&mut self, by: &By, pointer: &str) -> Option<(usize, Vec<String>)> {
        let found = self.columns.iter_mut().enumerate().find(|(_, (name, _))| *name == by.column);
        if let Some((i, (_, column))) = found {
            // A column with faults of its own was reported already.
            let column = column.as_mut()?;
            if let Some(choices) = &column.choices {
                column.leads = true;
                return Some((i, choices.clone()));
            }
        }
        let known =
            self.columns.iter().filter(|(_, c)| c.as_ref().is_some_and(|c| c.choices.is_some()));
        let known: Vec<&str> = known.map(|(name, _)| name.as_str()).collect();
        let hint = match known.as_slice() {
            [] => "put a choice column above this one".to_string(),
            known => format!("go by one of {}", known.join(", ")),
        };
        let message = format!("by needs a choice column that stands above column={}", by.column);
        self.check(pointer, None).fault("/by/column", message, &hint)
    }

    fn same_type(&mut self, makers: &[Maker], maker: &Maker, pointer: &str) {
        let differs = makers.first().is_some_and(|first| first.data_type != maker.data_type);
        if differs {
            let hint = "give the column a type, or all cases the same scale";
            let message = "the cases make different types".to_string();
            self.check(pointer, None).fault::<()>("", message, hint);
        }
    }

    fn finish(mut self) -> Result<Plan, Vec<Fault>> {
        let mut columns = Vec::new();
        for (name, column) in std::mem::take(&mut self.columns) {
            let Some(column) = column else { continue };
            if column.hidden && !column.leads {
                let pointer = format!("/columns/{}", name.replace('~', "~0").replace('/', "~1"));
                let message = format!("no column goes by a hidden one column={name}");
                let hint = "remove it, or name it in another column's by";
                self.check(&pointer, None).fault::<()>("", message, hint);
            }
            columns.push(column);
        }
        let visible = columns.iter().filter(|c| !c.hidden);
        let fields: Vec<Field> =
            visible.map(|c| Field::new(&c.name, c.data_type(), true)).collect();
        if self.faults.is_empty() && fields.is_empty() {
            let message = "all columns are hidden".to_string();
            self.check("/columns", None).fault::<()>("", message, "show one");
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Plan { columns, with_position: with_position(&schema), schema })
    }
}

impl Check<'_> {
    fn name(&mut self, name: &str) {
        if name.is_empty() || name.starts_with('_') || name.chars().any(char::is_control) {
            let hint = "start it with a letter; names with _ first are Sluice's own";
            self.fault::<()>("", format!("not a column name name={name:?}"), hint);
        }
    }

    /// The flaws of a column of the wanted type; the outer `None` is a fault.
    fn flaws(&mut self, column: &Column) -> Option<Option<Flaws>> {
        let nulls = column.nulls.unwrap_or(0.0);
        self.share(nulls, "/nulls")?;
        let none = Errors { rate: 0.0, values: Vec::new() };
        let errors = column.errors.as_ref().unwrap_or(&none);
        self.share(errors.rate, "/errors/rate")?;
        if nulls + errors.rate > 1.0 {
            let hint = "lower one of them";
            return self.fault("", "nulls and errors are more than all rows".into(), hint);
        }
        if errors.rate > 0.0 {
            if self.wanted != Some(DataType::Utf8) {
                let hint = "add type: string; the values are then written as text";
                return self.fault("/errors", "errors need a string column".into(), hint);
            }
            if errors.values.is_empty() || errors.values.iter().any(|v| v.len() > TEXT_BYTES_MAX) {
                let hint = "list one or more texts below 64 KiB";
                return self.fault("/errors/values", "errors need values".into(), hint);
            }
        }
        let values = StringArray::from_iter_values(&errors.values);
        let flaws = Flaws { nulls, errors: errors.rate, values };
        Some((nulls > 0.0 || errors.rate > 0.0).then_some(flaws))
    }

    fn share(&mut self, share: f64, key: &str) -> Option<()> {
        if (0.0..=1.0).contains(&share) {
            return Some(());
        }
        let message = format!("not a share share={share}");
        self.fault(key, message, "give a number from 0 to 1")
    }
}
