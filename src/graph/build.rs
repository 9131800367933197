//! Builds the graph of a project: finds which step produces what another one reads.

use std::collections::BTreeMap;

use serde_json::Value;

use super::words::{lines, one_line, what};
use super::{ConsumedArtifact, Edge, EdgeKind, Graph, GraphNode, NodeShape, ProducedArtifact};
use crate::config::{OutputType, Project, output_type};
use crate::model::{Step, StepAction};

impl Graph {
    /// The graph of a loaded project, including the pipelines that it calls.
    pub fn of(project: &Project) -> Self {
        let pipeline = &project.pipeline;
        let mut builder = Builder { next: 0 };
        let mut nodes = builder.body(project);
        let mut edges = Edges::default();
        let mut scope = ProducerScope::new();
        edges.sequence(&nodes, &mut scope);
        edges.list.sort_by(|a, b| (a.from, a.to, &a.flow).cmp(&(b.from, b.to, &b.flow)));
        edges.list.dedup();
        nodes.shrink_to_fit();
        Self {
            name: one_line(&pipeline.name),
            description: pipeline.description.clone(),
            inputs: pipeline.inputs.iter().map(|(name, schema)| one_line(&input(name, schema))).collect(),
            nodes,
            edges: edges.list,
            outputs: pipeline.outputs.iter().map(|(name, from)| (name.clone(), from.clone())).collect(),
        }
    }
}

fn input(name: &str, schema: &serde_json::Map<String, Value>) -> String {
    let optional = if schema.contains_key("default") { "?" } else { "" };
    match schema.get("type").and_then(Value::as_str) {
        Some(ty) => format!("{name}{optional}: {ty}"),
        None => format!("{name}{optional}"),
    }
}

/// Once a graph has this many steps, pipelines that are called are drawn without their steps: nested calls grow
/// exponentially, and no reader can use a picture of ten thousand boxes.
const MAX_STEPS: usize = 2_000;

struct Builder {
    next: usize,
}

impl Builder {
    fn number(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// The steps of a pipeline, with those in `finally` as a last group.
    fn body(&mut self, project: &Project) -> Vec<GraphNode> {
        let mut nodes = self.nodes(&project.pipeline.steps, project);
        if !project.pipeline.finally.is_empty() {
            let at = self.number();
            let inside = self.nodes(&project.pipeline.finally, project);
            nodes.push(GraphNode {
                at,
                last: self.next - 1,
                id: "finally".to_owned(),
                shape: NodeShape::Finally,
                what: "at the end, whatever happened".to_owned(),
                lines: Vec::new(),
                reads: Vec::new(),
                gives: Vec::new(),
                each: false,
                inside,
            });
        }
        nodes
    }

    fn nodes(&mut self, steps: &[Step], project: &Project) -> Vec<GraphNode> {
        steps.iter().map(|step| self.node(step, project)).collect()
    }

    fn node(&mut self, step: &Step, project: &Project) -> GraphNode {
        let at = self.number();
        let called = match step.kind() {
            Some(StepAction::Pipeline(file)) => project.called.get(file),
            _ => None,
        };
        let inside = match called {
            Some(called) if self.next < MAX_STEPS => self.body(called),
            Some(_) => Vec::new(),
            None => self.nodes(step.children().1, project),
        };
        let mut gives: Vec<ProducedArtifact> = step.output.iter().map(|name| given(name, step)).collect();
        if let (true, Some(called), None) = (gives.is_empty(), called, &step.for_each) {
            let outputs = called.pipeline.outputs.keys();
            gives.extend(outputs.map(|name| ProducedArtifact { name: name.clone(), contract: String::new() }));
        }
        GraphNode {
            at,
            last: self.next - 1,
            id: step.id.clone(),
            shape: shape(step),
            what: if called.is_some() && inside.is_empty() {
                format!("{}, not drawn here", what(step, &project.pipeline))
            } else {
                what(step, &project.pipeline)
            },
            lines: lines(step),
            reads: step.inputs.iter().map(|text| read(text)).collect(),
            gives,
            each: step.for_each.is_some(),
            inside,
        }
    }
}

fn shape(step: &Step) -> NodeShape {
    match step.kind() {
        Some(StepAction::Agent { .. }) => NodeShape::Agent,
        Some(StepAction::Command(_)) => NodeShape::Command,
        Some(StepAction::Write(_)) => NodeShape::Write,
        Some(StepAction::Approve(_)) => NodeShape::Approve,
        Some(StepAction::Parallel(_)) => NodeShape::Parallel,
        Some(StepAction::Repeat(_)) => NodeShape::Repeat,
        Some(StepAction::Pipeline(_)) => NodeShape::Pipeline,
        Some(StepAction::Sequence(_)) | None => NodeShape::Sequence,
    }
}

fn read(written: &str) -> ConsumedArtifact {
    let name = written.strip_suffix('?');
    ConsumedArtifact { name: name.unwrap_or(written).to_owned(), optional: name.is_some() }
}

fn given(name: &str, step: &Step) -> ProducedArtifact {
    let one = match output_type(step) {
        Some(OutputType::Text) => "text".to_owned(),
        Some(OutputType::File(file)) => format!("schemas/{file}"),
        Some(OutputType::Any | OutputType::Built(_)) | None => String::new(),
    };
    let contract = match (step.for_each.is_some(), one.is_empty()) {
        (true, true) => "a list".to_owned(),
        (true, false) => format!("a list of {one}"),
        (false, _) => one,
    };
    ProducedArtifact { name: name.to_owned(), contract }
}

/// The step that produces each visible artifact, and whether it does so in the previous iteration of a loop.
type ProducerScope = BTreeMap<String, (usize, bool)>;

#[derive(Default)]
struct Edges {
    list: Vec<Edge>,
}

impl Edges {
    /// Adds the edges of steps that run one after another: each sees what those before it produced.
    fn sequence(&mut self, nodes: &[GraphNode], scope: &mut ProducerScope) {
        for (index, node) in nodes.iter().enumerate() {
            self.node(node, scope);
            let before = index.checked_sub(1).and_then(|before| nodes.get(before));
            if let Some(before) = before
                && !self.list.iter().any(|edge| before.holds(edge.from) && node.holds(edge.to))
            {
                self.list.push(Edge { from: before.at, to: node.at, flow: EdgeKind::Order });
            }
            scope.extend(left(node).into_iter().map(|(name, at)| (name, (at, false))));
        }
    }

    fn node(&mut self, node: &GraphNode, scope: &ProducerScope) {
        for read in &node.reads {
            let Some((from, last_round)) = scope.get(&read.name) else { continue };
            let name = read.name.clone();
            let flow = match (last_round, read.optional) {
                (true, _) => EdgeKind::LastRound(name),
                (false, true) => EdgeKind::Optional(name),
                (false, false) => EdgeKind::Needed(name),
            };
            self.list.push(Edge { from: *from, to: node.at, flow });
        }
        let mut inner = scope.clone();
        match node.shape {
            NodeShape::Parallel => node.inside.iter().for_each(|child| self.node(child, &inner)),
            NodeShape::Pipeline => self.sequence(&node.inside, &mut ProducerScope::new()),
            NodeShape::Repeat => {
                inner.extend(node.inside.iter().flat_map(left).map(|(name, at)| (name, (at, true))));
                self.sequence(&node.inside, &mut inner);
            }
            NodeShape::Sequence | NodeShape::Finally => self.sequence(&node.inside, &mut inner),
            NodeShape::Agent | NodeShape::Command | NodeShape::Write | NodeShape::Approve => {}
        }
    }
}

/// The artifacts that later steps see, each with the step that produces it.
fn left(node: &GraphNode) -> Vec<(String, usize)> {
    if !node.gives.is_empty() {
        return node.gives.iter().map(|given| (given.name.clone(), node.at)).collect();
    }
    if node.each || node.shape == NodeShape::Pipeline {
        return Vec::new();
    }
    node.inside.iter().flat_map(left).collect()
}
