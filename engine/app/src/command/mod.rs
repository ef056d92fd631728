//! The commands: each loads a pack, asks the engine one thing, and shows the answer.

mod init;
mod limit;
mod maintain;
mod plan;
mod replay;
mod reset;
mod run;
mod schema;
mod serve;
mod sql;
mod status;
mod summary;
mod validate;
mod verify;

use std::sync::Arc;

use futures::future::BoxFuture;
use sluice_runtime::job::LoadOptions;
use sluice_runtime::plan::Graph;

use crate::app::App;
use crate::args::{Command, PackArgs, Settings};
use crate::definitions::{Columns, define, readable};
use crate::failure::Failure;
use crate::serve::token;

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
        Command::Serve(args) => Box::pin(serve::serve(app, args)),
        Command::Sql(args) => Box::pin(sql::sql(app, args)),
        Command::Verify(args) => Box::pin(verify::verify(app, args)),
        Command::Audit(args) => Box::pin(verify::audit(app, args)),
        Command::Status(args) => Box::pin(status::status(app, args)),
        Command::Maintain(args) => Box::pin(maintain::maintain(app, args)),
        Command::Replay(args) => Box::pin(replay::replay(app, args)),
        Command::Reset(args) => Box::pin(reset::reset(app, args)),
        Command::Schema(args) => Box::pin(std::future::ready(schema::schema(app, args))),
        Command::Token => Box::pin(std::future::ready(token(app))),
    }
}

/// Reads and plans a pack or project, or says everything that is wrong with it; jobs in run order.
async fn planned(app: &App, args: &PackArgs) -> Result<Vec<Arc<Graph>>, Failure> {
    let options = load_options(&args.settings);
    Ok(define(&app.environment, &args.path, &options, Columns::Learned).await?.graphs)
}

/// How `settings` say that jobs are read.
fn load_options(settings: &Settings) -> LoadOptions {
    LoadOptions { target: settings.target.clone(), set: settings.variables() }
}

/// How a command whose answer may be bad news ends: the news count even if nobody read them.
fn verdict(ok: bool, shown: Result<(), Failure>) -> Result<(), Failure> {
    if ok { shown } else { Err(Failure::Found) }
}
