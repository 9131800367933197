//! The HTTP client of the transport. It reads the events and the bodies of a server before the crate of the protocol does,
//! and lets a request without an answer fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue};
use reqwest::Client;
use rmcp::model::{ClientJsonRpcMessage, RequestId};
use rmcp::transport::common::client_side_sse::BoxedSseResponse;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use sse_stream::Sse;

use super::event_limit::TOO_LARGE;
use super::http_error::HttpError;
use super::http_post::Post;
use super::messages::read_message;
use super::text_worker::TextWorker;

/// Whether an event of a server was over the size limit. The crate ends the answer then, and does not say why.
#[derive(Clone, Debug, Default)]
pub(super) struct EventSizes(Arc<AtomicBool>);

impl EventSizes {
    /// Whether an event was too large since this was last asked.
    pub(super) fn is_too_large(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// What [`Self::is_too_large`] returns when it is asked next.
    pub(super) fn has_too_large(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Passes on the events of an answer, and notes if one is too large.
    fn observe(&self, events: BoxedSseResponse) -> BoxedSseResponse {
        let is_too_large = self.0.clone();
        let observe = move |event: &Result<_, SseError>| {
            if let Err(SseError::Body(error)) = event
                && error.to_string().starts_with(TOO_LARGE)
            {
                is_too_large.store(true, Ordering::Relaxed);
            }
        };
        events.inspect(observe).boxed()
    }
}

/// Sends messages to a server over HTTP.
#[derive(Clone, Debug)]
pub(super) struct HttpClient {
    inner: Client,
    sizes: EventSizes,
    worker: TextWorker,
}

impl HttpClient {
    pub(super) fn new(inner: Client, sizes: EventSizes, worker: TextWorker) -> Self {
        Self { inner, sizes, worker }
    }

    /// Reads the messages in events. `open` are the requests that the events may answer.
    fn read_events(&self, events: BoxedSseResponse, open: Vec<RequestId>) -> BoxedSseResponse {
        read_events(self.sizes.observe(events), open, self.worker.clone())
    }
}

impl StreamableHttpClient for HttpClient {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let request = match &message {
            ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
            ClientJsonRpcMessage::Response(_)
            | ClientJsonRpcMessage::Notification(_)
            | ClientJsonRpcMessage::Error(_) => None,
        };
        let worker = self.worker.clone();
        let post = Post { uri, message, session_id, auth_header, custom_headers, limits, worker };
        let response = post.send(&self.inner).await?;
        match response {
            StreamableHttpPostResponse::Accepted if request.is_some() => {
                let reason = "it accepted a request with the HTTP status 202 or 204, and sent no answer";
                Err(StreamableHttpError::UnexpectedServerResponse(reason.into()))
            }
            StreamableHttpPostResponse::Sse(events, session_id) => {
                let open = request.into_iter().collect();
                Ok(StreamableHttpPostResponse::Sse(self.read_events(events, open), session_id))
            }
            other => Ok(other),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), HttpError> {
        self.inner.delete_session(uri, session_id, auth_header, custom_headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxedSseResponse, HttpError> {
        let events = self.inner.get_stream(uri, session_id, last_event_id, auth_header, custom_headers).await?;
        Ok(self.read_events(events, Vec::new()))
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<BoxedSseResponse, HttpError> {
        let events = self
            .inner
            .get_stream_with_max_sse_event_size(
                uri,
                session_id,
                last_event_id,
                auth_header,
                custom_headers,
                max_sse_event_size,
            )
            .await?;
        Ok(self.read_events(events, Vec::new()))
    }
}

/// Reads the messages in events. `open` are the requests that the events may answer.
fn read_events(events: BoxedSseResponse, open: Vec<RequestId>, worker: TextWorker) -> BoxedSseResponse {
    events.then(move |event| read_event(event, open.clone(), worker.clone())).boxed()
}

async fn read_event(event: Result<Sse, SseError>, open: Vec<RequestId>, worker: TextWorker) -> Result<Sse, SseError> {
    let mut event = event?;
    if let Some(data) = event.data.take() {
        event.data = worker.run(data.len(), move || read_data(data, &open)).await;
    }
    Ok(event)
}

/// The data of an event as the crate can read it; `None` if it has no message for orch.
fn read_data(data: String, open: &[RequestId]) -> Option<String> {
    let incoming = read_message(data.as_bytes(), open);
    if !incoming.is_changed {
        return Some(data);
    }
    incoming.messages.first().and_then(|message| serde_json::to_string(message).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_passed_on_as_it_is_unless_it_cannot_be_read() {
        let open = [RequestId::Number(7)];
        for data in ["", "ping", r#"{"jsonrpc":"2.0","id":7,"result":{"a":1.50}}"#] {
            assert_eq!(read_data(data.to_owned(), &open).as_deref(), Some(data));
        }
        let rejected = read_data(r#"{"jsonrpc":"2.0","id":7,"result":{"a":NaN}}"#.to_owned(), &open).unwrap();
        assert!(rejected.contains("\"id\":7") && rejected.contains("not valid JSON"), "{rejected}");
        assert_eq!(read_data(r#"{"jsonrpc":"2.0","id":9,"result":{"a":NaN}}"#.to_owned(), &open), None);
        let text = r#"{"jsonrpc":"2.0","id":7,"result":{"a":"x\ud83d"}}"#;
        assert!(read_data(text.to_owned(), &open).unwrap().contains("x\u{fffd}"));
    }
}
