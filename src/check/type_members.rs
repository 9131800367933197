//! Lists the properties of a value, with types and descriptions from their schemas, for completion and hover in the
//! language server.

use serde_json::{Map, Value};

use super::types::{Property, SchemaNode, Schemas, Type};

/// A property of a value.
pub(super) struct TypeMember<'a> {
    pub(super) name: &'a str,
    pub(super) ty: Type<'a>,
    /// Whether it may be absent.
    pub(super) may_be_absent: bool,
    /// Its schema, if one describes it.
    pub(super) schema: Option<SchemaNode<'a>>,
}

impl<'a> Schemas<'a> {
    /// The properties of a value; for a union, the properties of all its alternatives.
    pub(super) fn members(self, ty: &Type<'a>) -> Vec<TypeMember<'a>> {
        let branches = ty.branches();
        let mut collected: Vec<TypeMember<'a>> = Vec::new();
        for branch in &branches {
            for (name, schema) in property_names(branch) {
                if collected.iter().any(|other| other.name == name) {
                    continue;
                }
                let properties: Vec<_> = branches.iter().map(|branch| self.property(branch, name)).collect();
                let is_always_present =
                    properties.iter().all(|property| matches!(property, Some(Property::Present(_))));
                let types = properties.into_iter().filter_map(|property| match property {
                    Some(Property::Present(ty) | Property::Optional(ty)) => Some(ty),
                    Some(Property::Absent(_) | Property::Open(_)) | None => None,
                });
                collected.push(TypeMember {
                    name,
                    ty: super::types::union(types),
                    may_be_absent: !is_always_present,
                    schema,
                });
            }
        }
        collected
    }

    /// The description or title of a schema, or of the schema that it refers to.
    pub(super) fn description(self, node: SchemaNode<'a>) -> Option<&'a str> {
        let mut node = node;
        // Bounded, because references may form a cycle.
        for _ in 0..8 {
            let description =
                ["description", "title"].iter().find_map(|key| node.schema.get(*key).and_then(Value::as_str));
            if description.is_some() {
                return description;
            }
            node = self.resolve_ref(node, node.schema.get("$ref")?.as_str()?)?;
        }
        None
    }
}

/// The names of a value's properties, with their schemas.
fn property_names<'a>(ty: &Type<'a>) -> Vec<(&'a str, Option<SchemaNode<'a>>)> {
    let names_in = |nodes: &[SchemaNode<'a>]| {
        let names = nodes.iter().flat_map(|node| {
            let properties = node.schema.get("properties").and_then(Value::as_object);
            let node = *node;
            properties
                .into_iter()
                .flat_map(Map::iter)
                .map(move |(name, schema)| (name.as_str(), Some(node.with_schema(schema))))
        });
        names.collect()
    };
    match ty {
        Type::Object(node) => names_in(std::slice::from_ref(node)),
        Type::AllOf(nodes) => names_in(nodes),
        Type::FixedObject(members) => members.keys().map(|name| (*name, None)).collect(),
        Type::RefinedObject(refined) => property_names(&refined.base),
        Type::StepStatuses(statuses) => statuses.keys().map(|name| (*name, None)).collect(),
        Type::Tuple(tuple) => tuple.names.iter().map(|name| (*name, None)).collect(),
        Type::Unknown
        | Type::Null
        | Type::Bool
        | Type::Flag(_)
        | Type::Number
        | Type::Numeric(_)
        | Type::Text(_)
        | Type::NonEmptyText
        | Type::NumericText
        | Type::List(..)
        | Type::SchemaList(..)
        | Type::Union(_) => Vec::new(),
    }
}

/// Renders a type for the user, without the properties of objects.
pub(super) fn render_type(schemas: Schemas<'_>, ty: &Type<'_>) -> String {
    match ty {
        Type::Text(Some(texts)) => texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(" | "),
        Type::List(..) | Type::Tuple(_) | Type::SchemaList(..) => match schemas.item_type(ty) {
            Type::Unknown => "list".to_owned(),
            inner @ Type::Union(_) => format!("list of ({})", render_type(schemas, &inner)),
            inner => format!("list of {}", render_type(schemas, &inner)),
        },
        Type::Union(branches) => {
            let mut names: Vec<String> = Vec::new();
            for name in branches.iter().map(|ty| render_type(schemas, ty)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names.join(" | ")
        }
        Type::Unknown => "any".to_owned(),
        Type::Null => "null".to_owned(),
        Type::Bool | Type::Flag(_) => "boolean".to_owned(),
        Type::Number | Type::Numeric(_) => "number".to_owned(),
        Type::Text(None) | Type::NonEmptyText | Type::NumericText => "string".to_owned(),
        Type::Object(_) | Type::AllOf(_) | Type::FixedObject(_) | Type::RefinedObject(_) | Type::StepStatuses(_) => {
            "object".to_owned()
        }
    }
}
