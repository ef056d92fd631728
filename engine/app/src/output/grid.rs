//! Tables for people: headers, aligned cells, figures with separators.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// A table that is filled row by row.
#[derive(Debug, Clone)]
pub struct Grid {
    aligns: Vec<Align>,
    table: Table,
}

impl Grid {
    /// A table with these columns. Long cells are not broken.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let (headers, aligns): (Vec<_>, Vec<_>) =
            columns.into_iter().map(|(name, align)| (visible(name).into_owned(), align)).unzip();
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(cells(&aligns, headers));
        Self { aligns, table }
    }

    /// Breaks long cells so that the table fits the terminal, if there is one.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        if std::io::stdout().is_terminal() {
            self.table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        self
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, texts: impl IntoIterator<Item = String>) {
        let texts = texts.into_iter().map(|t| visible(&t).into_owned());
        self.table.add_row(cells(&self.aligns, texts));
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl std::fmt::Display for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.table)
    }
}

/// A count with separators: `1,000,000`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Things counted with separators: `1 row`, `1,000,000 rows`.
pub fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(n))
}

/// Seconds with as many digits as matter: `0.012`, `1.2`, `135`.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{s:.3}"),
        s if s < 100.0 => format!("{s:.1}"),
        s => format!("{s:.0}"),
    }
}

/// How long ago, in the largest unit that fits: `40 s`, `3 min`, `5 h`, `12 days`.
pub fn age(ms: u64) -> String {
    match ms / 1_000 {
        s if s < 60 => format!("{s} s"),
        s if s < 3_600 => format!("{} min", s / 60),
        s if s < 48 * 3_600 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

fn cells(aligns: &[Align], texts: impl IntoIterator<Item = String>) -> Vec<Cell> {
    let side = |align| match align {
        Align::Left => CellAlignment::Left,
        Align::Right => CellAlignment::Right,
    };
    let of = |(text, align): (String, &Align)| Cell::new(text).set_alignment(side(*align));
    texts.into_iter().zip(aligns).map(of).collect()
}

/// Text whose control characters can be seen: data must not move the cursor of a terminal.
fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(shown).collect())
}
