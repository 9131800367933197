//! Failures in one sentence, with their class.
//!
//! Turns statuses, error bodies and broken connections into [`Failure`]s, for every dialect alike. No message ever
//! holds a key or the value of a header.

use std::error::Error;
use std::io;

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::body::first_value;
use super::client::shown;
use super::http::seconds;
use super::said::{ErrorBody, MESSAGE, describe, said};
use super::{Endpoint, RequestLimits, waits};
use crate::clock::Clock;
use crate::model::failure::{Class, Failure};
use crate::network::{self, ProxySetting, distrust};

/// Where a request went, and what is needed to read its errors.
pub(super) struct RequestContext<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// The model of the request; empty when there is none.
    pub(super) model: &'a str,
    /// The clock against which a date that the server names becomes a wait.
    pub(super) clock: &'a dyn Clock,
    /// How long the headers of a response with a success status ask to wait, in milliseconds.
    pub(super) header_wait: Option<u64>,
}

pub(super) fn unavailable(endpoint: &Endpoint, what: &str) -> Failure {
    Failure::new(Class::ProviderUnavailable, format!("{} {what}", endpoint.name))
}

pub(super) fn timed_out(endpoint: &Endpoint, what: &str) -> Failure {
    Failure::new(Class::Timeout, format!("{} {what}", endpoint.name))
}

/// The connection broke in the middle of a reply.
pub(super) fn cut(endpoint: &Endpoint, received: usize) -> Failure {
    unavailable(endpoint, &format!("broke off after {received} bytes, before the reply was complete"))
}

/// Adds to a failure what the stream held besides the reply.
pub(super) fn with_words(failure: Failure, words: &str, endpoint: &Endpoint) -> Failure {
    if words.trim().is_empty() {
        return failure;
    }
    let words = excerpt(words.as_bytes(), endpoint, MESSAGE);
    Failure { message: format!("{}; it said: {words}", failure.message), ..failure }
}

/// The server's stop reason says that it aborted the reply.
pub(super) fn gave_up(endpoint: &Endpoint, reason: &str) -> Failure {
    let reason = short(&scrubbed(reason, endpoint), 60);
    unavailable(endpoint, &format!("gave the reply up: its stop reason is `{reason}`"))
}

/// orch could not send the request, or no response came.
pub(super) fn unreachable(endpoint: &Endpoint, error: &reqwest::Error, limits: &RequestLimits) -> Failure {
    let url = shown(&endpoint.base_url);
    let proxy = proxy_of(endpoint);
    let through = proxy.as_ref().map_or_else(String::new, |proxy| format!(" through {}", proxy.phrase()));
    if error.is_timeout() {
        let limit = seconds(limits.connect);
        return Failure::new(Class::Timeout, format!("can't connect to {url}{through} within {limit}"))
            .with_hint(way_out(endpoint, proxy.as_ref(), false));
    }
    if !error.is_connect() {
        let failure = unavailable(endpoint, &format!("closed the connection without an answer: {}", causes(error)));
        return if url.starts_with("http:") { failure.with_hint(MAYBE_TLS) } else { failure };
    }
    if network::is_no_tls(error) {
        let message = format!("can't reach {url}{through}: what answers there does not speak TLS");
        return Failure::new(Class::BadRequest, message).with_hint(NO_TLS);
    }
    if let Some((why, hint)) = distrust(error) {
        // Not retryable: a retry would not make the certificate trusted.
        let message = format!("can't reach {url}{through}: its certificate is not trusted: {}", short(&why, MESSAGE));
        return Failure::new(Class::BadRequest, message).with_hint(hint);
    }
    if let Some(failure) = tunnel(endpoint, proxy.as_ref(), &causes(error)) {
        return Failure { unreached: true, ..failure };
    }
    let refused = chain(error)
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused));
    let why = if refused { "connection refused".to_owned() } else { causes(error) };
    let failure = Failure::new(Class::ProviderUnavailable, format!("can't reach {url}{through}: {why}"));
    // A server without TLS may just hang up on the handshake.
    let way = if why == "tls handshake eof" { NO_TLS.to_owned() } else { way_out(endpoint, proxy.as_ref(), refused) };
    let failure = failure.with_hint(way);
    Failure { unreached: true, ..failure }
}

/// The failure when a proxy opens no tunnel to a TLS server. The only status that the client's error names is 407.
fn tunnel(endpoint: &Endpoint, proxy: Option<&ProxySetting>, cause: &str) -> Option<Failure> {
    let why = cause.strip_prefix("tunnel error: ")?;
    let proxy = proxy?;
    if why == "proxy authorization required" {
        let failure = asks_who(proxy, "");
        return Some(Failure { status: Some(407), ..failure });
    }
    let url = shown(&endpoint.base_url);
    let why = if why == "unsuccessful" { "it refuses to connect to that server" } else { why };
    let message = format!("can't reach {url} through {}: {why}", proxy.phrase());
    Some(Failure::new(Class::ProviderUnavailable, message).with_hint(format!(
        "have the proxy in {} allow connections to that server, or name the host in NO_PROXY",
        proxy.variable
    )))
}

/// The failure when a proxy requires a user and a password; `words` is what it said.
fn asks_who(proxy: &ProxySetting, words: &str) -> Failure {
    let message = format!("{} asks for a user and password (407): {words}", proxy.phrase());
    let hint = format!("write them into {}, as in `http://USER:PASSWORD@HOST:PORT`", proxy.variable);
    Failure::new(Class::BadRequest, message.trim_end_matches(": ")).with_hint(hint)
}

/// The hint when a server hangs up on plain HTTP.
const MAYBE_TLS: &str = "if the server expects TLS, write `https://` in its base URL";
/// The hint when a server answers a TLS handshake with something else.
const NO_TLS: &str = "check the port in the base URL; a server without TLS has an address with `http://`";

/// The proxy between orch and an endpoint, if there is one.
fn proxy_of(endpoint: &Endpoint) -> Option<ProxySetting> {
    let url = Url::parse(&endpoint.base_url).ok()?;
    endpoint.network.proxy(&url).ok().flatten()
}

/// The hint for a server that can't be reached.
fn way_out(endpoint: &Endpoint, proxy: Option<&ProxySetting>, refused: bool) -> String {
    let name = &endpoint.name;
    match proxy {
        Some(proxy) if proxy.value.starts_with("socks5://") || proxy.value.starts_with("socks4://") => format!(
            "check the proxy in {}, or name the host in NO_PROXY; with `socks5h://` the proxy looks the host up",
            proxy.variable
        ),
        Some(proxy) => format!("check the proxy in {}, or name the host in NO_PROXY", proxy.variable),
        None if refused && name == "ollama" => "start it with `ollama serve`".to_owned(),
        None if refused => format!("start {name}, or correct its base URL"),
        None => "check the network and the base URL".to_owned(),
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

/// The message of the innermost cause; the outer ones only repeat the address.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let innermost = chain(error).last().map(ToString::to_string).unwrap_or_default();
    short(&innermost, MESSAGE)
}

/// The failure for a response with a status other than 2xx.
pub(super) fn from_status(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    context: &RequestContext<'_>,
) -> Failure {
    let endpoint = context.endpoint;
    let code = status.as_u16();
    if status.is_redirection() {
        let target = headers.get(LOCATION).and_then(|v| v.to_str().ok()).map_or_else(String::new, shown);
        let failure = Failure::new(Class::BadRequest, format!("{} redirects to {target} ({code})", endpoint.name))
            .with_hint("redirects are not followed: set the base URL to the address it redirects to");
        return Failure { status: Some(code), ..failure };
    }
    let parsed: Value = first_value(body).map(|(value, _)| value).unwrap_or_default();
    let said = said(&parsed).unwrap_or_else(|| ErrorBody::plain(excerpt(body, endpoint, MESSAGE)));
    let failure = by_proxy(code, &said, endpoint).unwrap_or_else(|| describe(Some(code), &said, context));
    let now = context.clock.now();
    let wait = waits::in_headers(headers, now);
    let wait = wait.or_else(|| waits::in_body(&parsed, &said.message, failure.class, now));
    Failure { status: Some(code), retry_after_ms: wait, ..failure }
}

/// The failure for a 407, if there is a proxy: then the proxy sent it, not the provider.
fn by_proxy(code: u16, said: &ErrorBody, endpoint: &Endpoint) -> Option<Failure> {
    let proxy = proxy_of(endpoint).filter(|_| code == 407)?;
    let words = short(&scrubbed(&said.message, endpoint), MESSAGE);
    Some(asks_who(&proxy, &words))
}

/// The beginning of a body, on one line and with secrets redacted.
pub(super) fn excerpt(bytes: &[u8], endpoint: &Endpoint, length: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(16 * 1024)]);
    short(&scrubbed(&text, endpoint), length)
}

/// At most `length` characters of a text, on one line.
pub(super) fn short(text: &str, length: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(length) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.trim_end_matches('.').to_owned(),
    }
}

/// The text with every secret of the endpoint redacted.
pub(super) fn scrubbed(text: &str, endpoint: &Endpoint) -> String {
    let mut text = text.to_owned();
    let key = endpoint.api_key.as_ref().map(|key| key.expose_secret().trim());
    let headers = endpoint.headers.iter().map(|(_, value)| {
        let value = value.trim();
        value.strip_prefix("Bearer ").unwrap_or(value)
    });
    // Short values are ordinary words: redacting them would only garble the text.
    for secret in key.into_iter().chain(headers).filter(|secret| secret.len() >= 6) {
        text = text.replace(secret, "***");
    }
    text
}

/// The failure with every secret of the endpoint redacted.
pub(super) fn scrub(mut failure: Failure, endpoint: &Endpoint) -> Failure {
    failure.message = scrubbed(&failure.message, endpoint);
    failure.hint = failure.hint.map(|hint| scrubbed(&hint, endpoint));
    failure
}
