//! What the recorded events of a run answer to the interpreter: which outcomes are there,
//! which results stand, which attempt comes next.

use std::collections::{HashMap, HashSet};

use crate::durable::{Open, Outcome};
use crate::model::event::{CallEnded, Event, Fact, StepStarted};
use crate::model::{Artifact, CallKey, ChatReply, Digest, Recipe, StepKey};

/// An index over the events of one run, kept up to date as they are appended.
#[derive(Default)]
pub(super) struct Index {
    outcomes: HashMap<CallKey, (Digest, Outcome)>,
    calls: Vec<CallKey>,
    read: HashSet<CallKey>,
    completed: Vec<Completed>,
    started: HashMap<StepKey, Vec<StepStarted>>,
    /// Attempts announced in this session, also those that an earlier one began.
    announced: HashSet<(StepKey, u32)>,
    ended: HashMap<StepKey, u32>,
}

struct Completed {
    seq: u64,
    step: StepKey,
    recipe: Recipe,
    artifact: Artifact,
    claimed: bool,
}

impl Index {
    pub(super) fn of(events: &[Event]) -> Self {
        let mut index = Self::default();
        for event in events {
            index.apply(event);
        }
        for completed in &mut index.completed {
            completed.claimed = false;
        }
        index.announced.clear();
        index
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match &event.fact {
            Fact::StepStarted(fact) => {
                self.announced.insert((fact.step.clone(), fact.attempt));
                self.started.entry(fact.step.clone()).or_default().push(fact.clone());
            }
            Fact::CallEnded(fact) => self.call_ended(fact),
            Fact::ReplyRead(fact) => {
                self.read.insert(fact.call.clone());
            }
            Fact::StepCompleted(fact) => {
                self.end(&fact.step, fact.attempt);
                self.completed.push(Completed {
                    seq: event.seq,
                    step: fact.step.clone(),
                    recipe: fact.recipe.clone(),
                    artifact: fact.artifact.clone(),
                    // A result of this session serves its own step; it is there for later ones.
                    claimed: true,
                });
            }
            Fact::StepFailed(fact) => self.end(&fact.step, fact.attempt),
            Fact::ArtifactAccepted(fact) => {
                if let Some(completed) = self.completed.iter_mut().find(|completed| completed.seq == fact.completed) {
                    completed.artifact = fact.artifact.clone();
                }
            }
            Fact::RunStarted(_)
            | Fact::RunResumed(_)
            | Fact::RunEnded(_)
            | Fact::StepKept(_)
            | Fact::StepSkipped(_) => {}
        }
    }

    fn call_ended(&mut self, fact: &CallEnded) {
        let result = match (&fact.reply, &fact.failure) {
            (Some(reply), _) => Ok(reply.clone()),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => return,
        };
        let outcome = Outcome { started: fact.started, ended: fact.ended, result, cost: fact.cost };
        self.calls.push(fact.call.clone());
        self.outcomes.insert(fact.call.clone(), (fact.ask.clone(), outcome));
    }

    fn end(&mut self, step: &StepKey, attempt: u32) {
        let last = self.ended.entry(step.clone()).or_default();
        *last = (*last).max(attempt);
    }

    /// The recorded outcome of a call, if the same was asked.
    pub(super) fn outcome(&self, key: &CallKey, ask: &Digest) -> Option<Outcome> {
        self.outcomes.get(key).filter(|(asked, _)| asked == ask).map(|(_, outcome)| outcome.clone())
    }

    /// Takes a completed result for a step: its own with this recipe, else any unclaimed one with it.
    pub(super) fn claim(&mut self, open: &Open) -> Option<(u64, Artifact)> {
        let fits = |completed: &Completed| !completed.claimed && completed.recipe == open.recipe;
        let own = self.completed.iter().rposition(|completed| fits(completed) && completed.step == open.step);
        let at = own.or_else(|| self.completed.iter().rposition(fits))?;
        let completed = self.completed.get_mut(at)?;
        completed.claimed = true;
        Some((completed.seq, completed.artifact.clone()))
    }

    /// Replies to the very same question that were read in another way, latest first.
    pub(super) fn replies(&self, open: &Open) -> Vec<ChatReply> {
        let asked_alike = |key: &CallKey| {
            let started = self.started.get(&key.step).into_iter().flatten();
            started.clone().any(|s| s.attempt == key.attempt && s.recipe.ask == open.recipe.ask)
                && !started.clone().any(|s| s.attempt == key.attempt && s.recipe == open.recipe)
        };
        let recorded = self.calls.iter().rev().filter(|key| asked_alike(key));
        recorded.filter_map(|key| self.outcomes.get(key)?.1.result.clone().ok()).collect()
    }

    /// The attempt to go on with: the one that was going on with this recipe, else a new one.
    pub(super) fn next_attempt(&self, open: &Open) -> u32 {
        let first_open = self.ended.get(&open.step).copied().unwrap_or(0) + 1;
        let started = self.started.get(&open.step).map(Vec::as_slice).unwrap_or_default();
        let unfinished: Vec<&StepStarted> = started.iter().filter(|s| s.attempt >= first_open).collect();
        // Attempts of a session that had another recipe are over, though nothing recorded their end.
        let stale = unfinished.iter().filter(|s| s.recipe != open.recipe).map(|s| s.attempt).max();
        stale.map_or(first_open, |stale| stale + 1)
    }

    pub(super) fn is_announced(&self, fact: &StepStarted) -> bool {
        self.announced.contains(&(fact.step.clone(), fact.attempt))
    }

    pub(super) fn has_attempt(&self, key: &CallKey) -> bool {
        self.started.get(&key.step).is_some_and(|list| list.iter().any(|s| s.attempt == key.attempt))
    }

    pub(super) fn has_read(&self, call: &CallKey) -> bool {
        self.read.contains(call)
    }
}
