//! How long a statement may be.
//!
//! In: the text of a statement. Out: nothing, or what is too long about it. Text is looked at
//! before anything is read from it: a chain of operators becomes a tree as deep as it is long,
//! which is planned, copied and dropped recursively. A stack that is too small for one ends the
//! process, and planning cannot be ended when its time is over. What is read from it is looked at
//! in `breadth`.

use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use sluice_core::{Error, Result};

use super::breadth::check_statement;

/// Bytes: people write less, and programs that write more have lost their way.
const BYTES_MAX: usize = 256 << 10;

/// Words, names of columns and relations among them: several times those of the longest statements
/// that people keep.
const WORDS_MAX: usize = 5_000;

/// Operators with no comma between them, those around brackets included: seven hundred are planned
/// within a second or two, ten thousand not within minutes.
const CHAIN_MAX: usize = 750;

/// Words that are not counted: each column that a page of rows is ordered by has three of them.
const ORDER: [Keyword; 5] =
    [Keyword::ASC, Keyword::DESC, Keyword::NULLS, Keyword::FIRST, Keyword::LAST];

/// Words that make no tree deeper: what stands between them does, as in a `CASE` of many branches.
const FLAT: [Keyword; 10] = [
    Keyword::CASE,
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
    Keyword::END,
    Keyword::SELECT,
    Keyword::ALL,
    Keyword::AS,
    Keyword::FROM,
    Keyword::ON,
];

/// Refuses text of too many bytes. Errors: `Config`, with what helps.
pub(super) fn check_bytes(sql: &str) -> Result<()> {
    if sql.len() <= BYTES_MAX {
        return Ok(());
    }
    let text = format!("the statement is longer than it may be bytes_max={BYTES_MAX}");
    Err(Error::config(text).hint("put long lists into a table and join it"))
}

/// Refuses text that is too long in any way. Errors: `Config`, with what helps.
pub(crate) fn check_text(sql: &str, dialect: &dyn Dialect) -> Result<()> {
    check_bytes(sql)?;
    // What is no SQL is told by who reads it.
    let Ok(tokens) = Tokenizer::new(dialect, sql).tokenize() else { return Ok(()) };
    let is_word = |token: &&Token| match token {
        Token::Word(word) => !ORDER.contains(&word.keyword),
        _ => false,
    };
    let words = tokens.iter().filter(is_word).count();
    if words > WORDS_MAX {
        let text = format!("the statement has more words than it may words_max={WORDS_MAX}");
        return Err(Error::config(text).hint("ask several questions, or make a view of a part"));
    }
    if chain(&tokens) > CHAIN_MAX {
        let text =
            format!("the statement has a longer chain than it may operators_max={CHAIN_MAX}");
        return Err(Error::config(text).hint("write a list, as in `x IN (1, 2, 3)`"));
    }
    Ok(())
}

/// Refuses a question that is too long, or stands for too much. Errors: `Config`, with what helps.
pub(super) fn check(sql: &str) -> Result<()> {
    check_text(sql, &GenericDialect {})?;
    let read = DFParserBuilder::new(sql).build().and_then(|mut parser| parser.parse_statements());
    // What is no SQL is told by who plans it.
    read.iter().flatten().try_for_each(check_statement)
}

/// Between two brackets, or in none.
#[derive(Default)]
struct Level {
    /// Operators since the last comma.
    run: usize,
    /// The longest chain in brackets since then.
    inside: usize,
    /// The longest chain before it.
    most: usize,
}

impl Level {
    /// A comma, or the end.
    fn cut(&mut self) {
        self.most = self.most.max(self.run + self.inside);
        (self.run, self.inside) = (0, 0);
    }
}

/// The longest chain: no tree that is read from `tokens` is much deeper.
fn chain(tokens: &[Token]) -> usize {
    let (mut level, mut around) = (Level::default(), Vec::new());
    for token in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                around.push(std::mem::take(&mut level));
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                level.cut();
                let most = level.most;
                level = around.pop().unwrap_or_default();
                // What stands behind a bracket goes on with what it is around.
                level.run += 1;
                level.inside = level.inside.max(most);
            }
            Token::Comma | Token::SemiColon => level.cut(),
            token => level.run += usize::from(is_operator(token)),
        }
    }
    level.cut();
    level.most
}

/// Whether a token may make a tree deeper: no name and no value does.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword && !FLAT.contains(&word.keyword),
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => false,
        token => !matches!(token, Token::Whitespace(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sql: &str) -> Option<String> {
        check_text(sql, &GenericDialect {}).err().map(|error| error.message().to_string())
    }

    #[test]
    fn what_would_be_a_deep_tree_is_refused_before_it_is_one() {
        let times = |text: &str, count: usize| vec![text; count].join("");
        let deep = [
            format!("SELECT 1{}", times(" + 1", 20_000)),
            format!("SELECT id FROM t WHERE id = 1{}", times(" OR id = 1", 1_000)),
            format!("SELECT a{}", times("[1]", 2_000)),
            format!("SELECT 1{}", times("::int", 2_000)),
            format!("SELECT 1{}", times(" IN (1, 2)", 1_000)),
            format!("SELECT 1{}", times(" NOT NULL", 1_000)),
            format!("SELECT case{}", times(" + when + 1", 500)),
            format!("SELECT CASE WHEN a THEN b{} END", times(" + 1", 800)),
            format!("SELECT {}1{}", times("(", 40), times(&format!("{})", times("+1", 30)), 40)),
        ];
        for sql in &deep {
            let text = refused(sql);
            assert!(text.is_some_and(|text| text.contains("a longer chain")), "{sql:.60}");
        }
        let wordy = format!("SELECT 1, 1{}", times(" UNION ALL SELECT 1, 1", 2_000));
        assert!(refused(&wordy).is_some_and(|text| text.contains("more words")));
        let large = format!("SELECT '{}'", times("x", BYTES_MAX));
        assert!(refused(&large).is_some_and(|text| text.contains("bytes_max")));
    }

    #[test]
    fn what_people_ask_is_let_through() {
        let list = (0..20_000).map(|n| format!("-{n}")).collect::<Vec<_>>().join(", ");
        let branches = (0..700).map(|n| format!(" WHEN a = {n} THEN 'x{n}'")).collect::<String>();
        let names = (0..1_000).map(|n| format!("\"column {n}\"")).collect::<Vec<_>>();
        let order = names.join(" DESC NULLS LAST, ");
        let sums = (0..400).map(|n| format!("sum(a + {n}) AS s{n}")).collect::<Vec<_>>().join(", ");
        for sql in [
            format!("SELECT id FROM t WHERE id IN ({list})"),
            format!("SELECT {sums} FROM t WHERE (a = 1 AND b = 2) OR (a = 3 AND b = 4)"),
            format!("SELECT CASE{branches} ELSE NULL END FROM t"),
            format!("SELECT CASE t.b{branches} END FROM t"),
            format!("SELECT {} FROM t ORDER BY {order} ASC LIMIT 101", names.join(", ")),
            "SELECT 'not closed".to_string(),
            ")))".to_string(),
            String::new(),
        ] {
            assert_eq!(refused(&sql), None, "{sql:.60}");
            assert!(check(&sql).is_ok(), "{sql:.60}");
        }
    }

    #[test]
    fn what_is_read_from_a_text_is_looked_at_too() {
        let stars = vec!["*"; 130_000].join(",");
        let error = check(&format!("SELECT {stars} FROM t")).unwrap_err();
        assert!(error.message().contains("more stars") && error.hint_text().is_some());
        let joined = (0..2_400).map(|n| format!("t a{n}")).collect::<Vec<_>>().join(", ");
        let error = check(&format!("SELECT 1 FROM {joined}")).unwrap_err();
        assert!(error.message().contains("more relations"), "{error:?}");
    }
}
