//! `sluice reset`: a job, or one of its tables, back to nothing, after showing what that means.

use std::io::{self, BufRead as _, IsTerminal as _};

use serde_json::{Value, json};
use sluice_core::{Error, format_bytes};
use sluice_runtime::maintain::{Target, going, reset as take_back};
use sluice_runtime::query::Readable;
use sluice_runtime::recover::Owned;

use super::{planned, readable};
use crate::app::App;
use crate::args::ResetArgs;
use crate::failure::Failure;
use crate::output::{Align, Grid, count, counted};

pub(super) async fn reset(app: &App, args: &ResetArgs) -> Result<(), Failure> {
    let jobs = readable(planned(app, &args.pack).await?)?;
    let (job, target) = found(&jobs, args)?;
    let env = &app.environment;
    let (graph, secrets) = (&job.graph, &job.secrets);
    let places = match &target {
        Target::Job => going(env, graph, secrets).await?,
        Target::Table(_) | Target::View(_) => Vec::new(),
    };
    let nothing = target == Target::Job && places.iter().all(|place| place.objects.is_empty());
    if !nothing {
        app.talk.say(&warning(&jobs, job, &target, &places));
        agreed(app, args.yes)?;
        take_back(env, graph, secrets, &target).await?;
    }
    let json = || {
        let gone: Vec<Value> = places.iter().map(as_json).collect();
        json!({ "ok": true, "job": graph.job.name, "reset": args.name, "gone": gone })
    };
    app.answer(json, || told(job, &target, &places, nothing))
}

/// The job or table of this name. A table goes before a job of the same name.
fn found<'a>(jobs: &'a [Readable], args: &ResetArgs) -> Result<(&'a Readable, Target), Failure> {
    let name = &args.name;
    let mut tables = jobs.iter().filter(|_| !args.job);
    let table = tables.find_map(|job| Some((job, Target::named(&job.graph, name)?)));
    let named = || jobs.iter().find(|job| job.graph.job.name == *name);
    if let Some(found) = table.or_else(|| Some((named()?, Target::Job))) {
        return Ok(found);
    }
    let names: Vec<&str> = jobs.iter().map(|job| job.graph.job.name.as_str()).collect();
    let told = Error::config(format!("no job, table or view here has this name name={name}"));
    let hint = format!("jobs: {}; `sluice plan` names tables and views", names.join(", "));
    Err(told.hint(hint).into())
}

/// What is about to happen.
fn warning(jobs: &[Readable], job: &Readable, target: &Target, places: &[Owned]) -> String {
    let name = &job.graph.job.name;
    match target {
        Target::Table(table) => {
            let tables: Vec<String> = job.graph.relations().into_iter().map(|(n, _)| n).collect();
            format!(
                "the rows of {table} come from sources: the next run of job {name} reads all its \
                 sources again and makes all its tables again: {}\n",
                tables.join(", ")
            )
        }
        Target::View(view) => {
            format!("the next run of job {name} builds {view} afresh from its inputs\n")
        }
        Target::Job => {
            let mut text = format!("this goes for good:\n{}\n", grid(places));
            let others = jobs.iter().map(|other| &other.graph);
            let readers = others.filter(|g| g.foreign.iter().any(|f| f.job == *name));
            for reader in readers {
                let line = format!("job {} reads tables of it\n", reader.job.name);
                text.push_str(&line);
            }
            text
        }
    }
}

/// Stops unless a person agrees, here or by `--yes`.
fn agreed(app: &App, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let refused = |what: &str| {
        Failure::from(Error::config(what).hint("pass `--yes` to reset without being asked"))
    };
    if !io::stdin().is_terminal() {
        return Err(refused("nobody is there to agree to a reset"));
    }
    app.talk.say("go on? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(refused("nothing was reset")),
    }
}

fn told(job: &Readable, target: &Target, places: &[Owned], nothing: bool) -> String {
    let name = &job.graph.job.name;
    let mut text = match target {
        Target::Job if nothing => format!("there is nothing of job {name} to reset\n"),
        Target::Job => {
            let files = places.iter().map(|place| place.objects.len() as u64).sum();
            format!("job {name} is back to nothing: {} deleted\n", counted(files, "file"))
        }
        Target::Table(table) => {
            format!("{table} is reset: the next run of job {name} makes all its tables again\n")
        }
        Target::View(view) => {
            format!("{view} is reset: the next run of job {name} builds it afresh\n")
        }
    };
    for place in places.iter().filter(|place| place.strange > 0) {
        let (files, at) = (counted(place.strange, "file"), place.location.describe());
        text.push_str(&format!("{files} stay that are not this job's: {at}\n"));
    }
    text
}

fn grid(places: &[Owned]) -> Grid {
    let figures = [("files", Align::Right), ("bytes", Align::Right), ("at", Align::Left)];
    let mut grid = Grid::new([("what", Align::Left)].into_iter().chain(figures));
    for place in places.iter().filter(|place| !place.objects.is_empty()) {
        let files = count(place.objects.len() as u64);
        let at = place.location.describe();
        grid.row([place.name.clone(), files, format_bytes(bytes(place)), at]);
    }
    grid
}

fn as_json(place: &Owned) -> Value {
    json!({
        "name": place.name,
        "location": place.location.describe(),
        "files": place.objects.len(),
        "bytes": bytes(place),
        "left": place.strange,
    })
}

fn bytes(place: &Owned) -> u64 {
    place.objects.iter().map(|meta| meta.size).sum()
}
