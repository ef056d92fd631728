//! From lines to statements: where one ends, and whether one has begun.
//!
//! A statement ends at a `;` outside of quotes and comments. Nothing is parsed beyond that.

/// Lines that were given and are not answered yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    text: String,
}

impl Input {
    /// Takes a line.
    pub fn push(&mut self, line: &str) {
        self.text.push_str(line.trim_end_matches(['\n', '\r']));
        self.text.push('\n');
    }

    /// The next whole statement, without its `;`. Empty ones are passed over.
    pub fn next_statement(&mut self) -> Option<String> {
        while let Some(end) = end_of_statement(&self.text) {
            let statement = self.text[..end].trim().to_string();
            self.text = self.text[end + 1..].to_string();
            if !is_blank(&statement) {
                return Some(statement);
            }
        }
        None
    }

    /// What was begun and never ended; none when that is nothing.
    pub fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.text).trim().to_string();
        (!is_blank(&rest)).then_some(rest)
    }

    /// Whether no statement has begun.
    pub fn is_blank(&self) -> bool {
        is_blank(&self.text)
    }

    /// What was begun.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What a piece of SQL text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// One character of code, at this byte.
    Code(usize, char),
    /// Something in quotes.
    Quoted,
    /// Something that says nothing.
    Comment,
}

/// The byte of the first `;` that ends a statement.
fn end_of_statement(text: &str) -> Option<usize> {
    pieces(text).find_map(|piece| match piece {
        Piece::Code(at, ';') => Some(at),
        _ => None,
    })
}

/// Whether there is nothing but space and comments.
fn is_blank(text: &str) -> bool {
    pieces(text).all(|piece| match piece {
        Piece::Code(_, c) => c.is_whitespace(),
        Piece::Quoted => false,
        Piece::Comment => true,
    })
}

fn pieces(text: &str) -> impl Iterator<Item = Piece> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let first = rest.chars().next()?;
        let (piece, length) = match first {
            // A doubled quote ends one and begins the next, which comes to the same.
            '\'' | '"' => (Piece::Quoted, closed(rest, 1, &first.to_string())),
            '-' if rest.starts_with("--") => (Piece::Comment, closed(rest, 2, "\n")),
            '/' if rest.starts_with("/*") => (Piece::Comment, closed(rest, 2, "*/")),
            _ => (Piece::Code(at, first), first.len_utf8()),
        };
        at += length;
        Some(piece)
    })
}

/// The length of what began `from` bytes before and goes to the next `end`, or to the text's end.
fn closed(text: &str, from: usize, end: &str) -> usize {
    text[from..].find(end).map_or(text.len(), |at| from + at + end.len())
}
