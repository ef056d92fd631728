//! `sluice init`: a pack of one's own, from files that nobody has described yet or from a sample.
//!
//! In: `--from`, `--into`. Out: a job file and a schema file that run as they are, with comments
//! on what was seen and what to change. What files hold is found out in `connectors`; the text is
//! made here. A file that is there already is never written over.

mod job;
mod sample;
mod schema;
mod yaml;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice_connectors::files::infer::{Inferred, infer};
use sluice_core::{Error, Secrets};

use super::planned;
use crate::app::App;
use crate::args::{InitArgs, PackArgs, Settings};
use crate::failure::Failure;
use crate::output::{Align, Grid, count, counted};

/// Where packs are kept when nobody says.
const PACKS: &str = "jobs";

/// A file that is to be written.
struct Draft {
    path: PathBuf,
    text: String,
}

pub(super) async fn init(app: &App, args: &InitArgs) -> Result<(), Failure> {
    if args.from.is_empty() {
        let folder = args.into.clone().unwrap_or_else(|| Path::new(PACKS).join(sample::NAME));
        let drafts = sample::drafts(&folder);
        write(app, &folder, &drafts).await?;
        return app.answer(|| json(&drafts, None), || text(&folder, &drafts, None));
    }
    let context = app.environment.context("init", &Secrets::default());
    let found = infer(&args.from, &context).await?;
    let folder = args.into.clone().unwrap_or_else(|| Path::new(PACKS).join(&found.name));
    let schema = folder.join("schemas").join(format!("{}.v1.yaml", found.name));
    let drafts = [
        Draft { path: folder.join(format!("{}.yaml", found.name)), text: job::text(&found) },
        Draft { path: schema, text: schema::text(&found) },
    ];
    write(app, &folder, &drafts).await?;
    app.answer(|| json(&drafts, Some(&found)), || text(&folder, &drafts, Some(&found)))
}

/// Writes all files or none, and makes sure that they are a pack.
async fn write(app: &App, folder: &Path, drafts: &[Draft]) -> Result<(), Failure> {
    if let Some(draft) = drafts.iter().find(|d| d.path.exists()) {
        let message = format!("a file is there already path={}", draft.path.display());
        let hint = "choose another folder with --into, or move it away; nothing was written";
        return Err(Failure::Usage(Error::config(message).hint(hint)));
    }
    for draft in drafts {
        create(draft).map_err(|e| {
            let message = format!("cannot write a file path={}", draft.path.display());
            Failure::Usage(
                Error::config(message).hint("choose another folder with --into").because(e),
            )
        })?;
    }
    let path = drafts.first().map_or(folder, |draft| draft.path.as_path()).to_path_buf();
    let pack = PackArgs { path, settings: Settings::default() };
    planned(app, &pack).await.map(|_| ()).inspect_err(|_| {
        app.talk.say("error: the job that init wrote is not right; please report it\n");
    })
}

fn create(draft: &Draft) -> std::io::Result<()> {
    if let Some(folder) = draft.path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&draft.path)?;
    file.write_all(draft.text.as_bytes())
}

/// What people read: the columns, what does not fit, and what to do next.
fn text(folder: &Path, drafts: &[Draft], found: Option<&Inferred>) -> String {
    let mut text = String::new();
    if let Some(found) = found {
        text.push_str(&format!("{}\n{}\n", sentence(found), columns(found)));
        for line in job::rejects(found).iter().chain(&found.notes) {
            text.push_str(&format!("{line}\n"));
        }
    }
    for draft in drafts {
        text.push_str(&format!("wrote {}\n", draft.path.display()));
    }
    let table = found.map_or(sample::NAME, |f| f.name.as_str());
    let folder = folder.display();
    text.push_str(&format!("next: sluice run {folder} --limit 1000\n"));
    text.push_str(&format!("      sluice run {folder}\n"));
    text.push_str(&format!("      sluice sql {folder} \"SELECT * FROM {table} LIMIT 5\"\n"));
    text
}

/// `3 files, all 1,204 rows read: 8 columns`.
fn sentence(found: &Inferred) -> String {
    let (all, sampled) = found.files;
    let rows = counted(found.rows, "row");
    let files = counted(all as u64, "file");
    let columns = counted(found.columns.len() as u64, "column");
    match (found.complete, sampled < all) {
        (true, _) => format!("{files}, {rows}, all of them read: {columns}"),
        (false, false) => format!("{files}, the first {rows} of them read: {columns}"),
        (false, true) => {
            format!("{files}, {rows} of {} of them read: {columns}", count(sampled as u64))
        }
    }
}

fn columns(found: &Inferred) -> Grid {
    let words = ["column", "type", "examples"].map(|name| (name, Align::Left));
    let mut grid = Grid::new(words.into_iter().chain([("empty", Align::Right)]));
    for (field, column) in found.schema.fields.iter().zip(&found.columns) {
        let data_type = match &field.format {
            Some(format) => format!("{} {format}", field.data_type),
            None => field.data_type.clone(),
        };
        let nulls = count(column.facts.nulls);
        grid.row([field.name.clone(), data_type, column.facts.examples.join(", "), nulls]);
    }
    grid
}

fn json(drafts: &[Draft], found: Option<&Inferred>) -> Value {
    let written: Vec<String> = drafts.iter().map(|d| d.path.display().to_string()).collect();
    let mut value = json!({ "ok": true, "written": written });
    if let Some(found) = found {
        let column = |(field, column): (
            &sluice_core::FieldSpec,
            &sluice_connectors::files::infer::Column,
        )| {
            let facts = &column.facts;
            json!({
                "name": field.name, "from": field.origin(), "type": field.data_type,
                "format": field.format, "nulls": facts.nulls, "distinct": facts.distinct,
                "min": facts.low, "max": facts.high, "examples": facts.examples,
                "notes": column.notes,
            })
        };
        let fields = found.schema.fields.iter().zip(&found.columns);
        let reject = |r: &sluice_connectors::files::infer::Rejects| json!({ "reason": r.reason, "rows": r.rows, "example": r.example });
        value["files"] = json!(found.files.0);
        value["files_read"] = json!(found.files.1);
        value["rows"] = json!(found.rows);
        value["complete"] = json!(found.complete);
        value["columns"] = fields.map(column).collect();
        value["rejected"] = found.rejects.iter().map(reject).collect();
        value["notes"] = json!(found.notes);
    }
    value
}
