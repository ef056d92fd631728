//! `sluice verify` and `sluice audit`: checks, one line each, and exit code 1 when one fails.

use serde_json::{Value, json};
use sluice_runtime::query::Readable;
use sluice_runtime::recover::{Past, past};
use sluice_runtime::verify;

use super::{planned, readable, verdict};
use crate::app::App;
use crate::args::{AuditArgs, PackArgs};
use crate::failure::Failure;
use crate::output::{Align, Grid, counted};

/// One check, whichever command made it.
struct Line {
    job: String,
    name: String,
    holds: bool,
    detail: String,
    /// The job has no past in its lake, so that there was nothing to check.
    not_run: bool,
}

pub(super) async fn verify(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for job in readable(planned(app, args).await?)? {
        if let Some(line) = not_run(app, &job).await? {
            lines.push(line);
            continue;
        }
        for view in verify::verify(&app.environment, &job).await? {
            lines.push(Line {
                job: job.graph.job.name.clone(),
                name: view.view,
                holds: view.equal,
                detail: view.difference.unwrap_or_else(|| counted(view.rows, "row")),
                not_run: false,
            });
        }
    }
    show(app, "view", lines)
}

pub(super) async fn audit(app: &App, args: &AuditArgs) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for job in readable(planned(app, &args.pack).await?)? {
        if let Some(line) = not_run(app, &job).await? {
            lines.push(line);
            continue;
        }
        for check in verify::audit(&app.environment, &job, args.sources).await?.checks {
            lines.push(Line {
                job: job.graph.job.name.clone(),
                name: check.name,
                holds: check.holds,
                detail: check.detail,
                not_run: false,
            });
        }
    }
    show(app, "check", lines)
}

/// The line of a job that has nothing in its lake.
async fn not_run(app: &App, job: &Readable) -> Result<Option<Line>, Failure> {
    let past = past(&app.environment, &job.graph, &job.secrets).await?;
    let Past::Nothing { .. } = &past else { return Ok(None) };
    Ok(Some(Line {
        job: job.graph.job.name.clone(),
        name: "epochs".to_string(),
        holds: false,
        detail: past.finding().unwrap_or_default(),
        not_run: true,
    }))
}

/// A job that never ran is no finding beside others that did; by itself it is, since the lake may
/// be mistyped.
fn show(app: &App, what: &str, mut lines: Vec<Line>) -> Result<(), Failure> {
    let some_ran = lines.iter().any(|line| !line.not_run);
    for line in lines.iter_mut().filter(|line| line.not_run) {
        line.holds = some_ran;
    }
    let lines = &lines;
    let ok = lines.iter().all(|line| line.holds);
    verdict(ok, app.answer(|| as_json(lines, what, ok), || as_text(lines, what)))
}

fn as_json(lines: &[Line], what: &str, ok: bool) -> Value {
    let one = |line: &Line| json!({ "job": line.job, what: line.name, "ok": line.holds, "detail": line.detail });
    json!({ "ok": ok, "checks": lines.iter().map(one).collect::<Vec<_>>() })
}

fn as_text(lines: &[Line], what: &str) -> String {
    let left = ["job", what, "result", "detail"].map(|name| (name, Align::Left));
    let mut grid = Grid::new(left).fitted();
    for line in lines {
        let result = match line.holds {
            true if line.not_run => "not run",
            true => "ok",
            false => "FAILED",
        };
        grid.row([line.job.clone(), line.name.clone(), result.to_string(), line.detail.clone()]);
    }
    let checked = lines.iter().filter(|line| !(line.not_run && line.holds));
    let (held, failed): (Vec<&Line>, Vec<&Line>) = checked.partition(|line| line.holds);
    format!("{grid}\n{} of {} hold\n", held.len(), held.len() + failed.len())
}
