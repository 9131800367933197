//! The questions of a run and their answers, in its events and in its inbox.

use crate::model::RunId;
use crate::model::event::{ApprovalAnswered, ApprovalAsked, Event, Fact};
use crate::store::{InboxMessage, Journal};

use super::error::RunnerError;

/// The questions of a run that no process executes.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunQuestions {
    /// The questions without an answer.
    pub(crate) open: Vec<ApprovalAsked>,
    /// The questions whose answers the next resume takes.
    pub(crate) answered: Vec<AnsweredQuestion>,
}

/// A question with its answer.
#[derive(Clone, Debug)]
pub(crate) struct AnsweredQuestion {
    pub(crate) asked: ApprovalAsked,
    pub(crate) answer: ApprovalAnswered,
}

impl RunQuestions {
    /// Reads the questions of a run with these events.
    pub(crate) fn read(journal: &Journal, run: RunId, events: &[Event]) -> Result<Self, RunnerError> {
        let approvals = RunApprovals::read(journal, run, events)?;
        let answered = approvals.latest_requests().filter_map(|asked| {
            let answer = approvals.answer_to(asked).filter(|answer| approvals.is_in_inbox(answer))?;
            Some(AnsweredQuestion { asked: asked.clone(), answer: answer.clone() })
        });
        Ok(Self { open: approvals.pending().cloned().collect(), answered: answered.collect() })
    }
}

/// The approvals and answers of a run, in its events and in its inbox.
pub(super) struct RunApprovals<'e> {
    events: &'e [Event],
    inbox: Vec<ApprovalAnswered>,
}

impl<'e> RunApprovals<'e> {
    pub(super) fn read(journal: &Journal, run: RunId, events: &'e [Event]) -> Result<Self, RunnerError> {
        let inbox = journal.pending_messages(run)?.into_iter().filter_map(|(_, message)| match message {
            InboxMessage::Answer(answer) => Some(answer),
            InboxMessage::Cancel(_) | InboxMessage::RaiseBudget(_) => None,
        });
        Ok(Self { events, inbox: inbox.collect() })
    }

    /// The latest approval request of each step. It replaces the earlier requests of the step.
    pub(super) fn latest_requests(&self) -> impl Iterator<Item = &ApprovalAsked> {
        let requests = || {
            let facts = self.events.iter().map(|event| &event.fact);
            facts.filter_map(|fact| if let Fact::ApprovalAsked(request) = fact { Some(request) } else { None })
        };
        requests().enumerate().filter_map(move |(index, request)| {
            let is_replaced = requests().skip(index + 1).any(|later| later.step == request.step);
            (!is_replaced).then_some(request)
        })
    }

    /// The latest requests that have no answer yet.
    pub(super) fn pending(&self) -> impl Iterator<Item = &ApprovalAsked> {
        self.latest_requests().filter(move |request| self.answer_to(request).is_none())
    }

    /// The answers to the latest requests.
    pub(super) fn latest_answers(&self) -> impl Iterator<Item = &ApprovalAnswered> {
        self.latest_requests().filter_map(move |request| self.answer_to(request))
    }

    /// The answer to a request. If the run recorded one, another one in the inbox does not count.
    fn answer_to(&self, request: &ApprovalAsked) -> Option<&ApprovalAnswered> {
        self.answers().find(|answer| answer.key() == request.key() && answer.question_digest == request.question_digest)
    }

    /// The latest answer to any request.
    pub(super) fn last_answer(&self) -> Option<&ApprovalAnswered> {
        self.answers().max_by_key(|answer| answer.answer.at)
    }

    /// The answers that the run recorded, and then those in the inbox.
    fn answers(&self) -> impl Iterator<Item = &ApprovalAnswered> {
        let recorded = self.events.iter().filter_map(|event| match &event.fact {
            Fact::ApprovalAnswered(answer) => Some(answer),
            _ => None,
        });
        recorded.chain(&self.inbox)
    }

    /// Whether the run has not recorded this answer yet.
    fn is_in_inbox(&self, answer: &ApprovalAnswered) -> bool {
        self.inbox.contains(answer)
    }
}
