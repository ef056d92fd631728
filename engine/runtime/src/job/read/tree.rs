//! YAML text to a tree of JSON values in which every value has its place.
//!
//! In: the text of a file. Out: a [`Document`], or the problems that make the text unreadable:
//! syntax, duplicate keys, anchors, tags, a file that is not a mapping. It knows no keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, ScanError, YamlData};
use serde_json::{Map, Number, Value};
use sluice_core::{Problems, Span};

use super::layer::Lent;
use super::place::Text;

/// Characters of a job file or data schema. Real ones have a few thousand; a larger one is a data
/// file given by mistake, and reading it would only exhaust memory.
const FILE_CHARS_MAX: usize = 1 << 20;

const START: Span = Span { line: 1, column: 1 };

const ALIASES: &str = "anchors and aliases are not used in job files";
const ALIASES_HINT: &str = "write the value out; `vars:` is there to say a thing once";

/// A file as a tree.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The file.
    pub(crate) file: PathBuf,
    /// The values as written, before interpolation.
    pub(crate) value: Value,
    /// Where values stand, by JSON pointer: scalars where they begin, lists and mappings at their
    /// key, so that a problem with an entry points at the entry's name.
    pub(crate) spans: BTreeMap<String, Span>,
    /// Where keys stand, by the JSON pointer of their value.
    pub(crate) keys: BTreeMap<String, Span>,
    /// Values that could not be read and are null, by JSON pointer.
    pub(crate) broken: BTreeSet<String>,
    /// Values that are written as `null`, by JSON pointer; others are null because nothing is there.
    pub(crate) nulls: BTreeSet<String>,
    /// What stands in the tree and not at its place in this file.
    pub(super) lent: Lent,
    text: Text,
    /// The characters each text scalar was read from.
    scalars: BTreeMap<String, (usize, usize)>,
}

impl Document {
    /// Reads `text`, whose line ends may be of either kind.
    pub(crate) fn parse(file: &Path, text: &str, problems: &mut Problems) -> Option<Self> {
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let mut tell = |span: Option<Span>, message: &str, hint: &str| {
            problems.push(file, span, message, Some(hint.to_string()));
        };
        if text.chars().nth(FILE_CHARS_MAX).is_some() {
            tell(Some(START), "the file is too large", "a job file has at most 1 Mi characters");
            return None;
        }
        let roots = match MarkedYaml::load_from_str(&text) {
            Ok(roots) => roots,
            Err(error) => {
                let (span, message, hint) = syntax(&error, &Text::new(&text));
                tell(Some(span), &message, hint);
                return None;
            }
        };
        let text = Text::new(&text);
        if let Some(second) = roots.get(1) {
            let span = text.place(second.span.start.index());
            tell(Some(span), "a second document in the file", "put each job into its own file");
            return None;
        }
        let Some(root) = roots.first().filter(|root| !is_null(root)) else {
            tell(
                Some(START),
                "the file is empty",
                "a job file begins with `job: name`, `sluice.yaml` with `project: name`, a data schema \
                 with `fields:`",
            );
            return None;
        };
        if !matches!(root.data, YamlData::Mapping(_)) {
            let span = text.place(root.span.start.index());
            tell(
                Some(span),
                "the file is not a mapping",
                "start with `job: name`, in `sluice.yaml` with `project: name`, one key per line",
            );
            return None;
        }
        let mut reader = Reader { file, text: &text, problems, out: Parts::default() };
        let span = reader.begin(root);
        reader.out.spans.insert(String::new(), span);
        let value = reader.value(root, "");
        let Parts { spans, keys, scalars, broken, nulls } = reader.out;
        let (file, lent) = (file.to_path_buf(), Lent::default());
        Some(Self { file, value, spans, keys, broken, nulls, lent, text, scalars })
    }

    /// The place of the value at `pointer`, or of the nearest value around it.
    pub(crate) fn span(&self, pointer: &str) -> Option<Span> {
        nearest(&self.spans, pointer)
    }

    /// The place of the key of the value at `pointer`.
    pub(crate) fn key_span(&self, pointer: &str) -> Option<Span> {
        self.keys.get(pointer).copied().or_else(|| self.span(pointer))
    }

    /// A place per character of the text at `pointer` as written, and one for its end.
    pub(crate) fn places(&self, pointer: &str) -> Vec<Span> {
        let written = self.value.pointer(pointer).and_then(Value::as_str);
        match (written, self.scalars.get(pointer)) {
            (Some(written), Some((start, end))) => self.text.scalar_places(*start, *end, written),
            _ => self.span(pointer).into_iter().collect(),
        }
    }
}

/// `key` as a segment of a JSON pointer, with its slash.
pub(crate) fn segment(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The value in `spans` at `pointer` or at the nearest pointer around it.
pub(crate) fn nearest(spans: &BTreeMap<String, Span>, pointer: &str) -> Option<Span> {
    let mut at = pointer;
    loop {
        if let Some(span) = spans.get(at) {
            return Some(*span);
        }
        at = &at[..at.rfind('/')?];
    }
}

#[derive(Default)]
struct Parts {
    spans: BTreeMap<String, Span>,
    keys: BTreeMap<String, Span>,
    scalars: BTreeMap<String, (usize, usize)>,
    broken: BTreeSet<String>,
    nulls: BTreeSet<String>,
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a Text,
    problems: &'a mut Problems,
    out: Parts,
}

impl Reader<'_> {
    fn begin(&self, node: &MarkedYaml<'_>) -> Span {
        self.text.place(node.span.start.index())
    }

    fn tell(&mut self, span: Span, message: String, hint: &str) {
        self.problems.push(self.file, Some(span), message, Some(hint.to_string()));
    }

    fn unreadable(&mut self, pointer: &str, span: Span, message: String, hint: &str) -> Value {
        self.tell(span, message, hint);
        self.out.broken.insert(pointer.to_string());
        Value::Null
    }

    fn value(&mut self, node: &MarkedYaml<'_>, pointer: &str) -> Value {
        let start = node.span.start.index();
        let span = self.text.place(start);
        if self.text.slice(start, start + 1) == ['*'] {
            return self.unreadable(pointer, span, ALIASES.into(), ALIASES_HINT);
        }
        match &node.data {
            YamlData::Value(scalar) => {
                self.out.spans.insert(pointer.to_string(), span);
                let range = (start, node.span.end.index());
                match scalar {
                    Scalar::String(_) => {
                        self.out.scalars.insert(pointer.to_string(), range);
                    }
                    Scalar::Null if range.1 > range.0 => {
                        self.out.nulls.insert(pointer.to_string());
                    }
                    _ => {}
                }
                plain(scalar)
            }
            YamlData::Sequence(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    let inner = format!("{pointer}/{i}");
                    self.out.spans.insert(inner.clone(), self.begin(item));
                    list.push(self.value(item, &inner));
                }
                Value::Array(list)
            }
            YamlData::Mapping(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    self.entry(key, value, pointer, &mut map);
                }
                Value::Object(map)
            }
            YamlData::Tagged(tag, _) => {
                let hint = "take the tag away; text that looks like a number goes in quotes";
                let message = format!("tags are not used in job files tag={tag}");
                self.unreadable(pointer, span, message, hint)
            }
            YamlData::BadValue | YamlData::Representation(..) | YamlData::Alias(_) => {
                let hint = "take the tag away, or write a value of that type";
                self.unreadable(pointer, span, "the value does not fit its tag".into(), hint)
            }
        }
    }

    fn entry(
        &mut self,
        key: &MarkedYaml<'_>,
        value: &MarkedYaml<'_>,
        pointer: &str,
        map: &mut Map<String, Value>,
    ) {
        let span = self.begin(key);
        let name = match &key.data {
            YamlData::Value(Scalar::String(name)) => name.to_string(),
            YamlData::Value(_) => {
                let (start, end) = (key.span.start.index(), key.span.end.index());
                self.text.slice(start, end).iter().collect()
            }
            _ => {
                self.tell(span, "a key that is not text".into(), "write keys as plain words");
                return;
            }
        };
        self.check_between(key, value, &name);
        if map.contains_key(&name) {
            // Of two kinds for the parser, like `true` and `"true"`: one name for us.
            self.twice(span, &name);
        }
        let inner = format!("{pointer}{}", segment(&name));
        self.out.keys.insert(inner.clone(), span);
        self.out.spans.insert(inner.clone(), span);
        let value = self.value(value, &inner);
        map.insert(name, value);
    }

    fn twice(&mut self, span: Span, name: &str) {
        self.tell(span, format!("the key stands here twice key={name}"), "keep one of the two");
    }

    /// Looks at what stands between a key and its value: when the key comes twice the parser keeps
    /// the first key and the last value, so that whole entries lie between them.
    fn check_between(&mut self, key: &MarkedYaml<'_>, value: &MarkedYaml<'_>, name: &str) {
        let (from, to) = (key.span.end.index(), value.span.start.index());
        let between: String = self.text.slice(from, to).iter().collect();
        let words = meaningful(&between);
        let extra: Vec<&str> = words.split_whitespace().filter(|w| !is_header(w)).collect();
        if extra.iter().any(|w| !w.starts_with(['&', '!'])) {
            let last = between.rfind(name).map_or(0, |b| between[..b].chars().count());
            let span = self.text.place(from + last);
            self.twice(span, name);
        } else if let Some(word) = extra.iter().find(|w| w.starts_with('&')) {
            let found = between.find(word).map_or(0, |b| between[..b].chars().count());
            self.tell(self.text.place(from + found), ALIASES.into(), ALIASES_HINT);
        }
    }
}

/// The text between a key and its value without the key's own colon and comments.
fn meaningful(between: &str) -> String {
    let after = between.trim_start().strip_prefix(':').unwrap_or(between);
    let lines = after.lines().map(|line| match line.find('#') {
        Some(at) if line[..at].chars().next_back().is_none_or(char::is_whitespace) => &line[..at],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a word is the header of a `|` or `>` block.
fn is_header(word: &str) -> bool {
    let rest = word.strip_prefix(['|', '>']).unwrap_or("no");
    rest.chars().all(|c| matches!(c, '+' | '-' | '1'..='9'))
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(node.data, YamlData::Value(Scalar::Null) | YamlData::BadValue)
}

fn plain(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(b) => Value::Bool(*b),
        Scalar::Integer(i) => Value::Number((*i).into()),
        Scalar::FloatingPoint(f) => {
            Number::from_f64(f.0).map_or_else(|| Value::String(f.to_string()), Value::Number)
        }
        Scalar::String(s) => Value::String(s.to_string()),
    }
}

/// Place, message and hint of a syntax error.
fn syntax(error: &ScanError, text: &Text) -> (Span, String, &'static str) {
    let info = error.info();
    let noticed = error.marker().index();
    let open = text.open_bracket(noticed).filter(|_| info.contains("flow"));
    let span = text.place(open.unwrap_or(noticed));
    let hint = if info.contains("tab") {
        "indent with spaces, never with tabs"
    } else if info.contains("mapping values are not allowed") {
        "put text that contains `: ` in quotes, and give all keys of a mapping the same indentation"
    } else if info.contains("quoted scalar") {
        "close the quote"
    } else if info.contains("flow") {
        "close the bracket, and put commas between the entries"
    } else if info.contains("anchor") {
        "write the value out, or put text that begins with `*` or `&` in quotes"
    } else {
        "check indentation and quotes around this line"
    };
    let info = info.replace('`', "");
    (span, format!("not readable as YAML: {}", info.to_lowercase()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Document>, Vec<String>) {
        let mut problems = Problems::new();
        let document = Document::parse(Path::new("j"), text, &mut problems);
        let shown = problems.sorted().iter().map(|p| p.to_string()).collect();
        (document, shown)
    }

    #[test]
    fn values_keep_their_types_order_and_places() {
        let (document, shown) = read("b: 1\na: {x: [1.5, 'q', true, ~]}\nc:\n  d: |\n    t\n");
        assert_eq!(shown, Vec::<String>::new());
        let document = document.unwrap();
        let text = serde_json::to_string(&document.value).unwrap();
        assert_eq!(text, r#"{"b":1,"a":{"x":[1.5,"q",true,null]},"c":{"d":"t\n"}}"#);
        let at = |pointer: &str| document.spans.get(pointer).map(|s| (s.line, s.column));
        assert_eq!(at("/b"), Some((1, 4)));
        assert_eq!(at("/a"), Some((2, 1)), "a mapping stands at its key");
        assert_eq!(at("/a/x/1"), Some((2, 14)));
        assert_eq!(at("/c/d"), Some((5, 5)));
    }

    #[test]
    fn a_key_that_comes_twice_is_found_wherever_it_is() {
        let (_, shown) = read("a: 1\nb: {c: 1, d: 2, c: 3}\na:\n  x: 1\n");
        let expected =
            ["j:2:17: the key stands here twice key=c", "j:3:1: the key stands here twice key=a"];
        assert_eq!(shown.len(), 2, "{shown:?}");
        for (found, wanted) in shown.iter().zip(expected) {
            assert!(found.starts_with(wanted), "{found}");
        }
        let (_, shown) = read("a: {true: 1, \"true\": 2}\n");
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert!(shown[0].starts_with("j:1:14: the key stands here twice key=true"), "{shown:?}");
    }

    #[test]
    fn comments_headers_and_odd_values_are_no_duplicates() {
        let text =
            "a:   # x: y\n  # z: 1\n  b: 1\nc: |-  # q: r\n\n  t\nd:\n\"e\": >\n  u\nf: !!str 5\n";
        let (document, shown) = read(text);
        assert_eq!(shown, Vec::<String>::new());
        assert_eq!(document.unwrap().value["f"], Value::String("5".into()));
    }

    #[test]
    fn anchors_tags_and_unreadable_files_are_refused() {
        for (text, start) in [
            ("a: &x {b: 1}\nc: *x\n", "j:1:4: anchors and aliases"),
            ("c: [*y]\n", "j:1:5: not readable as YAML: "),
            ("a: !secret x\n", "j:1:12: tags are not used"),
            ("a: !!int x\n", "j:1:10: the value does not fit its tag"),
            ("", "j:1:1: the file is empty"),
            ("- a\n", "j:1:1: the file is not a mapping"),
            ("a: 1\n---\nb: 1\n", "j:3:1: a second document"),
            ("a:\n\tb: 1\n", "j:2:2: not readable as YAML: tabs"),
        ] {
            let (_, shown) = read(text);
            assert!(shown.first().is_some_and(|s| s.starts_with(start)), "{text:?}: {shown:?}");
            assert!(shown.iter().all(|s| s.contains("hint: ")), "{shown:?}");
        }
    }
}
