//! Approval steps: a person says yes or no.

use serde_json::json;

use crate::durable::{Answer, Approval, Stop, Wait};
use crate::model::step::Outcome;
use crate::model::{Class, Failure, Recipe, StepKey};
use crate::template::TemplateError;

use super::compute::takes_long;
use super::converse::millis;
use super::interpret::{Given, Run};
use super::leaf::{Leaf, Opened, part, recipe};
use super::node::{ApproveNode, Node};
use super::scope::Scope;

pub(super) async fn run(
    run: Run<'_>,
    key: &StepKey,
    node: &Node,
    kind: &ApproveNode,
    scope: &mut Scope,
) -> Result<Given, Stop> {
    let rendered = rendered(run, key, node, kind, scope).await?;
    let shown = match rendered {
        Ok(shown) => shown.trim().to_owned(),
        Err(error) => {
            let failure = Failure::new(Class::TemplateError, error.to_string());
            run.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    // A yes is a yes to exactly this.
    let parts = vec![part("question", &json!(shown))];
    let mut leaf = Leaf::new(run, key, node, recipe_of(&shown, kind, scope), parts);
    let attempt = match leaf.begin(scope).await? {
        Opened::Stands(value) => return Ok(Ok(value)),
        Opened::Run(_, attempt) => attempt,
    };
    leaf.start(attempt).await?;
    let wait = Wait::Approval(Approval { shown, timeout_ms: kind.timeout.map(millis) });
    let result = match run.durable.wait(leaf.call(attempt, 1), wait).await? {
        Answer::Elapsed => Err(Failure::new(Class::ApprovalTimeout, "nobody answered in time")
            .with_hint("raise `timeout:` of the step, and resume the run to ask again")),
        Answer::Said(said) if said.approved || kind.on_reject == Outcome::Continue => {
            Ok(Some(json!({ "approved": said.approved, "note": said.note, "by": said.by })))
        }
        Answer::Said(said) => {
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
    node: &Node,
    kind: &ApproveNode,
    scope: &Scope,
) -> Result<Result<String, TemplateError>, Stop> {
    let templates = &run.plan.templates;
    if !takes_long(scope, [kind.message.as_str()]) {
        return Ok(templates.render_inline(&kind.message, &scope.context(node)));
    }
    let (templates, message, inputs) = (templates.clone(), kind.message.clone(), node.inputs.clone());
    let scope = scope.clone();
    run.compute(key, move || templates.render_inline(&message, &scope.context_of(&inputs))).await
}

/// A yes is a yes to what was shown, of one item; what a no means is taken of it.
fn recipe_of(shown: &str, kind: &ApproveNode, scope: &Scope) -> Recipe {
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
