//! Renders the graph as a self-contained SVG picture that is readable on light and dark pages.

use std::fmt::Write as _;

use super::edge_index::EdgeIndex;
use super::labels::{display_width, one_line, wrap};
use super::layout::{Arrow, LINE_HEIGHT, LayoutBlock, PADDING, PlacedNode, TITLE_HEIGHT, lay_out_column};
use super::{Graph, GraphNodeKind};

const STYLE: &str = "\
text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#57606a}\
.name{font-size:16px;font-weight:700}.id{font-size:13px;font-weight:700}.name,.id{fill:#1f2328}\
rect{stroke-width:1.2;fill:#f6f8fa;stroke:#afb8c1}rect.group{fill:#8c959f;fill-opacity:.08;stroke-dasharray:5 3}\
rect.agent{fill:#ddf4ff;stroke:#54aeff}rect.command{fill:#dafbe1;stroke:#4ac26b}\
rect.write{fill:#fff8c5;stroke:#d4a72c}rect.approve{fill:#fbefff;stroke:#c297ff}\
path{fill:none;stroke:#6e7781;stroke-width:1.3}marker path{fill:#6e7781;stroke:none}\
.label{fill:#0550ae;stroke:#fff;stroke-width:3px;paint-order:stroke}\
@media(prefers-color-scheme:dark){text{fill:#9198a1}.name,.id{fill:#f0f6fc}\
rect{fill:#161b22;stroke:#484f58}rect.agent{fill:#0c2d6b;stroke:#388bfd}rect.command{fill:#033a16;stroke:#2ea043}\
rect.write{fill:#4b2900;stroke:#bb8009}rect.approve{fill:#3c1e70;stroke:#a371f7}\
path{stroke:#9198a1}marker path{fill:#9198a1}.label{fill:#79c0ff;stroke:#0d1117}}";

/// The maximum length of a line of the text above the picture, in columns.
const MAX_COLUMNS: usize = 80;

/// Renders the graph in SVG.
pub fn render_svg(graph: &Graph) -> String {
    let mut body = String::new();
    let mut y = 24;
    for line in wrap(&one_line(&graph.name), MAX_COLUMNS / 2) {
        draw_text(&mut body, "name", PADDING, y, &line);
        y += 20;
    }
    let mut details = Vec::new();
    details.extend(graph.description.iter().map(|text| one_line(text)));
    if !graph.inputs.is_empty() {
        details.push(format!("inputs  {}", graph.inputs.join(", ")));
    }
    details.extend(graph.outputs.iter().map(|(name, value)| one_line(&format!("output  {name}: {value}"))));
    let details: Vec<String> = details.iter().flat_map(|line| wrap(line, MAX_COLUMNS)).collect();
    for line in &details {
        draw_text(&mut body, "", PADDING, y, line);
        y += LINE_HEIGHT;
    }
    let block = lay_out_column(&graph.nodes, &EdgeIndex::new(&graph.edges));
    // Writing to a string can't fail.
    let _ = writeln!(body, "<g transform=\"translate({PADDING},{y})\">");
    draw_block(&mut body, &block);
    body.push_str("</g>\n");
    let line_widths = details.iter().map(|line| display_width(line) * 7);
    let text_width = line_widths.chain([display_width(&graph.name).min(MAX_COLUMNS / 2) * 10]).max().unwrap_or(0);
    let (width, height) = (block.width.max(text_width) + 2 * PADDING, y + block.height + PADDING);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" \
         markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n{body}</svg>\n",
        escape(&graph.name)
    )
}

fn draw_block(out: &mut String, block: &LayoutBlock<'_>) {
    for node in &block.nodes {
        draw_node(out, node);
    }
    block.arrows.iter().for_each(|arrow| draw_arrow(out, arrow));
    // Draws the labels after the lines, so that the outlines of the labels cover the lines.
    for arrow in block.arrows.iter().filter(|arrow| !arrow.label.is_empty()) {
        draw_text(out, "label", arrow.label_position.0, arrow.label_position.1, &arrow.label);
    }
}

fn draw_node(out: &mut String, node: &PlacedNode<'_>) {
    let class = match node.node.kind {
        _ if node.node.is_group() => "group",
        GraphNodeKind::Agent => "agent",
        GraphNodeKind::Command | GraphNodeKind::Call => "command",
        GraphNodeKind::Write => "write",
        GraphNodeKind::Approve => "approve",
        GraphNodeKind::Parallel
        | GraphNodeKind::Sequence
        | GraphNodeKind::Repeat
        | GraphNodeKind::Pipeline
        | GraphNodeKind::Finally => "step",
    };
    let PlacedNode { x, y, width, height, .. } = node;
    // Writing to a string can't fail.
    let _ =
        writeln!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"7\"/>");
    let mut baseline = y + TITLE_HEIGHT;
    draw_text(out, "id", x + PADDING, baseline, &node.title);
    for line in &node.lines {
        baseline += LINE_HEIGHT;
        draw_text(out, "", x + PADDING, baseline, line);
    }
    draw_block(out, &node.children);
}

fn draw_arrow(out: &mut String, arrow: &Arrow) {
    let points = arrow.points.iter().enumerate();
    let path: String = points.map(|(index, (x, y))| format!("{}{x} {y}", if index == 0 { 'M' } else { 'L' })).collect();
    let _ = writeln!(out, "<path d=\"{path}\" stroke-linejoin=\"round\" marker-end=\"url(#tip)\"/>");
}

fn draw_text(out: &mut String, class: &str, x: usize, y: usize, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(out, "<text{class} x=\"{x}\" y=\"{y}\">{}</text>", escape(text));
}

/// Escapes text for XML. Replaces markup characters by entities and control characters by spaces, and drops other
/// characters that XML can't contain.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            _ if c.is_control() => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}
