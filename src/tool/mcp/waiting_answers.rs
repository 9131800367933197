//! Limits the answers to requests of a server that wait to be sent.
//!
//! The crate of the protocol answers every request of a server, and keeps each answer until the server has taken it. A
//! server that sends requests and does not read the answers would fill the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::{RoleClient, service};
use tokio::sync::Notify;
use tokio::task::yield_now;

/// The maximum number of answers that wait to be sent to a server.
pub(super) const MAX_WAITING_ANSWERS: usize = 1_000;
/// The maximum size of these answers, in bytes.
pub(super) const MAX_WAITING_BYTES: usize = 1 << 20;

/// The answers of a connection that wait to be sent.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingAnswers(Arc<WaitingState>);

#[derive(Debug, Default)]
struct WaitingState {
    count: AtomicUsize,
    bytes: AtomicUsize,
    is_over_limit: AtomicBool,
    is_stopped: AtomicBool,
    /// Notified when one of the two becomes true.
    changed: Notify,
}

impl WaitingAnswers {
    /// Whether an answer waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.0.count.load(Ordering::Relaxed) > 0
    }

    /// Whether more answers waited than the limit allows. The connection ends then.
    pub(super) fn is_over_limit(&self) -> bool {
        self.0.is_over_limit.load(Ordering::Relaxed)
    }

    /// Waits until more answers wait than the limit allows.
    pub(super) async fn wait_over_limit(&self) {
        self.wait_for(&self.0.is_over_limit).await;
    }

    /// Gives up every message that waits to be sent, because the connection ends.
    pub(super) fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }

    async fn wait_stopped(&self) {
        self.wait_for(&self.0.is_stopped).await;
    }

    async fn wait_for(&self, flag: &AtomicBool) {
        loop {
            // Created before the flag is read, so that no notification is missed.
            let changed = self.0.changed.notified();
            if flag.load(Ordering::Relaxed) {
                return;
            }
            changed.await;
        }
    }

    /// Counts an answer until the returned value is dropped.
    fn add(&self, bytes: usize) -> WaitingAnswer {
        let count = self.0.count.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.0.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if count > MAX_WAITING_ANSWERS || total > MAX_WAITING_BYTES {
            self.0.is_over_limit.store(true, Ordering::Relaxed);
            self.stop();
        }
        WaitingAnswer { answers: self.clone(), bytes }
    }
}

/// An answer that waits to be sent.
struct WaitingAnswer {
    answers: WaitingAnswers,
    bytes: usize,
}

impl Drop for WaitingAnswer {
    fn drop(&mut self) {
        self.answers.0.count.fetch_sub(1, Ordering::Relaxed);
        self.answers.0.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A transport that ends if too many answers wait.
pub(super) struct AnswerLimitTransport<T> {
    inner: T,
    answers: WaitingAnswers,
    /// Whether the last message was a request, which the crate has to answer before the next message is read. Otherwise
    /// requests that have arrived together would not be counted yet.
    has_request: bool,
}

impl<T> AnswerLimitTransport<T> {
    /// Wraps a transport, and counts its answers in `answers`.
    pub(super) fn new(inner: T, answers: WaitingAnswers) -> Self {
        Self { inner, answers, has_request: false }
    }
}

impl<T: Transport<RoleClient> + 'static> Transport<RoleClient> for AnswerLimitTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: service::TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let is_answer = matches!(item, ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_));
        // An answer of unknown size takes all the room that there is.
        let size = || serde_json::to_vec(&item).map_or(MAX_WAITING_BYTES, |json| json.len());
        let answer = is_answer.then(|| self.answers.add(size()));
        let (answers, sending) = (self.answers.clone(), self.inner.send(item));
        async move {
            let sent = tokio::select! {
                biased;
                sent = sending => sent,
                () = answers.wait_stopped() => Ok(()),
            };
            drop(answer);
            sent
        }
    }

    /// May be dropped at any time if that is true of the inner transport.
    async fn receive(&mut self) -> Option<service::RxJsonRpcMessage<RoleClient>> {
        if self.has_request {
            yield_now().await;
            self.has_request = false;
        }
        let message = tokio::select! {
            biased;
            () = self.answers.wait_over_limit() => return None,
            message = self.inner.receive() => message?,
        };
        self.has_request = matches!(message, JsonRpcMessage::Request(_));
        Some(message)
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use rmcp::model::{ErrorData, RequestId};
    use serde_json::json;

    use super::*;

    /// A server that sends requests without an end, and takes answers only if it `reads` them.
    struct Asking {
        reads: bool,
    }

    impl Transport<RoleClient> for Asking {
        type Error = io::Error;

        fn send(
            &mut self,
            _: service::TxJsonRpcMessage<RoleClient>,
        ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
            let reads = self.reads;
            async move { if reads { Ok(()) } else { std::future::pending().await } }
        }

        fn receive(&mut self) -> impl Future<Output = Option<service::RxJsonRpcMessage<RoleClient>>> + Send {
            let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
            std::future::ready(serde_json::from_value(ping).ok())
        }

        fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
            std::future::ready(Ok(()))
        }
    }

    type Sending = BoxFuture<'static, io::Result<()>>;

    /// Answers up to 2,000 requests. Returns the answers that wait, and the number of requests.
    async fn answer_all(transport: &mut AnswerLimitTransport<Asking>, text: &str) -> (Vec<Sending>, usize) {
        let mut waiting: Vec<Sending> = Vec::new();
        for number in 0..2_000 {
            if transport.receive().await.is_none() {
                return (waiting, number);
            }
            let error = ErrorData::invalid_request(text.to_owned(), None);
            let answer = ClientJsonRpcMessage::error(error, Some(RequestId::Number(1)));
            let mut sending: Sending = Box::pin(transport.send(answer));
            if (&mut sending).now_or_never().is_none() {
                waiting.push(sending);
            }
        }
        (waiting, 2_000)
    }

    #[tokio::test]
    async fn a_connection_ends_when_too_many_answers_wait() {
        for (text, limit) in [("no".to_owned(), MAX_WAITING_ANSWERS), ("x".repeat(MAX_WAITING_BYTES / 100), 99)] {
            let answers = WaitingAnswers::default();
            let mut transport = AnswerLimitTransport::new(Asking { reads: false }, answers.clone());
            let (waiting, count) = answer_all(&mut transport, &text).await;
            assert_eq!((waiting.len(), count, answers.is_over_limit()), (limit, limit + 1, true));
            // The connection ends without these answers, so the crate must not wait until they are sent.
            for sending in waiting {
                sending.await.unwrap();
            }
            assert!(!answers.is_waiting());
            assert!(transport.receive().await.is_none());
        }
    }

    #[tokio::test]
    async fn answers_that_the_server_reads_do_not_count() {
        let answers = WaitingAnswers::default();
        let mut transport = AnswerLimitTransport::new(Asking { reads: true }, answers.clone());
        let (waiting, count) = answer_all(&mut transport, "no").await;
        assert_eq!((waiting.len(), count, answers.is_over_limit()), (0, 2_000, false));
        answers.stop();
        assert!(transport.receive().await.is_some() && !answers.is_over_limit());
    }
}
