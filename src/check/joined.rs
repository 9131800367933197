//! Schemas that hold together: `allOf`, and words beside a `$ref`.
//!
//! Where one of them is not understood, neither is the whole.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::types::{Property, SchemaNode, Schemas, Type, union};

/// The words that say something about objects and nothing about other values.
const OF_OBJECTS: &[&str] =
    &["properties", "required", "additionalProperties", "unevaluatedProperties", "patternProperties"];

/// The words that say of what type a value is.
const OF_TYPES: &[&str] = &["type", "const", "enum", "anyOf", "oneOf", "not", "if"];

/// The words with which a schema says of properties that it does not name what they are, or that they are welcome.
const SAYS_MORE: &[&str] = &["additionalProperties", "unevaluatedProperties", "patternProperties", "dependentSchemas"];

/// Whether a schema says something beside its `$ref` that types are made of.
pub(super) fn speaks(map: &Map<String, Value>) -> bool {
    let words = OF_OBJECTS.iter().chain(OF_TYPES).chain(&["allOf"]);
    words.into_iter().any(|word| map.contains_key(*word))
}

/// Whether words beside a `$ref` mean nothing: so it was until draft 7.
pub(super) fn ignores_siblings(root: &Value) -> bool {
    let dialect = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
    ["draft-03", "draft-04", "draft-06", "draft-07"].iter().any(|draft| dialect.contains(draft))
}

/// What several schemas say together.
#[derive(Default)]
struct Joined<'a> {
    /// The type, when one of them says of what type the value is.
    ty: Option<Type<'a>>,
    /// The schemas that describe it if it is an object.
    objects: Vec<SchemaNode<'a>>,
}

impl<'a> Schemas<'a> {
    /// The type of a schema with `allOf`, or with other words beside `$ref`.
    pub(super) fn joined(self, node: SchemaNode<'a>, map: &'a Map<String, Value>, budget: &mut usize) -> Type<'a> {
        let mut joined = Joined::default();
        self.collect(node, map, budget, &mut joined);
        let Some(ty) = joined.ty.take() else { return Type::Unknown };
        union(ty.branches().into_iter().map(|branch| described(branch, &joined.objects)))
    }

    fn collect(self, node: SchemaNode<'a>, map: &'a Map<String, Value>, budget: &mut usize, joined: &mut Joined<'a>) {
        let Some(left) = budget.checked_sub(1) else { return joined.add(Type::Unknown) };
        *budget = left;
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            match self.follow(node, target) {
                Some(target) => self.part(target, budget, joined),
                None => joined.add(Type::Unknown),
            }
        }
        for schema in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.part(SchemaNode { schema, ..node }, budget, joined);
        }
        if OF_TYPES.iter().any(|word| map.contains_key(*word)) {
            joined.add(self.alone(node, map, budget));
        } else if OF_OBJECTS.iter().any(|word| map.contains_key(*word)) {
            joined.objects.push(node);
        }
    }

    fn part(self, node: SchemaNode<'a>, budget: &mut usize, joined: &mut Joined<'a>) {
        match node.schema {
            Value::Object(map) if ignores_siblings(node.root) && map.contains_key("$ref") => {
                joined.add(self.read(node, budget));
            }
            Value::Object(map) => self.collect(node, map, budget, joined),
            _ => {}
        }
    }

    /// What an object has under a name when all these schemas describe it.
    pub(super) fn member(self, nodes: &[SchemaNode<'a>], name: &str) -> Property<'a> {
        let mut joined: Joined<'a> = Joined::default();
        let (mut declared, mut required, mut names) = (false, false, Vec::new());
        let mut closed = false;
        let declares =
            |node: &SchemaNode<'a>| node.schema.pointer("/properties").is_some_and(|all| all.get(name).is_some());
        let anywhere = nodes.iter().any(declares);
        for node in nodes {
            let properties = node.schema.get("properties").and_then(Value::as_object);
            names.extend(properties.into_iter().flat_map(Map::keys).map(String::as_str));
            if let Some(schema) = properties.and_then(|all| all.get(name)) {
                declared = true;
                joined.add(self.of(SchemaNode { schema, ..*node }));
            }
            let all = node.schema.get("required").and_then(Value::as_array);
            required |= all.is_some_and(|all| all.iter().any(|one| one == name));
            // Which of several it is that is there is not followed.
            let branches = ["anyOf", "oneOf"].iter().filter_map(|word| node.schema.get(*word)?.as_array()).flatten();
            let mut ways = branches.filter_map(|branch| branch.get("required")?.as_array()).flatten();
            required |= declares(node) && ways.any(|one| one == name);
            let no = |word: &str| node.schema.get(word) == Some(&Value::Bool(false));
            let patterns = node.schema.get("patternProperties").is_some();
            closed |= !patterns && no("additionalProperties") && !declares(node);
            closed |= !patterns && no("unevaluatedProperties") && !anywhere;
        }
        if closed {
            return Property::Absent(names);
        }
        // A schema that names some properties means those, though it forbids no others.
        let says_more = |node: &SchemaNode<'a>| SAYS_MORE.iter().any(|word| node.schema.get(word).is_some());
        if !declared && !required && !names.is_empty() && !nodes.iter().any(says_more) {
            return Property::Open(names);
        }
        let ty = joined.ty.unwrap_or(Type::Unknown);
        if required || !declared { Property::Present(ty) } else { Property::Optional(ty) }
    }
}

impl<'a> Joined<'a> {
    fn add(&mut self, ty: Type<'a>) {
        self.ty = Some(match self.ty.take() {
            None => ty,
            Some(before) => both(&before, &ty),
        });
    }
}

/// An object described by more schemas; anything else as it is.
fn described<'a>(ty: Type<'a>, more: &[SchemaNode<'a>]) -> Type<'a> {
    let mut nodes = match ty {
        ty if more.is_empty() => return ty,
        Type::Object(node) => vec![node],
        Type::Every(nodes) => nodes.to_vec(),
        other => return other,
    };
    for node in more {
        if !nodes.iter().any(|known| std::ptr::eq(known.schema, node.schema)) {
            nodes.push(*node);
        }
    }
    Type::Every(Rc::new(nodes))
}

/// What is of both types; unknown when nothing can be, or when one of them is.
fn both<'a>(a: &Type<'a>, b: &Type<'a>) -> Type<'a> {
    let mut found = Vec::new();
    for first in a.branches() {
        for second in b.branches() {
            match (first.kind(), second.kind()) {
                (Some(one), Some(other)) if one == other => found.push(narrower(first.clone(), second)),
                (Some(_), Some(_)) => {}
                _ => return Type::Unknown,
            }
        }
    }
    union(found)
}

/// Two types of one kind as one.
fn narrower<'a>(a: Type<'a>, b: Type<'a>) -> Type<'a> {
    match (a, b) {
        (Type::Text(Some(a)), Type::Text(Some(b))) => {
            Type::Text(Some(a.into_iter().filter(|text| b.contains(text)).collect()))
        }
        (Type::Text(None), Type::Text(texts)) => Type::Text(texts),
        (Type::Items(one, least), Type::Items(other, more)) => {
            let node = if one.schema.get("items").is_some() { one } else { other };
            Type::Items(node, least.max(more))
        }
        (a @ (Type::Object(_) | Type::Every(_)), Type::Object(node)) => described(a, &[node]),
        (a @ (Type::Object(_) | Type::Every(_)), Type::Every(nodes)) => described(a, &nodes),
        (a, _) => a,
    }
}
