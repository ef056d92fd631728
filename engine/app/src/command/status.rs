//! `sluice status`: how far a job is, what it holds, who runs it.

use chrono::{DateTime, SecondsFormat};
use serde_json::json;
use sluice_core::{Offset, format_bytes};
use sluice_runtime::status::{self, Status};

use super::{planned, readable};
use crate::app::App;
use crate::args::PackArgs;
use crate::failure::Failure;
use crate::output::{Align, Grid, count};

pub(super) async fn status(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let mut jobs = Vec::new();
    for job in readable(planned(app, args).await?)? {
        jobs.push(status::status(&app.environment, &job).await?);
    }
    app.answer(|| json!({ "jobs": jobs }), || jobs.iter().map(text).collect::<Vec<_>>().join("\n"))
}

fn text(status: &Status) -> String {
    let mut text = format!("job {}: {}\n", status.job, progress(status));
    if let Some(incarnation) = &status.incarnation {
        text.push_str(&format!("incarnation {incarnation}\n"));
    }
    let runner = match &status.holder {
        Some(holder) => format!("run by {} process {}\n", holder.host, holder.pid),
        None => "nobody runs it\n".to_string(),
    };
    text.push_str(&runner);
    for grid in [offsets(status), tables(status)].iter().filter(|grid| !grid.is_empty()) {
        text.push_str(&format!("{grid}\n"));
    }
    text
}

fn progress(status: &Status) -> String {
    let Some(epoch) = status.epoch else {
        return match status.sealed {
            Some(sealed) => format!("epoch {sealed} is sealed, nothing is published yet"),
            None => "never run".to_string(),
        };
    };
    let at = status.published_at_ms.and_then(DateTime::from_timestamp_millis);
    let at = at.map(|t| format!(" at {}", t.to_rfc3339_opts(SecondsFormat::Secs, true)));
    let ahead = match status.sealed {
        Some(sealed) if sealed > epoch => format!(", epoch {sealed} is sealed"),
        _ => String::new(),
    };
    format!("epoch {epoch} published{}{ahead}", at.unwrap_or_default())
}

fn offsets(status: &Status) -> Grid {
    let left = ["source", "partition", "next"].map(|name| (name, Align::Left));
    let mut grid = Grid::new(left);
    for (source, partitions) in &status.sources {
        for (partition, offset) in partitions {
            let next = match offset {
                Offset::At(n) => count(*n),
                Offset::Cursor(cursor) => cursor.clone(),
            };
            grid.row([source.clone(), partition.clone(), next]);
        }
    }
    grid
}

fn tables(status: &Status) -> Grid {
    let figures = ["rows", "files", "bytes"].map(|name| (name, Align::Right));
    let columns = [("table", Align::Left)].into_iter().chain(figures);
    let mut grid = Grid::new(columns.chain([("location", Align::Left)]));
    for t in &status.tables {
        let (rows, files, bytes) = (count(t.rows), count(t.files), format_bytes(t.bytes));
        grid.row([t.name.clone(), rows, files, bytes, t.location.clone()]);
    }
    grid
}
