//! `sluice maintain`: house-keeping of a pack's tables by hand.

use std::fmt::Write as _;

use serde_json::json;
use sluice_runtime::maintain::{self, MaintainOptions};

use super::{planned, readable};
use crate::app::App;
use crate::args::MaintainArgs;
use crate::failure::Failure;

pub(super) async fn maintain(app: &App, args: &MaintainArgs) -> Result<(), Failure> {
    let options = options(args);
    let mut jobs = Vec::new();
    for job in readable(planned(app, &args.pack).await?)? {
        let lines = maintain::maintain(&app.environment, &job.graph, &job.secrets, options).await?;
        jobs.push((job.graph.job.name.clone(), lines));
    }
    app.answer(
        || {
            let one = |(job, done): &(String, Vec<String>)| json!({ "job": job, "done": done });
            json!({ "jobs": jobs.iter().map(one).collect::<Vec<_>>() })
        },
        || {
            let mut text = String::new();
            for (job, done) in &jobs {
                // Writing to a string does not fail.
                let _ = writeln!(text, "job {job}");
                for line in done {
                    let _ = writeln!(text, "  {line}");
                }
            }
            text
        },
    )
}

/// What was asked for; everything when nothing was.
fn options(args: &MaintainArgs) -> MaintainOptions {
    let MaintainArgs { compact, vacuum, checkpoint, fold, take_over, .. } = *args;
    if compact || vacuum || checkpoint || fold {
        MaintainOptions { compact, vacuum, checkpoint, fold, take_over }
    } else {
        MaintainOptions { take_over, ..MaintainOptions::default() }
    }
}
