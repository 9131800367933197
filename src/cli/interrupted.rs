//! Turns of agent programs that the end of a process cut off: what they did is put on record when the run goes on.

use crate::agent::{InterruptedTurn, interrupted_turns, turn_recorded};
use crate::model::event::{CallEnded, Event, Fact};
use crate::model::{Class, Failure, RunId};
use crate::secret::Redactor;
use crate::store::{Journal, View};

use super::ui::Ui;

/// What the turns did that no event tells the end of, as calls that came to no outcome.
pub(super) fn turns(
    journal: &Journal,
    run: RunId,
    events: &[Event],
    (view, artifacts): (&View, &[String]),
    redactor: &Redactor,
    ui: &Ui,
) -> Vec<Fact> {
    let homes = journal.homes(run);
    let mut facts = Vec::new();
    for turn in interrupted_turns(&homes, view.folder(), artifacts) {
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
        ui.say(format!("{} {words}", ui.style.warn("note:")));
        facts.push(Fact::CallEnded(ended(turn, redactor)));
    }
    facts
}

/// Whether the end of the call is on record; one that a stop gave up at once does not say what it did.
fn is_recorded(events: &[Event], turn: &InterruptedTurn) -> bool {
    events.iter().any(|event| match &event.fact {
        Fact::CallEnded(call) if call.call == turn.call && call.ask == turn.ask => {
            let gave_up = call.failure.as_ref().is_some_and(|failure| failure.class == Class::Cancelled);
            !gave_up || call.work.is_some()
        }
        _ => false,
    })
}

/// The time that the call took is counted with the process that was killed.
fn ended(turn: InterruptedTurn, redactor: &Redactor) -> CallEnded {
    let failure = Failure::new(Class::Crashed, "the process of the run was killed during the turn");
    CallEnded {
        call: turn.call,
        ask: turn.ask,
        model: Some(turn.model),
        started: turn.at,
        ended: turn.at,
        reply: None,
        done: None,
        failure: Some(failure),
        work: Some(Box::new(redactor.work(turn.work))),
        cost: None,
        estimated: None,
        estimated_cost: None,
        undone: Vec::new(),
    }
}
