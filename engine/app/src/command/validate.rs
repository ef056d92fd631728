//! `sluice validate`: reads and plans everything, runs nothing. What a job file may say although
//! this version does not act on it yet is said, so that nobody relies on it.

use serde_json::json;
use sluice_core::format_count;
use sluice_runtime::job::{Job, Schedule};

use super::{Columns, planned_with};
use crate::app::App;
use crate::args::PackArgs;
use crate::failure::Failure;

pub(super) async fn validate(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let graphs = planned_with(app, args, Columns::Declared).await?;
    let tables: usize = graphs.iter().map(|g| g.tables.len()).sum();
    let views: usize = graphs.iter().map(|g| g.views.len()).sum();
    let notes: Vec<String> = graphs.iter().flat_map(|g| notes(&g.job)).collect();
    for note in &notes {
        app.talk.say(&format!("note: {note}\n"));
    }
    let (jobs, notes) = (graphs.len(), &notes);
    app.answer(
        || json!({ "ok": true, "jobs": jobs, "tables": tables, "views": views, "notes": notes }),
        || {
            let (jobs, tables) =
                (format_count(graphs.len() as u64, "job"), format_count(tables as u64, "table"));
            format!("ok: {jobs}, {tables}, {}\n", format_count(views as u64, "view"))
        },
    )
}

/// Keys of a job that are checked and have no effect yet.
fn notes(job: &Job) -> Vec<String> {
    let mut notes = Vec::new();
    let name = &job.name;
    let waits = matches!(job.schedule, Schedule::Manual | Schedule::After(_));
    if !waits {
        notes.push(format!(
            "`schedule` has no effect in this version, which has no `sluice serve` yet: start \
             `sluice run` yourself job={name}"
        ));
    }
    if !job.tests.is_empty() {
        notes.push(format!(
            "`tests` are checked and not run by this version, which has no `sluice test` yet \
             job={name}"
        ));
    }
    let timed = job.tables.iter().filter(|t| t.event_time.is_some());
    for table in timed {
        notes.push(format!(
            "`event_time` has no effect in this version: no row is late job={name} table={}",
            table.name
        ));
    }
    notes
}
