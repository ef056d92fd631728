//! Runs of a job whose only source answers, fails or is stopped as a script says; waits are not waited.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sluice_core::metric::{
    CIRCUIT_OPEN, DEPENDENCY_MISSING, FAILURES, Family, JOB_UP, Metric, Recorder, Series,
};
use sluice_core::{
    Clock, Config, Context, Ids, Intake, Limit, Offsets, Problems, Reader, Registry, RowStream,
    Scan, Source, SourceFactory, Split, Start, Unbounded, with_position,
};

use super::*;
use crate::function::EpochTime;
use crate::job::{LoadOptions, read_pack};
use crate::plan::build_pack;
use crate::recover::lake_of;
use crate::schedule::Silent;
use crate::status::{At, RunnerNote};

/// What the source does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Nothing,
    Fail,
    /// A failure behind which whoever waits is stopped.
    FailAndStop,
}

/// Everything that a test looks at.
#[derive(Debug, Default)]
struct Stage {
    script: Mutex<VecDeque<Answer>>,
    builds: AtomicU64,
    polls: AtomicU64,
    waits: Mutex<Vec<Duration>>,
    now_ms: AtomicI64,
    fresh: AtomicU64,
    stop: CancellationToken,
    /// Whether the next wait is the one in which the run is stopped.
    stops: Mutex<bool>,
    gauges: Mutex<Vec<(&'static str, Vec<String>, f64)>>,
    failures: AtomicU64,
}

impl Stage {
    /// The script, then the end.
    fn playing(script: &[Answer]) -> Arc<Self> {
        let stage = Self::default();
        stage.script.lock().extend(script);
        Arc::new(stage)
    }

    fn told(&self, metric: &Metric) -> Vec<f64> {
        let gauges = self.gauges.lock();
        gauges.iter().filter(|(name, ..)| *name == metric.name).map(|(.., v)| *v).collect()
    }

    /// What was told of dependencies of the job.
    fn missing(&self) -> Vec<String> {
        let gauges = self.gauges.lock();
        let told = gauges.iter().filter(|(name, ..)| *name == DEPENDENCY_MISSING.name);
        told.map(|(_, labels, value)| format!("{} {value}", labels[1])).collect()
    }
}

/// A clock whose waits after failures pass at once. What works beside a run never has its turn.
#[derive(Debug)]
struct Impatient(Arc<Stage>);

impl Clock for Impatient {
    fn wall_ms(&self) -> i64 {
        self.0.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.wall_ms().unsigned_abs())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let stage = self.0.clone();
        let beside = [2, 5].map(Duration::from_secs).contains(&duration);
        Box::pin(async move {
            if beside {
                return std::future::pending().await;
            }
            if duration >= Duration::from_millis(50) {
                stage.waits.lock().push(duration);
                if std::mem::take(&mut *stage.stops.lock()) {
                    stage.stop.cancel();
                    return std::future::pending().await;
                }
            }
            let ms = i64::try_from(duration.as_millis()).unwrap();
            stage.now_ms.fetch_add(ms, Ordering::SeqCst);
            tokio::task::yield_now().await;
        })
    }
}

impl Ids for Impatient {
    fn fresh(&self) -> String {
        format!("60000000{:024x}", self.0.fresh.fetch_add(1, Ordering::SeqCst))
    }
}

impl Recorder for Stage {
    fn is_on(&self) -> bool {
        true
    }

    fn count(&self, metric: &'static Metric, _labels: &[&str], by: u64) {
        if metric.name == FAILURES.name {
            self.failures.fetch_add(by, Ordering::SeqCst);
        }
    }

    fn observe(&self, _metric: &'static Metric, _labels: &[&str], _seconds: f64) {}

    fn set(&self, metric: &'static Metric, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|label| label.to_string()).collect();
        self.gauges.lock().push((metric.name, labels, value));
    }

    fn replace(&self, metric: &'static Metric, _first: &[&str], series: Vec<Series>) {
        let told = series.into_iter().map(|(labels, value)| (metric.name, labels, value));
        self.gauges.lock().extend(told);
    }

    fn show(&self, _owner: &str, _families: Vec<Family>) {}
}

/// Makes the source, and is it, and reads nothing.
#[derive(Debug, Clone)]
struct Flaky {
    stage: Arc<Stage>,
    /// How often it cannot be made.
    absent: u64,
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
}

#[async_trait]
impl SourceFactory for Flaky {
    fn name(&self) -> &'static str {
        "flaky"
    }

    fn config_schema(&self) -> Value {
        json!({"type": "object", "additionalProperties": false})
    }

    fn check(&self, _config: &Config, _problems: &mut Problems) {}

    fn schema(&self, _config: &Config) -> Result<SchemaRef> {
        Ok(columns())
    }

    fn retracts(&self, _config: &Config) -> bool {
        false
    }

    async fn build(&self, _config: &Config, _context: &Context) -> Result<Box<dyn Source>> {
        match self.stage.builds.fetch_add(1, Ordering::SeqCst) < self.absent {
            true => Err(Error::unavailable("the broker is not there")),
            false => Ok(Box::new(self.clone())),
        }
    }
}

#[async_trait]
impl Source for Flaky {
    async fn seek(&mut self, _start: Start) -> Result<()> {
        Ok(())
    }

    async fn poll(&mut self, _limit: Limit) -> Result<Intake> {
        self.stage.polls.fetch_add(1, Ordering::SeqCst);
        let answer = self.stage.script.lock().pop_front();
        match answer {
            Some(Answer::Nothing) => Ok(Intake::default()),
            Some(answer) => {
                *self.stage.stops.lock() = answer == Answer::FailAndStop;
                Err(Error::unavailable("the broker does not answer"))
            }
            None => {
                self.stage.stop.cancel();
                Ok(Intake::default())
            }
        }
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }

    async fn acknowledge(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }
}

impl Reader for Flaky {
    fn schema(&self) -> SchemaRef {
        with_position(&columns())
    }

    fn open(&self, _split: Split, _scan: &Scan) -> RowStream {
        Box::pin(futures::stream::empty())
    }
}

/// Runs a job whose source plays `stage`. Gives how it ended, and what the runner said last.
async fn run(
    name: &str,
    stage: &Arc<Stage>,
    follow: bool,
    absent: u64,
) -> (Result<()>, Option<RunnerNote>) {
    let text = format!(
        "job: {name}\nlake: memory://attempt-{name}/lake\nsources: {{orders: {{connector: flaky}}}}\n\
         tables: {{kept: {{sql: SELECT id FROM orders}}}}\n"
    );
    let file = std::env::temp_dir().join(format!("sluice-{}-{name}.yaml", std::process::id()));
    fs::write(&file, text).unwrap();
    let flaky = Flaky { stage: stage.clone(), absent };
    let registry = Registry::default().with_source(Arc::new(flaky));
    let (pack, problems) = read_pack(&file, &LoadOptions::default(), &registry);
    fs::remove_file(&file).unwrap();
    assert!(problems.is_empty(), "{problems}");
    let impatient = Arc::new(Impatient(stage.clone()));
    let env = Environment {
        registry: registry.clone(),
        clock: impatient.clone(),
        ids: impatient,
        pool: None,
        memory: Unbounded::shared(),
        metrics: stage.clone(),
        partitions: 1,
        host: "here".to_string(),
        pid: std::process::id(),
    };
    let time = EpochTime::default();
    let context = session(&SessionOptions { memory: None, partitions: 1, time }).unwrap();
    let graphs = build_pack(&context, &pack, &registry).await;
    let graph = Arc::new(graphs.unwrap_or_else(|problems| panic!("{problems}")).remove(0));
    let options = RunOptions { follow, ..RunOptions::default() };
    let secrets = Secrets::default();
    let stop = stage.stop.clone();
    let (_, ended) = run_job(&env, &graph, &secrets, &options, &Silent, stop).await;
    let root = lake_of(&env, &graph, &secrets).unwrap().root;
    (ended, RunnerNote::read(&root, name).await.unwrap())
}

#[tokio::test]
async fn a_run_that_does_not_follow_gives_up() {
    let stage = Stage::playing(&[Answer::Fail; 20]);
    let (ended, _) = run("batch", &stage, false, 0).await;
    assert_eq!(ended.unwrap_err().source_name(), Some("orders"));
    assert_eq!(stage.polls.load(Ordering::SeqCst), 6);
    let waits: Vec<u64> = stage.waits.lock().iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [1, 2, 4, 8, 17]);
    assert_eq!(stage.told(&CIRCUIT_OPEN), Vec::<f64>::new());
}

#[tokio::test]
async fn what_a_run_says_of_a_failure_is_over_with_the_next_one_that_ends_well() {
    let stage = Stage::playing(&[Answer::Fail; 20]);
    let (ended, note) = run("over", &stage, false, 0).await;
    ended.unwrap_err();
    assert!(note.unwrap().trouble.is_some());
    // It seals nothing, and yet says that it was there.
    let stage = Stage::playing(&[Answer::Fail, Answer::Nothing]);
    let (ended, note) = run("over", &stage, false, 0).await;
    ended.unwrap();
    let note = note.unwrap();
    assert_eq!((note.at, note.trouble), (At::Ended, None));
    // Where there was none before, a short run that ends well leaves none.
    let (ended, note) = run("short", &Stage::playing(&[Answer::Nothing]), false, 0).await;
    ended.unwrap();
    assert_eq!(note, None);
}

#[tokio::test]
async fn a_run_that_follows_outlasts_an_outage_and_leaves_the_broker_alone() {
    let script = [[Answer::Nothing; 1].as_slice(), &[Answer::Fail; 20], &[Answer::Nothing; 2]];
    let stage = Stage::playing(&script.concat());
    let (ended, note) = run("outage", &stage, true, 0).await;
    ended.unwrap();
    assert_eq!(stage.polls.load(Ordering::SeqCst), 24);
    let waits = stage.waits.lock().clone();
    assert_eq!(waits.len(), 20);
    // From the fifth on it is open: at least half a pause goes by.
    assert!(waits[5..].iter().all(|wait| wait.as_secs() >= 15), "{waits:?}");
    let told = stage.told(&CIRCUIT_OPEN);
    assert_eq!(told, [[0.0; 4].as_slice(), &[1.0; 16], &[0.0]].concat());
    assert_eq!(stage.failures.load(Ordering::SeqCst), 20);
    let missing = stage.missing();
    assert_eq!(missing.iter().filter(|told| *told == "source:orders 1").count(), 20);
    assert!(missing.ends_with(&["source:orders 0".to_string(), "store 0".to_string()]));
    assert_eq!(stage.told(&JOB_UP), [1.0, 0.0]);
    let note = note.unwrap();
    assert_eq!((note.at, note.circuits, note.follow), (At::Ended, Vec::new(), true));
    assert!(note.trouble.unwrap().message.contains("the broker does not answer"));
}

#[tokio::test]
async fn a_signal_ends_a_wait_at_once_and_with_success() {
    let script = [Answer::Nothing, Answer::Fail, Answer::FailAndStop, Answer::Fail];
    let stage = Stage::playing(&script);
    let (ended, note) = run("stopped", &stage, true, 0).await;
    ended.unwrap();
    assert_eq!(stage.polls.load(Ordering::SeqCst), 3);
    assert_eq!(note.unwrap().at, At::Ended);
}

#[tokio::test]
async fn what_was_never_there_is_no_outage() {
    let stage = Stage::playing(&[]);
    let (ended, note) = run("nowhere", &stage, true, u64::MAX).await;
    assert!(ended.unwrap_err().to_string().contains("the broker is not there"));
    assert_eq!(stage.waits.lock().len(), 5);
    // Whoever never had the lease for good says nothing in the job's name; what it does without is
    // told all the same.
    assert_eq!(note, None);
    assert_eq!(stage.missing(), ["source:orders 1"; 6]);
}

#[tokio::test]
async fn a_broker_that_is_away_at_the_start_is_named_until_it_is_back() {
    let stage = Stage::playing(&[Answer::Nothing]);
    let (ended, _) = run("late", &stage, true, 2).await;
    ended.unwrap();
    let away = ["source:orders 1", "source:orders 1"];
    let back = ["store 0", "source:orders 0", "store 0"];
    assert_eq!(stage.missing(), [away.as_slice(), &back].concat());
}
