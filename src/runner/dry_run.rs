//! Predicts the actions of a resume without executing them.

use futures_util::FutureExt as _;

use crate::engine::{self, Plan};
use crate::model::StepKey;
use crate::model::event::Event;
use crate::store::{DryRunDurable, PredictedAction, removed_steps};

use super::error::RunnerError;

/// The action that orch predicts for a step of a resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictedStepAction {
    /// The step.
    pub step: StepKey,
    /// The action.
    pub action: PredictedActionKind,
    /// The reason for the action. May be empty.
    pub reason: String,
}

/// What a resume would do with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictedActionKind {
    /// orch reuses the recorded result.
    Reuse,
    /// orch runs the step.
    Run,
    /// orch runs or reuses the step, depending on the results of earlier steps.
    MaybeRun,
    /// orch skips the step.
    Skip,
    /// The step fails again without a call, because its last call may have changed something.
    Fail,
    /// The pipeline no longer contains the step.
    Removed,
}

/// Predicts the actions of a resume: first for the steps of the plan, then for the recorded steps that the pipeline no
/// longer contains.
pub(crate) fn predict_actions(
    plan: &Plan,
    events: &[Event],
    from_step: Option<&StepKey>,
) -> Result<Vec<PredictedStepAction>, RunnerError> {
    let dry_run = DryRunDurable::new(events, from_step);
    interpret_recorded(&dry_run, plan)?;
    let planned: Vec<StepKey> = plan.planned_steps().into_iter().map(|step| step.step).collect();
    let predictions = dry_run.predictions().into_iter().map(|(step, prediction)| {
        let (action, reason) = match prediction {
            PredictedAction::Reuse => (PredictedActionKind::Reuse, String::new()),
            PredictedAction::Run(reason) => (PredictedActionKind::Run, reason),
            PredictedAction::MaybeRun(reason) => (PredictedActionKind::MaybeRun, reason),
            PredictedAction::Skip(reason) => (PredictedActionKind::Skip, reason),
            PredictedAction::Fail(reason) => (PredictedActionKind::Fail, reason),
        };
        PredictedStepAction { step, action, reason }
    });
    let removed = removed_steps(events, &planned).into_iter().map(|step| PredictedStepAction {
        step,
        action: PredictedActionKind::Removed,
        reason: "the pipeline no longer contains it".to_owned(),
    });
    Ok(predictions.chain(removed).collect())
}

/// Interprets a plan with recorded results only. This never waits.
pub(crate) fn interpret_recorded(dry_run: &DryRunDurable, plan: &Plan) -> Result<(), RunnerError> {
    let result = engine::interpret(dry_run, plan).now_or_never();
    let result = result.ok_or_else(|| RunnerError::internal("the dry run waited"))?;
    result.map(drop).map_err(|interrupt| RunnerError::internal(format!("the dry run was interrupted: {interrupt}")))
}
