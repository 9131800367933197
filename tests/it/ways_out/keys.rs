//! Keys that are missing or wrong, names that a server does not know, and recordings that do not answer.

use orch::model::FailureClass;

use super::{Case, ROW, Row, lead_out};
use crate::support::{Ran, Reply};

const ASK: &str = "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any, re_ask: 0, retry: { max: 1 } }\n";

fn ask(case: &Case) {
    case.pipeline("model: lab/test", ASK);
}

fn good() -> Reply {
    Reply::openai_text("{\"n\": 1}")
}

/// A server that wants a key, which stands in a variable.
fn with_key(case: &Case) {
    ask(case);
    case.orch.edit("orch.yaml", "dialect: openai,", "dialect: openai, api_key: { env: LAB_KEY },");
}

/// The same, and the user has agreed to send the key there.
fn with_trusted_key(case: &Case) {
    with_key(case);
    case.shell("orch trust").exits(0);
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::Auth,
            lay: with_trusted_key,
            says: &["LAB_KEY is not set", "export LAB_KEY=…"],
            ways: &[],
            mend: |case, _| case.set("LAB_KEY", "right-key"),
            ..ROW
        },
        Row {
            class: FailureClass::Auth,
            serve: |request, _| {
                let right = request.header("authorization") == Some("Bearer right-key");
                if right { good() } else { Reply::status(401, "{\"error\":{\"message\":\"bad key\"}}") }
            },
            lay: |case| {
                with_trusted_key(case);
                case.set("LAB_KEY", "wrong-key");
            },
            says: &["(auth)", "check the key in LAB_KEY"],
            mend: |case, _| case.set("LAB_KEY", "right-key"),
            ..ROW
        },
        Row {
            class: FailureClass::Auth,
            serve: |request, _| {
                let right = request.header("authorization") == Some("Bearer right-key");
                if right { good() } else { Reply::status(401, "{\"error\":{\"message\":\"who are you?\"}}") }
            },
            lay: ask,
            says: &["(auth)", "providers: { lab: { api_key: { env: NAME } } }"],
            mend: |case, _| {
                with_key(case);
                case.set("LAB_KEY", "right-key");
            },
            then: &["orch trust"],
            ..ROW
        },
        Row {
            class: FailureClass::BadRequest,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => Reply::status(404, "{\"error\":{\"message\":\"no such model\"}}"),
                _ => good(),
            },
            lay: ask,
            says: &["(bad_request)", "check the model's name"],
            mend: |case, _| case.edit("lab/test", "lab/other"),
            ..ROW
        },
        // The name stands in the settings.
        Row {
            class: FailureClass::BadRequest,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => Reply::status(404, "{\"error\":{\"message\":\"no such model\"}}"),
                _ => good(),
            },
            lay: |case| {
                case.pipeline("model: auto", ASK);
            },
            says: &["(bad_request)", "check the model's name"],
            mend: |case, _| {
                case.orch.edit("orch.yaml", "model: lab/test", "model: lab/other");
            },
            ..ROW
        },
        Row {
            class: FailureClass::NoRecording,
            lay: ask,
            fail: |case| {
                case.with(&["--record", "tapes"]);
                let recorded = case.run().exits(0);
                assert!(recorded.stderr.contains("completed"));
                case.orch.edit("prompts/ask.md", "step:", "Be bold. step:");
                replayed(case)
            },
            says: &["(no_recording)", "+Be bold.", "run the pipeline with `--record tapes`"],
            ways: &[],
            mend: |case, _| {
                case.more.borrow_mut().retain(|word| word != "--replay" && word != "tapes");
                case.with(&["--record", "tapes"]);
                case.run().exits(0);
                replayed(case).exits(0);
            },
            ..ROW
        },
    ]
}

/// The run again, from what was recorded.
fn replayed(case: &Case) -> Ran {
    case.more.borrow_mut().iter_mut().filter(|word| *word == "--record").for_each(|word| *word = "--replay".to_owned());
    case.run()
}

#[test]
fn of_keys() {
    lead_out(&rows());
}
