//! One command from start to exit code.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sluice_core::Error;
use sluice_runtime::epoch::Environment;

use crate::args::Cli;
use crate::command;
use crate::environment::pooled;
use crate::failure::Failure;
use crate::memory::Pool;
use crate::output::write_json;
use crate::talk::Talk;

/// Stack of each worker thread: deep SQL is planned recursively, and 2 MiB is little for it.
const THREAD_STACK_BYTES: usize = 8 << 20;

/// How long a thread for files waits for more work. Whichever waits longest gets it, so that with the
/// usual ten seconds all that were ever needed at once would stay, each with what the allocator
/// keeps for it.
const THREAD_KEPT: Duration = Duration::from_millis(50);

/// How long the process waits for threads that are still writing when the command is done.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// What every command works with.
pub(crate) struct App {
    /// What jobs run in.
    pub(crate) environment: Environment,
    /// The memory pool of the environment.
    pub(crate) pool: Arc<Pool>,
    /// Standard error.
    pub(crate) talk: Talk,
    /// Whether standard output is JSON.
    pub(crate) json: bool,
}

impl App {
    /// Standard output, buffered. Flush it: what is left when it is dropped may be lost.
    pub(crate) fn out(&self) -> BufWriter<io::Stdout> {
        BufWriter::new(io::stdout())
    }

    /// Writes one answer: as JSON, or as text that ends with its own line end.
    pub(crate) fn answer(
        &self,
        json: impl FnOnce() -> serde_json::Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let mut out = self.out();
        if self.json {
            write_json(&mut out, &json())?;
        } else {
            out.write_all(text().as_bytes())?;
        }
        Ok(out.flush()?)
    }
}

/// Runs a command on its own threads and says how it ended.
pub fn main_with(cli: &Cli) -> ExitCode {
    let talk = Talk::new(cli.global.json, cli.global.log_format);
    match work(cli, &talk) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            talk.say(&failure.text());
            if let (true, Some(value)) = (cli.global.json, failure.json()) {
                // The exit code tells it again if standard output is gone.
                let _ = write_json(&mut io::stdout(), &value);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn work(cli: &Cli, talk: &Talk) -> Result<(), Failure> {
    talk.log(&cli.global.log)?;
    let resources = cli.global.resources();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(resources.threads())
        .thread_stack_size(THREAD_STACK_BYTES)
        .thread_keep_alive(THREAD_KEPT)
        .enable_all()
        .build()
        .map_err(|e| Error::unavailable("cannot start threads").because(e))?;
    let (environment, pool) = pooled(&resources);
    let app = App { environment, pool, talk: talk.clone(), json: cli.global.json };
    let done = runtime.block_on(async {
        // On a thread of the pool, whose stack is large enough to plan on.
        let command = cli.command.clone();
        let work = tokio::spawn(async move { command::dispatch(&app, &command).await });
        work.await
            .unwrap_or_else(|e| Err(Error::bug("a command ended in the middle").because(e).into()))
    });
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    done
}
