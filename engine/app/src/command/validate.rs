//! `sluice validate`: reads and plans everything, runs nothing.

use serde_json::json;

use super::{planned, plural};
use crate::app::App;
use crate::args::PackArgs;
use crate::failure::Failure;

pub(super) async fn validate(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let graphs = planned(app, args).await?;
    let tables = graphs.iter().map(|g| g.tables.len()).sum();
    let views = graphs.iter().map(|g| g.views.len()).sum();
    app.answer(
        || json!({ "ok": true, "jobs": graphs.len(), "tables": tables, "views": views }),
        || {
            let (jobs, tables) = (plural(graphs.len(), "job"), plural(tables, "table"));
            format!("ok: {jobs}, {tables}, {}\n", plural(views, "view"))
        },
    )
}
