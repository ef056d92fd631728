//! The command line: reads options, makes the things that are injected, calls the engine, shows
//! what it says.
//!
//! In: arguments, signals. Out: data on standard output, talk on standard error, an exit code. It
//! holds no engine logic: what a job means and how it is run is decided below.

mod app;
pub mod args;
pub mod clock;
mod command;
mod definitions;
pub mod environment;
pub mod failure;
pub mod memory;
mod metrics;
pub mod output;
mod progress;
mod serve;
pub mod shell;
mod talk;

use std::process::ExitCode;

use clap::Parser as _;

pub use app::main_with;

/// Runs the command given by the process's arguments.
pub fn main() -> ExitCode {
    main_with(&args::Cli::parse())
}
