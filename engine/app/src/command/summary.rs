//! What `sluice run` ends with: per table and view what went in and came out.

use serde_json::{Value, json};
use sluice_core::{Error, format_bytes, format_count};
use sluice_runtime::schedule::{SinkSummary, Summary, TableSummary, Unreadable, ViewSummary};

use super::run::Ended;
use crate::failure::error_json;
use crate::output::{Align, Grid, count, counted, seconds};

/// More files that could not be read are counted only: a screen full of them tells enough.
const UNREADABLE_MAX: usize = 20;

/// The whole run for people.
pub(super) fn text(list: &[(String, Ended)]) -> String {
    let done = list.iter().filter_map(|(_, ended)| match ended {
        Ended::Done(summary) => Some(job_text(summary, "")),
        Ended::Failed(_, summary) if summary.epochs > 0 => Some(job_text(summary, ", then failed")),
        _ => None,
    });
    done.collect::<Vec<_>>().join("\n")
}

/// The whole run for programs.
pub(super) fn json(list: &[(String, Ended)], ok: bool) -> Value {
    let job = |(name, ended): &(String, Ended)| match ended {
        Ended::Done(summary) => job_json(summary, None),
        Ended::Failed(error, summary) => job_json(summary, Some(error)),
        Ended::Skipped(why) => json!({ "job": name, "ended": "skipped", "reason": why }),
    };
    json!({ "ok": ok, "jobs": list.iter().map(job).collect::<Vec<_>>() })
}

/// `how` is said behind the time.
fn job_text(summary: &Summary, how: &str) -> String {
    let epochs = format_count(summary.epochs, "epoch");
    let spent = seconds(summary.seconds);
    let mut text = format!("job {}: {epochs} in {spent} s{how}\n", summary.job);
    let grids = [tables(&summary.tables), views(&summary.views), sinks(&summary.sinks)];
    for grid in grids.iter().filter(|grid| !grid.is_empty()) {
        text.push_str(&format!("{grid}\n"));
    }
    if summary.pruned > 0 {
        let rows = counted(summary.pruned, "row");
        text.push_str(&format!("{rows} of the sources not read: no statement needs them\n"));
    }
    for sink in summary.sinks.iter().filter(|s| s.undelivered > 0) {
        let rows = counted(sink.undelivered, "row");
        text.push_str(&format!("{rows} refused by {0}: see {0}__undelivered\n", sink.name));
    }
    for sink in summary.sinks.iter().filter(|s| s.waiting > 0) {
        let rows = counted(sink.waiting, "row");
        text.push_str(&format!("{rows} of {} wait: the next run delivers them\n", sink.name));
    }
    text.push_str(&unreadable(&summary.unreadable));
    text
}

/// The files that could not be read, each with its reason.
pub(super) fn unreadable(files: &[Unreadable]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let count = format_count(files.len() as u64, "file");
    let mut text = format!("{count} could not be read, the rest is sealed:\n");
    for file in files.iter().take(UNREADABLE_MAX) {
        text.push_str(&format!("  {}: {}\n", file.path, file.reason));
    }
    if files.len() > UNREADABLE_MAX {
        let more = files.len() - UNREADABLE_MAX;
        text.push_str(&format!("  and {more} more; all are rows of the sources' __rejected\n"));
    }
    text
}

fn tables(tables: &[TableSummary]) -> Grid {
    let figures = ["rows in", "written", "quarantined", "rejected", "files", "bytes", "seconds"];
    let figures = figures.map(|name| (name, Align::Right));
    let mut grid = Grid::new([("table", Align::Left)].into_iter().chain(figures));
    for t in tables {
        grid.row([
            t.name.clone(),
            count(t.rows_in),
            count(t.written),
            count(t.quarantined),
            count(t.rejected),
            count(t.files),
            format_bytes(t.bytes),
            seconds(t.seconds),
        ]);
    }
    grid
}

fn views(views: &[ViewSummary]) -> Grid {
    let words = ["view", "strategy"].map(|name| (name, Align::Left));
    let figures = ["rows in", "touched", "rows", "seconds"].map(|name| (name, Align::Right));
    let mut grid = Grid::new(words.into_iter().chain(figures));
    for v in views {
        grid.row([
            v.name.clone(),
            v.strategy.clone(),
            count(v.rows_in),
            count(v.touched),
            count(v.rows),
            seconds(v.seconds),
        ]);
    }
    grid
}

fn sinks(sinks: &[SinkSummary]) -> Grid {
    let figures = ["rows", "files", "bytes", "seconds"].map(|name| (name, Align::Right));
    let mut grid = Grid::new([("sink", Align::Left)].into_iter().chain(figures));
    for s in sinks {
        grid.row([
            s.name.clone(),
            count(s.rows),
            count(s.files),
            format_bytes(s.bytes),
            seconds(s.seconds),
        ]);
    }
    grid
}

fn job_json(summary: &Summary, error: Option<&Error>) -> Value {
    let mut job = json!({
        "job": summary.job,
        "ended": if error.is_some() { "failed" } else { "done" },
        "epochs": summary.epochs,
        "seconds": summary.seconds,
        "tables": summary.tables,
        "views": summary.views,
        "sinks": summary.sinks,
        "pruned": summary.pruned,
        "unreadable": summary.unreadable,
        "phases": summary.phases,
    });
    if let Some(error) = error {
        job["error"] = error_json(error);
    }
    job
}
