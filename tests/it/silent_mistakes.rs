//! Mistakes because of which a part of a pipeline never does anything or always fails: `validate` finds them, and says
//! nothing about similar parts that have an effect.

use crate::signatures::findings;
use crate::support::Orch;

/// The findings about a pipeline with these steps, each as its code, its message and its help.
fn found(steps: &str) -> Vec<String> {
    let orch = Orch::empty();
    let head = "name: test\ninputs: { task: { type: string } }\nagents: { writer: { model: auto } }\nsteps:\n  - { id: use, run: \
         [echo, \"{{ task }}\"], access: none }\n";
    orch.write("prompts/p.md", "Do it.\n").write("pipelines/main.yaml", &format!("{head}{steps}"));
    // Most of these pipelines have no step for the agent.
    findings(&orch, &[]).into_values().flatten().filter(|finding| !finding.contains("no step uses the agent")).collect()
}

/// Checks that each group of steps has exactly one finding, which begins with and contains these texts.
fn assert_found(rows: &[(String, &str, &str)]) {
    for (steps, start, words) in rows {
        let found = found(steps);
        assert!(found.len() == 1, "{steps}\n{found:#?}");
        assert!(found[0].starts_with(start) && found[0].contains(words), "{steps}\n{found:#?}");
    }
}

fn assert_silent(rows: &[String]) {
    for steps in rows {
        assert_eq!(found(steps), [""; 0], "{steps}");
    }
}

#[test]
fn exit_codes_that_a_command_never_has_are_found() {
    let advice = "step `t` fails with any other exit code";
    let compared = |expect: &str, condition: &str| {
        format!(
            "  - {{ id: t, run: make, output: tests, access: read{expect} }}\n  - {{ id: fix, when: {condition}, inputs: \
             [tests], run: make fix, access: read }}\n"
        )
    };
    assert_found(&[
        (compared("", "tests.exit_code != 0"), "ORCH0620 `tests.exit_code != 0` is never true", advice),
        (compared("", "tests.exit_code == 1"), "ORCH0604 `tests.exit_code` is never 1", advice),
        // The condition leaves no number for the second comparison, which therefore has no finding of its own.
        (
            compared("", "tests.exit_code != 0 and tests.exit_code == 1"),
            "ORCH0620 `tests.exit_code != 0` is never true",
            advice,
        ),
        (compared(", expect: { exit_code: [0, 1] }", "tests.exit_code == 2"), "ORCH0604", "is from 0 to 1"),
        (compared(", expect: { exit_code: [0, 1] }", "tests.exit_code < 0"), "ORCH0620", "is never true"),
        (
            "  - id: l\n    repeat:\n      max: 2\n      until: dd.exit_code != 0\n      steps:\n        - { id: t, run: \
             make, output: dd, access: read }\n"
                .to_owned(),
            "ORCH0620 `dd.exit_code != 0` is never true",
            advice,
        ),
    ]);
    assert_silent(&[
        compared("", "tests.exit_code == 0"),
        compared(", expect: { exit_code: [0, 1] }", "tests.exit_code != 0"),
        compared(", expect: { exit_code: [] }", "tests.exit_code == 300"),
    ]);
}

#[test]
fn an_output_with_a_line_break_never_equals_a_text_without_one() {
    let compared = |run: &str, keys: &str, condition: &str| {
        format!(
            "  - {{ id: say, run: {run}, output: said, access: read{keys} }}\n  - {{ id: go, when: {condition}, inputs: \
             [said], run: make, access: read }}\n"
        )
    };
    let text = ", schema: text";
    let never = "ORCH0604 `said` is never `yes`: the output of `echo` ends with a line break";
    assert_found(&[
        (compared("echo yes", text, "said == \"yes\""), never, "`said | trim`"),
        (compared("[echo, \"yes\"]", text, "said != \"yes\""), never, "`said | trim`"),
        (compared("date +%A", text, "said == 'Monday' or said | length > 99"), "ORCH0604", "the output of `date`"),
        (compared("git rev-parse HEAD", "", "said.stdout == 'x'"), "ORCH0604 `said.stdout` is never `x`", "trim"),
    ]);
    assert_silent(&[
        compared("echo yes", text, "said | trim == \"yes\""),
        compared("echo yes", text, "said is string and 'yes' in said"),
        compared("printf yes", text, "said == \"yes\""),
        compared("echo -n yes", text, "said == \"yes\""),
        compared("python3 say.py", text, "said == \"yes\""),
        compared("echo yes", text, "said != ''"),
    ]);
}

#[test]
fn rounds_that_a_loop_never_has_are_found() {
    let until = |condition: &str| {
        format!(
            "  - id: l\n    repeat:\n      max: 3\n      until: {condition}\n      steps: [{{ id: s, run: make, access: \
             read }}]\n"
        )
    };
    assert_found(&[(
        until("loop.index > 5"),
        "ORCH0620 `loop.index > 5` is never true",
        "`loop.index` is from 1 to 3",
    )]);
    assert_silent(&[until("loop.index >= 3"), until("loop.index0 == 2"), until("loop.index == loop.max")]);
}

#[test]
fn mistakes_in_the_files_of_a_write_step_are_found() {
    let write = |files: &str| format!("  - {{ id: w, write: \"{files}\" }}\n");
    assert_found(&[
        (
            write("[{'path': 'a', 'content': task, 'mode': 0755}]"),
            "ORCH0608 the file has a `mode` that is no string",
            "string of octal digits",
        ),
        (write("[{'path': 'a', 'content': task, 'mode': '0999'}]"), "ORCH0608 the file has the mode `0999`", "octal"),
        (write("[{'path': 'a', 'content': task, 'mod': '0755'}]"), "ORCH0608 `mod` of a file has no effect", "`mode`"),
        (
            write("[{'path': 'a', 'content': 'x'}, {'path': './a', 'content': 'y'}]"),
            "ORCH0625 `./a` is listed twice, with different contents",
            "once",
        ),
    ]);
    assert_silent(&[
        write("[{'path': 'a', 'content': task, 'mode': '0755', 'language': 'sh'}]"),
        write("[{'path': 'a', 'content': 'x'}, {'path': 'a', 'content': 'x'}]"),
        write("[{'path': 'a', 'content': 'x'}] if task == 'x' else [{'path': 'a', 'content': 'y'}]"),
    ]);
}

#[test]
fn placeholders_of_other_tools_in_commands_are_found() {
    let run = |run: &str| format!("  - {{ id: c, access: none, run: {run} }}\n");
    assert_found(&[
        (run("'echo $task'"), "ORCH0408 `$task` is not replaced by the value of `task`", "`env: [task]`"),
        (run("'echo \"it is {task}\"'"), "ORCH0408 `{task}` is not replaced", "write `{{ task }}`"),
        (run("[echo, \"{task}\"]"), "ORCH0408 `{task}` is not replaced", "write `{{ task }}`"),
    ]);
    assert_silent(&[
        run("'task=1; echo $task'"),
        run("'for task in a b; do echo ${task}; done'"),
        run("\"awk '{print $task}' x\""),
        run("[jq, \"{task}\", x.json]"),
        run("[python3, -c, \"print(f'{task}')\"]"),
        "  - { id: c, access: none, env: [task], run: 'echo $task' }\n".to_owned(),
    ]);
}

#[test]
fn retries_and_time_limits_without_effect_are_found() {
    let run = |keys: &str| format!("  - {{ id: c, run: make, access: read, {keys} }}\n");
    let agent = |keys: &str| format!("  - {{ id: a, agent: writer, prompt: p.md, output: o, schema: text, {keys} }}\n");
    assert_found(&[
        (run("retry: { max: 2, on: [no_json] }"), "ORCH0206 a command never fails with `no_json`", "command_failed"),
        (
            run("retry: { max: 2, on: [timeout, rate_limited] }"),
            "ORCH0206 a command never fails with `rate_limited`",
            "",
        ),
        (run("retry: { on: [timeout] }"), "ORCH0206 `retry` has no effect without `max`", "`retry: { max: 3 }`"),
        (run("timeout: 30s, deadline: 10s"), "ORCH0206 `timeout` has no effect", "make `deadline` longer"),
        (agent("retry: { on: [command_failed] }"), "ORCH0206 an agent never fails with `command_failed`", ""),
        (agent("timeout: 30s, deadline: 10s"), "ORCH0206 `timeout` has no effect", ""),
    ]);
    assert_silent(&[
        run("retry: { max: 2, on: [command_failed, timeout] }"),
        run("output: o, schema: any, retry: { max: 2, on: [no_json, schema_mismatch] }"),
        run("timeout: 10s, deadline: 30s"),
        agent("retry: { on: [timeout] }"),
    ]);
}

#[test]
fn a_file_whose_text_may_be_null_or_a_number_is_found() {
    let orch = Orch::empty();
    let schema = r#"{
      "type": "object", "additionalProperties": false, "required": ["text", "maybe", "count", "files"],
      "properties": {
        "text": { "type": "string" }, "maybe": { "type": ["string", "null"] }, "count": { "type": ["string", "integer"] },
        "files": { "type": "array", "items": {
          "type": "object", "additionalProperties": false, "required": ["path", "content"],
          "properties": {
            "path": { "type": "string" }, "content": { "type": ["string", "null"] }, "delete": { "type": "boolean" }
          }
        } }
      }
    }"#;
    let head = "name: test\ninputs: { task: { type: string } }\nagents: { writer: { model: auto } }\nsteps:\n  - { id: d, agent: \
         writer, prompt: p.md, output: d }\n";
    orch.write("prompts/p.md", "Do it: {{ task }}\n").write("schemas/d.schema.json", schema);
    for (files, expected) in [
        ("[{'path': 'a.txt', 'content': d.maybe}]", Some("the `content` of a file of")),
        ("[{'path': 'a.txt', 'content': d.count}]", Some("may be a number, not a string")),
        ("[{'path': d.maybe, 'content': d.text}]", Some("may be null, not a string")),
        ("[{'path': 'a.txt', 'content': d.text}, {'path': 'b.txt', 'content': d.maybe}]", Some("may be null")),
        ("[{'path': 'a.txt', 'content': d.maybe | default('', true)}]", None),
        ("[{'path': 'a.txt', 'content': d.text}]", None),
        ("[{'path': 'a.txt', 'delete': true}, {'path': 'b.txt', 'content': d.text}]", None),
        ("d", None),
    ] {
        let step = format!("  - {{ id: save, inputs: [d], write: \"{files}\" }}\n");
        orch.write("pipelines/main.yaml", &format!("{head}{step}"));
        let found: Vec<String> = findings(&orch, &[]).into_values().flatten().collect();
        match expected {
            Some(words) => assert!(
                found.len() == 1 && found[0].starts_with("ORCH0608") && found[0].contains(words),
                "{files}: {found:#?}"
            ),
            None => assert_eq!(found, [""; 0], "{files}"),
        }
    }
}

#[test]
fn an_artifact_that_ends_a_loop_exists_if_the_loop_completed() {
    let after = |condition: &str| {
        format!(
            "  - id: l\n    on_error: continue\n    repeat:\n      max: 3\n      until: r is defined\n      steps:\n        - {{ \
             id: s, when: loop.index > 1, run: make, output: r, schema: text, access: read }}\n  - {{ id: go, when: \
             {condition}, inputs: [\"r?\"], run: [echo, \"{{{{ r }}}}\"], access: none }}\n"
        )
    };
    assert_silent(&[after("steps.l.status == 'completed'")]);
    assert_found(&[(after("steps.l.status == 'failed'"), "ORCH0602 `r` may be missing", "")]);
}
