//! The settings that say how text files are written.
//!
//! In: texts of a `sources:` or `sinks:` entry. Out: a CSV dialect and how values are spelled, or
//! what is wrong with them.

use super::config::SourceConfig;
use crate::format::csv::{Dialect, Spelling};
use crate::settings::Faults;

/// The dialect that an entry describes.
pub(super) fn of_source(faults: &mut Faults, written: &SourceConfig) -> Dialect {
    let quote = written.quote.as_deref();
    let mut dialect = dialect(faults, written.delimiter.as_deref(), quote.filter(|q| *q != "none"));
    if quote == Some("none") {
        dialect.quote = None;
    }
    dialect.encoding = written.encoding.unwrap_or_default();
    dialect.escape = written.escape.as_deref().and_then(|text| one(faults, "/escape", text));
    if dialect.escape == Some(dialect.delimiter)
        || dialect.escape.is_some_and(|e| Some(e) == dialect.quote)
    {
        let hint = match dialect.escape == Some(dialect.delimiter) {
            true => "use different characters",
            false => "remove escape: a doubled quote is understood anyway",
        };
        faults.add("/escape", "escape is the same character as delimiter or quote", hint);
    }
    dialect
}

/// A dialect with these two characters.
pub(crate) fn dialect(
    faults: &mut Faults,
    delimiter: Option<&str>,
    quote: Option<&str>,
) -> Dialect {
    let mut dialect = Dialect::default();
    if let Some(delimiter) = delimiter.and_then(|text| one(faults, "/delimiter", text)) {
        dialect.delimiter = delimiter;
    }
    if let Some(text) = quote {
        dialect.quote = one(faults, "/quote", text).or(dialect.quote);
    }
    if Some(dialect.delimiter) == dialect.quote {
        let hint = "use different characters";
        faults.add("/delimiter", "delimiter and quote are the same character", hint);
    }
    dialect
}

/// The one character of `text`.
fn one(faults: &mut Faults, pointer: &str, text: &str) -> Option<u8> {
    if text == r"\t" {
        return Some(b'\t');
    }
    match text.as_bytes() {
        [b] if b.is_ascii_punctuation() || matches!(b, b'\t' | b' ') => Some(*b),
        _ => {
            let message = format!("not a character that can separate or quote text={text:?}");
            faults.add(pointer, &message, r#"use one such as "," ";" "|" or "\t""#);
            None
        }
    }
}

/// How values are spelled.
pub(super) fn spelling(faults: &mut Faults, written: &SourceConfig) -> Spelling {
    let mut spelling =
        Spelling { encoding: written.encoding.unwrap_or_default(), ..Spelling::default() };
    if let Some(nulls) = &written.null {
        let nulls = nulls.as_slice();
        spelling.empty_is_null = nulls.iter().any(String::is_empty);
        let others = nulls.iter().filter(|null| !null.is_empty());
        spelling.nulls = others.map(|null| null.clone().into_bytes()).collect();
        if let Some(null) = nulls.iter().find(|null| !null.is_ascii()) {
            let message = format!("not a spelling of null text={null:?}");
            faults.add("/null", &message, "use letters, digits and signs of ASCII");
        }
    }
    let mut mark = |pointer: &str, text: &Option<String>, allowed: &[u8]| {
        let text = text.as_ref()?;
        let byte = text.bytes().next().filter(|b| text.len() == 1 && allowed.contains(b));
        if byte.is_none() {
            let message = format!("not a sign that numbers are written with text={text:?}");
            let signs: Vec<String> =
                allowed.iter().map(|b| format!("{:?}", char::from(*b).to_string())).collect();
            faults.add(pointer, &message, &format!("use {}", signs.join(" or ")));
        }
        byte
    };
    let decimal = mark("/decimal", &written.decimal, b".,");
    spelling.thousands = mark("/thousands", &written.thousands, b".,' _");
    spelling.decimal = decimal.unwrap_or(spelling.decimal);
    if spelling.thousands == Some(spelling.decimal) {
        let hint = "say which of them is the decimal sign: `decimal: \",\"`";
        faults.add("/thousands", "thousands and decimal are the same sign", hint);
    }
    spelling
}
