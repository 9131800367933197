//! Merges schemas that all apply to one value: the parts of `allOf`, and keywords beside a `$ref`.
//!
//! If one of them is not understood, the type of the whole is unknown.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::types::{Property, SchemaNode, Schemas, Type, union};

/// Keywords that restrict objects only.
const OF_OBJECTS: &[&str] =
    &["properties", "required", "additionalProperties", "unevaluatedProperties", "patternProperties"];

/// Keywords that restrict the type of a value.
const OF_TYPES: &[&str] = &["type", "const", "enum", "anyOf", "oneOf", "not", "if"];

/// Keywords with which a schema describes or expressly allows properties that it does not name.
const SAYS_MORE: &[&str] = &["additionalProperties", "unevaluatedProperties", "patternProperties", "dependentSchemas"];

/// Whether a schema has keywords beside its `$ref` that affect the type.
pub(super) fn speaks(map: &Map<String, Value>) -> bool {
    let words = OF_OBJECTS.iter().chain(OF_TYPES).chain(&["allOf"]);
    words.into_iter().any(|word| map.contains_key(*word))
}

/// Whether the schema's draft is 7 or earlier, where keywords beside a `$ref` are ignored.
pub(super) fn ignores_siblings(root: &Value) -> bool {
    let dialect = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
    ["draft-03", "draft-04", "draft-06", "draft-07"].iter().any(|draft| dialect.contains(draft))
}

/// The combined meaning of several schemas.
#[derive(Default)]
struct Joined<'a> {
    /// The type, if one of the schemas restricts it.
    ty: Option<Type<'a>>,
    /// The schemas that describe the value if it is an object.
    objects: Vec<SchemaNode<'a>>,
}

impl<'a> Schemas<'a> {
    /// The type of a schema with `allOf`, or with other keywords beside `$ref`.
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

    /// What an object has under a name if all these schemas describe it.
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
            // It is not known which alternative applies, so a name that any of them requires counts as required.
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
        // A schema that names some properties probably means only those, even if it does not forbid others.
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

/// The type with further schemas added to it if it is an object; any other type unchanged.
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

/// The type of values that are of both types; unknown if there are none, or if one of the types is unknown.
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

/// The more specific type that two types of one kind form together.
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
