//! A pipeline as a picture: steps and groups, and the artifacts that flow between them.
//!
//! Owns the graph of a pipeline and its renderings: text for a terminal, Mermaid for READMEs, DOT for
//! Graphviz, SVG for everything else. Promises the same bytes for the same files, every name escaped
//! for its format, and text of at most 80 columns. Refuses to know runs, files and whether the
//! pipeline is right: a name that nothing produces has no edge.

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

/// A pipeline's steps with what flows between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// The pipeline's name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The values given to a run, as `task: string`.
    pub inputs: Vec<String>,
    /// The steps from top to bottom; what is done at the end is a last group.
    pub nodes: Vec<GraphNode>,
    /// What leads from one step to another.
    pub edges: Vec<Edge>,
    /// What the pipeline gives: names with expressions.
    pub outputs: Vec<(String, String)>,
}

/// A step, or a group of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphNode {
    /// Its number, from top to bottom.
    pub at: usize,
    /// The number of the last step inside it; its own for a step without any.
    pub last: usize,
    /// The step's id.
    pub id: String,
    /// What kind of step it is.
    pub shape: NodeShape,
    /// The kind in words: `agent coder · auto`.
    pub what: String,
    /// More about it, a line each: the prompt, the command, conditions.
    pub lines: Vec<String>,
    /// The artifacts that it reads.
    pub reads: Vec<ConsumedArtifact>,
    /// What it leaves for others: its artifact, or the outputs of the pipeline that it calls.
    pub gives: Vec<ProducedArtifact>,
    /// Whether it runs once for each item of a list, so that what is inside stays inside.
    pub each: bool,
    /// The steps inside.
    pub inside: Vec<GraphNode>,
}

/// What kind of step a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeShape {
    /// A model is asked.
    Agent,
    /// A command is run.
    Command,
    /// Files are written.
    Write,
    /// A person is asked.
    Approve,
    /// Steps side by side.
    Parallel,
    /// Steps one after another.
    Sequence,
    /// Steps again and again.
    Repeat,
    /// Another pipeline.
    Pipeline,
    /// What is done at the end.
    Finally,
}

/// An artifact that a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedArtifact {
    /// Its name.
    pub name: String,
    /// Whether the step runs without it.
    pub optional: bool,
}

/// An artifact that a step gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedArtifact {
    /// Its name.
    pub name: String,
    /// What it must be, as `text` or `schemas/plan.schema.json`; empty when nothing says so.
    pub contract: String,
}

/// What leads from one step to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The number of the step that comes first.
    pub from: usize,
    /// The number of the step that comes after it.
    pub to: usize,
    /// What flows.
    pub flow: EdgeKind,
}

/// What flows along an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// An artifact that the step needs.
    Needed(String),
    /// An artifact that the step can do without.
    Optional(String),
    /// An artifact of the round before.
    LastRound(String),
    /// Nothing: the one only runs after the other.
    Order,
}

impl GraphNode {
    /// Whether this is a group, drawn around its steps.
    pub fn is_group(&self) -> bool {
        !self.inside.is_empty()
    }

    /// Whether a step is this one or inside it.
    fn holds(&self, at: usize) -> bool {
        (self.at..=self.last).contains(&at)
    }
}

impl EdgeKind {
    /// The words on the edge; empty for mere order.
    pub fn label(&self) -> String {
        match self {
            Self::Needed(name) => name.clone(),
            Self::Optional(name) => format!("{name}?"),
            Self::LastRound(name) => format!("{name} of the round before"),
            Self::Order => String::new(),
        }
    }
}

/// What flows from one of these nodes to another, with all that is inside them: pairs of places in
/// the list with the words on the edge, each pair once.
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
