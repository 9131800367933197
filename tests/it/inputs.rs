//! Inputs of a run from files and from standard input: values, findings and limits.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Orch, RunOutput};

/// A project whose pipeline writes the values of its inputs into a file.
fn project() -> Orch {
    let orch = Orch::empty();
    orch.write(
        "pipelines/main.yaml",
        concat!(
            "name: main\n",
            "inputs:\n",
            "  task: { type: object, required: [title], properties: { title: { type: string } } }\n",
            "  text: { type: string, default: none }\n",
            "  count: { type: [integer, \"null\"], default: 1 }\n",
            "  level: { enum: [1, high], default: 1 }\n",
            "steps:\n",
            "  - id: seen\n",
            "    run: [cat]\n",
            "    stdin: \"{'task': task, 'text': text, 'count': count, 'level': level}\"\n",
            "    output: seen\n",
            "    schema: any\n",
        ),
    );
    orch
}

fn run(orch: &Orch, more: &[&str]) -> RunOutput {
    let mut args = vec!["pipeline", "run", "pipelines/main.yaml"];
    args.extend(more);
    orch.run(&args)
}

fn received_values(orch: &Orch, more: &[&str]) -> Value {
    run(orch, more).exits(0);
    orch.json("workspace/seen.json")
}

/// Runs the pipeline with this standard input.
fn run_with_stdin(orch: &Orch, more: &[&str], input: &[u8]) -> RunOutput {
    let mut args = vec!["pipeline", "run", "pipelines/main.yaml"];
    args.extend(more);
    let mut command = orch.command(&args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    RunOutput::of(&child.wait_with_output().unwrap())
}

#[test]
fn values_come_from_files_as_text_or_as_json_by_the_schema_of_the_input() {
    let orch = project();
    orch.write("task.json", "{\"title\": \"T\"}\n").write("text.md", "[1, 2]\n").write("count.json", "\u{feff}7\n");
    let files = ["--task-file", "task.json", "-i", "text=@text.md", "-i", "count=@count.json", "-i", "level=high"];
    assert_eq!(
        received_values(&orch, &files),
        json!({ "task": { "title": "T" }, "text": "[1, 2]\n", "count": 7, "level": "high" })
    );
    let literals = ["--task", "{\"title\": \"L\"}", "-i", "text=@@ana", "-i", "count=null", "-i", "level=1"];
    assert_eq!(
        received_values(&orch, &literals),
        json!({ "task": { "title": "L" }, "text": "@ana", "count": null, "level": 1 })
    );
}

#[test]
fn a_value_that_is_too_long_for_a_command_line_is_read_from_a_file() {
    let orch = project();
    let long = "x".repeat(236 << 10);
    orch.write("inputs.json", &json!({ "task": { "title": "T" }, "text": long }).to_string());
    assert_eq!(received_values(&orch, &["--input-file", "inputs.json"])["text"], long);
    orch.write("text.md", &long);
    assert_eq!(received_values(&orch, &["--task", "{\"title\": \"T\"}", "--input", "text=@text.md"])["text"], long);
    // A plan accepts the same file.
    let plan = |file: &str| orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--input-file", file]);
    let open = plan("inputs.json").exits(0).stdout.contains("unknown inputs");
    orch.write("none.json", "{}");
    assert!(!open && plan("none.json").exits(0).stdout.contains("unknown inputs"));
    plan("nope.json").exits(2).says("there is no file `nope.json`");
}

#[test]
fn flags_take_precedence_over_the_input_file() {
    let orch = project();
    orch.write("inputs.json", "{\"task\": {\"title\": \"file\"}, \"text\": \"file\", \"count\": 2}");
    let given = ["--input-file", "inputs.json", "--task", "{\"title\": \"flag\"}", "-i", "count=3"];
    assert_eq!(
        received_values(&orch, &given),
        json!({ "task": { "title": "flag" }, "text": "file", "count": 3, "level": 1 })
    );
    run(&orch, &["-i", "count=3", "-i", "count=4"]).exits(2).says("the input `count` is given twice");
    run(&orch, &["--task", "{}", "-i", "task={}"]).exits(2).says("the input `task` is given twice");
}

#[test]
fn standard_input_can_replace_one_file() {
    let orch = project();
    run_with_stdin(&orch, &["--input-file", "-"], b"{\"task\": {\"title\": \"in\"}}").exits(0);
    assert_eq!(orch.json("workspace/seen.json")["task"], json!({ "title": "in" }));
    run_with_stdin(&orch, &["--task-file", "-"], b"{\"title\": \"task\"}").exits(0);
    assert_eq!(orch.json("workspace/seen.json")["task"], json!({ "title": "task" }));
    run_with_stdin(&orch, &["--task", "{\"title\": \"T\"}", "-i", "text=@-"], b"words").exits(0);
    assert_eq!(orch.json("workspace/seen.json")["text"], "words");
    run_with_stdin(&orch, &["--task", "-", "-i", "text=@-"], b"{}")
        .exits(2)
        .says("only one option can read standard input: choose between `--task -` and `--input text=@-`");
    run_with_stdin(&orch, &["--task-file", "-"], b"{\"title\": ").exits(2).says("--> standard input:1:10");
}

#[test]
fn a_mistake_in_a_file_is_shown_with_its_line_and_column() {
    let orch = project();
    orch.write("broken.json", "{\n  \"title\": \"T\",\n  oops\n}\n");
    for given in [["--task-file", "broken.json"], ["--input-file", "broken.json"], ["-i", "task=@broken.json"]] {
        run(&orch, &given).exits(2).says("--> broken.json:3:3").says("must be JSON");
    }
    orch.write("twice.json", "{\n  \"title\": \"T\",\n  \"title\": \"U\"\n}\n");
    run(&orch, &["--task-file", "twice.json"]).exits(2).says("--> twice.json:3:3");
    orch.write("wrong.json", "{\n  \"task\": {\n    \"title\": 5\n  }\n}\n");
    run(&orch, &["--input-file", "wrong.json"])
        .exits(2)
        .says("wrong.json:3:14: the input `task` does not fit its schema: /title: expected string, got number (5)");
    orch.write("other.json", "{\n  \"tsk\": {}\n}\n");
    run(&orch, &["--input-file", "other.json"])
        .exits(2)
        .says("other.json:2:3: the pipeline has no input `tsk`")
        .says("did you mean `task`?");
    orch.write("list.json", "\n  [1]\n");
    run(&orch, &["--input-file", "list.json"]).exits(2).says("list.json:2:3: ").says("must be an object");
}

#[test]
fn an_unreadable_file_is_named_with_the_correct_syntax() {
    let orch = project();
    run(&orch, &["-i", "text=@ana"]).exits(2).says("there is no file `ana`").says("two: `--input text=@@ana`");
    // This follows the hint.
    assert_eq!(received_values(&orch, &["--task", "{\"title\": \"T\"}", "--input", "text=@@ana"])["text"], "@ana");
    run(&orch, &["-i", "text=@"]).exits(2).says("names no file").says("`--input text=@@` for a lone `@`");
    assert_eq!(received_values(&orch, &["--task", "{\"title\": \"T\"}", "--input", "text=@@"])["text"], "@");
    run(&orch, &["--input-file", "nope.json"]).exits(2).says("there is no file `nope.json`").says("a JSON file");
    std::fs::create_dir(orch.path().join("folder")).unwrap();
    run(&orch, &["-i", "text=@folder"]).exits(2).says("`folder` is a folder, not a file");
    std::fs::write(orch.path().join("latin"), b"caf\xe9").unwrap();
    run(&orch, &["-i", "text=@latin"]).exits(2).says("`latin` is not UTF-8 text: see byte 3");
}

#[test]
fn files_of_inputs_have_the_size_limit_of_inputs() {
    let orch = project();
    orch.write("long", &"x".repeat((4 << 20) + 1));
    run(&orch, &["-i", "text=@long"]).exits(2).says("the input `text` is longer than 4 MiB");
    run(&orch, &["--input-file", "long"]).exits(2).says("is longer than 4 MiB");
    orch.write("deep.json", &"[".repeat(200));
    run(&orch, &["--task-file", "deep.json"]).exits(2).says("--> deep.json:1:").says("recursion limit");
}

#[test]
fn a_command_without_a_time_limit_says_what_limits_the_time() {
    let orch = Orch::empty();
    for (command, tip) in [
        (&["run", "main"][..], "to limit the time of a run, write `--budget seconds=NUMBER`"),
        (&["pipeline", "plan", "main"], "to set the input `timeout` of the pipeline, write `--input timeout=VALUE`"),
        (&["resume"], "to limit the time of a run, write `--budget seconds=NUMBER`"),
        (&["pipeline", "test"], "each step has a `timeout` in the pipeline, such as `timeout: 10m`"),
        (&["tools", "list"], "only `orch tools call` has `--timeout`"),
        (&["tools", "show", "docs.find"], "an MCP server has one minute to start"),
        (&["validate", "--probe"], "an MCP server has one minute to start"),
    ] {
        for option in [&["--timeout", "30s"][..], &["--timeout=30s"]] {
            let ran = orch.run(&[command, option].concat()).exits(2).says(tip);
            assert!(!ran.stderr.contains("as a value, use"), "{ran:?}");
        }
    }
}

/// A task without its option is an unknown argument; the tip shows the option.
#[test]
fn the_tip_about_an_unknown_argument_works() {
    let orch = Orch::empty();
    let inputs = "inputs: { task: { type: string }, topic: { type: string, default: none } }";
    let step = "  - { id: say, run: [echo, \"{{ task }} {{ topic }}\"], output: said, schema: text }\n";
    orch.write("pipelines/main.yaml", &format!("name: main\n{inputs}\nsteps:\n{step}"));
    for arguments in [&["Create", "a", "model"][..], &["Create a model"], &["--task", "Create", "a", "model"]] {
        let ran = orch.run(&[&["run", "main"], arguments].concat()).exits(2);
        assert!(ran.stderr.contains("tip: to set the input `task`, write `--task \"Create a model\"`"), "{ran:?}");
        assert!(!ran.stderr.contains("as a value, use"), "{ran:?}");
    }
    orch.run(&["plan", "main", "extra"]).exits(2).says("write `--task \"extra\"`");
    orch.run(&["run", "main", "--task", "Create a model"]).exits(0);
    assert_eq!(orch.read("workspace/said.md").trim(), "Create a model none");
    orch.run(&["run", "main", "--topic", "x"]).exits(2).says("write `--input topic=VALUE`");
    orch.run(&["run", "main", "--task", "x", "--input", "topic=y"]).exits(0);
    // The parser has a better suggestion for a misspelt option.
    let ran = orch.run(&["run", "main", "--taks", "x"]).exits(2).says("'--task'");
    assert!(!ran.stderr.contains("--input taks"), "{ran:?}");
}
