//! Gauges that views make (`metrics:`): their rows are read behind the epochs and shown to whoever
//! scrapes.
//!
//! In: a view's files, whenever an epoch that changed it is published. Out: a series per row and value,
//! the first [`VIEW_SERIES_MAX`] in the order of the labels. No epoch waits for it: while one reading is
//! under way, only the newest files wait. It reads nothing where nobody looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use datafusion::prelude::{Expr, SessionContext, ident};
use parking_lot::Mutex;
use sluice_core::metric::{
    Family, Recorder, Series, VIEW_PREFIX, VIEW_SERIES_DROPPED, VIEW_SERIES_MAX, legal_name,
};
use sluice_core::{Error, Result};
use sluice_lake::manifest::{DataFile, Manifest};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::catalog::sql_error;
use crate::epoch::{Lake, Publisher, Relation, Relations, Worker};
use crate::job::MetricsSpec;
use crate::plan::Graph;

/// The views of a run that make gauges, and the task that reads them.
#[derive(Debug)]
pub(in crate::schedule) struct Gauges {
    views: Arc<BTreeMap<String, Relation>>,
    waiting: Arc<Waiting>,
    task: Option<JoinHandle<()>>,
}

/// Files of views that are to be read.
#[derive(Debug, Default)]
struct Waiting {
    files: Mutex<BTreeMap<String, Vec<DataFile>>>,
    bell: Notify,
    over: CancellationToken,
}

/// Reads views and shows what they say.
struct Reading {
    job: String,
    specs: BTreeMap<String, MetricsSpec>,
    metrics: Arc<dyn Recorder>,
    context: SessionContext,
    lake: Lake,
    views: Arc<BTreeMap<String, Relation>>,
    /// Views of which something was said that need not be said again.
    warned: BTreeSet<String>,
}

impl Gauges {
    /// Gauges of a run that begins with the heads of `worker`.
    pub fn start(worker: &Worker, graph: &Graph) -> Self {
        let metrics = worker.env.metrics.clone();
        let specs = graph
            .views
            .iter()
            .filter(|_| metrics.is_on())
            .filter_map(|view| Some((view.spec.name.clone(), view.spec.metrics.clone()?)));
        let specs: BTreeMap<String, MetricsSpec> = specs.collect();
        let relations: &Relations = &worker.state.relations;
        let views = specs.keys().filter_map(|name| {
            let relation = relations.get(name)?.clone();
            Some((name.clone(), Relation { files: Vec::new(), ..relation }))
        });
        let views: Arc<BTreeMap<String, Relation>> = Arc::new(views.collect());
        let waiting = Arc::new(Waiting::default());
        let reading = Reading {
            job: graph.job.name.clone(),
            specs,
            metrics,
            context: worker.context.clone(),
            lake: worker.lake.clone(),
            views: views.clone(),
            warned: BTreeSet::new(),
        };
        let busy = !views.is_empty();
        let task = busy.then(|| tokio::spawn(read_on(reading, waiting.clone())));
        let gauges = Self { views, waiting, task };
        for relation in
            relations.values().filter(|r| r.exists && gauges.views.contains_key(&r.name))
        {
            gauges.waiting.add(&relation.name, relation.files.clone());
        }
        gauges
    }

    /// Who is to be told of published epochs.
    pub fn listener(&self) -> Listener {
        Listener { views: self.views.clone(), waiting: self.waiting.clone() }
    }

    /// Reads what still waits, and ends.
    pub async fn finish(&mut self) {
        self.waiting.over.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "gauges of views were not read");
        }
    }
}

/// Passes on what was published.
#[derive(Debug, Clone)]
pub(in crate::schedule) struct Listener {
    views: Arc<BTreeMap<String, Relation>>,
    waiting: Arc<Waiting>,
}

impl Listener {
    /// An epoch is published: views that it changed are to be read again.
    pub fn published(&self, manifest: &Manifest, publisher: &Publisher) {
        for name in self.views.keys() {
            let changed = manifest.tables.get(name).is_some_and(|part| part.action.changes());
            let head = publisher.tables.get(name).and_then(|table| table.head.as_ref());
            if let Some(head) = head.filter(|_| changed) {
                self.waiting.add(name, head.files.values().cloned().collect());
            }
        }
    }
}

impl Waiting {
    fn add(&self, view: &str, files: Vec<DataFile>) {
        self.files.lock().insert(view.to_string(), files);
        self.bell.notify_one();
    }
}

async fn read_on(mut reading: Reading, waiting: Arc<Waiting>) {
    loop {
        let over = tokio::select! {
            biased;
            () = waiting.bell.notified() => false,
            () = waiting.over.cancelled() => true,
        };
        let files = std::mem::take(&mut *waiting.files.lock());
        for (view, files) in files {
            if let Err(error) = reading.show(&view, &files).await {
                reading.warn(&view, &error.chain());
            }
        }
        if over {
            return;
        }
    }
}

impl Reading {
    async fn show(&mut self, view: &str, files: &[DataFile]) -> Result<()> {
        let (Some(relation), Some(spec)) = (self.views.get(view), self.specs.get(view)) else {
            return Ok(());
        };
        let rows = self.rows(relation, spec, files).await?;
        let shown = shown(&rows, spec)?;
        let stem = spec.name.clone().unwrap_or_else(|| format!("{}_{view}", self.job));
        let families = spec.values.iter().zip(shown.series).map(|(column, series)| Family {
            name: format!("{VIEW_PREFIX}{}", legal_name(&format!("{stem}_{column}"))),
            help: format!("{column} of the view {view} of the job {}.", self.job),
            labels: spec.labels.iter().map(|label| legal_label(label)).collect(),
            series,
        });
        self.metrics.show(&format!("{}/{view}", self.job), families.collect());
        let all: u64 = files.iter().map(|file| file.rows).sum();
        let read: usize = rows.iter().map(RecordBatch::num_rows).sum();
        let dropped = all.saturating_sub(read as u64).saturating_mul(spec.values.len() as u64);
        self.metrics.set(&VIEW_SERIES_DROPPED, &[&self.job, view], dropped as f64);
        if dropped > 0 {
            let told = format!("{dropped} series are more than the {VIEW_SERIES_MAX} of a view");
            self.warn(view, &told);
        } else if shown.same_labels {
            self.warn(view, "several rows have the same labels: the first is shown");
        }
        Ok(())
    }

    /// The first rows of a view in the order of its labels.
    async fn rows(
        &self,
        relation: &Relation,
        spec: &MetricsSpec,
        files: &[DataFile],
    ) -> Result<Vec<RecordBatch>> {
        let table = relation.provider_of(&self.context, &self.lake, files)?;
        let failed = |e| sql_error("a view cannot be read for its gauges", e);
        let columns = spec.labels.iter().chain(&spec.values);
        let columns: Vec<Expr> = columns.map(|name| ident(name.as_str())).collect();
        let order = columns.iter().map(|column| column.clone().sort(true, true)).collect();
        let frame = self.context.read_table(table).map_err(failed)?;
        let frame = frame.select(columns).map_err(failed)?.sort(order).map_err(failed)?;
        let most = (VIEW_SERIES_MAX / spec.values.len().max(1)).max(1);
        frame.limit(0, Some(most)).map_err(failed)?.collect().await.map_err(failed)
    }

    /// Says something about a view once in a run.
    fn warn(&mut self, view: &str, what: &str) {
        if self.warned.insert(view.to_string()) {
            tracing::warn!(job = self.job, view, what, "gauges of a view are not as wanted");
        }
    }
}

/// A label of a gauge; names that begin with two underscores are not ours to give.
fn legal_label(name: &str) -> String {
    let name = legal_name(name);
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Rows as series.
struct Shown {
    /// Per value column.
    series: Vec<Vec<Series>>,
    /// Whether rows were left out because an earlier one has the same labels.
    same_labels: bool,
}

/// `rows` have the label columns first, then the values.
fn shown(rows: &[RecordBatch], spec: &MetricsSpec) -> Result<Shown> {
    let mut series: Vec<Vec<Series>> = spec.values.iter().map(|_| Vec::new()).collect();
    let (mut seen, mut same_labels) = (BTreeSet::new(), false);
    for batch in rows {
        let (labels, values) = batch.columns().split_at(spec.labels.len());
        let labels = labels.iter().map(|c| Ok(cast(c, &DataType::Utf8)?));
        let labels: Vec<ArrayRef> = labels.collect::<Result<_>>()?;
        let values = values.iter().map(number).collect::<Result<Vec<ArrayRef>>>()?;
        for row in 0..batch.num_rows() {
            let text = |column: &ArrayRef| match column.is_null(row) {
                true => String::new(),
                false => column.as_string::<i32>().value(row).to_string(),
            };
            let labels: Vec<String> = labels.iter().map(text).collect();
            if !seen.insert(labels.clone()) {
                same_labels = true;
                continue;
            }
            for (series, column) in series.iter_mut().zip(&values) {
                let column = column.as_primitive::<Float64Type>();
                if column.is_valid(row) && column.value(row).is_finite() {
                    series.push((labels.clone(), column.value(row)));
                }
            }
        }
    }
    Ok(Shown { series, same_labels })
}

/// A column as floats; timestamps as seconds.
fn number(column: &ArrayRef) -> Result<ArrayRef> {
    if !matches!(column.data_type(), DataType::Timestamp(_, _)) {
        return Ok(cast(column, &DataType::Float64)?);
    }
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let micros = cast(&cast(&micros, &DataType::Int64)?, &DataType::Float64)?;
    let seconds = micros.as_primitive_opt::<Float64Type>().map(|c| c.unary(|v| v / 1e6));
    let seconds: Option<arrow::array::Float64Array> = seconds;
    seconds.map(|c| Arc::new(c) as ArrayRef).ok_or_else(|| Error::bug("a cast gave another type"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int32Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn rows_become_series_by_their_labels() {
        let text = StringArray::from(vec![Some("a"), Some("a"), None, Some("b\"")]);
        let rows = RecordBatch::try_from_iter([
            ("site", Arc::new(text) as ArrayRef),
            ("line", Arc::new(Int32Array::from(vec![1, 1, 2, 3]))),
            (
                "good",
                Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(false)])),
            ),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_500_000, 0, 2_000_000, 3]))),
        ]);
        let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect();
        let spec = MetricsSpec {
            values: names(&["good", "at"]),
            labels: names(&["site", "line"]),
            name: None,
        };
        let found = shown(&[rows.unwrap()], &spec).unwrap();
        let series = |site: &str, line: &str, value: f64| (names(&[site, line]), value);
        assert!(found.same_labels);
        assert_eq!(found.series[0], [series("a", "1", 1.0), series("b\"", "3", 0.0)]);
        let at = [series("a", "1", 1.5), series("", "2", 2.0), series("b\"", "3", 3e-6)];
        assert_eq!(found.series[1], at);
        assert_eq!((legal_label("1st"), legal_label("a-b")), ("_1st".into(), "a_b".into()));
    }
}
