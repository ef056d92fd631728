//! `sluice sql` without a query: statements one after another, from a terminal or a pipe.
//!
//! In: lines. Out: answers on standard output. Each statement sees what is published when it is
//! given. At a terminal an error ends the statement and Ctrl-C the query; in a pipe the first error
//! ends everything. What is decided about text alone is in `input`, `command` and `complete`.

mod command;
mod complete;
mod input;
mod lines;
mod names;

use std::path::PathBuf;

use sluice_runtime::query::{External, Readable};

use crate::app::App;
use crate::failure::Failure;
use crate::output::{Align, Format, Grid, seconds};
use lines::{Line, Lines};

pub use command::Command;
pub use complete::candidates;
pub use input::Input;
pub use names::{Named, Names};

const WELCOME: &str = "\\? for help, \\q to leave; statements end with ;\n";

const HELP: &str = "\
\\d         what there is to read
\\d NAME    the columns of a table
\\dt        as \\d
\\timing    say how long a statement took, or no longer
\\?         this
\\q         leave, as Ctrl-D does
A statement ends with ; and may take several lines. Tab completes, Ctrl-C stops a query.
";

/// What statements are asked of, and how they are answered.
pub(crate) struct Asked {
    /// Jobs whose tables can be named.
    pub(crate) jobs: Vec<Readable>,
    /// Tables of others.
    pub(crate) externals: Vec<External>,
    /// How rows are written.
    pub(crate) format: Format,
}

/// Answers statements until there are no more. `history` is where a terminal's lines are kept.
pub(crate) async fn run(
    app: &App,
    asked: Asked,
    terminal: bool,
    history: Option<PathBuf>,
) -> Result<(), Failure> {
    let names = Names::of(app, &asked).await?;
    let lines = if terminal {
        app.talk.say(WELCOME);
        Lines::terminal(names.clone(), history)?
    } else {
        Lines::pipe()
    };
    let mut shell = Shell { app, asked, names, terminal, timing: false };
    shell.work(lines).await
}

struct Shell<'a> {
    app: &'a App,
    asked: Asked,
    names: Names,
    terminal: bool,
    timing: bool,
}

impl Shell<'_> {
    async fn work(&mut self, mut lines: Lines) -> Result<(), Failure> {
        let mut input = Input::default();
        loop {
            let line = match lines.next(&input).await? {
                Line::Text(line) => line,
                Line::Interrupted => {
                    input = Input::default();
                    continue;
                }
                Line::End => break,
            };
            if input.is_blank()
                && let Some(command) = Command::parse(&line)
            {
                if command == Command::Quit {
                    return Ok(());
                }
                lines.remember(&line);
                self.command(&command)?;
                continue;
            }
            input.push(&line);
            while let Some(statement) = input.next_statement() {
                lines.remember(&format!("{statement};"));
                self.statement(&statement).await?;
            }
        }
        match input.rest() {
            Some(statement) => self.statement(&statement).await,
            None => Ok(()),
        }
    }

    /// Answers one statement. What goes wrong is told; only in a pipe it is an error.
    async fn statement(&mut self, sql: &str) -> Result<(), Failure> {
        let clock = &self.app.environment.clock;
        let began = clock.monotonic();
        let answer = crate::command::answer(self.app, &self.asked, sql);
        let answered = if self.terminal {
            tokio::select! {
                answered = answer => answered,
                _ = tokio::signal::ctrl_c() => {
                    self.app.talk.say("stopped\n");
                    return Ok(());
                }
            }
        } else {
            answer.await
        };
        match answered {
            Err(failure) if self.terminal && !matches!(failure, Failure::Closed) => {
                self.app.talk.say(&failure.text());
            }
            other => other?,
        }
        if self.timing {
            let took = clock.monotonic().saturating_sub(began).as_secs_f64();
            self.app.talk.say(&format!("{} s\n", seconds(took)));
        }
        Ok(())
    }

    fn command(&mut self, command: &Command) -> Result<(), Failure> {
        match command {
            Command::Help => self.app.talk.say(HELP),
            Command::List => self.show(&self.list())?,
            Command::Describe(name) => match self.names.columns(name) {
                Some(columns) => self.show(&described(columns))?,
                None => return self.refused(&format!("there is no table {name}"), "\\d"),
            },
            Command::Timing => {
                self.timing = !self.timing;
                let now = if self.timing { "on" } else { "off" };
                self.app.talk.say(&format!("timing is {now}\n"));
            }
            Command::Unknown(text) => {
                return self.refused(&format!("there is no command {text}"), "\\?");
            }
            Command::Quit => {}
        }
        Ok(())
    }

    fn refused(&self, what: &str, see: &str) -> Result<(), Failure> {
        let error = sluice_core::Error::config(what).hint(format!("{see} lists them"));
        if !self.terminal {
            return Err(error.into());
        }
        self.app.talk.say(&Failure::from(error).text());
        Ok(())
    }

    fn list(&self) -> Grid {
        let mut grid = Grid::new(["table", "of", "columns"].map(|name| (name, Align::Left)));
        for table in self.names.tables() {
            let columns: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
            grid.row([table.name.clone(), table.of.clone(), columns.join(", ")]);
        }
        grid.fitted()
    }

    fn show(&self, grid: &Grid) -> Result<(), Failure> {
        use std::io::Write as _;
        let mut out = self.app.out();
        writeln!(out, "{grid}")?;
        Ok(out.flush()?)
    }
}

fn described(columns: &[(String, String)]) -> Grid {
    let mut grid = Grid::new(["column", "type"].map(|name| (name, Align::Left)));
    for (name, data_type) in columns {
        grid.row([name.clone(), data_type.clone()]);
    }
    grid
}
