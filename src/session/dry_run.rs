//! Predicts the actions of a resume without executing them.

use futures_util::FutureExt as _;

use crate::engine::{self, Plan};
use crate::model::StepKey;
use crate::model::event::Event;
use crate::store::{DryRunDurable, StepPrediction, removed_steps};

use super::error::SessionError;

/// The action that a resume would take for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedAction {
    /// The step.
    pub step: StepKey,
    /// The action.
    pub action: DryRunAction,
    /// The reason for the action; may be empty.
    pub reason: String,
}

/// An action of a resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRunAction {
    /// The recorded result is reused.
    Reuse,
    /// The step runs.
    Run,
    /// Whether the step runs depends on the results of steps that run before it.
    MaybeRun,
    /// The step is skipped.
    Skip,
    /// The pipeline no longer has the step.
    Removed,
}

/// The actions of a resume: first for the steps of the plan, then for those that the files no longer have.
pub(crate) fn planned_actions(
    plan: &Plan,
    events: &[Event],
    from: Option<&StepKey>,
) -> Result<Vec<PlannedAction>, SessionError> {
    let dry_run = DryRunDurable::new(events, from);
    interpret_recorded(&dry_run, plan)?;
    let planned: Vec<StepKey> = plan.planned_steps().into_iter().map(|step| step.step).collect();
    let predictions = dry_run.predictions().into_iter().map(|(step, prediction)| {
        let (action, reason) = match prediction {
            StepPrediction::Reuse => (DryRunAction::Reuse, String::new()),
            StepPrediction::Run(reason) => (DryRunAction::Run, reason),
            StepPrediction::MaybeRun(reason) => (DryRunAction::MaybeRun, reason),
            StepPrediction::Skip(reason) => (DryRunAction::Skip, reason),
        };
        PlannedAction { step, action, reason }
    });
    let removed = removed_steps(events, &planned).into_iter().map(|step| PlannedAction {
        step,
        action: DryRunAction::Removed,
        reason: "the files no longer have it".to_owned(),
    });
    Ok(predictions.chain(removed).collect())
}

/// Interprets a plan with recorded results only, which never waits.
pub(crate) fn interpret_recorded(dry_run: &DryRunDurable, plan: &Plan) -> Result<(), SessionError> {
    let result = engine::interpret(dry_run, plan).now_or_never();
    let result = result.ok_or_else(|| SessionError::internal("the dry run waited"))?;
    result.map(drop).map_err(|interrupt| SessionError::internal(format!("the dry run was interrupted: {interrupt}")))
}
