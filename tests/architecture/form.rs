//! Form: how long files and functions are, what they open with, how many lie in a folder, and
//! that no lint is switched off in passing.

use std::collections::BTreeMap;

use super::code::{Code, is_word};

/// Code lines of a file; [`FILE_LINES_WITH_REASON`] when its header says why.
const FILE_LINES: usize = 400;
const FILE_LINES_WITH_REASON: usize = 500;
/// What a header says when its file is longer than [`FILE_LINES`].
const REASON: &str = "over 400 lines because";
/// Code lines of a function, its signature included.
const FUNCTION_LINES: usize = 70;
const FILES_IN_FOLDER: usize = 14;
const FOLDERS_BELOW_SRC: usize = 2;
/// Where the real clock and the real ids are.
const REAL_CLOCK: [&str; 1] = ["engine/app/src/clock.rs"];

/// What is wrong with one file's form.
pub fn check(path: &str, code: &Code) -> Vec<String> {
    let mut findings = Vec::new();
    if !code.text.starts_with("//! ") {
        findings.push(format!("{path}: does not open with `//!` saying what it is for"));
    }
    let lines = code.lines_in(0..code.code.len());
    let flat = code.header().replace("\n//!", "");
    let limit = if flat.contains(REASON) { FILE_LINES_WITH_REASON } else { FILE_LINES };
    if lines > limit {
        findings.push(format!("{path}: {lines} code lines, limit {limit}"));
    }
    for (line, name, lines) in functions(code) {
        if lines > FUNCTION_LINES {
            let limit = FUNCTION_LINES;
            findings.push(format!("{path}:{line}: fn {name} has {lines} lines, limit {limit}"));
        }
    }
    for marker in ["TO\u{44}O", "FIX\u{4d}E", "XX\u{58}"] {
        for (number, line) in code.comments.lines().enumerate() {
            if line.contains(marker) {
                findings.push(format!("{path}:{}: a note of work left to do", number + 1));
            }
        }
    }
    findings
}

/// Line, name and length of every function with a body.
fn functions(code: &Code) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for start in code.words("fn") {
        let after = code.code[start + 2..].trim_start();
        let name: String = after.chars().take_while(|c| is_word(*c)).collect();
        if name.is_empty() {
            continue;
        }
        if let Some(open) = body_start(code, start) {
            let lines = code.lines_in(start..code.block_end(open));
            found.push((code.line_of(start), name, lines));
        }
    }
    found
}

/// Where the body opens, or none for a signature that ends with a semicolon.
fn body_start(code: &Code, start: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (at, c) in code.code[start..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(start + at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Folders with too many files or too deep below `src`.
pub fn check_folders(paths: &[String]) -> Vec<String> {
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for path in paths {
        let Some((folder, _)) = path.rsplit_once('/') else { continue };
        *files.entry(folder).or_default() += 1;
        if let Some((_, below)) = folder.split_once("/src/") {
            let depth = below.split('/').count();
            if depth > FOLDERS_BELOW_SRC {
                findings.push(format!("{path}: {depth} folders below src"));
            }
        }
    }
    for (folder, count) in files {
        if count > FILES_IN_FOLDER {
            findings.push(format!("{folder}: {count} files, limit {FILES_IN_FOLDER}"));
        }
    }
    findings
}

/// Lints that are switched off, tests that are, and code that is missing.
pub fn check_lints(path: &str, code: &Code) -> Vec<String> {
    let squeezed: Vec<(usize, String)> = code
        .code
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.replace(' ', "")))
        .collect();
    let mut findings = Vec::new();
    for (line, text) in &squeezed {
        for banned in ["#[allow(", "#![allow(", "#[ignore", "todo!(", "unimplemented!("] {
            if text.contains(banned) {
                findings.push(format!("{path}:{line}: `{banned}` is not used here"));
            }
        }
    }
    if code.words("disallowed_methods").next().is_some() && !REAL_CLOCK.contains(&path) {
        findings.push(format!("{path}: takes the real time or a random id: inject it"));
    }
    for at in code.words("expect") {
        let rest = &code.code[at..];
        let attribute = code.code[..at].trim_end().ends_with(['[', ',', '(']);
        if attribute && rest.starts_with("expect(") && !rest.starts_with("expect()") {
            let end = code.block_end(at + "expect".len());
            if rest.contains("clippy") && !code.code[at..end].contains("reason") {
                findings.push(format!("{path}:{}: expect without a reason", code.line_of(at)));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> String {
        "let x = 1;\n".repeat(count)
    }

    fn found(text: &str) -> String {
        check("a.rs", &Code::new(text)).join("\n")
    }

    #[test]
    fn long_files_are_found_unless_they_say_why() {
        assert_eq!(found(&format!("//! Good.\n{}", lines(400))), "");
        assert!(found(&format!("//! Bad.\n{}", lines(401))).contains("401 code lines"));
        let why = "//! Long, over 400 lines\n//! because the grammar is one table.\n";
        assert_eq!(found(&format!("{why}{}", lines(500))), "");
        assert!(found(&format!("{why}{}", lines(501))).contains("limit 500"));
        assert_eq!(found(&format!("//! Comments are free.\n{}", "// a\n\n".repeat(900))), "");
    }

    #[test]
    fn long_functions_are_found_by_name() {
        let function = |n| format!("//! F.\nfn f(a: [u8; 2]) {{\n{}}}\nfn g() {{}}\n", lines(n));
        assert_eq!(found(&function(68)), "");
        assert!(found(&function(69)).contains("a.rs:2: fn f has 71 lines"));
        assert_eq!(found(&format!("//! T.\ntrait T {{ fn f(&self); }}\n{}", lines(80))), "");
    }

    #[test]
    fn missing_headers_and_work_left_are_found() {
        assert!(found("use x;\n").contains("does not open"));
        assert!(found("//! A.\n// TO\u{44}O later\n").contains("a.rs:2: a note"));
        assert_eq!(found("//! A.\nlet s = \"TO\u{44}O\";\n"), "");
    }

    #[test]
    fn crowded_and_deep_folders_are_found() {
        let crowd: Vec<String> = (0..15).map(|n| format!("engine/x/src/a/{n}.rs")).collect();
        assert!(check_folders(&crowd)[0].contains("15 files"));
        assert!(check_folders(&crowd[..14]).is_empty());
        let deep = ["engine/x/src/a/b/c/d.rs".to_string()];
        assert!(check_folders(&deep)[0].contains("3 folders below src"));
        assert!(check_folders(&["engine/x/src/a/b/d.rs".to_string()]).is_empty());
    }

    #[test]
    fn bypassed_lints_are_found() {
        let found = |path: &str, text: &str| check_lints(path, &Code::new(text)).join("\n");
        assert!(found("a.rs", "#[ allow(dead_code)]").contains("a.rs:1"));
        assert!(found("a.rs", "#[ignore]\nfn x() { todo!() }").contains("a.rs:2"));
        let clock = "#[expect(clippy::disallowed_methods, reason = \"the real clock\")]";
        assert!(found("engine/lake/src/x.rs", clock).contains("real time"));
        assert_eq!(found(REAL_CLOCK[0], clock), "");
        assert!(found("a.rs", "#[expect(clippy::x)]\nfn f() {}").contains("without a reason"));
        assert_eq!(found("a.rs", "let x = y.expect(\"clippy\"); // #[allow(x)]"), "");
    }
}
