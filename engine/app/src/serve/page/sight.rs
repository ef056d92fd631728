//! The first rows of views, as the page shows them.
//!
//! In: the views there are. Out: a small table of each, with a line of a number over time where it
//! has both. Rows are read once per version of a view and kept; a page does not wait for long ones,
//! and shows what was there before until they come. What could not be read is tried again with the
//! next page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};
use parking_lot::Mutex;
use sluice_core::Error;
use tokio::sync::Semaphore;

use super::plot::Plot;
use super::words::{cell, number_text};
use crate::output::json_values;
use crate::serve::Parts;
use crate::serve::query::{Answer, Ask, QueryError, RelationInfo};
use crate::serve::shell::scrubbed;

/// Views on one page: more than anybody looks at.
const VIEWS_MAX: usize = 24;

/// Rows of a table.
const ROWS_MAX: usize = 6;

/// Columns of a table.
const COLUMNS_MAX: usize = 8;

/// Values of a line: two months of days.
const POINTS_MAX: usize = 60;

/// How long a page waits for rows.
const PATIENCE: Duration = Duration::from_millis(500);

/// Views that are read at once: the page is not to be in the way of those who ask.
const AT_ONCE: usize = 2;

/// Who asks, in the log of queries.
const WHO: &str = "status page";

/// A view as it is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sight {
    /// Names of the columns, and whether they hold numbers.
    pub heads: Vec<(String, bool)>,
    /// Columns beyond those.
    pub more_columns: usize,
    /// The rows.
    pub rows: Vec<Vec<(String, bool)>>,
    /// The line, and the name of its column.
    pub line: Option<(String, Plot)>,
    /// Why there are no rows.
    pub trouble: Option<String>,
}

/// A view on the page.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// What it is.
    pub info: RelationInfo,
    /// Its rows; none while they are read for the first time.
    pub sight: Option<Arc<Sight>>,
    /// Whether newer rows are being read.
    pub stale: bool,
}

/// What was seen of views.
pub(crate) struct Sights {
    kept: Mutex<BTreeMap<String, Kept>>,
    reading: Mutex<BTreeSet<String>>,
    places: Semaphore,
}

struct Kept {
    /// The version that was seen, or could not be.
    version: String,
    sight: Arc<Sight>,
}

impl Kept {
    /// Whether there is nothing to read while the view has this version.
    fn is_whole(&self, version: &str) -> bool {
        self.version == version && self.sight.trouble.is_none()
    }
}

/// Whether other rows are to come soon. What cannot be read does not come by asking for it all the
/// time.
fn is_stale(kept: Option<&Kept>, version: &str) -> bool {
    kept.is_none_or(|kept| kept.version != version)
}

impl Default for Sights {
    fn default() -> Self {
        Self { kept: Mutex::default(), reading: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }
}

/// The views of a project and their rows; and how many views there are beyond those.
pub(super) async fn views(parts: &Arc<Parts>) -> (Vec<Shown>, usize) {
    let mut views = parts.queries.relations();
    views.retain(|relation| relation.kind == "view");
    let beyond = views.len().saturating_sub(VIEWS_MAX);
    views.truncate(VIEWS_MAX);
    let tasks: Vec<_> = views.iter().filter_map(|view| read(parts, view)).collect();
    tokio::select! {
        _ = futures::future::join_all(tasks) => {}
        () = parts.environment.clock.sleep(PATIENCE) => {}
    }
    let kept = parts.page.sights.kept.lock();
    let shown = |info: RelationInfo| {
        let version = parts.queries.version_of(std::slice::from_ref(&info.name));
        let seen = kept.get(&info.name);
        let stale = is_stale(seen, &version);
        Shown { sight: seen.map(|seen| seen.sight.clone()), stale, info }
    };
    (views.into_iter().map(shown).collect(), beyond)
}

/// Begins to read a view that has changed, unless it is read already.
fn read(parts: &Arc<Parts>, view: &RelationInfo) -> Option<tokio::task::JoinHandle<()>> {
    let version = parts.queries.version_of(std::slice::from_ref(&view.name));
    let sights = parts.page.sights.clone();
    let known = sights.kept.lock().get(&view.name).is_some_and(|kept| kept.is_whole(&version));
    if known || !sights.reading.lock().insert(view.name.clone()) {
        return None;
    }
    let reading = Reading { sights, name: view.name.clone() };
    let (parts, view) = (parts.clone(), view.clone());
    Some(tokio::spawn(async move {
        let Ok(_place) = reading.sights.places.acquire().await else { return };
        let ask =
            Ask { sql: question(&view), params: Vec::new(), rows_max: None, who: WHO.to_string() };
        let answer = parts.queries.answer(ask).await;
        let sight = answer.map_err(|error| told(&error)).and_then(|answer| sight(&view, &answer));
        let sight =
            sight.unwrap_or_else(|trouble| Sight { trouble: Some(trouble), ..Sight::default() });
        let kept = Kept { version, sight: Arc::new(sight) };
        reading.sights.kept.lock().insert(view.name.clone(), kept);
    }))
}

/// A view that is read at this moment.
struct Reading {
    sights: Arc<Sights>,
    name: String,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.sights.reading.lock().remove(&self.name);
    }
}

/// What is asked of a view: the latest rows where it has a time, else any.
fn question(view: &RelationInfo) -> String {
    match time_of(&view.schema) {
        Some(at) => {
            let name = view.schema.field(at).name().replace('"', "\"\"");
            let sql = &view.sql;
            format!("SELECT * FROM {sql} ORDER BY \"{name}\" DESC NULLS LAST LIMIT {POINTS_MAX}")
        }
        None => format!("SELECT * FROM {} LIMIT {ROWS_MAX}", view.sql),
    }
}

/// The first column that is a time.
fn time_of(schema: &Schema) -> Option<usize> {
    let is_time = |kind: &DataType| {
        matches!(kind, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
    };
    schema.fields().iter().position(|field| is_time(field.data_type()))
}

/// The first column that counts or measures something.
fn number_of(schema: &Schema) -> Option<usize> {
    schema.fields().iter().position(|field| {
        let name = field.name().to_lowercase();
        let is_name = name == "id" || name.ends_with("_id") || name == "year" || name == "month";
        field.data_type().is_numeric() && !is_name
    })
}

fn sight(view: &RelationInfo, answer: &Answer) -> Result<Sight, String> {
    let batch = concat_batches(&answer.schema, &answer.batches).map_err(|e| e.to_string())?;
    drawn(&batch, time_of(&view.schema)).map_err(|error| scrubbed(&error.chain()))
}

/// The table and the line of rows whose latest come first.
fn drawn(batch: &RecordBatch, time: Option<usize>) -> Result<Sight, Error> {
    let schema = batch.schema();
    let shown = batch.num_columns().min(COLUMNS_MAX);
    let rows = batch.num_rows().min(ROWS_MAX);
    let mut columns = Vec::with_capacity(shown);
    for array in batch.columns().iter().take(shown) {
        let values = json_values(&array.slice(0, rows))?;
        let number = array.data_type().is_numeric();
        // Decimals come as text.
        let text = |text: String| if number { number_text(&text) } else { text };
        let cells = values.iter().map(|value| (text(cell(value).0), number));
        columns.push(cells.collect::<Vec<_>>().into_iter());
    }
    let row = |_| columns.iter_mut().filter_map(Iterator::next).collect();
    let rows = (0..rows).map(row).collect();
    let head = |at: usize| {
        let field = schema.field(at);
        (field.name().clone(), field.data_type().is_numeric())
    };
    let line = time.and_then(|time| {
        let number = number_of(&schema)?;
        let plot = line(batch.column(time), batch.column(number))?;
        Some((schema.field(number).name().clone(), plot))
    });
    Ok(Sight {
        heads: (0..shown).map(head).collect(),
        more_columns: batch.num_columns() - shown,
        rows,
        line,
        trouble: None,
    })
}

/// Numbers over time, from the earliest on.
fn line(times: &ArrayRef, numbers: &ArrayRef) -> Option<Plot> {
    let times = match times.data_type() {
        DataType::Date32 => cast(&cast(times, &DataType::Int32).ok()?, &DataType::Int64).ok()?,
        _ => cast(times, &DataType::Int64).ok()?,
    };
    let numbers = cast(numbers, &DataType::Float64).ok()?;
    let times = times.as_primitive::<Int64Type>().iter();
    let numbers = numbers.as_primitive::<Float64Type>().iter();
    let pairs = times.zip(numbers).filter_map(|(at, value)| Some((at?, value)));
    let (times, numbers): (Vec<i64>, Vec<Option<f64>>) =
        pairs.collect::<Vec<_>>().into_iter().rev().unzip();
    Plot::of(&times, &numbers)
}

/// Why rows could not be read, for people who look at the page.
fn told(error: &QueryError) -> String {
    match error {
        QueryError::Refused(error) => scrubbed(&error.chain()),
        QueryError::Busy { .. } => "too many queries are at work; it is tried again".to_string(),
        QueryError::TooLong => "the first rows took longer than a query may".to_string(),
        QueryError::TooLarge(what) => what.clone(),
        QueryError::Failed(error) => scrubbed(error.message()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, Decimal128Array, Int64Array, StringArray};
    use arrow::datatypes::Field;

    use super::*;

    fn view(fields: Vec<Field>) -> RelationInfo {
        RelationInfo {
            job: "shop".into(),
            name: "daily".into(),
            sql: "daily".into(),
            kind: "view",
            schema: Arc::new(Schema::new(fields)),
            rows: None,
            files: None,
            epoch: None,
            doc: String::new(),
        }
    }

    #[test]
    fn what_cannot_be_read_is_tried_again_and_not_waited_for() {
        let kept = |trouble: Option<&str>| {
            let sight = Sight { trouble: trouble.map(str::to_string), ..Sight::default() };
            Kept { version: "7".to_string(), sight: Arc::new(sight) }
        };
        let cases = [
            (None, "7", (true, false)),
            (Some(kept(None)), "7", (false, true)),
            (Some(kept(None)), "8", (true, false)),
            (Some(kept(Some("the store is away"))), "7", (false, false)),
            (Some(kept(Some("the store is away"))), "8", (true, false)),
        ];
        for (kept, version, expected) in cases {
            let is_whole = kept.as_ref().is_some_and(|kept| kept.is_whole(version));
            assert_eq!((is_stale(kept.as_ref(), version), is_whole), expected, "{version}");
        }
    }

    #[test]
    fn the_latest_rows_are_asked_for() {
        let name = Field::new("name", DataType::Utf8, true);
        assert_eq!(question(&view(vec![name.clone()])), "SELECT * FROM daily LIMIT 6");
        let day = Field::new("the \"day\"", DataType::Date32, true);
        assert_eq!(
            question(&view(vec![name, day])),
            "SELECT * FROM daily ORDER BY \"the \"\"day\"\"\" DESC NULLS LAST LIMIT 60"
        );
    }

    #[test]
    fn a_number_over_time_becomes_a_line() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![12, 11, 10]));
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 7, 7]));
        let sums = Decimal128Array::from(vec![300, 100, 200]).with_precision_and_scale(9, 2);
        let sums: ArrayRef = Arc::new(sums.unwrap());
        let batch =
            RecordBatch::try_from_iter([("day", days), ("shop_id", ids), ("sum", sums)]).unwrap();
        let sight = drawn(&batch, time_of(&batch.schema())).unwrap();
        let (name, plot) = sight.line.unwrap();
        assert_eq!((name.as_str(), plot.range), ("sum", (1.0, 3.0, 3.0)));
        assert_eq!(sight.rows[0][0].0, "1970-01-13");
        assert_eq!(sight.rows[0][2], ("3".to_string(), true));
    }

    #[test]
    fn tables_are_small() {
        let numbers: ArrayRef = Arc::new((0..50).collect::<Int64Array>());
        let names: Vec<String> = (0..20).map(|at| format!("c{at}")).collect();
        let columns = names.iter().map(|name| (name, numbers.clone()));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let sight = drawn(&batch, None).unwrap();
        assert_eq!((sight.heads.len(), sight.more_columns, sight.rows.len()), (8, 12, 6));
        assert_eq!(sight.line, None);
        let none = batch.slice(0, 0);
        assert!(drawn(&none, None).unwrap().rows.is_empty());
    }

    #[test]
    fn texts_are_cut_and_stay_texts() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["<script>alert(1)</script>"]));
        let batch = RecordBatch::try_from_iter([("<b>", texts)]).unwrap();
        let sight = drawn(&batch, None).unwrap();
        assert_eq!(sight.heads[0].0, "<b>");
        assert_eq!(sight.rows[0][0].0, "<script>alert(1)</script>");
    }
}
