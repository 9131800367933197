//! Derives placeholders and size limits for a value from its schema, before the value exists.
//!
//! A sample need not fit its schema in every respect, such as patterns and formats.

use serde_json::{Map, Value, json};

use super::Schema;

/// The maximum depth of a sample; deeper parts show only their type.
const MAX_DEPTH: usize = 8;
/// The maximum number of visited parts of a schema, because schemas may be recursive.
const MAX_VISITS: usize = 2_000;
/// The assumed length of a number in JSON, in bytes.
const NUMBER_BYTES: u64 = 24;

impl Schema {
    /// Returns a value with the schema's structure whose parts name their path and type, such as
    /// `‹plan.summary: string›`. Lists have one item.
    pub fn placeholder(&self, name: &str) -> Value {
        ValueSampler::new(self.as_value()).placeholder(self.as_value(), name, 0)
    }

    /// Returns a value that is about as small as the schema allows.
    pub fn smallest_value(&self) -> Value {
        ValueSampler::new(self.as_value()).smallest_value(self.as_value(), 0)
    }

    /// Returns the maximum length of the value as JSON, in bytes; `None` if the schema sets no limit.
    pub fn max_bytes(&self) -> Option<u64> {
        ValueSampler::new(self.as_value()).max_bytes(self.as_value(), 0)
    }

    /// Returns the minimum and maximum number of items of the list at a path of properties. The maximum is `None` if
    /// the schema sets none; the result is `None` if the schema has no list at the path.
    pub fn item_count_range(&self, path: &[&str]) -> Option<(u64, Option<u64>)> {
        let sampler = ValueSampler::new(self.as_value());
        let mut node = sampler.resolve(self.as_value());
        for name in path {
            node = sampler.resolve(node.get("properties")?.get(*name)?);
        }
        let is_list = type_name(node) == Some("array");
        is_list.then(|| (integer_keyword(node, "minItems").unwrap_or(0), integer_keyword(node, "maxItems")))
    }
}

/// Returns the placeholder for a value with this name and type.
pub fn placeholder_value(name: &str, type_name: &str) -> Value {
    Value::from(format!("‹{name}: {type_name}›"))
}

struct ValueSampler<'a> {
    root: &'a Value,
    remaining_visits: usize,
}

impl<'a> ValueSampler<'a> {
    fn new(root: &'a Value) -> Self {
        Self { root, remaining_visits: MAX_VISITS }
    }

    /// Follows references, and chooses the first alternative of a union that is not null.
    fn resolve(&self, mut node: &'a Value) -> &'a Value {
        for _ in 0..MAX_DEPTH {
            let next = match node.get("$ref").and_then(Value::as_str) {
                Some(reference) => reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)),
                None => ["anyOf", "oneOf"].iter().find_map(|keyword| first_not_null(node.get(*keyword)?)),
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    /// Counts a visit, and returns whether the sample may go deeper.
    fn count_visit(&mut self, depth: usize) -> bool {
        self.remaining_visits = self.remaining_visits.saturating_sub(1);
        depth < MAX_DEPTH && self.remaining_visits > 0
    }

    fn placeholder(&mut self, node: &'a Value, name: &str, depth: usize) -> Value {
        let node = self.resolve(node);
        if let Some(value) = node.get("const") {
            return value.clone();
        }
        if let Some(Value::Array(values)) = node.get("enum") {
            let alternatives: Vec<String> = values.iter().take(6).map(display_text).collect();
            let ellipsis = if values.len() > 6 { " | …" } else { "" };
            return placeholder_value(name, &format!("{}{ellipsis}", alternatives.join(" | ")));
        }
        let can_descend = self.count_visit(depth);
        match type_name(node) {
            Some("object") if can_descend && node.get("properties").is_some() => {
                let members = properties(node).map(|(key, schema)| {
                    let value = self.placeholder(schema, &format!("{name}.{key}"), depth + 1);
                    (key.clone(), value)
                });
                Value::Object(members.collect())
            }
            Some("array") if can_descend => match node.get("items") {
                Some(items @ Value::Object(_)) => json!([self.placeholder(items, &format!("{name}[]"), depth + 1)]),
                Some(_) | None => json!([placeholder_value(&format!("{name}[]"), "any")]),
            },
            Some("null") => Value::Null,
            Some(type_name) => placeholder_value(name, type_name),
            None => placeholder_value(name, "any"),
        }
    }

    fn smallest_value(&mut self, node: &'a Value, depth: usize) -> Value {
        let node = self.resolve(node);
        let first_enum_value = node.get("enum").and_then(Value::as_array).and_then(|values| values.first());
        if let Some(value) = node.get("const").or(first_enum_value) {
            return value.clone();
        }
        let can_descend = self.count_visit(depth);
        match type_name(node) {
            Some("object") => {
                let required: Vec<&str> = node
                    .get("required")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let members = properties(node).filter(|(key, _)| can_descend && required.contains(&key.as_str()));
                let members: Vec<(&String, &Value)> = members.collect();
                let members = members.into_iter();
                Value::Object(
                    members.map(|(key, schema)| (key.clone(), self.smallest_value(schema, depth + 1))).collect(),
                )
            }
            Some("array") => {
                let count = integer_keyword(node, "minItems").unwrap_or(0).min(100);
                match node.get("items") {
                    Some(items) if can_descend => (0..count).map(|_| self.smallest_value(items, depth + 1)).collect(),
                    Some(_) | None => json!([]),
                }
            }
            Some("string") => {
                let length = integer_keyword(node, "minLength").unwrap_or(0).min(10_000);
                Value::from("x".repeat(usize::try_from(length).unwrap_or_default()))
            }
            Some("integer" | "number") => node.get("minimum").cloned().unwrap_or(json!(0)),
            Some("boolean") => json!(false),
            Some(_) | None => Value::Null,
        }
    }

    fn max_bytes(&mut self, node: &'a Value, depth: usize) -> Option<u64> {
        let node = self.resolve(node);
        if let Some(value) = node.get("const") {
            return Some(json_length(value));
        }
        if let Some(Value::Array(values)) = node.get("enum") {
            return values.iter().map(json_length).max();
        }
        if !self.count_visit(depth) {
            return None;
        }
        match type_name(node)? {
            // Ignores properties that the schema does not declare: a model that knows the schema rarely adds any.
            "object" => properties(node).try_fold(2_u64, |sum, (key, schema)| {
                let key_bytes = u64::try_from(key.len()).ok()?.saturating_add(4);
                Some(sum.saturating_add(key_bytes).saturating_add(self.max_bytes(schema, depth + 1)?))
            }),
            "array" => {
                let count = integer_keyword(node, "maxItems")?;
                let item_bytes = self.max_bytes(node.get("items")?, depth + 1)?;
                Some(count.saturating_mul(item_bytes.saturating_add(1)).saturating_add(2))
            }
            "string" => Some(integer_keyword(node, "maxLength")?.saturating_add(2)),
            "integer" | "number" => Some(NUMBER_BYTES),
            "boolean" => Some(5),
            "null" => Some(4),
            _ => None,
        }
    }
}

fn properties(node: &Value) -> impl Iterator<Item = (&String, &Value)> {
    node.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn first_not_null(branches: &Value) -> Option<&Value> {
    let branches = branches.as_array()?;
    branches.iter().find(|branch| type_name(branch) != Some("null")).or(branches.first())
}

/// Returns the type that a schema names, or that its keywords imply.
fn type_name(node: &Value) -> Option<&str> {
    match node.get("type") {
        Some(Value::String(name)) => Some(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        Some(_) => None,
        None if node.get("properties").is_some() => Some("object"),
        None if node.get("items").is_some() => Some("array"),
        None => None,
    }
}

fn integer_keyword(node: &Value, keyword: &str) -> Option<u64> {
    node.get(keyword).and_then(Value::as_u64)
}

fn display_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn json_length(value: &Value) -> u64 {
    u64::try_from(value.to_string().len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(value: Value) -> Schema {
        Schema::compile("a.schema.json", value).unwrap()
    }

    fn plan() -> Schema {
        schema(json!({
            "type": "object", "required": ["summary", "steps"],
            "properties": {
                "summary": { "type": "string", "minLength": 3, "maxLength": 200 },
                "level": { "enum": ["low", "high"] },
                "steps": { "type": "array", "minItems": 1, "maxItems": 4, "items": { "$ref": "#/$defs/step" } }
            },
            "$defs": { "step": { "type": "object", "properties": { "title": { "type": ["string", "null"], "maxLength": 10 } } } }
        }))
    }

    #[test]
    fn a_placeholder_contains_the_path_and_type_of_each_part() {
        assert_eq!(
            plan().placeholder("plan"),
            json!({ "summary": "‹plan.summary: string›", "level": "‹plan.level: low | high›",
                "steps": [{ "title": "‹plan.steps[].title: string›" }] })
        );
        assert_eq!(Schema::any().placeholder("x"), json!("‹x: any›"));
    }

    #[test]
    fn the_smallest_value_fits_and_the_limits_are_correct() {
        let smallest = plan().smallest_value();
        assert_eq!(smallest, json!({ "summary": "xxx", "steps": [{}] }));
        assert!(plan().is_valid(&smallest));
        let max_bytes = plan().max_bytes().unwrap();
        assert!(max_bytes > 200 + 4 * 10 && max_bytes < 400, "{max_bytes}");
        assert_eq!(schema(json!({ "type": "string" })).max_bytes(), None);
        assert_eq!(plan().item_count_range(&["steps"]), Some((1, Some(4))));
        assert_eq!(plan().item_count_range(&["summary"]), None);
    }

    #[test]
    fn a_recursive_schema_has_a_finite_sample() {
        let tree = schema(json!({
            "type": "object", "required": ["left", "right"],
            "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } }
        }));
        assert!(tree.placeholder("tree").is_object() && tree.smallest_value().is_object());
        assert_eq!(tree.max_bytes(), None);
    }
}
