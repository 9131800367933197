//! Looks up keys and values in the generated schemas of the file formats, by their path in a file.

use serde_json::{Map, Value};

use super::outline::Seg;
use super::projects::FileRole;
use crate::config;

/// The schema of a kind of file.
pub(super) fn schema(kind: &FileRole) -> Option<&'static Value> {
    match kind {
        FileRole::Pipeline => Some(config::pipeline_schema()),
        FileRole::Case => Some(config::case_schema()),
        FileRole::Settings => Some(config::settings_schema()),
        FileRole::Prompt(_) | FileRole::Schema(_) => None,
    }
}

/// A value of the format: the schema at its key (`own`), and the schema that this one refers to (`target`).
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyNode {
    own: &'static Value,
    target: &'static Value,
}

impl KeyNode {
    fn new(root: &'static Value, own: &'static Value) -> Self {
        let target = own.get("$ref").and_then(Value::as_str).and_then(|target| root.pointer(target.strip_prefix('#')?));
        Self { own, target: target.unwrap_or(own) }
    }

    /// The value at a path.
    pub(super) fn at(root: &'static Value, path: &[Seg]) -> Option<Self> {
        let mut node = Self::new(root, root);
        for seg in path {
            let below = match seg {
                Seg::Key(name) => {
                    let known = node.target.get("properties").and_then(|all| all.get(name));
                    known.or_else(|| node.target.get("additionalProperties").filter(|rest| rest.is_object()))?
                }
                Seg::Item(_) => node.target.get("items")?,
            };
            node = Self::new(root, below);
        }
        Some(node)
    }

    /// What the key is for.
    pub(super) fn about(self) -> Option<&'static str> {
        [self.own, self.target].iter().find_map(|schema| schema.get("description").and_then(Value::as_str))
    }

    /// An example, as written on one line.
    pub(super) fn example(self) -> Option<String> {
        let example = self.own.get("examples").or_else(|| self.target.get("examples"))?.get(0)?;
        Some(example.as_str().map_or_else(|| example.to_string(), str::to_owned))
    }

    /// Whether the value can have keys.
    pub(super) fn is_mapping(self) -> bool {
        self.is("object")
    }

    fn is(self, name: &str) -> bool {
        match self.target.get("type") {
            Some(Value::String(only)) => only == name,
            Some(Value::Array(names)) => names.iter().any(|one| one == name),
            _ => false,
        }
    }

    /// The type in a few words.
    pub(super) fn words(self) -> String {
        let named = |name: &str| {
            match name {
                "object" => "mapping",
                "array" => "list",
                "integer" => "whole number",
                _ => return name.to_owned(),
            }
            .to_owned()
        };
        match self.target.get("type") {
            Some(Value::String(name)) => named(name),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).map(named).collect::<Vec<_>>().join(" or ")
            }
            _ => "any".to_owned(),
        }
    }

    /// The keys that the value can have, in the order of the format, and whether each is required.
    pub(super) fn keys(self, root: &'static Value) -> Vec<(&'static str, KeyNode, bool)> {
        let required = self.target.get("required").and_then(Value::as_array);
        let needed = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
        let all = self.target.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter);
        all.map(|(name, own)| (name.as_str(), KeyNode::new(root, own), needed(name))).collect()
    }

    /// The fixed set of values, each with its description; empty if the format does not list them.
    pub(super) fn values(self) -> Vec<(String, Option<&'static str>)> {
        if self.is("boolean") {
            return vec![("true".to_owned(), None), ("false".to_owned(), None)];
        }
        let names = self.target.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let about = |index: usize| self.target.get("enumDescriptions")?.get(index)?.as_str();
        names.enumerate().map(|(index, name)| (name.to_owned(), about(index))).collect()
    }

    /// What completion inserts after a key: the colon, with a space unless only a mapping can follow.
    pub(super) fn after_colon(self) -> &'static str {
        if self.is_mapping() && !self.is("string") { ":" } else { ": " }
    }
}
