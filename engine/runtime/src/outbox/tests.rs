//! A deliverer at work on an outbox in memory: order, failures, refused rows, records, a full
//! outbox.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use parking_lot::Mutex;
use sluice_core::metric::{CIRCUIT_OPEN, Family, Metric, Recorder, SINK_FAILURES, Series};
use sluice_core::testing::{MemoryOutlet, outlet_conformance};
use sluice_core::{
    Clock, Context, Ids, Kind, ManualClock, Outlet, OutletContext, Secrets, Unbounded,
};
use sluice_lake::manifest::{
    Action, Chain, EpochKind, FORMAT, Manifest, OutboxAction, TableCounts, TablePart,
};
use sluice_lake::store::{Location, open};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::job::BacklogLimits;
use crate::plan::sink_name;

const SINK: &str = "out";

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Ids for Counter {
    fn fresh(&self) -> String {
        format!("{:032x}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Who watches failures of sinks, and which of them are left alone.
#[derive(Debug, Default)]
struct Watcher {
    failures: Mutex<Vec<f64>>,
    circuit: Mutex<Vec<f64>>,
}

impl Watcher {
    /// What it was told since it was asked last.
    fn told(&self) -> [Vec<f64>; 2] {
        [&self.failures, &self.circuit].map(|told| std::mem::take(&mut *told.lock()))
    }
}

impl Recorder for Watcher {
    fn is_on(&self) -> bool {
        true
    }

    fn count(&self, _metric: &'static Metric, _labels: &[&str], _by: u64) {}

    fn observe(&self, _metric: &'static Metric, _labels: &[&str], _seconds: f64) {}

    fn set(&self, metric: &'static Metric, labels: &[&str], value: f64) {
        if metric.name == SINK_FAILURES.name && labels == ["job", SINK] {
            self.failures.lock().push(value);
        }
        if metric.name == CIRCUIT_OPEN.name && labels == ["job", "sink:out"] {
            self.circuit.lock().push(value);
        }
    }

    fn replace(&self, _metric: &'static Metric, _first: &[&str], _series: Vec<Series>) {}

    fn show(&self, _owner: &str, _families: Vec<Family>) {}
}

/// A job with one sink, whose epochs have the numbers of their rows.
struct Bench {
    lake: Location,
    chain: Chain,
    clock: Arc<dyn Clock>,
    ids: Arc<Counter>,
    watcher: Arc<Watcher>,
    outlet: MemoryOutlet,
    limits: BacklogLimits,
    last: Option<(u64, String)>,
    rows: i64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

impl Bench {
    fn new(name: &str) -> Self {
        let lake = open(&format!("memory://outbox-{name}/lake"), &Secrets::default()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_000));
        let chain = Chain::new(&lake, "job", clock.clone());
        let (ids, watcher, outlet) = Default::default();
        let limits = BacklogLimits::default();
        Self { lake, chain, clock, ids, watcher, outlet, limits, last: None, rows: 0 }
    }

    fn outbox(&self) -> Outbox {
        Outbox::new(&self.lake, "job", SINK)
    }

    fn context(&self) -> OutletContext {
        let context = Context {
            clock: self.clock.clone(),
            memory: Unbounded::shared(),
            secrets: Secrets::default(),
            job: "job".to_string(),
        };
        let (sink, chain) = (SINK.to_string(), "chain".to_string());
        OutletContext { context, sink, chain, schema: schema() }
    }

    /// Seals an epoch of a life with files of so many rows.
    async fn epoch(&mut self, incarnation: &str, files: &[i64]) -> Manifest {
        let (epoch, previous) = match self.last.take() {
            None => (0, None),
            Some((epoch, hash)) => (epoch + 1, Some(hash)),
        };
        let streams = files.iter().map(|rows| {
            let numbers = self.rows..self.rows + rows;
            self.rows += rows;
            let column = Arc::new(Int64Array::from_iter_values(numbers));
            let batch = RecordBatch::try_new(schema(), vec![column]);
            let one = futures::stream::iter([batch.map_err(Into::into)]);
            Box::pin(RecordBatchStreamAdapter::new(schema(), one)) as SendableRecordBatchStream
        });
        let place = Place {
            outbox: Outbox::new(&self.lake, "job", SINK),
            schema: schema(),
            epoch,
            unique: self.ids.fresh(),
            memory: (Unbounded::shared(), usize::MAX),
            now_ms: 0,
        };
        let written = write(streams.collect(), &place).await.unwrap();
        let rows = written.iter().map(|f| f.rows).sum();
        let counts = TableCounts { entering: rows, written: rows, ..TableCounts::default() };
        let action = Action::Outbox(OutboxAction { files: written });
        let manifest = Manifest {
            format: FORMAT,
            job: "job".to_string(),
            epoch,
            incarnation: incarnation.to_string(),
            run: "run".to_string(),
            previous,
            definition: String::new(),
            opened_at_ms: 0,
            host: String::new(),
            kind: EpochKind::Data,
            sources: BTreeMap::new(),
            offsets: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            state: BTreeMap::new(),
            tables: BTreeMap::from([(sink_name(SINK), TablePart { counts, action })]),
            definitions: BTreeMap::new(),
            repairs: 0,
        };
        let sealed = self.chain.seal(&manifest).await.unwrap();
        let sluice_lake::manifest::Sealed::Won { sha256 } = sealed else { panic!("{sealed:?}") };
        self.last = Some((epoch, sha256));
        manifest
    }

    async fn start(&self) -> Handle {
        let setup = Setup {
            outbox: self.outbox(),
            outlet: Arc::new(self.outlet.clone()),
            context: self.context(),
            chain: self.chain.clone(),
            sealed: self.last.as_ref().map(|(epoch, _)| *epoch),
            ids: self.ids.clone(),
            metrics: self.watcher.clone(),
            run: "run".to_string(),
            limits: self.limits,
        };
        Handle::start(setup).await.unwrap()
    }

    /// Delivers everything there is.
    async fn drain(&self) -> (Given, sluice_core::Result<()>) {
        let (_, given, ended) = self.start().await.end(true, &CancellationToken::new()).await;
        (given, ended)
    }

    /// The numbers that the outlet has.
    fn numbers(&self) -> Vec<i64> {
        let rows = self.outlet.rows();
        let numbers = |rows: &RecordBatch| {
            let column = rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap().clone();
            column.values().to_vec()
        };
        rows.iter().flat_map(numbers).collect()
    }

    async fn files(&self) -> usize {
        let folder = self.outbox().files();
        folder.store.list(&folder.path).await.unwrap().len()
    }
}

#[tokio::test]
async fn memory_keeps_the_promises_of_an_outlet() {
    let bench = Bench::new("conformance");
    let open = || bench.outlet.open(bench.context());
    let column = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let rows = RecordBatch::try_new(schema(), vec![column]).unwrap();
    outlet_conformance(open, rows, async || Ok(bench.outlet.count())).await.unwrap();
}

#[tokio::test]
async fn what_waits_and_what_comes_is_delivered_in_order_and_cleaned_up() {
    let mut bench = Bench::new("order");
    bench.epoch("life", &[3, 2]).await;
    bench.epoch("life", &[1]).await;
    let handle = bench.start().await;
    let third = bench.epoch("life", &[4]).await;
    handle.published(&third);
    let (sink, given, ended) = handle.end(true, &CancellationToken::new()).await;
    ended.unwrap();
    assert_eq!((sink.as_str(), given.delivered, given.waiting), (SINK, 10, Backlog::default()));
    assert_eq!(bench.numbers(), (0..10).collect::<Vec<_>>());
    assert_eq!(bench.files().await, 0);
    let record = bench.outbox().record().await.unwrap().unwrap();
    assert_eq!((record.epoch, record.delivered, record.undelivered), (2, 10, 0));
    // Another life of the chain goes on with the numbers and counts afresh.
    bench.epoch("other", &[5]).await;
    bench.drain().await.1.unwrap();
    let record = bench.outbox().record().await.unwrap().unwrap();
    assert_eq!((record.epoch, record.delivered), (3, 5));
    bench.drain().await.1.unwrap();
    assert_eq!(bench.numbers(), (0..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_single_failure_leaves_each_row_once() {
    // Attach, deliver and commit of three files, each failing once, and several in a row.
    for skipped in 0..8 {
        for failures in [1, 3] {
            let mut bench = Bench::new(&format!("failing-{skipped}-{failures}"));
            bench.epoch("life", &[2, 3]).await;
            bench.epoch("life", &[4]).await;
            let outlet = bench.outlet.clone();
            let handle = bench.start().await;
            for _ in 0..skipped {
                tokio::task::yield_now().await;
            }
            outlet.fail(failures);
            let (_, given, ended) = handle.end(true, &CancellationToken::new()).await;
            ended.unwrap();
            assert_eq!(given.waiting, Backlog::default());
            assert_eq!(bench.numbers(), (0..9).collect::<Vec<_>>(), "{skipped} {failures}");
        }
    }
}

#[tokio::test]
async fn what_the_outside_has_is_not_given_again_where_no_record_says_so() {
    let mut bench = Bench::new("held");
    let manifest = bench.epoch("life", &[2, 3]).await;
    // A runner that died between the commit of the first file and anything else.
    let mut delivery = bench.outlet.open(bench.context()).unwrap();
    delivery.attach().await.unwrap();
    let waiting = Waiting::of(&manifest, SINK).unwrap();
    let rows = bench.outbox().open(&waiting.files[0], &schema()).await.unwrap();
    delivery.deliver(sluice_core::OutboxPosition { epoch: 0, file: 0 }, rows).await.unwrap();
    delivery.commit().await.unwrap();
    bench.drain().await.1.unwrap();
    assert_eq!(bench.numbers(), (0..5).collect::<Vec<_>>());
    let record = bench.outbox().record().await.unwrap().unwrap();
    assert_eq!((record.delivered, record.undelivered), (5, 0));
}

#[tokio::test]
async fn refused_rows_are_kept_with_the_reason() {
    let mut bench = Bench::new("refused");
    bench.outlet.refuse(&[1]);
    bench.epoch("life", &[3, 1, 2]).await;
    let (given, ended) = bench.drain().await;
    ended.unwrap();
    assert_eq!((given.delivered, given.undelivered), (4, 2));
    assert_eq!(bench.numbers(), [0, 2, 3, 4]);
    let outbox = bench.outbox();
    assert_eq!(undelivered_rows(&outbox, &schema(), (0, 0)).await.unwrap(), 2);
    let table = undelivered_table(&outbox, &schema()).await.unwrap();
    assert_eq!(table.files.len(), 2);
    let names: Vec<String> = table.schema.fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["n", "_reason", "_epoch"]);
    let record = outbox.record().await.unwrap().unwrap();
    assert_eq!((record.delivered, record.undelivered), (4, 2));
}

#[tokio::test]
async fn a_run_that_is_to_end_gives_up_and_the_next_one_goes_on() {
    let mut bench = Bench::new("gives-up");
    bench.epoch("life", &[3]).await;
    bench.outlet.fail(1_000);
    let (given, ended) = bench.drain().await;
    let error = ended.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Unavailable, false));
    assert!(error.chain().contains("3 rows could not be delivered"), "{}", error.chain());
    assert_eq!(given.waiting.rows, 3);
    assert!(bench.outbox().trouble().await.unwrap().is_some());
    // Whoever watches knows from the first failure on, until the next run; the fifth opens the circuit.
    let [failures, circuit] = bench.watcher.told();
    assert_eq!(failures, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(circuit, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    bench.outlet.fail(1);
    bench.drain().await.1.unwrap();
    assert_eq!(bench.numbers(), [0, 1, 2]);
    assert_eq!(bench.watcher.told(), [vec![0.0, 1.0, 0.0], vec![0.0; 3]]);
    assert!(bench.outbox().trouble().await.unwrap().is_none());
}

// By a clock that does not wait the deliverer tries without a pause: it has a thread of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_holds_epochs_up_and_stops_them_when_nothing_moves() {
    let mut bench = Bench::new("full");
    bench.limits = BacklogLimits { epochs: 2, bytes: u64::MAX };
    bench.epoch("life", &[1]).await;
    bench.epoch("life", &[1]).await;
    let stop = CancellationToken::new();
    // It waits for room, and gets it.
    let handle = bench.start().await;
    handle.room(&stop).await.unwrap();
    handle.end(true, &stop).await.2.unwrap();
    bench.epoch("life", &[1]).await;
    bench.epoch("life", &[1]).await;
    bench.outlet.fail(u32::MAX);
    let handle = bench.start().await;
    let error = handle.room(&stop).await.unwrap_err();
    assert!(error.to_string().contains("outbox of a sink is full"), "{error}");
    assert!(!error.retry());
    handle.end(false, &stop).await.2.unwrap();
    assert_eq!(bench.files().await, 2);
}

#[tokio::test]
async fn a_lake_that_is_older_than_its_deliveries_is_refused() {
    let mut bench = Bench::new("ahead");
    bench.epoch("life", &[1]).await;
    bench.epoch("life", &[1]).await;
    bench.drain().await.1.unwrap();
    let mut older = Bench::new("ahead-older");
    older.outlet = bench.outlet.clone();
    older.epoch("life", &[1]).await;
    let error = older.drain().await.1.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.chain().contains("never sealed here"), "{}", error.chain());
}

#[tokio::test]
async fn only_files_that_wait_are_kept() {
    let mut bench = Bench::new("orphans");
    bench.epoch("life", &[1]).await;
    bench.drain().await.1.unwrap();
    bench.epoch("life", &[1, 1]).await;
    assert_eq!(needed_since(&bench.lake, "job").await.unwrap(), Some(1));
    let folder = bench.outbox().files();
    // What a crash left of an attempt, and of an epoch that was delivered.
    for name in ["00000000000000000001-other-0-0.parquet", "00000000000000000000-x-0-0.parquet"] {
        let at = folder.child(name);
        at.store.put(&at.path, bytes::Bytes::from_static(b"x")).await.unwrap();
    }
    let found = orphans(&bench.lake, "job", &bench.chain, (0, i64::MAX)).await.unwrap();
    assert_eq!(found.len(), 2);
    let none = orphans(&bench.lake, "job", &bench.chain, (i64::MAX, 0)).await.unwrap();
    assert!(none.is_empty());
}
