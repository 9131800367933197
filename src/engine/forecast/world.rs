//! What is known, and what stands for the rest, at one place of a forecast.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::model::Digest;
use crate::schema::{self, Schema};

use crate::engine::node::{Contract, NodeKind, PlanNode};
use crate::engine::scope::ValueScope;

/// A value that is there only once its step has run.
#[derive(Clone)]
pub(super) struct Unknown {
    /// What its schema is, if one says.
    pub(super) schema: Option<Schema>,
    /// How many tokens it has at most.
    pub(super) most: Option<u64>,
}

impl Unknown {
    /// A value of which the schema tells.
    pub(super) fn of(schema: &Schema) -> Self {
        Self { schema: Some(schema.clone()), most: schema.most_bytes().map(|bytes| bytes.div_ceil(2)) }
    }
}

/// The values at a place: as they are shown, at their least, and which of them are not known.
#[derive(Clone)]
pub(super) struct AbstractEnv {
    pub(super) shown: ValueScope,
    pub(super) least: ValueScope,
    pub(super) unknown: BTreeMap<String, Unknown>,
    /// Artifacts that may never come to be.
    pub(super) unsure: BTreeSet<String>,
    /// Artifacts of the round before, in a loop.
    pub(super) later: BTreeMap<String, Unknown>,
}

/// The two faces of an unknown value.
pub(super) struct PlaceholderPair {
    pub(super) shown: Value,
    pub(super) least: Value,
    pub(super) unknown: Unknown,
}

impl AbstractEnv {
    /// The start of a pipeline, with its inputs in both faces.
    pub(super) fn of_inputs(shown: Map<String, Value>, least: Map<String, Value>, tree: Digest) -> Self {
        Self {
            shown: ValueScope::new(shown, tree.clone()),
            least: ValueScope::new(least, tree),
            unknown: BTreeMap::new(),
            unsure: BTreeSet::new(),
            later: BTreeMap::new(),
        }
    }

    /// The same with an item or a round in both faces.
    pub(super) fn with(&self, shown: Vec<(&'static str, Value)>, least: Vec<(&'static str, Value)>) -> Self {
        Self { shown: self.shown.with(shown), least: self.least.with(least), ..self.clone() }
    }

    /// Whether everything that is named here is known; how steps ended never is.
    pub(super) fn knows<'b>(&self, names: impl IntoIterator<Item = &'b String>) -> bool {
        names.into_iter().all(|name| {
            name != "steps" && name != "loop" && !self.unknown.contains_key(name) && !self.later.contains_key(name)
        })
    }

    /// A step's artifact that is not known yet.
    pub(super) fn add_unknown(&mut self, name: &str, faces: PlaceholderPair) {
        self.shown.add(name, Arc::new(faces.shown));
        self.least.add(name, Arc::new(faces.least));
        self.unknown.insert(name.to_owned(), faces.unknown);
    }

    /// A step's artifact that is known.
    pub(super) fn add_known(&mut self, name: &str, value: &Arc<Value>) {
        self.shown.add(name, value.clone());
        self.least.add(name, value.clone());
        self.unknown.remove(name);
    }

    /// Takes an artifact over from a scope inside this one.
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

    /// How many tokens the unknown values that a step reads have at most; `None` when nothing bounds one.
    pub(super) fn most_read(&self, node: &PlanNode) -> Option<u64> {
        let names = node.inputs.iter().map(|input| input.name.as_str());
        let item = self.shown.item().is_some().then_some("item");
        let read = names.chain(item).filter_map(|name| self.unknown.get(name).or_else(|| self.later.get(name)));
        read.map(|unknown| unknown.most).try_fold(0_u64, |sum, most| Some(sum.saturating_add(most?)))
    }
}

/// What stands for one result of a step: the whole, or of one item.
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

/// What a step and those inside it will have produced, by name.
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
