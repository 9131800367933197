//! Artifacts between steps, and the success of the run.

use orch::model::FailureClass;

use super::{Case, ROW, Row, assert_hints_work};
use crate::support::{ReceivedRequest, Reply};

const SEE: &str = "orch runs show RUN --replies";
const RESUME: &str = "orch pipeline resume RUN";
const FROM_PLAN: &str = "orch pipeline resume RUN --from plan";
const CHANGED: &str = "orch pipeline resume RUN --accept-changed";
const PLAN: &str = "  - { id: plan, agent: a, prompt: plan.md, output: plan, schema: any, re_ask: 0 }\n";

/// A plan whose step is skipped.
const SKIPPED_PLAN: &str =
    "  - { id: plan, when: task == 'other', agent: a, prompt: plan.md, output: plan, schema: any, re_ask: 0 }\n";

/// A plan that changes when the server is repaired, and a step that requires the new one.
fn after_plan(case: &Case, step: &str) {
    case.pipeline("model: lab/test", &format!("{PLAN}{step}"));
}

fn plan_reply(_: &ReceivedRequest, is_repaired: bool) -> Reply {
    Reply::openai_text(if is_repaired { "{\"list\": [1], \"n\": 2}" } else { "{\"list\": 1}" })
}

/// Corrects the plan.
fn correct_plan(case: &Case, command: &str) {
    match command {
        FROM_PLAN => case.repair_server(),
        CHANGED => {
            case.orch.write("workspace/plan.json", "{\"list\": [1], \"n\": 2}");
        }
        _ => {}
    }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = with_wrong_values();
    rows.extend(with_missing_values());
    rows.extend(of_whole_runs());
    rows
}

/// Values that a template or expression can't use.
fn with_wrong_values() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::TemplateError,
            serve: plan_reply,
            setup: |case| after_plan(case, "  - { id: say, inputs: [plan], run: \"echo {{ plan.n + 1 }}\" }\n"),
            says: &["(template_error)", "correct the template", "edit `plan.json`"],
            commands: &[RESUME, CHANGED, FROM_PLAN],
            repair: |case, command| match command {
                RESUME => case.edit("plan.n + 1", "plan.list"),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
        Row {
            class: FailureClass::ExpressionError,
            serve: plan_reply,
            setup: |case| {
                after_plan(
                    case,
                    "  - { id: each, inputs: [plan], for_each: plan.list, max_parallel: 1, run: \"echo {{ item }}\", output: said }\n",
                );
            },
            says: &["(expression_error)", "correct the expression in the pipeline file", "edit `plan.json`"],
            commands: &[RESUME, CHANGED, FROM_PLAN],
            repair: |case, command| match command {
                RESUME => case.edit("for_each: plan.list", "for_each: \"[plan.list]\""),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
        Row {
            class: FailureClass::ToolFailed,
            setup: |case| {
                case.pipeline("model: lab/test", "  - { id: look, call: read, args: { path: notes.md } }\n");
            },
            says: &["(tool_failed)", "`read` failed: "],
            commands: &[SEE, RESUME],
            repair: |case, _| case.edit("call: read, args: { path: notes.md }", "call: list"),
            ..ROW
        },
        // Another artifact of the step has nothing to do with the failure.
        Row {
            class: FailureClass::TemplateError,
            serve: plan_reply,
            setup: |case| {
                let other = "  - { id: other, run: [echo, x], output: other, schema: text }\n";
                let say = "  - { id: say, inputs: [other, plan], run: \"echo {{ other }} {{ plan.n + 1 }}\" }\n";
                after_plan(case, &format!("{other}{say}"));
            },
            says: &["(template_error)", "`plan.n` is undefined"],
            commands: &[RESUME, CHANGED, FROM_PLAN],
            repair: |case, command| match command {
                RESUME => case.edit("plan.n + 1", "plan.list"),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
    ]
}

/// Artifacts that do not exist.
fn with_missing_values() -> Vec<Row> {
    vec![
        // The step of the artifact is skipped, and would be skipped again.
        Row {
            class: FailureClass::ExpressionError,
            setup: |case| {
                case.pipeline("model: lab/test", &format!("{SKIPPED_PLAN}outputs:\n  n: plan.n\n"));
            },
            says: &["(expression_error)", "`plan` is undefined", "`… if plan is defined else …`"],
            repair: |case, _| case.edit("n: plan.n", "n: plan.n if plan is defined else 0"),
            ..ROW
        },
        Row {
            class: FailureClass::ExpressionError,
            setup: |case| {
                let say = "  - { id: say, inputs: [\"plan?\"], when: plan.n > 1, run: \"true\" }\n";
                case.pipeline("model: lab/test", &format!("{SKIPPED_PLAN}{say}"));
            },
            says: &["(expression_error)", "`plan` is undefined", "`plan is defined and …`"],
            repair: |case, _| case.edit("plan.n > 1", "plan is defined and plan.n > 1"),
            ..ROW
        },
        Row {
            class: FailureClass::TemplateError,
            setup: |case| {
                let say = "  - { id: say, inputs: [\"plan?\"], run: \"echo {{ plan.n }}\" }\n";
                case.pipeline("model: lab/test", &format!("{SKIPPED_PLAN}{say}"));
            },
            says: &["(template_error)", "`plan` is undefined", "`{% if plan is defined %}…{% endif %}`"],
            repair: |case, _| case.edit("{{ plan.n }}", "{% if plan is defined %}{{ plan.n }}{% endif %}"),
            ..ROW
        },
        // The first iteration has no previous iteration.
        Row {
            class: FailureClass::TemplateError,
            setup: |case| {
                let say = "  - { id: say, run: \"echo {{ loop.previous.plan.n }}\" }\n";
                let body = format!("{say}{PLAN}").replace("  - ", "        - ");
                let rounds = format!("  - id: rounds\n    repeat:\n      max: 2\n      steps:\n{body}");
                case.pipeline("model: lab/test", &rounds);
            },
            says: &[
                "(template_error)",
                "`loop.previous.plan` is undefined",
                "`{% if loop.previous.plan is defined %}…{% endif %}`",
            ],
            repair: |case, _| {
                let guarded = "{% if loop.previous.plan is defined %}{{ loop.previous.plan.n }}{% endif %}";
                case.edit("{{ loop.previous.plan.n }}", guarded);
            },
            ..ROW
        },
    ]
}

/// The end of a pipeline or of a loop.
fn of_whole_runs() -> Vec<Row> {
    vec![
        // The final expression of the pipeline can't be evaluated.
        Row {
            class: FailureClass::ExpressionError,
            serve: plan_reply,
            setup: |case| {
                case.pipeline("model: lab/test", &format!("{PLAN}outputs:\n  n: plan.n + 1\n"));
            },
            says: &["(expression_error)", "correct the pipeline file"],
            commands: &[RESUME, FROM_PLAN],
            repair: |case, command| match command {
                RESUME => case.edit("plan.n + 1", "plan.list"),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
        Row {
            class: FailureClass::SuccessConditionFalse,
            serve: plan_reply,
            setup: |case| {
                case.pipeline("model: lab/test", &format!("{PLAN}success: plan.n is defined\n"));
            },
            says: &["(success_condition_false)", "correct the pipeline file"],
            commands: &[RESUME, FROM_PLAN],
            repair: |case, command| match command {
                RESUME => case.edit("plan.n is defined", "plan.list is defined"),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
        Row {
            class: FailureClass::MaxIterationsReached,
            serve: plan_reply,
            setup: |case| {
                let body = PLAN.replace("  - ", "        - ");
                let step = format!(
                    "  - id: rounds\n    repeat:\n      until: plan.n is defined\n      max: 1\n      steps:\n{body}"
                );
                case.pipeline("model: lab/test", &step);
            },
            says: &["(max_iterations_reached)", "raise `max:`", "`on_max_iterations: continue`"],
            commands: &[RESUME, "orch pipeline resume RUN --from rounds"],
            repair: |case, command| {
                if command == RESUME {
                    case.edit("max: 1", "max: 2");
                }
                case.repair_server();
            },
            ..ROW
        },
        Row {
            class: FailureClass::MaxIterationsReached,
            serve: plan_reply,
            setup: |case| {
                let body = PLAN.replace("  - ", "        - ");
                let step = format!(
                    "  - id: rounds\n    repeat:\n      until: plan.n is defined\n      max: 1\n      steps:\n{body}"
                );
                case.pipeline("model: lab/test", &step);
            },
            says: &["(max_iterations_reached)", "`on_max_iterations: continue`"],
            commands: &[RESUME, "orch pipeline resume RUN --from rounds"],
            repair: |case, _| case.edit("max: 1", "max: 1\n      on_max_iterations: continue"),
            ..ROW
        },
    ]
}

#[test]
fn hints_about_steps_work() {
    assert_hints_work(&rows());
}
