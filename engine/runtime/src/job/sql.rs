//! SQL text that knows where each of its characters was written.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_core::Span;

/// A statement or condition of a job; reads as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlText {
    /// The text that is planned: after folding, unquoting and interpolation.
    pub text: String,
    /// The file it was written in: the job file, or the one named by `sql_file`.
    pub file: PathBuf,
    /// A place per character, and one for the end.
    places: Arc<[Span]>,
}

impl SqlText {
    /// `text`, whose characters stand at `places` in `file`; the last place is the text's end.
    pub(crate) fn new(text: String, file: &Path, places: Vec<Span>) -> Self {
        Self { text, file: file.to_path_buf(), places: places.into() }
    }

    /// The place in the file of a place in the text; lines and columns count from 1. A place
    /// outside of the text is its nearest end.
    pub fn locate(&self, line: u32, column: u32) -> (PathBuf, Span) {
        let place = self.places.get(self.index(line, column)).or(self.places.last());
        (self.file.clone(), place.copied().unwrap_or(Span { line: 1, column: 1 }))
    }

    /// The index of the character at a line and column of the text.
    fn index(&self, line: u32, column: u32) -> usize {
        let mut index = 0;
        for (i, text) in self.text.split_inclusive('\n').enumerate() {
            let length = text.chars().count();
            if i + 1 == line as usize {
                return index + (column.saturating_sub(1) as usize).min(length);
            }
            index += length;
        }
        if line == 0 { 0 } else { index }
    }
}

impl Deref for SqlText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_outside_of_the_text_are_its_ends() {
        let span = |column| Span { line: 7, column };
        let sql = SqlText::new("a\nbc".into(), Path::new("j"), (1..=5).map(span).collect());
        let found = [(1, 1), (2, 2), (2, 9), (9, 1), (0, 0), (1, 2)]
            .map(|(line, column)| sql.locate(line, column).1.column);
        assert_eq!(found, [1, 4, 5, 5, 1, 2]);
    }
}
