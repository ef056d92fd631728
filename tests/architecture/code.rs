//! Rust text with its comments and literals told apart from its code.
//!
//! In: the text of a file. Out: the same text twice, once with everything but code blanked and
//! once with everything but comments, line by line the same. It is a scanner, not a parser: it
//! knows tokens, not grammar.

use std::ops::Range;

/// A file's text, split.
pub struct Code {
    /// As it stands.
    pub text: String,
    /// Code only: comments are spaces, literals are filled with quotes.
    pub code: String,
    /// Comments only.
    pub comments: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

impl Code {
    pub fn new(text: &str) -> Self {
        let mut code = String::with_capacity(text.len());
        let mut comments = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let previous = code.chars().next_back();
            let (part, length) = next(rest, first, previous);
            for c in rest[..length].chars() {
                let blank = if c == '\n' { '\n' } else { ' ' };
                let filled = if c.is_whitespace() { c } else { '"' };
                code.push(match part {
                    Part::Code => c,
                    Part::Comment => blank,
                    Part::Literal => filled,
                });
                comments.push(if part == Part::Comment { c } else { blank });
            }
            rest = &rest[length..];
        }
        Self { text: text.to_string(), code, comments }
    }

    /// The `//!` lines at the top, joined.
    pub fn header(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with("//!"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Lines with code on them, within `range` of [`Code::code`].
    pub fn lines_in(&self, range: Range<usize>) -> usize {
        self.code[range].lines().filter(|line| !line.trim().is_empty()).count()
    }

    /// The line number, from 1, of a place in [`Code::code`].
    pub fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    /// Places where `word` stands alone in the code.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let before = self.code[..*at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    }

    /// The end of the block that opens at `open`, just past its closing bracket.
    pub fn block_end(&self, open: usize) -> usize {
        let mut depth = 0i32;
        for (at, c) in self.code[open..].char_indices() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return open + at + 1;
            }
        }
        self.code.len()
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn next(rest: &str, first: char, previous: Option<char>) -> (Part, usize) {
    let inside_word = previous.is_some_and(is_word);
    if rest.starts_with("//") {
        return (Part::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Part::Comment, block_comment(rest));
    }
    if !inside_word && let Some(length) = raw_string(rest) {
        return (Part::Literal, length);
    }
    match first {
        '"' => (Part::Literal, quoted(rest, '"')),
        '\'' => match character(rest) {
            Some(length) => (Part::Literal, length),
            None => (Part::Code, 1),
        },
        _ => (Part::Code, first.len_utf8()),
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let start = ["r", "br", "cr"].iter().find_map(|prefix| {
        let after = rest.strip_prefix(prefix)?;
        after.starts_with(['"', '#']).then_some(prefix.len())
    })?;
    let hashes = rest[start..].chars().take_while(|c| *c == '#').count();
    let body = rest[start + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let closed = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(start + hashes + 1 + closed)
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal, or none for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        return Some(quoted(rest, '\''));
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(at + 1)
}

#[test]
fn comments_and_literals_are_not_code() {
    let code = Code::new(
        "let a = \"// {\"; // fn x() {\nlet b = 'x'; let c: &'static str = r#\"}\"#; /* { /* */ */ f()",
    );
    assert!(!code.code.contains('{') && !code.code.contains('}'), "{}", code.code);
    assert!(code.code.contains("let b =") && code.code.contains("'static str"), "{}", code.code);
    assert!(code.code.ends_with("f()"), "{}", code.code);
    assert!(code.comments.contains("fn x() {") && !code.comments.contains("let"));
    assert_eq!(code.code.lines().count(), code.text.lines().count());
}
