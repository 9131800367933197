//! The graph in DOT, the language of Graphviz.

use super::words::fit;
use super::{EdgeKind, Graph, GraphNode, NodeShape};

/// The longest line of a node, in columns.
const LINE: usize = 48;

/// The graph in DOT.
pub fn dot(graph: &Graph) -> String {
    let mut out = format!("digraph {} {{\n", quoted(&graph.name));
    out.push_str("  compound=true; rankdir=TB; fontname=\"sans-serif\"; fontsize=11;\n");
    out.push_str("  node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=11];\n");
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    if let Some(first) = graph.nodes.first()
        && !graph.inputs.is_empty()
    {
        out.push_str(&format!("  inputs [shape=plaintext, label={}];\n", quoted(&graph.inputs.join(", "))));
        out.push_str(&arrow("inputs", None, &format!("n{}", leaf(first)), group(first), ""));
    }
    graph.nodes.iter().for_each(|node| add(node, 1, &mut out));
    for edge in &graph.edges {
        let (Some(from), Some(to)) = (find(&graph.nodes, edge.from), find(&graph.nodes, edge.to)) else { continue };
        let style = match &edge.flow {
            EdgeKind::Needed(name) => format!("label={}", quoted(name)),
            EdgeKind::Optional(_) | EdgeKind::LastRound(_) => {
                format!("style=dashed, label={}", quoted(&edge.flow.label()))
            }
            EdgeKind::Order => "style=dotted, arrowhead=none".to_owned(),
        };
        let (tail, head) = (format!("n{}", leaf(from)), format!("n{}", leaf(to)));
        out.push_str(&arrow(&tail, group(from), &head, group(to), &style));
    }
    out.push_str("}\n");
    out
}

/// An edge; one from or to a group ends at the frame of the group.
fn arrow(from: &str, tail: Option<usize>, to: &str, head: Option<usize>, style: &str) -> String {
    let ends = tail.map(|at| format!("ltail=cluster_{at}")).into_iter();
    let ends = ends.chain(head.map(|at| format!("lhead=cluster_{at}")));
    let all: Vec<String> = std::iter::once(style.to_owned()).filter(|style| !style.is_empty()).chain(ends).collect();
    if all.is_empty() { format!("  {from} -> {to};\n") } else { format!("  {from} -> {to} [{}];\n", all.join(", ")) }
}

fn add(node: &GraphNode, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let words = [node.id.as_str(), node.what.as_str()].into_iter().chain(node.lines.iter().map(String::as_str));
    let words: Vec<String> = words.map(|line| fit(line, LINE)).collect();
    if node.is_group() {
        out.push_str(&format!("{indent}subgraph cluster_{} {{\n", node.at));
        out.push_str(&format!("{indent}  style=rounded; label={};\n", quoted(&words.join("\n"))));
        node.inside.iter().for_each(|child| add(child, depth + 1, out));
        out.push_str(&format!("{indent}}}\n"));
        return;
    }
    let shape = match node.shape {
        NodeShape::Approve => "hexagon",
        NodeShape::Command => "component",
        NodeShape::Write => "note",
        NodeShape::Pipeline => "folder",
        NodeShape::Agent | NodeShape::Parallel | NodeShape::Sequence | NodeShape::Repeat | NodeShape::Finally => "box",
    };
    out.push_str(&format!("{indent}n{} [shape={shape}, label={}];\n", node.at, quoted(&words.join("\n"))));
}

/// The number of the first step inside a group that is not a group itself: in DOT, an edge can't end at a frame alone.
fn leaf(node: &GraphNode) -> usize {
    node.inside.first().map_or(node.at, leaf)
}

fn group(node: &GraphNode) -> Option<usize> {
    node.is_group().then_some(node.at)
}

fn find(nodes: &[GraphNode], at: usize) -> Option<&GraphNode> {
    let node = nodes.iter().find(|node| node.holds(at))?;
    if node.at == at { Some(node) } else { find(&node.inside, at) }
}

fn quoted(text: &str) -> String {
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
