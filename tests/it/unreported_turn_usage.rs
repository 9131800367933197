//! Turns of CLI agents without usage, and of Codex, which counts over its whole session.
#![cfg(unix)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Orch, RunOutput};

const RUN: [&str; 7] = ["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"];
const RESUME: [&str; 4] = ["pipeline", "resume", "--output", "json"];

/// A project with three turns one after another, of a program that appends each turn to the file `turns`.
struct Project {
    orch: Orch,
    path: String,
}

impl Project {
    fn new(program: &str, script: &str, agent: &str, head: &str) -> Self {
        let step = "id: all, for_each: range(3), max_parallel: 1, schema: any, message: \"{{ index }}\"";
        Self::with_step(program, script, (agent, head, step))
    }

    fn with_step(program: &str, script: &str, (agent, head, step): (&str, &str, &str)) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let orch = Orch::empty();
        orch.write("prompts/ask.md", "You answer.\n");
        orch.write(
            "schemas/n.schema.json",
            r#"{"type":"object","required":["n"],"properties":{"n":{"type":"number"}}}"#,
        );
        orch.write("pipelines/main.yaml", &format!("name: test\n{head}\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ {agent} }}\nsteps:\n  - {{ {step}, agent: a, prompt: ask.md, output: answer }}\n"));
        orch.write(
            &format!("bin/{program}"),
            &format!("#!/bin/sh\necho turn >> ../turns\ncat > /dev/null\n{script}\n"),
        );
        let path = orch.path().join("bin");
        std::fs::set_permissions(path.join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
        orch.disable_sandboxes();
        Self { orch, path }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.orch.command(args);
        command
            .env("PATH", &self.path)
            .env("ANTHROPIC_API_KEY", "sk-ant-abcdefgh1234")
            .env("OPENAI_API_KEY", "sk-abcdefgh1234567");
        command
    }

    fn run(&self, args: &[&str]) -> (RunOutput, Value) {
        let ran = RunOutput::of(&self.command(args).output().unwrap());
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        (ran, report)
    }

    fn turns(&self) -> usize {
        self.orch.read("turns").lines().count()
    }
}

/// The output of Claude Code for a turn, with these fields in its last event.
fn claude(fields: &str) -> String {
    format!(
        "echo '{{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s-1\"}}'\necho '{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"7\",\"session_id\":\"s-1\"{fields}}}'"
    )
}

/// The output of Codex for a turn.
fn codex(text: &str, usage: &str) -> String {
    format!(
        "echo '{{\"type\":\"thread.started\",\"thread_id\":\"t-1\"}}'\necho '{{\"type\":\"item.completed\",\"item\":{{\"id\":\"i\",\"type\":\"agent_message\",\"text\":\"{text}\"}}}}'\necho '{{\"type\":\"turn.completed\",\"usage\":{usage}}}'"
    )
}

#[test]
fn a_turn_without_the_usage_that_a_budget_limits_is_kept_and_stops_the_run() {
    let used = ",\"usage\":{\"input_tokens\":30,\"output_tokens\":4}";
    for (program, script, unit, estimate) in [
        ("claude", claude(used), "usd: 0.01", "usd: 0.001"),
        ("claude", claude(&format!("{used},\"total_cost_usd\":-1")), "usd: 0.01", "usd: 0.001"),
        ("claude", claude(&format!("{used},\"total_cost_usd\":1e30")), "usd: 0.01", "usd: 0.001"),
        ("claude", claude(",\"total_cost_usd\":0.001"), "tokens: 6000", "tokens: 50"),
        ("codex", codex("7", "null"), "tokens: 6000", "tokens: 50"),
        ("codex", codex("7", "{\"input_tokens\":30}"), "tokens: 6000", "tokens: 50"),
    ] {
        let project = Project::new(program, &script, &format!("cli: {program}"), &format!("budget: {{ {unit} }}"));
        let (ran, report) = project.run(&RUN);
        assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("usage_unknown")), "{unit}: {ran:?}");
        assert_eq!((project.turns(), &report["steps"][1]["status"]), (1, &json!("completed")), "{report:#}");
        let cost = if script.contains(":0.001") { json!(0.001) } else { Value::Null };
        assert_eq!((&report["cost_usd"], &report["success"]), (&cost, &json!(false)), "{report:#}");
        // Even with a higher limit, the usage of the turn is unknown.
        let (again, _) =
            project.run(&[&RESUME[..], &["--budget", &unit.replace(": ", "=").replace("0.01", "9")]].concat());
        assert_eq!((again.code, project.turns()), (4, 1), "{again:?}");
        // Following the hint works, and the turn is not repeated.
        assert!(again.stderr.contains("as `estimate: {") && again.stderr.contains("of agent `a`"), "{}", again.stderr);
        project.orch.edit(
            "pipelines/main.yaml",
            &format!("cli: {program}"),
            &format!("cli: {program}, estimate: {{ {estimate} }}"),
        );
        let (done, report) = project.run(&[&RESUME[..], &["--budget", &unit.replace(": ", "=")]].concat());
        assert_eq!((done.code, project.turns()), (0, 3), "{done:?}");
        assert!(done.stderr.contains('~'), "{}", done.stderr);
        assert!(unit.starts_with("usd") || report["usage"]["estimated"]["unsplit"].as_u64() > Some(30), "{report:#}");
    }
}

#[test]
fn without_a_limit_a_turn_without_usage_completes_and_its_cost_is_unknown() {
    let project = Project::new("codex", &codex("7", "null"), "cli: codex", "budget: { seconds: 600 }");
    let (ran, report) = project.run(&RUN);
    assert_eq!(
        (ran.code, &report["cost_usd"], &report["usage"]["calls_with_unknown_usage"]),
        (0, &Value::Null, &json!(3)),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("tokens 3 turns not reported; cost unknown"), "{}", ran.stderr);
}

#[test]
fn the_estimate_of_a_turn_is_reserved_and_its_reported_usage_counts() {
    let silent = Project::new("claude", &claude(""), "cli: claude, estimate: { usd: 0.004 }", "budget: { usd: 0.01 }");
    let (ran, report) = silent.run(&RUN);
    assert_eq!((ran.code, &report["error"]["class"], silent.turns()), (4, &json!("budget_exceeded"), 2), "{ran:?}");
    assert!(ran.stderr.contains("the budget of the run is $0.01; $0.0080 are spent"), "{}", ran.stderr);
    assert_eq!((&report["cost_usd"], &report["estimated_cost_usd"]), (&Value::Null, &json!(0.008)));
    let told = claude(",\"total_cost_usd\":0.001,\"usage\":{\"input_tokens\":3,\"output_tokens\":4}");
    let told = Project::new("claude", &told, "cli: claude, estimate: { usd: 0.004 }", "budget: { usd: 0.01 }");
    let (ran, report) = told.run(&RUN);
    assert_eq!((ran.code, told.turns(), report.get("estimated_cost_usd")), (0, 3, None), "{ran:?}");
    let refused = Project::new(
        "claude",
        &claude(""),
        "cli: claude, estimate: { usd: 0.004 }",
        "budget: { usd: 0.01, unreported: refuse }",
    );
    let (ran, report) = refused.run(&RUN);
    assert_eq!((ran.code, &report["error"]["class"], refused.turns()), (4, &json!("usage_unknown"), 1), "{ran:?}");
}

#[test]
fn a_turn_that_failed_without_usage_is_not_retried_under_a_budget() {
    let project = Project::new("claude", "exit 3", "cli: claude", "budget: { usd: 0.01 }");
    project.orch.edit("pipelines/main.yaml", "schema: any", "schema: any, retry: { max: 3, on: [agent_error] }");
    let (ran, report) = project.run(&RUN);
    assert_eq!((ran.code, &report["error"]["class"], project.turns()), (4, &json!("usage_unknown"), 1), "{ran:?}");
}

#[test]
fn a_turn_during_which_orch_was_killed_is_not_free() {
    let project = Project::new("claude", "[ -e ../go ] || sleep 300\necho x", "cli: claude", "budget: { usd: 0.01 }");
    project.orch.write(
        "bin/claude",
        &format!(
            "#!/bin/sh\necho turn >> ../turns\ncat > /dev/null\n[ -e ../go ] || exec sleep 300\n{}\n",
            claude(",\"total_cost_usd\":0.001")
        ),
    );
    let mut child = project.command(&RUN).spawn().unwrap();
    let began = Instant::now();
    while !project.orch.exists("turns") {
        assert!(began.elapsed() < Duration::from_mins(1), "the program never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The start of the attempt is recorded a moment after that.
    std::thread::sleep(Duration::from_millis(500));
    child.kill().unwrap();
    child.wait().unwrap();
    project.orch.write("go", "");
    let (ran, report) = project.run(&RESUME);
    assert_eq!((ran.code, &report["error"]["class"], project.turns()), (4, &json!("usage_unknown"), 1), "{ran:?}");
    let lost = |report: &Value| (report["usage"]["calls_with_unknown_usage"].clone(), report["cost_usd"].clone());
    assert_eq!(lost(&report), (json!(1), Value::Null), "{report:#}");
    project.orch.edit("pipelines/main.yaml", "cli: claude", "cli: claude, estimate: { usd: 0.002 }");
    let (ran, report) = project.run(&RESUME);
    assert_eq!((ran.code, project.turns()), (0, 4), "{ran:?}");
    assert_eq!(lost(&report).1, Value::Null, "the cost of the turn that was cut off is not known: {report:#}");
}

/// Codex in a thread whose turns use 900 input and 100 output tokens each; its first two answers are invalid.
fn codex_project(hang: &str) -> Project {
    let script = format!(
        "n=$(wc -l < ../turns)\n{hang}\ntext='{{}}'; [ $n -ge 3 ] && text='{{\\\"n\\\":1}}'\necho '{{\"type\":\"thread.started\",\"thread_id\":\"t-1\"}}'\necho \"{{\\\"type\\\":\\\"item.completed\\\",\\\"item\\\":{{\\\"id\\\":\\\"i\\\",\\\"type\\\":\\\"agent_message\\\",\\\"text\\\":\\\"$text\\\"}}}}\"\necho \"{{\\\"type\\\":\\\"turn.completed\\\",\\\"usage\\\":{{\\\"input_tokens\\\":$((n * 900)),\\\"output_tokens\\\":$((n * 100))}}}}\""
    );
    Project::with_step("codex", &script, ("cli: codex", "", "id: one, schema: n.schema.json, re_ask: 2"))
}

#[test]
fn earlier_usage_of_a_codex_thread_is_subtracted() {
    let project = codex_project("");
    let (ran, report) = project.run(&RUN);
    assert_eq!((ran.code, &report["steps"][0]["calls"]), (0, &json!(3)), "{ran:?}");
    assert_eq!((&report["usage"]["input"], &report["usage"]["output"]), (&json!(2700), &json!(300)), "{report:#}");
}

#[test]
fn a_codex_turn_without_usage_is_unknown_and_the_next_one_does_not_count_twice() {
    for gap in ["null", "{\"input_tokens\":1800}"] {
        let project = codex_project("");
        let usage = "{\\\"input_tokens\\\":$((n * 900)),\\\"output_tokens\\\":$((n * 100))}";
        let told = format!("\necho \"{{\\\"type\\\":\\\"turn.completed\\\",\\\"usage\\\":{usage}}}\"");
        let silent = format!("\necho '{{\"type\":\"turn.completed\",\"usage\":{gap}}}'");
        project.orch.edit("bin/codex", &told, &format!("\nif [ $n = 2 ]; then{silent}\nelse{told}\nfi"));
        let (ran, report) = project.run(&RUN);
        assert_eq!((ran.code, &report["steps"][0]["calls"]), (0, &json!(3)), "{ran:?}");
        let used = &report["usage"];
        // The sum is what the thread reported at last, whatever it reported in between.
        assert_eq!((&used["input"], &used["output"]), (&json!(2700), &json!(300)), "{gap}: {report:#}");
        assert_eq!(used["calls_with_unknown_usage"], 1, "{gap}: {report:#}");
    }
}

#[test]
fn earlier_usage_of_a_codex_thread_is_subtracted_after_a_kill() {
    let project = codex_project(
        "if [ $n = 2 ] && [ ! -e ../go ]; then touch ../there; exec sleep 300; fi\n[ -e ../go ] && n=$((n - 1))",
    );
    let mut child = project.command(&RUN).spawn().unwrap();
    let began = Instant::now();
    while !project.orch.exists("there") {
        assert!(began.elapsed() < Duration::from_mins(1), "the second turn never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    project.orch.write("go", "");
    let (ran, report) = project.run(&RESUME);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((&report["usage"]["input"], &report["usage"]["output"]), (&json!(2700), &json!(300)), "{report:#}");
}

#[test]
fn an_agent_that_never_reports_tokens_does_not_start_under_a_budget_of_tokens() {
    let keys = "command: [sh, -c, 'cat > /dev/null; echo 7']";
    let project = Project::new("other", "", keys, "");
    project.orch.run(&["pipeline", "validate"]).exits(0);
    let limited = [&RUN[..], &["--budget", "tokens=100"]].concat();
    project.orch.run(&limited).exits(2).says("does not report its tokens").says("estimate: { tokens: … }");
    project.orch.edit("pipelines/main.yaml", "name: test", "name: test\nbudget: { tokens: 100 }");
    project.orch.run(&["pipeline", "validate"]).exits(2).says("ORCH0713");
    project.orch.run(&RUN).exits(2);
    project.orch.edit("pipelines/main.yaml", "command:", "estimate: { tokens: 40 }, command:");
    assert!(!project.orch.run(&["pipeline", "validate"]).exits(0).stderr.contains("ORCH0713"));
    let (ran, report) = project.run(&RUN);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{ran:?}");
    assert_eq!(report["usage"]["estimated"]["unsplit"], 80, "two turns fit: {report:#}");
    let plan =
        RunOutput::of(&project.command(&["pipeline", "plan", "pipelines/main.yaml", "--task", "t"]).output().unwrap());
    assert!(plan.stdout.contains("budget of the run, 100 tokens") || plan.stderr.contains("100 tokens"), "{plan:?}");
    // A program that calls no model uses nothing.
    project.orch.edit("pipelines/main.yaml", "tokens: 40", "tokens: 0");
    assert_eq!(project.run(&RESUME).0.code, 0);
    project.orch.edit("pipelines/main.yaml", keys, "model: auto");
    project.orch.run(&["pipeline", "validate"]).exits(2).says("`estimate` is not supported by agents with a model");
}

#[test]
fn the_hint_to_allow_estimates_works() {
    let head = "budget: { usd: 0.01, unreported: refuse }";
    let project = Project::new("claude", &claude(""), "cli: claude", head);
    let (ran, _) = project.run(&RUN);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("and `unreported: estimate` in the budget"), "{}", ran.stderr);
    project.orch.edit("pipelines/main.yaml", "cli: claude", "cli: claude, estimate: { usd: 0.001 }");
    project.orch.edit("pipelines/main.yaml", "unreported: refuse", "unreported: estimate");
    assert_eq!(project.run(&RESUME).0.code, 0);
}
