//! A pipeline as a graph: steps and groups, and the artifacts that flow between them.
//!
//! Builds the graph and renders it: as text for a terminal, Mermaid for READMEs, DOT for Graphviz, SVG for everything
//! else. The same files always give the same bytes, every name is escaped for its format, and text has at most 80
//! columns. This module does not depend on runs and does not check the pipeline: a name that no step produces has no
//! edge.

mod build;
mod dot;
mod edge_index;
mod labels;
mod layout;
mod mermaid;
mod svg;
mod text;

pub use dot::render_dot;
pub use mermaid::render_mermaid;
pub use svg::render_svg;
pub use text::render_text;

use crate::model::name_scope::PreviousRead;

/// A pipeline's steps, and the artifacts that flow between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// The pipeline's name.
    pub name: String,
    /// The pipeline's description.
    pub description: Option<String>,
    /// The inputs of a run, such as `task: string`.
    pub inputs: Vec<String>,
    /// The steps from top to bottom; the steps in `finally` are a last group.
    pub nodes: Vec<GraphNode>,
    /// The edges from one step to another.
    pub edges: Vec<Edge>,
    /// The outputs of the pipeline: their names and expressions.
    pub outputs: Vec<(String, String)>,
}

/// A step, or a group of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphNode {
    /// Its number, counted from top to bottom.
    pub number: usize,
    /// The number of the last step inside it, or its own number if it has no steps inside.
    pub last_number: usize,
    /// The step's id.
    pub id: String,
    /// The kind of the step, which determines the shape of the node in a picture.
    pub kind: GraphNodeKind,
    /// The kind as text, such as `agent coder · auto`.
    pub kind_label: String,
    /// Details, one per line: the prompt, the command, conditions.
    pub details: Vec<String>,
    /// The artifacts that it reads.
    pub consumed: Vec<ConsumedArtifact>,
    /// The artifacts of earlier iterations that it reads.
    pub previous_reads: Vec<PreviousRead>,
    /// The artifacts that it produces: its own, or the outputs of the pipeline that it calls.
    pub produced: Vec<ProducedArtifact>,
    /// Whether it runs once for each item of a list. If so, other steps can't read the artifacts of the steps inside.
    pub is_for_each: bool,
    /// The steps inside.
    pub children: Vec<GraphNode>,
}

/// The kind of step that a node represents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphNodeKind {
    /// Calls a model or a CLI agent.
    Agent,
    /// Runs a command.
    Command,
    /// Calls a tool.
    Call,
    /// Writes files.
    Write,
    /// Asks the user for approval.
    Approve,
    /// Runs its steps in parallel.
    Parallel,
    /// Runs its steps one after another.
    Sequence,
    /// Repeats its steps in a loop.
    Repeat,
    /// Calls another pipeline.
    Pipeline,
    /// The steps in `finally`.
    Finally,
}

/// An artifact that a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedArtifact {
    /// Its name.
    pub name: String,
    /// Whether the step also runs without it.
    pub optional: bool,
}

/// An artifact that a step produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedArtifact {
    /// Its name.
    pub name: String,
    /// Its type, such as `text` or `schemas/plan.schema.json`; empty if the pipeline declares none.
    pub type_label: String,
}

/// A connection from one step to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The number of the earlier step.
    pub from: usize,
    /// The number of the later step.
    pub to: usize,
    /// The kind of connection.
    pub kind: EdgeKind,
}

/// The kind of an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// An artifact that the step needs.
    Required(String),
    /// An artifact that the step can run without.
    Optional(String),
    /// An artifact of the previous iteration of a loop.
    PreviousIteration(String),
    /// No artifact: the later step only runs after the earlier one.
    Order,
}

impl GraphNode {
    /// Returns whether this is a group, drawn around its steps.
    pub fn is_group(&self) -> bool {
        !self.children.is_empty()
    }

    /// Returns whether the step with this number is this step or inside it.
    fn contains(&self, number: usize) -> bool {
        (self.number..=self.last_number).contains(&number)
    }
}

impl EdgeKind {
    /// Returns the label of the edge, which is empty for [`Order`](Self::Order).
    pub fn label(&self) -> String {
        match self {
            Self::Required(name) => name.clone(),
            Self::Optional(name) => format!("{name}?"),
            Self::PreviousIteration(name) => format!("{name} (previous iteration)"),
            Self::Order => String::new(),
        }
    }
}
