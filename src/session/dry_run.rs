//! Predicts what resuming a run would do, without doing it.

use futures_util::FutureExt as _;

use crate::engine::{self, Plan};
use crate::model::StepKey;
use crate::model::event::Event;
use crate::store::{DryRunDurable, StepPrediction, gone};

use super::error::SessionError;

/// What a resume would do with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedAction {
    /// The step.
    pub step: StepKey,
    /// What would happen to it.
    pub action: DryRunAction,
    /// Why; empty when there is nothing to say.
    pub why: String,
}

/// What a resume would do.
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

/// What a resume would do with each step: first the steps of the plan, then those that the files no longer have.
pub(crate) fn actions(
    plan: &Plan,
    events: &[Event],
    from: Option<&StepKey>,
) -> Result<Vec<PlannedAction>, SessionError> {
    let rehearsal = DryRunDurable::new(events, from);
    interpret_recorded(&rehearsal, plan)?;
    let planned: Vec<StepKey> = plan.announced().into_iter().map(|step| step.step).collect();
    let fates = rehearsal.fates().into_iter().map(|(step, fate)| {
        let (action, why) = match fate {
            StepPrediction::Keep => (DryRunAction::Reuse, String::new()),
            StepPrediction::Run(why) => (DryRunAction::Run, why),
            StepPrediction::Maybe(why) => (DryRunAction::MaybeRun, why),
            StepPrediction::Skip(why) => (DryRunAction::Skip, why),
        };
        PlannedAction { step, action, why }
    });
    let removed = gone(events, &planned).into_iter().map(|step| PlannedAction {
        step,
        action: DryRunAction::Removed,
        why: "the files no longer have it".to_owned(),
    });
    Ok(fates.chain(removed).collect())
}

/// Interprets a plan with recorded results only, so that nothing has to wait.
pub(crate) fn interpret_recorded(rehearsal: &DryRunDurable, plan: &Plan) -> Result<(), SessionError> {
    let ended = engine::interpret(rehearsal, plan).now_or_never();
    let ended = ended.ok_or_else(|| SessionError::internal("the dry run waited for something"))?;
    ended.map(drop).map_err(|stop| SessionError::internal(format!("the dry run stopped: {stop}")))
}
