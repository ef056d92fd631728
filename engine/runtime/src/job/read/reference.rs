//! `${vars.x}` and `${secrets.x}` inside the texts of a job file.
//!
//! In: a text and the values of the variables. Out: the value it stands for, with the origin of
//! every character, or what is wrong with it. A reference that is the whole text keeps the type of
//! its variable; a secret stays a reference, so that its value is never in a tree that may be shown.

use serde_json::Value;

use super::scope::Scope;
use crate::job::suggest;

/// A text after interpolation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expanded {
    /// Nothing to replace.
    Same,
    /// A new text, and for each of its characters the index of the character it came from.
    Text(String, Vec<usize>),
    /// The text was one reference, and this is the variable's value.
    Value(Value),
    /// The text was one reference to a secret, and stays so.
    Secret(String),
}

/// Message and hint.
pub(super) type Wrong = (String, String);

/// Replaces the references in `text`; `$${` stands for `${`.
pub(super) fn expand(text: &str, scope: &Scope) -> Result<Expanded, Wrong> {
    let pieces = split(text)?;
    match pieces.as_slice() {
        [] | [Piece::Text(_)] => return Ok(Expanded::Same),
        [Piece::Reference(name, _)] => return whole(name, scope),
        _ => {}
    }
    let mut out = String::new();
    let mut origins = Vec::new();
    let mut at = 0;
    for piece in pieces {
        match piece {
            Piece::Text(part) => {
                out.push_str(part);
                let count = part.chars().count();
                origins.extend(at..at + count);
                at += count;
            }
            Piece::Escape => {
                out.push_str("${");
                origins.extend([at + 1, at + 2]);
                at += 3;
            }
            Piece::Reference(name, width) => {
                let value = inside(name, scope)?;
                origins.extend(std::iter::repeat_n(at, value.chars().count()));
                out.push_str(&value);
                at += width;
            }
        }
    }
    origins.push(at);
    Ok(Expanded::Text(out, origins))
}

/// The names of the variables that `text` refers to.
pub(super) fn variables(text: &str) -> Vec<&str> {
    let pieces = split(text).unwrap_or_default();
    let names = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Reference(name, _) => name.strip_prefix("vars."),
        _ => None,
    });
    names.collect()
}

/// A scalar as it is written into text.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[derive(Debug, Clone, Copy)]
enum Piece<'a> {
    Text(&'a str),
    /// `$${`
    Escape,
    /// What stands between the braces, trimmed, and how many characters the whole takes.
    Reference(&'a str, usize),
}

fn split(text: &str) -> Result<Vec<Piece<'_>>, Wrong> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            push_text(&mut pieces, before);
            pieces.push(Piece::Escape);
            rest = &rest[at + 2..];
            continue;
        }
        push_text(&mut pieces, &rest[..at]);
        let Some(length) = rest[at..].find('}') else {
            let hint = "close it: ${vars.name}; to write `${` itself, double the dollar: $${";
            return Err(("a reference is not closed".into(), hint.into()));
        };
        let whole = &rest[at..=at + length];
        let name = whole[2..whole.len() - 1].trim();
        pieces.push(Piece::Reference(name, whole.chars().count()));
        rest = &rest[at + length + 1..];
    }
    push_text(&mut pieces, rest);
    Ok(pieces)
}

fn push_text<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

fn whole(name: &str, scope: &Scope) -> Result<Expanded, Wrong> {
    if let Some(secret) = name.strip_prefix("secrets.") {
        if scope.secrets.contains_key(secret) {
            return Ok(Expanded::Secret(secret.to_string()));
        }
        let hint = suggest::names(secret, scope.secrets.keys(), "declare it under `secrets:`");
        return Err((format!("no such secret name={secret}"), hint));
    }
    variable(name, scope).map(|value| Expanded::Value(value.clone()))
}

fn inside(name: &str, scope: &Scope) -> Result<String, Wrong> {
    if name.starts_with("secrets.") {
        let hint = "write \"${secrets.name}\" as the whole value of a connector's setting";
        return Err(("a secret cannot be part of a text".into(), hint.into()));
    }
    variable(name, scope).map(written)
}

fn variable<'a>(name: &str, scope: &'a Scope) -> Result<&'a Value, Wrong> {
    let Some(variable) = name.strip_prefix("vars.") else {
        return Err((format!("not a reference text={name}"), unknown_kind(name)));
    };
    scope.vars.get(variable).ok_or_else(|| {
        let hint = suggest::names(variable, scope.vars.keys(), "declare it under `vars:`");
        (format!("no such variable name={variable}"), hint)
    })
}

fn unknown_kind(name: &str) -> String {
    if let Some(variable) = name.strip_prefix("env.") {
        return format!(
            "for a secret write `secrets: {{name: {{env: {variable}}}}}` and ${{secrets.name}}; \
             for anything else a variable and --set"
        );
    }
    "use ${vars.name} or ${secrets.name}; to write `${` itself, double the dollar: $${".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let vars = [("n", Value::from(5)), ("lake", Value::from("./l"))];
        Scope {
            vars: vars.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
            secrets: [("token".to_string(), None)].into_iter().collect(),
            ..Scope::default()
        }
    }

    #[test]
    fn a_whole_reference_keeps_its_type_and_a_part_is_formatted() {
        let scope = scope();
        assert_eq!(expand("${vars.n}", &scope), Ok(Expanded::Value(5.into())));
        assert_eq!(expand("${secrets.token}", &scope), Ok(Expanded::Secret("token".into())));
        assert_eq!(expand("plain $5", &scope), Ok(Expanded::Same));
        let Ok(Expanded::Text(text, origins)) = expand("a${ vars.lake }/$${x}", &scope) else {
            unreachable!("a text is expected");
        };
        assert_eq!(text, "a./l/${x}");
        assert_eq!(origins, [0, 1, 1, 1, 15, 17, 18, 19, 20, 21]);
    }

    #[test]
    fn wrong_references_say_what_to_write() {
        for (text, message, hint) in [
            ("${vars.laek}", "no such variable name=laek", "did you mean lake?"),
            ("x${secrets.token}", "a secret cannot be part of a text", "whole value"),
            ("${env.HOME}", "not a reference text=env.HOME", "{env: HOME}"),
            ("${vars.n", "a reference is not closed", "close it"),
        ] {
            let (found, advice) = expand(text, &scope()).err().unwrap_or_default();
            assert_eq!(found, message);
            assert!(advice.contains(hint), "{advice}");
        }
    }
}
