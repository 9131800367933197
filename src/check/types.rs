//! The types of values, as far as they are known before a run: read lazily from JSON Schemas.
//!
//! A type must hold for every value that can occur. If a schema contains something that this module does not
//! understand, the type is unknown, and the checks report nothing about such a value.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::joined::{ignores_siblings, speaks};
use crate::config::Document;

/// A schema inside of a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct SchemaNode<'a> {
    /// The schema.
    pub(super) schema: &'a Value,
    /// The document that contains it, which `#/…` references resolve in.
    pub(super) root: &'a Value,
}

/// The type of a value.
#[derive(Clone, Debug)]
pub(super) enum Type<'a> {
    /// Anything: the schema allows every value, or is not understood.
    Unknown,
    /// Null.
    Null,
    /// True or false.
    Bool,
    /// A number.
    Number,
    /// A string, with its possible values if the schema lists them.
    Text(Option<Vec<&'a str>>),
    /// A list of items of a type, with its minimum length.
    List(Rc<Type<'a>>, u64),
    /// A list that a schema describes, with its minimum length.
    Items(SchemaNode<'a>, u64),
    /// An object that a schema describes.
    Object(SchemaNode<'a>),
    /// An object that several schemas describe together.
    Every(Rc<Vec<SchemaNode<'a>>>),
    /// An object with exactly these members.
    Fixed(Rc<ObjectMembers<'a>>),
    /// The variable `steps`: how each step ended, by its id.
    Ends(Ends<'a>),
    /// One of several types.
    Union(Rc<Vec<Type<'a>>>),
}

/// The members of an object that no schema describes.
pub(super) type ObjectMembers<'a> = BTreeMap<&'a str, Type<'a>>;

/// The steps that have ended at a point of the pipeline. The value is true for a step that ended only in the previous
/// round of a loop, so that it is missing in the first round.
pub(super) type Ends<'a> = rpds::RedBlackTreeMap<&'a str, bool>;

/// What an object has under a name.
#[derive(Clone, Debug)]
pub(super) enum Property<'a> {
    /// It always exists.
    Present(Type<'a>),
    /// It may exist.
    Optional(Type<'a>),
    /// It never exists; the object has these names instead.
    Absent(Vec<&'a str>),
    /// It is neither named nor forbidden: the schema names these properties and leaves others open.
    Open(Vec<&'a str>),
}

/// The schema files of a project, which references resolve in.
#[derive(Clone, Copy)]
pub(super) struct Schemas<'a>(pub(super) &'a BTreeMap<String, Document>);

/// How many references and branches are followed before giving up, because schemas may be recursive.
const MAX_READS: usize = 200;

impl<'a> Schemas<'a> {
    /// The type that a whole schema document describes.
    pub(super) fn root(self, schema: &'a Value) -> Type<'a> {
        self.of(SchemaNode { schema, root: schema })
    }

    /// The type that a schema describes.
    pub(super) fn of(self, node: SchemaNode<'a>) -> Type<'a> {
        let mut budget = MAX_READS;
        self.read(node, &mut budget)
    }

    pub(super) fn read(self, node: SchemaNode<'a>, budget: &mut usize) -> Type<'a> {
        let Value::Object(map) = node.schema else { return Type::Unknown };
        let Some(left) = budget.checked_sub(1) else { return Type::Unknown };
        *budget = left;
        if let Some(target) = map.get("$ref").and_then(Value::as_str)
            && (ignores_siblings(node.root) || !speaks(map))
        {
            return self.follow(node, target).map_or(Type::Unknown, |target| self.read(target, budget));
        }
        if map.contains_key("$ref") || map.contains_key("allOf") {
            return self.joined(node, map, budget);
        }
        self.alone(node, map, budget)
    }

    /// The type from the keywords of this schema alone, without those that bring in other schemas (`$ref`, `allOf`).
    pub(super) fn alone(self, node: SchemaNode<'a>, map: &'a Map<String, Value>, budget: &mut usize) -> Type<'a> {
        if map.contains_key("not") || map.contains_key("if") {
            return Type::Unknown;
        }
        if let Some(branches) = map.get("anyOf").or_else(|| map.get("oneOf")).and_then(Value::as_array) {
            let whole = map.contains_key("type") || map.contains_key("properties");
            if whole && branches.iter().all(only_requires) {
                return map.get("type").and_then(Value::as_str).map_or(Type::Unknown, |name| named(node, map, name));
            }
            if whole {
                return Type::Unknown;
            }
            return union(branches.iter().map(|schema| self.read(SchemaNode { schema, ..node }, budget)));
        }
        if let Some(value) = map.get("const") {
            return constants(std::slice::from_ref(value));
        }
        if let Some(Value::Array(values)) = map.get("enum") {
            return constants(values);
        }
        match map.get("type") {
            Some(Value::String(name)) => named(node, map, name),
            Some(Value::Array(names)) => {
                union(names.iter().map(|name| named(node, map, name.as_str().unwrap_or_default())))
            }
            _ => Type::Unknown,
        }
    }

    pub(super) fn follow(self, node: SchemaNode<'a>, target: &str) -> Option<SchemaNode<'a>> {
        let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
        let file = file.strip_prefix("./").unwrap_or(file);
        let root = if file.is_empty() { node.root } else { self.file(file)? };
        Some(SchemaNode { schema: root.pointer(fragment)?, root })
    }

    /// The schema of a file, by the file's name or the schema's `$id`.
    fn file(self, name: &str) -> Option<&'a Value> {
        let has_id =
            |value: &Value| value.get("$id").and_then(Value::as_str).is_some_and(|id| id.trim_end_matches('#') == name);
        let by_name = self.0.get(name).map(|document| &document.value);
        by_name.or_else(|| self.0.values().map(|document| &document.value).find(|value| has_id(value)))
    }

    /// The type of a list's items; unknown if the type is not a list.
    pub(super) fn items(self, ty: &Type<'a>) -> Type<'a> {
        match ty {
            Type::List(inner, _) => (**inner).clone(),
            Type::Items(node, _) => match node.schema.get("items") {
                Some(schema) if node.schema.get("prefixItems").is_none() => self.of(SchemaNode { schema, ..*node }),
                Some(_) | None => Type::Unknown,
            },
            Type::Union(all) => union(all.iter().map(|ty| self.items(ty))),
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Number
            | Type::Text(_)
            | Type::Object(_)
            | Type::Every(_)
            | Type::Fixed(_)
            | Type::Ends(_) => Type::Unknown,
        }
    }

    /// What an object has under a name; `None` if the type is not an object.
    pub(super) fn property(self, ty: &Type<'a>, name: &str) -> Option<Property<'a>> {
        match ty {
            Type::Fixed(members) => Some(match members.get(name) {
                Some(ty) => Property::Present(ty.clone()),
                None => Property::Absent(members.keys().copied().collect()),
            }),
            Type::Ends(ends) => Some(match ends.get(name) {
                Some(false) => Property::Present(end()),
                Some(true) => Property::Optional(end()),
                None => Property::Absent(ends.keys().copied().collect()),
            }),
            Type::Object(node) => Some(self.member(std::slice::from_ref(node), name)),
            Type::Every(nodes) => Some(self.member(nodes, name)),
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Number
            | Type::Text(_)
            | Type::List(..)
            | Type::Items(..)
            | Type::Union(_) => None,
        }
    }
}

/// How a step ended. `error` exists depending on `status`, which a type can't express.
fn end<'a>() -> Type<'a> {
    let status = Type::Text(Some(vec!["completed", "failed", "skipped", "cancelled"]));
    let members: ObjectMembers<'a> = [("status", status), ("error", Type::Unknown)].into_iter().collect();
    Type::Fixed(members.into())
}

/// Whether an alternative only requires some names and restricts nothing else.
fn only_requires(branch: &Value) -> bool {
    let words = ["required", "title", "description", "$comment"];
    branch
        .as_object()
        .is_some_and(|map| map.contains_key("required") && map.keys().all(|key| words.contains(&key.as_str())))
}

fn named<'a>(node: SchemaNode<'a>, map: &'a Map<String, Value>, name: &str) -> Type<'a> {
    match name {
        "null" => Type::Null,
        "boolean" => Type::Bool,
        "number" | "integer" => Type::Number,
        "string" => Type::Text(None),
        "array" => Type::Items(node, map.get("minItems").and_then(Value::as_u64).unwrap_or(0)),
        "object" => Type::Object(node),
        _ => Type::Unknown,
    }
}

fn constants(values: &[Value]) -> Type<'_> {
    let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
    if let Some(texts) = texts {
        return Type::Text(Some(texts));
    }
    union(values.iter().map(|value| match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Number(_) => Type::Number,
        Value::String(_) => Type::Text(None),
        Value::Array(_) | Value::Object(_) => Type::Unknown,
    }))
}

/// A union of types; unknown if one of them is.
pub(super) fn union<'a>(types: impl IntoIterator<Item = Type<'a>>) -> Type<'a> {
    let mut flat: Vec<Type<'a>> = Vec::new();
    for ty in types {
        match ty {
            Type::Unknown => return Type::Unknown,
            Type::Union(inner) => flat.extend(inner.iter().cloned()),
            ty => flat.push(ty),
        }
    }
    let mut out: Vec<Type<'a>> = Vec::new();
    for ty in flat {
        let simple = matches!(ty, Type::Null | Type::Bool | Type::Number | Type::Text(None));
        if !(simple && out.iter().any(|held| held.kind() == ty.kind())) {
            out.push(ty);
        }
    }
    match out.len() {
        0 => Type::Unknown,
        1 => out.swap_remove(0),
        _ => Type::Union(Rc::new(out)),
    }
}

/// The kind of a type that is not a union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TypeKind {
    Null,
    Bool,
    Number,
    Text,
    List,
    Object,
}

impl TypeKind {
    /// The kind as words for a message.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

impl<'a> Type<'a> {
    /// The kind; `None` for a union or an unknown type.
    pub(super) fn kind(&self) -> Option<TypeKind> {
        match self {
            Type::Unknown | Type::Union(_) => None,
            Type::Null => Some(TypeKind::Null),
            Type::Bool => Some(TypeKind::Bool),
            Type::Number => Some(TypeKind::Number),
            Type::Text(_) => Some(TypeKind::Text),
            Type::List(..) | Type::Items(..) => Some(TypeKind::List),
            Type::Object(_) | Type::Every(_) | Type::Fixed(_) | Type::Ends(_) => Some(TypeKind::Object),
        }
    }

    /// Every kind that the value can have; `None` if that is unknown.
    pub(super) fn kinds(&self) -> Option<Vec<TypeKind>> {
        match self {
            Type::Union(all) => all.iter().map(Type::kind).collect(),
            other => other.kind().map(|kind| vec![kind]),
        }
    }

    /// The members of a union, or the type itself.
    pub(super) fn branches(&self) -> Vec<Type<'a>> {
        match self {
            Type::Union(all) => all.to_vec(),
            other => vec![other.clone()],
        }
    }

    /// The type without null.
    pub(super) fn without_null(&self) -> Type<'a> {
        match self {
            Type::Union(all) => union(all.iter().filter(|ty| !matches!(ty, Type::Null)).cloned()),
            other => other.clone(),
        }
    }

    /// The minimum number of items of a list; 0 for any other type.
    pub(super) fn least_length(&self) -> u64 {
        match self {
            Type::List(_, least) | Type::Items(_, least) => *least,
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Number
            | Type::Text(_)
            | Type::Object(_)
            | Type::Every(_)
            | Type::Fixed(_)
            | Type::Ends(_)
            | Type::Union(_) => 0,
        }
    }

    /// The type as words for a message.
    pub(super) fn words(&self) -> String {
        match self.kinds() {
            Some(kinds) => kinds.iter().map(|kind| kind.words()).collect::<Vec<_>>().join(" or "),
            None => "a value".to_owned(),
        }
    }
}
