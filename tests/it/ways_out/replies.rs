//! Replies that are not taken.

use orch::model::FailureClass;
use serde_json::json;

use super::{Case, ROW, Row, lead_out};
use crate::support::Reply;

const SEE: &str = "orch runs show RUN --replies";
const RESUME: &str = "orch pipeline resume RUN";
/// One step that asks once.
const ASK: &str = "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any, re_ask: 0, retry: { max: 1 } }\n";

fn ask(case: &Case) {
    case.pipeline("model: lab/test", ASK);
}

/// A reply that ends well and has nothing in it.
fn silent() -> Reply {
    let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9 } });
    Reply::raw_events(format!("data: {end}\n\ndata: [DONE]\n\n"))
}

fn good() -> Reply {
    Reply::openai_text("{\"n\": 1}")
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = without_a_value();
    rows.extend(refused());
    rows
}

/// Replies in which there is no value.
fn without_a_value() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::MaxTokensReached,
            serve: |request, _| match request.body["max_tokens"].as_u64() {
                Some(64) => Reply::openai_stopped("{\"n\":", "length"),
                _ => good(),
            },
            lay: |case| {
                case.pipeline("model: lab/test, max_output_tokens: 64", ASK);
            },
            says: &["(max_tokens_reached)", "raise `max_output_tokens` of agent `a` (now 64)"],
            mend: |case, _| case.edit("max_output_tokens: 64", "max_output_tokens: 4096"),
            ..ROW
        },
        Row {
            class: FailureClass::Refusal,
            serve: |request, _| {
                if request.system().contains("please") { good() } else { Reply::openai_stopped("", "content_filter") }
            },
            lay: ask,
            says: &["(refusal)", "change the prompt or the task"],
            mend: |case, _| {
                case.orch.edit("prompts/ask.md", "step:", "please step:");
            },
            ..ROW
        },
        Row {
            class: FailureClass::UnknownStop,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => Reply::openai_stopped("{\"n\": 1}", "sleepy"),
                _ => good(),
            },
            lay: ask,
            says: &["(unknown_stop)", "name another model"],
            ways: &[SEE, RESUME],
            mend: |case, _| case.edit("lab/test", "lab/other"),
            ..ROW
        },
        Row {
            class: FailureClass::EmptyReply,
            serve: |request, _| {
                if request.system().contains("text") { good() } else { silent() }
            },
            lay: ask,
            says: &["(empty_reply)", "instruct the model in the prompt to answer in its text"],
            mend: |case, _| {
                case.orch.edit("prompts/ask.md", "step:", "Answer in your text. step:");
            },
            ..ROW
        },
        Row {
            class: FailureClass::NoJson,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => Reply::openai_text("Gladly."),
                _ => good(),
            },
            lay: ask,
            says: &["(no_json)", "a larger model"],
            ways: &[SEE, RESUME],
            mend: |case, _| case.edit("lab/test", "lab/large"),
            ..ROW
        },
    ]
}

/// Replies whose value is not taken.
fn refused() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::SchemaMismatch,
            serve: |_, _| Reply::openai_text("{\"m\": 1}"),
            lay: |case| {
                case.pipeline("model: lab/test", &ASK.replace("schema: any", "schema: s.json"));
                let schema =
                    json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
                case.orch.write("schemas/s.json", &schema.to_string());
            },
            says: &["(schema_mismatch)", "a simpler schema"],
            ways: &[SEE, RESUME],
            mend: |case, _| {
                case.orch.edit("schemas/s.json", "[\"n\"]", "[]");
            },
            ..ROW
        },
        Row {
            class: FailureClass::OutputRejected,
            serve: |_, _| good(),
            lay: |case| {
                let accept = "accept: [{ that: x.n > 1, else: n is too small }], re_ask: 0";
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", accept));
            },
            says: &["(output_rejected)", "correct the prompt or the conditions"],
            ways: &[SEE, RESUME],
            mend: |case, _| case.edit("x.n > 1", "x.n > 0"),
            ..ROW
        },
        // What a step before gave makes the reply one that can't be taken.
        Row {
            class: FailureClass::OutputRejected,
            serve: |request, mended| {
                let other = request.system().contains("plan") && !mended;
                if other { Reply::openai_text("{\"n\": 7}") } else { good() }
            },
            lay: |case| {
                let plan = "  - { id: plan, agent: a, prompt: plan.md, output: plan, schema: any }\n";
                let accept = "inputs: [plan], accept: [{ that: x.n == plan.n, else: n is another one }], re_ask: 0";
                case.pipeline("model: lab/test", &format!("{plan}{}", ASK.replace("re_ask: 0", accept)));
            },
            says: &["(output_rejected)", "edit `plan.json` in the workspace", "run `plan` again"],
            ways: &[SEE, RESUME, "orch pipeline resume RUN --from plan", "orch pipeline resume RUN --accept-changed"],
            mend: |case, command| match command {
                "orch pipeline resume RUN --from plan" => case.mended(),
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
            lay: |case| {
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", "extract: strict, re_ask: 0"));
            },
            says: &["(ambiguous_reply)", "remove `extract: strict` from the step"],
            mend: |case, _| case.edit("extract: strict, ", ""),
            ..ROW
        },
    ]
}

#[test]
fn of_replies() {
    lead_out(&rows());
}
