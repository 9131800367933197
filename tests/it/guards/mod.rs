//! Which guards show that a value exists, and which do not: what the check reports about values that may be missing.

mod items;
mod iterations;
mod outcomes;
mod variables;

use std::fs;

use orch::check::check;
use orch::config::load;
use orch::diagnostic::Diagnostic;

/// The schema of every artifact `r` and of the steps with `schema: r`.
const SCHEMA: &str = r#"{
  "type": "object", "additionalProperties": false, "required": ["ok", "note", "n", "kind", "items"],
  "properties": {
    "ok": { "type": "boolean" }, "note": { "type": "string" }, "n": { "type": "integer" },
    "kind": { "enum": ["a", "b"] }, "more": { "type": "string" },
    "items": { "type": "array", "items": {
      "type": "object", "additionalProperties": false, "required": ["title"],
      "properties": { "title": { "type": "string" }, "detail": { "type": "string" }, "size": { "type": "integer" } }
    } }
  }
}"#;

/// A pipeline that the steps can call.
const CALLED: &str = r#"name: called
inputs: { note: { type: string } }
steps:
  - { id: tell, run: [echo, "{{ note }}"], access: none }
"#;

/// A step whose artifact `r` may be missing.
const MAYBE_R: &str = r#"  - { id: s, when: task == "x", agent: a, prompt: p.md, output: r }"#;

/// A step that always produces `r`.
const ALWAYS_R: &str = "  - { id: s, agent: a, prompt: p.md, output: r }";

/// The findings about the values of a pipeline with these steps. `prompt` is the prompt `q.md`.
fn diagnostics(steps: &str, prompt: &str) -> Vec<Diagnostic> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("schemas/r.schema.json", SCHEMA);
    write("prompts/p.md", "Do it: {{ task }}\n");
    write("prompts/q.md", prompt);
    let head = "name: main\ninputs: { task: { type: string } }\nagents: { a: { model: auto } }\n";
    write("pipelines/main.yaml", &format!("{head}steps:\n{steps}\n"));
    write("pipelines/called.yaml", CALLED);
    let project = load(&folder.path().join("pipelines/main.yaml")).unwrap_or_else(|found| panic!("{found:?}\n{steps}"));
    // These codes are not about values: an unused input, an unused agent, a command without a sandbox.
    let others = ["ORCH0310", "ORCH0311", "ORCH0313"];
    check(&project).into_iter().filter(|finding| !others.contains(&finding.code.as_str())).collect()
}

/// The messages of the findings about a pipeline with these steps.
fn findings(steps: &str) -> Vec<String> {
    diagnostics(steps, "Do it.\n").into_iter().map(|finding| finding.message).collect()
}

/// The messages of the findings about a prompt. It sees `r`, which always exists, `q` with the same type, which may be
/// missing, and the list `parts` of a `for_each` with `on_error: continue`.
fn prompt_findings(prompt: &str) -> Vec<String> {
    let steps = r#"
  - { id: s, agent: a, prompt: p.md, output: r }
  - { id: t, when: r.n > 3, inputs: [r], agent: a, prompt: p.md, output: q, schema: r }
  - id: u
    for_each: r.items
    inputs: [r]
    agent: a
    prompt: p.md
    message: "{{ item.title }}"
    output: parts
    schema: r
    on_error: continue
  - { id: v, inputs: [r, q?, parts], agent: a, prompt: q.md, output: o, schema: text }"#;
    diagnostics(steps, prompt).into_iter().map(|finding| finding.message).collect()
}

/// Steps that read `r.note` or another part of `r`, one for each text of a step. `WHEN` stands for the guard.
const READERS: &[&str] = &[
    r#"  - { id: t, WHEN inputs: [r?], run: "echo {{ r.note }}", access: none }"#,
    r#"  - { id: t, WHEN inputs: [r?], run: [echo, "{{ r.note }}"], access: none }"#,
    "  - { id: t, WHEN inputs: [r?], run: cat, stdin: r.note, access: none }",
    r#"  - { id: t, WHEN inputs: [r?], run: ls, cwd: "{{ r.note }}", access: read }"#,
    r#"  - { id: t, WHEN inputs: [r?], agent: a, prompt: p.md, message: "{{ r.note }}", output: o, schema: text }"#,
    "  - { id: t, WHEN inputs: [r?], agent: a, prompt: q.md, output: o, schema: text }",
    "  - { id: t, WHEN inputs: [r?], agent: a, prompt: p.md, output: o, schema: r, accept: [{ that: o.n > r.n, else: more }] }",
    r#"  - { id: t, WHEN inputs: [r?], write: "[{'path': 'x', 'content': r.note}]" }"#,
    r#"  - { id: t, WHEN inputs: [r?], approve: "{{ r.note }}" }"#,
    r#"  - { id: t, WHEN inputs: [r?], for_each: r.items, run: [echo, "{{ item.title }}"], access: none }"#,
    "  - { id: t, WHEN inputs: [r?], pipeline: called.yaml, with: { note: r.note } }",
    r#"  - { id: t, WHEN inputs: [r?], steps: [{ id: z, inputs: [r?], run: "echo {{ r.note }}", access: none }] }"#,
    r#"  - { id: t, WHEN inputs: [r?], parallel: [{ id: z, inputs: [r?], approve: "{{ r.note }}" }] }"#,
    r#"  - { id: t, WHEN inputs: [r?], repeat: { max: 2, until: r.ok, steps: [{ id: z, inputs: [r?], approve: "{{ r.note }}" }] } }"#,
];

fn read_r(reader: &str, when: &str) -> Vec<String> {
    let guard = if when.is_empty() { String::new() } else { format!("when: '{when}',") };
    let steps = format!("{MAYBE_R}\n{}", reader.replace("WHEN", &guard));
    diagnostics(&steps, "{{ r.note }}\n").into_iter().map(|finding| finding.message).collect()
}

#[test]
fn when_guards_every_text_of_a_step_and_the_steps_inside_it() {
    let none: [&str; 0] = [];
    for reader in READERS {
        for when in ["r is defined", "r is defined and r.ok", "not (r is not defined)", "r is not undefined"] {
            assert_eq!(read_r(reader, when), none, "{when} {reader}");
        }
    }
}

#[test]
fn a_when_that_does_not_show_that_the_value_exists_is_no_guard() {
    for reader in READERS {
        for when in ["", "r is defined or task == \"y\"", "task != \"x\"", "task == \"y\"", "r is not defined"] {
            let found = read_r(reader, when);
            assert!(found.iter().any(|message| message == "`r` may be missing"), "{when} {reader}: {found:?}");
        }
    }
}

#[test]
fn the_condition_of_the_producer_guards_its_artifact() {
    let none: [&str; 0] = [];
    for reader in READERS {
        for when in ["task == \"x\"", "steps.s.status == \"completed\"", "task in [\"x\"]"] {
            assert_eq!(read_r(reader, when), none, "{when} {reader}");
        }
    }
    // A step that requires an artifact with the same condition runs only if both exist.
    let steps = format!(
        r#"{MAYBE_R}
  - {{ id: t, when: task == "x", agent: a, prompt: p.md, output: q, schema: r }}
  - {{ id: u, inputs: [q, r?], approve: "{{{{ r.note }}}} {{{{ q.note }}}}" }}"#
    );
    assert_eq!(findings(&steps), none);
}

#[test]
fn until_sees_what_the_conditions_of_the_steps_of_the_iteration_show() {
    let steps = |until: &str, when: &str| {
        format!(
            r#"  - id: talk
    repeat:
      until: {until}
      max: 3
      steps:
        - {{ id: s, agent: a, prompt: p.md, output: r }}
        - {{ id: ask, when: {when}, inputs: [r], approve: "{{{{ r.note }}}}", output: said }}"#
        )
    };
    let none: [&str; 0] = [];
    assert_eq!(findings(&steps("r.ok or said.note == \"stop\"", "not r.ok")), none);
    assert_eq!(findings(&steps("r.ok or said.note == \"stop\"", "r.ok == false")), none);
    assert_eq!(findings(&steps("r.n <= 3 or said.approved", "r.n > 3")), none);
    assert_eq!(findings(&steps("said is defined and said.approved", "r.n > 3")), none);
    for (until, when) in [
        ("r.ok or said.note == \"stop\"", "r.n > 3"),
        ("said.approved", "not r.ok"),
        ("r.ok and said.approved", "not r.ok"),
    ] {
        assert_eq!(findings(&steps(until, when)), ["`said` may be missing"], "{until} {when}");
    }
}

#[test]
fn one_of_two_steps_with_opposite_conditions_has_run() {
    let steps = |first: &str, second: &str, text: &str| {
        format!(
            r#"{ALWAYS_R}
  - {{ id: t, when: '{first}', inputs: [r], agent: a, prompt: p.md, output: x, schema: r }}
  - {{ id: u, when: '{second}', inputs: [r], agent: a, prompt: p.md, output: y, schema: r }}
  - {{ id: v, inputs: [r, x?, y?], approve: "{text}" }}"#
        )
    };
    let opposites = [
        ("r.ok", "not r.ok"),
        ("r.n > 3", "r.n <= 3"),
        ("r.kind == \"a\"", "r.kind == \"b\""),
        ("r.kind == \"a\"", "r.kind != \"a\""),
        ("r.items | length > 0", "r.items | length == 0"),
        ("r.ok and r.n > 3", "not r.ok or r.n <= 3"),
        ("r.more is defined", "r.more is not defined"),
        ("r.n > 3", "steps.t.status == \"skipped\""),
    ];
    let texts = [
        "{{ (x or y).note }}",
        "{{ (x | default(y)).note }}",
        "{{ x.note if x is defined else y.note }}",
        "{% if x %}{{ x.note }}{% else %}{{ y.note }}{% endif %}",
        "{% set best = x or y %}{{ best.note }}",
    ];
    let none: [&str; 0] = [];
    for (first, second) in opposites {
        for text in texts {
            assert_eq!(findings(&steps(first, second, text)), none, "{first} {second} {text}");
        }
    }
    for (first, second) in [("r.ok", "r.n > 3"), ("r.n > 3", "r.n > 4"), ("r.ok", "not r.ok and r.n > 3")] {
        for text in texts {
            assert_eq!(findings(&steps(first, second, text)).len(), 1, "{first} {second} {text}");
        }
    }
    assert_eq!(findings(&steps("r.ok", "not r.ok", "{{ x.note }}{{ y.note }}")).len(), 2);
}

#[test]
fn the_advice_names_a_guard_that_is_not_there() {
    let help = |steps: &str| {
        let found = diagnostics(steps, "{{ r.note }}\n");
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].help.join(" ")
    };
    let with = |step: &str| help(&format!("{MAYBE_R}\n{step}"));
    let template = "guard it: `{% if r is defined %}…{% endif %}`, or set a default: `r | default(…)`";
    assert_eq!(with(r#"  - { id: t, inputs: [r?], run: "echo {{ r.note }}", access: none }"#), template);
    assert_eq!(with(r#"  - { id: t, inputs: [r?], approve: "{{ r.note }}" }"#), template);
    assert_eq!(with("  - { id: t, inputs: [r?], agent: a, prompt: q.md, output: o, schema: text }"), template);
    let step = "  - { id: t, inputs: [r?], run: cat, stdin: r.note, access: none }";
    assert_eq!(with(step), "guard step `t` with `when: r is defined`, or set a default: `r | default(…)`");
    let step = r#"  - { id: t, when: task != "y", inputs: [r?], run: cat, stdin: r.note, access: none }"#;
    assert_eq!(
        with(step),
        "guard it: add `and r is defined` to the `when` of step `t`, or set a default: `r | default(…)`"
    );
    let step = r#"  - { id: t, when: r.ok, inputs: [r?], run: "true", access: none }"#;
    assert_eq!(with(step), "guard it: `r is defined and …`, or set a default: `r | default(…)`");
    let step = "outputs: { note: r.note }";
    assert_eq!(with(step), "guard it: `… if r is defined else …`, or set a default: `r | default(…)`");
}
