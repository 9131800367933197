//! Waiting for a person: the question is recorded, and so is the answer.

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use crate::durable::{Answer, Approval, Signal, Stop};
use crate::model::event::{ApprovalAnswered, ApprovalAsked, Fact, Verdict};
use crate::model::{CallKey, Digest, StepKey};

use super::LocalRun;

/// Asks the person in front of the terminal.
pub trait Asker: Send + Sync {
    /// Shows what is asked; `None` when the person leaves it for later.
    fn ask(&self, step: StepKey, shown: String) -> BoxFuture<'static, Option<Verdict>>;
}

impl LocalRun {
    /// The recorded answer, else that of the person in front of the terminal, else the run parks.
    pub(super) async fn ask_person(&self, key: CallKey, approval: Approval) -> Result<Answer, Stop> {
        let ask = Digest::of(approval.shown.as_bytes());
        if let Some(verdict) = self.lock().index.answer(&key, &ask) {
            return Ok(Answer::Said(verdict));
        }
        let asked = self.lock().index.asked(&key, &ask).map(|asked| asked.until);
        let until = if let Some(until) = asked {
            until
        } else {
            let until = approval.timeout_ms.and_then(|millis| {
                self.clock
                    .now()
                    .checked_add(SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)))
                    .ok()
            });
            let (step, attempt, shown) = (key.step.clone(), key.attempt, approval.shown.clone());
            let fact = ApprovalAsked { step, attempt, shown, ask: ask.clone(), until };
            self.append(Fact::ApprovalAsked(fact)).await?;
            until
        };
        let Some(asker) = &self.asker else {
            return if until.is_some_and(|until| self.clock.now() >= until) {
                Ok(Answer::Elapsed)
            } else {
                Err(Stop::Parked)
            };
        };
        // The files that the question is about must be there to be looked at.
        self.settle().await?;
        self.observer.signal(&Signal::Asking(key.step.clone()));
        let closing = self.closing(&key.step);
        let answer = tokio::select! {
            answer = asker.ask(key.step.clone(), approval.shown) => answer,
            () = self.over(until) => return Ok(Answer::Elapsed),
            () = self.halted.reaches(&key.step, closing.as_ref()) => return Err(Stop::Dropped),
            () = self.given_up(closing.is_some(), std::time::Duration::ZERO) => return Err(Stop::Cancelled),
        };
        let Some(answer) = answer else { return Err(Stop::Parked) };
        let (step, attempt) = (key.step, key.attempt);
        let fact = ApprovalAnswered { step, attempt, ask, answer: answer.clone() };
        self.append(Fact::ApprovalAnswered(fact)).await?;
        Ok(Answer::Said(answer))
    }

    /// Resolves at a time; never without one.
    async fn over(&self, until: Option<Timestamp>) {
        let Some(until) = until else { return std::future::pending().await };
        let left = until.duration_since(self.clock.now());
        tokio::time::sleep(std::time::Duration::try_from(left).unwrap_or_default()).await;
    }
}
