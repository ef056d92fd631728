//! The commands: each loads a pack, asks the engine one thing, and shows the answer.

mod init;
mod limit;
mod maintain;
mod plan;
mod replay;
mod reset;
mod run;
mod schema;
mod sql;
mod status;
mod summary;
mod validate;
mod verify;

use std::sync::Arc;

use futures::future::BoxFuture;
use sluice_runtime::function::{EpochTime, SessionOptions, session};
use sluice_runtime::job::{LoadOptions, read_pack, resolve_secrets};
use sluice_runtime::plan::{Graph, build_pack};
use sluice_runtime::query::Readable;
use sluice_runtime::recover::remember;

use crate::app::App;
use crate::args::{Command, PackArgs};
use crate::environment::secret;
use crate::failure::Failure;

pub(crate) use sql::answer;

/// Runs one command. The future is boxed so that its type is named: the compiler does not see that
/// the unnamed one can move between threads.
pub(crate) fn dispatch<'a>(
    app: &'a App,
    command: &'a Command,
) -> BoxFuture<'a, Result<(), Failure>> {
    match command {
        Command::Init(args) => Box::pin(init::init(app, args)),
        Command::Validate(args) => Box::pin(validate::validate(app, args)),
        Command::Plan(args) => Box::pin(plan::plan(app, args)),
        Command::Run(args) => Box::pin(run::run(app, args)),
        Command::Sql(args) => Box::pin(sql::sql(app, args)),
        Command::Verify(args) => Box::pin(verify::verify(app, args)),
        Command::Audit(args) => Box::pin(verify::audit(app, args)),
        Command::Status(args) => Box::pin(status::status(app, args)),
        Command::Maintain(args) => Box::pin(maintain::maintain(app, args)),
        Command::Replay(args) => Box::pin(replay::replay(app, args)),
        Command::Reset(args) => Box::pin(reset::reset(app, args)),
        Command::Schema(args) => Box::pin(std::future::ready(schema::schema(app, args))),
    }
}

/// Which columns a job is planned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    /// Those of its schemas.
    Declared,
    /// Also those that its sources learned, as far as the lake knows.
    Learned,
}

/// Reads and plans a pack, or says everything that is wrong with it; jobs in run order.
async fn planned(app: &App, args: &PackArgs) -> Result<Vec<Arc<Graph>>, Failure> {
    planned_with(app, args, Columns::Learned).await
}

async fn planned_with(
    app: &App,
    args: &PackArgs,
    columns: Columns,
) -> Result<Vec<Arc<Graph>>, Failure> {
    let options =
        LoadOptions { target: args.settings.target.clone(), set: args.settings.variables() };
    let registry = &app.environment.registry;
    let (mut pack, mut problems) = read_pack(&args.path, &options, registry);
    if columns == Columns::Learned && problems.is_empty() {
        for job in &mut pack.jobs {
            // Whatever keeps the lake from being read, the command itself will meet and say.
            let Ok(secrets) = resolve_secrets(job, secret) else { continue };
            if let Ok(learned) = remember(&app.environment, job, &secrets).await {
                *job = learned;
            }
        }
    }
    let time = EpochTime::default();
    time.set_ms(app.environment.clock.wall_ms());
    let context = session(&SessionOptions {
        memory: app.environment.pool.clone(),
        partitions: app.environment.partitions,
        time,
    })?;
    // Statements are planned even when something else is wrong, so that all is told at once.
    match build_pack(&context, &pack, registry).await {
        Ok(graphs) if problems.is_empty() => Ok(graphs.into_iter().map(Arc::new).collect()),
        Ok(_) => Err(problems.into()),
        Err(found) => {
            problems.extend(found);
            Err(problems.into())
        }
    }
}

/// Looks up the secrets of all jobs; one that has no value stops the command before it begins.
fn readable(graphs: Vec<Arc<Graph>>) -> Result<Vec<Readable>, Failure> {
    let with = |graph: Arc<Graph>| {
        let secrets = resolve_secrets(&graph.job, secret)?;
        Ok(Readable { graph, secrets })
    };
    graphs.into_iter().map(with).collect()
}

/// How a command whose answer may be bad news ends: the news count even if nobody read them.
fn verdict(ok: bool, shown: Result<(), Failure>) -> Result<(), Failure> {
    if ok { shown } else { Err(Failure::Found) }
}
