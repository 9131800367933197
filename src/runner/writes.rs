//! The file changes that the `write` steps, CLI agents and tools of a run made in its workspace, read from the run's
//! events.

use super::error::RunnerError;
use crate::files::ChangeSet;
use crate::model::call_reply::WrittenFiles;
use crate::model::event::{CallOutput, Event, Fact};
use crate::model::{LeftOutReason, RunId, StepKey};

/// The file changes that one `write` step or one tool call made, or that happened during one turn of a CLI agent.
#[derive(Clone, Debug)]
pub(crate) struct StepWrite {
    /// The step.
    pub(crate) step: StepKey,
    /// The changed files, with the state of each file before and after the change.
    pub(crate) changes: ChangeSet,
    /// The `seq` of the event that contains the changes.
    pub(crate) recorded_seq: u64,
    /// The `seq` of the event that records that all changes are in the workspace. If `None`, some changes may be
    /// missing.
    pub(crate) applied_seq: Option<u64>,
    /// Whether the changes happened during a turn of a CLI agent or a tool call. Another process may have made them.
    pub(crate) is_agent_turn: bool,
}

/// A changed file whose content orch did not record.
#[derive(Clone, Debug)]
pub(crate) struct UnrecordedFile {
    /// The step during which the file changed.
    pub(crate) step: StepKey,
    /// The path relative to the workspace.
    pub(crate) path: String,
    /// Why orch did not record the content; `None` if an older version of orch recorded the event.
    pub(crate) reason: Option<LeftOutReason>,
    /// The `seq` of the event that names the file.
    pub(crate) seq: u64,
}

/// Reads the file changes from a run's events, oldest first: those of all attempts of each step, in all sessions.
pub(crate) fn step_writes(run: RunId, events: &[Event]) -> Result<Vec<StepWrite>, RunnerError> {
    let mut writes: Vec<(u32, StepWrite)> = Vec::new();
    for event in events {
        let Fact::CallEnded(call) = &event.fact else { continue };
        let (step, attempt) = (&call.call.step, call.call.attempt);
        let parse_changes = |record: &serde_json::Value| {
            serde_json::from_value::<ChangeSet>(record.clone()).map_err(|error| {
                RunnerError::usage(format!("event {} of run {run} can't be read: {error}", event.seq))
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
                        recorded_seq: event.seq,
                        applied_seq: None,
                        is_agent_turn: false,
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
                    recorded_seq: event.seq,
                    applied_seq: Some(event.seq),
                    is_agent_turn: true,
                },
            ));
        }
    }
    Ok(writes.into_iter().map(|(_, write)| write).collect())
}

/// The changed files whose contents orch did not record, oldest first.
pub(crate) fn unrecorded_files(events: &[Event]) -> Vec<UnrecordedFile> {
    let mut files = Vec::new();
    for event in events {
        let Fact::CallEnded(call) = &event.fact else { continue };
        let Some(activity) = call.activity() else { continue };
        files.extend(activity.left_out.iter().map(|path| UnrecordedFile {
            step: call.call.step.clone(),
            path: path.clone(),
            reason: activity.left_out_reasons.get(path).copied(),
            seq: event.seq,
        }));
    }
    files
}
