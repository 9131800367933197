//! Budgets and limits of size.

use orch::model::FailureClass;
use serde_json::json;

use super::{Case, ROW, Row, assert_hints_work};
use crate::support::Reply;

const ASK: &str = "  - { id: ask, agent: a, prompt: ask.md, output: x, schema: any, re_ask: 0, retry: { max: 1 } }\n";

/// Sets a budget of the run, and a price of the model.
fn pipeline_with_budget(case: &Case, budget: &str, steps: &str) {
    case.pipeline("model: dear, max_output_tokens: 1000", steps);
    case.edit("name: test\n", &format!("name: test\nbudget: {{ {budget} }}\n"));
    case.orch.edit(
        "orch.yaml",
        "defaults: { model: lab/test }",
        "models: { dear: { model: lab/test, input_price: 10, output_price: 50 } }\ndefaults: { model: dear }",
    );
}

/// A reply without usage.
fn reply_without_usage() -> Reply {
    let chunk = |delta, end| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": end }] });
    let events = [chunk(json!({ "content": "1" }), json!(null)), chunk(json!({}), json!("stop"))];
    let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Reply::raw_events(text + "data: [DONE]\n\n")
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::BudgetExceeded,
            setup: |case| pipeline_with_budget(case, "tokens: 10", ASK),
            says: &["(budget_exceeded)", "raise `tokens` of the budget"],
            commands: &["orch pipeline resume RUN --budget tokens=LIMIT"],
            ..ROW
        },
        Row {
            class: FailureClass::BudgetExceeded,
            setup: |case| pipeline_with_budget(case, "usd: 0.001", ASK),
            says: &["(budget_exceeded)", "raise `usd` of the budget"],
            commands: &["orch pipeline resume RUN --budget usd=LIMIT"],
            ..ROW
        },
        Row {
            class: FailureClass::BudgetExceeded,
            setup: |case| pipeline_with_budget(case, "seconds: 1", &format!("  - {{ id: slow, run: sleep 2 }}\n{ASK}")),
            says: &["(budget_exceeded)", "raise `seconds` of the budget"],
            commands: &["orch pipeline resume RUN --budget seconds=LIMIT"],
            ..ROW
        },
        // The budget of a step has no flag, so the user raises it in the file.
        Row {
            class: FailureClass::BudgetExceeded,
            setup: |case| {
                case.pipeline("model: lab/test", &ASK.replace("re_ask: 0", "budget: { tokens: 10 }, re_ask: 0"));
            },
            says: &["(budget_exceeded)", "raise `tokens` of the budget, for example to "],
            repair: |case, _| case.edit("tokens: 10", "tokens: 900000"),
            ..ROW
        },
        Row {
            class: FailureClass::UsageUnknown,
            serve: |_, _| reply_without_usage(),
            setup: |case| pipeline_with_budget(case, "tokens: 100000, unreported: refuse", ASK),
            says: &["(usage_unknown)", "set `unreported: estimate` in the budget"],
            repair: |case, _| case.edit("unreported: refuse", "unreported: estimate"),
            ..ROW
        },
        Row {
            class: FailureClass::UsageUnknown,
            serve: |request, _| match request.body["model"].as_str() {
                Some("test") => reply_without_usage(),
                _ => Reply::openai_text("1"),
            },
            setup: |case| {
                pipeline_with_budget(case, "usd: 1, unpriced: allow", ASK);
                case.edit("unpriced: allow", "unreported: refuse");
            },
            says: &["(usage_unknown)", "set `unreported: estimate` in the budget"],
            repair: |case, _| case.edit("unreported: refuse", "unreported: estimate"),
            ..ROW
        },
        Row {
            class: FailureClass::OutputTooLarge,
            setup: |case| {
                let step =
                    "  - { id: loud, run: \"head -c 30000000 /dev/zero | tr '\\\\0' x\", output: x, schema: text }\n";
                case.pipeline("model: lab/test", step);
            },
            says: &["(output_too_large)", "write less to standard output"],
            repair: |case, _| case.edit("30000000", "3000"),
            ..ROW
        },
        Row {
            class: FailureClass::SandboxLimit,
            setup: |case| {
                let sandbox = "sandbox: { min: none, limits: { file_size: 1MiB } }";
                let step = format!("  - {{ id: big, run: head -c 3000000 /dev/zero > big, {sandbox} }}\n");
                case.pipeline("model: lab/test", &step);
            },
            says: &["(sandbox_limit)", "1 MiB in one file", "raise the limit under `limits` of the sandbox"],
            repair: |case, _| case.edit("1MiB", "9MiB"),
            ..ROW
        },
    ]
}

#[test]
fn hints_about_limits_work() {
    assert_hints_work(&rows());
}
