//! Loading and checking a project: a pipeline, `orch.yaml`, a prompt, a schema and a pipeline that is called.

use std::path::Path;

use orch::config::{Sources, load_case_from, load_from, parse};
use orch::diagnostic::{Diagnostic, RenderStyle, SourceFile, json_report, render_all, render_github, render_sarif};
use orch::{check, graph};

use super::{assert_place, parts};

/// A folder that no machine has: every file of the project is in [`Sources`].
const ROOT: &str = "/orch-fuzz-project";

/// Findings have their places inside of the texts, the same files give the same findings, every form of a finding and
/// every drawing of a graph can be made, and a document as JSON is the same document.
pub fn load(input: &[u8]) {
    let texts: [String; 5] = parts(input);
    let names = ["pipelines/p.yaml", "orch.yaml", "prompts/a.md", "schemas/a.schema.json", "pipelines/b.yaml"];
    let mut sources = Sources::default();
    for (name, text) in names.iter().zip(&texts) {
        sources.put(Path::new(ROOT).join(name), text.as_str());
    }
    sources.put(Path::new(ROOT).join("pipelines/tests/p.yaml"), texts[1].as_str());
    round_trip(&texts[0]);
    assert_eq!(findings(&sources), findings(&sources));
    if let Err(found) = load_case_from(&sources, &Path::new(ROOT).join("pipelines/tests/p.yaml")) {
        found.iter().for_each(assert_finding);
    }
}

fn findings(sources: &Sources) -> Vec<Diagnostic> {
    let found = match load_from(sources, &Path::new(ROOT).join("pipelines/p.yaml")) {
        Ok(project) => {
            draw(&project);
            check::check(&project)
        }
        Err(found) => {
            assert!(!found.is_empty(), "a pipeline that can't be loaded has a finding");
            found
        }
    };
    found.iter().for_each(assert_finding);
    render_all(&found, RenderStyle::default());
    render_github(&found);
    render_sarif(&found);
    json_report(&["pipelines/p.yaml".to_owned()], &found);
    found
}

fn draw(project: &orch::config::Project) {
    let graph = graph::Graph::from_project(project);
    for text in [
        graph::render_text(&graph),
        graph::render_dot(&graph),
        graph::render_mermaid(&graph),
        graph::render_svg(&graph),
    ] {
        assert!(text.len() < 64 << 20, "a drawing of {} bytes", text.len());
    }
}

fn assert_finding(finding: &Diagnostic) {
    assert!(!finding.message.is_empty());
    let text = finding.file.as_ref().map_or("", |file| &file.text);
    for range in finding.span.iter().chain(finding.fix.as_ref().map(|fix| &fix.span)) {
        assert_place(text, range, finding);
    }
    for label in &finding.related {
        assert_place(&label.file.text, &label.span, finding);
    }
}

/// A document is the same when it is written as JSON, which is YAML too.
fn round_trip(text: &str) {
    let Ok(document) = parse(&SourceFile::new("p.yaml", text)) else { return };
    for pointer in document.spans.pointers() {
        assert_place(text, &document.spans.value(pointer), &pointer);
        assert_place(text, &document.spans.key(pointer), &pointer);
        assert!(document.value.pointer(pointer).is_some(), "{pointer} is no part of the value");
    }
    let json = document.value.to_string();
    // YAML texts can't hold these, not even in quotes.
    let unwritable =
        |c: char| c == '\u{7f}' || ('\u{80}'..='\u{9f}').contains(&c) || matches!(c, '\u{fffe}' | '\u{ffff}');
    if json.contains(unwritable) || json.contains('\u{feff}') {
        return;
    }
    match parse(&SourceFile::new("p.json", json.clone())) {
        Ok(again) => assert_eq!(again.value, document.value, "{json}"),
        Err(found) => panic!("{json}: {found:?}"),
    }
}
