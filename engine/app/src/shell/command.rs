//! Commands of the shell: lines that begin with a backslash.

/// What a person asks of the shell itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What there is to read.
    List,
    /// The columns of a table.
    Describe(String),
    /// Say how long statements take, or no longer.
    Timing,
    /// The commands.
    Help,
    /// Leave.
    Quit,
    /// None of these.
    Unknown(String),
}

impl Command {
    /// The command in a line; none when it is the beginning of a statement.
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim().trim_end_matches(';').trim_end();
        if !line.starts_with('\\') {
            return None;
        }
        let (word, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Some(match (word, name.trim()) {
            ("\\d" | "\\dt", "") => Self::List,
            ("\\d" | "\\dt", name) => Self::Describe(name.to_string()),
            ("\\timing", "") => Self::Timing,
            ("\\?" | "\\h", "") => Self::Help,
            ("\\q", "") => Self::Quit,
            _ => Self::Unknown(line.to_string()),
        })
    }
}
