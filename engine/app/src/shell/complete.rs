//! What the Tab key offers: words of SQL, tables, columns of the tables that are named.
//!
//! In: what stands before the cursor. Out: candidates for the word that is being written. It looks
//! at words only: a statement is rarely whole while it is being written.

use super::names::Names;

/// Words of SQL that people write in queries.
const WORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CROSS",
    "DATE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SHOW",
    "SUM",
    "TABLES",
    "THEN",
    "TIMESTAMP",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Words after which a table is named.
const BEFORE_TABLES: &[&str] = &["FROM", "JOIN", "DESCRIBE", "TABLE", "\\D", "\\DT"];

/// Where the word at the end of `line` begins, and what it may become. `before` are the lines of
/// the statement before this one.
pub fn candidates(names: &Names, before: &str, line: &str) -> (usize, Vec<String>) {
    let start = line
        .rfind(|c: char| !is_word(c))
        .map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
    let (word, text) = (&line[start..], format!("{before} {}", &line[..start]));
    let mut found = match word.rsplit_once('.') {
        Some((table, _)) if names.columns(table).is_some() => qualified(names, table),
        _ if after_table_word(&text) => tables(names),
        _ => anything(names, &text, word),
    };
    found.retain(|c| c.to_lowercase().starts_with(&word.to_lowercase()));
    found.sort();
    found.dedup();
    (start, found)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '"')
}

fn after_table_word(text: &str) -> bool {
    let last = text.split_whitespace().next_back().unwrap_or_default().to_uppercase();
    BEFORE_TABLES.contains(&last.as_str())
}

fn tables(names: &Names) -> Vec<String> {
    names.tables().iter().map(|table| table.name.clone()).collect()
}

fn qualified(names: &Names, table: &str) -> Vec<String> {
    let columns = names.columns(table).unwrap_or_default();
    columns.iter().map(|(name, _)| format!("{table}.{}", quoted(name))).collect()
}

/// Words in the case they are begun in, tables, and columns: those of the tables that are named,
/// or of all while none is.
fn anything(names: &Names, text: &str, word: &str) -> Vec<String> {
    let lower = word.chars().next().is_some_and(char::is_lowercase);
    let cased = |w: &&str| if lower { w.to_lowercase() } else { (*w).to_string() };
    let mut found: Vec<String> = WORDS.iter().map(cased).collect();
    found.extend(tables(names));
    let said: Vec<&str> = text.split(|c| !is_word(c)).collect();
    let named = |name: &str| said.iter().any(|w| w.eq_ignore_ascii_case(name));
    let any = names.tables().iter().any(|table| named(&table.name));
    for table in names.tables().iter().filter(|table| !any || named(&table.name)) {
        found.extend(table.columns.iter().map(|(name, _)| quoted(name)));
    }
    found
}

/// A column as it has to be written: names that are not in lower case need quotes.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if begins && name.chars().all(plain) {
        return name.to_string();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}
