//! `sluice replay`: rows that could not be decoded, or that broke expectations, taken again after
//! the job was mended.

use serde_json::json;
use sluice_core::{Error, Result};
use sluice_runtime::epoch::Again;
use sluice_runtime::query::Readable;
use sluice_runtime::replay::{ReplayOptions, Replayed, replay as take_again, replayable};
use tokio_util::sync::CancellationToken;

use super::{planned, readable, verdict};
use crate::app::App;
use crate::args::{ReplayArgs, ReplayFrom};
use crate::failure::{Failure, error_json, error_text};
use crate::output::{Align, Grid, count, counted};

/// A replay, and what became of it.
type Done = (String, Result<Replayed>);

pub(super) async fn replay(app: &App, args: &ReplayArgs) -> Result<(), Failure> {
    let jobs = readable(planned(app, &args.pack).await?)?;
    let stop = CancellationToken::new();
    let mut done: Vec<Done> = Vec::new();
    for (job, options) in chosen(&jobs, args)? {
        let replayed = take_again(&app.environment, job, &options, &stop).await;
        done.push((format!("{} of job {}", options.name, job.graph.job.name), replayed));
    }
    let ok = done.iter().all(|(_, replayed)| replayed.is_ok());
    let shown = app.answer(
        || json!({ "ok": ok, "replays": done.iter().map(as_json).collect::<Vec<_>>() }),
        || done.iter().filter_map(|(_, done)| done.as_ref().ok()).map(as_text).collect(),
    );
    let errors = done.iter().filter_map(|(what, done)| Some((what, done.as_ref().err()?)));
    for (what, error) in errors {
        app.talk.say(&format!("{what} was not taken again\n{}", error_text(error)));
    }
    verdict(ok, shown)
}

/// What is asked for: of one source or table, or of all there are.
fn chosen<'a>(
    jobs: &'a [Readable],
    args: &ReplayArgs,
) -> Result<Vec<(&'a Readable, ReplayOptions)>, Failure> {
    let from = match args.from {
        ReplayFrom::Rejected => Again::Rejected,
        ReplayFrom::Quarantine => Again::Quarantined,
    };
    let only = match args.from {
        ReplayFrom::Rejected => &args.source,
        ReplayFrom::Quarantine => &args.table,
    };
    let wanted = |job: &&Readable| args.job.as_ref().is_none_or(|name| job.graph.job.name == *name);
    let mut chosen = Vec::new();
    for job in jobs.iter().filter(wanted) {
        let names = replayable(&job.graph, from);
        let names = names.into_iter().filter(|name| only.as_ref().is_none_or(|only| only == name));
        let options = |name| ReplayOptions { from, name, since: args.since };
        chosen.extend(names.map(|name| (job, options(name))));
    }
    if chosen.is_empty() {
        let names: Vec<&str> = jobs.iter().map(|job| job.graph.job.name.as_str()).collect();
        let told = Error::config("there is no such job, source or table here");
        return Err(told
            .hint(format!("jobs: {}; `sluice plan` names all", names.join(", ")))
            .into());
    }
    Ok(chosen)
}

fn as_json((what, done): &Done) -> serde_json::Value {
    match done {
        Ok(replayed) => json!(replayed),
        Err(error) => json!({ "of": what, "error": error_json(error) }),
    }
}

fn as_text(done: &Replayed) -> String {
    let Replayed { job, from, taken, rejected, cut, .. } = done;
    let mut text = format!("job {job}: {} of {from} taken again", counted(*taken, "row"));
    if *rejected > 0 {
        text.push_str(&format!(", {} still cannot be decoded", count(*rejected)));
    }
    if *cut > 0 {
        text.push_str(&format!(", {} of them because not all their bytes were kept", count(*cut)));
    }
    text.push('\n');
    let figures = ["in", "written", "quarantined", "dropped"].map(|name| (name, Align::Right));
    let mut grid = Grid::new([("table", Align::Left)].into_iter().chain(figures));
    for table in done.tables.iter().filter(|table| table.rows_in > 0) {
        let figures = [table.rows_in, table.written, table.quarantined, table.dropped].map(count);
        grid.row([vec![table.name.clone()], figures.to_vec()].concat());
    }
    if !grid.is_empty() {
        text.push_str(&format!("{grid}\n"));
    }
    if !done.views.is_empty() {
        let views = done.views.join(", ");
        text.push_str(&format!("the next run builds its views afresh: {views}\n"));
    }
    text
}
