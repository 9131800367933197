//! The types of a list's items, by their positions, and the number of items.

use serde_json::Value;

use super::types::{SchemaNode, Schemas, TupleType, Type, TypeKind, is_same_type, union};

/// The schemas of a list's items.
struct ItemSchemas<'a> {
    /// The schemas of the first items, by their positions (`prefixItems`).
    prefix: &'a [Value],
    /// The schema of the items after them (`items`); `None` if the schema of the list does not describe them.
    rest: Option<&'a Value>,
}

impl<'a> ItemSchemas<'a> {
    fn from_list(schema: &'a Value) -> Self {
        match (schema.get("prefixItems"), schema.get("items")) {
            (Some(Value::Array(prefix)), rest) => Self { prefix, rest },
            // The form before draft 2020-12.
            (_, Some(Value::Array(prefix))) => Self { prefix, rest: schema.get("additionalItems") },
            (_, rest) => Self { prefix: &[], rest },
        }
    }
}

/// The maximum number of items of a list that a schema describes; `None` if the schema sets none.
fn max_items(schema: &Value) -> Option<u64> {
    let items = ItemSchemas::from_list(schema);
    let fixed_length = (items.rest == Some(&Value::Bool(false))).then_some(items.prefix.len() as u64);
    [fixed_length, schema.get("maxItems").and_then(Value::as_u64)].into_iter().flatten().min()
}

impl<'a> Type<'a> {
    /// The type of a list of a fixed length, with the type of each item.
    pub(super) fn tuple(items: Vec<Type<'a>>) -> Self {
        Self::Tuple(TupleType { items, names: &[] }.into())
    }

    /// The type of `[]`.
    pub(super) fn empty_list() -> Self {
        Self::tuple(Vec::new())
    }

    /// The maximum number of items of a list; `None` if the number is not limited, or if the type is not a list.
    pub(super) fn max_length(&self) -> Option<u64> {
        match self {
            Type::Tuple(tuple) => Some(tuple.items.len() as u64),
            Type::SchemaList(node, _) => max_items(node.schema),
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
            | Type::Object(_)
            | Type::AllOf(_)
            | Type::FixedObject(_)
            | Type::RefinedObject(_)
            | Type::StepStatuses(_)
            | Type::Union(_) => None,
        }
    }

    /// A lower bound of the number of items, characters or properties of a value (for text and objects only 0 or 1). 0
    /// for a value of any other kind.
    pub(super) fn min_count(&self) -> u64 {
        if let Type::Union(types) = self {
            return types.iter().map(Type::min_count).min().unwrap_or(0);
        }
        match self.kind() {
            Some(TypeKind::List) => self.min_length(),
            Some(TypeKind::Text | TypeKind::Object) => u64::from(self.is_always_truthy()),
            Some(TypeKind::Null | TypeKind::Bool | TypeKind::Number) | None => 0,
        }
    }

    /// The number of items that the lists of a type have: the minimum, and the maximum if there is one. `None` unless
    /// every value of the type is a list.
    pub(super) fn length_range(&self) -> Option<(u64, Option<u64>)> {
        let types = self.branches();
        if !types.iter().all(|ty| ty.kind() == Some(TypeKind::List)) {
            return None;
        }
        let min = types.iter().map(Type::min_length).min()?;
        let maxima: Option<Vec<u64>> = types.iter().map(Type::max_length).collect();
        Some((min, maxima.and_then(|maxima| maxima.into_iter().max())))
    }
}

impl<'a> Schemas<'a> {
    /// The type of a list's items; unknown if the type is not a list.
    pub(super) fn item_type(self, ty: &Type<'a>) -> Type<'a> {
        match ty {
            Type::List(item_type, _) => (**item_type).clone(),
            Type::Tuple(tuple) => union(tuple.items.iter().cloned()),
            Type::SchemaList(node, _) => self.schema_item_type(*node),
            Type::Union(types) => self.common_item_type(types).unwrap_or(Type::Unknown),
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Flag(_)
            | Type::Number
            | Type::Numeric(_)
            | Type::Text(_)
            | Type::NonEmptyText
            | Type::NumericText
            | Type::Object(_)
            | Type::AllOf(_)
            | Type::FixedObject(_)
            | Type::RefinedObject(_)
            | Type::StepStatuses(_) => Type::Unknown,
        }
    }

    /// The type of the items of several lists; `None` if none of them can have an item.
    pub(super) fn common_item_type(self, lists: &[Type<'a>]) -> Option<Type<'a>> {
        let possibly_non_empty = lists.iter().filter(|list| list.max_length() != Some(0));
        let types: Vec<Type<'a>> = possibly_non_empty.map(|list| self.item_type(list)).collect();
        (!types.is_empty()).then(|| union(types))
    }

    /// The type of `a + b`, where `a` has the first type and `b` the second. Ignores the values that are not lists.
    pub(super) fn concatenation(self, first: &Type<'a>, second: &Type<'a>) -> Type<'a> {
        let (first, second) = (lists_of(first), lists_of(second));
        let min_of = |lists: &[Type<'a>]| lists.iter().map(Type::min_length).min().unwrap_or(0);
        let min_length = min_of(&first).saturating_add(min_of(&second));
        match self.common_item_type(&[first, second].concat()) {
            Some(item) => Type::List(item.into(), min_length),
            None => Type::empty_list(),
        }
    }

    /// The union of two types, in which all list types are merged into one.
    pub(super) fn merged_type(self, first: &Type<'a>, second: &Type<'a>) -> Type<'a> {
        let types = [first.branches(), second.branches()].concat();
        if types.iter().any(|ty| matches!(ty, Type::Unknown)) {
            return Type::Unknown;
        }
        let (lists, others): (Vec<Type<'a>>, Vec<Type<'a>>) =
            types.into_iter().partition(|ty| ty.kind() == Some(TypeKind::List));
        union(others.into_iter().chain(self.merged_lists(&lists)))
    }

    /// One type for lists of several types; `None` if there are none.
    fn merged_lists(self, lists: &[Type<'a>]) -> Option<Type<'a>> {
        let (first, others) = lists.split_first()?;
        if others.iter().all(|other| is_same_type(first, other)) {
            return Some(first.clone());
        }
        let min_length = lists.iter().map(Type::min_length).min().unwrap_or(0);
        let item_type = self.common_item_type(lists);
        Some(item_type.map_or_else(|| first.clone(), |item| Type::List(item.into(), min_length)))
    }

    fn schema_item_type(self, node: SchemaNode<'a>) -> Type<'a> {
        let items = ItemSchemas::from_list(node.schema);
        let type_of = |schema| self.schema_type(node.with_schema(schema));
        let has_rest = max_items(node.schema).is_none_or(|max| max > items.prefix.len() as u64);
        let rest = has_rest.then(|| items.rest.map_or(Type::Unknown, type_of));
        union(items.prefix.iter().map(type_of).chain(rest))
    }

    /// The type of the item at a position from the start of a list; unknown if the type is not a list.
    pub(super) fn item_type_at(self, ty: &Type<'a>, position: usize) -> Type<'a> {
        match ty {
            Type::Tuple(tuple) => tuple.items.get(position).cloned().unwrap_or(Type::Unknown),
            Type::SchemaList(node, _) => {
                let items = ItemSchemas::from_list(node.schema);
                let schema = items.prefix.get(position).or(items.rest);
                schema.map_or(Type::Unknown, |schema| self.schema_type(node.with_schema(schema)))
            }
            other => self.item_type(other),
        }
    }
}

/// The lists among the types that a union consists of.
fn lists_of<'a>(ty: &Type<'a>) -> Vec<Type<'a>> {
    ty.branches().into_iter().filter(|ty| ty.kind() == Some(TypeKind::List)).collect()
}
