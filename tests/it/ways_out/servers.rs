//! Servers of models that do not answer, or not in time.

use std::time::Duration;

use orch::model::FailureClass;

use super::{Case, ROW, Row, commands, lead_out};
use crate::support::Reply;

const ASK: &str = "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any, re_ask: 0, retry: { max: 1 } }\n";

fn ask(case: &Case) {
    case.pipeline("model: lab/test", ASK);
}

fn good() -> Reply {
    Reply::openai_text("{\"n\": 1}")
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::RateLimited,
            serve: |_, mended| if mended { good() } else { Reply::status(429, "{\"error\":{\"message\":\"slow\"}}") },
            lay: ask,
            says: &["(rate_limited)", "wait until the provider accepts requests again"],
            mend: |case, _| case.mended(),
            ..ROW
        },
        Row {
            class: FailureClass::RateLimited,
            serve: |_, mended| {
                let slow = Reply::status(429, "{\"error\":{\"message\":\"slow\"}}").header("retry-after", "7200");
                if mended { good() } else { slow }
            },
            lay: ask,
            says: &["(rate_limited)", "it asks to wait 7200 s", "resume the run after that time"],
            mend: |case, _| case.mended(),
            ..ROW
        },
        Row {
            class: FailureClass::ProviderUnavailable,
            serve: |_, mended| if mended { good() } else { Reply::status(503, "{}") },
            lay: ask,
            says: &["(provider_unavailable)", "wait until the provider is available again"],
            mend: |case, _| case.mended(),
            ..ROW
        },
        Row {
            class: FailureClass::ProviderUnavailable,
            lay: |case| {
                ask(case);
                let settings = case.orch.read("orch.yaml");
                case.orch.write("good.yaml", &settings);
                let url = settings.split('"').nth(1).unwrap().to_owned();
                case.orch.edit("orch.yaml", &url, "http://127.0.0.1:9/v1");
            },
            says: &["(provider_unavailable)", "start lab, or correct its base URL"],
            mend: |case, _| {
                case.orch.write("orch.yaml", &case.orch.read("good.yaml"));
            },
            ..ROW
        },
        Row {
            class: FailureClass::Timeout,
            serve: |_, _| good().delay(Duration::from_millis(1500)),
            lay: |case| {
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", "timeout: 200ms, re_ask: 0"));
            },
            says: &["(timeout)", "raise `timeout:` of the step"],
            mend: |case, _| case.edit("timeout: 200ms", "timeout: 2m"),
            ..ROW
        },
        Row {
            class: FailureClass::Timeout,
            lay: |case| {
                case.pipeline("model: lab/test", "  - { id: slow, run: sleep 1, deadline: 200ms }\n");
            },
            says: &["(timeout)", "raise `deadline:` of the step"],
            mend: |case, _| case.edit("deadline: 200ms", "deadline: 2m"),
            ..ROW
        },
        Row {
            class: FailureClass::Timeout,
            serve: |_, _| good().delay(Duration::from_millis(1500)),
            lay: |case| {
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", "deadline: 200ms, re_ask: 0"));
            },
            says: &["(timeout)", "raise `deadline:` of the step"],
            mend: |case, _| case.edit("deadline: 200ms", "deadline: 2m"),
            ..ROW
        },
        Row {
            class: FailureClass::Timeout,
            lay: |case| {
                case.pipeline("command: [worker]", &ASK.replace("re_ask: 0", "deadline: 1s, re_ask: 0"));
                case.program("worker", "cat > /dev/null; sleep 2; echo '{\"n\": 1}'");
            },
            says: &["(timeout)", "raise `deadline:` of the step"],
            mend: |case, _| case.edit("deadline: 1s", "deadline: 2m"),
            ..ROW
        },
    ]
}

#[test]
fn of_servers() {
    lead_out(&rows());
}

/// Hints name another model as a way out: the flag goes with the command that is printed.
#[test]
fn another_model_leads_out() {
    let row = Row {
        serve: |request, _| match request.body["model"].as_str() {
            Some("test") => Reply::openai_stopped("", "content_filter"),
            _ => good(),
        },
        lay: ask,
        ..ROW
    };
    let case = Case::new(&row, true);
    let ran = case.run().exits(1).says("name another model with --model");
    for command in commands(&ran) {
        case.shell(&format!("{command} --model lab/other")).exits(0).says(" completed");
    }
    assert_eq!(commands(&ran).len(), 1, "{ran:?}");
}
