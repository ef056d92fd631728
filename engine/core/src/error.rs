//! The one error type that crosses crates: what went wrong, who can act on it, and what to do.
//!
//! In: a kind, a message, optionally a hint and a cause. Out: something a person can read and a
//! program can decide on. It does not carry positions in job files: those are [`crate::Problem`]s.

use std::error::Error as StdError;
use std::fmt;

/// Who has to act. A new kind is added only if someone would act differently on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The job file, an option or the environment is wrong: fix it and run again.
    Config,
    /// Rows are wrong: fix them or send them to quarantine.
    Data,
    /// A file cannot be read at all, whatever the rows in it: set it aside and go on without it.
    Unreadable,
    /// A store or server did not answer: the same call may succeed later.
    Unavailable,
    /// Somebody else changed a table: repair or ask the user.
    Conflict,
    /// Another runner owns the chain: stop.
    Fenced,
    /// A broken promise inside Sluice.
    Bug,
}

impl Kind {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Data => "data",
            Self::Unreadable => "unreadable",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::Bug => "bug",
        }
    }
}

/// What every fallible public function of the engine returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with its kind, message, hint and cause.
///
/// The message is lower case, without a full stop, variables last as `key=value`, and never
/// repeats its cause.
pub struct Error {
    kind: Kind,
    retry: bool,
    message: String,
    hint: Option<String>,
    source_name: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. Only [`Kind::Unavailable`] starts out worth a retry.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let retry = kind == Kind::Unavailable;
        Self { kind, retry, message: message.into(), hint: None, source_name: None, source: None }
    }

    /// The job file, an option or the environment is wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// Rows are wrong.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Kind::Data, message)
    }

    /// A file cannot be read at all.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unreadable, message)
    }

    /// A store or server did not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// Somebody else changed a table.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// Another runner owns the chain.
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(Kind::Fenced, message)
    }

    /// A broken promise inside Sluice.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// Says what the reader should do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Overrides whether the same call may succeed later.
    #[must_use]
    pub fn with_retry(mut self, retry: bool) -> Self {
        self.retry = retry;
        self
    }

    /// Says of what it is an error, as `key=name` behind the message, unless the name is there already.
    #[must_use]
    pub fn of(mut self, key: &str, name: &str) -> Self {
        if !self.message.contains(name) {
            self.message.push_str(&format!(" {key}={name}"));
        }
        self
    }

    /// Says which source it comes from; without, it is the store's or nobody's. What is known stays.
    #[must_use]
    pub fn at_source(mut self, source: &str) -> Self {
        self.source_name.get_or_insert_with(|| source.to_string());
        self
    }

    /// The source it comes from, by its name in the job.
    pub fn source_name(&self) -> Option<&str> {
        self.source_name.as_deref()
    }

    /// Who has to act.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn retry(&self) -> bool {
        self.retry
    }

    /// The message alone, without hint and cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do, when something can be done.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message followed by every cause, one `: ` apart; the hint is not in it.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let part = error.to_string();
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.chain())?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

impl From<arrow::error::ArrowError> for Error {
    /// Arrow's own errors come from malformed data or from our misuse; both stop the work at hand.
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::data("arrow could not work on these rows").because(error)
    }
}
