//! Rejections, missing answers, and stopped runs.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use orch::model::FailureClass;

use super::{Case, ROW, Row, assert_hints_work, commands_in};
use crate::support::RunOutput;

const RESUME: &str = "orch pipeline resume RUN";
const APPROVED: &[&str] = &["orch runs approve", "orch pipeline resume"];

/// Starts the run and waits until one of its steps has created this file.
fn start_until_file_exists(case: &Case, file: &str) -> Child {
    let child = case.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !case.orch.exists(file) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Starts a run that waits for an approval, and answers with the printed command that begins like this.
fn answer_with(case: &Case, begin: &str) -> RunOutput {
    let waiting = case.run().exits(3);
    let command = commands_in(&waiting).into_iter().find(|command| command.starts_with(begin)).unwrap();
    case.shell(&command).exits(0);
    let resume = commands_in(&waiting).into_iter().find(|command| command.starts_with("orch pipeline resume")).unwrap();
    case.shell(&resume)
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::Rejected,
            setup: |case| {
                let steps = "  - { id: plan, agent: a, prompt: plan.md, output: plan, schema: any }\n  - { id: ok, inputs: [plan], approve: \"Do {{ plan.n }}?\" }\n";
                case.pipeline("model: lab/test", steps);
            },
            fail: |case| answer_with(case, "orch runs reject"),
            says: &["(rejected)", "edit `plan.json` in the workspace", "run `plan` again"],
            commands: &[RESUME, "orch pipeline resume RUN --accept-changed", "orch pipeline resume RUN --from plan"],
            repair: |case, command| {
                if command.ends_with("--accept-changed") {
                    case.orch.write("workspace/plan.json", "{\"n\": 2}");
                }
            },
            then: APPROVED,
            ..ROW
        },
        Row {
            class: FailureClass::ApprovalTimeout,
            setup: |case| {
                case.pipeline("model: lab/test", "  - { id: ok, approve: \"Go on?\", timeout: 5s }\n");
            },
            fail: |case| {
                let waiting = case.run().exits(3);
                std::thread::sleep(Duration::from_millis(5100));
                let resume = commands_in(&waiting).into_iter().find(|c| c.starts_with("orch pipeline resume")).unwrap();
                case.shell(&resume)
            },
            says: &["(approval_timeout)", "raise `timeout:` of the step"],
            repair: |case, _| case.edit("timeout: 5s", "timeout: 1h"),
            then: APPROVED,
            ..ROW
        },
        Row {
            class: FailureClass::Cancelled,
            setup: |case| {
                case.pipeline(
                    "model: lab/test",
                    "  - { id: slow, run: \"test -e begun || { touch begun; sleep 60; }\" }\n",
                );
            },
            fail: |case| {
                let child = start_until_file_exists(case, "workspace/begun");
                assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
                RunOutput::of(&child.wait_with_output().unwrap())
            },
            says: &["cancelled", "continues the run"],
            ..ROW
        },
        // The killed process prints nothing: `runs show` reports the failure, and the resumed run has the class.
        Row {
            class: FailureClass::Crashed,
            setup: |case| {
                case.pipeline(
                    "command: [worker]",
                    "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any }\n",
                );
                case.orch.disable_sandboxes();
                case.program(
                    "worker",
                    "cat > /dev/null; test -e begun || { touch begun; sleep 60; }; echo '{\"n\": 1}'",
                );
            },
            fail: |case| {
                let mut child = start_until_file_exists(case, "workspace/begun");
                child.kill().unwrap();
                child.wait().unwrap();
                let state = case.more.borrow().clone();
                let state = state.get(1).map(|folder| format!(" --state '{folder}'")).unwrap_or_default();
                let shown = case.shell(&format!("orch runs show{state}")).exits(0);
                RunOutput { code: 137, stdout: String::new(), stderr: shown.stdout }
            },
            says: &["continues the run"],
            ..ROW
        },
    ]
}

#[test]
fn hints_about_approvals_and_stops_work() {
    assert_hints_work(&rows());
}
