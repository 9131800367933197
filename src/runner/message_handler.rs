//! Hears the messages of other processes while this process executes a run.
//!
//! An answer continues the step that waits for it, a request to stop stops the run, and a raised budget lets waiting calls
//! start. Nothing else of the run notices.

use std::convert::Infallible;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::info;

use crate::accounts::BudgetAccount;
use crate::durable::Interrupt;
use crate::model::RunId;
use crate::model::event::{BudgetRaised, Fact};
use crate::store::{InboxMessage, Journal, LocalRun, WatchedMessage};

use super::Runner;
use super::cancel::CancelHandle;
use super::error::RunnerError;

/// What messages can change in a session of a run.
pub(super) struct MessageHandler<'a> {
    pub(super) run_id: RunId,
    pub(super) run: &'a LocalRun,
    pub(super) budgets: &'a dyn BudgetAccount,
    pub(super) cancel: &'a CancelHandle,
    /// When this process became the owner of the run.
    pub(super) owned_since: Timestamp,
    pub(super) runner: &'a Runner,
}

impl MessageHandler<'_> {
    /// Does the work of a session, and hears the messages that wait in the inbox and those that arrive meanwhile.
    pub(super) async fn handle_during<T>(
        &self,
        journal: &Journal,
        pending: Vec<(i64, InboxMessage)>,
        work: impl Future<Output = T>,
    ) -> Result<T, RunnerError> {
        let mut last = 0;
        for (id, message) in pending {
            last = id;
            // The next fact that orch waits for makes these durable too.
            drop(self.handle(id, message));
        }
        let (sender, receiver) = unbounded_channel();
        let _watcher = journal.watch_inbox(self.run_id, last, sender)?;
        Ok(tokio::select! {
            biased;
            never = self.handle_messages(receiver) => match never {},
            result = work => result,
        })
    }

    async fn handle_messages(&self, mut messages: UnboundedReceiver<WatchedMessage>) -> Infallible {
        loop {
            match messages.recv().await {
                Some(Ok((id, message))) => {
                    // If the journal can't record it, it can't record the next fact of a step either, which ends the run.
                    if self.handle(id, message).await.is_err() {
                        break;
                    }
                }
                Some(Err(error)) => {
                    self.runner.reporter.note(&format!("this run can't hear other processes now: {error}"));
                }
                None => break,
            }
        }
        std::future::pending().await
    }

    /// Applies a message and records it. The returned future resolves when the journal has committed it.
    fn handle(&self, id: i64, message: InboxMessage) -> BoxFuture<'static, Result<(), Interrupt>> {
        info!(kind = message.kind(), "the run takes a message of another process");
        let fact = match message {
            // The user meant the session that ran then.
            InboxMessage::Cancel(request) if request.at < self.owned_since => return self.run.discard_message(id),
            InboxMessage::RaiseBudget(raise) => {
                Fact::BudgetRaised(BudgetRaised { budget: self.budgets.raise(&raise.budget), ..raise })
            }
            message @ (InboxMessage::Cancel(_) | InboxMessage::Answer(_)) => message.into_fact(),
        };
        let stops = matches!(fact, Fact::CancelRequested(_));
        let recorded = self.run.take_message(id, fact);
        if stops {
            let is_second = !self.cancel.cancel();
            drop(self.cancel.announce_stop(is_second));
        }
        recorded
    }
}
