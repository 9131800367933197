//! Lays out the SVG picture: steps below one another, parallel steps side by side, groups around their steps. An edge
//! that skips a step runs in a lane on the right.

use super::edge_index::EdgeIndex;
use super::labels::{data_flow_label, display_width, truncate_to_width, wrap};
use super::{GraphNode, GraphNodeKind};

/// The width of a column of the small text and the height of a line, in pixels.
const COLUMN_WIDTH: usize = 7;
pub(super) const LINE_HEIGHT: usize = 16;
/// Free space inside a box, between boxes in a column, and between boxes in a row.
pub(super) const PADDING: usize = 14;
const COLUMN_GAP: usize = 40;
const ROW_GAP: usize = 20;
/// The maximum length of a line in a box, in columns.
const MAX_LINE_COLUMNS: usize = 46;
/// The height of the title of a box.
pub(super) const TITLE_HEIGHT: usize = 22;
/// The maximum width of a row of parallel steps; a box that exceeds it begins a new row.
const MAX_ROW_WIDTH: usize = 900;
/// The space for the arrow back to the start of a loop.
const LOOP_ARROW_WIDTH: usize = 26;

/// A node with its position and size.
#[derive(Debug)]
pub(super) struct PlacedNode<'a> {
    pub(super) node: &'a GraphNode,
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) children: LayoutBlock<'a>,
}

/// The steps of a group with their positions, and the arrows between them.
#[derive(Debug, Default)]
pub(super) struct LayoutBlock<'a> {
    pub(super) nodes: Vec<PlacedNode<'a>>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// A line with a label.
#[derive(Debug)]
pub(super) struct Arrow {
    /// The corners of the line, from start to end.
    pub(super) points: Vec<(usize, usize)>,
    pub(super) label: String,
    /// The position where the label begins.
    pub(super) label_position: (usize, usize),
}

impl LayoutBlock<'_> {
    /// Moves the block with everything in it.
    fn shift(&mut self, dx: usize, dy: usize) {
        for node in &mut self.nodes {
            node.x += dx;
            node.y += dy;
            node.children.shift(dx, dy);
        }
        for arrow in &mut self.arrows {
            arrow.label_position = (arrow.label_position.0 + dx, arrow.label_position.1 + dy);
            for point in &mut arrow.points {
                *point = (point.0 + dx, point.1 + dy);
            }
        }
    }
}

/// Lays out steps below one another.
pub(super) fn lay_out_column<'a>(nodes: &'a [GraphNode], edges: &EdgeIndex<'_>) -> LayoutBlock<'a> {
    let mut boxes: Vec<PlacedNode<'a>> = nodes.iter().map(|node| lay_out_node(node, edges)).collect();
    let max_width = boxes.iter().map(|node| node.width).max().unwrap_or(0);
    let mut y = 0;
    for node in &mut boxes {
        let dx = (max_width - node.width) / 2;
        (node.x, node.y) = (dx, y);
        node.children.shift(dx, y);
        y += node.height + COLUMN_GAP;
    }
    let mut block =
        LayoutBlock { nodes: boxes, arrows: Vec::new(), width: max_width, height: y.saturating_sub(COLUMN_GAP) };
    let mut lanes = Vec::new();
    for (from, to, labels) in edges.connections_between(nodes) {
        match to.checked_sub(from) {
            Some(1) => {
                let ends = block.nodes.get(from).zip(block.nodes.get(to));
                let arrow = ends.map(|(from, to)| straight_arrow(from, to, max_width / 2, &labels.join(", ")));
                block.arrows.extend(arrow);
            }
            _ => lanes.push((from, to, labels.join(", "))),
        }
    }
    lanes.sort_by_key(|(from, to, _)| (to.abs_diff(*from), *from));
    for (index, (from, to, label)) in lanes.into_iter().enumerate() {
        add_lane_arrow(&mut block, from, to, label, index);
    }
    let label_ends =
        block.arrows.iter().map(|arrow| arrow.label_position.0 + display_width(&arrow.label) * COLUMN_WIDTH);
    block.width = label_ends.max().unwrap_or(0).max(block.width);
    block
}

/// Returns an arrow from a box to the next box below it. `x` is the middle of the column.
fn straight_arrow(from: &PlacedNode<'_>, to: &PlacedNode<'_>, x: usize, label: &str) -> Arrow {
    let (start, end) = (from.y + from.height, to.y);
    let label = truncate_to_width(label, MAX_LINE_COLUMNS);
    Arrow { points: vec![(x, start), (x, end)], label, label_position: (x + 10, usize::midpoint(start, end) + 4) }
}

/// Adds an arrow that skips boxes, in its own lane.
fn add_lane_arrow(block: &mut LayoutBlock<'_>, from: usize, to: usize, label: String, index: usize) {
    let (Some(from), Some(to)) = (block.nodes.get(from), block.nodes.get(to)) else { return };
    let label = truncate_to_width(&label, MAX_LINE_COLUMNS / 2);
    let lane_x = block.width + PADDING;
    let offset = (index % 3) * 8;
    let (start, end) = (from.y + from.height / 2 + offset, to.y + to.height / 2 - offset.min(to.height / 2));
    let points = vec![(from.x + from.width, start), (lane_x, start), (lane_x, end), (to.x + to.width, end)];
    // The label is just below the start of the lane. Further down, arrows in other lanes may cross it.
    let label_position = (lane_x + 6, from.y + from.height / 2 + 30);
    block.width = lane_x + 10 + display_width(&label) * COLUMN_WIDTH;
    block.arrows.push(Arrow { points, label, label_position });
}

/// Lays out parallel steps side by side, in as many rows as they need.
fn lay_out_row<'a>(nodes: &'a [GraphNode], edges: &EdgeIndex<'_>) -> LayoutBlock<'a> {
    let mut block = LayoutBlock::default();
    let (mut x, mut y, mut row_height) = (0, 0, 0);
    for node in nodes {
        let mut node = lay_out_node(node, edges);
        if x > 0 && x + node.width > MAX_ROW_WIDTH {
            (x, y, row_height) = (0, y + row_height + ROW_GAP, 0);
        }
        (node.x, node.y) = (x, y);
        node.children.shift(x, y);
        x += node.width + ROW_GAP;
        row_height = row_height.max(node.height);
        block.width = block.width.max(node.x + node.width);
        block.height = block.height.max(y + row_height);
        block.nodes.push(node);
    }
    block
}

/// Lays out a box around its text and its inner steps, at the origin.
fn lay_out_node<'a>(node: &'a GraphNode, edges: &EdgeIndex<'_>) -> PlacedNode<'a> {
    let title = truncate_to_width(&node.id, MAX_LINE_COLUMNS);
    let lines = std::iter::once(node.kind_label.clone())
        .chain(node.details.iter().cloned())
        .chain(data_flow_label(node, edges));
    let lines: Vec<String> =
        lines.flat_map(|line| wrap(&line, MAX_LINE_COLUMNS).into_iter().take(3).collect::<Vec<_>>()).collect();
    let mut children = match (node.is_group(), node.kind) {
        (false, _) => LayoutBlock::default(),
        (true, GraphNodeKind::Parallel) => lay_out_row(&node.children, edges),
        (true, _) => lay_out_column(&node.children, edges),
    };
    let head_height = PADDING + TITLE_HEIGHT + lines.len() * LINE_HEIGHT;
    let loop_arrow_width = if node.kind == GraphNodeKind::Repeat { LOOP_ARROW_WIDTH } else { 0 };
    let line_widths = lines.iter().map(|line| display_width(line) * COLUMN_WIDTH);
    let text_width = line_widths.chain([display_width(&title) * (COLUMN_WIDTH + 1)]).max().unwrap_or(0);
    let body_height = if node.is_group() { children.height + PADDING } else { PADDING / 2 };
    let width = (text_width + 2 * PADDING).max(children.width + 2 * PADDING + loop_arrow_width).max(150);
    children.shift((width - children.width - loop_arrow_width) / 2 + loop_arrow_width, head_height);
    if loop_arrow_width > 0 {
        let arrow = loop_arrow(&children);
        children.arrows.extend(arrow);
    }
    PlacedNode { node, title, lines, x: 0, y: 0, width, height: head_height + body_height, children }
}

/// Returns the arrow from the last step of a loop back to its first.
fn loop_arrow(block: &LayoutBlock<'_>) -> Option<Arrow> {
    let (first, last) = (block.nodes.first()?, block.nodes.last()?);
    let (start, end) = (last.y + last.height * 3 / 4, first.y + first.height / 4);
    let points = vec![(last.x, start), (PADDING, start), (PADDING, end), (first.x, end)];
    Some(Arrow { points, label: String::new(), label_position: (PADDING, start) })
}
