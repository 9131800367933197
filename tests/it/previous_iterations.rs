//! What the steps of a loop see: values of their own round by name, and those of the previous iteration in
//! `loop.previous`.

use serde_json::json;

use crate::step_kinds::{answering_server, project, prompt_name, run, statuses};
use crate::support::{Orch, Server};

/// Runs a pipeline without agents, and returns the project and the statuses of its steps.
fn run_commands(steps: &str) -> (Orch, Vec<String>) {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, steps);
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    (orch, statuses(&report))
}

const NESTED_LOOPS: &str = r#"  - id: outer
    repeat:
      max: 2
      steps:
        - id: inner
          repeat:
            max: 2
            steps:
              - id: tell
                run: |
                  echo "{{ loop.parent.index }}.{{ loop.index }} {{ 'seen' if loop.previous.seen else 'new' }}" \
                    "{{ loop.previous.steps.tell.status if loop.previous.steps else 'first' }}" \
                    "({{ loop.parent.previous.seen | default('none') | trim }})" | tee -a log
                output: seen
                schema: text
"#;

#[test]
fn each_entry_into_an_inner_loop_begins_with_nothing() {
    let (orch, _) = run_commands(NESTED_LOOPS);
    let lines = "1.1 new first (none)\n1.2 seen completed (none)\n\
                 2.1 new first (1.2 seen completed (none))\n2.2 seen completed (1.2 seen completed (none))\n";
    assert_eq!(orch.read("workspace/log"), lines);
}

const SKIPPED_PATCH: &str = r#"  - id: rounds
    repeat:
      max: 3
      steps:
        - id: patch
          when: loop.index != 2
          run: [echo, "patch {{ loop.index }}"]
          access: none
          output: patch
          schema: text
        - id: apply
          when: patch is defined
          inputs: ["patch?"]
          run: echo "{% if patch %}{{ patch | trim }}{% endif %} applied" >> log
        - id: note
          run: echo "{{ loop.index }} after {{ loop.previous.patch | default('nothing') | trim }}" >> log
"#;

#[test]
fn a_step_does_not_take_the_artifact_of_the_previous_iteration_for_one_of_its_own() {
    let (orch, ended) = run_commands(SKIPPED_PATCH);
    let lines = "patch 1 applied\n1 after nothing\n2 after patch 1\npatch 3 applied\n3 after nothing\n";
    assert_eq!(orch.read("workspace/log"), lines);
    assert!(ended.contains(&"rounds[1]/apply skipped".to_owned()), "{ended:?}");
}

const NESTED_LISTS: &str = r#"  - id: outer
    for_each: "[{'files': ['x', 'y']}, {'files': ['z']}]"
    output: all
    steps:
      - id: inner
        when: "'z' not in item.files"
        for_each: item.files
        run: [printf, "%s", "{{ item }}{{ index }}"]
        access: none
        output: each
        schema: text
"#;

#[test]
fn the_list_and_the_condition_of_an_inner_step_see_the_outer_item() {
    let (orch, _) = run_commands(NESTED_LISTS);
    assert_eq!(orch.json("workspace/all.json"), json!([{ "each": ["x0", "y1"] }, {}]));
}

#[test]
fn a_condition_about_the_own_item_is_a_finding_before_the_run() {
    let step = "for_each: \"['a', 'b']\", when: item == 'a', run: [echo, \"{{ item }}\"], access: none";
    let orch = project(&Server::saying("{}"), &format!("  - {{ id: each, {step} }}\n"));
    let help = "write `for_each: \"['a', 'b'] | selectattr(…)\"`";
    orch.run(&["pipeline", "validate"]).exits(2).says("unknown variable `item`").says(help);
}

const UNTIL: &str = r#"  - id: g
    repeat:
      until: loop.index >= 2 and loop.previous.steps is defined
      max: 100
      steps:
        - { id: s, run: "true", access: none }
"#;

#[test]
fn the_condition_of_a_loop_sees_its_round() {
    let (_, ended) = run_commands(UNTIL);
    assert!(ended.contains(&"g[1]/s completed".to_owned()), "{ended:?}");
    assert!(!ended.iter().any(|step| step.starts_with("g[2]")), "{ended:?}");
}

#[test]
fn finally_knows_the_status_of_every_step_after_a_stop() {
    let server = answering_server(|_, _| json!(1));
    let step = |id: &str| format!("  - {{ id: {id}, agent: a, schema: any, prompt: {id}.md, output: of_{id} }}\n");
    let tidy = "finally:\n  - { id: tidy, run: \"echo {{ steps.one.status }} {{ steps.two.status }} > ended\" }\n";
    let orch = project(&server, &format!("{}{}{tidy}budget: {{ tokens: 10 }}\n", step("one"), step("two")));
    let (ran, _) = run(&orch, &[]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(orch.read("workspace/ended"), "cancelled cancelled\n");
}

/// `two` reads the previous iteration; `three` only reads the number of the iteration, also in its condition.
const READERS: &str = r#"  - id: rounds
    repeat:
      max: 2
      steps:
        - { id: one, agent: a, schema: any, prompt: one.md, message: "{{ loop.index }}", output: x }
        - id: two
          agent: a
          schema: any
          prompt: two.md
          message: "{{ loop.index }}{% for word in loop.previous.x or [] %} {{ word }}{% endfor %}"
          output: y
        - id: three
          agent: a
          schema: any
          prompt: three.md
          message: "{{ loop.index }}"
          accept: [{ that: loop.index > 0, else: never }]
          output: z
"#;

#[test]
fn only_a_step_that_uses_a_value_of_the_previous_iteration_depends_on_it() {
    let server = answering_server(|step, _| json!([step]));
    let orch = project(&server, READERS);
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(server.requests()[4].last().trim(), "2 one");
    let id = report["run"].as_str().unwrap();
    orch.edit("prompts/one.md", "step:one", "step:one again");
    let dry_run = orch.run(&["pipeline", "resume", id, "--dry-run"]).exits(0);
    let lines: Vec<String> =
        dry_run.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "run rounds[0]/one prompt one.md changed",
        "reuse rounds[0]/two",
        "reuse rounds[0]/three",
        "run rounds[1]/one prompt one.md changed",
        "maybe_run rounds[1]/two input x may change",
        "reuse rounds[1]/three",
    ];
    assert_eq!(lines, expected);
    orch.run(&["pipeline", "resume", id]).exits(0).says("loop.previous.x changed");
    let prompts: Vec<String> = server.requests()[6..].iter().map(prompt_name).collect();
    assert_eq!(prompts, ["one again", "one again", "two"]);
    assert_eq!(server.requests()[8].last().trim(), "2 one again");
}
