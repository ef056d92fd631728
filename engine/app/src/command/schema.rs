//! `sluice schema`: the JSON Schemas that editors and reviewers use.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sluice_core::Error;
use sluice_runtime::job::{data_schema, job_schema, project_schema};

use super::verdict;
use crate::app::App;
use crate::args::{SchemaArgs, SchemaKind};
use crate::failure::Failure;
use crate::output::write_json;

pub(super) fn schema(app: &App, args: &SchemaArgs) -> Result<(), Failure> {
    let (name, current) = match args.kind {
        SchemaKind::Job => ("job", job_schema(&app.environment.registry)),
        SchemaKind::Project => ("project", project_schema()),
        SchemaKind::Data => ("data", data_schema()),
    };
    if let Some(file) = &args.check {
        return check(app, name, file, &current);
    }
    let mut out = app.out();
    write_json(&mut out, &current)?;
    Ok(out.flush()?)
}

fn check(app: &App, name: &str, file: &Path, current: &Value) -> Result<(), Failure> {
    let at = file.display();
    let text = fs::read_to_string(file).map_err(|e| {
        Error::config(format!("cannot read a schema file={at}"))
            .hint(format!("make it with: sluice schema {name} > {at}"))
            .because(e)
    })?;
    // Compared as values: how the file is indented does not matter, the order of keys neither.
    let same = serde_json::from_str::<Value>(&text).is_ok_and(|found| found == *current);
    let shown = app.answer(
        || json!({ "ok": same, "file": at.to_string() }),
        || match same {
            true => format!("current: {at}\n"),
            false => format!("stale: {at}\n"),
        },
    );
    if !same {
        app.talk.say(&format!("hint: make it again with: sluice schema {name} > {at}\n"));
    }
    verdict(same, shown)
}
