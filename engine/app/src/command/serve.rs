//! `sluice serve`: what the command line says, handed to the server.

use super::load_options;
use crate::app::App;
use crate::args::ServeArgs;
use crate::failure::Failure;
use crate::serve::{self, Given};

pub(super) async fn serve(app: &App, args: &ServeArgs) -> Result<(), Failure> {
    let given = Given {
        path: args.path.clone(),
        options: load_options(&args.settings),
        http: args.http.clone(),
        postgres: args.postgres.clone(),
        state: args.state.clone(),
        take_over: args.take_over,
    };
    serve::serve(app, given).await
}
