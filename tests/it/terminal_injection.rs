//! Terminal injection: texts of others can't control the terminal or hide characters, on a real terminal and in pipes.
#![cfg(unix)]

use std::process::Command;

use serde_json::json;

use crate::step_kinds::project;
use crate::support::{Orch, Reply, RunOutput, Server};

/// Text that controls the terminal, reverses text and hides characters; its harmless parts must be shown.
const HOSTILE: &str = "a\u{1b}[31mred\u{1b}]0;title\u{7} \u{9b}2J \u{202e}gpj.exe\u{202c} b\u{2028}c z\u{200b}w \u{feff}\
                       x\u{e0061}\u{e0062} می\u{200c}خواهم 👩\u{200d}💻 שלום";

/// The characters that no output may contain.
const FORBIDDEN: [char; 9] =
    ['\u{7}', '\u{9b}', '\u{202e}', '\u{202c}', '\u{2028}', '\u{200b}', '\u{feff}', '\u{e0061}', '\u{fdd0}'];

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    for raw in FORBIDDEN {
        assert!(!text.contains(raw), "{what} shows {raw:?}: {text:?}");
    }
    assert!(!text.contains("\u{1b}[31m") && !text.contains("\u{1b}]"), "{what}: {text:?}");
}

/// A run whose replies, names, failures, commands and questions are all hostile.
fn hostile_run() -> (Server, Orch) {
    let server = Server::start(|request| {
        if request.system().contains("step:three") {
            return Reply::status(400, json!({ "error": { "message": HOSTILE } }).to_string());
        }
        Reply::openai_text(&json!({ "said": HOSTILE }).to_string())
    });
    let orch = project(
        &server,
        "  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n  - { id: two, agent: a, schema: text, prompt: two.md, output: y }\n  - { id: cmd, run: [cat, ../hostile.txt], output: z }\n  - { id: ask, approve: \"{{ x.said }}\", inputs: [x], output: v }\n  - { id: three, agent: a, schema: any, prompt: three.md, inputs: [v], output: w }\n",
    );
    orch.write("hostile.txt", HOSTILE);
    let description = "name: test\ndescription: \"a\\e[31mred \\x9b2J \\u202egpj z\\u200bw\"";
    orch.edit("pipelines/main.yaml", "name: test", description);
    (server, orch)
}

/// Commands that print such texts for people, and whether the output must show the harmless part.
const SHOWING: &[(&[&str], bool)] = &[
    (&["runs", "list"], true),
    (&["runs", "show"], true),
    (&["runs", "show", "--replies"], true),
    (&["runs", "events"], true),
    (&["pipeline", "list"], true),
    (&["pipeline", "show", "pipelines/main.yaml"], true),
    (&["pipeline", "plan", "pipelines/main.yaml", "--prompts", "--task", HOSTILE], false),
    (&["pipeline", "graph", "pipelines/main.yaml"], false),
    (&["pipeline", "validate"], false),
    (&["pipeline", "resume", "--dry-run"], false),
];

fn on_terminal(orch: &Orch, typed: &[&str], args: &[&str]) -> RunOutput {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).args(typed).args(["--", env!("CARGO_BIN_EXE_orch")]).args(args);
    command.env("TERM", "xterm").env("PYTHONIOENCODING", "utf-8").env("OLLAMA_HOST", "127.0.0.1:9");
    RunOutput::of(&command.current_dir(orch.path()).output().unwrap())
}

#[test]
fn texts_of_others_are_escaped_by_every_command_in_a_pipe_and_on_a_terminal() {
    let (_server, orch) = hostile_run();
    let run = ["pipeline", "run", "pipelines/main.yaml", "--task", HOSTILE];
    // orch asks the question on the terminal; the summary and the server's message follow.
    let ran = on_terminal(&orch, &["for later", "y", "empty", "fine"], &run);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert_harmless("the terminal of a run", &ran.stdout);
    assert!(ran.stdout.contains("\\u{202e}gpj.exe"), "{}", ran.stdout);
    assert!(ran.stdout.contains("می\u{200c}خواهم") && ran.stdout.contains("👩\u{200d}💻"), "{}", ran.stdout);
    // Without a terminal, the run waits, and the question is printed into the pipe.
    let ran = orch.run(&run).exits(3);
    assert_harmless("a run in a pipe", &(ran.stdout + &ran.stderr));
    for (args, seen) in SHOWING {
        let piped = orch.run(args);
        let text = piped.stdout + &piped.stderr;
        assert_harmless(&format!("{args:?} in a pipe"), &text);
        assert!(!seen || text.contains("\\u{1b}") || text.contains("\\u{202e}"), "{args:?}: {text}");
        assert_harmless(&format!("{args:?} on a terminal"), &on_terminal(&orch, &[], args).stdout);
    }
}

#[test]
fn data_is_raw_in_a_pipe_and_escaped_on_a_terminal() {
    let (_server, orch) = hostile_run();
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x"]).exits(3);
    let run = crate::kill::latest_run(&orch).unwrap().0;
    let args = ["runs", "artifact", &run, "y"];
    let piped = orch.run(&args).exits(0).stdout;
    assert!(piped.contains('\u{202e}') && piped.contains("\\u001b"), "{piped:?}");
    for args in [&args[..], &["runs", "show", "--output", "json"], &["runs", "events", "--output", "json"]] {
        assert_harmless(&format!("{args:?}"), &on_terminal(&orch, &[], args).stdout);
    }
}

#[test]
fn findings_about_hostile_files_are_escaped_in_every_format() {
    let (_server, orch) = hostile_run();
    orch.edit("pipelines/main.yaml", "output: x }", "output: x, \"k\u{202e}gpj\u{200b}\\e[31m\": 1 }");
    for format in ["human", "github"] {
        for colour in ["always", "never"] {
            let ran = orch.run(&["--color", colour, "pipeline", "validate", "--format", format]).exits(2);
            let text = ran.stdout + &ran.stderr;
            assert_harmless(format, &text);
            assert!(text.contains("202e"), "{text}");
        }
    }
}
