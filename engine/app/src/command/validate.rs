//! `sluice validate`: reads and plans everything, runs nothing.

use serde_json::json;
use sluice_core::format_count;

use super::planned;
use crate::app::App;
use crate::args::PackArgs;
use crate::failure::Failure;

pub(super) async fn validate(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let graphs = planned(app, args).await?;
    let tables: usize = graphs.iter().map(|g| g.tables.len()).sum();
    let views: usize = graphs.iter().map(|g| g.views.len()).sum();
    app.answer(
        || json!({ "ok": true, "jobs": graphs.len(), "tables": tables, "views": views }),
        || {
            let (jobs, tables) =
                (format_count(graphs.len() as u64, "job"), format_count(tables as u64, "table"));
            format!("ok: {jobs}, {tables}, {}\n", format_count(views as u64, "view"))
        },
    )
}
