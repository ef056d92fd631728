//! `sluice validate`: reads and plans everything, runs nothing, and says which values hold and
//! where they were written. What a job file may say although this version does not act on it yet is
//! said, so that nobody relies on it.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use sluice_core::{format_bytes, format_count};
use sluice_runtime::job::{EpochLimits, Job, Origin, Project, SecretRef};

use super::load_options;
use crate::app::App;
use crate::args::PackArgs;
use crate::definitions::{Columns, Definitions, define};
use crate::failure::Failure;

pub(super) async fn validate(app: &App, args: &PackArgs) -> Result<(), Failure> {
    let options = load_options(&args.settings);
    let found = define(&app.environment, &args.path, &options, Columns::Declared).await?;
    let jobs: Vec<&Job> = found.graphs.iter().map(|graph| graph.job.as_ref()).collect();
    let mut notes: Vec<String> = jobs.iter().flat_map(|job| notes(job)).collect();
    notes.extend(not_here(&found.project));
    for note in &notes {
        app.talk.say(&format!("note: {note}\n"));
    }
    let values: Vec<(&str, Vec<Valued>)> =
        jobs.iter().map(|job| (job.name.as_str(), values(job))).collect();
    app.answer(|| as_json(&found, &values, &notes), || as_text(&found, &values))
}

/// A value that a job uses.
struct Valued {
    /// `lake`, `target`, `vars.<name>`, `secrets.<name>`, `storage.<name>` or `epoch.<key>`.
    name: String,
    /// Of a secret, where its value comes from.
    value: String,
    from: Origin,
}

fn values(job: &Job) -> Vec<Valued> {
    let valued = |(name, from): (&String, &Origin)| {
        let value = match name.split_once('.') {
            Some(("vars", variable)) => job.vars.get(variable).map(shown),
            Some(("secrets", secret)) => job.secrets.get(secret).map(reference),
            Some(("storage", bucket)) => {
                job.stores.iter().find(|store| store.name == bucket).map(|store| store.url.clone())
            }
            Some(("epoch", key)) => limit(&job.epoch, key),
            _ if name == "target" => job.target.clone(),
            _ => Some(job.lake.clone()),
        };
        Valued { name: name.clone(), value: value.unwrap_or_default(), from: from.clone() }
    };
    job.origins.iter().map(valued).collect()
}

/// A limit of an epoch by its key.
fn limit(limits: &EpochLimits, key: &str) -> Option<String> {
    match key {
        "every" => limits.every.map(|every| format!("{every:?}")),
        "rows" => Some(limits.rows.to_string()),
        "bytes" => Some(format_bytes(limits.bytes)),
        "files" => Some(limits.files.to_string()),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Where a secret's value comes from. The arguments of a program may say too much.
fn reference(secret: &SecretRef) -> String {
    match secret {
        SecretRef::Env(variable) => format!("env {variable}"),
        SecretRef::File(path) => format!("file {}", path.display()),
        SecretRef::Command(command) => {
            format!("command {}", command.first().map_or("", String::as_str))
        }
    }
}

fn counts(found: &Definitions) -> (usize, usize) {
    let tables = found.graphs.iter().map(|g| g.tables.len()).sum();
    (tables, found.graphs.iter().map(|g| g.views.len()).sum())
}

fn as_json(found: &Definitions, values: &[(&str, Vec<Valued>)], notes: &[String]) -> Value {
    let valued = |job: &str, v: &Valued| json!({ "job": job, "name": v.name, "value": v.value, "from": v.from.to_string() });
    let values = values.iter().flat_map(|(job, of_job)| of_job.iter().map(|v| valued(job, v)));
    let (tables, views) = counts(found);
    let project = found.project.file.as_ref().map(|_| &found.project.name);
    json!({
        "ok": true,
        "project": project,
        "jobs": found.graphs.len(),
        "tables": tables,
        "views": views,
        "endpoints": found.project.endpoints.len(),
        "values": values.collect::<Vec<_>>(),
        "notes": notes,
    })
}

fn as_text(found: &Definitions, values: &[(&str, Vec<Valued>)]) -> String {
    let count = |n: usize, noun: &str| format_count(n as u64, noun);
    let (tables, views) = counts(found);
    let jobs = count(found.graphs.len(), "job");
    let mut text = format!("ok: {jobs}, {}, {}", count(tables, "table"), count(views, "view"));
    if !found.project.endpoints.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(text, ", {}", count(found.project.endpoints.len(), "endpoint"));
    }
    text.push('\n');
    let width = |of: fn(&Valued) -> usize| {
        values.iter().flat_map(|(_, of_job)| of_job).map(of).max().unwrap_or_default()
    };
    let name_width = width(|v| v.name.chars().count());
    let value_width = width(|v| v.value.chars().count()).min(VALUE_WIDTH_MAX);
    for (job, of_job) in values {
        let _ = writeln!(text, "\n{job}");
        for Valued { name, value, from } in of_job {
            let value = value.escape_debug().to_string();
            let _ = writeln!(text, "  {name:name_width$}  {value:value_width$}  {from}");
        }
    }
    text
}

/// Columns for values. Longer ones push what follows them aside, alone.
const VALUE_WIDTH_MAX: usize = 40;

/// Files without which the project is not served, and which may lie on other machines only.
fn not_here(project: &Project) -> Vec<String> {
    let files = project.serve.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    let missing = files.filter(|file| !file.is_file());
    let note = |file: &PathBuf| {
        format!("`serve` needs a file of `tls` that is not here file={}", file.display())
    };
    missing.map(note).collect()
}

/// Keys of a job that are checked and have no effect yet.
fn notes(job: &Job) -> Vec<String> {
    let mut notes = Vec::new();
    let name = &job.name;
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
