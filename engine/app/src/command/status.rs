//! `sluice status`: how far a job is and what holds it up, what it holds and how old that is, who runs it;
//! with `--stats` the figures of every column.

use chrono::{DateTime, SecondsFormat};
use serde_json::json;
use sluice_core::{Error, Offset, format_bytes};
use sluice_runtime::outbox::Trouble;
use sluice_runtime::query::Readable;
use sluice_runtime::status::{self, Bar, PartitionFacts, Status, TableStats};

use super::{planned, readable};
use crate::app::App;
use crate::args::StatusArgs;
use crate::failure::Failure;
use crate::output::{Align, Grid, age, count, counted};

/// Characters of a value that are shown: enough for any number or time.
const SHOWN_MAX: usize = 32;

/// The heights of a histogram's bars, the lowest first.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) async fn status(app: &App, args: &StatusArgs) -> Result<(), Failure> {
    let jobs = readable(planned(app, &args.pack).await?)?;
    if args.stats {
        return stats(app, &jobs, args.table.as_deref()).await;
    }
    let mut found = Vec::new();
    for job in jobs {
        found.push(status::status(&app.environment, &job).await?);
    }
    let now_ms = app.environment.clock.wall_ms();
    let text = || found.iter().map(|status| text(status, now_ms)).collect::<Vec<_>>().join("\n");
    app.answer(|| json!({ "jobs": found }), text)
}

async fn stats(app: &App, jobs: &[Readable], only: Option<&str>) -> Result<(), Failure> {
    let mut names = jobs.iter().flat_map(|job| job.graph.relations()).map(|(name, _)| name);
    if let Some(only) = only
        && !names.any(|name| name == only)
    {
        let told = Error::config(format!("no job here has such a table table={only}"));
        return Err(told.hint("`sluice plan` names them all").into());
    }
    let mut found = Vec::new();
    for job in jobs {
        let tables = status::stats(&app.environment, job, only).await?;
        found.push((job.graph.job.name.clone(), tables));
    }
    let one = |(job, tables): &(String, Vec<TableStats>)| json!({ "job": job, "tables": tables });
    let json = || json!({ "jobs": found.iter().map(one).collect::<Vec<_>>() });
    let tables = || found.iter().flat_map(|(_, tables)| tables);
    let empty = || "no table of it exists yet\n".to_string();
    let text = || match tables().next() {
        Some(_) => tables().map(figures).collect::<Vec<_>>().join("\n"),
        None => empty(),
    };
    app.answer(json, text)
}

fn text(status: &Status, now_ms: i64) -> String {
    let mut text = format!("job {}: {}\n", status.job, progress(status));
    if let Some(incarnation) = &status.incarnation {
        text.push_str(&format!("incarnation {incarnation}\n"));
    }
    text.push_str(&format!("{}\n", runner(status, now_ms)));
    if let Some(last) = &status.last {
        let old = since(now_ms, last.opened_at_ms);
        let (taken, written) = (counted(last.rows_taken, "row"), counted(last.rows_written, "row"));
        text.push_str(&format!("last epoch opened {old} ago: {taken} taken, {written} written\n"));
    }
    text.push_str("why there is no more output:\n");
    for reason in &status.reasons {
        text.push_str(&format!("  {}\n", reason.text));
    }
    let grids = [
        offsets(status),
        chains(status),
        tables(status, now_ms),
        sinks(status, now_ms),
        upkeep(status),
    ];
    for grid in grids.iter().filter(|grid| !grid.is_empty()) {
        text.push_str(&format!("{grid}\n"));
    }
    text
}

fn runner(status: &Status, now_ms: i64) -> String {
    let Some(lease) = status.lease.as_ref().filter(|lease| lease.alive) else {
        return "nobody runs it".to_string();
    };
    let (host, pid) = (&lease.holder.host, lease.holder.pid);
    format!("run by {host} process {pid} for {}", since(now_ms, lease.acquired_at_ms))
}

fn since(now_ms: i64, at_ms: i64) -> String {
    age(now_ms.saturating_sub(at_ms).max(0).unsigned_abs())
}

fn progress(status: &Status) -> String {
    let Some(epoch) = status.epoch else {
        return match status.sealed {
            Some(sealed) => format!("epoch {sealed} is sealed, nothing is published yet"),
            None => "never run".to_string(),
        };
    };
    let at = status.published_at_ms.and_then(DateTime::from_timestamp_millis);
    let at = at.map(|t| format!(" at {}", t.to_rfc3339_opts(SecondsFormat::Secs, true)));
    let ahead = match status.sealed {
        Some(sealed) if sealed > epoch => format!(", epoch {sealed} is sealed"),
        _ => String::new(),
    };
    format!("epoch {epoch} published{}{ahead}", at.unwrap_or_default())
}

fn offsets(status: &Status) -> Grid {
    let left = ["source", "partition", "next", "end"].map(|name| (name, Align::Left));
    let mut grid = Grid::new(left.into_iter().chain([("behind", Align::Right)]));
    let at = |offset: &Option<Offset>| match offset {
        Some(Offset::At(n)) => count(*n),
        Some(Offset::Cursor(cursor)) => cursor.clone(),
        None => String::new(),
    };
    for facts in &status.partitions {
        let PartitionFacts { source, partition, sealed, end, .. } = facts;
        let behind = facts.behind.map(count).unwrap_or_default();
        grid.row([source.clone(), partition.clone(), at(sealed), at(end), behind]);
    }
    grid
}

/// The shards and replays of a job.
fn chains(status: &Status) -> Grid {
    let left = |name| (name, Align::Left);
    let numbers = ["published", "sealed"].map(|name| (name, Align::Right));
    let columns = [left("chain")].into_iter().chain(numbers);
    let mut grid = Grid::new(columns.chain(["next", "run by"].map(left)));
    let number = |n: Option<u64>| n.map(count).unwrap_or_default();
    for chain in &status.chains {
        let partitions = chain.sources.values().flatten().map(|(partition, offset)| match offset {
            Offset::At(n) => format!("{partition} {}", count(*n)),
            Offset::Cursor(cursor) => format!("{partition} {cursor}"),
        });
        let next = partitions.collect::<Vec<_>>().join(", ");
        let runner = chain.holder.as_ref().map(|h| format!("{} process {}", h.host, h.pid));
        let (published, sealed) = (number(chain.epoch), number(chain.sealed));
        grid.row([chain.chain.clone(), published, sealed, next, runner.unwrap_or_default()]);
    }
    grid
}

fn tables(status: &Status, now_ms: i64) -> Grid {
    let figures = ["rows", "files", "bytes", "per file", "oldest", "newest"];
    let figures = figures.map(|name| (name, Align::Right));
    let columns = [("table", Align::Left), ("kind", Align::Left)].into_iter().chain(figures);
    let mut grid = Grid::new(columns.chain([("location", Align::Left)]));
    for t in &status.tables {
        let (rows, files, bytes) = (count(t.rows), count(t.files), format_bytes(t.bytes));
        let per_file = t.bytes.checked_div(t.files).map(format_bytes).unwrap_or_default();
        let old = |at: Option<i64>| at.map(|at| since(now_ms, at)).unwrap_or_default();
        let (oldest, newest) = (old(t.oldest_file_ms), old(t.newest_file_ms));
        let kind = format!("{} {}", t.format, t.kind);
        let (name, location) = (t.name.clone(), t.location.clone());
        grid.row([name, kind, rows, files, bytes, per_file, oldest, newest, location]);
    }
    grid
}

fn sinks(status: &Status, now_ms: i64) -> Grid {
    let figures = ["epoch", "delivered", "refused", "waiting epochs", "rows", "bytes"];
    let figures = figures.map(|name| (name, Align::Right));
    let columns = [("sink", Align::Left)].into_iter().chain(figures);
    let mut grid = Grid::new(columns.chain(["target", "trouble"].map(|n| (n, Align::Left))));
    for s in &status.sinks {
        let epoch = s.delivered_epoch.map(|n| n.to_string()).unwrap_or_default();
        let (delivered, refused) = (count(s.delivered), count(s.undelivered));
        let (epochs, rows) = (count(s.waiting.epochs), count(s.waiting.rows));
        let bytes = format_bytes(s.waiting.bytes);
        let trouble = s.trouble.as_ref().map(|t| trouble(t, now_ms)).unwrap_or_default();
        let (name, target) = (s.name.clone(), s.target.clone());
        grid.row([name, epoch, delivered, refused, epochs, rows, bytes, target, trouble]);
    }
    grid
}

/// Why rows wait for a sink, and for how long it is left alone.
fn trouble(trouble: &Trouble, now_ms: i64) -> String {
    let Trouble { error, failures, until_ms, .. } = trouble;
    let Some(until_ms) = until_ms else { return error.clone() };
    let failures = counted(u64::from(*failures), "failure");
    match until_ms.saturating_sub(now_ms).max(0) / 1000 {
        0 => format!("left alone after {failures}; tried again now: {error}"),
        seconds => format!("left alone after {failures}; tried again in {seconds} s: {error}"),
    }
}

fn figures(table: &TableStats) -> String {
    let columns = [("column", Align::Left), ("type", Align::Left), ("nulls", Align::Right)];
    let figures = [("distinct", Align::Right), ("min", Align::Left), ("max", Align::Left)];
    let columns = columns.into_iter().chain(figures).chain([("histogram", Align::Left)]);
    let mut grid = Grid::new(columns).fitted();
    for column in &table.columns {
        let distinct = column.distinct.map(|n| format!("≈ {}", count(n))).unwrap_or_default();
        let text = |value: &Option<String>| value.as_deref().map(clipped).unwrap_or_default();
        let (min, max) = (text(&column.min), text(&column.max));
        let (name, nulls) = (column.name.clone(), count(column.nulls));
        let bars = histogram(&column.histogram);
        grid.row([name, column.data_type.clone(), nulls, distinct, min, max, bars]);
    }
    format!("{}: {}\n{grid}\n", table.name, counted(table.rows, "row"))
}

/// A bar per range, blank where there is nothing; values of their own are named.
fn histogram(bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.rows).max().unwrap_or(0).max(1);
    let step = |rows: u64| usize::try_from((rows * HEIGHTS.len() as u64).div_ceil(most));
    let height = |rows| step(rows).ok()?.checked_sub(1).and_then(|n| HEIGHTS.get(n));
    let line: String = bars.iter().map(|bar| height(bar.rows).copied().unwrap_or(' ')).collect();
    if bars.iter().any(|bar| bar.from != bar.to) {
        return line;
    }
    let named = bars.iter().map(|bar| format!("{} {}", clipped(&bar.from), count(bar.rows)));
    format!("{line} {}", named.collect::<Vec<_>>().join(", ")).trim().to_string()
}

/// The beginning of a long value.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

/// What waits in tables to be looked after.
fn upkeep(status: &Status) -> Grid {
    let figures = ["wanted size", "small files", "their bytes", "version", "log", "checkpoint"];
    let figures = figures.map(|name| (name, Align::Right));
    let mut grid = Grid::new([("delta table", Align::Left)].into_iter().chain(figures));
    for t in &status.upkeep {
        let version = |v: Option<i64>| v.map(|v| v.to_string()).unwrap_or_default();
        grid.row([
            t.name.clone(),
            format_bytes(t.target_bytes),
            count(t.files.small_files),
            format_bytes(t.files.small_bytes),
            version(t.log.version),
            count(t.log.entries),
            version(t.log.checkpoint),
        ]);
    }
    grid
}
