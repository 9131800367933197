//! Renders the graph in DOT, the language of Graphviz.

use super::edge_index::index_of;
use super::labels::truncate_to_width;
use super::{EdgeKind, Graph, GraphNode, GraphNodeKind};

/// The maximum length of a line of a node, in columns.
const MAX_COLUMNS: usize = 48;

/// Renders the graph in DOT.
pub fn render_dot(graph: &Graph) -> String {
    let mut out = format!("digraph {} {{\n", quote(&graph.name));
    out.push_str("  compound=true; rankdir=TB; fontname=\"sans-serif\"; fontsize=11;\n");
    out.push_str("  node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=11];\n");
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    if let Some(first) = graph.nodes.first()
        && !graph.inputs.is_empty()
    {
        out.push_str(&format!("  inputs [shape=plaintext, label={}];\n", quote(&graph.inputs.join(", "))));
        out.push_str(&render_edge("inputs", None, &format!("n{}", first_leaf(first)), cluster(first), ""));
    }
    graph.nodes.iter().for_each(|node| write_node(node, 1, &mut out));
    for edge in &graph.edges {
        let (Some(from), Some(to)) = (find_node(&graph.nodes, edge.from), find_node(&graph.nodes, edge.to)) else {
            continue;
        };
        let style = match &edge.kind {
            EdgeKind::Required(name) => format!("label={}", quote(name)),
            EdgeKind::Optional(_) | EdgeKind::PreviousIteration(_) => {
                format!("style=dashed, label={}", quote(&edge.kind.label()))
            }
            EdgeKind::Order => "style=dotted, arrowhead=none".to_owned(),
        };
        let (tail, head) = (format!("n{}", first_leaf(from)), format!("n{}", first_leaf(to)));
        out.push_str(&render_edge(&tail, cluster(from), &head, cluster(to), &style));
    }
    out.push_str("}\n");
    out
}

/// Renders an edge. The attributes `ltail` and `lhead` clip an edge at the frame of a group.
fn render_edge(from: &str, tail: Option<usize>, to: &str, head: Option<usize>, style: &str) -> String {
    let clusters = tail.map(|number| format!("ltail=cluster_{number}")).into_iter();
    let clusters = clusters.chain(head.map(|number| format!("lhead=cluster_{number}")));
    let style = std::iter::once(style.to_owned()).filter(|style| !style.is_empty());
    let attributes: Vec<String> = style.chain(clusters).collect();
    if attributes.is_empty() {
        return format!("  {from} -> {to};\n");
    }
    format!("  {from} -> {to} [{}];\n", attributes.join(", "))
}

fn write_node(node: &GraphNode, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let lines = [node.id.as_str(), node.kind_label.as_str()].into_iter().chain(node.details.iter().map(String::as_str));
    let lines: Vec<String> = lines.map(|line| truncate_to_width(line, MAX_COLUMNS)).collect();
    if node.is_group() {
        out.push_str(&format!("{indent}subgraph cluster_{} {{\n", node.number));
        out.push_str(&format!("{indent}  style=rounded; label={};\n", quote(&lines.join("\n"))));
        node.children.iter().for_each(|child| write_node(child, depth + 1, out));
        out.push_str(&format!("{indent}}}\n"));
        return;
    }
    let shape = match node.kind {
        GraphNodeKind::Approve => "hexagon",
        GraphNodeKind::Command => "component",
        GraphNodeKind::Call => "cds",
        GraphNodeKind::Write => "note",
        GraphNodeKind::Pipeline => "folder",
        GraphNodeKind::Agent
        | GraphNodeKind::Parallel
        | GraphNodeKind::Sequence
        | GraphNodeKind::Repeat
        | GraphNodeKind::Finally => "box",
    };
    out.push_str(&format!("{indent}n{} [shape={shape}, label={}];\n", node.number, quote(&lines.join("\n"))));
}

/// Returns the number of the first step inside a group that is not a group itself, because a DOT edge can't connect to
/// a group.
fn first_leaf(node: &GraphNode) -> usize {
    node.children.first().map_or(node.number, first_leaf)
}

fn cluster(node: &GraphNode) -> Option<usize> {
    node.is_group().then_some(node.number)
}

fn find_node(nodes: &[GraphNode], number: usize) -> Option<&GraphNode> {
    let node = nodes.get(index_of(nodes, number)?)?;
    if node.number == number { Some(node) } else { find_node(&node.children, number) }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            _ if c.is_control() => out.push(' '),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}
