//! Avro's schemas: JSON to types.
//!
//! In: the text of a schema and of those it refers to. Out: its types, each with a number, so that
//! one may be inside itself. What Kafka Connect says of a type counts as Avro's own words do.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::format::json::{Meaning, Unit};
use crate::message::connect;

/// The number of a type.
pub(in crate::message) type Id = usize;

/// A type without what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::message) enum Node {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Record(Vec<(String, Id)>),
}

/// What values of a type stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::message) enum Logical {
    /// What they say.
    Plain,
    Days,
    Time(Unit),
    Decimal(i8),
    /// Sixteen bytes that are written with dashes.
    Uuid,
}

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::message) struct Typed {
    pub(in crate::message) node: Node,
    pub(in crate::message) logical: Logical,
}

/// All types of a schema.
#[derive(Debug)]
pub(in crate::message) struct Types {
    types: Vec<Typed>,
    root: Id,
}

impl Types {
    /// Reads a schema, and first those that it refers to. Errors: what is wrong with it.
    pub(in crate::message) fn parse(
        text: &str,
        references: &[(String, String)],
    ) -> Result<Self, String> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        for (name, text) in references {
            let referred = json(text).and_then(|value| parser.parse(&value, ""));
            referred.map_err(|e| format!("what it refers to cannot be read name={name}: {e}"))?;
        }
        // A schema that is one type may stand without quotes.
        let value = json(text).or_else(|e| match text.trim() {
            word if word.chars().all(char::is_alphanumeric) => Ok(Value::from(word)),
            _ => Err(e),
        })?;
        let root = parser.parse(&value, "")?;
        Ok(Self { types: parser.types, root })
    }

    /// The type with this number.
    pub(in crate::message) fn get(&self, id: Id) -> &Typed {
        &self.types[id]
    }

    /// The type of the schema.
    pub(in crate::message) fn root(&self) -> &Typed {
        &self.types[self.root]
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))
}

struct Parser {
    types: Vec<Typed>,
    names: HashMap<String, Id>,
}

impl Parser {
    fn add(&mut self, node: Node, logical: Logical) -> Id {
        self.types.push(Typed { node, logical });
        self.types.len() - 1
    }

    fn parse(&mut self, value: &Value, namespace: &str) -> Result<Id, String> {
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let mut ids = Vec::with_capacity(branches.len());
                for branch in branches {
                    let id = self.parse(branch, namespace)?;
                    if matches!(self.types[id].node, Node::Union(_)) {
                        return Err("a union stands in a union".into());
                    }
                    ids.push(id);
                }
                Ok(self.add(Node::Union(ids), Logical::Plain))
            }
            Value::Object(object) => self.object(object, namespace),
            _ => Err("a type is neither a name nor an object".into()),
        }
    }

    /// A simple type, or one that was declared before.
    fn named(&mut self, name: &str, namespace: &str) -> Result<Id, String> {
        let node = match name {
            "null" => Node::Null,
            "boolean" => Node::Bool,
            "int" => Node::Int,
            "long" => Node::Long,
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::Text,
            _ => {
                let known = self.names.get(&full(name, namespace)).or(self.names.get(name));
                return known.copied().ok_or_else(|| format!("an unknown type type={name}"));
            }
        };
        Ok(self.add(node, Logical::Plain))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Id, String> {
        let inner = |key: &str| object.get(key).ok_or_else(|| format!("a type lacks {key}"));
        let Value::String(kind) = inner("type")? else {
            return self.parse(inner("type")?, namespace);
        };
        match kind.as_str() {
            "record" | "error" => self.record(object, namespace),
            "enum" => {
                let symbols = inner("symbols")?.as_array().cloned().unwrap_or_default();
                let symbols = symbols.iter().filter_map(|s| s.as_str().map(str::to_string));
                let node = Node::Enum(symbols.collect());
                let id = self.add(node, Logical::Plain);
                self.declare(object, namespace, id)?;
                Ok(id)
            }
            "fixed" => {
                let size = inner("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let node = Node::Fixed(size.ok_or("the size of a fixed type is no number")?);
                let logical = logical(object, &node);
                let id = self.add(node, logical);
                self.declare(object, namespace, id)?;
                Ok(id)
            }
            "array" => {
                let items = self.parse(inner("items")?, namespace)?;
                Ok(self.add(Node::Array(items), Logical::Plain))
            }
            "map" => {
                let values = self.parse(inner("values")?, namespace)?;
                Ok(self.add(Node::Map(values), Logical::Plain))
            }
            name => {
                let id = self.named(name, namespace)?;
                let found = logical(object, &self.types[id].node);
                if found != Logical::Plain {
                    self.types[id].logical = found;
                }
                Ok(id)
            }
        }
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Id, String> {
        // It is known before its fields are read: they may be of its own type.
        let id = self.add(Node::Record(Vec::new()), Logical::Plain);
        let name = self.declare(object, namespace, id)?;
        let namespace = name.rsplit_once('.').map_or("", |(space, _)| space).to_string();
        let fields = object.get("fields").and_then(Value::as_array);
        let mut found = Vec::new();
        for field in fields.ok_or("a record lacks fields")? {
            let name = field.get("name").and_then(Value::as_str).ok_or("a field lacks a name")?;
            let field_type =
                field.get("type").ok_or_else(|| format!("a field lacks a type field={name}"))?;
            found.push((name.to_string(), self.parse(field_type, &namespace)?));
        }
        self.types[id].node = Node::Record(found);
        Ok(id)
    }

    fn declare(
        &mut self,
        object: &Map<String, Value>,
        around: &str,
        id: Id,
    ) -> Result<String, String> {
        let name = object.get("name").and_then(Value::as_str).ok_or("a type lacks a name")?;
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(around);
        let name = full(name, namespace);
        self.names.insert(name.clone(), id);
        Ok(name)
    }
}

/// The name with its namespace.
fn full(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_string(),
        false => format!("{namespace}.{name}"),
    }
}

/// What values of a type that is described like this stand for. What does not go with the type, or
/// is not known, says nothing: Avro has it so.
fn logical(object: &Map<String, Value>, node: &Node) -> Logical {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let number = matches!(node, Node::Int | Node::Long);
    if let Some(meaning) = text("connect.name").and_then(connect::meaning).filter(|_| number) {
        return match meaning {
            Meaning::Days => Logical::Days,
            Meaning::Time(unit) => Logical::Time(unit),
            _ => Logical::Plain,
        };
    }
    match (text("logicalType").unwrap_or_default(), node) {
        ("date", Node::Int) => Logical::Days,
        ("timestamp-millis" | "local-timestamp-millis", Node::Long) => Logical::Time(Unit::Millis),
        ("timestamp-micros" | "local-timestamp-micros", Node::Long) => Logical::Time(Unit::Micros),
        ("timestamp-nanos" | "local-timestamp-nanos", Node::Long) => Logical::Time(Unit::Nanos),
        ("decimal", Node::Bytes | Node::Fixed(_)) => {
            let scale = object.get("scale").map_or(Some(0), Value::as_i64);
            let scale = scale.and_then(|scale| i8::try_from(scale).ok());
            scale.map_or(Logical::Plain, Logical::Decimal)
        }
        ("uuid", Node::Fixed(16)) => Logical::Uuid,
        _ => Logical::Plain,
    }
}
