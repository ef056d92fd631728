//! `sluice run`: the jobs of a pack in order, or all at once until stopped.
//!
//! In: planned jobs, signals. Out: a summary per job. A job is not run when one it needs failed;
//! a signal ends the epochs at work and then the run, with success.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use sluice_core::Error;
use sluice_runtime::epoch::Environment;
use sluice_runtime::job::Schedule;
use sluice_runtime::plan::Graph;
use sluice_runtime::query::Readable;
use sluice_runtime::schedule::{RunOptions, Summary, Unreadable, run_job};
use tokio_util::sync::CancellationToken;

use super::{Columns, limit, load_options, readable, summary, verdict};
use crate::app::App;
use crate::args::RunArgs;
use crate::definitions::define;
use crate::environment::running;
use crate::failure::{Failure, error_text};
use crate::metrics::{Board, Port};
use crate::progress::Bars;
use crate::talk::Talk;

/// How one job of the run ended.
pub(super) enum Ended {
    /// It took what was there, or was stopped after an epoch.
    Done(Box<Summary>),
    /// It failed; what it had sealed stays, and is in the summary.
    Failed(Error, Box<Summary>),
    /// It was not started.
    Skipped(String),
}

impl Ended {
    /// The files that were set aside.
    pub(super) fn unreadable(&self) -> &[Unreadable] {
        match self {
            Ended::Done(summary) | Ended::Failed(_, summary) => &summary.unreadable,
            Ended::Skipped(_) => &[],
        }
    }
}

/// What the jobs of one run share.
#[derive(Clone)]
struct Shared {
    environment: Environment,
    options: RunOptions,
    talk: Talk,
    bars: Arc<Bars>,
    stop: CancellationToken,
    /// Whether there are other jobs, which may go on for long after one failed.
    others: bool,
}

pub(super) async fn run(app: &App, args: &RunArgs) -> Result<(), Failure> {
    // A new life begins with what the job says: its sources learn again.
    let columns = if args.rebuild { Columns::Declared } else { Columns::Learned };
    let options = load_options(&args.pack.settings);
    let found = define(&app.environment, &args.pack.path, &options, columns).await?;
    let jobs = readable(chosen(found.graphs, &args.only)?)?;
    let environment = measured(app, args, &found.project.serve.state)?;
    if let Some(rows) = args.limit {
        return limit::run(app, &environment, args, jobs, rows).await;
    }
    let (list, stopped) = run_jobs(app, environment, args, jobs).await;
    let ok = is_ok(&list, stopped);
    let shown = app.answer(|| summary::json(&list, ok), || summary::text(&list));
    if let [(name, Ended::Failed(error, _))] = list.as_slice() {
        app.talk.say(&failed_text(name, error));
    }
    verdict(ok, shown)
}

/// The environment of a run, whose webhooks are kept in `state`, and whose figures are told if
/// somebody wants them.
fn measured(app: &App, args: &RunArgs, state: &Path) -> Result<Environment, Failure> {
    let environment = app.environment.clone();
    let Some(address) = &args.metrics else {
        let metrics = environment.metrics.clone();
        return Ok(running(environment, metrics, state));
    };
    let port = Port::bind(address)?;
    app.talk.say(&format!("metrics at http://{}/metrics\n", port.address));
    let board = Board::new(app.pool.clone());
    port.serve(board.clone())?;
    Ok(running(environment, board, state))
}

/// Whether all jobs were done, with every file read. What a signal left out is no failure.
pub(super) fn is_ok(list: &[(String, Ended)], stopped: bool) -> bool {
    let is = |wanted: fn(&Ended) -> bool| list.iter().any(|(_, ended)| wanted(ended));
    let skipped = is(|ended| matches!(ended, Ended::Skipped(_)));
    let failed = is(|ended| matches!(ended, Ended::Failed(..)));
    let whole = list.iter().all(|(_, ended)| ended.unreadable().is_empty());
    !failed && whole && (!skipped || stopped)
}

/// Runs the jobs and says how each ended, and whether a signal stopped them.
pub(super) async fn run_jobs(
    app: &App,
    environment: Environment,
    args: &RunArgs,
    jobs: Vec<Readable>,
) -> (Vec<(String, Ended)>, bool) {
    let shared = Shared {
        environment,
        options: options(args),
        talk: app.talk.clone(),
        bars: Arc::new(Bars::new(&app.talk)),
        stop: CancellationToken::new(),
        others: jobs.len() > 1,
    };
    let signals = tokio::spawn(watch(app.talk.clone(), shared.stop.clone()));
    let names: Vec<String> = jobs.iter().map(|j| j.graph.job.name.clone()).collect();
    let ended = match args.follow && jobs.len() > 1 {
        true => together(&shared, jobs).await,
        false => in_order(&shared, jobs).await,
    };
    signals.abort();
    (names.into_iter().zip(ended).collect(), shared.stop.is_cancelled())
}

fn options(args: &RunArgs) -> RunOptions {
    RunOptions {
        follow: args.follow,
        take_over: args.take_over,
        rebuild: args.rebuild,
        adopt: args.adopt,
        accept_loss: args.accept_loss,
        overlap: !args.no_overlap,
        epochs_max: args.epochs,
        ..RunOptions::default()
    }
}

/// The jobs that `--only` names, all when it names none.
fn chosen(graphs: Vec<Arc<Graph>>, only: &[String]) -> Result<Vec<Arc<Graph>>, Failure> {
    let names: Vec<&str> = graphs.iter().map(|g| g.job.name.as_str()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        let error = Error::config(format!("the pack has no such job job={unknown}"))
            .hint(format!("its jobs are {}", names.join(", ")));
        return Err(Failure::Usage(error));
    }
    let wanted = |g: &Arc<Graph>| only.is_empty() || only.contains(&g.job.name);
    Ok(graphs.into_iter().filter(wanted).collect())
}

/// The jobs without whose success this one is not run.
fn needs(graph: &Graph) -> BTreeSet<String> {
    let read = graph.foreign.iter().map(|f| f.job.clone());
    match &graph.job.schedule {
        Schedule::After(jobs) => read.chain(jobs.iter().cloned()).collect(),
        _ => read.collect(),
    }
}

async fn in_order(shared: &Shared, jobs: Vec<Readable>) -> Vec<Ended> {
    let mut without = BTreeSet::new();
    let mut ended = Vec::new();
    for job in jobs {
        let name = job.graph.job.name.clone();
        let missing = needs(&job.graph).into_iter().find(|need| without.contains(need));
        let end = match missing {
            Some(need) => Ended::Skipped(format!("it needs {need}")),
            None if shared.stop.is_cancelled() => Ended::Skipped("the run was stopped".into()),
            None => one(shared.clone(), job).await,
        };
        if let Ended::Skipped(why) = &end {
            shared.talk.say(&format!("job {name} was not run: {why}\n"));
        }
        if !matches!(end, Ended::Done(_)) {
            without.insert(name);
        }
        ended.push(end);
    }
    ended
}

/// Runs all jobs until they are stopped. One that fails stops the others after their epochs: a run
/// that goes on without a part of itself is not noticed.
async fn together(shared: &Shared, jobs: Vec<Readable>) -> Vec<Ended> {
    let mut tasks = Vec::new();
    for job in jobs {
        let (name, shared) = (job.graph.job.name.clone(), shared.clone());
        let task = tokio::spawn(async move {
            let ended = one(shared.clone(), job).await;
            if matches!(ended, Ended::Failed(..)) {
                shared.stop.cancel();
            }
            ended
        });
        tasks.push((name, task));
    }
    let mut ended = Vec::new();
    for (name, task) in tasks {
        ended.push(task.await.unwrap_or_else(|e| {
            shared.stop.cancel();
            let error = Error::bug("a job ended in the middle").because(e);
            let summary = Summary { job: name.clone(), ..Summary::default() };
            failed(shared, &name, error, summary)
        }));
    }
    ended
}

async fn one(shared: Shared, job: Readable) -> Ended {
    let name = job.graph.job.name.clone();
    let Shared { environment, options, bars, stop, .. } = &shared;
    let (summary, done) =
        run_job(environment, &job.graph, &job.secrets, options, bars.as_ref(), stop.clone()).await;
    bars.done(&name);
    match done {
        Ok(()) => Ended::Done(Box::new(summary)),
        Err(error) => failed(&shared, &name, error, summary),
    }
}

/// Says at once that a job failed when others go on; that of a job by itself is said last, below
/// what it did.
fn failed(shared: &Shared, job: &str, error: Error, summary: Summary) -> Ended {
    if shared.others {
        shared.talk.say(&failed_text(job, &error));
    }
    Ended::Failed(error, Box::new(summary))
}

pub(super) fn failed_text(job: &str, error: &Error) -> String {
    format!("job {job} failed\n{}", error_text(error))
}

/// Waits for signals: the first asks the jobs to finish their epochs, the second ends the process,
/// which the protocol allows at any moment.
async fn watch(talk: Talk, stop: CancellationToken) {
    if signal().await.is_err() {
        return;
    }
    stop.cancel();
    talk.say("stopping after this epoch; once more to stop at once\n");
    if signal().await.is_ok() {
        std::process::exit(i32::from(crate::failure::EXIT_FAILED));
    }
}

#[cfg(unix)]
async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
