//! What went wrong, in one sentence and with its class.
//!
//! Turns statuses, error bodies and broken connections into [`Failure`]s, for every
//! dialect alike. Promises that no message holds a key or the value of a header.

use std::error::Error;
use std::io;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::client::shown;
use super::http::seconds;
use super::said::{MESSAGE, Said, describe, said};
use super::{Endpoint, Limits, waits};
use crate::clock::Clock;
use crate::model::failure::{Class, Failure};

/// Whom the request went to.
pub(super) struct Context<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// The model asked; empty when none was.
    pub(super) model: &'a str,
    /// Tells how far away a date is that the server names.
    pub(super) clock: &'a dyn Clock,
}

pub(super) fn unavailable(endpoint: &Endpoint, what: &str) -> Failure {
    Failure::new(Class::ProviderUnavailable, format!("{} {what}", endpoint.name))
}

pub(super) fn timed_out(endpoint: &Endpoint, what: &str) -> Failure {
    Failure::new(Class::Timeout, format!("{} {what}", endpoint.name))
}

/// The connection ended in the middle of a reply.
pub(super) fn cut(endpoint: &Endpoint, received: usize) -> Failure {
    unavailable(endpoint, &format!("broke off after {received} bytes, before the reply was complete"))
}

/// The failure with what the stream said beside the reply.
pub(super) fn with_words(failure: Failure, words: &str, endpoint: &Endpoint) -> Failure {
    if words.trim().is_empty() {
        return failure;
    }
    let words = excerpt(words.as_bytes(), endpoint, MESSAGE);
    Failure { message: format!("{}; it said: {words}", failure.message), ..failure }
}

/// The server itself says that it gave the reply up.
pub(super) fn gave_up(endpoint: &Endpoint, reason: &str) -> Failure {
    let reason = short(&scrubbed(reason, endpoint), 60);
    unavailable(endpoint, &format!("gave the reply up: its stop reason is `{reason}`"))
}

/// The request could not be sent, or nothing came back.
pub(super) fn unreachable(endpoint: &Endpoint, error: &reqwest::Error, limits: &Limits) -> Failure {
    let url = shown(&endpoint.base_url);
    if error.is_timeout() {
        let limit = seconds(limits.connect);
        return Failure::new(Class::Timeout, format!("can't connect to {url} within {limit}"))
            .with_hint("check the network and the base URL");
    }
    if !error.is_connect() {
        return unavailable(endpoint, &format!("closed the connection without an answer: {}", causes(error)));
    }
    if let Some(why) = distrusted(error) {
        // Trying again would not make it trusted.
        return Failure::new(Class::BadRequest, format!("can't reach {url}: its certificate is not trusted: {why}"))
            .with_hint("name the authority that signed it in SSL_CERT_FILE (PEM), if it is one of your own");
    }
    let refused = chain(error)
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused));
    let why = if refused { "connection refused".to_owned() } else { causes(error) };
    let hint = match (endpoint.name.as_str(), refused) {
        ("ollama", true) => "start it with `ollama serve`".to_owned(),
        (name, true) => format!("start {name}, or correct its base URL"),
        _ => "check the network and the base URL".to_owned(),
    };
    let failure = Failure::new(Class::ProviderUnavailable, format!("can't reach {url}: {why}")).with_hint(hint);
    Failure { unreached: true, ..failure }
}

/// Why the certificate of a server was not taken, if that is what went wrong.
fn distrusted(error: &reqwest::Error) -> Option<String> {
    // An error of input and output hides what it holds from `source`, and may hold another one.
    fn inside<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
        match error.downcast_ref::<io::Error>() {
            Some(outer) => inside(outer.get_ref()?),
            None => error.downcast_ref::<rustls::Error>(),
        }
    }
    match chain(error).find_map(inside)? {
        rustls::Error::InvalidCertificate(why) => Some(short(&why.to_string(), MESSAGE)),
        _ => None,
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

/// The innermost cause: the outer ones only repeat the address.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let innermost = chain(error).last().map(ToString::to_string).unwrap_or_default();
    short(&innermost, MESSAGE)
}

/// The failure of a status other than 2xx.
pub(super) fn from_status(status: StatusCode, headers: &HeaderMap, body: &[u8], context: &Context<'_>) -> Failure {
    let endpoint = context.endpoint;
    let code = status.as_u16();
    if status.is_redirection() {
        let target = headers.get(LOCATION).and_then(|v| v.to_str().ok()).map_or_else(String::new, shown);
        let failure = Failure::new(Class::BadRequest, format!("{} redirects to {target} ({code})", endpoint.name))
            .with_hint("redirects are not followed: set the base URL to the address it redirects to");
        return Failure { status: Some(code), ..failure };
    }
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = said(&parsed).unwrap_or_else(|| Said::plain(excerpt(body, endpoint, MESSAGE)));
    let failure = describe(Some(code), &said, context);
    let now = context.clock.now();
    let wait = waits::in_headers(headers, now);
    let wait = wait.or_else(|| waits::in_body(&parsed, &said.message, failure.class, now));
    Failure { status: Some(code), retry_after_ms: wait, ..failure }
}

/// The beginning of a body, on one line and without secrets.
pub(super) fn excerpt(bytes: &[u8], endpoint: &Endpoint, length: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(16 * 1024)]);
    short(&scrubbed(&text, endpoint), length)
}

/// The first characters of a text, on one line.
pub(super) fn short(text: &str, length: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(length) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.trim_end_matches('.').to_owned(),
    }
}

/// The text with every secret of the endpoint struck out.
pub(super) fn scrubbed(text: &str, endpoint: &Endpoint) -> String {
    let mut text = text.to_owned();
    let key = endpoint.api_key.as_ref().map(|key| key.expose_secret().trim());
    let headers = endpoint.headers.iter().map(|(_, value)| {
        let value = value.trim();
        value.strip_prefix("Bearer ").unwrap_or(value)
    });
    // Short values are words, not secrets: striking them out would only garble the text.
    for secret in key.into_iter().chain(headers).filter(|secret| secret.len() >= 6) {
        text = text.replace(secret, "***");
    }
    text
}

/// The failure with every secret of the endpoint struck out.
pub(super) fn scrub(mut failure: Failure, endpoint: &Endpoint) -> Failure {
    failure.message = scrubbed(&failure.message, endpoint);
    failure.hint = failure.hint.map(|hint| scrubbed(&hint, endpoint));
    failure
}
