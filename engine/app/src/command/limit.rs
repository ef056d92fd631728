//! `sluice run --limit N`: a job tried on few rows, in a lake that is thrown away.
//!
//! In: planned jobs. Out: per job what went in and came out, per table and view its columns, its
//! rows and some of them. The real lake is read where a job needs another's tables, and nothing of
//! it is written: no lease, no table, no sink.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
use serde_json::{Value, json};
use sluice_core::{Error, Result, type_name};
use sluice_runtime::catalog::sql_error;
use sluice_runtime::epoch::Environment;
use sluice_runtime::plan::Graph;
use sluice_runtime::query::{self, Readable};
use sluice_runtime::schedule::limited;

use super::run::{Ended, failed_text, is_ok, run_jobs};
use super::summary::unreadable;
use super::verdict;
use crate::app::App;
use crate::args::RunArgs;
use crate::failure::{Failure, error_json};
use crate::output::{Format, counted, row_writer};

/// Rows of each table and view that are shown.
const SHOWN_ROWS: usize = 5;

/// Reasons for which rows were rejected that are shown for each source.
const SHOWN_REASONS: usize = 10;

pub(super) async fn run(
    app: &App,
    environment: &Environment,
    args: &RunArgs,
    jobs: Vec<Readable>,
    rows: u64,
) -> Result<(), Failure> {
    let scratch =
        std::env::temp_dir().join(format!("sluice-limit-{}", app.environment.ids.fresh()));
    let tried = try_out(app, environment, (args, rows), jobs, &scratch).await;
    if args.keep {
        app.talk.say(&format!("the scratch lake is kept path={}\n", scratch.display()));
    } else if scratch.exists() {
        std::fs::remove_dir_all(&scratch).map_err(|e| {
            Error::unavailable(format!("cannot delete the scratch lake path={}", scratch.display()))
                .because(e)
        })?;
    }
    let tried = tried?;
    let kept = args.keep.then_some(&scratch);
    let shown = app.answer(|| as_json(&tried, rows, kept), || as_text(&tried, rows));
    for (name, ended) in &tried.ended {
        if let (Ended::Failed(error, _), 1) = (ended, tried.ended.len()) {
            app.talk.say(&failed_text(name, error));
        }
    }
    verdict(tried.ok, shown)
}

/// How the jobs ended, and what was made.
struct Tried {
    ok: bool,
    ended: Vec<(String, Ended)>,
    /// Per job, in the same order.
    shown: Vec<Vec<Shown>>,
    /// Sinks that were not written to.
    sinks: Vec<String>,
}

/// One relation after the run.
struct Shown {
    name: String,
    columns: Vec<(String, String)>,
    rows: u64,
    /// Some rows: as a table for people, and as JSON.
    table: String,
    json: Value,
}

async fn try_out(
    app: &App,
    environment: &Environment,
    (args, rows): (&RunArgs, u64),
    jobs: Vec<Readable>,
    scratch: &Path,
) -> Result<Tried, Failure> {
    let sinks = jobs.iter().flat_map(|job| &job.graph.sinks).map(|s| s.spec.name.clone()).collect();
    let mut moved = Vec::new();
    for job in &jobs {
        moved.push(move_to(job, &jobs, scratch).await?);
    }
    let registry = limited(&environment.registry, rows);
    let trying = Environment { registry, ..environment.clone() };
    let (ended, stopped) = run_jobs(app, trying, args, moved.clone()).await;
    let mut shown = Vec::new();
    for job in &moved {
        shown.push(show(environment, job).await?);
    }
    Ok(Tried { ok: is_ok(&ended, stopped), ended, shown, sinks })
}

/// A job as it is tried: its own lake is the scratch lake, and it has no sinks. Tables of other
/// jobs are read where those published them, else where this run puts them.
async fn move_to(job: &Readable, all: &[Readable], scratch: &Path) -> Result<Readable> {
    let lake = scratch.display().to_string();
    let mut graph = Graph::clone(&job.graph);
    let mut own = graph.job.as_ref().clone();
    own.lake.clone_from(&lake);
    own.sinks.clear();
    graph.job = Arc::new(own);
    graph.sinks.clear();
    for foreign in &mut graph.foreign {
        let other = all.iter().find(|other| other.graph.job.name == foreign.job);
        if let Some(other) = other
            && query::published(other).await?.is_none()
        {
            foreign.lake.clone_from(&lake);
        }
    }
    Ok(Readable { graph: Arc::new(graph), secrets: job.secrets.clone() })
}

/// What lies in the scratch lake of a job: tables and views always, the other places for rows if
/// there are any.
async fn show(environment: &Environment, job: &Readable) -> Result<Vec<Shown>, Failure> {
    let context = query::open(environment, std::slice::from_ref(job), &[]).await?;
    let graph = &job.graph;
    let tables = graph.tables.iter().map(|t| t.spec.name.as_str());
    let kept: Vec<&str> = tables.chain(graph.views.iter().map(|v| v.spec.name.as_str())).collect();
    let mut list = Vec::new();
    for (name, schema) in graph.relations() {
        let is_kept = kept.contains(&name.as_str());
        let rows = context.table(name.as_str()).await.map_err(failed)?;
        let count = rows.count().await.map_err(failed)? as u64;
        if count == 0 && !is_kept {
            continue;
        }
        let sql = match name.strip_suffix("__rejected") {
            Some(_) if !is_kept => format!(
                "SELECT reason, count(*) AS row_count, min(source_file) AS first_file \
                 FROM \"{name}\" GROUP BY reason ORDER BY row_count DESC, reason LIMIT {SHOWN_REASONS}"
            ),
            _ => format!("SELECT * FROM \"{name}\" LIMIT {SHOWN_ROWS}"),
        };
        let (schema_shown, stream) = query::query(&context, &sql).await?;
        let batches: Vec<_> = stream.try_collect().await.map_err(failed)?;
        let written = |format| -> Result<Vec<u8>, Failure> {
            let mut out = Vec::new();
            let mut writer = row_writer(format, &schema_shown, &mut out)?;
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
            drop(writer);
            Ok(out)
        };
        let column =
            |f: &Arc<arrow::datatypes::Field>| (f.name().clone(), type_name(f.data_type()));
        list.push(Shown {
            columns: schema.fields().iter().map(column).collect(),
            rows: count,
            table: String::from_utf8_lossy(&written(Format::Table)?).into_owned(),
            json: serde_json::from_slice(&written(Format::Json)?)
                .map_err(|e| Error::bug("rows are no JSON").because(e))?,
            name,
        });
    }
    Ok(list)
}

fn failed(error: datafusion::error::DataFusionError) -> Failure {
    Failure::Failed(sql_error("the scratch lake cannot be read", error))
}

fn as_text(tried: &Tried, rows: u64) -> String {
    let mut text = String::new();
    for ((name, ended), shown) in tried.ended.iter().zip(&tried.shown) {
        text.push_str(&match ended {
            Ended::Done(summary) => {
                let rows = counted(rows, "row");
                let unread = unreadable(&summary.unreadable);
                format!("job {name}: tried on {rows} of each source\n{unread}")
            }
            Ended::Failed(error, _) => format!("job {name}: failed: {error}\n"),
            Ended::Skipped(why) => format!("job {name}: not tried: {why}\n"),
        });
        for one in shown {
            let columns: Vec<String> =
                one.columns.iter().map(|(n, t)| format!("{n} {t}")).collect();
            text.push_str(&format!("\n{}: {}", one.name, counted(one.rows, "row")));
            text.push_str(&format!(" ({})\n{}", columns.join(", "), one.table));
        }
    }
    if !tried.sinks.is_empty() {
        text.push_str(&format!("\nsinks were not written: {}\n", tried.sinks.join(", ")));
    }
    text
}

fn as_json(tried: &Tried, rows: u64, kept: Option<&PathBuf>) -> Value {
    let relation = |one: &Shown| {
        let columns = one.columns.iter().map(|(name, kind)| json!({ "name": name, "type": kind }));
        json!({
            "name": one.name,
            "rows": one.rows,
            "columns": columns.collect::<Vec<_>>(),
            "sample": one.json,
        })
    };
    let job = |((name, ended), shown): (&(String, Ended), &Vec<Shown>)| {
        let mut value = json!({
            "job": name,
            "relations": shown.iter().map(relation).collect::<Vec<_>>(),
        });
        match ended {
            Ended::Done(summary) => {
                value["ended"] = json!("done");
                value["tables"] = json!(summary.tables);
                value["views"] = json!(summary.views);
                value["unreadable"] = json!(summary.unreadable);
            }
            Ended::Failed(error, _) => {
                value["ended"] = json!("failed");
                value["error"] = error_json(error);
            }
            Ended::Skipped(why) => {
                value["ended"] = json!("skipped");
                value["reason"] = json!(why);
            }
        }
        value
    };
    json!({
        "ok": tried.ok,
        "limit": rows,
        "jobs": tried.ended.iter().zip(&tried.shown).map(job).collect::<Vec<_>>(),
        "sinks_not_written": tried.sinks,
        "lake": kept.map(|path| path.display().to_string()),
    })
}
