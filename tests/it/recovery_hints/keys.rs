//! Missing and wrong keys, names that a server does not know, and missing recordings.

use orch::model::FailureClass;

use super::{Case, ROW, Row, assert_hints_work};
use crate::support::{Reply, RunOutput};

const ASK: &str = "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any, re_ask: 0, retry: { max: 1 } }\n";

fn ask_step(case: &Case) {
    case.pipeline("model: lab/test", ASK);
}

fn good_reply() -> Reply {
    Reply::openai_text("{\"n\": 1}")
}

/// Configures a server that requires a key, which is in a variable.
fn with_key(case: &Case) {
    ask_step(case);
    case.orch.edit("orch.yaml", "dialect: openai,", "dialect: openai, api_key: { env: LAB_KEY },");
}

/// Configures such a server, and agrees to send the key there.
fn with_trusted_key(case: &Case) {
    with_key(case);
    case.shell("orch trust").exits(0);
}

/// Signed reasoning can't be redacted.
fn secret_in_signed_reasoning() -> Row {
    Row {
        class: FailureClass::SecretInReply,
        serve: |_, is_repaired| {
            let thought = if is_repaired { "The answer is 1." } else { "The key is right-key." };
            Reply::typed(
                "application/json",
                serde_json::json!({
                    "type": "message", "id": "m", "model": "test", "stop_reason": "end_turn",
                    "content": [
                        { "type": "thinking", "thinking": thought, "signature": "signed" },
                        { "type": "text", "text": "{\"n\": 1}" },
                    ],
                    "usage": { "input_tokens": 5, "output_tokens": 5 },
                })
                .to_string(),
            )
        },
        setup: |case| {
            ask_step(case);
            let settings = "dialect: anthropic, api_key: { env: LAB_KEY },";
            case.orch.edit("orch.yaml", "dialect: openai,", settings);
            case.shell("orch trust").exits(0);
            case.set("LAB_KEY", "right-key");
        },
        says: &["(secret_in_reply)", "remove the secret from the inputs"],
        repair: |case, _| case.repair_server(),
        ..ROW
    }
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::Auth,
            setup: with_trusted_key,
            says: &["LAB_KEY is not set", "export LAB_KEY=…"],
            commands: &[],
            repair: |case, _| case.set("LAB_KEY", "right-key"),
            ..ROW
        },
        Row {
            class: FailureClass::Auth,
            serve: |request, _| {
                let right = request.header("authorization") == Some("Bearer right-key");
                if right { good_reply() } else { Reply::status(401, "{\"error\":{\"message\":\"bad key\"}}") }
            },
            setup: |case| {
                with_trusted_key(case);
                case.set("LAB_KEY", "wrong-key");
            },
            says: &["(auth)", "check the key in LAB_KEY"],
            repair: |case, _| case.set("LAB_KEY", "right-key"),
            ..ROW
        },
        Row {
            class: FailureClass::Auth,
            serve: |request, _| {
                let right = request.header("authorization") == Some("Bearer right-key");
                if right { good_reply() } else { Reply::status(401, "{\"error\":{\"message\":\"who are you?\"}}") }
            },
            setup: ask_step,
            says: &["(auth)", "providers: { lab: { api_key: { env: NAME } } }"],
            repair: |case, _| {
                with_key(case);
                case.set("LAB_KEY", "right-key");
            },
            then: &["orch trust"],
            ..ROW
        },
        secret_in_signed_reasoning(),
        Row {
            class: FailureClass::BadRequest,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => Reply::status(404, "{\"error\":{\"message\":\"no such model\"}}"),
                _ => good_reply(),
            },
            setup: ask_step,
            says: &["(bad_request)", "check the model's name"],
            repair: |case, _| case.edit("lab/test", "lab/other"),
            ..ROW
        },
        // The name is in the settings.
        Row {
            class: FailureClass::BadRequest,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => Reply::status(404, "{\"error\":{\"message\":\"no such model\"}}"),
                _ => good_reply(),
            },
            setup: |case| {
                case.pipeline("model: auto", ASK);
            },
            says: &["(bad_request)", "check the model's name"],
            repair: |case, _| {
                case.orch.edit("orch.yaml", "model: lab/test", "model: lab/other");
            },
            ..ROW
        },
        Row {
            class: FailureClass::NoRecording,
            setup: ask_step,
            fail: |case| {
                case.add_arguments(&["--record", "tapes"]);
                let recorded = case.run().exits(0);
                assert!(recorded.stderr.contains("completed"));
                case.orch.edit("prompts/ask.md", "step:", "Be bold. step:");
                run_with_replay(case)
            },
            says: &["(no_recording)", "+Be bold.", "run the pipeline with `--record tapes`"],
            commands: &[],
            repair: |case, _| {
                case.more.borrow_mut().retain(|word| word != "--replay" && word != "tapes");
                case.add_arguments(&["--record", "tapes"]);
                case.run().exits(0);
                run_with_replay(case).exits(0);
            },
            ..ROW
        },
    ]
}

/// Runs the pipeline again with the recordings.
fn run_with_replay(case: &Case) -> RunOutput {
    case.more.borrow_mut().iter_mut().filter(|word| *word == "--record").for_each(|word| *word = "--replay".to_owned());
    case.run()
}

#[test]
fn hints_about_keys_work() {
    assert_hints_work(&rows());
}
