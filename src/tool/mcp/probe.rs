//! A transport that finds out which protocol a server speaks, without waiting for a server that does not say.
//!
//! The crate first sends `server/discover`, the beginning of the new protocol, and continues with `initialize` if the
//! answer is an error. A server of the old protocol may not answer at all. This transport then answers in its place.
//!
//! It also gives calls with answers an id of their own ([`RetryIds`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use rmcp::{RoleClient, service};
use tokio::time::{Instant, timeout_at};

use super::request_ids::is_same_id;
use super::retry_ids::RetryIds;

/// What happened to the discovery.
#[derive(Clone, Debug, Default)]
pub(super) struct Discovery {
    is_silent: Arc<AtomicBool>,
    is_answered_late: Arc<AtomicBool>,
}

impl Discovery {
    /// Whether the server did not answer in time.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// Whether the server answered after that time, so that it speaks the new protocol.
    pub(super) fn is_answered_late(&self) -> bool {
        self.is_answered_late.load(Ordering::Relaxed)
    }
}

/// A transport with a time limit for the discovery.
pub(super) struct ProbedTransport<T> {
    inner: T,
    /// How long the server may take to answer the discovery; `None` for no limit.
    limit: Option<Duration>,
    discovery: Discovery,
    /// Whether a server of the old protocol may ask the user during a call.
    may_ask: bool,
    /// The discovery that the server has not answered yet, and until when it may answer.
    open: Option<(RequestId, Instant)>,
    /// The discovery that this transport answered.
    given_up: Option<RequestId>,
    retry_ids: RetryIds,
}

impl<T> ProbedTransport<T> {
    /// Wraps a transport. `discovery` tells what happened.
    pub(super) fn new(inner: T, limit: Option<Duration>, discovery: Discovery) -> Self {
        let retry_ids = RetryIds::default();
        Self { inner, limit, discovery, may_ask: false, open: None, given_up: None, retry_ids }
    }

    /// Sets whether a server of the old protocol may ask the user during a call. By default, it may not.
    pub(super) fn may_ask(mut self, may_ask: bool) -> Self {
        self.may_ask = may_ask;
        self
    }

    /// Reads what the server answered to the discovery. Returns whether the message is a late answer, which the crate
    /// does not expect any more.
    fn observe(&mut self, message: &ServerJsonRpcMessage) -> bool {
        let (id, is_success) = match message {
            JsonRpcMessage::Response(response) => (Some(&response.id), true),
            JsonRpcMessage::Error(error) => (error.id.as_ref(), false),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => return false,
        };
        // Some servers write the number of a request as a text, and leave it out if they can't read the request.
        if self.open.as_ref().is_some_and(|(open, _)| id.is_none_or(|id| is_same_id(id, open))) {
            self.open = None;
            return false;
        }
        let is_late = self.given_up.as_ref().is_some_and(|given_up| id.is_some_and(|id| is_same_id(id, given_up)));
        if is_late && is_success {
            self.discovery.is_answered_late.store(true, Ordering::Relaxed);
        }
        is_late
    }
}

/// The error in place of the server's answer.
fn silence_error(id: RequestId) -> ServerJsonRpcMessage {
    let error = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "the server did not answer", None);
    ServerJsonRpcMessage::error(error, Some(id))
}

impl<T: Transport<RoleClient> + 'static> Transport<RoleClient> for ProbedTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        mut item: service::TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let ClientJsonRpcMessage::Request(message) = &mut item {
            match &mut message.request {
                ClientRequest::DiscoverRequest(_) => {
                    self.open = self.limit.map(|limit| (message.id.clone(), Instant::now() + limit));
                }
                // See `client_config` in `handler.rs`.
                ClientRequest::InitializeRequest(request) if !self.may_ask => {
                    request.params.capabilities.elicitation = None;
                }
                _ => {}
            }
        }
        self.retry_ids.replace(&mut item);
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<service::RxJsonRpcMessage<RoleClient>> {
        loop {
            let answer = match &self.open {
                None => Ok(self.inner.receive().await),
                Some((_, deadline)) => timeout_at(*deadline, self.inner.receive()).await,
            };
            if let Ok(message) = answer {
                let mut message = message?;
                self.retry_ids.restore(&mut message);
                if !self.observe(&message) {
                    return Some(message);
                }
            } else if let Some((id, _)) = self.open.take() {
                self.given_up = Some(id.clone());
                self.discovery.is_silent.store(true, Ordering::Relaxed);
                return Some(silence_error(id));
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rmcp::ClientHandler as _;
    use rmcp::model::{DiscoverRequest, DiscoverRequestParams, InitializeRequest};
    use serde_json::{Value, json};
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;
    use crate::tool::mcp::handler::Handler;

    /// A transport over channels.
    struct Channels {
        sent: UnboundedSender<ClientJsonRpcMessage>,
        received: UnboundedReceiver<ServerJsonRpcMessage>,
    }

    impl Transport<RoleClient> for Channels {
        type Error = io::Error;

        fn send(
            &mut self,
            item: service::TxJsonRpcMessage<RoleClient>,
        ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
            self.sent.send(item).unwrap();
            std::future::ready(Ok(()))
        }

        fn receive(&mut self) -> impl Future<Output = Option<service::RxJsonRpcMessage<RoleClient>>> + Send {
            self.received.recv()
        }

        fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
            std::future::ready(Ok(()))
        }
    }

    struct Site {
        transport: ProbedTransport<Channels>,
        discovery: Discovery,
        sent: UnboundedReceiver<ClientJsonRpcMessage>,
        server: UnboundedSender<ServerJsonRpcMessage>,
    }

    /// A transport that has sent the discovery with the id 0.
    async fn site() -> Site {
        let (sent, sent_receiver) = unbounded_channel();
        let (server, received) = unbounded_channel();
        let discovery = Discovery::default();
        let inner = Channels { sent, received };
        let transport = ProbedTransport::new(inner, Some(Duration::from_secs(3)), discovery.clone());
        let mut site = Site { transport, discovery, sent: sent_receiver, server };
        site.send(ClientRequest::DiscoverRequest(DiscoverRequest::new(DiscoverRequestParams {})), 0).await;
        site
    }

    impl Site {
        async fn send(&mut self, request: ClientRequest, id: i64) {
            self.transport.send(ClientJsonRpcMessage::request(request, RequestId::Number(id))).await.unwrap();
        }

        fn answer(&self, message: Value) {
            self.server.send(serde_json::from_value(message).unwrap()).unwrap();
        }

        async fn receive(&mut self) -> Value {
            serde_json::to_value(self.transport.receive().await.unwrap()).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_gets_an_error_in_its_place_and_its_late_answer_is_noted() {
        let mut site = site().await;
        site.answer(
            json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info", "data": 1 } }),
        );
        assert_eq!(site.receive().await["method"], "notifications/message");
        let answer = site.receive().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(0), &json!(-32601)), "{answer}");
        assert!(site.discovery.is_silent() && !site.discovery.is_answered_late());
        site.answer(json!({ "jsonrpc": "2.0", "id": 0, "result": { "a": 1 } }));
        site.answer(json!({ "jsonrpc": "2.0", "id": 1, "result": { "a": 2 } }));
        assert_eq!(site.receive().await["id"], 1);
        assert!(site.discovery.is_answered_late());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_passed_on() {
        for message in [
            json!({ "jsonrpc": "2.0", "id": 0, "result": {} }),
            json!({ "jsonrpc": "2.0", "id": "0", "result": {} }),
            json!({ "jsonrpc": "2.0", "error": { "code": -32600, "message": "x" } }),
        ] {
            let mut site = site().await;
            site.answer(message.clone());
            assert_eq!(site.receive().await, message);
            tokio::time::advance(Duration::from_secs(10)).await;
            site.answer(json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
            assert_eq!(site.receive().await["id"], 1);
            assert!(!site.discovery.is_silent());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_protocol_gets_no_questions() {
        let mut site = site().await;
        let config = Handler::new().get_info();
        assert!(config.capabilities.elicitation.is_some());
        site.send(ClientRequest::InitializeRequest(InitializeRequest::new(config)), 1).await;
        site.sent.recv().await.unwrap();
        let sent = serde_json::to_value(site.sent.recv().await.unwrap()).unwrap();
        assert_eq!((&sent["method"], &sent["params"]["capabilities"]), (&json!("initialize"), &json!({})));
    }
}
