//! Sends a message to a server over HTTP, and reads the body of the response before the crate of the protocol does.
//!
//! The crate sends messages itself, too, but parses a body of JSON without a limit of its values, and drops an answer that
//! it can't read.

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage};
use rmcp::transport::common::http_header::{
    EVENT_STREAM_MIME_TYPE, HEADER_LAST_EVENT_ID, HEADER_SESSION_ID, JSON_MIME_TYPE,
};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, InsufficientScopeError, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};

use crate::network::send_logged;
use crate::tool::http_client::describe_problem;

use super::event_limit::limited_events;
use super::http::{MAX_REDIRECTS, redirect_refusal};
use super::http_error::{HttpError, HttpProblem};
use super::messages::read_message;
use super::request_ids::is_same_id;
use super::text_worker::TextWorker;

/// The part of a body that is no message which an error contains, in bytes.
const MAX_QUOTED_BYTES: usize = 256;

/// A message for a server.
pub(super) struct Post {
    pub(super) uri: Arc<str>,
    pub(super) message: ClientJsonRpcMessage,
    pub(super) session_id: Option<Arc<str>>,
    pub(super) auth_header: Option<String>,
    pub(super) custom_headers: HashMap<HeaderName, HeaderValue>,
    pub(super) limits: StreamableHttpResponseLimits,
    /// Reads bodies, which may be large.
    pub(super) worker: TextWorker,
}

impl Post {
    /// Sends the message, and reads the response; of a stream of events, only the beginning.
    pub(super) async fn send(self, client: &Client) -> Result<StreamableHttpPostResponse, HttpError> {
        let request = self.request(client)?;
        let (id, is_discovery) = match &self.message {
            ClientJsonRpcMessage::Request(message) => {
                (Some(message.id.clone()), matches!(message.request, ClientRequest::DiscoverRequest(_)))
            }
            ClientJsonRpcMessage::Response(_)
            | ClientJsonRpcMessage::Notification(_)
            | ClientJsonRpcMessage::Error(_) => (None, false),
        };
        let has_session = self.session_id.is_some();
        let (is_discovery, limits) = (is_discovery && !has_session, self.limits);
        let sent = SentMessage { id, is_discovery, has_session, limits, worker: self.worker.clone() };
        drop(self);
        sent.read(send_logged("mcp", "POST", request).await?).await
    }

    fn request(&self, client: &Client) -> Result<RequestBuilder, HttpError> {
        let types = format!("{EVENT_STREAM_MIME_TYPE}, {JSON_MIME_TYPE}");
        let mut request = client.post(self.uri.as_ref()).header(ACCEPT, types);
        if !self.custom_headers.contains_key(&CONTENT_TYPE) {
            request = request.header(CONTENT_TYPE, JSON_MIME_TYPE);
        }
        if let Some(token) = &self.auth_header {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.custom_headers {
            let is_reserved = |reserved: &str| name.as_str().eq_ignore_ascii_case(reserved);
            if [ACCEPT.as_str(), HEADER_SESSION_ID, HEADER_LAST_EVENT_ID].into_iter().any(is_reserved) {
                return Err(StreamableHttpError::ReservedHeaderConflict(name.to_string()));
            }
            request = request.header(name, value);
        }
        if let Some(session) = &self.session_id {
            request = request.header(HEADER_SESSION_ID, session.as_ref());
        }
        Ok(request.body(serde_json::to_vec(&self.message)?))
    }
}

/// What is known about a message that was sent.
struct SentMessage {
    /// The id of a request; `None` for any other message, which needs no answer.
    id: Option<RequestId>,
    /// Whether the message asks for the version of the protocol, outside of a session.
    is_discovery: bool,
    has_session: bool,
    limits: StreamableHttpResponseLimits,
    worker: TextWorker,
}

impl SentMessage {
    async fn read(self, response: Response) -> Result<StreamableHttpPostResponse, HttpError> {
        let status = response.status();
        if let Some(error) = challenge_error(&response) {
            return Err(error);
        }
        if let Some(problem) = redirect_problem(&response) {
            return Err(problem.into());
        }
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && self.has_session {
            return Err(StreamableHttpError::SessionExpired);
        }
        if status.is_success() { self.read_success(response).await } else { self.read_error(response).await }
    }

    async fn read_success(self, response: Response) -> Result<StreamableHttpPostResponse, HttpError> {
        if self.id.is_none() && response.content_length() == Some(0) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let session = header_text(&response, HEADER_SESSION_ID);
        match media_type(&response).as_deref() {
            Some(EVENT_STREAM_MIME_TYPE) => {
                let events = limited_events(response.bytes_stream(), self.limits.max_sse_event_size);
                Ok(StreamableHttpPostResponse::Sse(events, session))
            }
            Some(JSON_MIME_TYPE) => {
                let body = read_body(response, self.limits.max_json_response_size).await?;
                match self.read_answer(body).await {
                    Ok(message) => Ok(StreamableHttpPostResponse::Json(message, session)),
                    Err(_) if self.id.is_none() => Ok(StreamableHttpPostResponse::Accepted),
                    Err(reason) => Err(StreamableHttpError::UnexpectedServerResponse(reason.into())),
                }
            }
            _ if self.id.is_none() => Ok(StreamableHttpPostResponse::Accepted),
            _ => Err(StreamableHttpError::UnexpectedContentType(header_text(&response, CONTENT_TYPE.as_str()))),
        }
    }

    /// The answer in a body. An answer that orch does not accept is an error in its place. The error of this function is
    /// the reason why the body has no answer.
    async fn read_answer(&self, body: Vec<u8>) -> Result<ServerJsonRpcMessage, String> {
        let (message, body) = self.read_message(body).await;
        let message = message.ok_or_else(|| describe_body(&body))?;
        let Some(id) = &self.id else { return Ok(message) };
        let is_own = |other: &RequestId| is_same_id(other, id);
        match message {
            JsonRpcMessage::Response(response) if is_own(&response.id) => Ok(JsonRpcMessage::Response(response)),
            JsonRpcMessage::Error(error) if error.id.as_ref().is_none_or(is_own) => {
                Ok(JsonRpcMessage::error(error.error, Some(id.clone())))
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {
                Err("its answer has the id of another request".to_owned())
            }
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => {
                Err("it sent a message that is no answer in the place of one".to_owned())
            }
        }
    }

    /// Reads the message in a body. Returns the body, too.
    async fn read_message(&self, body: Vec<u8>) -> (Option<ServerJsonRpcMessage>, Vec<u8>) {
        let (size, open): (usize, Vec<RequestId>) = (body.len(), self.id.iter().cloned().collect());
        let read = move || {
            let message = read_message(&body, &open).messages.into_iter().next();
            (message, body)
        };
        self.worker.run(size, read).await
    }

    async fn read_error(self, response: Response) -> Result<StreamableHttpPostResponse, HttpError> {
        let status = response.status();
        let is_json = media_type(&response).as_deref() == Some(JSON_MIME_TYPE);
        if let Some(error) = status_error(status)
            && (!is_json || status == StatusCode::TOO_MANY_REQUESTS)
        {
            return Err(error);
        }
        let session = header_text(&response, HEADER_SESSION_ID);
        let max_text = self.limits.max_error_response_size;
        // The status of a refusal says more than an error in its body.
        let body = if is_json && !is_refusal(status) {
            match read_body(response, self.limits.max_json_response_size).await {
                Ok(body) => body,
                Err(error @ StreamableHttpError::ResponseBodyTooLarge { .. }) => {
                    return Err(status_error(status).unwrap_or(error));
                }
                // The status is known, although the body was cut off.
                Err(_) => Vec::new(),
            }
        } else {
            read_beginning(response, max_text).await
        };
        let (message, body) = if is_json && !is_refusal(status) { self.read_message(body).await } else { (None, body) };
        if let Some(JsonRpcMessage::Error(error)) = message {
            // The body belongs to this request, whatever its id: a proxy or a framework may not know the id.
            let message = JsonRpcMessage::error(error.error, self.id.or(error.id));
            return Ok(StreamableHttpPostResponse::Json(message, session));
        }
        self.describe_status(status, &beginning(&body, max_text))
    }

    /// The outcome of a response that has an HTTP status in the place of an answer.
    fn describe_status(self, status: StatusCode, text: &str) -> Result<StreamableHttpPostResponse, HttpError> {
        if self.is_discovery && status.is_client_error() && !is_refusal(status) {
            // A server of the old protocol may answer the question for the new one in this way.
            let error = ErrorData::invalid_request(format!("server/discover got HTTP {status}: {text}"), None);
            return Ok(StreamableHttpPostResponse::Json(JsonRpcMessage::error(error, self.id), None));
        }
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        let other = || StreamableHttpError::UnexpectedServerResponse(format!("HTTP {status}{text}").into());
        Err(status_error(status).unwrap_or_else(other))
    }
}

/// The error of a server that wants other credentials, and says which.
fn challenge_error(response: &Response) -> Option<HttpError> {
    let challenge = header_text(response, WWW_AUTHENTICATE.as_str())?;
    match response.status() {
        StatusCode::UNAUTHORIZED => Some(StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge))),
        StatusCode::FORBIDDEN => {
            Some(StreamableHttpError::InsufficientScope(InsufficientScopeError::new(challenge, None)))
        }
        _ => None,
    }
}

/// Why orch did not follow a redirect, if the response is one. The redirects before it had the same origin.
fn redirect_problem(response: &Response) -> Option<HttpProblem> {
    let status = response.status().as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = header_text(response, LOCATION.as_str());
    let target = location.as_deref().and_then(|location| response.url().join(location).ok());
    let reason = match &target {
        None if location.is_none() => "it names no address".to_owned(),
        None => "its address can't be read".to_owned(),
        Some(target) => match redirect_refusal(status, response.url(), target) {
            Some(refusal) => refusal.to_owned(),
            None => format!("it has followed {MAX_REDIRECTS} redirects already"),
        },
    };
    Some(HttpProblem::Redirect { status, target: target.map(String::from).or(location), reason })
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The error of a status that says all, unless the body has an error of the protocol.
fn status_error(status: StatusCode) -> Option<HttpError> {
    let says_all = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    says_all.then(|| HttpStatusError::new(status.as_u16(), None).into())
}

fn header_text(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The type of a body, without parameters and in lower case.
fn media_type(response: &Response) -> Option<String> {
    let text = header_text(response, CONTENT_TYPE.as_str())?;
    text.split(';').next().map(|name| name.trim().to_ascii_lowercase())
}

/// Reads a body that may have at most `max_size` bytes.
async fn read_body(mut response: Response, max_size: usize) -> Result<Vec<u8>, HttpError> {
    let too_large = || StreamableHttpError::ResponseBodyTooLarge { max_size };
    let fits = |length: u64| usize::try_from(length).is_ok_and(|length| length <= max_size);
    if response.content_length().is_some_and(|length| !fits(length)) {
        return Err(too_large());
    }
    let status = response.status().as_u16();
    let cut_off = |error: reqwest::Error| HttpProblem::CutOff { status, reason: describe_problem(&error) };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(cut_off)? {
        if chunk.len() > max_size - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads the beginning of a body, or more of it, as far as it arrives.
async fn read_beginning(mut response: Response, min_size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < min_size {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        body.extend_from_slice(&chunk);
    }
    body
}

/// Why a body has no message.
fn describe_body(body: &[u8]) -> String {
    let quoted = beginning(body.trim_ascii(), MAX_QUOTED_BYTES);
    if quoted.is_empty() { "its answer is empty".to_owned() } else { format!("its answer is no message: {quoted}") }
}

/// The beginning of a body as a text of at most `max_size` bytes, apart from what replaces bytes that are no text.
fn beginning(body: &[u8], max_size: usize) -> String {
    String::from_utf8_lossy(body.get(..max_size).unwrap_or(body)).into_owned()
}
