//! What can be measured of a process and its jobs: names, units, labels, meanings, and how the
//! engine tells the figures.
//!
//! In: facts, as they happen. Out: whatever the [`Recorder`] makes of them; by default nothing. It
//! formats and serves nothing: the exporter is `app`'s.

mod http;
mod names;
mod postgres;
mod query;
mod schedule;
mod webhook;

pub use http::{
    HTTP_AT_WORK, HTTP_BYTES, HTTP_CONNECTIONS, HTTP_REFUSED, HTTP_REQUESTS, HTTP_SECONDS, READY,
};
pub use names::{
    ALL, BYTES, CIRCUIT_OPEN, CPU_SECONDS, DEPENDENCY_MISSING, EPOCH_SECONDS, EPOCHS, FAILURES,
    FILES, JOB_UP, LAG_ROWS, LAG_SECONDS, LAST_EPOCH, LOG_VERSIONS, MEMORY_BYTES, MEMORY_LIMIT,
    OPEN_FILES, ROWS, RSS, SINK_FAILURES, STATE_BYTES, TABLE_BYTES, VIEW_SERIES_DROPPED, WATERMARK,
};
pub use postgres::{POSTGRES_REFUSED, POSTGRES_SESSIONS};
pub use query::{
    ENDPOINT_REQUESTS, FORWARD_SECONDS, QUERIES, QUERIES_RUNNING, QUERIES_WAITING, QUERY_CACHE,
    QUERY_CACHE_BYTES, QUERY_ROWS, QUERY_SECONDS,
};
pub use schedule::{HISTORY_WAITING, JOB_PAUSED, NEXT_RUN, RUN_FAILURES, RUN_SECONDS, RUNS};
pub use webhook::{
    WEBHOOK_ACK_SECONDS, WEBHOOK_BACKLOG_BYTES, WEBHOOK_BACKLOG_ROWS, WEBHOOK_BYTES,
    WEBHOOK_REQUESTS, WEBHOOK_ROWS,
};

/// Partitions of a source that have a series of their own; the rest is summed up as [`OTHER`]. A
/// topic of a hundred partitions is common, one of ten thousand would drown whoever scrapes.
pub const PARTITIONS_MAX: usize = 100;

/// Owners of memory that have a series of their own: more than a run has at work at once.
pub const OWNERS_MAX: usize = 20;

/// Series of one view: enough for sites and lines, too few for keys of rows.
pub const VIEW_SERIES_MAX: usize = 200;

/// The label of what is summed up because there is too much of it.
pub const OTHER: &str = "other";

/// The beginning of the names of gauges that views make.
pub const VIEW_PREFIX: &str = "sluice_view_";

/// What a figure does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It only grows while the process lives. Its exported name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations, counted by how long they are.
    Histogram,
}

/// Something that can be measured.
#[derive(Debug)]
pub struct Metric {
    /// Its exported name, but for `_total`.
    pub name: &'static str,
    /// What it does over time.
    pub shape: Shape,
    /// Its labels in order. A value that is empty is left out.
    pub labels: &'static [&'static str],
    /// What it means, with its unit.
    pub help: &'static str,
}

impl Metric {
    /// The name as whoever scrapes sees it; of a histogram without `_bucket`, `_sum`, `_count`.
    pub fn exported(&self) -> String {
        let total = if self.shape == Shape::Counter { "_total" } else { "" };
        format!("{}{total}", self.name)
    }
}

/// Values of a metric's labels, and the figure.
pub type Series = (Vec<String>, f64);

/// Gauges whose name and labels are known only from a job file.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name, legal for whoever scrapes ([`legal_name`]).
    pub name: String,
    /// What it means.
    pub help: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Its series.
    pub series: Vec<Series>,
}

/// Told what happens. Called from the run's own tasks: must neither block nor fail. Values of labels
/// come in the order of [`Metric::labels`]; those that are left out at the end are empty.
pub trait Recorder: Send + Sync + std::fmt::Debug {
    /// Whether anybody looks: what costs work to find out is left out if not.
    fn is_on(&self) -> bool;

    /// Adds to a counter.
    fn count(&self, metric: &'static Metric, labels: &[&str], by: u64);

    /// Adds one duration to a histogram.
    fn observe(&self, metric: &'static Metric, labels: &[&str], seconds: f64);

    /// Sets a gauge.
    fn set(&self, metric: &'static Metric, labels: &[&str], value: f64);

    /// Sets all series of a gauge whose first labels are `first`; others of them are forgotten.
    fn replace(&self, metric: &'static Metric, first: &[&str], series: Vec<Series>);

    /// Sets all gauges that `owner` makes; others of it are forgotten.
    fn show(&self, owner: &str, families: Vec<Family>);
}

/// Nobody looks.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unrecorded;

impl Recorder for Unrecorded {
    fn is_on(&self) -> bool {
        false
    }

    fn count(&self, _metric: &'static Metric, _labels: &[&str], _by: u64) {}

    fn observe(&self, _metric: &'static Metric, _labels: &[&str], _seconds: f64) {}

    fn set(&self, _metric: &'static Metric, _labels: &[&str], _value: f64) {}

    fn replace(&self, _metric: &'static Metric, _first: &[&str], _series: Vec<Series>) {}

    fn show(&self, _owner: &str, _families: Vec<Family>) {}
}

/// `text` as a part of a name: everything but letters, digits and `_` becomes `_`.
pub fn legal_name(text: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    text.chars().map(legal).collect()
}

/// At most `max` of `figures`, the largest, in their order; what is left is joined by `join` and
/// stands at the end as [`OTHER`].
pub fn bounded(
    mut figures: Vec<(String, f64)>,
    max: usize,
    join: impl Fn(f64, f64) -> f64,
) -> Vec<(String, f64)> {
    if figures.len() <= max {
        return figures;
    }
    let mut sizes: Vec<f64> = figures.iter().map(|(_, figure)| *figure).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let least = sizes.get(max.saturating_sub(1)).copied().unwrap_or(f64::INFINITY);
    let mut room = max;
    let mut rest: Option<f64> = None;
    figures.retain(|(_, figure)| {
        let kept = room > 0 && *figure >= least;
        match kept {
            true => room -= 1,
            false => rest = Some(rest.map_or(*figure, |before| join(before, *figure))),
        }
        kept
    });
    figures.extend(rest.map(|figure| (OTHER.to_string(), figure)));
    figures
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_what_prometheus_wants() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} is there twice", metric.name);
            assert!(metric.name.starts_with("sluice_") && !metric.name.ends_with("_total"));
            assert_eq!(legal_name(metric.name), metric.name);
            assert!(!metric.help.contains('\n') && metric.help.ends_with('.'), "{}", metric.name);
        }
        assert_eq!(EPOCHS.exported(), "sluice_epochs_total");
        assert_eq!(LAG_ROWS.exported(), "sluice_lag_rows");
        assert_eq!(legal_name("quality-control.α"), "quality_control__");
    }

    #[test]
    fn the_largest_are_kept_and_the_rest_is_joined() {
        let figures = |list: &[(&str, f64)]| -> Vec<(String, f64)> {
            list.iter().map(|(name, figure)| (name.to_string(), *figure)).collect()
        };
        let few = figures(&[("a", 1.0), ("b", 2.0)]);
        assert_eq!(bounded(few.clone(), 2, |a, b| a + b), few);
        let many = figures(&[("a", 1.0), ("b", 5.0), ("c", 2.0), ("d", 3.0)]);
        let sums = figures(&[("b", 5.0), ("d", 3.0), ("other", 3.0)]);
        assert_eq!(bounded(many.clone(), 2, |a, b| a + b), sums);
        let most = figures(&[("b", 5.0), ("d", 3.0), ("other", 2.0)]);
        assert_eq!(bounded(many, 2, f64::max), most);
        let same = figures(&[("a", 1.0), ("b", 1.0), ("c", 1.0)]);
        let cut = figures(&[("a", 1.0), ("other", 2.0)]);
        assert_eq!(bounded(same, 1, |a, b| a + b), cut);
    }
}
