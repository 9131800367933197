//! Approvals: records the question and the answer, and parks the run if the user can't be asked now.

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use crate::durable::{Approval, CallProgress, Interrupt, WaitOutcome};
use crate::model::event::{ApprovalAnswered, ApprovalAsked, ApprovalDecision, Fact};
use crate::model::{CallKey, Digest, StepKey};

use super::LocalRun;

/// Asks the user at the terminal.
pub trait ApprovalPrompter: Send + Sync {
    /// Shows `shown` and returns the decision; `None` if the user postpones it.
    fn ask(&self, step: StepKey, shown: String) -> BoxFuture<'static, Option<ApprovalDecision>>;
}

impl LocalRun {
    /// Returns the recorded answer, else asks the user at the terminal, else parks the run.
    pub(super) async fn ask_person(&self, key: CallKey, approval: Approval) -> Result<WaitOutcome, Interrupt> {
        let ask = Digest::of(approval.shown.as_bytes());
        if let Some(verdict) = self.lock().index.answer(&key, &ask) {
            return Ok(WaitOutcome::Answered(verdict));
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
            let fact = ApprovalAsked { step, attempt, shown, shown_digest: ask.clone(), until };
            self.append(Fact::ApprovalAsked(fact)).await?;
            until
        };
        let Some(asker) = &self.asker else {
            return if until.is_some_and(|until| self.clock.now() >= until) {
                Ok(WaitOutcome::Elapsed)
            } else {
                Err(Interrupt::Parked)
            };
        };
        // The user must be able to look at the files that the question is about.
        self.settle().await?;
        self.observer.signal(&CallProgress::Asking(key.step.clone()));
        let closing = self.closing(&key.step);
        let answer = tokio::select! {
            answer = asker.ask(key.step.clone(), approval.shown) => answer,
            () = self.over(until) => return Ok(WaitOutcome::Elapsed),
            () = self.halted.reaches(&key.step, closing.as_ref()) => return Err(Interrupt::Dropped),
            () = self.given_up(closing.is_some(), std::time::Duration::ZERO) => return Err(Interrupt::Cancelled),
        };
        let Some(answer) = answer else { return Err(Interrupt::Parked) };
        let (step, attempt) = (key.step, key.attempt);
        let fact = ApprovalAnswered { step, attempt, shown_digest: ask, answer: answer.clone() };
        self.append(Fact::ApprovalAnswered(fact)).await?;
        Ok(WaitOutcome::Answered(answer))
    }

    /// Resolves at `until`; never if there is none.
    async fn over(&self, until: Option<Timestamp>) {
        let Some(until) = until else { return std::future::pending().await };
        let left = until.duration_since(self.clock.now());
        tokio::time::sleep(std::time::Duration::try_from(left).unwrap_or_default()).await;
    }
}
