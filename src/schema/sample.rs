//! Derives from a schema what is known about a value before it exists: placeholders to show, and sizes for forecasts.
//!
//! A sample need not fit its schema in every respect, such as patterns and formats.

use serde_json::{Map, Value, json};

use super::Schema;

/// How many levels deep samples are made; deeper parts are shown by their type alone.
const DEPTH: usize = 8;
/// How many parts of a schema a sample may visit, because schemas may be recursive.
const PLACES: usize = 2_000;
/// How many bytes a number takes in JSON, for numbers of usual length.
const NUMBER: u64 = 24;

impl Schema {
    /// A value with the schema's structure whose parts name their path and type, such as `‹plan.summary: string›`.
    /// Lists have one item.
    pub fn placeholder(&self, name: &str) -> Value {
        ValueSampler::new(self.document()).shown(self.document(), name, 0)
    }

    /// A value that is about as small as the schema allows.
    pub fn least(&self) -> Value {
        ValueSampler::new(self.document()).least(self.document(), 0)
    }

    /// The maximum length of the value as JSON, in bytes; `None` if the schema sets no limit.
    pub fn most_bytes(&self) -> Option<u64> {
        ValueSampler::new(self.document()).most(self.document(), 0)
    }

    /// The minimum and maximum number of items of the list at a path of properties; no maximum if the schema sets none.
    /// `None` if the schema has no list there.
    pub fn count_at(&self, path: &[&str]) -> Option<(u64, Option<u64>)> {
        let sampler = ValueSampler::new(self.document());
        let mut node = sampler.target(self.document());
        for name in path {
            node = sampler.target(node.get("properties")?.get(*name)?);
        }
        (kind(node) == Some("array")).then(|| (number(node, "minItems").unwrap_or(0), number(node, "maxItems")))
    }
}

/// The placeholder for a value of which only the name and kind are known.
pub fn unknown(name: &str, kind: &str) -> Value {
    Value::from(format!("‹{name}: {kind}›"))
}

struct ValueSampler<'a> {
    root: &'a Value,
    left: usize,
}

impl<'a> ValueSampler<'a> {
    fn new(root: &'a Value) -> Self {
        Self { root, left: PLACES }
    }

    /// Follows references, and takes the first alternative of a union that is not null.
    fn target(&self, mut node: &'a Value) -> &'a Value {
        for _ in 0..DEPTH {
            let next = match node.get("$ref").and_then(Value::as_str) {
                Some(reference) => reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)),
                None => ["anyOf", "oneOf"].iter().find_map(|word| first_not_null(node.get(*word)?)),
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    /// Counts a visit, and returns whether the sample may go deeper.
    fn visit(&mut self, depth: usize) -> bool {
        self.left = self.left.saturating_sub(1);
        depth < DEPTH && self.left > 0
    }

    fn shown(&mut self, node: &'a Value, name: &str, depth: usize) -> Value {
        let node = self.target(node);
        if let Some(value) = node.get("const") {
            return value.clone();
        }
        if let Some(Value::Array(values)) = node.get("enum") {
            let words: Vec<String> = values.iter().take(6).map(word).collect();
            let more = if values.len() > 6 { " | …" } else { "" };
            return unknown(name, &format!("{}{more}", words.join(" | ")));
        }
        let goes_on = self.visit(depth);
        match kind(node) {
            Some("object") if goes_on && node.get("properties").is_some() => {
                let shown = properties(node).map(|(key, schema)| {
                    let value = self.shown(schema, &format!("{name}.{key}"), depth + 1);
                    (key.clone(), value)
                });
                Value::Object(shown.collect())
            }
            Some("array") if goes_on => match node.get("items") {
                Some(items @ Value::Object(_)) => json!([self.shown(items, &format!("{name}[]"), depth + 1)]),
                Some(_) | None => json!([unknown(&format!("{name}[]"), "any")]),
            },
            Some("null") => Value::Null,
            Some(kind) => unknown(name, kind),
            None => unknown(name, "any"),
        }
    }

    fn least(&mut self, node: &'a Value, depth: usize) -> Value {
        let node = self.target(node);
        let listed = node.get("enum").and_then(Value::as_array).and_then(|values| values.first());
        if let Some(value) = node.get("const").or(listed) {
            return value.clone();
        }
        let goes_on = self.visit(depth);
        match kind(node) {
            Some("object") => {
                let required: Vec<&str> = node
                    .get("required")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let kept = properties(node).filter(|(key, _)| goes_on && required.contains(&key.as_str()));
                let parts: Vec<(&String, &Value)> = kept.collect();
                Value::Object(
                    parts.into_iter().map(|(key, schema)| (key.clone(), self.least(schema, depth + 1))).collect(),
                )
            }
            Some("array") => {
                let count = number(node, "minItems").unwrap_or(0).min(100);
                match node.get("items") {
                    Some(items) if goes_on => (0..count).map(|_| self.least(items, depth + 1)).collect(),
                    Some(_) | None => json!([]),
                }
            }
            Some("string") => {
                let length = number(node, "minLength").unwrap_or(0).min(10_000);
                Value::from("x".repeat(usize::try_from(length).unwrap_or_default()))
            }
            Some("integer" | "number") => node.get("minimum").cloned().unwrap_or(json!(0)),
            Some("boolean") => json!(false),
            Some(_) | None => Value::Null,
        }
    }

    fn most(&mut self, node: &'a Value, depth: usize) -> Option<u64> {
        let node = self.target(node);
        if let Some(value) = node.get("const") {
            return Some(length(value));
        }
        if let Some(Value::Array(values)) = node.get("enum") {
            return values.iter().map(length).max();
        }
        if !self.visit(depth) {
            return None;
        }
        match kind(node)? {
            // Properties that the schema does not declare are not counted: a model that is shown the schema rarely adds
            // any.
            "object" => properties(node).try_fold(2_u64, |sum, (key, schema)| {
                let name = u64::try_from(key.len()).ok()?.saturating_add(4);
                Some(sum.saturating_add(name).saturating_add(self.most(schema, depth + 1)?))
            }),
            "array" => {
                let count = number(node, "maxItems")?;
                let item = self.most(node.get("items")?, depth + 1)?;
                Some(count.saturating_mul(item.saturating_add(1)).saturating_add(2))
            }
            "string" => Some(number(node, "maxLength")?.saturating_add(2)),
            "integer" | "number" => Some(NUMBER),
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
    branches.iter().find(|branch| kind(branch) != Some("null")).or(branches.first())
}

/// The type that a schema names, or that its keywords imply.
fn kind(node: &Value) -> Option<&str> {
    match node.get("type") {
        Some(Value::String(name)) => Some(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        Some(_) => None,
        None if node.get("properties").is_some() => Some("object"),
        None if node.get("items").is_some() => Some("array"),
        None => None,
    }
}

fn number(node: &Value, word: &str) -> Option<u64> {
    node.get(word).and_then(Value::as_u64)
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn length(value: &Value) -> u64 {
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
    fn a_placeholder_tells_the_path_and_type_of_each_part() {
        assert_eq!(
            plan().placeholder("plan"),
            json!({ "summary": "‹plan.summary: string›", "level": "‹plan.level: low | high›",
                "steps": [{ "title": "‹plan.steps[].title: string›" }] })
        );
        assert_eq!(Schema::any().placeholder("x"), json!("‹x: any›"));
    }

    #[test]
    fn the_least_value_fits_and_the_longest_is_no_shorter() {
        let least = plan().least();
        assert_eq!(least, json!({ "summary": "xxx", "steps": [{}] }));
        assert!(plan().is_valid(&least));
        let most = plan().most_bytes().unwrap();
        assert!(most > 200 + 4 * 10 && most < 400, "{most}");
        assert_eq!(schema(json!({ "type": "string" })).most_bytes(), None);
        assert_eq!(plan().count_at(&["steps"]), Some((1, Some(4))));
        assert_eq!(plan().count_at(&["summary"]), None);
    }

    #[test]
    fn a_schema_that_refers_to_itself_comes_to_an_end() {
        let tree = schema(json!({
            "type": "object", "required": ["left", "right"],
            "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } }
        }));
        assert!(tree.placeholder("tree").is_object() && tree.least().is_object());
        assert_eq!(tree.most_bytes(), None);
    }
}
