//! What steps give to one another, and what the run makes of it.

use orch::model::FailureClass;

use super::{Case, ROW, Row, lead_out};
use crate::support::{Recorded, Reply};

const RESUME: &str = "orch pipeline resume RUN";
const FROM_PLAN: &str = "orch pipeline resume RUN --from plan";
const CHANGED: &str = "orch pipeline resume RUN --accept-changed";
const PLAN: &str = "  - { id: plan, agent: a, prompt: plan.md, output: plan, schema: any, re_ask: 0 }\n";

/// A plan that changes when the server is mended, and a step that needs another one.
fn after_plan(case: &Case, step: &str) {
    case.pipeline("model: lab/test", &format!("{PLAN}{step}"));
}

fn planned(_: &Recorded, mended: bool) -> Reply {
    Reply::openai_text(if mended { "{\"list\": [1], \"n\": 2}" } else { "{\"list\": 1}" })
}

/// The plan is corrected.
fn correct_plan(case: &Case, command: &str) {
    match command {
        FROM_PLAN => case.mended(),
        CHANGED => {
            case.orch.write("workspace/plan.json", "{\"list\": [1], \"n\": 2}");
        }
        _ => {}
    }
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::TemplateError,
            serve: planned,
            lay: |case| after_plan(case, "  - { id: say, inputs: [plan], run: \"echo {{ plan.n + 1 }}\" }\n"),
            says: &["(template_error)", "correct the template", "edit `plan.json`"],
            ways: &[RESUME, CHANGED, FROM_PLAN],
            mend: |case, command| match command {
                RESUME => case.edit("plan.n + 1", "plan.list"),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
        Row {
            class: FailureClass::ExpressionError,
            serve: planned,
            lay: |case| {
                after_plan(
                    case,
                    "  - { id: each, inputs: [plan], for_each: plan.list, max_parallel: 1, run: \"echo {{ item }}\", output: said }\n",
                );
            },
            says: &["(expression_error)", "correct the expression in the pipeline file", "edit `plan.json`"],
            ways: &[RESUME, CHANGED, FROM_PLAN],
            mend: |case, command| match command {
                RESUME => case.edit("for_each: plan.list", "for_each: \"[plan.list]\""),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
        // The last word of the pipeline can't be evaluated.
        Row {
            class: FailureClass::ExpressionError,
            serve: planned,
            lay: |case| {
                case.pipeline("model: lab/test", &format!("{PLAN}outputs:\n  n: plan.n + 1\n"));
            },
            says: &["(expression_error)", "correct the pipeline file"],
            ways: &[RESUME, FROM_PLAN],
            mend: |case, command| match command {
                RESUME => case.edit("plan.n + 1", "plan.list"),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
        Row {
            class: FailureClass::SuccessConditionFalse,
            serve: planned,
            lay: |case| {
                case.pipeline("model: lab/test", &format!("{PLAN}success: plan.n is defined\n"));
            },
            says: &["(success_condition_false)", "correct the pipeline file"],
            ways: &[RESUME, FROM_PLAN],
            mend: |case, command| match command {
                RESUME => case.edit("plan.n is defined", "plan.list is defined"),
                _ => correct_plan(case, command),
            },
            ..ROW
        },
        Row {
            class: FailureClass::MaxIterationsReached,
            serve: planned,
            lay: |case| {
                let body = PLAN.replace("  - ", "        - ");
                let step = format!(
                    "  - id: rounds\n    repeat:\n      until: plan.n is defined\n      max: 1\n      steps:\n{body}"
                );
                case.pipeline("model: lab/test", &step);
            },
            says: &["(max_iterations_reached)", "raise `max:`", "`on_max_iterations: continue`"],
            ways: &[RESUME, "orch pipeline resume RUN --from rounds"],
            mend: |case, command| {
                if command == RESUME {
                    case.edit("max: 1", "max: 2");
                }
                case.mended();
            },
            ..ROW
        },
        Row {
            class: FailureClass::MaxIterationsReached,
            serve: planned,
            lay: |case| {
                let body = PLAN.replace("  - ", "        - ");
                let step = format!(
                    "  - id: rounds\n    repeat:\n      until: plan.n is defined\n      max: 1\n      steps:\n{body}"
                );
                case.pipeline("model: lab/test", &step);
            },
            says: &["(max_iterations_reached)", "`on_max_iterations: continue`"],
            ways: &[RESUME, "orch pipeline resume RUN --from rounds"],
            mend: |case, _| case.edit("max: 1", "max: 1\n      on_max_iterations: continue"),
            ..ROW
        },
    ]
}

#[test]
fn of_steps() {
    lead_out(&rows());
}
