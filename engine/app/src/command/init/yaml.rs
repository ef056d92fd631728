//! Values and comments as they stand in a YAML file that people are going to edit.
//!
//! In: JSON values, sentences. Out: text. It writes the few forms that job files need.

use serde_json::Value;

/// Comments are broken here.
const WIDTH: usize = 100;

/// A value on one line.
pub(super) fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A text, in quotes where it would mean something else without.
pub(super) fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.' || c == '/');
    let word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    let number = text.parse::<f64>().is_ok() || text.starts_with(".i") || text.starts_with(".n");
    if starts && text.chars().all(plain) && !word && !number {
        return text.to_string();
    }
    // JSON's strings are YAML's, but for what JSON leaves as it stands and YAML does not take.
    Value::from(text).to_string().chars().map(escaped).collect()
}

fn escaped(c: char) -> String {
    match c {
        '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{2028}' | '\u{2029}' => {
            format!("\\u{:04x}", u32::from(c))
        }
        c => c.to_string(),
    }
}

/// Sentences as comment lines, `indent` spaces in.
pub(super) fn comment(indent: usize, text: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let word: String = word.chars().flat_map(char::escape_debug_if_control).collect();
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && indent + 2 + line.chars().count() + 1 + word.chars().count() > WIDTH
        {
            lines.push(word);
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
    }
    lines.iter().map(|line| format!("{}# {line}\n", " ".repeat(indent))).collect()
}

trait EscapeControl {
    fn escape_debug_if_control(self) -> Vec<char>;
}

impl EscapeControl for char {
    /// Data must not end a comment.
    fn escape_debug_if_control(self) -> Vec<char> {
        if self.is_control() || matches!(self, '\u{feff}' | '\u{2028}' | '\u{2029}') {
            self.escape_unicode().collect()
        } else {
            vec![self]
        }
    }
}
