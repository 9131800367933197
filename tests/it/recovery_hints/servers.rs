//! Model servers that do not answer, or not in time.

use std::time::Duration;

use orch::model::FailureClass;

use super::{Case, ROW, Row, assert_hints_work, commands_in};
use crate::support::Reply;

const ASK: &str = "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any, re_ask: 0, retry: { max: 1 } }\n";

fn ask_step(case: &Case) {
    case.pipeline("model: lab/test", ASK);
}

fn good_reply() -> Reply {
    Reply::openai_text("{\"n\": 1}")
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::RateLimited,
            serve: |_, is_repaired| {
                if is_repaired { good_reply() } else { Reply::status(429, "{\"error\":{\"message\":\"slow\"}}") }
            },
            setup: ask_step,
            says: &["(rate_limited)", "wait until the provider accepts requests again"],
            repair: |case, _| case.repair_server(),
            ..ROW
        },
        Row {
            class: FailureClass::RateLimited,
            serve: |_, is_repaired| {
                let slow = Reply::status(429, "{\"error\":{\"message\":\"slow\"}}").header("retry-after", "7200");
                if is_repaired { good_reply() } else { slow }
            },
            setup: ask_step,
            says: &["(rate_limited)", "it asks to wait 7200 s", "resume the run after that time"],
            repair: |case, _| case.repair_server(),
            ..ROW
        },
        Row {
            class: FailureClass::ProviderUnavailable,
            serve: |_, is_repaired| if is_repaired { good_reply() } else { Reply::status(503, "{}") },
            setup: ask_step,
            says: &["(provider_unavailable)", "wait until the provider is available again"],
            repair: |case, _| case.repair_server(),
            ..ROW
        },
        Row {
            class: FailureClass::ProviderUnavailable,
            setup: |case| {
                ask_step(case);
                let settings = case.orch.read("orch.yaml");
                case.orch.write("good.yaml", &settings);
                let url = settings.split('"').nth(1).unwrap().to_owned();
                case.orch.edit("orch.yaml", &url, "http://127.0.0.1:9/v1");
            },
            says: &["(provider_unavailable)", "start lab, or correct its base URL"],
            repair: |case, _| {
                case.orch.write("orch.yaml", &case.orch.read("good.yaml"));
            },
            ..ROW
        },
        Row {
            class: FailureClass::Timeout,
            serve: |_, _| good_reply().delay(Duration::from_millis(1500)),
            setup: |case| {
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", "timeout: 200ms, re_ask: 0"));
            },
            says: &["(timeout)", "raise `timeout:` of the step"],
            repair: |case, _| case.edit("timeout: 200ms", "timeout: 2m"),
            ..ROW
        },
        Row {
            class: FailureClass::Timeout,
            setup: |case| {
                case.pipeline("model: lab/test", "  - { id: slow, run: sleep 1, deadline: 200ms }\n");
            },
            says: &["(timeout)", "raise `deadline:` of the step"],
            repair: |case, _| case.edit("deadline: 200ms", "deadline: 2m"),
            ..ROW
        },
        Row {
            class: FailureClass::Timeout,
            serve: |_, _| good_reply().delay(Duration::from_millis(1500)),
            setup: |case| {
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", "deadline: 200ms, re_ask: 0"));
            },
            says: &["(timeout)", "raise `deadline:` of the step"],
            repair: |case, _| case.edit("deadline: 200ms", "deadline: 2m"),
            ..ROW
        },
        Row {
            class: FailureClass::Timeout,
            setup: |case| {
                case.pipeline("command: [worker]", &ASK.replace("re_ask: 0", "deadline: 1s, re_ask: 0"));
                case.program("worker", "cat > /dev/null; sleep 2; echo '{\"n\": 1}'");
            },
            says: &["(timeout)", "raise `deadline:` of the step"],
            repair: |case, _| case.edit("deadline: 1s", "deadline: 2m"),
            ..ROW
        },
    ]
}

#[test]
fn hints_about_servers_work() {
    assert_hints_work(&rows());
}

/// A resume uses the model of the command line again, so the printed command replaces it.
#[test]
fn an_unknown_model_of_the_command_line_can_be_replaced() {
    let row = Row {
        serve: |request, _| match request.body["model"].as_str() {
            Some("tset") => Reply::status(404, "{\"error\":{\"message\":\"none\",\"code\":\"model_not_found\"}}"),
            _ => good_reply(),
        },
        setup: ask_step,
        ..ROW
    };
    for (arguments, advised) in
        [(["--model", "lab/tset"], "--model NAME"), (["--agent", "a=lab/tset"], "--agent a=NAME")]
    {
        let case = Case::new(&row, true);
        case.add_arguments(&arguments);
        let ran = case.run().exits(1).says("lab does not know the model tset");
        let command = commands_in(&ran).concat();
        assert!(command.starts_with("orch pipeline resume ") && command.contains(advised), "{ran:?}");
        // No step has completed.
        assert!(!ran.stderr.contains("orch reuses"), "{ran:?}");
        case.shell(&command.replace("NAME", "lab/test")).exits(0).says(" completed");
    }
}

/// Hints suggest another model; the printed command has the flag for it.
#[test]
fn the_hint_to_use_another_model_works() {
    let row = Row {
        serve: |request, _| match request.body["model"].as_str() {
            Some("test") => Reply::openai_stopped("", "content_filter"),
            _ => good_reply(),
        },
        setup: ask_step,
        ..ROW
    };
    let case = Case::new(&row, true);
    let ran = case.run().exits(1).says("name another model with --model");
    for command in commands_in(&ran) {
        case.shell(&format!("{command} --model lab/other")).exits(0).says(" completed");
    }
    assert_eq!(commands_in(&ran).len(), 1, "{ran:?}");
}
