//! A pipeline as a graph: steps and groups, and the artifacts that flow between them.
//!
//! Builds the graph and renders it: as text for a terminal, Mermaid for READMEs, DOT for Graphviz, SVG for everything
//! else. The same files always give the same bytes, every name is escaped for its format, and text has at most 80
//! columns. This module knows nothing of runs and does not check the pipeline: a name that nothing produces has no
//! edge.

mod build;
mod dot;
mod layout;
mod mermaid;
mod svg;
mod text;
mod words;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;
pub use text::text;

/// A pipeline's steps, and what flows between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// The pipeline's name.
    pub name: String,
    /// The pipeline's description.
    pub description: Option<String>,
    /// The inputs of a run, as `task: string`.
    pub inputs: Vec<String>,
    /// The steps from top to bottom; the steps in `finally` are a last group.
    pub nodes: Vec<GraphNode>,
    /// What flows from one step to another.
    pub edges: Vec<Edge>,
    /// The outputs of the pipeline: names with expressions.
    pub outputs: Vec<(String, String)>,
}

/// A step, or a group of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphNode {
    /// Its number, counted from top to bottom.
    pub at: usize,
    /// The number of the last step inside it; its own number if it has none inside.
    pub last: usize,
    /// The step's id.
    pub id: String,
    /// What kind of step it is.
    pub shape: NodeShape,
    /// The kind as text: `agent coder · auto`.
    pub what: String,
    /// Details, one per line: the prompt, the command, conditions.
    pub lines: Vec<String>,
    /// The artifacts that it reads.
    pub reads: Vec<ConsumedArtifact>,
    /// What it produces: its artifact, or the outputs of the pipeline that it calls.
    pub gives: Vec<ProducedArtifact>,
    /// Whether it runs once for each item of a list; then other steps do not see the artifacts of the steps inside.
    pub each: bool,
    /// The steps inside.
    pub inside: Vec<GraphNode>,
}

/// What kind of step a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeShape {
    /// Calls a model or a CLI agent.
    Agent,
    /// Runs a command.
    Command,
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
    /// Its type, as `text` or `schemas/plan.schema.json`; empty when the pipeline declares none.
    pub contract: String,
}

/// A connection from one step to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The number of the earlier step.
    pub from: usize,
    /// The number of the later step.
    pub to: usize,
    /// What flows.
    pub flow: EdgeKind,
}

/// What flows along an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// An artifact that the step needs.
    Needed(String),
    /// An artifact that the step can run without.
    Optional(String),
    /// An artifact of the previous iteration of a loop.
    LastRound(String),
    /// Nothing: the later step only runs after the earlier one.
    Order,
}

impl GraphNode {
    /// Whether this is a group, drawn around its steps.
    pub fn is_group(&self) -> bool {
        !self.inside.is_empty()
    }

    /// Whether the step with this number is this one or inside it.
    fn holds(&self, at: usize) -> bool {
        (self.at..=self.last).contains(&at)
    }
}

impl EdgeKind {
    /// The label of the edge; empty for mere order.
    pub fn label(&self) -> String {
        match self {
            Self::Needed(name) => name.clone(),
            Self::Optional(name) => format!("{name}?"),
            Self::LastRound(name) => format!("{name} of the round before"),
            Self::Order => String::new(),
        }
    }
}

/// What flows between these nodes, including everything inside them: pairs of positions in the list with the labels of
/// their edges, each pair once.
fn between(nodes: &[GraphNode], edges: &[Edge]) -> Vec<(usize, usize, Vec<String>)> {
    let mut found: Vec<(usize, usize, Vec<String>)> = Vec::new();
    for edge in edges.iter().filter(|edge| !matches!(edge.flow, EdgeKind::LastRound(_))) {
        let place = |at| nodes.iter().position(|node| node.holds(at));
        let (Some(from), Some(to)) = (place(edge.from), place(edge.to)) else { continue };
        if from == to {
            continue;
        }
        let label = edge.flow.label();
        let place = found.iter().position(|known| (known.0, known.1) == (from, to)).unwrap_or_else(|| {
            found.push((from, to, Vec::new()));
            found.len() - 1
        });
        let Some((_, _, known)) = found.get_mut(place) else { continue };
        if !label.is_empty() && !known.contains(&label) {
            known.push(label);
        }
    }
    found
}
