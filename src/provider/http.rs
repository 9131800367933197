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
use super::sse::Decoder;
use super::{Endpoint, Limits, Signal};
use crate::model::chat::ChatReply;
use crate::model::failure::{Class, Failure};

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
pub(super) async fn exchange<A: Assembler>(call: Call<'_>, assembler: A, sink: Sink<'_>) -> Result<ChatReply, Failure> {
    let endpoint = call.endpoint;
    let total = call.limits.total;
    let result = timeout(total, converse(call, assembler, sink)).await.unwrap_or_else(|_| {
        let limit = seconds(total);
        Err(errors::timed_out(endpoint, &format!("did not finish within {limit}")))
    });
    result.map_err(|failure| errors::scrub(failure, endpoint))
}

async fn converse<A: Assembler>(call: Call<'_>, mut assembler: A, sink: Sink<'_>) -> Result<ChatReply, Failure> {
    let Call { endpoint, model, url, key_header, headers, body, limits } = call;
    let context = Context { endpoint, model };
    let target = address(&url, &endpoint.name)?;
    let client = client(&target, limits.connect)?;
    let payload = serde_json::to_vec(&body)
        .map_err(|e| Failure::new(Class::BadRequest, format!("can't encode the request: {e}")))?;
    let request = client.post(target).headers(header_map(headers, endpoint, key_header)?).body(payload);

    let first_byte = Instant::now() + limits.first_byte;
    let response = timeout_at(first_byte, request.send())
        .await
        .map_err(|_| {
            let limit = seconds(limits.first_byte);
            errors::timed_out(endpoint, &format!("sent nothing within {limit}"))
        })?
        .map_err(|e| errors::unreachable(endpoint, &e, limits))?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(response, &context, limits.idle).await);
    }
    let kind = content_type(response.headers());
    let mut body = Body { response, endpoint, limits, first_byte, received: 0 };
    let first = body.chunk().await?.unwrap_or_default();
    let shape = shape(&kind, &first);
    if shape == Shape::Events {
        events(first, &mut body, &context, &mut assembler, sink).await?;
        return Ok(assembler.reply());
    }
    if shape == Shape::Json {
        let bytes = body.rest(first).await?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
            let what = errors::excerpt(&bytes, endpoint, 200);
            errors::unavailable(endpoint, &format!("sent broken JSON: {what}"))
        })?;
        if let Some(failure) = errors::reported(&value, &context) {
            return Err(failure);
        }
        if assembler.whole(&value, sink) {
            return Ok(assembler.reply());
        }
        let what = errors::excerpt(&bytes, endpoint, 200);
        return Err(errors::unavailable(endpoint, &format!("answered with JSON that is no reply: {what}")));
    }
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

/// Reads an event stream into the assembler.
async fn events<A: Assembler>(
    first: Bytes,
    body: &mut Body<'_>,
    context: &Context<'_>,
    assembler: &mut A,
    sink: Sink<'_>,
) -> Result<(), Failure> {
    let endpoint = context.endpoint;
    let mut decoder = Decoder::default();
    let mut chunk = Some(first);
    loop {
        let ended = chunk.is_none();
        let complete = match chunk {
            Some(bytes) => decoder.push(&bytes),
            None => decoder.finish().into_iter().collect(),
        };
        for data in complete {
            match told(&data, context, assembler, sink) {
                Ok(false) => {}
                Ok(true) => return Ok(()),
                // Half an event at the end is a broken connection, not a broken server.
                Err(_) if ended && serde_json::from_slice::<Value>(&data).is_err() => {}
                Err(failure) => return Err(failure),
            }
        }
        if ended {
            break;
        }
        chunk = match body.chunk().await {
            Ok(chunk) => chunk,
            // What was said is said, even if the line goes dead after the last word.
            Err(failure) if failure.class != Class::OutputTooLarge && assembler.complete() => break,
            Err(failure) => return Err(failure),
        };
    }
    if assembler.complete() { Ok(()) } else { Err(errors::cut(endpoint, body.received)) }
}

/// Reads the data of one event; true when it is the last.
fn told<A: Assembler>(data: &[u8], context: &Context<'_>, assembler: &mut A, sink: Sink<'_>) -> Result<bool, Failure> {
    let data = data.trim_ascii();
    if data.is_empty() {
        return Ok(false);
    }
    if data == b"[DONE]" {
        return Ok(true);
    }
    let endpoint = context.endpoint;
    let value: Value = serde_json::from_slice(data).map_err(|_| {
        let what = errors::excerpt(data, endpoint, 200);
        errors::unavailable(endpoint, &format!("sent an event that is not JSON: {what}"))
    })?;
    match errors::reported(&value, context) {
        Some(failure) => Err(failure),
        None => Ok(assembler.event(&value, sink)),
    }
}

/// The body of a reply, under its time and size limits.
struct Body<'a> {
    response: Response,
    endpoint: &'a Endpoint,
    limits: &'a Limits,
    first_byte: Instant,
    received: usize,
}

impl Body<'_> {
    /// The next bytes; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let (deadline, limit) = if self.received == 0 {
            (self.first_byte, self.limits.first_byte)
        } else {
            (Instant::now() + self.limits.idle, self.limits.idle)
        };
        let chunk = match timeout_at(deadline, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(_)) => return Err(errors::cut(self.endpoint, self.received)),
            Err(_) if self.received == 0 => {
                return Err(errors::timed_out(self.endpoint, &format!("sent nothing within {}", seconds(limit))));
            }
            Err(_) => {
                let received = self.received;
                return Err(errors::timed_out(
                    self.endpoint,
                    &format!("went silent for {} after {received} bytes", seconds(limit)),
                ));
            }
        };
        self.received = self.received.saturating_add(chunk.len());
        if self.received > self.limits.max_bytes {
            let message = format!("{} sent more than the allowed {} bytes", self.endpoint.name, self.limits.max_bytes);
            return Err(Failure::new(Class::OutputTooLarge, message));
        }
        Ok(Some(chunk))
    }

    /// Everything from `first` to the end.
    async fn rest(&mut self, first: Bytes) -> Result<Bytes, Failure> {
        let mut all = BytesMut::from(&first[..]);
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
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
async fn refused(mut response: Response, context: &Context<'_>, idle: Duration) -> Failure {
    let status = response.status();
    let headers = response.headers().clone();
    let mut body = BytesMut::new();
    // The body only explains: whatever came of it is enough.
    while body.len() < MAX_ERROR_BODY {
        match timeout(idle.min(Duration::from_secs(10)), response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    body.truncate(MAX_ERROR_BODY);
    errors::from_status(status, &headers, &body, context)
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
            return Err(refused(response, &context, limits.idle).await);
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
