//! `sluice sql`: queries over the last published epochs, and over tables that others wrote.
//!
//! One query, or a session of statements where none is given.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use sluice_core::format_count;
use sluice_runtime::catalog::sql_error;
use sluice_runtime::query;

use super::{planned, readable};
use crate::app::App;
use crate::args::{PackArgs, SqlArgs};
use crate::environment::state_folder;
use crate::failure::Failure;
use crate::output::{Format, TABLE_ROWS_MAX, row_writer};
use crate::shell::{self, Asked};

pub(super) async fn sql(app: &App, args: &SqlArgs) -> Result<(), Failure> {
    let (path, query) = told(args, Path::exists);
    let jobs = match path {
        Some(path) => {
            let pack = PackArgs { path, settings: args.settings.clone() };
            readable(planned(app, &pack).await?)?
        }
        None => Vec::new(),
    };
    let default = if app.json { Format::Json } else { Format::Table };
    let format = args.format.unwrap_or(default);
    let asked = Asked { jobs, externals: args.tables.clone(), format };
    match query {
        Some(query) => answer(app, &asked, &query).await,
        None => {
            let history = state_folder().map(|folder| folder.join("history"));
            shell::run(app, asked, std::io::stdin().is_terminal(), history).await
        }
    }
}

/// What the arguments are: a path, a query, or both. One argument that is no path there is is a
/// query if it has several words.
fn told(args: &SqlArgs, exists: impl Fn(&Path) -> bool) -> (Option<PathBuf>, Option<String>) {
    let Some(first) = &args.path else { return (None, None) };
    let several = first.trim().contains(char::is_whitespace);
    if args.query.is_none() && several && !exists(Path::new(first)) {
        return (None, Some(first.clone()));
    }
    (Some(PathBuf::from(first)), args.query.clone())
}

/// Answers one query on standard output, and says how many rows it has.
pub(crate) async fn answer(app: &App, asked: &Asked, sql: &str) -> Result<(), Failure> {
    let context = query::open(&app.environment, &asked.jobs, &asked.externals).await?;
    let (schema, mut rows) = query::query(&context, sql).await?;

    let mut out = app.out();
    let mut count = 0;
    {
        let mut writer = row_writer(asked.format, &schema, &mut out)?;
        while let Some(batch) = rows.try_next().await.map_err(failed)? {
            count += batch.num_rows();
            writer.write(&batch)?;
        }
        writer.finish()?;
    }
    out.flush()?;
    let more = asked.format == Format::Table && count > TABLE_ROWS_MAX;
    let note = if more { format!(", the first {TABLE_ROWS_MAX} are shown") } else { String::new() };
    app.talk.say(&format!("{}{note}\n", format_count(count as u64, "row")));
    Ok(())
}

fn failed(error: datafusion::error::DataFusionError) -> Failure {
    Failure::Failed(sql_error("the query failed", error))
}
