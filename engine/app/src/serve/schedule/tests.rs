//! The state folder, the history and the whole scheduler over a folder of this machine's disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluice_core::{Kind, Secrets};
use sluice_lake::store;
use sluice_runtime::epoch::Environment;
use sluice_runtime::job::LoadOptions;
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, Kept, KeptJob};
use super::historian::Historian;
use super::history::Row;
use super::record::{JobState, RunRecord, State, outcome};
use super::{History, Scheduler};
use crate::definitions::{Columns, define, readable};
use crate::environment::{Resources, environment};

fn env() -> Environment {
    environment(&Resources { memory_bytes: Some(256 << 20), threads: Some(2) })
}

fn record(id: &str, job: &str, started_ms: i64) -> RunRecord {
    RunRecord {
        id: id.to_string(),
        job: job.to_string(),
        trigger: "schedule".to_string(),
        attempt: 1,
        started_ms,
        outcome: outcome::RUNNING.to_string(),
        ..RunRecord::default()
    }
}

fn done(record: &RunRecord) -> RunRecord {
    RunRecord {
        ended_ms: Some(record.started_ms + 7),
        outcome: outcome::DONE.to_string(),
        rows: 3,
        ..record.clone()
    }
}

fn historian(env: &Environment, desk: &Arc<Desk>, folder: &Path) -> Arc<Historian> {
    let lake = store::open(&folder.display().to_string(), &Secrets::default()).unwrap();
    Historian::new(env, desk.clone(), Arc::new(History::new(env, &lake)))
}

fn desk(folder: &Path, writer: &str) -> Arc<Desk> {
    Arc::new(Desk::new(folder, writer.to_string()).unwrap())
}

fn ids(records: &[RunRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

#[tokio::test]
async fn one_process_has_the_state_folder_and_what_it_remembered_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (desk(folder.path(), "old"), desk(folder.path(), "new"));
    assert!(old.take().unwrap() && old.take().unwrap());
    assert!(!new.take().unwrap());
    let mut kept = Kept { events: 7, ..Kept::default() };
    let job =
        KeptJob { last_due_ms: Some(5), paused_by: Some("anna".into()), ..KeptJob::default() };
    kept.jobs.insert("a".to_string(), job);
    assert_eq!(old.kept().await.unwrap(), Kept::default());
    old.keep(&kept).await.unwrap();
    old.give_back();
    assert!(new.take().unwrap());
    assert_eq!(new.kept().await.unwrap(), kept);
    std::fs::write(folder.path().join("schedule.json"), "{").unwrap();
    assert_eq!(new.kept().await.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test]
async fn each_started_run_has_one_row_wherever_its_process_died() {
    let (env, folder) = (env(), tempfile::tempdir().unwrap());
    let (state, lake) = (folder.path().join("state"), folder.path().join("lake"));
    let old = desk(&state, "old");
    let (a, b, c) = (record("a", "j", 10), record("b", "j", 20), record("c", "k", 30));
    for record in [&a, &b, &c] {
        old.begin(record, Some(record.started_ms)).await.unwrap();
    }
    // One ended and is in the history, one ended and is not, one was at work.
    old.end(&done(&a)).await.unwrap();
    let first = historian(&env, &old, &lake);
    assert_eq!(first.once(true, &mut false).await.unwrap(), 1);
    old.end(&done(&b)).await.unwrap();
    // The record of the first is there again, as after a crash before it went.
    let mut again = serde_json::to_value(done(&a)).unwrap();
    again = serde_json::json!({"record": again, "writer": "old", "number": 1});
    std::fs::write(state.join("runs/a.json"), again.to_string()).unwrap();

    let new = desk(&state, "new");
    let died = new.at_work().await.unwrap();
    assert_eq!(died.len(), 1);
    assert_eq!((died[0].record.id.as_str(), died[0].due_ms), ("c", Some(30)));
    new.interrupt(&died, 99).await.unwrap();
    let second = historian(&env, &new, &lake);
    assert_eq!(second.once(false, &mut false).await.unwrap(), 0);
    assert_eq!(second.once(true, &mut false).await.unwrap(), 3);
    assert_eq!(second.once(true, &mut true).await.unwrap(), 0);
    let rows = second.history.newest(None, 9).await.unwrap();
    assert_eq!(ids(&rows), ["c", "b", "a"]);
    assert_eq!((rows[0].outcome.as_str(), rows[0].ended_ms), (outcome::INTERRUPTED, Some(99)));
    assert_eq!(rows[2], done(&a));
    assert_eq!(ids(&second.history.newest(Some("j"), 1).await.unwrap()), ["b"]);
    assert_eq!(std::fs::read_dir(state.join("runs")).unwrap().count(), 0);
}

#[tokio::test]
async fn many_runs_are_few_files_and_the_newest_are_found() {
    let (env, folder) = (env(), tempfile::tempdir().unwrap());
    let lake = store::open(&folder.path().display().to_string(), &Secrets::default()).unwrap();
    let history = History::new(&env, &lake);
    let id = |n: i64| format!("r{n:03}");
    for n in 1..=70_i64 {
        let record = done(&record(&id(n), if n % 10 == 0 { "seldom" } else { "often" }, n * 1_000));
        let row = Row { record, writer: "w".into(), number: u64::try_from(n).unwrap() };
        // Handed in twice, as by who does not know that it is there.
        history.add(vec![row.clone()]).await.unwrap();
        history.add(vec![row]).await.unwrap();
        history.tidy().await.unwrap();
    }
    let table = history.table().unwrap();
    assert!(table.files.len() < 40, "{} files", table.files.len());
    assert_eq!(table.files.iter().map(|file| file.rows).sum::<u64>(), 70);
    let newest = history.newest(None, 3).await.unwrap();
    assert_eq!(ids(&newest), ["r070", "r069", "r068"]);
    let seldom = history.newest(Some("seldom"), 2).await.unwrap();
    assert_eq!(ids(&seldom), ["r070", "r060"]);
    // Another process goes on from what is there.
    let other = History::new(&env, &lake);
    other.refresh().await.unwrap();
    assert_eq!(other.newest(None, 100).await.unwrap().len(), 70);
}

#[tokio::test]
async fn records_wait_while_the_history_cannot_be_written() {
    let (env, folder) = (env(), tempfile::tempdir().unwrap());
    let lake = folder.path().join("lake");
    std::fs::create_dir(&lake).unwrap();
    // Its folder cannot be made.
    std::fs::write(lake.join("_sluice"), "in the way").unwrap();
    let desk = desk(&folder.path().join("state"), "w");
    let historian = historian(&env, &desk, &lake);
    let run = record("a", "j", 10);
    desk.begin(&run, None).await.unwrap();
    desk.end(&done(&run)).await.unwrap();
    historian.ended(done(&run));
    assert!(historian.once(true, &mut false).await.is_err());
    assert_eq!(ids(&historian.newest(None, 1).await.unwrap()), ["a"]);
    std::fs::remove_file(lake.join("_sluice")).unwrap();
    assert_eq!(historian.once(true, &mut false).await.unwrap(), 1);
    assert_eq!(ids(&historian.history.newest(None, 9).await.unwrap()), ["a"]);
}

const JOBS: [(&str, &str); 2] = [
    (
        "1.yaml",
        "job: numbers\nlake: LAKE\nschedule: {every: 7d}\n\
         sources: {n: {connector: generate, rows: 9, columns: {id: {sequence: {}}}}}\n\
         tables: {kept: {sql: SELECT id FROM n}}\n",
    ),
    (
        "2.yaml",
        "job: sums\nlake: LAKE\nschedule: {after: [numbers]}\n\
         views: {total: {sql: SELECT count(*) AS ids FROM kept}}\n",
    ),
];

async fn serve(folder: &Path) -> Arc<Scheduler> {
    let env = env();
    let options = LoadOptions::default();
    let found = define(&env, folder, &options, Columns::Declared).await;
    let Ok(found) = found else { unreachable!("the jobs are right") };
    let Ok(jobs) = readable(found.graphs) else { unreachable!("they have no secrets") };
    Scheduler::start(env, &found.project, jobs, CancellationToken::new()).await.unwrap()
}

const ALWAYS: &str = "job: always\nlake: LAKE\nschedule: {continuous: true}\n\
     sources: {n: {connector: generate, rows: 9, columns: {id: {sequence: {}}}}}\n\
     tables: {seen: {sql: SELECT id FROM n}}\n";

/// Waits until a job is as wanted.
async fn until(scheduler: &Scheduler, job: &str, wanted: impl Fn(&JobState) -> bool) -> JobState {
    let mut changes = scheduler.changes();
    loop {
        if let Some(state) = scheduler.job(job).filter(|state| wanted(state)) {
            return state;
        }
        changes.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_run_by_their_schedules_and_by_hand_and_a_pause_survives() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake").display().to_string();
    for (name, text) in JOBS {
        std::fs::write(folder.path().join(name), text.replace("LAKE", &lake)).unwrap();
    }
    let scheduler = serve(folder.path()).await;
    let ended = |job: &JobState| job.run.is_none() && job.last.is_some();
    let numbers = until(&scheduler, "numbers", ended).await;
    let last = numbers.last.unwrap();
    assert_eq!((last.outcome.as_str(), last.rows, last.attempt), (outcome::DONE, 9, 1));
    assert_eq!((last.trigger.as_str(), numbers.schedule.as_str()), ("schedule", "every 7d"));
    assert!(numbers.next_ms.unwrap() > last.started_ms && numbers.failures == 0);
    let sums = until(&scheduler, "sums", ended).await.last.unwrap();
    assert_eq!((sums.outcome.as_str(), sums.trigger.as_str()), (outcome::DONE, "after numbers"));

    assert_eq!(scheduler.run("none", "anna").await.unwrap_err().kind(), Kind::Config);
    assert_eq!(scheduler.cancel("sums", "anna").await.unwrap_err().kind(), Kind::Conflict);
    scheduler.pause("sums", "anna").await.unwrap();
    let id = scheduler.run("numbers", "anna").await.unwrap();
    until(&scheduler, "numbers", |job| job.last.as_ref().is_some_and(|run| run.id == id)).await;
    let runs = scheduler.runs(Some("numbers"), 9).await.unwrap();
    assert_eq!((runs.len(), runs[0].trigger.as_str()), (2, "manual by anna"));
    assert_eq!(scheduler.job("sums").unwrap().state, State::Paused);

    // A second process stands by until the first has ended, and then goes on where it was.
    let second = serve(folder.path()).await;
    assert_eq!(second.job("numbers").unwrap().state, State::Waiting);
    assert_eq!(second.run("numbers", "anna").await.unwrap_err().kind(), Kind::Conflict);
    scheduler.drain(Duration::from_secs(60)).await;
    assert_eq!(scheduler.run("numbers", "anna").await.unwrap_err().kind(), Kind::Conflict);
    until(&second, "numbers", |job| job.state == State::Idle).await;
    until(&second, "sums", |job| job.state == State::Paused).await;
    let mut runs = second.runs(None, 9).await.unwrap();
    while runs.len() < 3 {
        second.environment.clock.sleep(Duration::from_millis(20)).await;
        runs = second.runs(None, 9).await.unwrap();
    }
    assert_eq!((runs.len(), runs[0].id.as_str()), (3, id.as_str()));
    second.resume("sums", "bert").await.unwrap();
    until(&second, "sums", |job| {
        job.last.as_ref().is_some_and(|run| run.started_ms > sums.started_ms)
    })
    .await;
    second.drain(Duration::from_secs(60)).await;
    let table = second.history().table().unwrap();
    assert_eq!(table.files.iter().map(|file| file.rows).sum::<u64>(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_all_the_time_stays_cancelled_until_somebody_wants_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake").display().to_string();
    std::fs::write(folder.path().join("1.yaml"), ALWAYS.replace("LAKE", &lake)).unwrap();
    let scheduler = serve(folder.path()).await;
    let other = |before: Option<String>| {
        move |job: &JobState| job.run.as_ref().is_some_and(|run| Some(&run.id) != before.as_ref())
    };
    let first = until(&scheduler, "always", other(None)).await.run.unwrap().id;
    scheduler.cancel("always", "anna").await.unwrap();
    assert!(scheduler.job("always").unwrap().note.unwrap().starts_with("cancelled by anna"));
    let stays = until(&scheduler, "always", |job| job.run.is_none()).await;
    assert_eq!((stays.state, stays.cancelled), (State::Paused, true));
    assert_eq!(stays.note.as_deref(), Some("cancelled by anna; resume or run it"));
    assert_eq!(stays.last.unwrap().outcome, outcome::CANCELLED);
    // Whoever resumes it is told of a run at work.
    scheduler.resume("always", "bert").await.unwrap();
    let second = scheduler.job("always").unwrap().run.unwrap().id;
    assert_ne!(second, first);
    // Right behind a cancel: the run ends, and another one begins.
    scheduler.cancel("always", "anna").await.unwrap();
    scheduler.resume("always", "bert").await.unwrap();
    assert!(!until(&scheduler, "always", other(Some(second))).await.cancelled);
    scheduler.drain(Duration::from_secs(60)).await;
}
