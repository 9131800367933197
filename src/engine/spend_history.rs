//! Computes from the events of a run the time, tokens and dollars that earlier sessions spent, including sessions whose
//! process died.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::event::{CallEnded, CallKind};
use crate::model::{CallKey, EstimatedUsage, Event, Fact, ModelRef, Usage, UsageTotal};

use super::call_spend::CallSpend;

/// The spending of earlier sessions.
#[derive(Default)]
pub(super) struct SpendHistory {
    /// The time during which a process owned the run, summed over all sessions.
    pub(super) owned_duration: Duration,
    /// The usage of each call.
    pub(super) calls: Vec<CallSpend>,
}

/// A call that has started, but has not ended at the current event.
struct InFlightCall {
    started: Timestamp,
    model: Option<ModelRef>,
    /// The upper bound of its usage; `None` for a turn of a CLI agent.
    max_usage: Option<Usage>,
}

/// A session: the events that one process recorded.
#[derive(Default)]
struct PastSession {
    started: Option<Timestamp>,
    last_event: Option<Timestamp>,
    in_flight: HashMap<CallKey, InFlightCall>,
}

impl SpendHistory {
    /// Computes the history. If the process of the last session died, `died_at` is the time when it was last alive.
    pub(super) fn from_events(events: &[Event], died_at: Option<Timestamp>) -> Self {
        let mut history = Self::default();
        let mut session = PastSession::default();
        for event in events {
            match &event.fact {
                Fact::RunStarted(_) => history.end_session(&mut session, None),
                Fact::RunResumed(fact) => history.end_session(&mut session, fact.previous_owner_last_heartbeat),
                _ => {}
            }
            session.started.get_or_insert(event.at);
            session.last_event = Some(event.at);
            history.apply_event(&mut session, event);
        }
        history.end_session(&mut session, died_at);
        history
    }

    /// Applies one event.
    fn apply_event(&mut self, session: &mut PastSession, event: &Event) {
        match &event.fact {
            // The time of a called pipeline is that of the calls of its steps.
            Fact::CallStarted(fact) if fact.kind == CallKind::Pipeline => {}
            Fact::CallEnded(fact) if is_called_pipeline(fact) => {}
            Fact::CallStarted(fact) => {
                let (model, max_usage) = (fact.model.clone(), fact.max_usage);
                session.in_flight.insert(fact.call.clone(), InFlightCall { started: event.at, model, max_usage });
            }
            Fact::CallEnded(fact) => {
                session.in_flight.remove(&fact.call);
                let time = Duration::try_from(fact.ended.duration_since(fact.started)).unwrap_or_default();
                self.calls.push(CallSpend {
                    step: fact.call.step.clone(),
                    model: fact.model.clone(),
                    usage: fact.usage(),
                    cost: fact.cost,
                    estimated_cost: fact.estimated_cost,
                    replied: fact.reply.is_some(),
                    time,
                });
            }
            // The session ended in order, so the journal contains the end of every call.
            Fact::RunEnded(_) => session.in_flight.clear(),
            Fact::RunStarted(_)
            | Fact::RunResumed(_)
            | Fact::StepReused(_)
            | Fact::StepStarted(_)
            | Fact::ReplyParsed(_)
            | Fact::StepCompleted(_)
            | Fact::StepFailed(_)
            | Fact::StepSkipped(_)
            | Fact::ArtifactAccepted(_)
            | Fact::ApprovalAsked(_)
            | Fact::ApprovalAnswered(_)
            | Fact::ToolsListed(_)
            | Fact::CancelRequested(_)
            | Fact::BudgetRaised(_) => {}
        }
    }

    /// Ends a session. If its process died, the calls that were in flight count with their upper bounds.
    fn end_session(&mut self, session: &mut PastSession, died_at: Option<Timestamp>) {
        let PastSession { started, last_event, in_flight } = std::mem::take(session);
        let (Some(started), Some(last_event)) = (started, last_event) else { return };
        let end_time = died_at.map_or(last_event, |died_at| died_at.max(last_event));
        let elapsed_since = |start: Timestamp| Duration::try_from(end_time.duration_since(start)).unwrap_or_default();
        self.owned_duration += elapsed_since(started);
        for (key, call) in in_flight {
            let time = elapsed_since(call.started);
            // A command calls no model. The actual usage of an interrupted request is unknown.
            let usage = UsageTotal::from_call(None, call.max_usage.map(EstimatedUsage::from), call.model.is_some());
            let (step, model, cost, estimated_cost) = (key.step, call.model, None, None);
            self.calls.push(CallSpend { step, model, usage, cost, estimated_cost, replied: false, time });
        }
    }
}

/// Whether this is the end of a call of a pipeline by a model.
fn is_called_pipeline(call: &CallEnded) -> bool {
    call.output.as_ref().is_some_and(|output| output.kind() == CallKind::Pipeline)
}
