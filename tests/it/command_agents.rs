//! Agents with `command`: from the first reply to every way in which the program can fail.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::step_kinds::{run, statuses};
use crate::support::{Orch, RunOutput};

/// A project with one step whose agent is the Python script `agent.py` with these lines.
fn project(script: &str, step: &str) -> Orch {
    let orch = Orch::empty();
    orch.write("agent.py", script).write("prompts/ask.md", "You answer.\n");
    orch.write(
        "schemas/answer.schema.json",
        r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#,
    );
    let agent = format!("command: [python3, {}/agent.py]", orch.path().display());
    orch.write(
        "pipelines/main.yaml",
        &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ {agent} }}\nsteps:\n  - {{ id: ask, agent: a, prompt: ask.md, output: answer{step} }}\n"),
    );
    orch.disable_sandboxes();
    orch
}

fn error(report: &Value) -> (String, String) {
    let error = &report["steps"][0]["error"];
    (error["class"].as_str().unwrap_or_default().to_owned(), error["message"].as_str().unwrap_or_default().to_owned())
}

/// Whether a process exists and is no zombie.
fn is_alive(pid: &str) -> bool {
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    std::fs::read_to_string(stat).is_ok_and(|stat| !stat.contains(") Z "))
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_mins(2), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_reads_the_conversation_and_its_output_is_the_reply() {
    let orch =
        project("import sys\nt = sys.stdin.read()\nopen('said','w').write(t)\nprint('Here it is: {\"n\": 3}')\n", "");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(orch.json("workspace/answer.json"), json!({ "n": 3 }));
    assert_eq!(report["steps"][0]["model"], "command/python3", "{report:#}");
    let said = orch.read("workspace/said");
    assert!(said.starts_with("You answer.\n\n# task\n\ndo it\n\n"), "{said}");
    assert!(said.contains("JSON Schema"), "{said}");
}

#[test]
fn an_invalid_reply_is_sent_back_with_the_conversation_so_far() {
    let script = "import sys\nt = sys.stdin.read()\nprint('{\"n\": 4}' if 'does not fit' in t and 'four' in t else '{\"n\": \"four\"}')\n";
    let orch = project(script, "");
    let (ran, _) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(orch.json("workspace/answer.json"), json!({ "n": 4 }));
    let replies = orch.run(&["runs", "show", "--replies"]);
    assert!(replies.stdout.contains("{\"n\": \"four\"}"), "the first reply is on record: {}", replies.stdout);
}

#[test]
fn the_failure_of_a_command_has_its_exit_code_and_its_last_output() {
    let orch = project("import sys\nprint('no key', file=sys.stderr)\nsys.exit(1)\n", "");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let (class, message) = error(&report);
    assert_eq!(class, "agent_error", "{report:#}");
    assert!(message.contains("exit code 1") && message.contains("no key"), "{message}");

    let orch = project("import os\nprint('half', flush=True)\nos.kill(os.getpid(), 9)\n", "");
    let (_, report) = run(&orch, &[]);
    let (class, message) = error(&report);
    assert!(class == "agent_error" && message.contains("exit code 137 (signal 9)"), "{class}: {message}");
}

#[test]
fn invalid_and_empty_outputs_are_distinguished_and_recorded() {
    let orch = project("import sys\nsys.stdout.buffer.write(b'\\xff\\xfe garbage \\x00 no value')\n", ", re_ask: 0");
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, error(&report).0.as_str()), (1, "no_json"), "{report:#}");
    let replies = orch.run(&["runs", "show", "--replies"]);
    assert!(replies.stdout.contains("garbage"), "{}", replies.stdout);

    let orch = project("pass\n", ", re_ask: 0");
    assert_eq!(error(&run(&orch, &[]).1).0, "empty_reply");
}

#[test]
fn a_command_with_endless_output_is_ended() {
    let orch = project("import sys\nfor _ in range(50): sys.stdout.write('x' * (1 << 20))\n", "");
    let (ran, report) = run(&orch, &[]);
    let (class, message) = error(&report);
    assert_eq!((ran.code, class.as_str()), (1, "output_too_large"), "{message}");
    assert!(message.contains("32 MiB"), "{message}");
}

#[test]
fn a_missing_program_is_named() {
    let orch = project("", "");
    orch.edit("pipelines/main.yaml", "python3,", "no-such-agent,");
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "t"])
        .exits(2)
        .says("step `ask` can't run: the CLI agent `no-such-agent` is not installed");
}

const HANGS: &str = "import os, subprocess, time\nc = subprocess.Popen(['sleep', '300'])\nopen('pids','w').write(f'{os.getpid()} {c.pid}')\ntime.sleep(300)\n";

#[test]
fn a_hanging_command_is_ended_with_its_children_and_a_resume_repeats_it() {
    let orch = project(HANGS, ", timeout: 8s, retry: { max: 1 }");
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, error(&report).0.as_str()), (1, "timeout"), "{report:#}");
    let pids = orch.read("workspace/pids");
    assert!(pids.split(' ').all(|pid| !is_alive(pid)), "{pids} survived");

    orch.write("agent.py", "print('{\"n\": 7}')\n");
    let ran = orch.run(&["pipeline", "resume", "--output", "json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (statuses(&report), orch.json("workspace/answer.json")),
        (vec!["ask completed".to_owned()], json!({ "n": 7 }))
    );
}

#[cfg(unix)]
#[test]
fn a_program_does_not_outlive_a_killed_orch_and_a_resume_repeats_it() {
    for signal in ["KILL", "INT"] {
        let orch = project(HANGS, "");
        let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "t"]);
        wait_until("the agent", || orch.exists("workspace/pids") && orch.read("workspace/pids").contains(' '));
        let pids = orch.read("workspace/pids");
        let kill = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        child.wait().unwrap();
        wait_until(&format!("the end of {pids} after {signal}"), || pids.split(' ').all(|pid| !is_alive(pid)));
        orch.write("agent.py", "print('{\"n\": 8}')\n");
        let ran: RunOutput = orch.run(&["pipeline", "resume"]);
        assert_eq!((ran.code, orch.json("workspace/answer.json")), (0, json!({ "n": 8 })), "{ran:?}");
    }
}

#[test]
fn options_reach_a_command_and_its_changes_are_recorded() {
    let script = "import os\nopen('made','w').write('x')\nopen('src/kept','a').write('more')\nprint('{\"n\": 1, \"seen\": \"%s\"}' % ' '.join(os.environ.get(n, '-') for n in ['ORCH_MODEL','ORCH_TOOLS','ORCH_MAX_TURNS','SEEN','HIDDEN']))\n";
    let orch = project(script, "");
    orch.edit(
        "pipelines/main.yaml",
        "/agent.py]",
        "/agent.py], model: big, tools: [edit, run], max_turns: 5, env: [SEEN]",
    );
    orch.write("workspace/src/kept", "1").write("workspace/other", "1");
    let mut command = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"]);
    let ran = RunOutput::of(&command.env("SEEN", "yes").env("HIDDEN", "no").output().unwrap()).exits(0);
    assert!(!ran.stdout.is_empty());
    assert_eq!(orch.json("workspace/answer.json")["seen"], "big edit,run 5 yes -");
    let shown = orch.run(&["runs", "show", "--replies", "--output", "json"]);
    let calls: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(calls["calls"][0]["agent_activity"]["changed"], json!(["made", "src/kept"]), "{calls:#}");
}

#[test]
fn another_tool_grant_changes_the_request_and_another_timeout_does_not() {
    let orch = project("print('{\"n\": 1}')\nopen('../count','a').write('x')\n", "");
    let fails = orch.read("pipelines/main.yaml") + "  - { id: fail, run: [\"false\"] }\n";
    orch.write("pipelines/main.yaml", &fails);
    run(&orch, &[]).0.exits(1);
    orch.edit("pipelines/main.yaml", "output: answer", "output: answer, timeout: 50s");
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!(orch.read("count"), "x");
    orch.edit("pipelines/main.yaml", "/agent.py]", "/agent.py], tools: [edit]");
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!(orch.read("count"), "xx");
}

#[test]
fn a_fallback_model_replaces_a_failing_program_and_show_names_both() {
    let server = crate::support::Server::start(|_| crate::support::Reply::openai_text("{\"n\": 5}"));
    let orch = project("import sys\nsys.exit(3)\n", ", fallback: [lab/test]").with(&server);
    let (ran, _) = run(&orch, &[]);
    assert_eq!((ran.code, orch.json("workspace/answer.json")), (0, json!({ "n": 5 })), "{ran:?}");
    let shown = orch.run(&["pipeline", "show", "pipelines/main.yaml"]).exits(0);
    assert!(shown.stdout.contains("agent  a: command/python3"), "{}", shown.stdout);
}

#[test]
fn changes_of_a_program_are_shown_and_reverted_also_after_a_failed_turn() {
    let script = "import os, sys\nopen('made','w').write('x\\n')\nopen('src/kept','a').write('more\\n')\nos.remove('gone')\nprint('{\"n\": 1}')\nsys.exit(int(open('../code').read()))\n";
    for code in [0, 3] {
        let orch = project(script, "");
        orch.edit("pipelines/main.yaml", "/agent.py]", "/agent.py], tools: [edit]");
        orch.write("workspace/src/kept", "1\n").write("workspace/gone", "bye\n").write("code", &code.to_string());
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, i32::from(code != 0), "{ran:?}");
        let id = report["run"].as_str().unwrap();
        let diff = orch.run(&["runs", "diff", id]).exits(0).stdout;
        for part in ["--- a/gone\n+++ /dev/null", "--- /dev/null\n+++ b/made", " 1\n+more\n"] {
            assert!(diff.contains(part), "no {part:?} in {diff}");
        }
        assert!(!diff.contains("answer.json"), "artifacts are ours: {diff}");
        let events = orch.run(&["runs", "events"]).stdout;
        assert!(events.contains("3 files changed"), "{events}");
        orch.run(&["runs", "revert", id]).exits(0);
        assert_eq!((orch.read("workspace/src/kept"), orch.read("workspace/gone")), ("1\n".into(), "bye\n".into()));
        assert!(!orch.exists("workspace/made"));
    }
}
