//! A place in a JSON text, and the value there.
//!
//! In: `$.event.ids[0]`, and the text of one value. Out: the scalar at that place as people write
//! it. It reads only as far as it has to and builds nothing.

use sluice_core::{Error, Result};

use crate::format::json::{Cursor, Wrong};

/// A place in a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::webhook) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

impl Path {
    /// Reads `$.event.ids[0]`; the `$` may be left out.
    pub(in crate::webhook) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::config(format!("not a place in JSON path={text}"))
                .hint("write it like $.id or $.event.ids[0]")
        };
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        if !rest.starts_with(['.', '[']) && text.starts_with('$') {
            return Err(wrong());
        }
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (number, behind) = inside.split_once(']').ok_or_else(wrong)?;
                steps.push(Step::Item(number.parse().map_err(|_| wrong())?));
                rest = behind;
                continue;
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return Err(wrong());
            }
            steps.push(Step::Key(rest[..end].to_string()));
            rest = &rest[end..];
        }
        if steps.is_empty() { Err(wrong()) } else { Ok(Self(steps)) }
    }

    /// The place of keys within each other.
    pub(in crate::webhook) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key(key.to_string())).collect())
    }

    /// The scalar there: text without quotes, everything else as it stands; none where there is
    /// nothing, a null, an object or a list. Of a key that comes twice the first counts.
    pub(in crate::webhook) fn pick(&self, json: &[u8]) -> Option<String> {
        // The cursor goes by characters.
        std::str::from_utf8(json).ok()?;
        let mut cursor = Cursor::new(json);
        for step in &self.0 {
            if !step.go(&mut cursor).ok()? {
                return None;
            }
        }
        if matches!(cursor.peek(), Some(b'{' | b'[') | None) {
            return None;
        }
        let mut scratch = Vec::new();
        let value = cursor.scalar(&mut scratch).ok()??;
        String::from_utf8(value.to_vec()).ok()
    }
}

impl Step {
    /// Goes there; says whether there is such a place.
    fn go(&self, cursor: &mut Cursor<'_>) -> Result<bool, Wrong> {
        match self {
            Step::Key(wanted) => {
                if !cursor.take(b'{') || cursor.take(b'}') {
                    return Ok(false);
                }
                let mut scratch = Vec::new();
                loop {
                    let found = cursor.string(&mut scratch)? == wanted.as_bytes();
                    cursor.expect(b':')?;
                    if found {
                        return Ok(true);
                    }
                    cursor.raw()?;
                    if !cursor.take(b',') {
                        return Ok(false);
                    }
                }
            }
            Step::Item(number) => {
                if !cursor.take(b'[') || cursor.take(b']') {
                    return Ok(false);
                }
                for _ in 0..*number {
                    cursor.raw()?;
                    if !cursor.take(b',') {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_where_they_are() {
        let json = br#" {"a": {"b\u0020": [10, {"c": "x\ny"}, null, true]}, "id": -1.50, "a": 3} "#;
        let cases = [
            ("$.id", Some("-1.50")),
            ("id", Some("-1.50")),
            ("$.a.b [0]", Some("10")),
            ("$.a.b [1].c", Some("x\ny")),
            ("$.a.b [3]", Some("true")),
            ("$.a.b [2]", None),
            ("$.a.b [4]", None),
            ("$.a.b [1]", None),
            ("$.a.b ", None),
            ("$.a[0]", None),
            ("$.id.x", None),
            ("$.nothing", None),
        ];
        for (path, expected) in cases {
            let found = Path::parse(path).unwrap().pick(json);
            assert_eq!(found.as_deref(), expected, "{path}");
        }
        assert_eq!(Path::of(&["id"]), Path::parse("$.id").unwrap());
        for wrong in ["", "$", "$id", "$..a", "$.a[", "$.a[x]", "$.a.", "[-1]"] {
            assert!(Path::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let paths = [Path::of(&["a", "b"]), Path(vec![Step::Item(1), Step::Key("a".into())])];
        bolero::check!().with_iterations(5_000).with_max_len(40).for_each(|bytes: &[u8]| {
            for path in &paths {
                path.pick(bytes);
                path.pick(&[b"{\"a\":", bytes].concat());
                path.pick(&[b"[1,", bytes].concat());
            }
        });
    }
}
