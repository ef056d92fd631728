//! `sluice maintain`: house-keeping of a pack's tables by hand. What one job does not allow, another
//! may: each is told by itself.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_core::Result;
use sluice_runtime::maintain::{self, MaintainOptions};
use sluice_runtime::recover::{Past, past};
use sluice_runtime::schedule::Upkeep;

use super::{planned, readable, verdict};
use crate::app::App;
use crate::args::MaintainArgs;
use crate::failure::{Failure, error_json, error_text};

pub(super) async fn maintain(app: &App, args: &MaintainArgs) -> Result<(), Failure> {
    let options = options(args);
    let mut jobs = Vec::new();
    let mut idle = 0;
    for job in readable(planned(app, &args.pack).await?)? {
        let past = past(&app.environment, &job.graph, &job.secrets).await?;
        if let (Past::Nothing { .. }, Some(finding)) = (&past, past.finding()) {
            jobs.push((job.graph.job.name.clone(), Ok(vec![finding])));
            idle += 1;
            continue;
        }
        let done = maintain::maintain(&app.environment, &job.graph, &job.secrets, options).await;
        jobs.push((job.graph.job.name.clone(), done));
    }
    // By itself a job that never ran may be one whose lake is mistyped.
    let ok = idle < jobs.len() && jobs.iter().all(|(_, done)| done.is_ok());
    let shown = app.answer(
        || json!({ "ok": ok, "jobs": jobs.iter().map(as_json).collect::<Vec<_>>() }),
        || jobs.iter().map(as_text).collect(),
    );
    for (job, error) in jobs.iter().filter_map(|(job, done)| Some((job, done.as_ref().err()?))) {
        app.talk.say(&format!("job {job} was not maintained\n{}", error_text(error)));
    }
    verdict(ok, shown)
}

/// A job, and what was done to it or why nothing could be.
type Done = (String, Result<Vec<String>>);

fn as_json((job, done): &Done) -> Value {
    match done {
        Ok(lines) => json!({ "job": job, "done": lines }),
        Err(error) => json!({ "job": job, "error": error_json(error) }),
    }
}

fn as_text((job, done): &Done) -> String {
    let mut text = String::new();
    for (at, line) in done.iter().flatten().enumerate() {
        if at == 0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "job {job}");
        }
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// What was asked for; everything when nothing was.
fn options(args: &MaintainArgs) -> MaintainOptions {
    let MaintainArgs { compact, vacuum, checkpoint, fold, take_over, wait, dry_run, .. } = *args;
    let retention_ms = args.retention.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let some = compact || vacuum || checkpoint || fold;
    let asked = if some {
        Upkeep { compact, vacuum, checkpoint, fold, ..Upkeep::ALL }
    } else {
        Upkeep::ALL
    };
    let upkeep = Upkeep { retention_ms, dry_run, ..asked };
    MaintainOptions { upkeep, take_over, wait: Duration::from_secs(wait) }
}
