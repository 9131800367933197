//! The graph as text for a terminal: nested boxes, at most 80 columns wide.

use super::words::{fit, flow, width, wrap};
use super::{Edge, Graph, GraphNode, NodeShape, between};

/// The total width, in columns.
const COLUMNS: usize = 80;
/// A group with less room than this shows its steps as an indented list instead of nested boxes.
const NARROWEST: usize = 36;

/// The graph as text.
pub fn text(graph: &Graph) -> String {
    let mut out = wrap(&graph.name, COLUMNS);
    if let Some(description) = &graph.description {
        out.extend(wrap(&super::words::one_line(description), COLUMNS));
    }
    out.push(String::new());
    if !graph.inputs.is_empty() {
        out.extend(wrap(&graph.inputs.join(", "), COLUMNS - 2).into_iter().map(|line| format!("  {line}")));
        out.extend(["    │".to_owned(), "    ▼".to_owned()]);
    }
    out.extend(sequence(&graph.nodes, &graph.edges, COLUMNS));
    if !graph.outputs.is_empty() {
        out.extend(["    │".to_owned(), "    ▼".to_owned()]);
        for (name, from) in &graph.outputs {
            let line = if name == from { name.clone() } else { format!("{name}: {from}") };
            out.extend(wrap(&super::words::one_line(&line), COLUMNS - 2).into_iter().map(|line| format!("  {line}")));
        }
    }
    out.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Boxes below one another, with what flows from each to the next.
fn sequence(nodes: &[GraphNode], edges: &[Edge], columns: usize) -> Vec<String> {
    let between = between(nodes, edges);
    let mut out = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        out.extend(boxed(node, edges, columns));
        if index + 1 < nodes.len() {
            let pair = between.iter().find(|(from, to, _)| (*from, *to) == (index, index + 1));
            let label = pair.map_or_else(String::new, |(_, _, labels)| labels.join(", "));
            out.push(format!("    │ {}", fit(&label, columns.saturating_sub(6))));
            out.push("    ▼".to_owned());
        }
    }
    out
}

/// A step as a box: its id and kind in the upper edge, its details inside.
fn boxed(node: &GraphNode, edges: &[Edge], columns: usize) -> Vec<String> {
    let inner = columns.saturating_sub(4);
    let lines = node.lines.iter().map(String::clone).chain(flow(node, edges));
    let mut content: Vec<String> = lines.flat_map(|line| wrap(&line, inner)).collect();
    if node.is_group() {
        content.extend(group(node, edges, inner));
    }
    let mut out = top(node, columns);
    out.extend(content.into_iter().map(|line| {
        let pad = inner.saturating_sub(width(&line));
        format!("│ {line}{} │", " ".repeat(pad))
    }));
    let corner = if node.shape == NodeShape::Repeat { '◀' } else { '╰' };
    let again = if node.shape == NodeShape::Repeat { "─ again " } else { "" };
    let rest = columns.saturating_sub(2 + again.chars().count());
    out.push(format!("{corner}{again}{}╯", "─".repeat(rest)));
    out
}

fn group(node: &GraphNode, edges: &[Edge], columns: usize) -> Vec<String> {
    // In very deep groups, frames would leave no room for text.
    if columns < NARROWEST {
        return flat(&node.inside, 0, columns);
    }
    match node.shape {
        NodeShape::Parallel => node.inside.iter().flat_map(|child| boxed(child, edges, columns)).collect(),
        _ => sequence(&node.inside, edges, columns),
    }
}

/// Steps as an indented list.
fn flat(nodes: &[GraphNode], depth: usize, columns: usize) -> Vec<String> {
    let indent = "  ".repeat(depth.min(4));
    let mut out = Vec::new();
    for node in nodes {
        let line = fit(&format!("{indent}- {} ({})", node.id, node.what), columns);
        out.push(line);
        out.extend(flat(&node.inside, depth + 1, columns));
    }
    out
}

/// The upper edge of a box; an id or a kind that is too long for it is cut off.
fn top(node: &GraphNode, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(8);
    let id = fit(&node.id, room.saturating_sub(width(&node.what).min(room / 2) + 1));
    let what = fit(&node.what, room.saturating_sub(width(&id) + 1));
    let rest = room.saturating_sub(width(&id) + width(&what));
    vec![format!("╭─ {id} {} {what} ─╮", "─".repeat(rest))]
}
