//! Module ladders: inside a crate, a module uses only those before it.
//!
//! References are `crate::name` and a chain of `super::` that reaches the root, plain or in
//! braces. A module named `testing` may use all and be used by all.

use super::code::{Code, is_word};

/// One crate's ladder, lowest step first.
pub struct Ladder {
    /// The crate's sources.
    pub source: &'static str,
    /// Its modules.
    pub steps: &'static [&'static str],
}

pub const LAKE: Ladder = Ladder {
    source: "engine/lake/src/",
    steps: &["store", "manifest", "parquet", "delta", "table", "snapshot", "maintain"],
};

pub const RUNTIME: Ladder = Ladder {
    source: "engine/runtime/src/",
    steps: &[
        "job", "function", "catalog", "plan", "state", "operator", "view", "outbox", "epoch",
        "recover", "query", "verify", "status", "schedule", "maintain", "replay",
    ],
};

/// A module that stands outside every ladder.
const FREE: &str = "testing";

/// Uses of a higher module in one file of the ladder's crate.
pub fn check(ladder: &Ladder, path: &str, code: &Code) -> Vec<String> {
    let Some(inside) = path.strip_prefix(ladder.source) else { return Vec::new() };
    let modules = module_path(inside);
    let Some(own) = modules.first() else { return Vec::new() };
    if own == FREE {
        return Vec::new();
    }
    let Some(step) = ladder.steps.iter().position(|name| name == own) else {
        return vec![format!("{path}: module {own} is not on the crate's ladder")];
    };
    let mut findings = Vec::new();
    for (offset, name) in references(code, modules.len()) {
        let place = format!("{path}:{}", code.line_of(offset));
        match ladder.steps.iter().position(|other| *other == name) {
            Some(other) if other > step => findings.push(format!("{place}: {own} uses {name}")),
            Some(_) => {}
            None if name == FREE || !name.starts_with(|c: char| c.is_lowercase()) => {}
            None => findings.push(format!("{place}: {own} uses {name}, which is not a step")),
        }
    }
    findings
}

/// `delta/log.rs` → `[delta, log]`; `delta/mod.rs` → `[delta]`; the root itself → `[]`.
fn module_path(inside: &str) -> Vec<String> {
    let stem = inside.strip_suffix(".rs").unwrap_or(inside);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if stem == "lib" || stem == "main" {
        return Vec::new();
    }
    stem.split('/').map(str::to_string).collect()
}

/// Names that the file takes from the crate's root, and where.
fn references(code: &Code, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in code.words("crate") {
        if let Some(rest) = code.code[at..].strip_prefix("crate::") {
            found.extend(heads(rest).into_iter().map(|name| (at, name)));
        }
    }
    let inline = inline_modules(code);
    for at in code.words("super") {
        if code.code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &code.code[at..];
        let mut ups = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            rest = after;
            ups += 1;
        }
        let here = depth + inline.iter().filter(|range| range.contains(&at)).count();
        if ups == here {
            found.extend(heads(rest).into_iter().map(|name| (at, name)));
        }
    }
    found
}

/// The first names of a path: one, or each in a group of braces.
fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect();
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let mut depth = 0;
    let mut names = vec![word(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name: &String| !name.is_empty());
    names
}

fn inline_modules(code: &Code) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    for at in code.words("mod") {
        let end = code.code[at..].find(['{', ';']).map(|end| at + end);
        if let Some(open) = end.filter(|open| code.code[*open..].starts_with('{')) {
            found.push(open..code.block_end(open));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&LAKE, path, &Code::new(text))
    }

    #[test]
    fn arrows_up_are_found_however_they_are_written() {
        let file = "engine/lake/src/manifest/chain.rs";
        for text in [
            "use crate::delta::Head;",
            "use crate::{store::Store, delta::{self, Head}};",
            "fn f() { crate::table::lookup() }",
            "use super::super::delta;",
            "mod tests { use super::super::super::delta; }",
        ] {
            assert_eq!(found(file, text).len(), 1, "{text}");
        }
        assert!(found(file, "use crate::delta::Head;")[0].contains("chain.rs:1: manifest uses"));
    }

    #[test]
    fn arrows_down_and_sideways_are_not() {
        let file = "engine/lake/src/manifest/chain.rs";
        for text in [
            "use crate::store::{Store, Location}; use super::types::Manifest;",
            "use crate::manifest::Lease; use crate::testing::faults;",
            "// crate::delta is above\nconst A: &str = \"crate::delta\";",
            "mod tests { use super::super::seal::Sealed; }",
        ] {
            assert_eq!(found(file, text), Vec::<String>::new(), "{text}");
        }
        assert!(found("engine/lake/src/testing/mod.rs", "use crate::maintain;").is_empty());
        assert!(found("engine/lake/src/lib.rs", "use crate::maintain;").is_empty());
    }

    #[test]
    fn modules_off_the_ladder_are_found() {
        assert!(found("engine/lake/src/cache.rs", "")[0].contains("not on the crate's ladder"));
        let stray = found("engine/lake/src/table/mod.rs", "use crate::helpers::x;");
        assert!(stray[0].contains("not a step"));
    }
}
