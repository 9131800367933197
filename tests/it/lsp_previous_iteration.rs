//! The language server in texts that read the previous iteration of a loop.

use crate::support::{Editor, Orch, split_cursor};

/// A loop whose first step has this message, and whose second step produces a review.
fn loop_with_message(message: &str) -> String {
    format!(
        r#"name: p
inputs:
  task: {{ type: string }}
agents:
  coder: {{ model: auto }}
steps:
  - id: plan
    agent: coder
    prompt: planner.md
    output: plan
  - id: rounds
    repeat:
      max: 2
      steps:
        - id: code
          agent: coder
          prompt: coder.md
          inputs: [plan]
          message: "{message}"
          output: code
        - id: review
          agent: coder
          prompt: reviewer.md
          inputs: [plan, code]
          output: review
"#
    )
}

fn assert_has(found: &[String], names: &[&str]) {
    assert!(names.iter().all(|name| found.iter().any(|known| known == name)), "not all of {names:?} in {found:?}");
}

#[test]
fn completion_offers_what_the_previous_iteration_exported() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let mut at = |message: &str| editor.complete("pipelines/a.yaml", &loop_with_message(message));
    let names = at("{{ loop.previous.@ }}");
    assert_has(&names, &["code", "review", "steps"]);
    assert!(names.iter().all(|name| name != "plan"), "{names:?}");
    assert_has(&at("{{ loop.previous.review.@ }}"), &["approved", "issues"]);
    assert_eq!(at("{{ loop.previous.steps.@ }}"), ["code", "review"]);
    assert_has(&at("{{ loop.previous.steps.review.@ }}"), &["status", "error"]);
}

#[test]
fn a_value_of_the_previous_iteration_leads_to_its_step() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let text_with_cursor = loop_with_message("{{ loop.previous.rev@iew.summary }}");
    let (text, place) = split_cursor(&text_with_cursor);
    orch.write("pipelines/b.yaml", &text);
    let hover = editor.hover("pipelines/b.yaml", &text_with_cursor);
    assert!(hover.starts_with("`loop.previous.review`: object (artifact, may be missing)"), "{hover}");
    let found = editor.definition("pipelines/b.yaml", &text_with_cursor);
    assert_eq!(found, [("pipelines/b.yaml".to_owned(), "output: review".to_owned())]);
    let found = editor.request_at("references", "pipelines/b.yaml", place);
    let lines: Vec<String> = editor.location_lines(&found).into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["message: \"{{ loop.previous.review.summary }}\"", "output: review"]);
}
