//! Renders the graph as text for a terminal: nested boxes, at most 80 columns wide.

use std::collections::HashMap;

use super::edge_index::EdgeIndex;
use super::labels::{data_flow_label, display_width, truncate_to_width, wrap};
use super::{Graph, GraphNode, GraphNodeKind};

/// The total width, in columns.
const COLUMNS: usize = 80;
/// The minimum width of nested boxes, in columns. A narrower group shows its steps as an indented list.
const MIN_BOX_COLUMNS: usize = 36;

/// Renders the graph as text.
pub fn render_text(graph: &Graph) -> String {
    let mut out = wrap(&graph.name, COLUMNS);
    if let Some(description) = &graph.description {
        out.extend(wrap(&super::labels::one_line(description), COLUMNS));
    }
    out.push(String::new());
    if !graph.inputs.is_empty() {
        out.extend(wrap(&graph.inputs.join(", "), COLUMNS - 2).into_iter().map(|line| format!("  {line}")));
        out.extend(["    │".to_owned(), "    ▼".to_owned()]);
    }
    out.extend(render_sequence(&graph.nodes, &EdgeIndex::new(&graph.edges), COLUMNS));
    if !graph.outputs.is_empty() {
        out.extend(["    │".to_owned(), "    ▼".to_owned()]);
        for (name, expression) in &graph.outputs {
            let line = if name == expression { name.clone() } else { format!("{name}: {expression}") };
            out.extend(wrap(&super::labels::one_line(&line), COLUMNS - 2).into_iter().map(|line| format!("  {line}")));
        }
    }
    out.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Renders boxes below one another, with the artifacts that flow from each box to the next one.
fn render_sequence(nodes: &[GraphNode], edges: &EdgeIndex<'_>, columns: usize) -> Vec<String> {
    let connections = edges.connections_between(nodes).into_iter();
    let connections: HashMap<(usize, usize), Vec<String>> =
        connections.map(|(from, to, labels)| ((from, to), labels)).collect();
    let mut out = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        out.extend(render_box(node, edges, columns));
        if index + 1 < nodes.len() {
            let label = connections.get(&(index, index + 1)).map_or_else(String::new, |labels| labels.join(", "));
            out.push(format!("    │ {}", truncate_to_width(&label, columns.saturating_sub(6))));
            out.push("    ▼".to_owned());
        }
    }
    out
}

/// Renders a step as a box: its id and kind in the upper edge, its details inside.
fn render_box(node: &GraphNode, edges: &EdgeIndex<'_>, columns: usize) -> Vec<String> {
    let inner_columns = columns.saturating_sub(4);
    let lines = node.details.iter().map(String::clone).chain(data_flow_label(node, edges));
    let mut content: Vec<String> = lines.flat_map(|line| wrap(&line, inner_columns)).collect();
    if node.is_group() {
        content.extend(render_children(node, edges, inner_columns));
    }
    let mut out = top_edge(node, columns);
    out.extend(content.into_iter().map(|line| {
        let padding = inner_columns.saturating_sub(display_width(&line));
        format!("│ {line}{} │", " ".repeat(padding))
    }));
    let corner = if node.kind == GraphNodeKind::Repeat { '◀' } else { '╰' };
    let loop_label = if node.kind == GraphNodeKind::Repeat { "─ repeat " } else { "" };
    let edge_columns = columns.saturating_sub(2 + loop_label.chars().count());
    out.push(format!("{corner}{loop_label}{}╯", "─".repeat(edge_columns)));
    out
}

fn render_children(node: &GraphNode, edges: &EdgeIndex<'_>, columns: usize) -> Vec<String> {
    // In a deeply nested group, frames would leave too little room for text.
    if columns < MIN_BOX_COLUMNS {
        return render_list(&node.children, 0, columns);
    }
    match node.kind {
        GraphNodeKind::Parallel => node.children.iter().flat_map(|child| render_box(child, edges, columns)).collect(),
        _ => render_sequence(&node.children, edges, columns),
    }
}

/// Renders steps as an indented list.
fn render_list(nodes: &[GraphNode], depth: usize, columns: usize) -> Vec<String> {
    let indent = "  ".repeat(depth.min(4));
    let mut out = Vec::new();
    for node in nodes {
        let line = truncate_to_width(&format!("{indent}- {} ({})", node.id, node.kind_label), columns);
        out.push(line);
        out.extend(render_list(&node.children, depth + 1, columns));
    }
    out
}

/// Renders the upper edge of a box, and truncates an id or a kind that is too long for it.
fn top_edge(node: &GraphNode, columns: usize) -> Vec<String> {
    let text_columns = columns.saturating_sub(8);
    let id = truncate_to_width(
        &node.id,
        text_columns.saturating_sub(display_width(&node.kind_label).min(text_columns / 2) + 1),
    );
    let kind = truncate_to_width(&node.kind_label, text_columns.saturating_sub(display_width(&id) + 1));
    let edge_columns = text_columns.saturating_sub(display_width(&id) + display_width(&kind));
    vec![format!("╭─ {id} {} {kind} ─╮", "─".repeat(edge_columns))]
}
