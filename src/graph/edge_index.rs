//! Finds the edges of a step and of a group, so that drawing takes time linear in the number of steps and edges.

use std::collections::{HashMap, HashSet};

use super::{Edge, EdgeKind, GraphNode};

/// A connection between two nodes of a list, with the indices of the nodes and the labels of all edges between them.
pub(super) type Connection = (usize, usize, Vec<String>);

/// The edges of a graph, by their ends.
pub(super) struct EdgeIndex<'g> {
    /// The edges that order steps, sorted by the number of the earlier step.
    forward: Vec<&'g Edge>,
    /// The edges for artifacts of the previous iteration, by the number of the step that reads the artifact.
    previous_iteration: HashMap<usize, Vec<&'g Edge>>,
}

impl<'g> EdgeIndex<'g> {
    pub(super) fn new(edges: &'g [Edge]) -> Self {
        let mut index = Self { forward: Vec::new(), previous_iteration: HashMap::new() };
        for edge in edges {
            match edge.kind {
                EdgeKind::PreviousIteration(_) => index.previous_iteration.entry(edge.to).or_default().push(edge),
                EdgeKind::Required(_) | EdgeKind::Optional(_) | EdgeKind::Order => index.forward.push(edge),
            }
        }
        index.forward.sort_by_key(|edge| edge.from);
        index
    }

    /// The edges for the artifacts of the previous iteration that a step reads.
    pub(super) fn previous_iteration_edges(&self, node: &GraphNode) -> &[&'g Edge] {
        self.previous_iteration.get(&node.number).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the connections between these nodes, including the steps inside them.
    pub(super) fn connections_between(&self, nodes: &[GraphNode]) -> Vec<Connection> {
        let mut connections: Vec<Connection> = Vec::new();
        let mut positions: HashMap<(usize, usize), usize> = HashMap::new();
        let mut known_labels: HashSet<(usize, String)> = HashSet::new();
        for edge in self.edges_from(nodes) {
            let (Some(from), Some(to)) = (index_of(nodes, edge.from), index_of(nodes, edge.to)) else { continue };
            if from == to {
                continue;
            }
            let position = *positions.entry((from, to)).or_insert_with(|| {
                connections.push((from, to, Vec::new()));
                connections.len() - 1
            });
            let Some((_, _, labels)) = connections.get_mut(position) else { continue };
            let label = edge.kind.label();
            if !label.is_empty() && known_labels.insert((position, label.clone())) {
                labels.push(label);
            }
        }
        connections
    }

    /// The edges from these nodes and from the steps inside them.
    fn edges_from(&self, nodes: &[GraphNode]) -> impl Iterator<Item = &'g Edge> {
        let start = nodes.first().map_or(usize::MAX, |node| node.number);
        let end = nodes.last().map_or(0, |node| node.last_number);
        let first = self.forward.partition_point(|edge| edge.from < start);
        self.forward.iter().skip(first).take_while(move |edge| edge.from <= end).copied()
    }
}

/// The index of the node with this number, or of the node that contains the step with it. The numbers of nodes ascend.
pub(super) fn index_of(nodes: &[GraphNode], number: usize) -> Option<usize> {
    let index = nodes.partition_point(|node| node.last_number < number);
    nodes.get(index).filter(|node| node.contains(number)).map(|_| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphNodeKind;

    fn node(number: usize, children: Vec<GraphNode>) -> GraphNode {
        GraphNode {
            number,
            last_number: children.last().map_or(number, |child| child.last_number),
            id: format!("s{number}"),
            kind: GraphNodeKind::Sequence,
            kind_label: String::new(),
            details: Vec::new(),
            consumed: Vec::new(),
            previous_reads: Vec::new(),
            produced: Vec::new(),
            is_for_each: false,
            children,
        }
    }

    fn edge(from: usize, to: usize, kind: EdgeKind) -> Edge {
        Edge { from, to, kind }
    }

    #[test]
    fn a_connection_has_each_label_once_and_includes_inner_steps() {
        let nodes = [node(0, vec![node(1, Vec::new()), node(2, Vec::new())]), node(3, Vec::new())];
        let required = |name: &str| EdgeKind::Required(name.to_owned());
        let edges = [
            edge(0, 3, EdgeKind::Order),
            edge(1, 2, required("a")),
            edge(1, 3, required("a")),
            edge(2, 3, required("a")),
            edge(2, 3, required("b")),
            edge(2, 1, EdgeKind::PreviousIteration("b".to_owned())),
        ];
        let index = EdgeIndex::new(&edges);
        assert_eq!(index.connections_between(&nodes), [(0, 1, vec!["a".to_owned(), "b".to_owned()])]);
        assert_eq!(index.connections_between(&nodes[0].children), [(0, 1, vec!["a".to_owned()])]);
        assert_eq!(index.previous_iteration_edges(&nodes[0].children[0]), [&edges[5]]);
        assert_eq!((index_of(&nodes, 2), index_of(&nodes, 3), index_of(&nodes, 4)), (Some(0), Some(1), None));
    }
}
