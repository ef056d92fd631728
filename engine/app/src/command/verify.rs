//! `sluice verify` and `sluice audit`: checks, one line each, and exit code 1 when one fails.

use serde_json::{Value, json};
use sluice_runtime::verify;

use super::{planned, readable, verdict};
use crate::app::App;
use crate::args::PackArgs;
use crate::failure::Failure;
use crate::output::{Align, Grid, counted};

/// One check, whichever command made it.
struct Line {
    job: String,
    name: String,
    holds: bool,
    detail: String,
}

pub(super) async fn verify(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for job in readable(planned(app, args).await?)? {
        for view in verify::verify(&app.environment, &job).await? {
            lines.push(Line {
                job: job.graph.job.name.clone(),
                name: view.view,
                holds: view.equal,
                detail: view.difference.unwrap_or_else(|| counted(view.rows, "row")),
            });
        }
    }
    show(app, "view", &lines)
}

pub(super) async fn audit(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for job in readable(planned(app, args).await?)? {
        for check in verify::audit(&app.environment, &job).await?.checks {
            lines.push(Line {
                job: job.graph.job.name.clone(),
                name: check.name,
                holds: check.holds,
                detail: check.detail,
            });
        }
    }
    show(app, "check", &lines)
}

fn show(app: &App, what: &str, lines: &[Line]) -> Result<(), Failure> {
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
        let result = if line.holds { "ok" } else { "FAILED" };
        grid.row([line.job.clone(), line.name.clone(), result.to_string(), line.detail.clone()]);
    }
    let failed = lines.iter().filter(|line| !line.holds).count();
    format!("{grid}\n{} of {} hold\n", lines.len() - failed, lines.len())
}
