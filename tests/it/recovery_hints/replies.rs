//! Rejected replies.

use orch::model::FailureClass;
use serde_json::json;

use super::{Case, ROW, Row, assert_hints_work};
use crate::support::Reply;

const SEE: &str = "orch runs show RUN --replies";
const RESUME: &str = "orch pipeline resume RUN";
/// A step that asks once.
const ASK: &str = "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any, re_ask: 0, retry: { max: 1 } }\n";

fn ask_step(case: &Case) {
    case.pipeline("model: lab/test", ASK);
}

/// A complete reply without a text.
fn empty_reply() -> Reply {
    let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9 } });
    Reply::raw_events(format!("data: {end}\n\ndata: [DONE]\n\n"))
}

/// A reply that calls a tool, always in the same way.
fn repeated_call() -> Reply {
    let function = json!({ "name": "read", "arguments": "{\"path\": \"missing.txt\"}" });
    let call = json!({ "index": 0, "id": "call", "type": "function", "function": function });
    let end = json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] }, "finish_reason": "tool_calls" }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14 } });
    Reply::raw_events(format!("data: {end}\n\ndata: [DONE]\n\n"))
}

fn good_reply() -> Reply {
    Reply::openai_text("{\"n\": 1}")
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = without_a_value();
    rows.extend(with_rejected_value());
    rows
}

/// Replies without a value.
fn without_a_value() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::MaxTokensReached,
            serve: |request, _| match request.body["max_tokens"].as_u64() {
                Some(64) => Reply::openai_stopped("{\"n\":", "length"),
                _ => good_reply(),
            },
            setup: |case| {
                case.pipeline("model: lab/test, max_output_tokens: 64", ASK);
            },
            says: &["(max_tokens_reached)", "raise `max_output_tokens` of agent `a` (now 64)"],
            repair: |case, _| case.edit("max_output_tokens: 64", "max_output_tokens: 4096"),
            ..ROW
        },
        Row {
            class: FailureClass::Refusal,
            serve: |request, _| {
                if request.system().contains("please") {
                    good_reply()
                } else {
                    Reply::openai_stopped("", "content_filter")
                }
            },
            setup: ask_step,
            says: &["(refusal)", "change the prompt or the task"],
            repair: |case, _| {
                case.orch.edit("prompts/ask.md", "step:", "please step:");
            },
            ..ROW
        },
        Row {
            class: FailureClass::RepeatedToolCall,
            serve: |request, _| {
                if request.system().contains("please") { good_reply() } else { repeated_call() }
            },
            setup: |case| {
                case.pipeline("model: lab/test, tools: [read]", ASK);
            },
            says: &["(repeated_tool_call)", "say in the prompt what the model should do"],
            repair: |case, _| {
                case.orch.edit("prompts/ask.md", "step:", "please step:");
            },
            ..ROW
        },
        Row {
            class: FailureClass::UnknownStop,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => Reply::openai_stopped("{\"n\": 1}", "sleepy"),
                _ => good_reply(),
            },
            setup: ask_step,
            says: &["(unknown_stop)", "name another model"],
            commands: &[SEE, RESUME],
            repair: |case, _| case.edit("lab/test", "lab/other"),
            ..ROW
        },
        Row {
            class: FailureClass::EmptyReply,
            serve: |request, _| {
                if request.system().contains("text") { good_reply() } else { empty_reply() }
            },
            setup: ask_step,
            says: &["(empty_reply)", "instruct the model in the prompt to answer in its text"],
            repair: |case, _| {
                case.orch.edit("prompts/ask.md", "step:", "Answer in your text. step:");
            },
            ..ROW
        },
        Row {
            class: FailureClass::NoJson,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => Reply::openai_text("Gladly."),
                _ => good_reply(),
            },
            setup: ask_step,
            says: &["(no_json)", "a larger model"],
            commands: &[SEE, RESUME],
            repair: |case, _| case.edit("lab/test", "lab/large"),
            ..ROW
        },
    ]
}

/// Replies whose value is rejected.
fn with_rejected_value() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::SchemaMismatch,
            serve: |_, _| Reply::openai_text("{\"m\": 1}"),
            setup: |case| {
                case.pipeline("model: lab/test", &ASK.replace("schema: any", "schema: s.json"));
                let schema =
                    json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
                case.orch.write("schemas/s.json", &schema.to_string());
            },
            says: &["(schema_mismatch)", "a simpler schema"],
            commands: &[SEE, RESUME],
            repair: |case, _| {
                case.orch.edit("schemas/s.json", "[\"n\"]", "[]");
            },
            ..ROW
        },
        Row {
            class: FailureClass::OutputRejected,
            serve: |_, _| good_reply(),
            setup: |case| {
                let accept = "accept: [{ that: x.n > 1, else: n is too small }], re_ask: 0";
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", accept));
            },
            says: &["(output_rejected)", "correct the prompt or the conditions"],
            commands: &[SEE, RESUME],
            repair: |case, _| case.edit("x.n > 1", "x.n > 0"),
            ..ROW
        },
        // The reply is rejected because of the value of an earlier step.
        Row {
            class: FailureClass::OutputRejected,
            serve: |request, is_repaired| {
                let other = request.system().contains("plan") && !is_repaired;
                if other { Reply::openai_text("{\"n\": 7}") } else { good_reply() }
            },
            setup: |case| {
                let plan = "  - { id: plan, agent: a, prompt: plan.md, output: plan, schema: any }\n";
                let accept = "inputs: [plan], accept: [{ that: x.n == plan.n, else: n is another one }], re_ask: 0";
                case.pipeline("model: lab/test", &format!("{plan}{}", ASK.replace("re_ask: 0", accept)));
            },
            says: &["(output_rejected)", "edit `plan.json` in the workspace", "run `plan` again"],
            commands: &[
                SEE,
                RESUME,
                "orch pipeline resume RUN --from plan",
                "orch pipeline resume RUN --accept-changed",
            ],
            repair: |case, command| match command {
                "orch pipeline resume RUN --from plan" => case.repair_server(),
                "orch pipeline resume RUN --accept-changed" => {
                    case.orch.write("workspace/plan.json", "{\"n\": 1}");
                }
                _ => case.edit("x.n == plan.n", "x.n < plan.n"),
            },
            ..ROW
        },
        Row {
            class: FailureClass::AmbiguousReply,
            serve: |_, _| Reply::openai_text("```json\n{\"n\": 1}\n```\nor\n```json\n{\"n\": 2}\n```\n"),
            setup: |case| {
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", "extract: strict, re_ask: 0"));
            },
            says: &["(ambiguous_reply)", "remove `extract: strict` from the step"],
            repair: |case, _| case.edit("extract: strict, ", ""),
            ..ROW
        },
    ]
}

#[test]
fn hints_about_replies_work() {
    assert_hints_work(&rows());
}
