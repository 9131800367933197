//! The file changes that the `write` steps, CLI agents and tools of a run made in its workspace, read from the run's
//! events.

use indexmap::IndexSet;

use super::error::SessionError;
use crate::files::ChangeSet;
use crate::model::call_reply::WrittenFiles;
use crate::model::event::{CallKind, CallOutput, Event, Fact};
use crate::model::{RunId, StepKey};

/// The file changes that one `write` step or one tool call made, or that happened during one turn of a CLI agent.
#[derive(Clone, Debug)]
pub(crate) struct StepWrite {
    /// The step.
    pub(crate) step: StepKey,
    /// The changed files, with the state of each file before and after the change.
    pub(crate) changes: ChangeSet,
    /// The `seq` of the event that records that all changes are in the workspace. If `None`, some changes may be
    /// missing.
    pub(crate) applied_seq: Option<u64>,
    /// Whether the changes happened during a turn of a CLI agent or a tool call. Another process may have made them.
    pub(crate) is_agent_turn: bool,
    /// Whether the changes belong to a turn that ended without a reply, and that runs again.
    pub(crate) may_be_incomplete: bool,
}

/// Reads the file changes from a run's events, oldest first.
pub(crate) fn step_writes(run: RunId, events: &[Event]) -> Result<Vec<StepWrite>, SessionError> {
    let mut writes: Vec<(u32, StepWrite)> = Vec::new();
    for event in events {
        let Fact::CallEnded(call) = &event.fact else { continue };
        let (step, attempt) = (&call.call.step, call.call.attempt);
        let parse_changes = |record: &serde_json::Value| {
            serde_json::from_value::<ChangeSet>(record.clone()).map_err(|error| {
                SessionError::usage(format!("event {} of run {run} can't be read: {error}", event.seq))
                    .with_hint("a newer orch may have written it")
            })
        };
        match call.output.as_ref().and_then(CallOutput::written_files) {
            Some(WrittenFiles::Planned(record)) => {
                writes.push((
                    attempt,
                    StepWrite {
                        step: step.clone(),
                        changes: parse_changes(record)?,
                        applied_seq: None,
                        is_agent_turn: false,
                        may_be_incomplete: false,
                    },
                ));
            }
            Some(WrittenFiles::Written) => {
                let is_same_attempt =
                    |(number, write): &&mut (u32, StepWrite)| *number == attempt && write.step == *step;
                if let Some((_, write)) = writes.iter_mut().rev().find(is_same_attempt) {
                    write.applied_seq = Some(event.seq);
                }
            }
            None => {}
        }
        if let Some(record) = call.activity().and_then(|activity| activity.files.as_ref()) {
            writes.push((
                attempt,
                StepWrite {
                    step: step.clone(),
                    changes: parse_changes(record)?,
                    applied_seq: Some(event.seq),
                    is_agent_turn: true,
                    // A tool call that changed files never runs again. Its model knows the changes.
                    may_be_incomplete: call.reply.is_none() && call.call.tool_call.is_none(),
                },
            ));
        }
    }
    Ok(writes.into_iter().map(|(_, write)| write).collect())
}

/// What the recorded file changes of a run lack, one message for each step and reason: the contents of some files, and
/// the changes that orch could not find out.
pub(crate) fn unrecorded_changes(events: &[Event]) -> IndexSet<String> {
    let mut messages = IndexSet::new();
    for event in events {
        let Fact::CallEnded(call) = &event.fact else { continue };
        let Some(activity) = call.activity() else { continue };
        let step = &call.call.step;
        messages.extend(activity.left_out.iter().map(|path| {
            format!(
                "{step}: orch did not record the change of `{path}`: it is large, not a regular file, contains a secret, \
                 or may be from another process"
            )
        }));
        messages.extend(activity.partial_note().map(|note| format!("{step}: {note}")));
    }
    messages
}

/// Whether a command ran, whose changes orch does not record.
pub(crate) fn has_commands(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(&event.fact, Fact::CallStarted(call) if call.kind == CallKind::Command))
}
