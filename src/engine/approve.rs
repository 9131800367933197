//! Approval steps: the user approves or rejects.

use serde_json::json;

use crate::durable::{Approval, Interrupt, Wait, WaitOutcome};
use crate::model::step::Outcome;
use crate::model::{Class, Failure, Fingerprint, StepKey};
use crate::template::TemplateError;

use super::compute::takes_long;
use super::conversation::millis;
use super::interpret::{Run, StepResult};
use super::leaf::{Leaf, OpenedStep, part, recipe};
use super::node::{ApproveNode, PlanNode};
use super::scope::ValueScope;

pub(super) async fn run(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    kind: &ApproveNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let rendered = rendered(run, key, node, kind, scope).await?;
    let shown = match rendered {
        Ok(shown) => shown.trim().to_owned(),
        Err(error) => {
            let failure = Failure::new(Class::TemplateError, error.to_string());
            run.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    // An approval is valid only for exactly this text.
    let parts = vec![part("question", &json!(shown))];
    let mut leaf = Leaf::new(run, key, node, recipe_of(&shown, kind, scope), parts);
    let attempt = match leaf.begin(scope).await? {
        OpenedStep::Stands(value) => return Ok(Ok(value)),
        OpenedStep::Run(_, attempt) => attempt,
    };
    leaf.start(attempt).await?;
    let wait = Wait::Approval(Approval { shown, timeout_ms: kind.timeout.map(millis) });
    let result = match run.durable.wait(leaf.call(attempt, 1), wait).await? {
        WaitOutcome::Elapsed => Err(Failure::new(Class::ApprovalTimeout, "nobody answered in time")
            .with_hint("raise `timeout:` of the step, and resume the run to ask again")),
        WaitOutcome::Answered(said) if said.approved || kind.on_reject == Outcome::Continue => {
            Ok(Some(json!({ "approved": said.approved, "note": said.note, "by": said.by })))
        }
        WaitOutcome::Answered(said) => {
            let who =
                if said.by.is_empty() { "it was rejected".to_owned() } else { format!("{} rejected it", said.by) };
            let note = said.note.trim();
            let why = if note.is_empty() { who } else { format!("{who}: {note}") };
            Err(Failure::new(Class::Rejected, why))
        }
    };
    leaf.end(scope, attempt, result).await
}

async fn rendered(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    kind: &ApproveNode,
    scope: &ValueScope,
) -> Result<Result<String, TemplateError>, Interrupt> {
    let templates = &run.plan.templates;
    if !takes_long(scope, [kind.message.as_str()]) {
        return Ok(templates.render_inline(&kind.message, &scope.context(node)));
    }
    let (templates, message, inputs) = (templates.clone(), kind.message.clone(), node.inputs.clone());
    let scope = scope.clone();
    run.compute(key, move || templates.render_inline(&message, &scope.context_of(&inputs))).await
}

/// The fingerprint of an approval. The request covers the shown text and the item; decode covers what a rejection
/// means.
fn recipe_of(shown: &str, kind: &ApproveNode, scope: &ValueScope) -> Fingerprint {
    let mut ask = json!({ "shown": shown });
    if let (Some(ask), Some(item)) = (ask.as_object_mut(), scope.item()) {
        ask.insert("item".to_owned(), item.clone());
    }
    let take = match kind.on_reject {
        Outcome::Fail => json!("approve"),
        Outcome::Continue => json!(["approve", "continue"]),
    };
    recipe(&ask, &take)
}
