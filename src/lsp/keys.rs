//! Looks up keys and values in the generated schemas of the file formats, by their path in a file.

use serde_json::{Map, Value};

use super::outline_entry::PathSegment;
use super::projects::FileRole;
use crate::config;

/// Returns the schema of a kind of file.
pub(super) fn format_schema(role: &FileRole) -> Option<&'static Value> {
    match role {
        FileRole::Pipeline => Some(config::pipeline_schema()),
        FileRole::TestCase => Some(config::case_schema()),
        FileRole::Settings => Some(config::settings_schema()),
        FileRole::Prompt(_) | FileRole::Schema(_) => None,
    }
}

/// A value in the file format: the schema at its key, and the schema to which a `$ref` in that schema refers.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyNode {
    key_schema: &'static Value,
    resolved_schema: &'static Value,
}

impl KeyNode {
    fn new(root: &'static Value, key_schema: &'static Value) -> Self {
        let reference = key_schema.get("$ref").and_then(Value::as_str);
        let resolved_schema = reference.and_then(|reference| root.pointer(reference.strip_prefix('#')?));
        Self { key_schema, resolved_schema: resolved_schema.unwrap_or(key_schema) }
    }

    /// Returns the value at a path.
    pub(super) fn find(root: &'static Value, path: &[PathSegment]) -> Option<Self> {
        let mut node = Self::new(root, root);
        for segment in path {
            let child = match segment {
                PathSegment::Key(name) => {
                    let property = node.resolved_schema.get("properties").and_then(|properties| properties.get(name));
                    property.or_else(|| {
                        node.resolved_schema.get("additionalProperties").filter(|schema| schema.is_object())
                    })?
                }
                PathSegment::Item(_) => node.resolved_schema.get("items")?,
            };
            node = Self::new(root, child);
        }
        Some(node)
    }

    /// Returns the description of the key.
    pub(super) fn description(self) -> Option<&'static str> {
        [self.key_schema, self.resolved_schema]
            .iter()
            .find_map(|schema| schema.get("description").and_then(Value::as_str))
    }

    /// Returns an example on one line.
    pub(super) fn example(self) -> Option<String> {
        let example = self.key_schema.get("examples").or_else(|| self.resolved_schema.get("examples"))?.get(0)?;
        Some(example.as_str().map_or_else(|| example.to_string(), str::to_owned))
    }

    /// Returns whether the value can have keys.
    pub(super) fn is_mapping(self) -> bool {
        self.has_type("object")
    }

    fn has_type(self, name: &str) -> bool {
        match self.resolved_schema.get("type") {
            Some(Value::String(type_name)) => type_name == name,
            Some(Value::Array(type_names)) => type_names.iter().any(|type_name| type_name == name),
            _ => false,
        }
    }

    /// Returns the type as text, such as `list or mapping`.
    pub(super) fn type_label(self) -> String {
        let display_name = |name: &str| {
            match name {
                "object" => "mapping",
                "array" => "list",
                "integer" => "whole number",
                _ => return name.to_owned(),
            }
            .to_owned()
        };
        match self.resolved_schema.get("type") {
            Some(Value::String(name)) => display_name(name),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).map(display_name).collect::<Vec<_>>().join(" or ")
            }
            _ => "any".to_owned(),
        }
    }

    /// Returns the keys that the value can have, in the order of the format, and whether each is required.
    pub(super) fn child_keys(self, root: &'static Value) -> Vec<(&'static str, KeyNode, bool)> {
        let required = self.resolved_schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|required| required == name));
        let properties =
            self.resolved_schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter);
        properties
            .map(|(name, key_schema)| (name.as_str(), KeyNode::new(root, key_schema), is_required(name)))
            .collect()
    }

    /// Returns the allowed values, each with its description; empty if the format does not list them.
    pub(super) fn values(self) -> Vec<(String, Option<&'static str>)> {
        if self.has_type("boolean") {
            return vec![("true".to_owned(), None), ("false".to_owned(), None)];
        }
        let names =
            self.resolved_schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let description = |index: usize| self.resolved_schema.get("enumDescriptions")?.get(index)?.as_str();
        names.enumerate().map(|(index, name)| (name.to_owned(), description(index))).collect()
    }

    /// Returns the text that completion inserts after a key: a colon, and a space unless only a mapping can follow.
    pub(super) fn key_suffix(self) -> &'static str {
        if self.is_mapping() && !self.has_type("string") { ":" } else { ": " }
    }
}
