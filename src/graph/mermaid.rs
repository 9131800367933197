//! The graph as a Mermaid flowchart, which code hosts draw in Markdown.

use super::words::fit;
use super::{EdgeKind, Graph, GraphNode, NodeShape};

/// The longest line of a node, in columns.
const LINE: usize = 48;

/// The graph in Mermaid.
pub fn mermaid(graph: &Graph) -> String {
    let mut out = format!("---\ntitle: {}\n---\nflowchart TD\n", serde_json::Value::from(graph.name.as_str()));
    if let Some(first) = graph.nodes.first() {
        if !graph.inputs.is_empty() {
            out.push_str(&format!("  inputs([\"{}\"]) --> n{}\n", escape(&graph.inputs.join(", ")), first.at));
        }
        graph.nodes.iter().for_each(|node| add(node, 1, &mut out));
    }
    for edge in &graph.edges {
        let label = escape(&edge.flow.label());
        let arrow = match edge.flow {
            EdgeKind::Needed(_) => format!("-->|\"{label}\"|"),
            EdgeKind::Optional(_) | EdgeKind::LastRound(_) => format!("-.->|\"{label}\"|"),
            EdgeKind::Order => "-.-".to_owned(),
        };
        out.push_str(&format!("  n{} {arrow} n{}\n", edge.from, edge.to));
    }
    if let (Some(last), false) =
        (graph.nodes.iter().rfind(|node| node.shape != NodeShape::Finally), graph.outputs.is_empty())
    {
        let names: Vec<&str> = graph.outputs.iter().map(|(name, _)| name.as_str()).collect();
        out.push_str(&format!("  n{} --> outputs([\"{}\"])\n", last.at, escape(&names.join(", "))));
    }
    out
}

fn add(node: &GraphNode, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let (id, what) = (escape(&fit(&node.id, LINE)), escape(&fit(&node.what, LINE)));
    let lines: Vec<String> = node.lines.iter().map(|line| escape(&fit(line, LINE))).collect();
    if node.is_group() {
        let title: Vec<String> = [format!("<b>{id}</b> · {what}")].into_iter().chain(lines).collect();
        out.push_str(&format!("{indent}subgraph n{}[\"{}\"]\n", node.at, title.join(" · ")));
        let direction = if node.shape == NodeShape::Parallel { "LR" } else { "TB" };
        out.push_str(&format!("{indent}  direction {direction}\n"));
        node.inside.iter().for_each(|child| add(child, depth + 1, out));
        out.push_str(&format!("{indent}end\n"));
        return;
    }
    let (open, close) = match node.shape {
        NodeShape::Approve => ("{{", "}}"),
        NodeShape::Command => ("[[", "]]"),
        NodeShape::Write => ("[/", "/]"),
        NodeShape::Pipeline => ("[(", ")]"),
        NodeShape::Agent | NodeShape::Parallel | NodeShape::Sequence | NodeShape::Repeat | NodeShape::Finally => {
            ("[", "]")
        }
    };
    let words: Vec<String> = [format!("<b>{id}</b>"), what].into_iter().chain(lines).collect();
    out.push_str(&format!("{indent}n{}{open}\"{}\"{close}\n", node.at, words.join("<br/>")));
}

/// Escapes text inside quotes: every character that could end them or be markup becomes an entity.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '<' | '>' | '&' | '#' | '`' | '\\' | '$' => out.push_str(&format!("#{};", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}
