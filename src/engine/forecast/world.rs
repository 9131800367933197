//! The values at one point of a forecast: known ones, and placeholders for those that steps have yet to produce.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::model::Digest;
use crate::schema::{self, Schema};

use crate::engine::node::{Contract, NodeKind, PlanNode};
use crate::engine::scope::ValueScope;

/// A value that exists only once its step has run.
#[derive(Clone)]
pub(super) struct Unknown {
    /// Its schema, if it has one.
    pub(super) schema: Option<Schema>,
    /// The upper bound of its size, in tokens.
    pub(super) most: Option<u64>,
}

impl Unknown {
    /// A value that has a schema.
    pub(super) fn of(schema: &Schema) -> Self {
        Self { schema: Some(schema.clone()), most: schema.most_bytes().map(|bytes| bytes.div_ceil(2)) }
    }
}

/// The values at one point: with placeholders for showing, with the smallest values for measuring, and which are
/// unknown.
#[derive(Clone)]
pub(super) struct AbstractEnv {
    pub(super) shown: ValueScope,
    pub(super) least: ValueScope,
    pub(super) unknown: BTreeMap<String, Unknown>,
    /// Artifacts that may never be produced, because their step may not run.
    pub(super) unsure: BTreeSet<String>,
    /// Artifacts that steps of the surrounding loop produce. From the second round on, steps may see those of the
    /// previous round.
    pub(super) later: BTreeMap<String, Unknown>,
}

/// The placeholder and the smallest value for an unknown value.
pub(super) struct PlaceholderPair {
    pub(super) shown: Value,
    pub(super) least: Value,
    pub(super) unknown: Unknown,
}

impl AbstractEnv {
    /// The values at the start of a pipeline, given its inputs in both forms.
    pub(super) fn of_inputs(shown: Map<String, Value>, least: Map<String, Value>, tree: Digest) -> Self {
        Self {
            shown: ValueScope::new(shown, tree.clone()),
            least: ValueScope::new(least, tree),
            unknown: BTreeMap::new(),
            unsure: BTreeSet::new(),
            later: BTreeMap::new(),
        }
    }

    /// Returns a copy with an item or a round added, in both forms.
    pub(super) fn with(&self, shown: Vec<(&'static str, Value)>, least: Vec<(&'static str, Value)>) -> Self {
        Self { shown: self.shown.with(shown), least: self.least.with(least), ..self.clone() }
    }

    /// Whether every named variable is known. `steps` and `loop` never are.
    pub(super) fn knows<'b>(&self, names: impl IntoIterator<Item = &'b String>) -> bool {
        names.into_iter().all(|name| {
            name != "steps" && name != "loop" && !self.unknown.contains_key(name) && !self.later.contains_key(name)
        })
    }

    /// Adds a step's artifact that is not known yet.
    pub(super) fn add_unknown(&mut self, name: &str, faces: PlaceholderPair) {
        self.shown.add(name, Arc::new(faces.shown));
        self.least.add(name, Arc::new(faces.least));
        self.unknown.insert(name.to_owned(), faces.unknown);
    }

    /// Adds a step's artifact that is known.
    pub(super) fn add_known(&mut self, name: &str, value: &Arc<Value>) {
        self.shown.add(name, value.clone());
        self.least.add(name, value.clone());
        self.unknown.remove(name);
    }

    /// Copies an artifact from an inner scope.
    pub(super) fn take(&mut self, name: &str, inner: &Self) {
        if let (Some(shown), Some(least)) = (inner.shown.artifact(name), inner.least.artifact(name)) {
            self.shown.add(name, shown.clone());
            self.least.add(name, least.clone());
            match inner.unknown.get(name) {
                Some(unknown) => drop(self.unknown.insert(name.to_owned(), unknown.clone())),
                None => drop(self.unknown.remove(name)),
            }
        }
        if inner.unsure.contains(name) {
            self.unsure.insert(name.to_owned());
        }
    }

    /// Returns an upper bound, in tokens, of the unknown values that a step reads; `None` when one of them is
    /// unbounded.
    pub(super) fn most_read(&self, node: &PlanNode) -> Option<u64> {
        let names = node.inputs.iter().map(|input| input.name.as_str());
        let item = self.shown.item().is_some().then_some("item");
        let read = names.chain(item).filter_map(|name| self.unknown.get(name).or_else(|| self.later.get(name)));
        read.map(|unknown| unknown.most).try_fold(0_u64, |sum, most| Some(sum.saturating_add(most?)))
    }
}

/// Returns the placeholders for one result of a step: of the whole step, or of one item.
pub(super) fn faces(node: &PlanNode, name: &str) -> PlaceholderPair {
    let contract = node.output.as_ref().map(|output| &output.contract);
    match (&node.kind, contract) {
        (NodeKind::Agent(agent), Some(contract)) => faces_of(contract, name, Some(u64::from(agent.max_output_tokens))),
        (NodeKind::Command(command), Some(contract)) if command.takes_stdout => faces_of(contract, name, None),
        (NodeKind::Command(_), _) => built(
            json!({
                "exit_code": schema::unknown(&format!("{name}.exit_code"), "integer"),
                "stdout": schema::unknown(&format!("{name}.stdout"), "string"),
                "stderr": schema::unknown(&format!("{name}.stderr"), "string"),
            }),
            json!({ "exit_code": 0, "stdout": "", "stderr": "" }),
        ),
        (NodeKind::Write(_), _) => built(
            json!({ "files": [{
            "path": schema::unknown(&format!("{name}.files[].path"), "string"),
            "change": schema::unknown(&format!("{name}.files[].change"), "created | changed | deleted | unchanged"),
        }] }),
            json!({ "files": [] }),
        ),
        (NodeKind::Approve(_), _) => built(
            json!({
                "approved": schema::unknown(&format!("{name}.approved"), "boolean"),
                "note": schema::unknown(&format!("{name}.note"), "string"),
                "by": schema::unknown(&format!("{name}.by"), "string"),
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
        ) => built(schema::unknown(name, "object"), json!({})),
    }
}

fn built(shown: Value, least: Value) -> PlaceholderPair {
    PlaceholderPair { shown, least, unknown: Unknown { schema: None, most: None } }
}

fn faces_of(contract: &Contract, name: &str, most: Option<u64>) -> PlaceholderPair {
    match contract {
        Contract::Text => PlaceholderPair {
            shown: schema::unknown(name, "string"),
            least: json!("x"),
            unknown: Unknown { schema: None, most },
        },
        Contract::Json(schema) => {
            let own = schema.most_bytes().map(|bytes| bytes.div_ceil(2));
            let most = own.into_iter().chain(most).min();
            PlaceholderPair {
                shown: schema.placeholder(name),
                least: schema.least(),
                unknown: Unknown { schema: Some(schema.clone()), most },
            }
        }
    }
}

/// Returns the unknown artifacts that a step and the steps inside it produce, by name.
pub(super) fn produced(node: &PlanNode) -> BTreeMap<String, Unknown> {
    if let Some(output) = &node.output {
        let unknown = match &node.each {
            Some(_) => Unknown { schema: None, most: None },
            None => faces(node, &output.name).unknown,
        };
        return BTreeMap::from([(output.name.clone(), unknown)]);
    }
    match &node.kind {
        NodeKind::Pipeline(call) => {
            call.body.outputs.keys().map(|name| (name.clone(), Unknown { schema: None, most: None })).collect()
        }
        NodeKind::Parallel(..)
        | NodeKind::Sequence(_)
        | NodeKind::Repeat(_)
        | NodeKind::Agent(_)
        | NodeKind::Command(_)
        | NodeKind::Write(_)
        | NodeKind::Approve(_) => node.children().flat_map(produced).collect(),
    }
}
