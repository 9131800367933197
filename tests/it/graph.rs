//! `orch pipeline graph` draws the pictures in `tests/data/graph`; `ORCH_UPDATE=1` writes them anew.

use std::fs;
use std::path::Path;

use orch::config::load;
use orch::graph::{EdgeKind, Graph, GraphNode, render_dot, render_mermaid, render_svg, render_text};

use crate::support::{Orch, assert_stored};

const EVERY_KIND: &str = "tests/pipelines/valid/graph_of_every_kind/pipelines/main.yaml";

fn graph(path: &str) -> Graph {
    Graph::from_project(&load(Path::new(path)).unwrap())
}

#[test]
fn the_pictures_match_the_stored_ones() {
    for (name, path) in [("default", "pipelines/default.yaml"), ("every_kind", EVERY_KIND)] {
        let graph = graph(path);
        let path = |extension: &str| format!("tests/data/graph/{name}.{extension}");
        assert_stored(&path("txt"), &render_text(&graph));
        assert_stored(&path("mmd"), &render_mermaid(&graph));
        assert_stored(&path("dot"), &render_dot(&graph));
        assert_stored(&path("svg"), &render_svg(&graph));
    }
}

#[test]
fn every_valid_pipeline_can_be_drawn_in_80_columns_and_as_well_formed_xml() {
    for folder in fs::read_dir("tests/pipelines/valid").unwrap() {
        let path = folder.unwrap().path().join("pipelines/main.yaml");
        let graph = Graph::from_project(&load(&path).unwrap());
        for line in render_text(&graph).lines() {
            assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{}: {line}", path.display());
        }
        assert_well_formed(&render_svg(&graph));
        let lines = render_mermaid(&graph);
        let count = |word: &str| {
            lines.lines().filter(|line| line.trim() == word || line.trim().starts_with(&format!("{word} "))).count()
        };
        assert_eq!(count("subgraph"), count("end"), "{lines}");
        assert_eq!(
            render_dot(&graph).matches("subgraph cluster_").count() + 1,
            render_dot(&graph).matches("}\n").count()
        );
    }
}

/// Asserts that elements are closed in order, and that texts contain no markup.
fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in xml.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (false, true) => {}
            (false, false) => open.push(name),
        }
        for entity in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known));
            assert!(known, "&{entity}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn edges_lead_from_the_producing_step_to_the_reading_one() {
    fn names(nodes: &[GraphNode], found: &mut Vec<String>) {
        for node in nodes {
            found.push(node.id.clone());
            names(&node.children, found);
        }
    }
    let graph = graph(EVERY_KIND);
    let mut ids = Vec::new();
    names(&graph.nodes, &mut ids);
    let has = |from: &str, to: &str, flow: EdgeKind| {
        let found = graph.edges.iter().any(|edge| ids[edge.from] == from && ids[edge.to] == to && edge.kind == flow);
        assert!(found, "no edge from {from} to {to}: {:?}", graph.edges);
    };
    has("plan", "code", EdgeKind::Required("plan".into()));
    has("review", "code", EdgeKind::PreviousIteration("review".into()));
    has("help", "sign", EdgeKind::Required("answer".into()));
    has("think", "tell", EdgeKind::Required("thought".into()));
    has("sign", "finally", EdgeKind::Order);
}

#[test]
fn the_picture_in_the_documentation_is_what_the_program_prints() {
    let shown = fs::read_to_string("docs/cli.md").unwrap();
    let ran = Orch::new().run(&["pipeline", "graph", "pipelines/default.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let block = format!("```console\n$ orch pipeline graph pipelines/default.yaml\n{}```", ran.stdout);
    assert!(shown.contains(&block), "docs/cli.md does not show:\n{}", ran.stdout);
}

#[test]
fn an_unknown_format_is_refused_and_an_invalid_file_is_a_finding() {
    let orch = Orch::new();
    let ran = orch.run(&["pipeline", "graph", "pipelines/default.yaml", "--format", "png"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("svg"), "{}", ran.stderr);
    orch.write("pipelines/broken.yaml", "name: x\nsteps: 3\n");
    let ran = orch.run(&["pipeline", "graph", "pipelines/broken.yaml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("broken.yaml:2"), "{}", ran.stderr);
}
