//! What the `write:` steps and the agent programs of a run did to its workspace, by the records of looks.

use super::error::SessionError;
use crate::files::ChangeSet;
use crate::model::event::{CallOutput, Event, Fact};
use crate::model::{RunId, StepKey};

/// One write of a step, or what an agent program changed in a turn.
#[derive(Clone, Debug)]
pub(crate) struct StepWrite {
    /// The step.
    pub(crate) step: StepKey,
    /// Every file before and after.
    pub(crate) look: ChangeSet,
    /// The `seq` of the event that says that the files were written; without it some may be.
    pub(crate) done: Option<u64>,
    /// Whether an agent program did it, or somebody beside it, in a turn.
    pub(crate) turn: bool,
    /// Whether the turn came to no reply: what it left is half done.
    pub(crate) cut: bool,
}

/// The writes of a run, the earliest first.
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

/// Changed files whose contents are not on record, with the steps whose programs changed them.
pub(crate) fn left_out(events: &[Event]) -> Vec<(&StepKey, &str)> {
    let mut all = Vec::new();
    for event in events {
        let Fact::CallEnded(call) = &event.fact else { continue };
        let paths = call.did().into_iter().flat_map(|work| &work.left_out);
        all.extend(paths.map(|path| (&call.call.step, path.as_str())));
    }
    all
}
