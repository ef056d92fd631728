//! Where the characters of a text file stand, and where those of a YAML scalar come from.
//!
//! In: a file's text; the value of a scalar and the part of the file it was read from. Out: a line
//! and column per character. It does not parse: folding, indentation and escapes are followed by
//! matching the value against the text.

use sluice_core::Span;

/// A file's characters with their lines.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    chars: Vec<char>,
    /// Index of the first character of every line.
    lines: Vec<usize>,
}

impl Text {
    /// `text` as it is, without translation of line ends.
    pub(crate) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut lines = vec![0];
        lines.extend(chars.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(i, _)| i + 1));
        Self { chars, lines }
    }

    /// The characters from `start` up to, not including, `end`.
    pub(crate) fn slice(&self, start: usize, end: usize) -> &[char] {
        let end = end.min(self.chars.len());
        &self.chars[start.min(end)..end]
    }

    /// The place of the character at `index`; an index past the end is the end.
    pub(crate) fn place(&self, index: usize) -> Span {
        let index = index.min(self.chars.len());
        let line = self.lines.partition_point(|start| *start <= index).saturating_sub(1);
        let column = index - self.lines.get(line).copied().unwrap_or(0);
        Span { line: number(line), column: number(column) }
    }

    /// The bracket that is still open at the end of the file, when `end` is that end.
    pub(crate) fn open_bracket(&self, end: usize) -> Option<usize> {
        if !self.chars.get(end..).unwrap_or_default().iter().all(|c| c.is_whitespace()) {
            return None;
        }
        let mut closed = 0_usize;
        self.slice(0, end).iter().rposition(|c| match c {
            ']' | '}' => {
                closed += 1;
                false
            }
            '[' | '{' => {
                let is_open = closed == 0;
                closed = closed.saturating_sub(1);
                is_open
            }
            _ => false,
        })
    }

    /// A place per character, and one for the end.
    pub(crate) fn places(&self) -> Vec<Span> {
        (0..=self.chars.len()).map(|i| self.place(i)).collect()
    }

    /// Where the characters of the scalar `value`, read from `start..end`, stand: a place per
    /// character, and one for its end.
    pub(crate) fn scalar_places(&self, start: usize, end: usize, value: &str) -> Vec<Span> {
        let style = self.style(start);
        let mut at = match style {
            Style::Bare => start,
            Style::Single | Style::Double => start + 1,
        };
        let mut places = Vec::with_capacity(value.len() + 1);
        for c in value.chars() {
            at = self.skip_unseen(style, c, at, end);
            places.push(self.place(at));
            at += self.width(style, at);
        }
        places.push(self.place(at.min(end)));
        places
    }

    /// What comes before the next character of the value without being part of it: indentation,
    /// and line breaks that were folded or escaped.
    fn skip_unseen(&self, style: Style, value: char, mut at: usize, end: usize) -> usize {
        while at < end {
            let c = self.chars[at];
            let escaped_break = style == Style::Double && c == '\\' && self.is(at + 1, '\n');
            if escaped_break {
                at += 2;
            } else if c.is_whitespace() && !value.is_whitespace() {
                at += 1;
            } else {
                break;
            }
        }
        at
    }

    /// How many characters of the file make the one character of the value that starts at `at`.
    fn width(&self, style: Style, at: usize) -> usize {
        match style {
            Style::Single if self.is(at, '\'') && self.is(at + 1, '\'') => 2,
            Style::Double if self.is(at, '\\') => match self.chars.get(at + 1) {
                Some('x') => 4,
                Some('u') => 6,
                Some('U') => 10,
                _ => 2,
            },
            _ => 1,
        }
    }

    fn is(&self, at: usize, c: char) -> bool {
        self.chars.get(at) == Some(&c)
    }

    /// How the scalar whose first character stands at `start` is written.
    fn style(&self, start: usize) -> Style {
        match self.chars.get(start) {
            Some('\'') if !self.in_block(start) => Style::Single,
            Some('"') if !self.in_block(start) => Style::Double,
            _ => Style::Bare,
        }
    }

    /// Whether `start` is the first character of a `|` or `>` block: the last line above it that
    /// is not empty ends with the block's header.
    fn in_block(&self, start: usize) -> bool {
        let line = (self.place(start).line as usize).saturating_sub(1);
        let begin = self.lines.get(line).copied().unwrap_or(0);
        if !self.slice(begin, start).iter().all(|c| c.is_whitespace()) {
            return false;
        }
        let above: String = self.slice(0, begin).iter().collect();
        let header = above.trim_end().lines().next_back().unwrap_or_default();
        let header = header.split(" #").next().unwrap_or_default().trim_end();
        let word = header.split_whitespace().next_back().unwrap_or_default();
        let rest = word.strip_prefix(['|', '>']).unwrap_or("no");
        rest.chars().all(|c| matches!(c, '+' | '-' | '1'..='9'))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Plain, or in a `|` or `>` block.
    Bare,
    Single,
    Double,
}

fn number(zero_based: usize) -> u32 {
    u32::try_from(zero_based).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, start: &str, value: &str) -> Vec<(u32, u32)> {
        let at = text.find(start).map(|b| text[..b].chars().count()).unwrap();
        let all = Text::new(text);
        let end = text.chars().count();
        all.scalar_places(at, end, value).iter().map(|s| (s.line, s.column)).collect()
    }

    #[test]
    fn a_literal_block_maps_line_by_line() {
        let places = shown("sql: |\n  SELECT a,\n    b\n", "SELECT", "SELECT a,\n  b\n");
        assert_eq!(places[0], (2, 3));
        assert_eq!(places[7], (2, 10));
        let b = "SELECT a,\n  b".chars().count() - 1;
        assert_eq!(places[b], (3, 5));
    }

    #[test]
    fn folds_quotes_and_escapes_are_followed() {
        let folded = shown("sql: >-\n  one\n  two\n", "one", "one two");
        assert_eq!(folded[4], (3, 3));
        let single = shown("sql: 'it''s x'", "'it", "it's x");
        assert_eq!((single[3], single[5]), ((1, 11), (1, 13)));
        let double = shown("sql: \"a\\tb \\\n  c \\u00e9 d\"", "\"a", "a\tb c é d");
        assert_eq!(
            (double[2], double[4], double[6], double[8]),
            ((1, 10), (2, 3), (2, 5), (2, 12))
        );
        let block = shown("sql: |  # quoted\n\n  'a' b\n", "'a'", "'a' b\n");
        assert_eq!(block[4], (3, 7));
        let plain = shown("sql: SELECT é,\n   b", "SELECT", "SELECT é, b");
        assert_eq!(plain[10], (2, 4));
    }
}
