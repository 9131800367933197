//! The one path over which requests leave and replies come in.
//!
//! Owns time-outs, size caps and the reading of replies. Promises
//! that nothing is ever sent twice, and that no failure holds a key.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::client::{address, client, header_map, shown};
use super::errors::{self, Context};
use super::stream::{Body, Hearing};
use super::{Endpoint, Limits, Signal};
use crate::model::chat::ChatReply;
use crate::model::failure::{Class, Failure};
use crate::model::usage::Usage;

/// The most that is read of the body of a refused request.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Puts the parts of a reply together, in the words of one dialect.
pub(super) trait Assembler: Send {
    /// One event of the stream; true when nothing more is to come.
    fn event(&mut self, event: &Value, sink: Sink<'_>) -> bool;

    /// A whole reply, from a server that does not stream; false when it is none.
    fn whole(&mut self, body: &Value, sink: Sink<'_>) -> bool;

    /// Whether the model's last word was heard.
    fn complete(&self) -> bool;

    /// What the provider has counted so far.
    fn usage(&self) -> Usage;

    /// The reply.
    fn reply(self) -> ChatReply;
}

/// Who hears the parts of a reply.
pub(super) type Sink<'a> = &'a (dyn Fn(Signal) + Send + Sync);

/// One request, ready to be sent.
pub(super) struct Call<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// The model's name, for messages.
    pub(super) model: &'a str,
    pub(super) url: String,
    /// The header that carries the key, and what precedes the key in it.
    pub(super) key_header: (&'static str, &'static str),
    pub(super) headers: &'a [(&'static str, &'static str)],
    pub(super) body: Value,
    pub(super) limits: &'a Limits,
}

/// Sends the request and reads the reply to its end.
pub(super) async fn exchange<A: Assembler>(
    call: Call<'_>,
    mut assembler: A,
    sink: Sink<'_>,
) -> Result<ChatReply, Failure> {
    let endpoint = call.endpoint;
    let total = call.limits.total;
    let mut at_work = false;
    let talk = converse(call, &mut assembler, &mut at_work, sink);
    let result = timeout(total, talk).await.unwrap_or_else(|_| {
        let limit = seconds(total);
        Err(errors::timed_out(endpoint, &format!("did not finish within {limit}")))
    });
    match result {
        Ok(()) => Ok(assembler.reply()),
        Err(failure) => {
            let usage = Some(assembler.usage()).filter(|usage| !usage.is_zero()).map(Box::new);
            Err(Failure { usage, broke_off: at_work, ..errors::scrub(failure, endpoint) })
        }
    }
}

/// Sends and reads; `at_work` is whether the model may have begun when it ends with a failure.
async fn converse<A: Assembler>(
    call: Call<'_>,
    assembler: &mut A,
    at_work: &mut bool,
    sink: Sink<'_>,
) -> Result<(), Failure> {
    let Call { endpoint, model, url, key_header, headers, body, limits } = call;
    let context = Context { endpoint, model };
    let target = address(&url, &endpoint.name)?;
    let client = client(&target, limits.connect)?;
    let payload = serde_json::to_vec(&body)
        .map_err(|e| Failure::new(Class::BadRequest, format!("can't encode the request: {e}")))?;
    let request = client.post(target).headers(header_map(headers, endpoint, key_header)?).body(payload);

    let first_byte = Instant::now() + limits.first_byte;
    *at_work = true;
    let response = timeout_at(first_byte, request.send())
        .await
        .map_err(|_| {
            let limit = seconds(limits.first_byte);
            errors::timed_out(endpoint, &format!("sent nothing within {limit}"))
        })?
        .map_err(|e| {
            *at_work = !e.is_connect();
            errors::unreachable(endpoint, &e, limits)
        })?;
    let status = response.status();
    if !status.is_success() {
        *at_work = false;
        return Err(refused(response, &context, limits).await);
    }
    let kind = content_type(response.headers());
    let mut body = Body { response, endpoint, limits, first_byte, received: 0 };
    let first = body.chunk().await?.unwrap_or_default();
    let shape = shape(&kind, &first);
    if shape == Shape::Events {
        let mut hearing = Hearing { context: &context, assembler, sink, began: false, refused: false };
        let heard = hearing.events(first, &mut body).await;
        *at_work = !hearing.refused;
        return heard;
    }
    if shape == Shape::Json {
        let bytes = body.rest(first).await?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
            let what = errors::excerpt(&bytes, endpoint, 200);
            errors::unavailable(endpoint, &format!("sent broken JSON: {what}"))
        })?;
        if let Some(failure) = errors::reported(&value, &context) {
            *at_work = false;
            return Err(failure);
        }
        if assembler.whole(&value, sink) {
            return Ok(());
        }
        let what = errors::excerpt(&bytes, endpoint, 200);
        return Err(errors::unavailable(endpoint, &format!("answered with JSON that is no reply: {what}")));
    }
    *at_work = false;
    let what = errors::excerpt(&first, endpoint, 200);
    let mut failure = if shape == Shape::Page {
        Failure::new(Class::BadRequest, format!("{} answered with a web page: {what}", endpoint.name))
            .with_hint(format!("check that {} is the base URL of an API", shown(&endpoint.base_url)))
    } else {
        let kind = if kind.is_empty() { "something without a content type" } else { &kind };
        errors::unavailable(endpoint, &format!("answered with {kind}: {what}"))
    };
    failure.status = Some(status.as_u16());
    Err(failure)
}

/// What kind of answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Events,
    Json,
    Page,
    Other,
}

/// Tells an answer by its content type, and by its first byte where the type says nothing.
fn shape(kind: &str, first: &[u8]) -> Shape {
    match kind {
        "text/event-stream" => Shape::Events,
        "application/json" => Shape::Json,
        "text/html" | "application/xhtml+xml" => Shape::Page,
        "" | "text/plain" | "application/octet-stream" => match first.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'{' | b'[') => Shape::Json,
            Some(b'<') => Shape::Page,
            Some(b'd' | b'e' | b'i' | b'r' | b':')
                if [&b"data"[..], b"event", b"id", b"retry", b":"]
                    .iter()
                    .any(|field| first.trim_ascii_start().starts_with(field)) =>
            {
                Shape::Events
            }
            _ => Shape::Other,
        },
        other if other.ends_with("+json") => Shape::Json,
        _ => Shape::Other,
    }
}

/// The media type without its parameters, lower case.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The failure of an answer with a status other than 2xx.
async fn refused(mut response: Response, context: &Context<'_>, limits: &Limits) -> Failure {
    let now = limits.clock.now();
    let status = response.status();
    let headers = response.headers().clone();
    let mut body = BytesMut::new();
    // The body only explains: whatever came of it is enough.
    while body.len() < MAX_ERROR_BODY {
        match timeout(limits.idle.min(Duration::from_secs(10)), response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    body.truncate(MAX_ERROR_BODY);
    errors::from_status(status, &headers, &body, context, now)
}

/// Reads `GET url` as JSON.
pub(super) async fn get_json(endpoint: &Endpoint, url: &str, limits: &Limits) -> Result<Value, Failure> {
    let target = address(url, &endpoint.name)?;
    let client = client(&target, limits.connect)?;
    let read = async {
        let deadline = Instant::now() + limits.first_byte;
        let response = timeout_at(deadline, client.get(target).send())
            .await
            .map_err(|_| errors::timed_out(endpoint, &format!("sent nothing within {}", seconds(limits.first_byte))))?
            .map_err(|e| errors::unreachable(endpoint, &e, limits))?;
        if !response.status().is_success() {
            let context = Context { endpoint, model: "" };
            return Err(refused(response, &context, limits).await);
        }
        let mut body = Body { response, endpoint, limits, first_byte: deadline, received: 0 };
        let bytes = body.rest(Bytes::new()).await?;
        serde_json::from_slice(&bytes).map_err(|_| {
            let what = errors::excerpt(&bytes, endpoint, 200);
            errors::unavailable(endpoint, &format!("answered with something that is not JSON: {what}"))
        })
    };
    let result = timeout(limits.total, read).await.unwrap_or_else(|_| {
        Err(errors::timed_out(endpoint, &format!("did not finish within {}", seconds(limits.total))))
    });
    result.map_err(|failure| errors::scrub(failure, endpoint))
}

/// A duration for a sentence.
pub(super) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untyped_answer_is_told_by_its_first_bytes() {
        assert_eq!(shape("", b"data: {}"), Shape::Events);
        assert_eq!(shape("text/plain", b": ping"), Shape::Events);
        assert_eq!(shape("", b" {\"a\":1}"), Shape::Json);
        assert_eq!(shape("text/plain", b"<html>"), Shape::Page);
        assert_eq!(shape("text/plain", b"ready"), Shape::Other);
        assert_eq!(shape("image/png", b"{"), Shape::Other);
        assert_eq!(shape("application/problem+json", b"{"), Shape::Json);
    }
}
