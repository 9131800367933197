//! The layout of the SVG picture: steps below one another, parallel steps side by side, groups around their steps. An
//! edge that skips a step runs in a lane at the right.

use super::words::{fit, flow, width, wrap};
use super::{Edge, GraphNode, NodeShape, between};

/// The width of a column of the small text and the height of a line, in pixels.
pub(super) const COLUMN: usize = 7;
pub(super) const LINE: usize = 16;
/// Free space inside a box, and between boxes.
pub(super) const PAD: usize = 14;
const GAP: usize = 40;
const BESIDE: usize = 20;
/// The longest line in a box, in columns.
const WORDS: usize = 46;
/// The height of the title of a box.
pub(super) const TITLE: usize = 22;
/// The greatest width of a row of parallel steps; beyond it a new row begins.
const ROW: usize = 900;
/// Room for the arrow back to the start of a loop.
const BACK: usize = 26;

/// A node with its place and size.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub(super) node: &'a GraphNode,
    pub(super) title: String,
    pub(super) words: Vec<String>,
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) w: usize,
    pub(super) h: usize,
    pub(super) inside: LayoutBlock<'a>,
}

/// Steps that are laid out together, and the arrows between them.
#[derive(Debug, Default)]
pub(super) struct LayoutBlock<'a> {
    pub(super) placed: Vec<Placed<'a>>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) w: usize,
    pub(super) h: usize,
}

/// A line with a label.
#[derive(Debug)]
pub(super) struct Arrow {
    /// The corners of the line, from start to end.
    pub(super) points: Vec<(usize, usize)>,
    pub(super) label: String,
    /// Where the label begins.
    pub(super) at: (usize, usize),
}

impl LayoutBlock<'_> {
    /// Moves the block with everything in it.
    fn shift(&mut self, dx: usize, dy: usize) {
        for placed in &mut self.placed {
            placed.x += dx;
            placed.y += dy;
            placed.inside.shift(dx, dy);
        }
        for arrow in &mut self.arrows {
            arrow.at = (arrow.at.0 + dx, arrow.at.1 + dy);
            for point in &mut arrow.points {
                *point = (point.0 + dx, point.1 + dy);
            }
        }
    }
}

/// Lays out steps below one another.
pub(super) fn stack<'a>(nodes: &'a [GraphNode], edges: &[Edge]) -> LayoutBlock<'a> {
    let mut placed: Vec<Placed<'a>> = nodes.iter().map(|node| place(node, edges)).collect();
    let wide = placed.iter().map(|one| one.w).max().unwrap_or(0);
    let mut y = 0;
    for one in &mut placed {
        let dx = (wide - one.w) / 2;
        (one.x, one.y) = (dx, y);
        one.inside.shift(dx, y);
        y += one.h + GAP;
    }
    let mut block = LayoutBlock { placed, arrows: Vec::new(), w: wide, h: y.saturating_sub(GAP) };
    let mut lanes = Vec::new();
    for (from, to, labels) in between(nodes, edges) {
        match to.checked_sub(from) {
            Some(1) => {
                let arrow = down(&block, from, to, labels.join(", "));
                block.arrows.extend(arrow);
            }
            _ => lanes.push((from, to, labels.join(", "))),
        }
    }
    lanes.sort_by_key(|(from, to, _)| (to.abs_diff(*from), *from));
    for (index, (from, to, label)) in lanes.into_iter().enumerate() {
        aside(&mut block, from, to, label, index);
    }
    let labels = block.arrows.iter().map(|arrow| arrow.at.0 + width(&arrow.label) * COLUMN);
    block.w = labels.max().unwrap_or(0).max(block.w);
    block
}

/// An arrow from a box to the next one below it.
fn down(block: &LayoutBlock<'_>, from: usize, to: usize, label: String) -> Option<Arrow> {
    let (from, to) = (block.placed.get(from)?, block.placed.get(to)?);
    let x = block.placed.iter().map(|one| one.w).max().unwrap_or(0) / 2;
    let (start, end) = (from.y + from.h, to.y);
    let label = fit(&label, WORDS);
    Some(Arrow { points: vec![(x, start), (x, end)], label, at: (x + 10, usize::midpoint(start, end) + 4) })
}

/// Adds an arrow that passes boxes, in a lane of its own.
fn aside(block: &mut LayoutBlock<'_>, from: usize, to: usize, label: String, index: usize) {
    let (Some(from), Some(to)) = (block.placed.get(from), block.placed.get(to)) else { return };
    let label = fit(&label, WORDS / 2);
    let lane = block.w + PAD;
    let nudge = (index % 3) * 8;
    let (start, end) = (from.y + from.h / 2 + nudge, to.y + to.h / 2 - nudge.min(to.h / 2));
    let points = vec![(from.x + from.w, start), (lane, start), (lane, end), (to.x + to.w, end)];
    // Just below the start of the lane: further down, lines of other lanes may cross the label.
    let at = (lane + 6, from.y + from.h / 2 + 30);
    block.w = lane + 10 + width(&label) * COLUMN;
    block.arrows.push(Arrow { points, label, at });
}

/// Lays out parallel steps side by side, in as many rows as they need.
fn row<'a>(nodes: &'a [GraphNode], edges: &[Edge]) -> LayoutBlock<'a> {
    let mut block = LayoutBlock::default();
    let (mut x, mut y, mut high) = (0, 0, 0);
    for node in nodes {
        let mut one = place(node, edges);
        if x > 0 && x + one.w > ROW {
            (x, y, high) = (0, y + high + BESIDE, 0);
        }
        (one.x, one.y) = (x, y);
        one.inside.shift(x, y);
        x += one.w + BESIDE;
        high = high.max(one.h);
        block.w = block.w.max(one.x + one.w);
        block.h = block.h.max(y + high);
        block.placed.push(one);
    }
    block
}

/// Lays out a box around its text and its inner steps, at the origin.
fn place<'a>(node: &'a GraphNode, edges: &[Edge]) -> Placed<'a> {
    let title = fit(&node.id, WORDS);
    let lines = std::iter::once(node.what.clone()).chain(node.lines.iter().cloned()).chain(flow(node, edges));
    let words: Vec<String> =
        lines.flat_map(|line| wrap(&line, WORDS).into_iter().take(3).collect::<Vec<_>>()).collect();
    let mut inside = match (node.is_group(), node.shape) {
        (false, _) => LayoutBlock::default(),
        (true, NodeShape::Parallel) => row(&node.inside, edges),
        (true, _) => stack(&node.inside, edges),
    };
    let head = PAD + TITLE + words.len() * LINE;
    let back = if node.shape == NodeShape::Repeat { BACK } else { 0 };
    let text = words.iter().map(|line| width(line) * COLUMN).chain([width(&title) * (COLUMN + 1)]).max().unwrap_or(0);
    let below = if node.is_group() { inside.h + PAD } else { PAD / 2 };
    let w = (text + 2 * PAD).max(inside.w + 2 * PAD + back).max(150);
    inside.shift((w - inside.w - back) / 2 + back, head);
    if back > 0 {
        let arrow = again(&inside);
        inside.arrows.extend(arrow);
    }
    Placed { node, title, words, x: 0, y: 0, w, h: head + below, inside }
}

/// The arrow from the last step of a loop back to its first.
fn again(block: &LayoutBlock<'_>) -> Option<Arrow> {
    let (first, last) = (block.placed.first()?, block.placed.last()?);
    let (start, end) = (last.y + last.h * 3 / 4, first.y + first.h / 4);
    let points = vec![(last.x, start), (PAD, start), (PAD, end), (first.x, end)];
    Some(Arrow { points, label: String::new(), at: (PAD, start) })
}
