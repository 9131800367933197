//! Lists the properties of a value, with types and descriptions from their schemas. Completion and hover of the
//! language server use it.

use serde_json::{Map, Value};

use super::types::{Property, SchemaNode, Schemas, Type};

/// A property of a value.
pub(super) struct TypeMember<'a> {
    pub(super) name: &'a str,
    pub(super) ty: Type<'a>,
    /// Whether it may be absent.
    pub(super) maybe: bool,
    /// Its schema, if one describes it.
    pub(super) schema: Option<SchemaNode<'a>>,
}

impl<'a> Schemas<'a> {
    /// The properties of a value; for a union, those of all its branches.
    pub(super) fn members(self, ty: &Type<'a>) -> Vec<TypeMember<'a>> {
        let branches = ty.branches();
        let mut found: Vec<TypeMember<'a>> = Vec::new();
        for branch in &branches {
            for (name, schema) in names(branch) {
                if found.iter().any(|known| known.name == name) {
                    continue;
                }
                let all: Vec<_> = branches.iter().map(|branch| self.property(branch, name)).collect();
                let present = all.iter().all(|property| matches!(property, Some(Property::Present(_))));
                let types = all.into_iter().filter_map(|property| match property {
                    Some(Property::Present(ty) | Property::Optional(ty)) => Some(ty),
                    Some(Property::Absent(_) | Property::Open(_)) | None => None,
                });
                found.push(TypeMember { name, ty: super::types::union(types), maybe: !present, schema });
            }
        }
        found
    }

    /// The description or title of a schema, or of the schema that it refers to.
    pub(super) fn about(self, node: SchemaNode<'a>) -> Option<&'a str> {
        let mut node = node;
        for _ in 0..8 {
            let text = ["description", "title"].iter().find_map(|key| node.schema.get(*key).and_then(Value::as_str));
            if text.is_some() {
                return text;
            }
            node = self.follow(node, node.schema.get("$ref")?.as_str()?)?;
        }
        None
    }
}

/// The names of a value's properties, with their schemas.
fn names<'a>(ty: &Type<'a>) -> Vec<(&'a str, Option<SchemaNode<'a>>)> {
    let of = |nodes: &[SchemaNode<'a>]| {
        let each = nodes.iter().flat_map(|node| {
            let all = node.schema.get("properties").and_then(Value::as_object);
            let node = *node;
            all.into_iter()
                .flat_map(Map::iter)
                .map(move |(name, schema)| (name.as_str(), Some(SchemaNode { schema, ..node })))
        });
        each.collect()
    };
    match ty {
        Type::Object(node) => of(std::slice::from_ref(node)),
        Type::Every(nodes) => of(nodes),
        Type::Fixed(members) => members.keys().map(|name| (*name, None)).collect(),
        Type::Ends(ends) => ends.keys().map(|name| (*name, None)).collect(),
        Type::Unknown
        | Type::Null
        | Type::Bool
        | Type::Number
        | Type::Text(_)
        | Type::List(..)
        | Type::Items(..)
        | Type::Union(_) => Vec::new(),
    }
}

/// Renders a type for people, one level deep.
pub(super) fn shown(schemas: Schemas<'_>, ty: &Type<'_>) -> String {
    match ty {
        Type::Text(Some(texts)) => texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(" | "),
        Type::List(..) | Type::Items(..) => match schemas.items(ty) {
            Type::Unknown => "list".to_owned(),
            inner @ Type::Union(_) => format!("list of ({})", shown(schemas, &inner)),
            inner => format!("list of {}", shown(schemas, &inner)),
        },
        Type::Union(all) => all.iter().map(|ty| shown(schemas, ty)).collect::<Vec<_>>().join(" | "),
        Type::Unknown => "any".to_owned(),
        Type::Null => "null".to_owned(),
        Type::Bool => "boolean".to_owned(),
        Type::Number => "number".to_owned(),
        Type::Text(None) => "string".to_owned(),
        Type::Object(_) | Type::Every(_) | Type::Fixed(_) | Type::Ends(_) => "object".to_owned(),
    }
}
