//! The events of steps: what an implementation records for each fact of the interpreter, and what it waits for.

use jiff::Timestamp;

use crate::durable::StepFact;
use crate::model::event::{Fact, StepStarted};

use super::HistoryIndex;
use super::call_facts::pipeline_call_ended;

/// What [`Durable::record`](crate::durable::Durable::record) does with a fact of the interpreter.
#[derive(Clone, Debug, PartialEq)]
pub enum StepRecord {
    /// Records nothing: there is no event for the fact, or it is recorded already.
    Nothing,
    /// Queues the event that an attempt started, unless a stop or a halted group prevents new calls.
    Start(StepStarted),
    /// Queues the event. After a crash, the interpreter derives it again from recorded outcomes.
    Queue(Fact),
    /// Records the event and waits until it is durable.
    Await(Fact),
}

impl HistoryIndex {
    /// What to record for a fact of the interpreter at the time `now`.
    pub fn record_of(&mut self, fact: StepFact, now: Timestamp) -> StepRecord {
        match fact {
            StepFact::Started(fact) if self.has_recorded_start(&fact) => StepRecord::Nothing,
            StepFact::Started(fact) => StepRecord::Start(fact),
            StepFact::ReplyParsed(fact) if self.is_parsed(&fact.call) => StepRecord::Nothing,
            // The next line of the output may be about the wait before a retry, so the reason comes first.
            StepFact::ReplyParsed(fact) if fact.failure.is_some() && !fact.re_asks => {
                StepRecord::Await(Fact::ReplyParsed(fact))
            }
            StepFact::ReplyParsed(fact) => StepRecord::Queue(Fact::ReplyParsed(fact)),
            // The interpreter does not wait for the commit, since a resume derives this fact from recorded outcomes
            // again. The artifact file must be written only after the commit.
            StepFact::Completed(fact) => StepRecord::Queue(Fact::StepCompleted(fact)),
            StepFact::Failed(fact) => StepRecord::Await(Fact::StepFailed(fact)),
            StepFact::Skipped(fact) => StepRecord::Queue(Fact::StepSkipped(fact)),
            StepFact::PipelineCallEnded(ended) => StepRecord::Await(pipeline_call_ended(ended, now)),
            StepFact::FinallyStarted(steps) => {
                self.start_finally(steps);
                StepRecord::Nothing
            }
        }
    }
}
