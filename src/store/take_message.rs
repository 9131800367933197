//! Records the messages of other processes to a run in progress.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::durable::Interrupt;
use crate::model::event::Fact;

use super::LocalRun;

impl LocalRun {
    /// Records the fact of a message and removes the message from the inbox, in one transaction. The steps that wait for
    /// the fact continue at once: the message is durable already, and every later fact is committed after this one.
    ///
    /// Records no answer to a question that has one. The returned future resolves when the journal has committed this;
    /// the caller may drop it.
    pub fn take_message(&self, message: i64, fact: Fact) -> BoxFuture<'static, Result<(), Interrupt>> {
        if let Fact::ApprovalAnswered(answer) = &fact
            && self.lock().index.is_answered(&answer.key(), &answer.question_digest)
        {
            return self.discard_message(message);
        }
        let hold = self.clock.hold_virtual_time();
        let (_, ack) = self.send_next(fact, |writer, event| writer.take_message(message, Some(event)));
        self.message_taken.notify_waiters();
        self.until_committed(ack, hold).boxed()
    }

    /// Removes a message from the inbox without recording anything.
    pub fn discard_message(&self, message: i64) -> BoxFuture<'static, Result<(), Interrupt>> {
        let hold = self.clock.hold_virtual_time();
        let ack = self.writer.take_message(message, None);
        self.until_committed(ack, hold).boxed()
    }

    /// Whether the answer to a question came after the session had stopped to wait for it.
    pub fn has_late_answer(&self) -> bool {
        let shared = self.lock();
        shared.parked_questions.iter().any(|(key, digest)| shared.index.is_answered(key, digest))
    }
}
