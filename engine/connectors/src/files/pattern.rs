//! Paths with wildcards.
//!
//! In: `./data/**/2024-*.csv`. Out: the folder that is listed, and which of the files below it are
//! meant. It lists nothing itself.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use sluice_core::{Error, Result};

/// A path as it is written in the job.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: String,
    base: String,
    wild: Option<Wild>,
}

#[derive(Debug, Clone)]
struct Wild {
    matcher: GlobMatcher,
    /// Whether the pattern itself names files or folders that begin with `_` or `.`.
    hidden: bool,
    flat: bool,
}

impl Pattern {
    /// Reads a path. Errors: `Config` when it is empty or its brackets do not close.
    pub(super) fn new(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            let error = Error::config("the path is empty");
            return Err(error.hint("name a file, a folder or a pattern"));
        }
        let text = text.to_string();
        let Some(first) = text.find(['*', '?', '[', '{']) else {
            return Ok(Self { base: text.clone(), text, wild: None });
        };
        let (base, rest) = match text[..first].rfind('/') {
            Some(0) => ("/", &text[1..]),
            Some(slash) => (&text[..slash], &text[slash + 1..]),
            None => (".", &text[..]),
        };
        let glob = GlobBuilder::new(rest).literal_separator(true).build().map_err(|e| {
            Error::config(format!("not a pattern path={text:?}"))
                .hint("use *, ?, **, [a-z] and {a,b}; write [[] for a bracket in a name")
                .because(e)
        })?;
        let hidden = rest.split('/').any(is_hidden);
        let flat = !rest.contains('/') && !rest.contains("**");
        let wild = Wild { matcher: glob.compile_matcher(), hidden, flat };
        Ok(Self { base: base.to_string(), wild: Some(wild), text })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The file or folder that the pattern begins with.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Whether the base may itself be the file that is meant.
    pub(super) fn is_plain(&self) -> bool {
        self.wild.is_none()
    }

    /// Whether only files directly in the base can be meant, so that nothing below it is listed.
    pub(super) fn is_flat(&self) -> bool {
        self.wild.as_ref().is_some_and(|wild| wild.flat)
    }

    /// Whether a file at `path`, a path or URL, is meant.
    pub(super) fn takes(&self, path: &str, endings: &[&str]) -> bool {
        let (path, base) = (whole(path), whole(&self.base));
        let relative = path.strip_prefix(base).ok().and_then(Path::to_str);
        relative.is_some_and(|relative| self.admits(relative, endings))
    }

    /// Whether the file at `relative` to the base is meant. A folder means its files with one of
    /// `endings`. Names that begin with `_` or `.` are work in progress or other systems' notes,
    /// and are meant only when the pattern names them.
    pub(super) fn admits(&self, relative: &str, endings: &[&str]) -> bool {
        match &self.wild {
            Some(wild) => {
                let shown = wild.hidden || !relative.split('/').any(is_hidden);
                shown && wild.matcher.is_match(relative)
            }
            None => {
                !relative.split('/').any(is_hidden)
                    && endings.iter().any(|e| ends_with(relative, e))
            }
        }
    }
}

/// A path or URL to be compared with others.
fn whole(path: &str) -> PathBuf {
    match path.contains("://") {
        true => Path::new(path).components().collect(),
        false => std::path::absolute(path).unwrap_or_else(|_| path.into()),
    }
}

/// Whether a path has this ending, in any case.
fn ends_with(path: &str, ending: &str) -> bool {
    let from = path.len().checked_sub(ending.len());
    from.is_some_and(|from| path.as_bytes()[from..].eq_ignore_ascii_case(ending.as_bytes()))
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_choose_below_the_folder_before_them() {
        let cases = [
            ("data/*.csv", "data", "a.csv", true),
            ("data/*.csv", "data", "sub/a.csv", false),
            ("data/**/*.csv", "data", "sub/deep/a.csv", true),
            ("data/**/*.csv", "data", "a.csv", true),
            ("s3://bucket/2024-??/x[0-9].csv", "s3://bucket", "2024-01/x7.csv", true),
            ("s3://bucket/2024-??/x[0-9].csv", "s3://bucket", "2024-01/xy.csv", false),
            ("*.csv", ".", "a.csv", true),
            ("/*.csv", "/", "a.csv", true),
            ("data/{a,b}.csv", "data", "b.csv", true),
            ("lake/**/*.csv", "lake", "_sluice/job/a.csv", false),
            ("lake/_old/*.csv", "lake/_old", "a.csv", true),
            ("lake/*/_old/*.csv", "lake", "x/_old/a.csv", true),
            ("data", "data", "sub/a.CSV", true),
            ("data", "data", "sub/a.csv.gz", true),
            ("data", "data", "sub/a.txt", false),
            ("data", "data", ".hidden/a.csv", false),
        ];
        for (text, base, relative, meant) in cases {
            let pattern = Pattern::new(text).unwrap();
            assert_eq!(pattern.base(), base, "{text}");
            assert!(!pattern.is_flat() || !relative.contains('/') || !meant, "{text}");
            let endings = [".csv", ".csv.gz"];
            assert_eq!(pattern.admits(relative, &endings), meant, "{text} {relative}");
        }
        let here = std::env::current_dir().unwrap().join("data/sub/a.csv").display().to_string();
        let cases = [
            ("./data", "data/sub/a.csv", true),
            ("data/**/*.csv", here.as_str(), true),
            ("data/*.csv", here.as_str(), false),
            ("s3://bucket/in", "s3://bucket/in/a.csv", true),
            ("s3://bucket/in", "s3://bucket/inner/a.csv", false),
            ("s3://bucket/in", "in/a.csv", false),
        ];
        for (text, path, taken) in cases {
            assert_eq!(Pattern::new(text).unwrap().takes(path, &[".csv"]), taken, "{text} {path}");
        }
        assert!(Pattern::new("data/[a").is_err());
        assert!(Pattern::new(" ").is_err());
    }
}
