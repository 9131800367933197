//! The graph as a self-contained SVG picture that is readable on light and dark pages.

use std::fmt::Write as _;

use super::layout::{Arrow, LINE, LayoutBlock, PAD, Placed, TITLE, stack};
use super::words::{one_line, width, wrap};
use super::{Graph, NodeShape};

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

/// The longest line of the text above the picture, in columns.
const WORDS: usize = 80;

/// The graph in SVG.
pub fn svg(graph: &Graph) -> String {
    let mut body = String::new();
    let mut y = 24;
    for line in wrap(&one_line(&graph.name), WORDS / 2) {
        text(&mut body, "name", PAD, y, &line);
        y += 20;
    }
    let mut small = Vec::new();
    small.extend(graph.description.iter().map(|text| one_line(text)));
    if !graph.inputs.is_empty() {
        small.push(format!("inputs  {}", graph.inputs.join(", ")));
    }
    small.extend(graph.outputs.iter().map(|(name, from)| one_line(&format!("output  {name}: {from}"))));
    let small: Vec<String> = small.iter().flat_map(|line| wrap(line, WORDS)).collect();
    for line in &small {
        text(&mut body, "", PAD, y, line);
        y += LINE;
    }
    let block = stack(&graph.nodes, &graph.edges);
    // Writing to a string can't fail.
    let _ = writeln!(body, "<g transform=\"translate({PAD},{y})\">");
    draw(&mut body, &block);
    body.push_str("</g>\n");
    let head =
        small.iter().map(|line| width(line) * 7).chain([width(&graph.name).min(WORDS / 2) * 10]).max().unwrap_or(0);
    let (w, h) = (block.w.max(head) + 2 * PAD, y + block.h + PAD);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" \
         markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n{body}</svg>\n",
        escape(&graph.name)
    )
}

fn draw(out: &mut String, block: &LayoutBlock<'_>) {
    for placed in &block.placed {
        boxed(out, placed);
    }
    block.arrows.iter().for_each(|arrow| line(out, arrow));
    // Labels come after the lines, so that their outlines cover them.
    for arrow in block.arrows.iter().filter(|arrow| !arrow.label.is_empty()) {
        text(out, "label", arrow.at.0, arrow.at.1, &arrow.label);
    }
}

fn boxed(out: &mut String, placed: &Placed<'_>) {
    let class = match placed.node.shape {
        _ if placed.node.is_group() => "group",
        NodeShape::Agent => "agent",
        NodeShape::Command => "command",
        NodeShape::Write => "write",
        NodeShape::Approve => "approve",
        NodeShape::Parallel | NodeShape::Sequence | NodeShape::Repeat | NodeShape::Pipeline | NodeShape::Finally => {
            "step"
        }
    };
    let Placed { x, y, w, h, .. } = placed;
    // Writing to a string can't fail.
    let _ = writeln!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"7\"/>");
    let mut below = y + TITLE;
    text(out, "id", x + PAD, below, &placed.title);
    for words in &placed.words {
        below += LINE;
        text(out, "", x + PAD, below, words);
    }
    draw(out, &placed.inside);
}

fn line(out: &mut String, arrow: &Arrow) {
    let points = arrow.points.iter().enumerate();
    let path: String = points.map(|(index, (x, y))| format!("{}{x} {y}", if index == 0 { 'M' } else { 'L' })).collect();
    let _ = writeln!(out, "<path d=\"{path}\" stroke-linejoin=\"round\" marker-end=\"url(#tip)\"/>");
}

fn text(out: &mut String, class: &str, x: usize, y: usize, words: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(out, "<text{class} x=\"{x}\" y=\"{y}\">{}</text>", escape(words));
}

/// Escapes text for XML: markup characters become entities; characters that XML can't hold become spaces or are left
/// out.
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
