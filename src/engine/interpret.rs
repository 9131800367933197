//! Runs a plan: a pure function of the plan, the inputs and recorded outcomes.
//!
//! Everything that touches the world goes through [`Durable`]; nothing here joins, spawns,
//! sleeps or reads a clock, and the future may be dropped at any await.

use serde_json::{Value, json};

use crate::durable::{Begin, BranchEnd, Decided, Durable, Open, Stop};
use crate::model::event::{RunEnded, StepCompleted, StepFailed, StepSkipped};
use crate::model::pipeline::OnError;
use crate::model::{Artifact, Class, Digest, Failure, Recipe, RunStatus, StepKey};

use super::converse::{Conversation, read_reply};
use super::message::{Asked, holds};
use super::plan::{Plan, StepNode, canonical};
use super::scope::Scope;

/// The version of the recipe digests; a new one makes every recorded result stale.
const RECIPE_VERSION: u32 = 1;

/// Runs every step of a plan and says how the run ended.
pub async fn interpret(durable: &dyn Durable, plan: &Plan) -> Result<RunEnded, Stop> {
    let mut scope = Scope::new(plan.inputs.clone());
    let mut halted: Option<&str> = None;
    for step in &plan.steps {
        if let Some(failed) = halted {
            skip(durable, step, &mut scope, format!("step {failed} failed")).await?;
            continue;
        }
        if run_step(durable, plan, step, &mut scope).await? == BranchEnd::Halt {
            halted = Some(&step.id);
        }
    }
    Ok(verdict(plan, &scope))
}

/// A run with a failed step is failed; else `success` decides.
fn verdict(plan: &Plan, scope: &Scope) -> RunEnded {
    if scope.any_failed() {
        return RunEnded { status: RunStatus::Failed, failure: None };
    }
    let Some(expression) = &plan.success else {
        return RunEnded { status: RunStatus::Completed, failure: None };
    };
    match holds(&plan.templates, expression, &scope.everything()) {
        Ok(true) => RunEnded { status: RunStatus::Completed, failure: None },
        Ok(false) => {
            let failure = Failure::new(Class::ExpressionError, format!("`success: {expression}` is false"));
            RunEnded { status: RunStatus::Failed, failure: Some(failure) }
        }
        Err(failure) => RunEnded { status: RunStatus::Failed, failure: Some(failure) },
    }
}

async fn skip(durable: &dyn Durable, step: &StepNode, scope: &mut Scope, reason: String) -> Result<(), Stop> {
    scope.skipped(step, &reason);
    durable.record(Decided::Skipped(StepSkipped { step: StepKey::root(&step.id), reason })).await
}

async fn run_step(durable: &dyn Durable, plan: &Plan, step: &StepNode, scope: &mut Scope) -> Result<BranchEnd, Stop> {
    if let Some(reason) = scope.missing(step) {
        skip(durable, step, scope, reason).await?;
        return Ok(BranchEnd::Done);
    }
    let asked = match prepare(plan, step, scope) {
        Ok(Prepared::Ask(asked)) => asked,
        Ok(Prepared::Skip(reason)) => {
            skip(durable, step, scope, reason).await?;
            return Ok(BranchEnd::Done);
        }
        Err(failure) => return fail(durable, step, scope, 0, failure).await,
    };
    let open = open(step, &asked);
    let (replies, attempt) = match durable.begin(&open).await? {
        Begin::Stands(artifact) => {
            scope.completed(step, artifact.value);
            return Ok(BranchEnd::Done);
        }
        Begin::Reread { replies, attempt } => (replies, attempt),
        Begin::Attempt(attempt) => (Vec::new(), attempt),
    };
    if let Some(value) = replies.iter().find_map(|reply| read_reply(step, reply).ok()) {
        return complete(durable, step, scope, open, attempt, value.value).await;
    }
    let mut conversation = Conversation::new(durable, step, &asked, &open, attempt);
    match conversation.run().await? {
        Ok(value) => {
            let attempt = conversation.attempt();
            complete(durable, step, scope, open, attempt, value).await
        }
        Err(failure) => {
            let attempt = conversation.attempt();
            fail(durable, step, scope, attempt, failure).await
        }
    }
}

enum Prepared {
    Ask(Asked),
    Skip(String),
}

fn prepare(plan: &Plan, step: &StepNode, scope: &Scope) -> Result<Prepared, Failure> {
    if let Some(expression) = &step.when
        && !holds(&plan.templates, expression, &scope.context(step))?
    {
        return Ok(Prepared::Skip(format!("when: {expression} is false")));
    }
    Asked::render(plan, step, scope).map(Prepared::Ask)
}

async fn complete(
    durable: &dyn Durable,
    step: &StepNode,
    scope: &mut Scope,
    open: Open,
    attempt: u32,
    value: Value,
) -> Result<BranchEnd, Stop> {
    let artifact = Artifact::new(&step.output, value, step.contract.is_text());
    let value = artifact.value.clone();
    let fact = StepCompleted { step: open.step, attempt, recipe: open.recipe, artifact };
    durable.record(Decided::Completed(fact)).await?;
    scope.completed(step, value);
    Ok(BranchEnd::Done)
}

async fn fail(
    durable: &dyn Durable,
    step: &StepNode,
    scope: &mut Scope,
    attempt: u32,
    failure: Failure,
) -> Result<BranchEnd, Stop> {
    let stops = step.on_error == OnError::Stop;
    scope.failed(step, &failure);
    durable.record(Decided::Failed(StepFailed { step: StepKey::root(&step.id), attempt, failure, stops })).await?;
    Ok(if stops { BranchEnd::Halt } else { BranchEnd::Done })
}

/// The step with the two digests that determine its result.
fn open(step: &StepNode, asked: &Asked) -> Open {
    let requests: Vec<Value> =
        step.models.iter().map(|model| ask_value(&model.dialect, &asked.request(step, model))).collect();
    let ask = json!({ "version": RECIPE_VERSION, "requests": requests });
    let take = json!({ "version": RECIPE_VERSION, "contract": step.contract.digest(), "strict": step.strict });
    Open {
        step: StepKey::root(&step.id),
        recipe: Recipe { ask: digest(&ask), take: digest(&take) },
        output: step.output.clone(),
        path: step.path(),
    }
}

fn digest(value: &Value) -> Digest {
    Digest::of(canonical(value).as_bytes())
}

/// What is asked, as a value: what the digest of a request is taken of.
pub(super) fn ask_value(dialect: &str, request: &crate::model::ChatRequest) -> Value {
    json!({ "dialect": dialect, "request": request })
}

/// The digest of one request.
pub(super) fn ask_digest(dialect: &str, request: &crate::model::ChatRequest) -> Digest {
    digest(&ask_value(dialect, request))
}
