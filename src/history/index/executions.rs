//! Which ends of a step count as the same write into the workspace.
//!
//! The fingerprints of steps that see the workspace contain the ids of the executions that wrote before them. An execution
//! with the same request as the one before it has the id of that one, if it made no call that may have changed the
//! workspace, or if it ended in the same way. So a step that fails again in each session does not make the later steps run
//! again.

use std::collections::{HashMap, HashSet};

use crate::model::effect::CallKind;
use crate::model::event::{CallEnded, Fact};
use crate::model::{CallKey, Digest, FailureClass, StepKey};

/// The ids of the executions of steps.
#[derive(Default)]
pub(super) struct Executions {
    /// The ids of ends, by the `seq` of their events. The id of any other end is its `seq`.
    ids: HashMap<u64, u64>,
    last_ends: HashMap<StepKey, ExecutionEnd>,
    /// The calls that may change the workspace and have not ended.
    open_calls: HashMap<CallKey, CallKind>,
    /// The steps with calls since their last end that may have changed the workspace.
    writing_steps: HashSet<StepKey>,
}

/// The end of an execution.
pub(super) struct ExecutionEnd {
    /// The `seq` of its event.
    pub(super) seq: u64,
    /// The digest of the request of the step.
    pub(super) request: Digest,
    pub(super) outcome: ExecutionOutcome,
}

/// How an execution ended.
#[derive(PartialEq)]
pub(super) enum ExecutionOutcome {
    /// It completed, with an artifact of this digest, if it has one.
    Completed(Option<Digest>),
    /// It failed, with this class and this message.
    Failed(FailureClass, String),
}

impl Executions {
    /// The id of the execution whose end has this `seq`.
    pub(super) fn id(&self, seq: u64) -> u64 {
        self.ids.get(&seq).copied().unwrap_or(seq)
    }

    /// The id of the last execution of a step, if its request was the same and the user does not want it to run again.
    pub(super) fn last_id(
        &self,
        step: &StepKey,
        request: &Digest,
        runs_again_since: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let last = self.last_ends.get(step).filter(|last| last.request == *request && !runs_again_since(last.seq))?;
        Some(self.id(last.seq))
    }

    /// Replaces the id of an execution whose files the user deleted or reverted: the loss counts as a new write.
    pub(super) fn renew(&mut self, seq: u64, id: u64) {
        self.ids.insert(seq, id);
    }

    /// Notes a call that may change the workspace.
    pub(super) fn note_call(&mut self, fact: &Fact) {
        match fact {
            Fact::CallStarted(started) if may_change_workspace(started.kind) => {
                self.open_calls.insert(started.call.clone(), started.kind);
            }
            Fact::CallEnded(ended) => {
                let has_changed =
                    self.open_calls.remove(&ended.call).is_some_and(|kind| may_have_changed_workspace(kind, ended));
                if has_changed {
                    let step = &ended.call.step;
                    self.writing_steps.extend(step.ancestors().into_iter().chain([step.clone()]));
                }
            }
            _ => {}
        }
    }

    /// Notes the end of an execution. `runs_again_since` is whether the user wanted the step to run again after the event
    /// with a `seq`.
    pub(super) fn end(&mut self, step: &StepKey, end: ExecutionEnd, runs_again_since: impl Fn(u64) -> bool) {
        let has_written = self.take_writes(step);
        let is_repeated = |last: &&ExecutionEnd| {
            let is_same_write = !has_written || last.outcome == end.outcome;
            last.request == end.request && is_same_write && !runs_again_since(last.seq)
        };
        let repeated = self.last_ends.get(step).filter(is_repeated).map(|last| self.id(last.seq));
        if let Some(id) = repeated {
            self.ids.insert(end.seq, id);
        }
        self.last_ends.insert(step.clone(), end);
    }

    /// Whether a step has made calls since its last end that may have changed the workspace. A call without an end, which
    /// was interrupted, may have.
    fn take_writes(&mut self, step: &StepKey) -> bool {
        let is_of_step = |call: &CallKey| call.step == *step || call.step.is_within(step);
        let has_open_call = self.open_calls.keys().any(is_of_step);
        if has_open_call {
            self.open_calls.retain(|call, _| !is_of_step(call));
        }
        self.writing_steps.remove(step) || has_open_call
    }
}

/// Whether calls of this kind may change the workspace.
fn may_change_workspace(kind: CallKind) -> bool {
    let properties = kind.properties();
    kind == CallKind::Apply || properties.workspace.runs_program() || properties.keeps_turn_start
}

/// Whether a call that may change the workspace may have done so. orch compares the files only around calls that keep the
/// start of their turn.
fn may_have_changed_workspace(kind: CallKind, ended: &CallEnded) -> bool {
    match ended.activity() {
        _ if !kind.properties().keeps_turn_start => true,
        Some(activity) => activity.may_have_changed_files(),
        None => ended.failure.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(seq: u64, request: &str, message: &str) -> ExecutionEnd {
        let outcome = ExecutionOutcome::Failed(FailureClass::CommandFailed, message.to_owned());
        ExecutionEnd { seq, request: Digest::compute(request.as_bytes()), outcome }
    }

    fn completed(seq: u64, request: &str) -> ExecutionEnd {
        let outcome = ExecutionOutcome::Completed(None);
        ExecutionEnd { seq, request: Digest::compute(request.as_bytes()), outcome }
    }

    #[test]
    fn an_execution_that_repeats_the_last_one_has_its_id() {
        let step = StepKey::root("a");
        let mut executions = Executions::default();
        let mut id_after = |end: ExecutionEnd, has_written: bool, runs_again: bool| {
            if has_written {
                executions.writing_steps.insert(step.clone());
            }
            let seq = end.seq;
            executions.end(&step, end, |_| runs_again);
            executions.id(seq)
        };
        assert_eq!(id_after(failed(1, "x", "no"), true, false), 1);
        assert_eq!(id_after(failed(2, "x", "no"), true, false), 1, "the same failure");
        assert_eq!(id_after(failed(3, "x", "never"), false, false), 1, "no call");
        assert_eq!(id_after(completed(4, "x"), false, false), 1, "no call");
        assert_eq!(id_after(completed(5, "x"), true, true), 5, "the user runs it again");
        assert_eq!(id_after(completed(6, "x"), true, false), 5, "the same result");
        assert_eq!(id_after(failed(7, "x", "no"), true, false), 7, "another end");
        assert_eq!(id_after(failed(8, "y", "no"), true, false), 8, "another request");
    }

    #[test]
    fn an_interrupted_call_may_have_changed_the_workspace() {
        let step = StepKey::root("a");
        let key = CallKey { step: step.clone(), attempt: 1, ordinal: 1, tool_call: None, input_round: None };
        let mut executions = Executions::default();
        executions.end(&step, failed(1, "x", "no"), |_| false);
        executions.open_calls.insert(key, CallKind::Command);
        executions.end(&step, completed(2, "x"), |_| false);
        assert_eq!((executions.id(2), executions.open_calls.len()), (2, 0));
    }
}
