//! Approval steps: orch shows a text, and the user approves or rejects it.

use serde_json::json;

use crate::durable::{ApprovalRequest, Interrupt, Wait, WaitOutcome};
use crate::model::event::PartKind;
use crate::model::step::Outcome;
use crate::model::{Failure, FailureClass, Fingerprint, StepKey};
use crate::template::TemplateError;

use super::compute::takes_long;
use super::conversation::millis;
use super::interpret::{Interpreter, StepResult};
use super::node::{ApproveNode, PlanNode};
use super::scope::ValueScope;
use super::step_execution::{FIRST_CALL, StepExecution, StepStart, compute_fingerprint, fingerprint_part};
use super::template_failure::template_failure;

pub(super) async fn run(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    approve_node: &ApproveNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let rendered = render_message(interpreter, key, node, approve_node, scope).await?;
    let question = match rendered {
        Ok(question) => question.trim().to_owned(),
        Err(error) => {
            let failure = template_failure(error);
            interpreter.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    // An approval is valid only for exactly this text, so the text is part of the fingerprint.
    let parts = vec![fingerprint_part(PartKind::Question, &json!(question))];
    let mut execution =
        StepExecution::new(interpreter, key, node, approval_fingerprint(&question, approve_node, scope), parts);
    let attempt = match execution.begin(scope).await? {
        StepStart::Reusable(value) => return Ok(Ok(value)),
        StepStart::Run(_, attempt) => attempt,
    };
    execution.record_start(attempt).await?;
    let wait = Wait::Approval(ApprovalRequest { text: question, timeout_ms: approve_node.timeout.map(millis) });
    let result = match interpreter.durable.wait(execution.call_key(attempt, FIRST_CALL), wait).await? {
        WaitOutcome::Elapsed => Err(Failure::new(FailureClass::ApprovalTimeout, "no answer arrived in time")
            .with_hint("raise `timeout:` of the step, and resume the run to ask again")),
        WaitOutcome::Answered(answer) if answer.approved || approve_node.on_reject == Outcome::Continue => {
            Ok(Some(json!({ "approved": answer.approved, "note": answer.note, "by": answer.by })))
        }
        WaitOutcome::Answered(answer) => {
            let rejection =
                if answer.by.is_empty() { "it was rejected".to_owned() } else { format!("{} rejected it", answer.by) };
            let note = answer.note.trim();
            let message = if note.is_empty() { rejection } else { format!("{rejection}: {note}") };
            Err(Failure::new(FailureClass::Rejected, message))
        }
    };
    execution.finish(scope, attempt, result).await
}

async fn render_message(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    approve_node: &ApproveNode,
    scope: &ValueScope,
) -> Result<Result<String, TemplateError>, Interrupt> {
    let templates = &interpreter.plan.templates;
    if !takes_long(scope, [approve_node.message.as_str()]) {
        return Ok(templates.render_inline(&approve_node.message, &scope.context(node)));
    }
    let (templates, message, inputs) = (templates.clone(), approve_node.message.clone(), node.inputs.clone());
    let scope = scope.snapshot();
    interpreter.compute(key, move || templates.render_inline(&message, &scope.context_for_inputs(&inputs))).await
}

/// The fingerprint of an approval. The request digest covers the text that is shown and the item; the decode digest
/// covers `on_reject`.
fn approval_fingerprint(question: &str, approve_node: &ApproveNode, scope: &ValueScope) -> Fingerprint {
    let mut request = json!({ "shown": question });
    if let (Some(request), Some(item)) = (request.as_object_mut(), scope.item()) {
        request.insert("item".to_owned(), item.clone());
    }
    let decode = match approve_node.on_reject {
        Outcome::Fail => json!("approve"),
        Outcome::Continue => json!(["approve", "continue"]),
    };
    compute_fingerprint(&request, &decode)
}
