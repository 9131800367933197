//! The values at one point of a forecast: known values, and placeholders for the results of steps that have not run
//! yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rpds::{RedBlackTreeMap, RedBlackTreeSet};
use serde_json::{Map, Value, json};

use crate::model::Digest;
use crate::model::name_scope::ExportedNames;
use crate::schema::{self, Schema};

use super::open_members::{add_placeholder, add_smallest};
use super::requests::max_reply_tokens;
use crate::engine::iteration_values::iteration_position;
use crate::engine::node::{ArtifactType, NodeKind, PlanNode};
use crate::engine::scope::ValueScope;

/// A value that is not known before its step has run.
#[derive(Clone)]
pub(super) struct UnknownValue {
    /// Its schema, if it has one.
    pub(super) schema: Option<Schema>,
    /// The upper bound of its size, in tokens.
    pub(super) max_tokens: Option<u64>,
}

impl UnknownValue {
    /// An unknown value that fits this schema.
    pub(super) fn from_schema(schema: &Schema) -> Self {
        Self { schema: Some(schema.clone()), max_tokens: schema.max_bytes().map(|bytes| bytes.div_ceil(2)) }
    }
}

/// The values at one point of a forecast, in two forms: placeholders for display, and the smallest possible values for
/// lower bounds. Copies share their entries, so that the time of a forecast grows linearly with the number of steps.
pub(super) struct AbstractEnv {
    pub(super) placeholders: ValueScope,
    pub(super) smallest: ValueScope,
    /// The variables whose values are not known yet.
    pub(super) unknown: RedBlackTreeMap<String, UnknownValue>,
    /// Artifacts that may never exist, because their step may not run.
    pub(super) uncertain: RedBlackTreeSet<String>,
    /// Artifacts that steps of the surrounding loops produce. Their values differ between iterations, and steps may
    /// read those of the previous iteration.
    pub(super) loop_artifacts: RedBlackTreeMap<String, UnknownValue>,
}

/// An unknown value, with its placeholder and its smallest possible value.
pub(super) struct PlaceholderPair {
    pub(super) placeholder: Value,
    pub(super) smallest: Value,
    pub(super) unknown: UnknownValue,
}

impl AbstractEnv {
    /// Creates the values at the start of a pipeline from both forms of its inputs.
    pub(super) fn from_inputs(
        placeholders: Map<String, Value>,
        smallest: Map<String, Value>,
        workspace_version: Digest,
    ) -> Self {
        Self {
            placeholders: ValueScope::new(placeholders, workspace_version.clone()),
            smallest: ValueScope::new(smallest, workspace_version),
            unknown: RedBlackTreeMap::new(),
            uncertain: RedBlackTreeSet::new(),
            loop_artifacts: RedBlackTreeMap::new(),
        }
    }

    /// Returns the values in an item, from both forms of the item.
    pub(super) fn for_item(&self, placeholder: Value, smallest: Value, index: usize) -> Self {
        let index = Value::from(index);
        self.with_scopes(
            self.placeholders.for_item(placeholder, index.clone()),
            self.smallest.for_item(smallest, index),
        )
    }

    /// Returns the values in the first iteration of a loop.
    pub(super) fn for_first_iteration(&self, max_iterations: u32) -> Self {
        let position = iteration_position(0, max_iterations);
        self.with_scopes(
            self.placeholders.for_iteration(position.clone(), None),
            self.smallest.for_iteration(position, None),
        )
    }

    /// Returns a copy for the steps inside a step.
    pub(super) fn child(&self) -> Self {
        self.with_scopes(self.placeholders.child_scope(), self.smallest.child_scope())
    }

    /// Returns a copy with these values in both forms.
    fn with_scopes(&self, placeholders: ValueScope, smallest: ValueScope) -> Self {
        let (unknown, uncertain) = (self.unknown.clone(), self.uncertain.clone());
        Self { placeholders, smallest, unknown, uncertain, loop_artifacts: self.loop_artifacts.clone() }
    }

    /// Returns a copy in which an unknown value has a member, at this path from the name of its variable. Returns `None`
    /// if the value is known, or has no such member for certain.
    pub(super) fn with_member(&self, path: &[String]) -> Option<Self> {
        let (root, members) = path.split_first()?;
        if members.is_empty() || !self.unknown.contains_key(root) {
            return None;
        }
        let placeholder = add_placeholder(self.placeholders.lookup_value(root)?, root, members)?;
        let smallest = add_smallest(self.smallest.lookup_value(root)?, root, members)?;
        let placeholders = self.placeholders.with_value(root, placeholder)?;
        Some(self.with_scopes(placeholders, self.smallest.with_value(root, smallest)?))
    }

    /// Whether the values of all these variables are known. The values of `steps` and `loop` count as unknown.
    pub(super) fn knows<'b>(&self, names: impl IntoIterator<Item = &'b String>) -> bool {
        names.into_iter().all(|name| {
            name != "steps"
                && name != "loop"
                && !self.unknown.contains_key(name)
                && !self.loop_artifacts.contains_key(name)
        })
    }

    /// Adds an artifact whose value is not known yet.
    pub(super) fn add_unknown(&mut self, name: &str, pair: PlaceholderPair) {
        self.placeholders.add_artifact(name, Arc::new(pair.placeholder));
        self.smallest.add_artifact(name, Arc::new(pair.smallest));
        self.unknown.insert_mut(name.to_owned(), pair.unknown);
    }

    /// Marks variables as unknown.
    pub(super) fn add_unknown_values(&mut self, values: impl IntoIterator<Item = (String, UnknownValue)>) {
        values.into_iter().for_each(|(name, value)| self.unknown.insert_mut(name, value));
    }

    /// Marks an artifact as unknown, unless it is unknown already.
    pub(super) fn mark_unknown(&mut self, name: &str) {
        if !self.unknown.contains_key(name) {
            self.unknown.insert_mut(name.to_owned(), UnknownValue { schema: None, max_tokens: None });
        }
    }

    /// Marks artifacts that may never exist.
    pub(super) fn mark_uncertain(&mut self, names: Vec<String>) {
        for name in names {
            self.uncertain.insert_mut(name);
        }
    }

    /// Adds the artifacts of the steps of a loop.
    pub(super) fn add_loop_artifacts(&mut self, artifacts: impl IntoIterator<Item = (String, UnknownValue)>) {
        artifacts.into_iter().for_each(|(name, value)| self.loop_artifacts.insert_mut(name, value));
    }

    /// Adds an artifact whose value is known.
    pub(super) fn add_known(&mut self, name: &str, value: &Arc<Value>) {
        self.placeholders.add_artifact(name, value.clone());
        self.smallest.add_artifact(name, value.clone());
        self.unknown.remove_mut(name);
    }

    /// Copies an artifact from an inner scope.
    pub(super) fn copy_artifact(&mut self, name: &str, inner: &Self) {
        if let (Some(placeholder), Some(smallest)) = (inner.placeholders.artifact(name), inner.smallest.artifact(name))
        {
            self.placeholders.add_artifact(name, placeholder.clone());
            self.smallest.add_artifact(name, smallest.clone());
            match inner.unknown.get(name) {
                Some(unknown) => self.unknown.insert_mut(name.to_owned(), unknown.clone()),
                None => {
                    self.unknown.remove_mut(name);
                }
            }
        }
        if inner.uncertain.contains(name) {
            self.uncertain.insert_mut(name.to_owned());
        }
    }

    /// Returns an upper bound, in tokens, of the unknown values that a step reads; `None` if one of them is unbounded.
    pub(super) fn max_read_tokens(&self, node: &PlanNode) -> Option<u64> {
        let reads_whole_iteration = node.previous_reads.iter().any(|read| read.artifact.is_none());
        let iteration = reads_whole_iteration.then(|| self.loop_artifacts.keys().map(String::as_str));
        let iteration = iteration.into_iter().flatten();
        let item = self.placeholders.item().is_some().then_some("item");
        let names: BTreeSet<&str> = node.read_artifacts().chain(iteration).chain(item).collect();
        let unknown_value = |name: &str| self.unknown.get(name).or_else(|| self.loop_artifacts.get(name));
        let unknown_values = names.into_iter().filter_map(unknown_value);
        unknown_values.map(|unknown| unknown.max_tokens).try_fold(0_u64, |sum, max| Some(sum.saturating_add(max?)))
    }
}

/// Returns the placeholder and the smallest value for the artifact of a step, or for one item of a `for_each` step.
pub(super) fn placeholders_for(node: &PlanNode, name: &str) -> PlaceholderPair {
    let artifact_type = node.output.as_ref().map(|output| &output.artifact_type);
    match (&node.kind, artifact_type) {
        (NodeKind::Agent(agent), Some(artifact_type)) => {
            artifact_placeholders(artifact_type, name, Some(max_reply_tokens(node, agent)))
        }
        (NodeKind::Command(command), Some(artifact_type)) if command.parses_stdout => {
            artifact_placeholders(artifact_type, name, None)
        }
        (NodeKind::Call(call), Some(artifact_type)) if call.has_schema => {
            artifact_placeholders(artifact_type, name, None)
        }
        (NodeKind::Call(_), _) => unbounded_pair(schema::placeholder_value(name, "any"), json!("")),
        (NodeKind::Command(_), _) => unbounded_pair(
            json!({
                "exit_code": schema::placeholder_value(&format!("{name}.exit_code"), "integer"),
                "stdout": schema::placeholder_value(&format!("{name}.stdout"), "string"),
                "stderr": schema::placeholder_value(&format!("{name}.stderr"), "string"),
            }),
            json!({ "exit_code": 0, "stdout": "", "stderr": "" }),
        ),
        (NodeKind::Write(_), _) => unbounded_pair(
            json!({ "files": [{
            "path": schema::placeholder_value(&format!("{name}.files[].path"), "string"),
            "change": schema::placeholder_value(&format!("{name}.files[].change"), "created | changed | deleted | unchanged"),
        }] }),
            json!({ "files": [] }),
        ),
        (NodeKind::Approve(_), _) => unbounded_pair(
            json!({
                "approved": schema::placeholder_value(&format!("{name}.approved"), "boolean"),
                "note": schema::placeholder_value(&format!("{name}.note"), "string"),
                "by": schema::placeholder_value(&format!("{name}.by"), "string"),
            }),
            json!({ "approved": true, "note": "", "by": "" }),
        ),
        (
            NodeKind::Agent(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_)
            | NodeKind::Pipeline(_),
            _,
        ) => unbounded_pair(schema::placeholder_value(name, "object"), json!({})),
    }
}

fn unbounded_pair(placeholder: Value, smallest: Value) -> PlaceholderPair {
    PlaceholderPair { placeholder, smallest, unknown: UnknownValue { schema: None, max_tokens: None } }
}

fn artifact_placeholders(artifact_type: &ArtifactType, name: &str, max_tokens: Option<u64>) -> PlaceholderPair {
    match artifact_type {
        ArtifactType::Text => PlaceholderPair {
            placeholder: schema::placeholder_value(name, "string"),
            smallest: json!("x"),
            unknown: UnknownValue { schema: None, max_tokens },
        },
        ArtifactType::Json(schema) => {
            let schema_max = schema.max_bytes().map(|bytes| bytes.div_ceil(2));
            let max_tokens = schema_max.into_iter().chain(max_tokens).min();
            PlaceholderPair {
                placeholder: schema.placeholder(name),
                smallest: schema.smallest_value(),
                unknown: UnknownValue { schema: Some(schema.clone()), max_tokens },
            }
        }
    }
}

/// Returns the unknown artifacts that later steps see after a step, by name.
pub(super) fn produced_artifacts(node: &PlanNode) -> BTreeMap<String, UnknownValue> {
    let unbounded = || UnknownValue { schema: None, max_tokens: None };
    match node.exported_names() {
        ExportedNames::Output(name) => {
            let unknown = if node.for_each.is_some() { unbounded() } else { placeholders_for(node, name).unknown };
            BTreeMap::from([(name.to_owned(), unknown)])
        }
        ExportedNames::OfChildren => node.exporting_children().flat_map(produced_artifacts).collect(),
        ExportedNames::OfCalledPipeline | ExportedNames::Nothing => {
            node.artifact_names().into_iter().map(|name| (name, unbounded())).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the places that store a value, because the time depends on the machine.
    #[test]
    fn a_copy_of_the_values_stores_no_value_again() {
        let (inputs, version) = (Map::new(), ValueScope::initial_workspace_version());
        let mut env = AbstractEnv::from_inputs(inputs.clone(), inputs, version);
        let value = Arc::new(json!(1));
        for index in 0..1000 {
            env.add_known(&format!("a{index}"), &value);
        }
        let before = Arc::strong_count(&value);
        let mut inner = env.child();
        inner.add_known("inner", &value);
        env.add_known("outer", &value);
        // An addition stores the value in both forms: among the artifacts and among the additions of the scope.
        assert_eq!(Arc::strong_count(&value) - before, 2 * 2 * 2);
        assert!(inner.placeholders.artifact("outer").is_none() && inner.placeholders.artifact("a999").is_some());
    }
}
