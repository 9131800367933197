//! Builds the graph of a project: finds the step that produces each artifact that another step reads.

use serde_json::Value;

use super::labels::{detail_lines, kind_label, one_line};
use super::{ConsumedArtifact, Edge, EdgeKind, Graph, GraphNode, GraphNodeKind, ProducedArtifact};
use crate::config::{OutputType, Project, output_type};
use crate::model::name_scope::{ExportedNames, IterationResult, NameMap, NameScope};
use crate::model::{Step, StepAction};

impl Graph {
    /// Builds the graph of a loaded project, including the pipelines that it calls.
    pub fn from_project(project: &Project) -> Self {
        let pipeline = &project.pipeline;
        let mut node_builder = NodeBuilder { next_number: 0 };
        let mut nodes = node_builder.pipeline_nodes(project);
        let mut edge_builder = EdgeBuilder::default();
        edge_builder.add_sequence(&nodes, &mut ProducerScope::default());
        edge_builder.edges.sort_by(|a, b| (a.from, a.to, &a.kind).cmp(&(b.from, b.to, &b.kind)));
        edge_builder.edges.dedup();
        nodes.shrink_to_fit();
        Self {
            name: one_line(&pipeline.name),
            description: pipeline.description.clone(),
            inputs: pipeline.inputs.iter().map(|(name, schema)| one_line(&input_label(name, schema))).collect(),
            nodes,
            edges: edge_builder.edges,
            outputs: pipeline.outputs.iter().map(|(name, expression)| (name.clone(), expression.clone())).collect(),
        }
    }
}

fn input_label(name: &str, schema: &serde_json::Map<String, Value>) -> String {
    let optional = if schema.contains_key("default") { "?" } else { "" };
    match schema.get("type").and_then(Value::as_str) {
        Some(type_name) => format!("{name}{optional}: {type_name}"),
        None => format!("{name}{optional}"),
    }
}

/// Once a graph has this many steps, it shows further called pipelines without their steps. With nested calls, the
/// number of steps can grow exponentially, and a picture of ten thousand boxes is useless.
const MAX_STEPS: usize = 2_000;

struct NodeBuilder {
    next_number: usize,
}

impl NodeBuilder {
    fn next_node_number(&mut self) -> usize {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Returns the nodes of a pipeline; the steps in `finally` are a last group.
    fn pipeline_nodes(&mut self, project: &Project) -> Vec<GraphNode> {
        let mut nodes = self.step_nodes(&project.pipeline.steps, project);
        if !project.pipeline.finally.is_empty() {
            let number = self.next_node_number();
            let children = self.step_nodes(&project.pipeline.finally, project);
            nodes.push(GraphNode {
                number,
                last_number: self.next_number - 1,
                id: "finally".to_owned(),
                kind: GraphNodeKind::Finally,
                kind_label: "always, at the end".to_owned(),
                details: Vec::new(),
                consumed: Vec::new(),
                previous_reads: Vec::new(),
                produced: Vec::new(),
                is_for_each: false,
                children,
            });
        }
        nodes
    }

    fn step_nodes(&mut self, steps: &[Step], project: &Project) -> Vec<GraphNode> {
        steps.iter().map(|step| self.step_node(step, project)).collect()
    }

    fn step_node(&mut self, step: &Step, project: &Project) -> GraphNode {
        let number = self.next_node_number();
        let called = match step.action() {
            Some(StepAction::Pipeline(file)) => project.called_projects.get(file),
            _ => None,
        };
        let children = match called {
            Some(called) if self.next_number < MAX_STEPS => self.pipeline_nodes(called),
            Some(_) => Vec::new(),
            None => self.step_nodes(step.children().1, project),
        };
        let mut produced: Vec<ProducedArtifact> =
            step.output.iter().map(|name| produced_artifact(name, step)).collect();
        if let (ExportedNames::OfCalledPipeline, Some(called)) = (step.exported_names(), called) {
            let outputs = called.pipeline.outputs.keys();
            produced.extend(outputs.map(|name| ProducedArtifact { name: name.clone(), type_label: String::new() }));
        }
        GraphNode {
            number,
            last_number: self.next_number - 1,
            id: step.id.clone(),
            kind: node_kind(step),
            kind_label: if called.is_some() && children.is_empty() {
                format!("{}, steps not shown", kind_label(step, &project.pipeline))
            } else {
                kind_label(step, &project.pipeline)
            },
            details: detail_lines(step, &project.pipeline),
            consumed: step.inputs.iter().map(|input| consumed_artifact(input)).collect(),
            previous_reads: project.previous_reads(step).into_iter().collect(),
            produced,
            is_for_each: step.for_each.is_some(),
            children,
        }
    }
}

fn node_kind(step: &Step) -> GraphNodeKind {
    match step.action() {
        Some(StepAction::Agent { .. }) => GraphNodeKind::Agent,
        Some(StepAction::Command(_)) => GraphNodeKind::Command,
        Some(StepAction::Call(_)) => GraphNodeKind::Call,
        Some(StepAction::Write(_)) => GraphNodeKind::Write,
        Some(StepAction::Approve(_)) => GraphNodeKind::Approve,
        Some(StepAction::Parallel(_)) => GraphNodeKind::Parallel,
        Some(StepAction::Repeat(_)) => GraphNodeKind::Repeat,
        Some(StepAction::Pipeline(_)) => GraphNodeKind::Pipeline,
        Some(StepAction::Sequence(_)) | None => GraphNodeKind::Sequence,
    }
}

fn consumed_artifact(input: &str) -> ConsumedArtifact {
    let optional_name = input.strip_suffix('?');
    ConsumedArtifact { name: optional_name.unwrap_or(input).to_owned(), optional: optional_name.is_some() }
}

fn produced_artifact(name: &str, step: &Step) -> ProducedArtifact {
    let item_type = match output_type(step) {
        Some(OutputType::Text) => "text".to_owned(),
        Some(OutputType::File(file)) => format!("schemas/{file}"),
        Some(OutputType::Any | OutputType::BuiltIn(_)) | None => String::new(),
    };
    let type_label = match (step.for_each.is_some(), item_type.is_empty()) {
        (true, true) => "a list".to_owned(),
        (true, false) => format!("a list of {item_type}"),
        (false, _) => item_type,
    };
    ProducedArtifact { name: name.to_owned(), type_label }
}

/// The artifacts in scope by name, each with the number of the step that produces it.
type ProducerScope = NameScope<String, usize, (), ()>;

#[derive(Default)]
struct EdgeBuilder {
    edges: Vec<Edge>,
}

impl EdgeBuilder {
    /// Adds the edges of steps that run in sequence: each step can read the artifacts of the steps before it.
    fn add_sequence(&mut self, nodes: &[GraphNode], scope: &mut ProducerScope) {
        for (index, node) in nodes.iter().enumerate() {
            // Only `add_node` adds edges to the steps inside of a node.
            let first_edge = self.edges.len();
            self.add_node(node, scope);
            let previous = index.checked_sub(1).and_then(|previous| nodes.get(previous));
            if let Some(previous) = previous
                && !self.edges.iter().skip(first_edge).any(|edge| previous.contains(edge.from))
            {
                self.edges.push(Edge { from: previous.number, to: node.number, kind: EdgeKind::Order });
            }
            for (name, number) in exported_artifacts(node) {
                scope.add_artifact(name, number);
            }
        }
    }

    fn add_node(&mut self, node: &GraphNode, scope: &ProducerScope) {
        for artifact in &node.consumed {
            let Some(producer) = scope.artifact(&artifact.name) else { continue };
            let name = artifact.name.clone();
            let kind = if artifact.optional { EdgeKind::Optional(name) } else { EdgeKind::Required(name) };
            self.edges.push(Edge { from: *producer, to: node.number, kind });
        }
        for (read, producer) in node.previous_reads.iter().flat_map(|read| scope.artifacts_read(read)) {
            let kind = EdgeKind::PreviousIteration(read.artifact.unwrap_or_default());
            self.edges.push(Edge { from: *producer, to: node.number, kind });
        }
        match node.kind {
            GraphNodeKind::Parallel => node.children.iter().for_each(|child| self.add_node(child, scope)),
            GraphNodeKind::Pipeline => self.add_sequence(&node.children, &mut ProducerScope::default()),
            GraphNodeKind::Repeat => {
                let artifacts: NameMap<String, usize> = node.children.iter().flat_map(exported_artifacts).collect();
                let previous = IterationResult { artifacts, ended_steps: NameMap::default() };
                self.add_sequence(&node.children, &mut scope.for_iteration((), Some(previous)));
            }
            GraphNodeKind::Sequence | GraphNodeKind::Finally => self.add_sequence(&node.children, &mut scope.clone()),
            GraphNodeKind::Agent
            | GraphNodeKind::Command
            | GraphNodeKind::Call
            | GraphNodeKind::Write
            | GraphNodeKind::Approve => {}
        }
    }
}

/// Returns the artifacts that later steps can read, each with the number of the step that produces it.
fn exported_artifacts(node: &GraphNode) -> Vec<(String, usize)> {
    // The produced artifacts of a node are its output or the outputs of the pipeline that it calls.
    if !node.produced.is_empty() {
        return node.produced.iter().map(|artifact| (artifact.name.clone(), node.number)).collect();
    }
    match ExportedNames::of_step(None, node.is_for_each, node.kind == GraphNodeKind::Pipeline) {
        ExportedNames::OfChildren => node.children.iter().flat_map(exported_artifacts).collect(),
        ExportedNames::OfCalledPipeline | ExportedNames::Nothing | ExportedNames::Output(_) => Vec::new(),
    }
}
