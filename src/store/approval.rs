//! Approvals: records the question and the answer. If orch can't prompt the user now, it ends the process, and the run
//! waits for the answer.

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tracing::info;

use crate::durable::{ApprovalRequest, CallProgress, Interrupt, WaitOutcome};
use crate::history::{approval_answered, approval_asked, question_digest};
use crate::model::event::{ApprovalDecision, Fact};
use crate::model::{CallKey, Digest, StepKey};

use super::branch_activity::BranchActivity;
use super::inbox::read_messages;
use super::wait_log::{WaitReason, log_wait};
use super::{InboxMessage, LocalRun};

/// Prompts the user at the terminal.
pub trait ApprovalPrompter: Send + Sync {
    /// Shows the question and returns the user's decision; `None` if the user postpones it. Dropping the future withdraws
    /// the question.
    fn prompt(&self, step: StepKey, question: String) -> BoxFuture<'static, Option<ApprovalDecision>>;

    /// Shows that another process has answered the question of a step, which is withdrawn next.
    fn show_other_answer(&self, _step: &StepKey, _decision: &ApprovalDecision) {}

    /// Whether the user chose the name in the answers to the questions of this step, so that a replay does not replace it
    /// by the recorded name.
    fn has_chosen_name(&self, _step: &StepKey) -> bool {
        false
    }
}

/// A recorded question without an answer.
struct OpenQuestion {
    key: CallKey,
    text: String,
    digest: Digest,
    expires_at: Option<Timestamp>,
}

impl LocalRun {
    /// Returns the answer: the recorded one, that of the user at the terminal, or that of another process. Without a
    /// terminal, or if its user postpones the answer, interrupts the run ([`Interrupt::Parked`]) as soon as nothing
    /// else can continue.
    ///
    /// In a replay, the answer to an approval step has the recorded name, because later requests may contain it.
    pub(super) async fn request_approval(
        &self,
        key: CallKey,
        approval: ApprovalRequest,
    ) -> Result<WaitOutcome, Interrupt> {
        let is_approval_step = key.tool_call.is_none() && key.input_round.is_none();
        let (step, question) = (key.step.clone(), approval.text.clone());
        let mut outcome = self.answer_of_user(key, approval).await?;
        if let WaitOutcome::Answered(decision) = &mut outcome
            && is_approval_step
        {
            let recorded_name = self.perform.on_answered(&step, &question, decision);
            let is_chosen = self.prompter.as_ref().is_some_and(|prompter| prompter.has_chosen_name(&step));
            if let Some(name) = recorded_name.filter(|_| !is_chosen) {
                decision.by = name;
            }
        }
        Ok(outcome)
    }

    async fn answer_of_user(&self, key: CallKey, approval: ApprovalRequest) -> Result<WaitOutcome, Interrupt> {
        let digest = question_digest(&approval);
        let recorded = self.lock().index.find_answer(&key, &digest);
        if let Some(decision) = recorded {
            info!(approved = decision.approved, "the question has a recorded answer");
            return Ok(WaitOutcome::Answered(decision));
        }
        log_wait(&key, WaitReason::Answer, self.ask_user(key.clone(), approval, digest)).await
    }

    /// Asks the question, and waits for its answer.
    async fn ask_user(
        &self,
        key: CallKey,
        approval: ApprovalRequest,
        digest: Digest,
    ) -> Result<WaitOutcome, Interrupt> {
        let expires_at = self.record_question(&key, &approval, &digest).await?;
        info!(on_terminal = self.prompter.is_some(), "orch asks the user");
        let question = OpenQuestion { key, text: approval.text, digest, expires_at };
        if let Some(prompter) = &self.prompter
            && let Some(outcome) = self.prompt(&**prompter, &question).await?
        {
            return Ok(outcome);
        }
        self.wait_for_answer(question).await
    }

    /// Records the question, unless an earlier session has. Returns the deadline for the answer.
    async fn record_question(
        &self,
        key: &CallKey,
        approval: &ApprovalRequest,
        digest: &Digest,
    ) -> Result<Option<Timestamp>, Interrupt> {
        let recorded_expiry = self.lock().index.find_question(key, digest).map(|question| question.expires_at);
        if let Some(expires_at) = recorded_expiry {
            return Ok(expires_at);
        }
        let fact = approval_asked(key, approval, self.clock.now());
        let expires_at = fact.expires_at;
        self.append(Fact::ApprovalAsked(fact)).await?;
        Ok(expires_at)
    }

    /// Asks the user at the terminal, unless another process answers before. Returns `None` if the user postpones the
    /// answer.
    async fn prompt(
        &self,
        prompter: &dyn ApprovalPrompter,
        question: &OpenQuestion,
    ) -> Result<Option<WaitOutcome>, Interrupt> {
        // The user must be able to read the files that the question is about.
        self.flush().await?;
        let step = &question.key.step;
        self.observer.on_progress(&CallProgress::AwaitingApproval(step.clone()));
        let finally_step = self.finally_step(step);
        let answered_elsewhere = async {
            let decision = self.wait_until_answered(question).await;
            prompter.show_other_answer(step, &decision);
            decision
        };
        let decision = tokio::select! {
            biased;
            heard = answered_elsewhere => {
                self.observer.on_progress(&CallProgress::ApprovalEnded(step.clone()));
                return Ok(Some(WaitOutcome::Answered(heard)));
            }
            decision = prompter.prompt(step.clone(), question.text.clone()) => decision,
            expired = self.wait_until_expired(question) => {
                self.observer.on_progress(&CallProgress::ApprovalEnded(step.clone()));
                return expired.map(|()| Some(WaitOutcome::Elapsed));
            }
            () = self.halt_signal.wait_until_step_halted(step, finally_step.as_ref()) => {
                self.observer.on_progress(&CallProgress::ApprovalEnded(step.clone()));
                return Err(Interrupt::GroupHalted);
            }
            () = self.wait_until_abandoned(finally_step.is_some(), std::time::Duration::ZERO) => {
                return Err(Interrupt::Cancelled);
            }
        };
        let Some(decision) = decision else {
            self.observer.on_progress(&CallProgress::ApprovalEnded(step.clone()));
            return Ok(None);
        };
        let fact = approval_answered(&question.key, &question.digest, decision.clone());
        self.append(Fact::ApprovalAnswered(fact)).await?;
        Ok(Some(WaitOutcome::Answered(decision)))
    }

    /// Waits for the answer of another process while other branches continue. Interrupts the run
    /// ([`Interrupt::Parked`]) when none can continue.
    async fn wait_for_answer(&self, question: OpenQuestion) -> Result<WaitOutcome, Interrupt> {
        if question.expires_at.is_some_and(|expires_at| self.clock.now() >= expires_at) {
            // The answer of another process may be in the inbox, and it may have come in time.
            return tokio::select! {
                biased;
                heard = self.wait_until_answered(&question) => Ok(WaitOutcome::Answered(heard)),
                expired = self.wait_until_expired(&question) => expired.map(|()| WaitOutcome::Elapsed),
            };
        }
        let step = &question.key.step;
        let finally_step = self.finally_step(step);
        let _wait = BranchActivity::current(&self.activity).begin_wait();
        tokio::select! {
            biased;
            heard = self.wait_until_answered(&question) => return Ok(WaitOutcome::Answered(heard)),
            expired = self.wait_until_expired(&question) => return expired.map(|()| WaitOutcome::Elapsed),
            () = self.halt_signal.wait_until_step_halted(step, finally_step.as_ref()) => {
                return Err(Interrupt::GroupHalted);
            }
            // A stop ends the other branches, so it ends this wait too.
            () = self.activity.wait_until_blocked() => {}
        }
        self.lock().parked_questions.push((question.key, question.digest));
        Err(Interrupt::Parked)
    }

    /// Resolves when orch has heard the answer of another process.
    async fn wait_until_answered(&self, question: &OpenQuestion) -> ApprovalDecision {
        loop {
            // Subscribe before looking, so that no message in between is missed.
            let heard = self.message_taken.notified();
            let decision = self.lock().index.find_own_answer(&question.key, &question.digest);
            if let Some(decision) = decision {
                return decision;
            }
            heard.await;
        }
    }

    /// Resolves when the time for an answer is over. Never resolves if another process has answered in time: this process
    /// will hear that answer.
    async fn wait_until_expired(&self, question: &OpenQuestion) -> Result<(), Interrupt> {
        let Some(expires_at) = question.expires_at else { return std::future::pending().await };
        let remaining = expires_at.duration_since(self.clock.now());
        tokio::time::sleep(std::time::Duration::try_from(remaining).unwrap_or_default()).await;
        let messages = read_messages(&self.journal_path, self.run);
        let messages = messages.map_err(|error| Interrupt::Storage(error.run_failure()))?;
        let is_in_time = |message: &InboxMessage| match message {
            InboxMessage::Answer(answer) => {
                let is_same = answer.key() == question.key && answer.question_digest == question.digest;
                is_same && answer.answer.at <= expires_at
            }
            InboxMessage::Cancel(_) | InboxMessage::RaiseBudget(_) => false,
        };
        if messages.iter().any(|(_, message)| is_in_time(message)) {
            return std::future::pending().await;
        }
        Ok(())
    }
}
