//! CLI agents and commands.

use orch::model::FailureClass;

use super::{Case, ROW, Row, assert_hints_work};

const RESUME: &str = "orch pipeline resume RUN";
const SEE: &str = "orch runs show RUN --replies";
const ASK: &str =
    "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any, re_ask: 0, timeout: 20s, retry: { max: 1 } }\n";

/// A script in place of Claude Code that is denied a tool unless it is granted.
fn claude(case: &Case) {
    case.pipeline("cli: claude, tools: [Read]", ASK);
    let last = |denied: &str| {
        format!(
            r#"{{"type":"result","subtype":"success","is_error":false,"result":"{{\"n\": 1}}","session_id":"s-1","usage":{{"input_tokens":7,"output_tokens":8}},"total_cost_usd":0.25,"permission_denials":[{denied}]}}"#
        )
    };
    let denied = r#"{"tool_name":"Bash","tool_use_id":"t","tool_input":{"command":"ls"}}"#;
    case.orch.write("denied", &last(denied)).write("granted", &last(""));
    let folder = case.orch.path().display();
    let script = format!(
        "cat > /dev/null; echo '{{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s-1\"}}'\ncase \"$*\" in *Bash*) cat '{folder}/granted';; *) cat '{folder}/denied';; esac"
    );
    case.program("claude", &script);
}

/// A script in place of Claude Code that needs nine turns.
fn claude_with_nine_turns(case: &Case) {
    case.pipeline("cli: claude, max_turns: 2", ASK);
    let usage = r#""session_id":"s-1","usage":{"input_tokens":7,"output_tokens":8},"total_cost_usd":0.25"#;
    case.orch
        .write(
            "cut",
            &format!(r#"{{"type":"result","subtype":"error_max_turns","is_error":true,"num_turns":3,{usage}}}"#),
        )
        .write(
            "whole",
            &format!(r#"{{"type":"result","subtype":"success","is_error":false,"result":"{{\"n\": 1}}",{usage}}}"#),
        );
    let folder = case.orch.path().display();
    let script = format!(
        "cat > /dev/null; echo '{{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s-1\"}}'\ncase \"$*\" in *'--max-turns 9'*) cat '{folder}/whole';; *) cat '{folder}/cut';; esac"
    );
    case.program("claude", &script);
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::MaxTurnsReached,
            setup: claude_with_nine_turns,
            says: &["(max_turns_reached)", "raise `max_turns` of the agent"],
            repair: |case, _| case.edit("max_turns: 2", "max_turns: 9"),
            ..ROW
        },
        Row {
            class: FailureClass::CommandFailed,
            setup: |case| {
                case.pipeline("model: lab/test", "  - { id: check, run: exit 3 }\n");
            },
            says: &["(command_failed)", "`expect: { exit_code: [0, 3] }`"],
            commands: &[SEE, RESUME],
            repair: |case, _| case.edit("run: exit 3", "run: exit 3, expect: { exit_code: [0, 3] }"),
            ..ROW
        },
        Row {
            class: FailureClass::NotConfined,
            setup: |case| {
                let step = "  - { id: build, run: touch out/a, sandbox: { min: none, write: [out] } }\n";
                case.pipeline("model: lab/test", step);
            },
            says: &["(not_confined)", "`out` of `sandbox.write` can't be used", "create it before the step"],
            repair: |case, _| std::fs::create_dir_all(case.orch.path().join("workspace/out")).unwrap(),
            ..ROW
        },
        Row {
            class: FailureClass::PermissionDenied,
            setup: claude,
            says: &["(permission_denied)", "grant it under `tools:` of the agent"],
            repair: |case, _| case.edit("[Read]", "[Read, Bash]"),
            ..ROW
        },
        Row {
            class: FailureClass::NotInstalled,
            setup: |case| {
                case.pipeline("model: lab/test", "  - { id: check, run: [linter-of-tomorrow] }\n");
            },
            says: &["(not_installed)", "install `linter-of-tomorrow`"],
            repair: |case, _| case.program("linter-of-tomorrow", "true"),
            ..ROW
        },
        Row {
            class: FailureClass::NotInstalled,
            setup: |case| {
                case.pipeline("command: [agent-of-tomorrow]", ASK);
            },
            says: &["the CLI agent `agent-of-tomorrow` is not installed", "install `agent-of-tomorrow`"],
            commands: &[],
            repair: |case, _| case.program("agent-of-tomorrow", "cat > /dev/null; echo '{\"n\": 1}'"),
            ..ROW
        },
        Row {
            class: FailureClass::AgentError,
            setup: |case| {
                case.pipeline("command: [worker]", ASK);
                case.program("worker", "cat > /dev/null; echo out of luck >&2; exit 1");
            },
            says: &["(agent_error)", "out of luck", "continue with `orch pipeline resume"],
            repair: |case, _| case.program("worker", "cat > /dev/null; echo '{\"n\": 1}'"),
            ..ROW
        },
    ]
}

#[test]
fn hints_about_programs_work() {
    assert_hints_work(&rows());
}
