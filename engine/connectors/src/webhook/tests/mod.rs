//! Webhooks from the request to the rows: restarts, processes beside each other, doubles, crashes.

mod disk;
mod requests;
mod runs;
mod settings;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Request as Http;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use sluice_core::metric::Unrecorded;
use sluice_core::testing::{read_all, source_conformance};
use sluice_core::{
    Advance, Clock, DataSchema, Ids, Intake, Kind, Limit, ManualClock, Offset, Offsets, Secrets,
    Start, Unbounded,
};

use super::log::slot::Place;
use super::*;

const EVERYTHING: Limit = Limit { rows: u64::MAX, bytes: u64::MAX, files: u64::MAX };

/// A clock that moves only when told to, and never ends a wait.
#[derive(Debug)]
struct Still(ManualClock);

impl Clock for Still {
    fn wall_ms(&self) -> i64 {
        self.0.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
        futures::future::pending().boxed()
    }
}

/// Identifiers that are all different.
#[derive(Debug, Default)]
struct Counted(AtomicU32);

impl Ids for Counted {
    fn fresh(&self) -> String {
        format!("{:08x}{:08x}", self.0.fetch_add(1, Ordering::Relaxed) + 1, 0)
    }
}

/// A process: a hub over a state folder, and the clock it goes by.
struct Process {
    hub: Arc<Hub>,
    clock: Arc<Still>,
    config: Config,
}

impl Process {
    async fn start(state: &Path, settings: Value) -> Self {
        let process = Self::idle(state, settings);
        process.listen().await.unwrap();
        process
    }

    /// One that takes nothing in.
    fn idle(state: &Path, settings: Value) -> Self {
        let clock = Arc::new(Still(ManualClock::at(1_800_000_000_000)));
        let settings_of_hub = HubSettings {
            state: state.to_path_buf(),
            clock: clock.clone(),
            ids: Arc::new(Counted::default()),
            metrics: Arc::new(Unrecorded),
            listens: false,
        };
        Self { hub: Hub::new(settings_of_hub), clock, config: config("orders", settings) }
    }

    fn context(&self) -> Context {
        let secrets = [("hook".to_string(), "It's a Secret to Everybody".to_string())];
        Context {
            clock: self.clock.clone(),
            memory: Unbounded::shared(),
            secrets: Secrets::new(secrets.into()),
            job: "shop".into(),
        }
    }

    async fn listen(&self) -> Result<()> {
        Factory::new(self.hub.clone()).listen(&self.config, &self.context()).await
    }

    async fn source(&self, start: Start) -> Result<Box<dyn Source>> {
        let factory = Factory::new(self.hub.clone());
        let mut source = factory.build(&self.config, &self.context()).await?;
        source.seek(start).await?;
        Ok(source)
    }

    async fn send(&self, request: Request) -> (u16, Value) {
        let response = self.hub.handle(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn post(&self, id: &str, body: &str) -> u16 {
        let request = Http::post("/hooks/orders").header("content-type", "application/json");
        let request = request.header("x-id", id).body(Body::from(body.to_string())).unwrap();
        self.send(request).await.0
    }
}

fn config(name: &str, value: Value) -> Config {
    let fields = json!({"fields": [
        {"name": "id", "type": "int64", "required": true},
        {"name": "text", "type": "string"},
    ]});
    let schema: DataSchema = serde_json::from_value(fields).unwrap();
    Config {
        name: name.into(),
        file: "job.yaml".into(),
        value,
        spans: Default::default(),
        schema: Some(schema),
    }
}

fn by_header() -> Value {
    json!({"path": "/hooks/orders", "idempotency": {"header": "X-Id", "window": "1h"}})
}

fn bounded(offsets: Offsets) -> Start {
    Start { offsets, bounded: true, ..Start::default() }
}

/// The ids of the rows of an intake, in the order of its splits.
async fn ids(source: &dyn Source, intake: &Intake) -> Vec<i64> {
    let (batches, rejected) = read_all(source, intake).await.unwrap();
    assert!(rejected.is_empty(), "{rejected:?}");
    let columns = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().clone());
    columns.flat_map(|column| column.values().to_vec()).collect()
}

/// Everything a source has, and where it ends.
async fn drain(source: &mut Box<dyn Source>) -> (Vec<i64>, Offsets, u64) {
    let (mut all, mut offsets, mut gaps) = (Vec::new(), Offsets::new(), 0);
    loop {
        let intake = source.poll(EVERYTHING).await.unwrap();
        if intake.advances.is_empty() {
            return (all, offsets, gaps);
        }
        all.extend(ids(source.as_ref(), &intake).await);
        gaps += intake.gaps.unwrap();
        let positions: u64 = intake.advances.iter().map(positions).sum();
        let rows: u64 = intake.splits.iter().map(|split| split.rows).sum();
        assert_eq!(positions, rows + intake.gaps.unwrap() + intake.lost);
        offsets.extend(intake.advances.into_iter().map(|a| (a.partition, a.to)));
    }
}

fn positions(advance: &Advance) -> u64 {
    advance.to.at().unwrap() - advance.from.at().unwrap()
}

/// What a killed process leaves: the files as they are.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_promises_of_a_source_are_kept() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    for i in 0..5 {
        let rows: Vec<Value> = (0..3).map(|k| json!({"id": 10 * i + k})).collect();
        assert_eq!(process.post(&i.to_string(), &json!(rows).to_string()).await, 200);
        assert_eq!(process.post(&i.to_string(), "{\"id\": -1}").await, 200);
    }
    // It is read once: to a copy of a log that nobody has read no offsets belong.
    drop(process.source(bounded(Offsets::new())).await.unwrap());
    process.hub.close().await;
    let mut copies = Vec::new();
    let build = async || {
        let folder = tempfile::tempdir().unwrap();
        copy(state.path(), folder.path());
        let process = Process::idle(folder.path(), by_header());
        copies.push(folder);
        Factory::new(process.hub.clone()).build(&process.config, &process.context()).await
    };
    source_conformance(build, Limit { rows: 2, ..EVERYTHING }).await.unwrap();
}

#[tokio::test]
async fn rows_that_nobody_read_are_there_after_a_restart_and_published_ones_are_gone() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    for i in 0..4 {
        assert_eq!(process.post(&i.to_string(), &format!("{{\"id\": {i}}}")).await, 200);
    }
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let intake = source.poll(Limit { rows: 2, ..EVERYTHING }).await.unwrap();
    assert!(intake.more);
    assert_eq!(ids(source.as_ref(), &intake).await, [0, 1]);
    let taken: Offsets =
        intake.advances.iter().map(|a| (a.partition.clone(), a.to.clone())).collect();
    source.acknowledge(&taken).await.unwrap();
    assert_eq!(process.hub.routes()[0].backlog_rows, 2);
    assert_eq!(source.lag()[0].rows, 2);
    drop((source, intake));
    process.hub.close().await;
    let again = Process::start(state.path(), by_header()).await;
    assert_eq!(again.post("9", "{\"id\": 9}").await, 200);
    let mut source = again.source(bounded(taken)).await.unwrap();
    assert_eq!(drain(&mut source).await.0, [2, 3, 9]);
}

#[tokio::test]
async fn a_delivery_that_two_processes_took_in_is_taken_once() {
    let state = tempfile::tempdir().unwrap();
    let (old, new) = (
        Process::start(state.path(), by_header()).await,
        Process::start(state.path(), by_header()).await,
    );
    assert_eq!(old.post("a", "{\"id\": 1}").await, 200);
    assert_eq!(new.post("a", "{\"id\": 1}").await, 200);
    assert_eq!(old.post("b", "[{\"id\": 2}, {\"id\": 3}]").await, 200);
    assert_eq!(new.post("c", "{\"id\": 4}").await, 200);
    assert_eq!(new.post("b", "[{\"id\": 2}, {\"id\": 3}]").await, 200);
    // The old one has the job; then it ends, and the new one goes on where it stood.
    let mut source = old.source(Start::default()).await.unwrap();
    let (first, mut offsets, gaps) = drain(&mut source).await;
    assert_eq!((first, gaps), (vec![1, 2, 3], 0));
    drop(source);
    let mut source = new.source(Start { offsets: offsets.clone(), ..Start::default() }).await;
    let source = source.as_mut().unwrap();
    let (second, more, gaps) = drain(source).await;
    assert_eq!((second, gaps), (vec![4], 3));
    offsets.extend(more);
    // What the old one still took in is found when it has ended.
    assert_eq!(old.post("d", "{\"id\": 5}").await, 200);
    new.clock.0.advance_ms(5_000);
    assert_eq!(drain(source).await.0, [0; 0]);
    old.hub.close().await;
    new.clock.0.advance_ms(5_000);
    let (third, more, _) = drain(source).await;
    assert_eq!(third, [5]);
    offsets.extend(more);
    assert_eq!(offsets.len(), 2, "a partition for each slot");
    source.acknowledge(&offsets).await.unwrap();
    // The slot is empty, and free for the next process.
    let place = Place::new(state.path(), "shop", "orders");
    let next = log::Log::open_lowest(&place, &Counted::default()).unwrap();
    assert_eq!((next.slot(), next.first(), next.next()), (0, 4, 4));
    drop(next);
    new.clock.0.advance_ms(5_000);
    assert_eq!(drain(source).await.0, [0; 0]);
    // One that comes and goes leaves what it took in.
    let brief = Process::start(state.path(), by_header()).await;
    assert_eq!(brief.post("e", "{\"id\": 6}").await, 200);
    brief.hub.close().await;
    new.clock.0.advance_ms(5_000);
    assert_eq!(drain(source).await.0, [6]);
}

#[tokio::test]
async fn a_crash_between_the_ids_and_the_seal_changes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    let other = Process::start(state.path(), by_header()).await;
    for (process, id, row) in [(&process, "a", 1), (&other, "a", 2), (&other, "b", 3)] {
        assert_eq!(process.post(id, &format!("{{\"id\": {row}}}")).await, 200);
    }
    other.hub.close().await;
    let mut before = None;
    for _ in 0..3 {
        let mut source = process.source(bounded(Offsets::new())).await.unwrap();
        let taken = drain(&mut source).await;
        assert_eq!(taken.0, [2, 3]);
        assert_eq!(before.get_or_insert(taken.clone()), &taken);
    }
    // After its window an id is another delivery's.
    process.clock.0.advance_ms(2 * 60 * 60 * 1000);
    assert_eq!(process.post("a", "{\"id\": 4}").await, 200);
    let (_, offsets, _) = before.unwrap();
    let mut source = process.source(bounded(offsets)).await.unwrap();
    assert_eq!(drain(&mut source).await.0, [4]);
}

#[tokio::test]
async fn a_killed_process_is_followed_by_one_that_has_everything() {
    let (state, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let process = Process::start(state.path(), by_header()).await;
    for i in 0..20 {
        assert_eq!(process.post(&i.to_string(), &format!("{{\"id\": {i}}}")).await, 200);
    }
    copy(state.path(), left.path());
    let next = Process::start(left.path(), by_header()).await;
    let mut source = next.source(bounded(Offsets::new())).await.unwrap();
    assert_eq!(drain(&mut source).await.0, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_that_are_gone_stop_the_job_unless_somebody_accepts_it() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    for i in 0..3 {
        assert_eq!(process.post(&i.to_string(), &format!("{{\"id\": {i}}}")).await, 200);
    }
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let (_, taken, _) = drain(&mut source).await;
    source.acknowledge(&taken).await.unwrap();
    assert_eq!(process.post("3", "{\"id\": 3}").await, 200);
    drop(source);
    // The lake is older than the log.
    let (partition, _) = taken.first_key_value().unwrap();
    let offsets = Offsets::from([(partition.clone(), Offset::At(1))]);
    let refused = process.source(bounded(offsets.clone())).await.err().unwrap();
    assert_eq!(refused.kind(), Kind::Data);
    assert!(refused.hint_text().unwrap().contains("--accept-loss"));
    let start = Start { accept_loss: true, ..bounded(offsets) };
    let mut source = process.source(start).await.unwrap();
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!((intake.lost, intake.notes.len()), (2, 1));
    assert_eq!(ids(source.as_ref(), &intake).await, [3]);
    assert_eq!(intake.advances[0].from, Offset::At(1));
    // Another folder is another partition: its numbers are not joined to those of this one.
    let fresh = tempfile::tempdir().unwrap();
    let fresh = Process::start(fresh.path(), by_header()).await;
    let other = Offsets::from([("0-ffffffff".to_string(), Offset::At(9))]);
    assert_eq!(fresh.post("5", "{\"id\": 5}").await, 200);
    let mut source = fresh.source(bounded(other)).await.unwrap();
    assert_eq!(drain(&mut source).await.0, [5]);
}

#[tokio::test]
async fn much_is_taken_in_splits_and_chunks_that_hold_each_row_once() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    for i in 0..4 {
        let rows: Vec<Value> = (0..30_000).map(|k| json!({"id": 30_000 * i + k})).collect();
        assert_eq!(process.post(&i.to_string(), &json!(rows).to_string()).await, 200);
    }
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(intake.splits.len(), 2);
    let (batches, _) = read_all(source.as_ref(), &intake).await.unwrap();
    assert!(batches.len() > 6 && batches.iter().all(|b| b.num_rows() <= 16 * 1024));
    assert_eq!(ids(source.as_ref(), &intake).await, (0..120_000).collect::<Vec<_>>());
    let positions = batches[1].column(2).as_primitive::<Int64Type>();
    assert_eq!(positions.value(0), 16 * 1024);
}
