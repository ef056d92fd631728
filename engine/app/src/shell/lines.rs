//! Where lines come from: a terminal with history and completion, or a pipe.
//!
//! Reading waits for a person, so it is done on a thread of its own. What a line means is not
//! known here.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use sluice_core::Error;

use super::complete::candidates;
use super::input::Input;
use super::names::Names;
use crate::failure::Failure;

/// Statements that are remembered: more than anybody looks through.
const HISTORY_MAX: usize = 1_000;

const PROMPT: &str = "sluice> ";
const PROMPT_MORE: &str = "   ...> ";

/// One line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line.
    Text(String),
    /// What was begun is to be forgotten.
    Interrupted,
    /// There are no more.
    End,
}

/// Where lines come from.
pub(super) enum Lines {
    /// A person. The editor is away while its thread waits for a line.
    Terminal { editor: Option<Box<Terminal>>, before: Arc<Mutex<String>>, history: Option<PathBuf> },
    /// A program.
    Pipe,
}

type Terminal = Editor<Completion, FileHistory>;

impl Lines {
    /// The terminal. A history that cannot be read or kept is none.
    pub(super) fn terminal(names: Names, history: Option<PathBuf>) -> Result<Self, Failure> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY_MAX)
            .map_err(unreadable)?
            .build();
        let mut editor = Terminal::with_config(config).map_err(unreadable)?;
        let before = Arc::new(Mutex::new(String::new()));
        editor.set_helper(Some(Completion { names, before: before.clone() }));
        if let Some(file) = &history {
            let _ = editor.load_history(file);
        }
        Ok(Self::Terminal { editor: Some(Box::new(editor)), before, history })
    }

    /// Standard input.
    pub(super) fn pipe() -> Self {
        Self::Pipe
    }

    /// The next line; `begun` is what is not answered yet.
    pub(super) async fn next(&mut self, begun: &Input) -> Result<Line, Failure> {
        match self {
            Self::Pipe => blocking(pipe_line).await?,
            Self::Terminal { editor, before, .. } => {
                let Some(mut away) = editor.take() else {
                    return Err(Failure::Failed(Error::bug("the line editor is away")));
                };
                begun.text().clone_into(&mut before.lock());
                let prompt = if begun.is_blank() { PROMPT } else { PROMPT_MORE };
                let (away, line) = blocking(move || {
                    let line = away.readline(prompt);
                    (away, line)
                })
                .await?;
                *editor = Some(away);
                match line {
                    Ok(line) => Ok(Line::Text(line)),
                    Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                    Err(ReadlineError::Eof) => Ok(Line::End),
                    Err(e) => Err(unreadable(e)),
                }
            }
        }
    }

    /// Keeps a statement for the arrow keys, now and in later sessions.
    pub(super) fn remember(&mut self, statement: &str) {
        let Self::Terminal { editor: Some(editor), history, .. } = self else { return };
        let _ = editor.add_history_entry(statement);
        // A history is a convenience: that it cannot be kept is no reason to disturb anybody.
        if let Some(file) = history {
            let _ = file.parent().map(fs::create_dir_all);
            let _ = editor.append_history(file);
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Failure::Failed(Error::bug("reading a line was cut off").because(e)))
}

fn pipe_line() -> Result<Line, Failure> {
    let mut line = String::new();
    match io::stdin().read_line(&mut line) {
        Ok(0) => Ok(Line::End),
        Ok(_) => Ok(Line::Text(line)),
        Err(e) => Err(unreadable(e)),
    }
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let told = Error::unavailable("cannot read statements from standard input");
    Failure::Failed(told.hint("they are UTF-8 text, each ended by `;`").because(error))
}

/// What the line editor asks while a line is being written.
pub(super) struct Completion {
    names: Names,
    /// The lines of the statement before this one.
    before: Arc<Mutex<String>>,
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let line = line.get(..pos).unwrap_or(line);
        Ok(candidates(&self.names, &self.before.lock(), line))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}
