//! What JSON objects hold: a tree of fields with a type each.
//!
//! In: the beginnings of files, an object per line or a list of objects. Out: fields, structs and
//! lists within them. What is no object is the decoder's to reject.

use std::collections::BTreeSet;

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::Value;
use sluice_core::FieldSpec;

use super::decide::{self, Choice, Whole};
use super::name;
use super::profile::Profile;

/// Structs within structs at most: deeper ones are data, not structure.
const DEPTH_MAX: usize = 6;

/// Fields of one struct at most: more, and its names are data.
const FIELDS_MAX: usize = 500;

/// What was seen at one place of the objects.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// Fields of objects, in the order in which they came.
    fields: Vec<(String, Node)>,
    objects: u64,
    /// Elements of lists.
    items: Option<Box<Node>>,
    lists: u64,
    bools: u64,
    numbers: Profile,
    texts: Profile,
}

/// A field, and what to know about it.
pub(super) type Known = (FieldSpec, Vec<String>);

impl Node {
    /// Counts the objects of a text, which may break off.
    pub(super) fn text(&mut self, text: &str) {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.starts_with('[') {
            // Where the text breaks off, what came before has been counted.
            let _ = serde_json::Deserializer::from_str(text).deserialize_seq(Items(self));
            return;
        }
        let objects = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        objects.filter(Value::is_object).for_each(|object| self.add(&object));
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) => self.bools += 1,
            Value::Number(number) => self.numbers.add(Some(&number.to_string())),
            Value::String(text) => self.texts.add(Some(text)),
            Value::Array(list) => {
                self.lists += 1;
                let items = self.items.get_or_insert_default();
                list.iter().for_each(|item| items.add(item));
            }
            Value::Object(object) => {
                self.objects += 1;
                for (name, value) in object {
                    let at = self.fields.iter().position(|(known, _)| known == name);
                    let at = at.unwrap_or_else(|| {
                        self.fields.push((name.clone(), Node::default()));
                        self.fields.len() - 1
                    });
                    self.fields[at].1.add(value);
                }
            }
        }
    }

    /// Names of the objects' fields.
    pub(super) fn names(&self) -> Vec<String> {
        self.fields.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The objects' fields with their types.
    pub(super) fn known(&self, complete: bool) -> Vec<Known> {
        self.within(complete, 0)
    }

    fn within(&self, complete: bool, depth: usize) -> Vec<Known> {
        let names = name::columns(&self.names());
        let fields = names.iter().zip(&self.fields);
        fields.map(|(name, (origin, node))| node.field(name, origin, complete, depth)).collect()
    }

    fn field(&self, name: &str, origin: &str, complete: bool, depth: usize) -> Known {
        let Choice { data_type, format, notes, .. } = self.choice(name, complete, depth);
        let known = match data_type.contains("struct") {
            true => self.innermost().within(complete, depth + 1),
            false => Vec::new(),
        };
        let fields = known.into_iter().map(|(field, _)| field).collect();
        let from = (origin != name).then(|| origin.to_string());
        let field = FieldSpec {
            name: name.to_string(),
            from,
            data_type,
            fields,
            format,
            ..FieldSpec::default()
        };
        (field, notes)
    }

    /// The node of the struct at the end of lists.
    fn innermost(&self) -> &Node {
        match &self.items {
            Some(items) if self.lists > 0 => items.innermost(),
            _ => self,
        }
    }

    fn choice(&self, name: &str, complete: bool, depth: usize) -> Choice {
        let scalars = [self.bools, self.numbers.rows(), self.texts.rows()];
        let kinds = scalars.iter().chain([&self.objects, &self.lists]).filter(|n| **n > 0).count();
        let deep = depth >= DEPTH_MAX || self.fields.len() > FIELDS_MAX;
        match kinds {
            0 => plain("string", "always null here"),
            1 if self.objects > 0 && deep => {
                plain("string", "too deep or too wide for a struct: its JSON as text")
            }
            1 if self.objects > 0 && self.fields.is_empty() => {
                plain("string", "objects without fields: their JSON as text")
            }
            1 if self.objects > 0 => plain("struct", ""),
            1 if self.lists > 0 => {
                let items = self.items.as_ref().map(|items| items.choice(name, complete, depth));
                let item = items.filter(|choice| choice.format.is_none());
                plain(&format!("list({})", item.map_or("string".into(), |c| c.data_type)), "")
            }
            1 if self.bools > 0 => plain("bool", ""),
            1 => self.scalar(name, complete),
            _ => plain("string", "values of several kinds: text takes them all"),
        }
    }

    /// Numbers as they are; texts stay text unless they are times.
    fn scalar(&self, name: &str, complete: bool) -> Choice {
        let numbers = self.numbers.rows() > 0;
        let profile = if numbers { &self.numbers } else { &self.texts };
        let choice = decide::choose(name, profile, Whole::plain(complete));
        match numbers || matches!(choice.data_type.as_str(), "date" | "timestamp") {
            true => choice,
            false => plain("string", ""),
        }
    }
}

fn plain(data_type: &str, note: &str) -> Choice {
    Choice {
        data_type: data_type.to_string(),
        format: None,
        notes: (!note.is_empty()).then(|| note.to_string()).into_iter().collect(),
        nulls: BTreeSet::new(),
    }
}

/// Counts the objects of one long list as they come.
struct Items<'a>(&'a mut Node);

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Value>()? {
            if !item.is_object() {
                return Err(A::Error::custom("no object"));
            }
            self.0.add(&item);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_become_fields_with_types() {
        let mut node = Node::default();
        let lines = [
            r#"{"id": 1, "price": 2.5, "at": "2024-01-01T10:00:00Z", "tags": ["a"], "ok": true, "mixed": 1}"#,
            r#"{"id": 2, "who": {"firstName": "x", "age": 3}, "points": [{"x": 1.5}], "mixed": "a", "no": null}"#,
        ];
        node.text(&format!("{}\n[1]\n{{\n", lines.join("\n")));
        let known = node.known(true);
        let shown: Vec<(&str, &str)> =
            known.iter().map(|(f, _)| (f.name.as_str(), f.data_type.as_str())).collect();
        let wanted = [
            ("id", "int64"),
            ("price", "decimal(18, 2)"),
            ("at_", "timestamp"),
            ("tags", "list(string)"),
            ("ok", "bool"),
            ("mixed", "string"),
            ("who", "struct"),
            ("points", "list(struct)"),
            ("no", "string"),
        ];
        assert_eq!(shown, wanted);
        let inner: Vec<_> =
            known[6].0.fields.iter().map(|f| (f.name.as_str(), f.from.as_deref())).collect();
        assert_eq!(inner, [("first_name", Some("firstName")), ("age", None)]);
        assert_eq!(known[7].0.fields[0].data_type, "decimal(18, 2)");
    }

    #[test]
    fn a_list_that_breaks_off_is_counted_up_to_there() {
        let mut node = Node::default();
        node.text("\u{feff} [{\"a\": 1}, {\"a\": 2, \"b\": \"x\"}, {\"a\": 3, \"c\"");
        assert_eq!(node.names(), ["a", "b"]);
        assert_eq!(node.known(true)[0].0.data_type, "int64");
    }
}
