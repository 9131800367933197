//! What the events of a run tell of time and tokens that are spent, also by processes that died.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{EstimatedUsage, Event, Fact, ModelRef, StepKey, Usage, UsageTotal};

use super::spent::Spent;

/// What was spent in earlier sessions.
#[derive(Default)]
pub(super) struct Past {
    /// How long processes owned the run.
    pub(super) owned: Duration,
    /// What calls took.
    pub(super) spent: Vec<Spent>,
    /// What the last request that asked a step again may take, with the attempt.
    again: HashMap<StepKey, (u32, Usage)>,
}

/// A call that was under way at some event.
struct InFlightCall {
    since: Timestamp,
    model: Option<ModelRef>,
    /// What it may take at most; none of a program's turn.
    most: Option<Usage>,
    /// Whether it has a reply, which did not fit or was not read yet.
    answered: bool,
}

/// A session: what a process did between two events.
#[derive(Default)]
struct PastSession {
    began: Option<Timestamp>,
    last: Option<Timestamp>,
    under_way: HashMap<StepKey, InFlightCall>,
}

impl Past {
    /// Reads the events; `died` is when the process of the last session was last alive, unless it
    /// ended in order.
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

    /// Takes one event in. `asked` are the attempts whose question is on record: it is asked once, and waited for
    /// in any number of sessions.
    fn take(&mut self, session: &mut PastSession, asked: &mut HashSet<(StepKey, u32)>, event: &Event) {
        match &event.fact {
            Fact::StepStarted(fact) if asked.contains(&(fact.step.clone(), fact.attempt)) => {}
            Fact::StepStarted(fact) => {
                // An attempt that goes on after a crash goes on with its last request.
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
            // The time that a person takes to answer does not count.
            Fact::ApprovalAsked(fact) => {
                session.under_way.remove(&fact.step);
                asked.insert((fact.step.clone(), fact.attempt));
            }
            // In order: what was given up then is on record.
            Fact::RunEnded(_) => session.under_way.clear(),
            Fact::RunStarted(_)
            | Fact::RunResumed(_)
            | Fact::ReplyParsed(_)
            | Fact::ArtifactAccepted(_)
            | Fact::ApprovalAnswered(_) => {}
        }
    }

    /// Ends a session; with what was under way, if its process died.
    fn close(&mut self, session: &mut PastSession, died: Option<Timestamp>) {
        let PastSession { began, last, under_way } = std::mem::take(session);
        let (Some(began), Some(last)) = (began, last) else { return };
        let end = died.map_or(last, |died| died.max(last));
        let between = |from: Timestamp| Duration::try_from(end.duration_since(from)).unwrap_or_default();
        self.owned += between(began);
        for (step, call) in under_way.into_iter().filter(|(_, call)| !call.answered) {
            let time = between(call.since);
            // A command asks no model. How much a request had used is unknown.
            let usage = UsageTotal::of_call(None, call.most.map(EstimatedUsage::from), call.model.is_some());
            let (model, cost, estimated_cost) = (call.model, None, None);
            self.spent.push(Spent { step, model, usage, cost, estimated_cost, replied: false, time });
        }
    }
}
