//! `orch pipeline validate --fix` and `--watch`.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::Orch;

fn fix(orch: &Orch, more: &[&str]) -> crate::support::RunOutput {
    orch.run(&[&["pipeline", "validate", "--fix"], more].concat())
}

#[test]
fn typos_are_fixed_over_several_rounds_and_reported() {
    let orch = Orch::new();
    let good = orch.read("pipelines/default.yaml");
    // The misspelt key hides the misspelt agent until it is fixed.
    orch.edit("pipelines/default.yaml", "    prompt: coder.md", "    promt: coder.md");
    orch.edit("pipelines/default.yaml", "agent: coder", "agent: codr");
    let ran = fix(&orch, &[]).exits(0);
    assert_eq!(orch.read("pipelines/default.yaml"), good);
    for text in ["fixed pipelines/default.yaml:21:5: `promt` is now `prompt` (ORCH0201)", "`codr` is now `coder`"] {
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("ok: 5 pipelines checked"), "{}", ran.stderr);
}

#[test]
fn a_dry_run_prints_a_diff_and_changes_nothing() {
    let orch = Orch::new();
    orch.edit("pipelines/default.yaml", "    prompt: coder.md", "    promt: coder.md");
    let before = orch.read("pipelines/default.yaml");
    let ran = fix(&orch, &["--dry-run"]).exits(2);
    assert_eq!(orch.read("pipelines/default.yaml"), before);
    assert!(ran.stdout.starts_with("--- a/pipelines/default.yaml\n+++ b/pipelines/default.yaml\n@@"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\n-    promt: coder.md\n+    prompt: coder.md\n"), "{}", ran.stdout);
    orch.run(&["pipeline", "validate", "--dry-run"]).exits(2);
}

const HYPHENS: &str = "name: hyphens
inputs: { my-task: { type: string } }
agents: { coder: { model: openai/gpt-4.1-mini } }
steps:
  - { id: first-draft, agent: coder, prompt: draft.md, output: the-plan, schema: plan }
  - id: second-draft
    agent: coder
    prompt: draft.md
    inputs: ['the-plan?']
    message: \"{{ my-task }} {% if the-plan %}{{ the-plan.summary }}{% endif %}\"
    when: steps.first-draft.status == 'completed'
    output: next_plan
    schema: plan
outputs: { the-end: the-plan }
";

#[test]
fn names_with_hyphens_are_fixed_with_all_their_uses() {
    let orch = Orch::new();
    orch.write("pipelines/hyphens.yaml", HYPHENS);
    orch.write("prompts/draft.md", "Write a draft of {{ my-task }}.\n");
    orch.write(
        "pipelines/tests/hyphens.yaml",
        "pipeline: ../hyphens.yaml\ninputs: { my-task: x }\nexpect: { steps: { first-draft: completed } }\n",
    );
    let ran = fix(&orch, &["pipelines/hyphens.yaml", "pipelines/tests/hyphens.yaml"]).exits(0);
    assert!(ran.stderr.contains("`first-draft` is now `first_draft` (ORCH0301)"), "{}", ran.stderr);
    let mended = ["my-task", "first-draft", "second-draft", "the-plan", "the-end"]
        .into_iter()
        .fold(HYPHENS.to_owned(), |text, name| text.replace(name, &name.replace('-', "_")));
    assert_eq!(orch.read("pipelines/hyphens.yaml"), mended);
    assert_eq!(orch.read("prompts/draft.md"), "Write a draft of {{ my_task }}.\n");
    assert!(orch.read("pipelines/tests/hyphens.yaml").contains("my_task: x"));
}

#[test]
fn optional_inputs_get_the_quotes_that_other_yaml_tools_need() {
    let orch = Orch::new();
    let quoted = orch.read("pipelines/default.yaml");
    orch.edit("pipelines/default.yaml", "[plan, \"code?\"]", "[plan, code?]");
    let validate = |more: &[&str]| orch.run(&[&["pipeline", "validate", "--deny", "warnings"], more].concat());
    validate(&[]).exits(0);
    let ran = validate(&["--strict"]).exits(2);
    assert!(ran.stderr.contains("ORCH0115") && ran.stderr.contains("cannot read `code?` without"), "{}", ran.stderr);
    let ran = fix(&orch, &[]).exits(0);
    assert!(ran.stderr.contains("`code?` is now `\"code?\"` (ORCH0115)"), "{}", ran.stderr);
    assert_eq!(orch.read("pipelines/default.yaml"), quoted);
    validate(&["--strict"]).exits(0);
}

#[test]
fn other_yaml_tools_read_every_pipeline_and_test_case_of_the_repository() {
    let orch = Orch::empty();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines");
    orch.run(&["pipeline", "validate", "--strict", "--deny", "warnings", folder]).exits(0);
    for file in std::fs::read_dir("tests/pipelines/valid").unwrap() {
        let file = file.unwrap().path().join("pipelines/main.yaml");
        let document = orch::config::parse(&orch::diagnostic::SourceFile::new(
            file.to_string_lossy(),
            std::fs::read_to_string(&file).unwrap(),
        ));
        let findings = orch::check::check_portability(&document.unwrap());
        assert!(findings.is_empty(), "{}: {findings:?}", file.display());
    }
}

#[test]
fn a_hyphenated_name_is_not_fixed_if_the_new_name_is_in_use() {
    let orch = Orch::new();
    let text =
        "name: two\nsteps:\n  - { id: a-b, run: make, access: none }\n  - { id: a_b, run: lint, access: none }\n";
    orch.write("pipelines/two.yaml", text);
    fix(&orch, &["pipelines/two.yaml"]).exits(2).says("`a-b` is not a valid name");
    assert_eq!(orch.read("pipelines/two.yaml"), text);
}

#[test]
fn a_typo_with_two_possible_corrections_is_not_fixed() {
    let orch = Orch::new();
    let text = orch.read("prompts/coder.md");
    orch.write("prompts/codes.md", &text);
    orch.edit("pipelines/default.yaml", "prompt: coder.md", "prompt: codex.md");
    let before = orch.read("pipelines/default.yaml");
    fix(&orch, &[]).exits(2).says("there is no prompt");
    assert_eq!(orch.read("pipelines/default.yaml"), before);
}

#[test]
fn a_name_with_one_close_match_is_fixed_whatever_it_names() {
    let orch = Orch::empty();
    orch.write("prompts/outline.md", "Outline it.\n");
    orch.write("schemas/critique.schema.json", "{ \"type\": \"object\" }\n");
    orch.write("pipelines/sub.yaml", "name: sub\nsteps:\n  - { id: s, run: [echo], access: none }\n");
    let good = "name: x
agents: { writer: { model: anthropic/claude-sonnet-4-5 } }
steps:
  - { id: a, agent: writer, prompt: outline.md, output: told, schema: critique }
  - id: b
    inputs: [told]
    run: [echo, \"{% if told.note is defined %}{{ told | tojson | upper }}{% endif %}\"]
    access: none
  - { id: c, pipeline: sub.yaml }
";
    let file = "pipelines/x.yaml";
    for (right, wrong, help) in [
        ("prompt: outline.md", "prompt: outline", "write `outline.md`, with its ending"),
        ("prompt: outline.md", "prompt: prompts/outline.md", "names begin in `prompts/`: write `outline.md`"),
        ("| upper", "| uper", "did you mean `upper`?"),
        ("is defined", "is definded", "did you mean `defined`?"),
        ("schema: critique", "schema: critque", "did you mean `critique`?"),
        ("schema: critique", "schema: critique.json", "write `critique`, without the ending"),
        ("schema: critique", "schema: schemas/critique.schema.json", "names begin in `schemas/`: write `critique`"),
        ("claude-sonnet-4-5", "claude-sonet-4-5", "did you mean `anthropic/claude-sonnet-4-5`?"),
        ("pipeline: sub.yaml", "pipeline: sub", "write `sub.yaml`, with its ending"),
        ("pipeline: sub.yaml", "pipeline: pipelines/sub.yaml", "names begin in `pipelines/`: write `sub.yaml`"),
    ] {
        orch.write(file, &good.replace(right, wrong));
        let before = orch.run(&["pipeline", "validate", file]);
        assert!(before.stderr.contains(help), "{wrong}: {}", before.stderr);
        assert!(!before.stderr.contains("a link"), "{wrong}: {}", before.stderr);
        fix(&orch, &[file]).exits(0);
        assert_eq!(orch.read(file), good, "{wrong}");
    }
}

#[test]
fn a_fix_that_would_rename_an_artifact_is_left_to_the_user() {
    let orch = Orch::empty();
    orch.write("prompts/outline.md", "Outline it.\n");
    orch.write("schemas/critique.schema.json", "{ \"type\": \"object\" }\n");
    let text = "name: x
agents: { writer: { model: anthropic/claude-sonnet-4-5 } }
steps:
  - { id: a, agent: writer, prompt: outline.md, output: critque }
";
    orch.write("pipelines/x.yaml", text);
    fix(&orch, &[]).exits(2).says("did you mean `critique`?");
    assert_eq!(orch.read("pipelines/x.yaml"), text);
}

#[test]
fn a_word_that_differs_in_a_third_of_its_letters_is_not_fixed() {
    let orch = Orch::empty();
    orch.write("prompts/outline.md", "Outline it.\n");
    for word in ["lots", "lot"] {
        let text = format!(
            "name: x\nagents: {{ a: {{ model: auto, reasoning: {word} }} }}\nsteps:\n  - {{ id: s, agent: a, prompt: \
             outline.md, output: o, schema: text }}\n"
        );
        orch.write("pipelines/x.yaml", &text);
        fix(&orch, &[]).exits(2).says(&format!("not `{word}`"));
        assert_eq!(orch.read("pipelines/x.yaml"), text);
    }
}

#[test]
fn an_edit_that_adds_findings_is_undone() {
    let orch = Orch::new();
    orch.edit("pipelines/default.yaml", "    prompt: coder.md", "    prompt: coder.md\n    promt: coder.md");
    let before = orch.read("pipelines/default.yaml");
    let ran = fix(&orch, &[]).exits(2).says("unknown key `promt`");
    assert!(!ran.stderr.contains("fixed"), "{}", ran.stderr);
    assert_eq!(orch.read("pipelines/default.yaml"), before);
}

#[test]
fn an_edit_that_adds_findings_does_not_prevent_the_others() {
    let orch = Orch::new();
    let good = orch.read("pipelines/default.yaml");
    // The first of three misspelt keys exists already with the right name.
    let collision = "    prompt: planner.md\n    promt: planner.md";
    orch.edit("pipelines/default.yaml", "    prompt: planner.md", collision);
    orch.edit("pipelines/default.yaml", "    prompt: coder.md", "    promt: coder.md");
    orch.edit("pipelines/default.yaml", "    prompt: reviewer.md", "    promt: reviewer.md");
    let ran = fix(&orch, &[]).exits(2).says("unknown key `promt`");
    let lines = |word: &str| ran.stderr.lines().filter(|line| line.starts_with(word)).collect::<Vec<_>>();
    assert_eq!(lines("fixed ").len(), 2, "{}", ran.stderr);
    let skipped = lines("skipped ");
    assert!(skipped.len() == 1 && skipped[0].contains("orch did not change `promt` to `prompt` (ORCH0201), because"));
    assert!(skipped[0].contains("`prompt`") && skipped[0].contains("ORCH0111"), "{skipped:?}");
    assert_eq!(orch.read("pipelines/default.yaml"), good.replace("    prompt: planner.md", collision));
}

#[test]
fn fixed_and_remaining_findings_are_reported() {
    for folder in std::fs::read_dir("tests/pipelines/invalid").unwrap() {
        let folder = folder.unwrap().path();
        let orch = Orch::empty();
        copy(&folder, orch.path());
        let before = orch.run(&["pipeline", "validate", "--format", "json"]);
        let ran = fix(&orch, &["--format", "json"]);
        let count = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["errors"].as_u64().unwrap();
        assert_eq!(ran.code == 0, count(&ran.stdout) == 0, "{}", folder.display());
        let fixed = ran.stderr.contains("fixed");
        assert_eq!(fixed, before.stdout != ran.stdout, "{}: {}", folder.display(), ran.stderr);
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn watch_checks_again_after_each_change() {
    let orch = Orch::new();
    let mut child = orch.start(&["pipeline", "validate", "--watch"]);
    let (send, lines) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let wait = |text: &str| {
        while !lines.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("no {text:?}")).contains(text) {}
    };
    wait("ok: 5 pipelines checked");
    wait("waiting for changes");
    let good = orch.read("prompts/coder.md");
    orch.write("prompts/coder.md", &format!("{good}{{{{ nothing }}}}"));
    wait("prompts/coder.md changed");
    wait("unknown variable `nothing`");
    wait("waiting for changes");
    orch.write("prompts/coder.md", &good);
    wait("ok: 5 pipelines checked");
    child.kill().unwrap();
    child.wait().unwrap();
}
