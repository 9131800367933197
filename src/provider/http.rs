//! The one path over which requests leave and replies come in.
//!
//! Owns clients, time-outs, size caps and the decoding of server-sent events. Promises
//! that nothing is ever sent twice, and that no failure holds a key.

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eventsource_stream::{EventStreamError, Eventsource as _};
use futures_util::{StreamExt as _, stream};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::errors::{self, Context};
use super::{Endpoint, Limits, Signal};
use crate::model::chat::ChatReply;
use crate::model::failure::{Class, Failure};

/// The longest line of an event stream; no provider comes near it.
const MAX_LINE: usize = 1024 * 1024;

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
    let result = timeout(total, converse(call, assembler, sink))
        .await
        .unwrap_or_else(|_| {
            let limit = seconds(total);
            Err(errors::timed_out(endpoint, &format!("did not finish within {limit}")))
        });
    result.map_err(|failure| errors::scrub(failure, endpoint))
}

async fn converse<A: Assembler>(call: Call<'_>, mut assembler: A, sink: Sink<'_>) -> Result<ChatReply, Failure> {
    let Call {
        endpoint,
        model,
        url,
        key_header,
        headers,
        body,
        limits,
    } = call;
    let context = Context { endpoint, model };
    let target = address(&url, &endpoint.name)?;
    let client = client(&target, limits.connect)?;
    let payload = serde_json::to_vec(&body)
        .map_err(|e| Failure::new(Class::BadRequest, format!("can't encode the request: {e}")))?;
    let request = client
        .post(target)
        .headers(header_map(headers, endpoint, key_header)?)
        .body(payload);

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
    let mut body = Body {
        response,
        endpoint,
        limits,
        first_byte,
        received: 0,
    };
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
        return Err(errors::unavailable(
            endpoint,
            &format!("answered with JSON that is no reply: {what}"),
        ));
    }
    let what = errors::excerpt(&first, endpoint, 200);
    let mut failure = if shape == Shape::Page {
        Failure::new(
            Class::BadRequest,
            format!("{} answered with a web page: {what}", endpoint.name),
        )
        .with_hint(format!(
            "check that {} is the base URL of an API",
            shown(&endpoint.base_url)
        ))
    } else {
        let kind = if kind.is_empty() {
            "something without a content type"
        } else {
            &kind
        };
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
    let mut told_the_end = false;
    {
        let source = (Some(first), &mut *body, Lines::default(), false);
        let chunks = stream::try_unfold(source, async |(first, body, mut lines, ended)| {
            if ended {
                return Ok::<_, Failure>(None);
            }
            let chunk = match first {
                Some(first) => Some(first),
                None => body.chunk().await?,
            };
            // A last event without its blank line still counts.
            let ended = chunk.is_none();
            let chunk = chunk.unwrap_or(Bytes::from_static(b"\n\n"));
            lines.check(&chunk, endpoint)?;
            Ok(Some((chunk, (None, body, lines, ended))))
        });
        let mut events = pin!(chunks.eventsource());
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                // What was said is said, even if the line goes dead after the last word.
                Err(EventStreamError::Transport(_)) if assembler.complete() => break,
                Err(EventStreamError::Transport(failure)) => return Err(failure),
                Err(_) => {
                    return Err(errors::unavailable(endpoint, "sent an event stream that is not UTF-8"));
                }
            };
            let data = event.data.trim();
            if data == "[DONE]" {
                told_the_end = true;
                break;
            }
            if data.is_empty() {
                continue;
            }
            let value: Value = serde_json::from_str(data).map_err(|_| {
                let what = errors::excerpt(data.as_bytes(), endpoint, 200);
                errors::unavailable(endpoint, &format!("sent an event that is not JSON: {what}"))
            })?;
            if let Some(failure) = errors::reported(&value, context) {
                return Err(failure);
            }
            if assembler.event(&value, sink) {
                told_the_end = true;
                break;
            }
        }
    }
    if told_the_end || assembler.complete() {
        return Ok(());
    }
    Err(errors::cut(endpoint, body.received))
}

/// The longest line so far: the decoder rereads a line with every chunk.
#[derive(Default)]
struct Lines {
    open: usize,
}

impl Lines {
    fn check(&mut self, chunk: &[u8], endpoint: &Endpoint) -> Result<(), Failure> {
        match chunk.iter().rposition(|b| matches!(b, b'\n' | b'\r')) {
            Some(at) => self.open = chunk.len() - at - 1,
            None => self.open += chunk.len(),
        }
        if self.open > MAX_LINE {
            let message = format!("{} sent a line of more than {MAX_LINE} bytes", endpoint.name);
            return Err(Failure::new(Class::OutputTooLarge, message));
        }
        Ok(())
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
                return Err(errors::timed_out(
                    self.endpoint,
                    &format!("sent nothing within {}", seconds(limit)),
                ));
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
            let message = format!(
                "{} sent more than the allowed {} bytes",
                self.endpoint.name, self.limits.max_bytes
            );
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
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
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
        let mut body = Body {
            response,
            endpoint,
            limits,
            first_byte: deadline,
            received: 0,
        };
        let bytes = body.rest(Bytes::new()).await?;
        serde_json::from_slice(&bytes).map_err(|_| {
            let what = errors::excerpt(&bytes, endpoint, 200);
            errors::unavailable(endpoint, &format!("answered with something that is not JSON: {what}"))
        })
    };
    let result = timeout(limits.total, read).await.unwrap_or_else(|_| {
        Err(errors::timed_out(
            endpoint,
            &format!("did not finish within {}", seconds(limits.total)),
        ))
    });
    result.map_err(|failure| errors::scrub(failure, endpoint))
}

fn address(url: &str, name: &str) -> Result<Url, Failure> {
    let wrong = |why: String| {
        Failure::new(Class::BadRequest, format!("{} is not an address: {why}", shown(url))).with_hint(format!(
            "check the base URL of {name}; it begins with http:// or https://"
        ))
    };
    let url = Url::parse(url).map_err(|e| wrong(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("no http or https address".to_owned()));
    }
    Ok(url)
}

/// An address without what may be secret in it: user, password, query and fragment.
pub(super) fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => plain.rsplit_once('@').map_or(plain, |(_, rest)| rest).to_owned(),
    }
}

/// A duration for a sentence.
pub(super) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

fn header_map(
    call_headers: &[(&'static str, &'static str)],
    endpoint: &Endpoint,
    key: (&'static str, &'static str),
) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.insert(
        reqwest::header::ACCEPT,
        HeaderValue::from_static("text/event-stream, application/json"),
    );
    for (name, value) in call_headers {
        map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Some(secret) = &endpoint.api_key {
        let (name, prefix) = key;
        let mut value = HeaderValue::try_from(format!("{prefix}{}", secret.expose_secret().trim())).map_err(|_| {
            let failure = Failure::new(
                Class::Auth,
                format!("the key of {} has characters that no key has", endpoint.name),
            );
            match &endpoint.key_variable {
                Some(variable) => failure.with_hint(format!("set {variable} again, without line breaks")),
                None => failure,
            }
        })?;
        value.set_sensitive(true);
        map.insert(HeaderName::from_static(name), value);
    }
    for (name, value) in &endpoint.headers {
        let wrong = || {
            Failure::new(
                Class::BadRequest,
                format!("the header `{name}` of {} is not a valid one", endpoint.name),
            )
        };
        let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

/// What clients differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sort {
    loopback: bool,
    tls: bool,
    connect: Duration,
}

/// The client for an address; clients are shared, for their open connections.
fn client(url: &Url, connect: Duration) -> Result<Client, Failure> {
    static CLIENTS: Mutex<Vec<(Sort, Client)>> = Mutex::new(Vec::new());
    let sort = Sort {
        loopback: is_loopback(url),
        tls: url.scheme() == "https",
        connect,
    };
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, client)) = clients.iter().find(|(known, _)| *known == sort) {
        return Ok(client.clone());
    }
    let client = build(sort)?;
    clients.push((sort, client.clone()));
    Ok(client)
}

fn build(sort: Sort) -> Result<Client, Failure> {
    static RING: Once = Once::new();
    // Costs nothing: no certificate is read here. An earlier choice of the process stands.
    RING.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut builder = Client::builder()
        .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(sort.connect)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_nodelay(true);
    if sort.loopback {
        builder = builder.no_proxy();
    }
    if !sort.tls {
        // No certificates: the system's are many files, and plain HTTP needs none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|e| {
        Failure::new(
            Class::ProviderUnavailable,
            format!("can't set up HTTP: {}", errors::causes(&e)),
        )
    })
}

/// A text as one segment of a path; a slash stays one.
pub(super) fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/@".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

/// The host of an address.
pub(super) fn host(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn is_loopback(url: &Url) -> bool {
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let host = host.trim_end_matches('.');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(shown("https://u:p@host:1/v1?key=k#f"), "https://host:1/v1");
        assert_eq!(shown("http://host"), "http://host");
        assert_eq!(shown("u:p@host"), "host");
        assert_eq!(shown("https://host/a@b"), "https://host/a@b");
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for url in [
            "http://127.0.0.1:1",
            "http://localhost",
            "http://[::1]:9",
            "http://127.9.9.9",
            "http://a.localhost",
        ] {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://10.0.0.1", "http://localhost.example", "http://[::2]"] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }

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
