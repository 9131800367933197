//! People who say no or nothing, and runs that are stopped.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use orch::model::FailureClass;

use super::{Case, ROW, Row, commands, lead_out};
use crate::support::Ran;

const RESUME: &str = "orch pipeline resume RUN";
const APPROVED: &[&str] = &["orch runs approve", "orch pipeline resume"];

/// Starts the run and waits until a step of it has made this file.
fn started(case: &Case, file: &str) -> Child {
    let child = case.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !case.orch.exists(file) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The run that waits for a person, answered with this one of the commands that it prints.
fn answered(case: &Case, begin: &str) -> Ran {
    let waiting = case.run().exits(3);
    let command = commands(&waiting).into_iter().find(|command| command.starts_with(begin)).unwrap();
    case.shell(&command).exits(0);
    let resume = commands(&waiting).into_iter().find(|command| command.starts_with("orch pipeline resume")).unwrap();
    case.shell(&resume)
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::Rejected,
            lay: |case| {
                let steps = "  - { id: plan, agent: a, prompt: plan.md, output: plan, schema: any }\n  - { id: ok, inputs: [plan], approve: \"Do {{ plan.n }}?\" }\n";
                case.pipeline("model: lab/test", steps);
            },
            fail: |case| answered(case, "orch runs reject"),
            says: &["(rejected)", "edit `plan.json` in the workspace", "run `plan` again"],
            ways: &[RESUME, "orch pipeline resume RUN --accept-changed", "orch pipeline resume RUN --from plan"],
            mend: |case, command| {
                if command.ends_with("--accept-changed") {
                    case.orch.write("workspace/plan.json", "{\"n\": 2}");
                }
            },
            then: APPROVED,
            ..ROW
        },
        Row {
            class: FailureClass::ApprovalTimeout,
            lay: |case| {
                case.pipeline("model: lab/test", "  - { id: ok, approve: \"Go on?\", timeout: 100ms }\n");
            },
            fail: |case| {
                let waiting = case.run().exits(3);
                std::thread::sleep(Duration::from_millis(150));
                let resume = commands(&waiting).into_iter().find(|c| c.starts_with("orch pipeline resume")).unwrap();
                case.shell(&resume)
            },
            says: &["(approval_timeout)", "raise `timeout:` of the step"],
            mend: |case, _| case.edit("timeout: 100ms", "timeout: 1h"),
            then: APPROVED,
            ..ROW
        },
        Row {
            class: FailureClass::Cancelled,
            lay: |case| {
                case.pipeline(
                    "model: lab/test",
                    "  - { id: slow, run: \"test -e begun || { touch begun; sleep 60; }\" }\n",
                );
            },
            fail: |case| {
                let child = started(case, "workspace/begun");
                assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
                Ran::of(&child.wait_with_output().unwrap())
            },
            says: &["cancelled", "continues the run"],
            ..ROW
        },
        // The process is killed and says nothing; whoever asks for the run is told, and the resumed run has the class.
        Row {
            class: FailureClass::Crashed,
            lay: |case| {
                case.pipeline(
                    "command: [worker]",
                    "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any }\n",
                );
                case.program(
                    "worker",
                    "cat > /dev/null; test -e begun || { touch begun; sleep 60; }; echo '{\"n\": 1}'",
                );
            },
            fail: |case| {
                let mut child = started(case, "workspace/begun");
                child.kill().unwrap();
                child.wait().unwrap();
                let state = case.more.borrow().clone();
                let state = state.get(1).map(|folder| format!(" --state '{folder}'")).unwrap_or_default();
                let shown = case.shell(&format!("orch runs show{state}")).exits(0);
                Ran { code: 137, stdout: String::new(), stderr: shown.stdout }
            },
            says: &["continues the run"],
            ..ROW
        },
    ]
}

#[test]
fn of_people() {
    lead_out(&rows());
}
