//! Which events must be on disk before the run continues.
//!
//! Every outcome is committed before the run continues, so it survives a kill of the process. Only a power failure can
//! lose a commit that is not synced, and only until the next sync. So orch syncs at once what something outside of the
//! journal depends on: the start of a call that costs money or changes something, effects that it must not repeat, the
//! ends of steps, whose files follow, and answers of the user. In a sequence of steps, the end of one step and the start
//! of the next call are one commit, so each step waits for the disk once.

use crate::model::effect::CallKind;
use crate::model::event::Fact;

/// Whether an event must be on disk before the run continues.
pub(super) fn needs_sync(fact: &Fact) -> bool {
    match fact {
        // A resume derives these events again from the recorded outcomes.
        Fact::StepStarted(_) | Fact::StepSkipped(_) | Fact::ReplyParsed(_) => false,
        // The record of a file must be durable before orch writes the file.
        Fact::StepReused(fact) => fact.renamed_artifact.is_some(),
        // Otherwise a request that was sent would not count against a budget.
        Fact::CallStarted(fact) => fact.kind.properties().awaits_start_record,
        Fact::CallEnded(_)
        | Fact::RunStarted(_)
        | Fact::RunResumed(_)
        | Fact::StepCompleted(_)
        | Fact::StepFailed(_)
        | Fact::RunEnded(_)
        | Fact::ArtifactAccepted(_)
        | Fact::ApprovalAsked(_)
        | Fact::ApprovalAnswered(_)
        | Fact::ToolsListed(_)
        | Fact::CancelRequested(_)
        | Fact::BudgetRaised(_) => true,
    }
}

/// Whether a resume may make a call of this kind again although it has ended, if a power failure loses its outcome.
pub(super) fn may_repeat(kind: CallKind) -> bool {
    match kind {
        CallKind::Request | CallKind::Command => true,
        // A turn changes files, and orch must know which. A snapshot contains the files that the next call replaces.
        CallKind::Turn | CallKind::Snapshot | CallKind::Apply => false,
        // The steps of a called pipeline that failed would run again.
        CallKind::Pipeline => false,
        // Of these, only calls that may change something wait for the record of their start.
        CallKind::Tool(_) | CallKind::McpTool(_) => !kind.properties().awaits_start_record,
    }
}
