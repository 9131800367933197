//! Approvals: records the question and the answer. Parks the run if orch can't prompt the user now.

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use crate::durable::{ApprovalRequest, CallProgress, Interrupt, WaitOutcome};
use crate::model::event::{ApprovalAnswered, ApprovalAsked, ApprovalDecision, Fact};
use crate::model::{CallKey, Digest, StepKey};

use super::LocalRun;

/// Prompts the user at the terminal.
pub trait ApprovalPrompter: Send + Sync {
    /// Shows the question and returns the user's decision; `None` if the user postpones it. Dropping the future withdraws
    /// the question.
    fn prompt(&self, step: StepKey, question: String) -> BoxFuture<'static, Option<ApprovalDecision>>;
}

impl LocalRun {
    /// Returns the recorded answer. Without one, prompts the user at the terminal. Without a terminal, parks the run.
    pub(super) async fn request_approval(
        &self,
        key: CallKey,
        approval: ApprovalRequest,
    ) -> Result<WaitOutcome, Interrupt> {
        let text_digest = Digest::compute(approval.text.as_bytes());
        if let Some(decision) = self.lock().index.find_answer(&key, &text_digest) {
            return Ok(WaitOutcome::Answered(decision));
        }
        let recorded_expiry = self.lock().index.find_question(&key, &text_digest).map(|question| question.expires_at);
        let expires_at = if let Some(expires_at) = recorded_expiry {
            expires_at
        } else {
            let expires_at = approval.timeout_ms.and_then(|millis| {
                self.clock
                    .now()
                    .checked_add(SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)))
                    .ok()
            });
            let CallKey { step, attempt, ordinal, tool_call, input_round } = key.clone();
            let fact = ApprovalAsked {
                step,
                attempt,
                ordinal,
                tool_call,
                input_round,
                question: approval.text.clone(),
                question_digest: text_digest.clone(),
                expires_at,
            };
            self.append(Fact::ApprovalAsked(fact)).await?;
            expires_at
        };
        let Some(prompter) = &self.prompter else {
            return if expires_at.is_some_and(|expires_at| self.clock.now() >= expires_at) {
                Ok(WaitOutcome::Elapsed)
            } else {
                Err(Interrupt::Parked)
            };
        };
        // The user must be able to read the files that the question is about.
        self.flush().await?;
        self.observer.on_progress(&CallProgress::AwaitingApproval(key.step.clone()));
        let finally_step = self.finally_step(&key.step);
        let decision = tokio::select! {
            decision = prompter.prompt(key.step.clone(), approval.text) => decision,
            () = self.wait_until(expires_at) => {
                self.observer.on_progress(&CallProgress::ApprovalEnded(key.step.clone()));
                return Ok(WaitOutcome::Elapsed);
            }
            () = self.halted_groups.wait_until_step_halted(&key.step, finally_step.as_ref()) => {
                self.observer.on_progress(&CallProgress::ApprovalEnded(key.step.clone()));
                return Err(Interrupt::GroupHalted);
            }
            () = self.wait_until_abandoned(finally_step.is_some(), std::time::Duration::ZERO) => {
                return Err(Interrupt::Cancelled);
            }
        };
        let Some(decision) = decision else { return Err(Interrupt::Parked) };
        let CallKey { step, attempt, ordinal, tool_call, input_round } = key;
        let (question_digest, answer) = (text_digest, decision.clone());
        let fact = ApprovalAnswered { step, attempt, ordinal, tool_call, input_round, question_digest, answer };
        self.append(Fact::ApprovalAnswered(fact)).await?;
        Ok(WaitOutcome::Answered(decision))
    }

    /// Resolves at this time; never resolves if it is `None`.
    async fn wait_until(&self, time: Option<Timestamp>) {
        let Some(time) = time else { return std::future::pending().await };
        let remaining = time.duration_since(self.clock.now());
        tokio::time::sleep(std::time::Duration::try_from(remaining).unwrap_or_default()).await;
    }
}
