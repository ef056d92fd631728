//! `sluice sql`: one query over the last published epochs.

use std::io::Write as _;

use futures::TryStreamExt as _;
use sluice_core::format_count;
use sluice_runtime::catalog::sql_error;
use sluice_runtime::query;

use super::{planned, readable};
use crate::app::App;
use crate::args::SqlArgs;
use crate::failure::Failure;
use crate::output::{Format, TABLE_ROWS_MAX, row_writer};

pub(super) async fn sql(app: &App, args: &SqlArgs) -> Result<(), Failure> {
    let jobs = readable(planned(app, &args.pack).await?)?;
    let default = if app.json { Format::Json } else { Format::Table };
    let format = args.format.unwrap_or(default);
    let context = query::open(&app.environment, &jobs).await?;
    let (schema, mut rows) = query::query(&context, &args.query).await?;

    let mut out = app.out();
    let mut count = 0;
    {
        let mut writer = row_writer(format, &schema, &mut out)?;
        while let Some(batch) = rows.try_next().await.map_err(failed)? {
            count += batch.num_rows();
            writer.write(&batch)?;
        }
        writer.finish()?;
    }
    out.flush()?;
    let more = format == Format::Table && count > TABLE_ROWS_MAX;
    let note = if more { format!(", the first {TABLE_ROWS_MAX} are shown") } else { String::new() };
    app.talk.say(&format!("{}{note}\n", format_count(count as u64, "row")));
    Ok(())
}

fn failed(error: datafusion::error::DataFusionError) -> Failure {
    Failure::Failed(sql_error("the query failed", error))
}
