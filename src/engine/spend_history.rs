//! Computes from the events of a run what earlier sessions spent in time and tokens, including sessions whose process
//! died.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{EstimatedUsage, Event, Fact, ModelRef, StepKey, Usage, UsageTotal};

use super::spent::Spent;

/// What earlier sessions spent.
#[derive(Default)]
pub(super) struct Past {
    /// How long processes owned the run, in total.
    pub(super) owned: Duration,
    /// The usage of each call.
    pub(super) spent: Vec<Spent>,
    /// For each step, the upper bound of its last re-ask, with the attempt that it belongs to.
    again: HashMap<StepKey, (u32, Usage)>,
}

/// A call that was in flight at some event.
struct InFlightCall {
    since: Timestamp,
    model: Option<ModelRef>,
    /// The upper bound of its usage; none for a turn of a CLI agent.
    most: Option<Usage>,
    /// Whether its reply is on record, so that nothing is in flight even if the reply was rejected or not parsed yet.
    answered: bool,
}

/// A session: the events that one process recorded.
#[derive(Default)]
struct PastSession {
    began: Option<Timestamp>,
    last: Option<Timestamp>,
    under_way: HashMap<StepKey, InFlightCall>,
}

impl Past {
    /// Reads the events. `died` is when the process of the last session was last alive; `None` if it ended in order.
    pub(super) fn of(events: &[Event], died: Option<Timestamp>) -> Self {
        let mut past = Self::default();
        let mut session = PastSession::default();
        let mut asked = HashSet::new();
        for event in events {
            match &event.fact {
                Fact::RunStarted(_) => past.close(&mut session, None),
                Fact::RunResumed(fact) => past.close(&mut session, fact.previous_owner_last_heartbeat),
                _ => {}
            }
            session.began.get_or_insert(event.at);
            session.last = Some(event.at);
            past.take(&mut session, &mut asked, event);
        }
        past.close(&mut session, died);
        past
    }

    /// Applies one event. `asked` contains the attempts whose approval request is on record: orch records the request
    /// once, and waits for the answer in any number of sessions.
    fn take(&mut self, session: &mut PastSession, asked: &mut HashSet<(StepKey, u32)>, event: &Event) {
        match &event.fact {
            Fact::StepStarted(fact) if asked.contains(&(fact.step.clone(), fact.attempt)) => {}
            Fact::StepStarted(fact) => {
                // After a crash, an attempt continues with its last request, which may be a re-ask.
                let again = self.again.get(&fact.step).filter(|(attempt, _)| *attempt == fact.attempt);
                let most = again.map(|(_, most)| *most).or(fact.max_usage);
                let model = fact.model.clone();
                session
                    .under_way
                    .insert(fact.step.clone(), InFlightCall { since: event.at, model, most, answered: false });
            }
            Fact::CallEnded(fact) => {
                let time = Duration::try_from(fact.ended.duration_since(fact.started)).unwrap_or_default();
                self.spent.push(Spent {
                    step: fact.call.step.clone(),
                    model: fact.model.clone(),
                    usage: fact.usage(),
                    cost: fact.cost,
                    estimated_cost: fact.estimated_cost,
                    replied: fact.reply.is_some(),
                    time,
                });
                if let Some(call) = session.under_way.get_mut(&fact.call.step) {
                    call.answered = true;
                }
            }
            Fact::ReplyParsed(fact) if fact.asks_again => {
                if let Some(call) = session.under_way.get_mut(&fact.call.step) {
                    (call.since, call.answered) = (event.at, false);
                    call.most = fact.max_usage.or(call.most);
                }
                self.again.extend(fact.max_usage.map(|most| (fact.call.step.clone(), (fact.call.attempt, most))));
            }
            Fact::StepCompleted(fact) => drop(session.under_way.remove(&fact.step)),
            Fact::StepFailed(fact) => drop(session.under_way.remove(&fact.step)),
            Fact::StepSkipped(fact) => drop(session.under_way.remove(&fact.step)),
            Fact::StepReused(fact) => drop(session.under_way.remove(&fact.step)),
            // The time that the user takes to answer does not count.
            Fact::ApprovalAsked(fact) => {
                session.under_way.remove(&fact.step);
                asked.insert((fact.step.clone(), fact.attempt));
            }
            // The session ended in order, so every call that was dropped then is on record.
            Fact::RunEnded(_) => session.under_way.clear(),
            Fact::RunStarted(_)
            | Fact::RunResumed(_)
            | Fact::ReplyParsed(_)
            | Fact::ArtifactAccepted(_)
            | Fact::ApprovalAnswered(_) => {}
        }
    }

    /// Ends a session. If its process died, the calls in flight then count as spent.
    fn close(&mut self, session: &mut PastSession, died: Option<Timestamp>) {
        let PastSession { began, last, under_way } = std::mem::take(session);
        let (Some(began), Some(last)) = (began, last) else { return };
        let end = died.map_or(last, |died| died.max(last));
        let between = |from: Timestamp| Duration::try_from(end.duration_since(from)).unwrap_or_default();
        self.owned += between(began);
        for (step, call) in under_way.into_iter().filter(|(_, call)| !call.answered) {
            let time = between(call.since);
            // A command asks no model. The actual usage of an interrupted request is unknown.
            let usage = UsageTotal::of_call(None, call.most.map(EstimatedUsage::from), call.model.is_some());
            let (model, cost, estimated_cost) = (call.model, None, None);
            self.spent.push(Spent { step, model, usage, cost, estimated_cost, replied: false, time });
        }
    }
}
