//! The figures of this process, as whoever scrapes sees them.
//!
//! In: what the engine tells. Out: OpenMetrics text, encoded by `prometheus-client`. A lock is held for
//! the time of a change or a copy, never while text is made of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use sluice_core::metric::{
    ALL, Family, JOB_UP, MEMORY_BYTES, MEMORY_LIMIT, Metric, OWNERS_MAX, Recorder, Series, Shape,
    bounded,
};

use super::process;
use crate::memory::Pool;

/// Upper bounds of durations in seconds: an epoch takes from milliseconds to an hour.
const BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, f64::INFINITY];

/// Values of labels, in the order of the metric's.
type Labels = Vec<String>;

/// All figures.
#[derive(Debug)]
pub(crate) struct Board {
    figures: Mutex<Figures>,
    pool: Arc<Pool>,
}

#[derive(Debug, Clone, Default)]
struct Figures {
    counters: BTreeMap<&'static str, BTreeMap<Labels, u64>>,
    gauges: BTreeMap<&'static str, BTreeMap<Labels, f64>>,
    histograms: BTreeMap<&'static str, BTreeMap<Labels, Histogram>>,
    /// By who made them.
    families: BTreeMap<String, Vec<Family>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Histogram {
    sum: f64,
    count: u64,
    buckets: [u64; BUCKETS.len()],
}

impl Board {
    /// Nothing measured yet but the pool.
    pub fn new(pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { figures: Mutex::default(), pool })
    }

    /// Everything as OpenMetrics text.
    pub fn text(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(self.now())));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    /// Whether there are jobs, and all of them are at work.
    pub fn is_healthy(&self) -> bool {
        let figures = self.figures.lock();
        let jobs = figures.gauges.get(JOB_UP.name);
        jobs.is_some_and(|jobs| jobs.values().all(|up| *up > 0.0))
    }

    /// The series of a gauge as they are.
    pub fn gauge(&self, metric: &Metric) -> Vec<Series> {
        let figures = self.figures.lock();
        let all = figures.gauges.get(metric.name).into_iter().flatten();
        all.map(|(labels, value)| (labels.clone(), *value)).collect()
    }

    /// A copy, with what is only measured when somebody looks.
    fn now(&self) -> Figures {
        let mut figures = self.figures.lock().clone();
        let mut owners: BTreeMap<String, f64> = BTreeMap::new();
        for consumer in self.pool.metrics().iter().filter(|c| c.reserved > 0) {
            *owners.entry(owner(&consumer.name)).or_default() += consumer.reserved as f64;
        }
        let owners = bounded(owners.into_iter().collect(), OWNERS_MAX, |a, b| a + b);
        let owners = owners.into_iter().map(|(owner, bytes)| (vec![owner], bytes));
        figures.gauges.insert(MEMORY_BYTES.name, owners.collect());
        let measured = process::measured().into_iter();
        for (metric, value) in measured.chain(self.pool_bytes().map(|b| (&MEMORY_LIMIT, b))) {
            figures.gauges.entry(metric.name).or_default().insert(Vec::new(), value);
        }
        figures
    }

    fn pool_bytes(&self) -> Option<f64> {
        use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
        match self.pool.memory_limit() {
            MemoryLimit::Finite(bytes) => Some(bytes as f64),
            _ => None,
        }
    }
}

/// The name of a consumer of memory without its numbers, which tell partitions and operators apart.
fn owner(consumer: &str) -> String {
    let plain = consumer.split(['[', '(']).next().unwrap_or_default();
    let words = plain.split_whitespace().filter(|word| !word.chars().all(|c| c.is_ascii_digit()));
    let name = words.collect::<Vec<_>>().join(" ");
    name.trim_end_matches(|c: char| c.is_ascii_digit() || "-_#".contains(c)).to_string()
}

fn owned(labels: &[&str]) -> Labels {
    labels.iter().map(|label| (*label).to_string()).collect()
}

impl Recorder for Board {
    fn is_on(&self) -> bool {
        true
    }

    fn count(&self, metric: &'static Metric, labels: &[&str], by: u64) {
        let mut figures = self.figures.lock();
        *figures.counters.entry(metric.name).or_default().entry(owned(labels)).or_default() += by;
    }

    fn observe(&self, metric: &'static Metric, labels: &[&str], seconds: f64) {
        let mut figures = self.figures.lock();
        let all = figures.histograms.entry(metric.name).or_default();
        let histogram = all.entry(owned(labels)).or_default();
        histogram.sum += seconds;
        histogram.count += 1;
        if let Some(at) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            histogram.buckets[at] += 1;
        }
    }

    fn set(&self, metric: &'static Metric, labels: &[&str], value: f64) {
        let mut figures = self.figures.lock();
        figures.gauges.entry(metric.name).or_default().insert(owned(labels), value);
    }

    fn replace(&self, metric: &'static Metric, first: &[&str], series: Vec<Series>) {
        let mut figures = self.figures.lock();
        let all = figures.gauges.entry(metric.name).or_default();
        all.retain(|labels, _| !first.iter().zip(labels).all(|(label, has)| label == has));
        all.extend(series);
    }

    fn show(&self, owner: &str, families: Vec<Family>) {
        self.figures.lock().families.insert(owner.to_string(), families);
    }
}

/// The figures of one moment.
#[derive(Debug)]
struct Scrape(Figures);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for metric in ALL {
            match metric.shape {
                Shape::Counter => self.counter(metric, &mut encoder)?,
                Shape::Gauge => self.gauge(metric, &mut encoder)?,
                Shape::Histogram => self.histogram(metric, &mut encoder)?,
            }
        }
        // Two views may have been given one name: whose it is is told once.
        let mut families: BTreeMap<&str, Vec<&Family>> = BTreeMap::new();
        for family in self.0.families.values().flatten() {
            families.entry(&family.name).or_default().push(family);
        }
        for (name, same) in families {
            let Some(first) = same.first() else { continue };
            let mut encoder =
                encoder.encode_descriptor(name, &first.help, None, MetricType::Gauge)?;
            let mut seen = std::collections::BTreeSet::new();
            for family in same {
                for (values, value) in &family.series {
                    let names = family.labels.iter().map(String::as_str);
                    let labels = labelled(names, values);
                    if seen.insert(labels.clone()) {
                        encoder.encode_family(&labels)?.encode_gauge(value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Scrape {
    fn counter(&self, metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(all) = self.0.counters.get(metric.name) else { return Ok(()) };
        let (name, help) = (metric.name, metric.help);
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (values, value) in all {
            let labels = labelled(metric.labels.iter().copied(), values);
            let mut series = encoder.encode_family(&labels)?;
            series.encode_counter::<NoLabelSet, u64, u64>(value, None)?;
        }
        Ok(())
    }

    fn gauge(&self, metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(all) = self.0.gauges.get(metric.name) else { return Ok(()) };
        let (name, help) = (metric.name, metric.help);
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (values, value) in all {
            let labels = labelled(metric.labels.iter().copied(), values);
            encoder.encode_family(&labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn histogram(&self, metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(all) = self.0.histograms.get(metric.name) else { return Ok(()) };
        let (name, help) = (metric.name, metric.help);
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (values, histogram) in all {
            let labels = labelled(metric.labels.iter().copied(), values);
            let buckets: Vec<(f64, u64)> = BUCKETS.into_iter().zip(histogram.buckets).collect();
            let mut series = encoder.encode_family(&labels)?;
            let Histogram { sum, count, .. } = *histogram;
            series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// Names with their values; empty values are left out, which says the same.
fn labelled<'a>(names: impl Iterator<Item = &'a str>, values: &[String]) -> Vec<(String, String)> {
    let pairs = names.zip(values).filter(|(_, value)| !value.is_empty());
    pairs.map(|(name, value)| (name.to_string(), value.clone())).collect()
}
