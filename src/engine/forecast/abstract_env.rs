//! The values at one point of a forecast: known values, and placeholders for the results of steps that have not run
//! yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use rpds::{RedBlackTreeMap, RedBlackTreeSet};
use serde_json::{Map, Value, json};

use crate::model::Digest;
use crate::schema::{self, Schema};

use super::requests::max_reply_tokens;
use crate::engine::node::{Contract, NodeKind, PlanNode};
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
    /// Artifacts that steps of the surrounding loop produce. From the second round on, a step may see the artifacts of
    /// the previous round.
    pub(super) later_artifacts: RedBlackTreeMap<String, UnknownValue>,
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
            later_artifacts: RedBlackTreeMap::new(),
        }
    }

    /// Returns a copy with both forms of an item or a round.
    pub(super) fn with_locals(
        &self,
        placeholders: Vec<(&'static str, Value)>,
        smallest: Vec<(&'static str, Value)>,
    ) -> Self {
        self.with_scopes(self.placeholders.with_locals(placeholders), self.smallest.with_locals(smallest))
    }

    /// Returns a copy for the steps inside a step.
    pub(super) fn child(&self) -> Self {
        self.with_scopes(self.placeholders.child_scope(), self.smallest.child_scope())
    }

    /// Returns a copy with these values in both forms.
    fn with_scopes(&self, placeholders: ValueScope, smallest: ValueScope) -> Self {
        let (unknown, uncertain) = (self.unknown.clone(), self.uncertain.clone());
        Self { placeholders, smallest, unknown, uncertain, later_artifacts: self.later_artifacts.clone() }
    }

    /// Whether the values of all these variables are known. The values of `steps` and `loop` count as unknown.
    pub(super) fn knows<'b>(&self, names: impl IntoIterator<Item = &'b String>) -> bool {
        names.into_iter().all(|name| {
            name != "steps"
                && name != "loop"
                && !self.unknown.contains_key(name)
                && !self.later_artifacts.contains_key(name)
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
        names.into_iter().for_each(|name| self.uncertain.insert_mut(name));
    }

    /// Adds the artifacts of the steps of a loop.
    pub(super) fn add_later_artifacts(&mut self, artifacts: impl IntoIterator<Item = (String, UnknownValue)>) {
        artifacts.into_iter().for_each(|(name, value)| self.later_artifacts.insert_mut(name, value));
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
        let names = node.inputs.iter().map(|input| input.name.as_str());
        let item = self.placeholders.item().is_some().then_some("item");
        let unknown_values =
            names.chain(item).filter_map(|name| self.unknown.get(name).or_else(|| self.later_artifacts.get(name)));
        unknown_values.map(|unknown| unknown.max_tokens).try_fold(0_u64, |sum, max| Some(sum.saturating_add(max?)))
    }
}

/// Returns the placeholder and the smallest value for the artifact of a step, or for one item of a `for_each` step.
pub(super) fn placeholders_for(node: &PlanNode, name: &str) -> PlaceholderPair {
    let contract = node.output.as_ref().map(|output| &output.contract);
    match (&node.kind, contract) {
        (NodeKind::Agent(agent), Some(contract)) => {
            contract_placeholders(contract, name, Some(max_reply_tokens(node, agent)))
        }
        (NodeKind::Command(command), Some(contract)) if command.parses_stdout => {
            contract_placeholders(contract, name, None)
        }
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

fn contract_placeholders(contract: &Contract, name: &str, max_tokens: Option<u64>) -> PlaceholderPair {
    match contract {
        Contract::Text => PlaceholderPair {
            placeholder: schema::placeholder_value(name, "string"),
            smallest: json!("x"),
            unknown: UnknownValue { schema: None, max_tokens },
        },
        Contract::Json(schema) => {
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

/// Returns the unknown artifacts that a step and the steps inside it produce, by name.
pub(super) fn produced_artifacts(node: &PlanNode) -> BTreeMap<String, UnknownValue> {
    if let Some(output) = &node.output {
        let unknown = match &node.for_each {
            Some(_) => UnknownValue { schema: None, max_tokens: None },
            None => placeholders_for(node, &output.name).unknown,
        };
        return BTreeMap::from([(output.name.clone(), unknown)]);
    }
    match &node.kind {
        NodeKind::Pipeline(call) => call
            .body
            .outputs
            .keys()
            .map(|name| (name.clone(), UnknownValue { schema: None, max_tokens: None }))
            .collect(),
        NodeKind::Parallel(..)
        | NodeKind::Sequence(_)
        | NodeKind::Repeat(_)
        | NodeKind::Agent(_)
        | NodeKind::Command(_)
        | NodeKind::Write(_)
        | NodeKind::Approve(_) => node.children().flat_map(produced_artifacts).collect(),
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
