//! Mistakes of users who have not read the documentation: each message says what is wrong, where, and what to do.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Orch, RunOutput};

/// What `validate` says about this pipeline.
#[track_caller]
fn check(text: &str) -> RunOutput {
    let orch = Orch::new();
    orch.write("pipelines/x.yaml", text);
    orch.run(&["pipeline", "validate", "pipelines/x.yaml"]).exits(2)
}

const ONE: &str = "name: x\ninputs: { task: { type: string } }\nsteps:\n  - id: a\n    run: ls\n";

#[test]
fn the_message_for_an_expression_in_braces_shows_it_without_them() {
    let ran = check(&format!("{ONE}    when: \"{{{{ task == 'x' }}}}\"\n"));
    assert!(
        ran.stderr.contains("an expression has no braces") && ran.stderr.contains("help: write `task == 'x'`"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("pipelines/x.yaml:6:12") && ran.stderr.contains("^^^^^^^^^^^^^^^^^"), "{ran:?}");
    // Text that is no expression without the braces, either, has another finding.
    check(&format!("{ONE}    when: \"{{{{ task == }}}}\"\n")).says("syntax error");
}

#[test]
fn the_message_for_an_input_with_only_a_type_shows_the_full_syntax() {
    let ran = check("name: x\ninputs: { task: string, count: 3 }\nsteps:\n  - { id: a, run: ls }\n");
    assert!(ran.stderr.contains("write `{ type: string }`"), "{ran:?}");
    check("name: x\ninputs: { task: do it }\nsteps:\n  - { id: a, run: ls }\n").says("such as `{ type: string }`");
}

#[test]
fn an_unquoted_template_is_recognized() {
    let ran = check("name: x\nsteps:\n  - id: a\n    run: {{ task }}\n");
    assert!(ran.stderr.contains("put quotes around a string that begins with `{{`"), "{ran:?}");
    let ran = check("name: x\nsteps:\n  - id: a\n    run: { [a]: b }\n");
    assert!(!ran.stderr.contains("quotes"), "{ran:?}");
}

/// Keys with an expression, each with an expression that needs no quotes and one that does.
const EXPRESSIONS: &[(&str, [&str; 2])] = &[
    ("    when: VALUE\n", ["task == 'x'", "'x' in task"]),
    ("    for_each: VALUE\n", ["range(3)", "[task, 'x']"]),
    ("    stdin: VALUE\n", ["task", "'x: ' ~ task"]),
    ("  - { id: b, run: ls, access: none, when: VALUE }\n", ["not (task == 'x')", "task in ['x', 'y']"]),
    (
        "  - id: b\n    repeat:\n      until: VALUE\n      max: 2\n      steps:\n        - { id: c, run: ls, access: none }\n",
        ["loop.index == 2", "'x' in task"],
    ),
    ("  - { id: b, pipeline: sub.yaml, with: { n: VALUE } }\n", ["task", "'x' ~ task"]),
    ("outputs:\n  n: VALUE\n", ["task", "['x', task]"]),
    ("success: VALUE\n", ["task == 'x'", "'x' in task"]),
];

/// Whoever follows the advice literally gets a valid file, with and without quotes around the braces.
#[test]
fn the_advice_for_an_expression_in_braces_gives_a_valid_file() {
    let orch = Orch::new();
    let start = "name: x\ninputs: { task: { type: string } }\nsteps:\n  - id: a\n    run: [echo, \"{{ task }}\"]\n    access: none\n";
    let sub =
        "name: sub\ninputs: { n: { type: string } }\nsteps:\n  - { id: s, run: [echo, \"{{ n }}\"], access: none }\n";
    orch.write("pipelines/sub.yaml", sub);
    let validate = |key: &str, value: &str| {
        orch.write("pipelines/x.yaml", &format!("{start}{}", key.replace("VALUE", value)));
        orch.run(&["pipeline", "validate", "pipelines/x.yaml"])
    };
    for &(key, expressions) in EXPRESSIONS {
        for expression in expressions {
            for wrong in [format!("{{{{ {expression} }}}}"), format!("\"{{{{ {expression} }}}}\"")] {
                let ran = validate(key, &wrong).exits(2).says("an expression has no braces");
                let advice = ran.stderr.split("write `").nth(1).and_then(|rest| rest.split('`').next());
                validate(key, advice.unwrap_or_else(|| panic!("{wrong}: {ran:?}"))).exits(0);
            }
        }
    }
    // Several templates in one text are no expression either.
    check(&format!("{ONE}    when: \"{{{{ task }}}} == {{{{ task }}}}\"\n")).says("write the names alone");
}

#[test]
fn mistakes_of_indentation_are_described_with_the_words_of_the_file() {
    let ran = check("name: x\nsteps:\n  - id: a\n   run: ls\n");
    assert!(ran.stderr.contains("pipelines/x.yaml:4:4"), "{ran:?}");
    assert!(ran.stderr.contains("is the line indented like the other lines of its block?"), "{ran:?}");
    assert!(!ran.stderr.contains("while parsing"), "{ran:?}");
    check("name: x\nsteps:\n  id: a\n  run: ls\n")
        .says("`steps` must be a list, not a mapping")
        .says("begin each item with `- `");
    check("name: x\ndescription: what: this\nsteps: []\n").says("put quotes around a string with `: ` in it");
}

#[test]
fn booleans_of_yaml_1_1_are_recognized_in_expressions() {
    for (word, meant) in [("yes", "true"), ("Off", "false")] {
        check(&format!("{ONE}    when: {word}\n"))
            .says(&format!("unknown variable `{word}`"))
            .says(&format!("write `{meant}`"));
    }
}

#[test]
fn the_message_for_an_agent_key_in_a_step_names_its_place() {
    for key in ["model: auto", "temperature: 0.2", "max_output_tokens: 100"] {
        let name = key.split(':').next().unwrap();
        check(&format!("{ONE}    {key}\n")).says(&format!("`{name}` belongs to an agent: write it under `agents:`"));
    }
    check(&format!("{ONE}    rnu: ls\n")).says("did you mean `run`?");
}

#[test]
fn a_file_that_is_no_pipeline_is_recognized() {
    let orch = Orch::new();
    for file in ["prompts/coder.md", "schemas/plan.schema.json"] {
        orch.run(&["pipeline", "run", file, "--task", "x"]).exits(2).says("is this a pipeline?");
    }
}

#[test]
fn the_message_for_an_unreadable_task_has_the_reason_and_the_correct_use() {
    let orch = Orch::new();
    std::fs::create_dir(orch.path().join("folder")).unwrap();
    std::fs::write(orch.path().join("binary"), b"\xff\xfe\0").unwrap();
    std::fs::write(orch.path().join("long"), "é".repeat(3 << 20)).unwrap();
    let run = |file: &str| orch.run(&["pipeline", "run", "pipelines/default.yaml", "--task-file", file]).exits(2);
    run("nope.md").says("there is no file `nope.md`").says("pass a text file");
    run("folder").says("`folder` is a folder, not a file");
    run("binary").says("`binary` is not UTF-8 text");
    run("long").says("the task is longer than 4 MiB").says("files of the workspace");
    let mut command = orch.command(&["pipeline", "run", "pipelines/default.yaml", "--task", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"caf\xe9").unwrap();
    RunOutput::of(&child.wait_with_output().unwrap()).exits(2).says("the task on standard input is not UTF-8 text");
}

#[test]
fn missing_files_in_arguments_are_reported_in_plain_words() {
    let orch = Orch::new();
    orch.write("pipelines/x.yaml", "name: x\nsteps:\n  - { id: a, run: \"true\" }\n");
    orch.run(&["pipeline", "run", "pipelines/x.yaml"]).exits(0);
    let id = orch.run(&["runs", "list"]).stdout.split_whitespace().next().unwrap().to_owned();
    orch.run(&["runs", "import", "nope.json"]).exits(2).says("there is no file `nope.json`").says("orch runs export");
    orch.run(&["extract", "nope.txt", "--schema", "review"])
        .exits(2)
        .says("there is no file `nope.txt`")
        .says("standard input");
    orch.run(&["runs", "export", &id, "--to", "no/run.json"]).exits(2).says("the folder of the file must exist");
    orch.run(&["runs", "export", &id, "--to", "orch.yaml"]).exits(2).says("select a file that does not exist yet");
}
