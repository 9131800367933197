//! Renders the graph as a Mermaid flowchart, which GitHub and other code hosts render in Markdown.

use super::labels::truncate_to_width;
use super::{EdgeKind, Graph, GraphNode, GraphNodeKind};

/// The maximum length of a line of a node, in columns.
const MAX_COLUMNS: usize = 48;

/// Renders the graph in Mermaid.
pub fn render_mermaid(graph: &Graph) -> String {
    let mut out = format!("---\ntitle: {}\n---\nflowchart TD\n", serde_json::Value::from(graph.name.as_str()));
    if let Some(first) = graph.nodes.first() {
        if !graph.inputs.is_empty() {
            out.push_str(&format!("  inputs([\"{}\"]) --> n{}\n", escape(&graph.inputs.join(", ")), first.number));
        }
        graph.nodes.iter().for_each(|node| write_node(node, 1, &mut out));
    }
    for edge in &graph.edges {
        let label = escape(&edge.kind.label());
        let arrow = match edge.kind {
            EdgeKind::Required(_) => format!("-->|\"{label}\"|"),
            EdgeKind::Optional(_) | EdgeKind::PreviousIteration(_) => format!("-.->|\"{label}\"|"),
            EdgeKind::Order => "-.-".to_owned(),
        };
        out.push_str(&format!("  n{} {arrow} n{}\n", edge.from, edge.to));
    }
    if let (Some(last), false) =
        (graph.nodes.iter().rfind(|node| node.kind != GraphNodeKind::Finally), graph.outputs.is_empty())
    {
        let names: Vec<&str> = graph.outputs.iter().map(|(name, _)| name.as_str()).collect();
        out.push_str(&format!("  n{} --> outputs([\"{}\"])\n", last.number, escape(&names.join(", "))));
    }
    out
}

fn write_node(node: &GraphNode, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let (id, kind) =
        (escape(&truncate_to_width(&node.id, MAX_COLUMNS)), escape(&truncate_to_width(&node.kind_label, MAX_COLUMNS)));
    let lines: Vec<String> = node.details.iter().map(|line| escape(&truncate_to_width(line, MAX_COLUMNS))).collect();
    if node.is_group() {
        let title: Vec<String> = [format!("<b>{id}</b> · {kind}")].into_iter().chain(lines).collect();
        out.push_str(&format!("{indent}subgraph n{}[\"{}\"]\n", node.number, title.join(" · ")));
        let direction = if node.kind == GraphNodeKind::Parallel { "LR" } else { "TB" };
        out.push_str(&format!("{indent}  direction {direction}\n"));
        node.children.iter().for_each(|child| write_node(child, depth + 1, out));
        out.push_str(&format!("{indent}end\n"));
        return;
    }
    let (opening, closing) = match node.kind {
        GraphNodeKind::Approve => ("{{", "}}"),
        GraphNodeKind::Command => ("[[", "]]"),
        GraphNodeKind::Call => ("[\\", "\\]"),
        GraphNodeKind::Write => ("[/", "/]"),
        GraphNodeKind::Pipeline => ("[(", ")]"),
        GraphNodeKind::Agent
        | GraphNodeKind::Parallel
        | GraphNodeKind::Sequence
        | GraphNodeKind::Repeat
        | GraphNodeKind::Finally => ("[", "]"),
    };
    let label: Vec<String> = [format!("<b>{id}</b>"), kind].into_iter().chain(lines).collect();
    out.push_str(&format!("{indent}n{}{opening}\"{}\"{closing}\n", node.number, label.join("<br/>")));
}

/// Escapes text inside quotes: each character that could end the quotes or be markup becomes an entity.
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
