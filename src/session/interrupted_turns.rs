//! Turns of CLI agents that were cut off because orch was killed: a resume records what they changed.

use std::time::Duration;

use jiff::Timestamp;

use crate::agent::{InterruptedTurn, InterruptedWorkspace, interrupted_turns, turn_recorded};
use crate::model::event::{CallEnded, Event, Fact};
use crate::model::{Class, Failure, RunId};
use crate::secret::Redactor;
use crate::store::{Journal, WorkspaceView};

use super::Runner;
use super::error::SessionError;

/// How long programs may run after the last sign of life of their orch process: its heartbeat comes every second, and a
/// guard waits half a second before it kills them.
const LONGEST_AFTER: Duration = Duration::from_secs(2);

/// Turns whose end was never recorded, as failed calls with the files that they changed.
pub(crate) fn turns(
    (journal, run, events): (&Journal, RunId, &[Event]),
    (view, artifacts, last_seen): (&WorkspaceView, &[String], Option<Timestamp>),
    redactor: &Redactor,
    runner: &Runner,
) -> Result<Vec<Fact>, SessionError> {
    let homes = journal.homes(run);
    let records = journal.records(&view.name())?;
    let own = run.to_string();
    let last = last_seen.max(events.last().map(|event| event.at)).unwrap_or_default();
    let workspace = InterruptedWorkspace {
        folder: view.folder(),
        artifacts,
        until: last + LONGEST_AFTER,
        is_foreign: &|path| records.last_writer(path).is_some_and(|writer| writer != own),
    };
    let (turns, unread) = interrupted_turns(&homes, workspace);
    for problem in unread {
        runner.reporter.warning(&format!("{problem}; what this turn changed is not recorded"));
    }
    let mut facts = Vec::new();
    for turn in turns {
        if turn.work.changed.is_empty() || is_recorded(events, &turn) {
            turn_recorded(&homes, &turn.call);
            continue;
        }
        let count = turn.work.changed.len();
        let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        let words = format!(
            "a turn of step {} was cut off after it changed {files}: see `orch runs diff {run}`",
            turn.call.step
        );
        runner.reporter.note(&words);
        facts.push(Fact::CallEnded(ended(turn, redactor)));
    }
    Ok(facts)
}

/// Whether the journal has the end of the call. A call that was dropped by a stop does not count if its changes are not
/// recorded.
fn is_recorded(events: &[Event], turn: &InterruptedTurn) -> bool {
    events.iter().any(|event| match &event.fact {
        // An earlier turn of the same call may have been cut off and recorded.
        Fact::CallEnded(call)
            if call.call == turn.call && call.request_digest == turn.ask && call.started >= turn.at =>
        {
            let gave_up = call.failure.as_ref().is_some_and(|failure| failure.class == Class::Cancelled);
            !gave_up || call.agent_activity.is_some()
        }
        _ => false,
    })
}

/// The failed call for a turn. Its duration is zero, since its time already counts for the killed process.
fn ended(turn: InterruptedTurn, redactor: &Redactor) -> CallEnded {
    let failure = Failure::new(Class::Crashed, "the turn was cut off before what it did was on record");
    CallEnded {
        call: turn.call,
        request_digest: turn.ask,
        model: Some(turn.model),
        started: turn.at,
        ended: turn.at,
        reply: None,
        output: None,
        failure: Some(failure),
        agent_activity: Some(Box::new(redactor.work(turn.work))),
        cost: None,
        estimated: None,
        estimated_cost: None,
        reverted_files: Vec::new(),
    }
}
