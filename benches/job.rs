//! Jobs for measuring: made from text, run in-process, timed from seal to seal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice::environment::{Resources, environment};
use sluice_core::{Clock, Secrets};
use sluice_runtime::epoch::Environment;
use sluice_runtime::function::{EpochTime, SessionOptions, session};
use sluice_runtime::job::{LoadOptions, load};
use sluice_runtime::plan::build_pack;
use sluice_runtime::schedule::{EpochReport, Progress, RunOptions, Summary, run_job};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const SOURCE: &str = "
sources:
  events:
    connector: generate
    seed: 7
    rows: ${vars.rows}
    columns:
      id: {sequence: {}}
      day: {date: {from: 2024-01-01, to: 2024-12-31}}
      shop: {choice: [north, south, east, west]}
      amount: {normal: {mean: 50, std_dev: 20, min: 0, max: 1000, scale: 2}}
";

const ONE_TABLE: &str = "
tables: {facts: {sql: 'SELECT id, day, shop, amount FROM events'}}
epoch: {rows: 1000}
";

const VIEWS: &str = "
tables: {facts: {sql: 'SELECT id, day, shop, amount FROM events'}}
views:
  by_shop: {sql: 'SELECT shop, count(*) AS n, sum(amount) AS amount FROM facts GROUP BY shop'}
  by_day: {sql: 'SELECT day, avg(amount) AS mean, max(amount) AS largest FROM facts GROUP BY day'}
  overall: {sql: 'SELECT count(*) AS n, sum(amount) AS amount, stddev(amount) AS spread FROM facts'}
";

/// A job in a folder of its own.
pub struct Bench {
    folder: tempfile::TempDir,
    file: PathBuf,
    runtime: Runtime,
    env: Environment,
    rows: u64,
}

/// The times between seals of one run.
pub struct Timed {
    between: Vec<Duration>,
}

impl Bench {
    /// One Delta table, epochs of 1,000 rows.
    pub fn one_table(place: &str) -> Self {
        Self::new(place, ONE_TABLE, 0)
    }

    /// Three incremental views over a table of `rows` rows.
    pub fn views(place: &str, rows: u64) -> Self {
        let mut bench = Self::new(place, VIEWS, 0);
        bench.grow(rows);
        bench
    }

    fn new(place: &str, rest: &str, rows: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = folder.path().file_name().map(|n| n.to_string_lossy().replace('.', ""));
        let lake = match place {
            "memory" => format!("memory://{}", name.unwrap_or_default().to_lowercase()),
            _ => folder.path().join("lake").display().to_string(),
        };
        let text = format!("job: bench\nlake: {lake}\nvars: {{rows: 0}}\n{SOURCE}{rest}");
        let file = folder.path().join("job.yaml");
        std::fs::write(&file, text).expect("the job file can be written");
        let runtime = Runtime::new().expect("a runtime");
        let env = environment(&Resources::default());
        Self { folder, file, runtime, env, rows }
    }

    /// Runs `epochs` epochs of 1,000 rows.
    pub fn epochs(mut self, epochs: u64) -> Timed {
        self.rows = epochs * 1000;
        let seals = self.seals();
        self.run(&seals);
        let times = seals.times.into_inner().expect("no seal panicked");
        let between = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Timed { between }
    }

    /// Adds rows; the time until they are sealed and published, and the rows each view read.
    pub fn grow(&mut self, rows: u64) -> (Duration, Vec<u64>) {
        self.rows += rows;
        let began = self.env.clock.monotonic();
        let summary = self.run(&self.seals());
        (self.env.clock.monotonic() - began, summary.views.iter().map(|v| v.rows_in).collect())
    }

    fn seals(&self) -> Seals {
        Seals { clock: self.env.clock.clone(), times: Mutex::default() }
    }

    fn run(&self, progress: &Seals) -> Summary {
        assert!(self.folder.path().exists());
        let set = BTreeMap::from([("rows".to_string(), self.rows.to_string())]);
        let options = LoadOptions { target: None, set };
        let pack = load(&self.file, &options, &self.env.registry).expect("the job is right");
        self.runtime.block_on(async {
            let context = session(&SessionOptions {
                memory: None,
                partitions: self.env.partitions,
                time: EpochTime::default(),
            })
            .expect("a session");
            let graphs = build_pack(&context, &pack, &self.env.registry).await;
            let graph = Arc::new(graphs.expect("the statements are right").remove(0));
            let options = RunOptions { overlap: false, compaction: None, ..RunOptions::default() };
            let (secrets, stop) = (Secrets::default(), CancellationToken::new());
            let (summary, ran) =
                run_job(&self.env, &graph, &secrets, &options, progress, stop).await;
            ran.expect("the job runs");
            summary
        })
    }
}

impl Timed {
    /// All times together.
    pub fn total(&self) -> Duration {
        self.between.iter().sum()
    }

    /// The time that a share of the epochs does not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.between.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        sorted[(last as f64 * share) as usize]
    }
}

/// Takes note of when epochs were sealed.
struct Seals {
    clock: Arc<dyn Clock>,
    times: Mutex<Vec<Duration>>,
}

impl Progress for Seals {
    fn intake(&self, _job: &str, _rows_estimated: u64, _bytes: u64) {}

    fn epoch(&self, _job: &str, _report: &EpochReport) {
        self.times.lock().expect("no seal panicked").push(self.clock.monotonic());
    }

    fn note(&self, _text: &str) {}
}

/// The middle of some seconds.
pub fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}
