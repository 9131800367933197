//! The changes that `write:` steps and CLI agents made in a run's workspace, from the run's events.

use super::error::SessionError;
use crate::files::ChangeSet;
use crate::model::event::{CallOutput, Event, Fact};
use crate::model::{RunId, StepKey};

/// The files that one write step wrote, or that changed during one turn of a CLI agent.
#[derive(Clone, Debug)]
pub(crate) struct StepWrite {
    /// The step.
    pub(crate) step: StepKey,
    /// Every file before and after.
    pub(crate) look: ChangeSet,
    /// The `seq` of the event after which all files are written; if `None`, only some may be.
    pub(crate) done: Option<u64>,
    /// Whether the changes happened during a turn of a CLI agent, by the agent or by another process.
    pub(crate) turn: bool,
    /// Whether the turn had no reply, so that its changes may be incomplete.
    pub(crate) cut: bool,
}

/// The changes of a run, oldest first.
pub(crate) fn written(run: RunId, events: &[Event]) -> Result<Vec<StepWrite>, SessionError> {
    let mut all: Vec<(u32, StepWrite)> = Vec::new();
    for event in events {
        let Fact::CallEnded(call) = &event.fact else { continue };
        let (step, attempt) = (&call.call.step, call.call.attempt);
        let read = |record: &serde_json::Value| {
            serde_json::from_value::<ChangeSet>(record.clone()).map_err(|error| {
                SessionError::usage(format!("event {} of run {run} can't be read: {error}", event.seq))
                    .hint("a newer orch may have written it")
            })
        };
        match &call.output {
            Some(CallOutput::Snapshot(record)) => {
                all.push((
                    attempt,
                    StepWrite { step: step.clone(), look: read(record)?, done: None, turn: false, cut: false },
                ));
            }
            Some(CallOutput::Applied(_)) => {
                let same = |(other, written): &&mut (u32, StepWrite)| *other == attempt && written.step == *step;
                if let Some((_, written)) = all.iter_mut().rev().find(same) {
                    written.done = Some(event.seq);
                }
            }
            Some(CallOutput::Command(_)) | None => {}
        }
        if let Some(record) = call.did().and_then(|work| work.files.as_ref()) {
            let (done, cut) = (Some(event.seq), call.reply.is_none());
            all.push((attempt, StepWrite { step: step.clone(), look: read(record)?, done, turn: true, cut }));
        }
    }
    Ok(all.into_iter().map(|(_, written)| written).collect())
}

/// Changed files whose contents are not recorded, each with the step during which it changed.
pub(crate) fn left_out(events: &[Event]) -> Vec<(&StepKey, &str)> {
    let mut all = Vec::new();
    for event in events {
        let Fact::CallEnded(call) = &event.fact else { continue };
        let paths = call.did().into_iter().flat_map(|work| &work.left_out);
        all.extend(paths.map(|path| (&call.call.step, path.as_str())));
    }
    all
}
