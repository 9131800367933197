//! What went wrong, in one sentence and with its class.
//!
//! Turns statuses, error bodies and broken connections into [`Failure`]s, for every
//! dialect alike. Promises that no message holds a key or the value of a header.

use std::error::Error;
use std::io;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::client::shown;
use super::http::seconds;
use super::{Endpoint, Limits};
use crate::model::failure::{Class, Failure};

/// Whom the request went to.
pub(super) struct Context<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// The model asked; empty when none was.
    pub(super) model: &'a str,
}

/// The longest message taken over from a provider.
const MESSAGE: usize = 300;

/// The longest wait taken over from a provider, in milliseconds: a day.
const LONGEST_WAIT: u64 = 24 * 60 * 60 * 1000;

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
    Failure::new(Class::ProviderUnavailable, format!("can't reach {url}: {why}")).with_hint(hint)
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

/// The failure of a status other than 2xx; `now` is when it came.
pub(super) fn from_status(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    context: &Context<'_>,
    now: Timestamp,
) -> Failure {
    let endpoint = context.endpoint;
    let code = status.as_u16();
    let failure = if status.is_redirection() {
        let target = headers.get(LOCATION).and_then(|v| v.to_str().ok()).map_or_else(String::new, shown);
        Failure::new(Class::BadRequest, format!("{} redirects to {target} ({code})", endpoint.name))
            .with_hint("redirects are not followed: set the base URL to the address it redirects to")
    } else {
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        let said = parsed
            .as_ref()
            .and_then(said)
            .unwrap_or_else(|| Said { message: excerpt(body, endpoint, MESSAGE), ..Said::default() });
        describe(Some(code), &said, context)
    };
    Failure { status: Some(code), retry_after_ms: retry_after(headers, now), ..failure }
}

/// The failure that a JSON value reports, if it reports one: an error in a stream, or
/// with a status that says success.
pub(super) fn reported(value: &Value, context: &Context<'_>) -> Option<Failure> {
    let holder = value.as_array().and_then(|a| a.first()).unwrap_or(value);
    if holder.get("error").is_none_or(Value::is_null) {
        return None;
    }
    let said = said(value)?;
    let code = said.code;
    Some(Failure { status: code, ..describe(code, &said, context) })
}

/// What an error body says.
#[derive(Default)]
struct Said {
    message: String,
    /// Type, code and status names, joined: what errors are told by.
    kind: String,
    code: Option<u16>,
}

/// Reads the error bodies of every dialect: `{"error": {…}}`, `{"error": "…"}`,
/// `[{"error": …}]`, `{"message": …}` and `{"detail": …}`.
fn said(value: &Value) -> Option<Said> {
    let value = value.as_array().and_then(|a| a.first()).unwrap_or(value);
    let error = match value.get("error") {
        None | Some(Value::Null) => value,
        Some(error) => error,
    };
    if let Some(text) = error.as_str() {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        return Some(Said { message: text.to_owned(), kind: kind.to_owned(), code: None });
    }
    let message = match error.get("message").or_else(|| error.get("detail")) {
        Some(Value::String(text)) => text.clone(),
        Some(other) if !other.is_null() => other.to_string(),
        _ if error.is_object() && !std::ptr::eq(error, value) => error.to_string(),
        _ => return None,
    };
    let names: Vec<&str> = ["type", "code", "status"].iter().filter_map(|key| error.get(*key)?.as_str()).collect();
    let code = error.get("code").and_then(Value::as_u64).and_then(|c| u16::try_from(c).ok());
    Some(Said { message, kind: names.join(" "), code: code.filter(|c| (400..600).contains(c)) })
}

/// The class, by what the provider calls the error and else by the status.
fn classify(code: Option<u16>, kind: &str) -> Class {
    let has = |names: &[&str]| names.iter().any(|name| kind.contains(name));
    if has(&["insufficient_quota", "billing"]) {
        return Class::BadRequest;
    }
    match code {
        Some(401 | 403) => return Class::Auth,
        Some(408) => return Class::Timeout,
        Some(429) => return Class::RateLimited,
        Some(500..) => return Class::ProviderUnavailable,
        _ => {}
    }
    if has(&[
        "API_KEY_INVALID",
        "authentication_error",
        "permission",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "invalid_api_key",
    ]) {
        Class::Auth
    } else if has(&["rate_limit", "RESOURCE_EXHAUSTED"]) {
        Class::RateLimited
    } else if code.is_some()
        || has(&[
            "invalid_request",
            "not_found",
            "request_too_large",
            "INVALID_ARGUMENT",
            "NOT_FOUND",
            "BadRequest",
            "context_length",
        ])
    {
        Class::BadRequest
    } else {
        Class::ProviderUnavailable
    }
}

fn describe(code: Option<u16>, said: &Said, context: &Context<'_>) -> Failure {
    let Context { endpoint, model } = context;
    let name = &endpoint.name;
    // Gemini answers 400 to a wrong key, and tells it only in the details or the message.
    let wrong_key = code == Some(400) && said.message.contains("API key not valid");
    let class = if wrong_key { Class::Auth } else { classify(code, &said.kind) };
    let unknown = code == Some(404);
    let what = match class {
        Class::Auth => format!("{name} refuses the key"),
        Class::RateLimited => format!("{name} says that there were too many requests"),
        Class::Timeout => format!("{name} gave up waiting"),
        Class::BadRequest if unknown && !model.is_empty() => {
            format!("{name} does not know the model {model}")
        }
        Class::BadRequest if unknown => {
            format!("{name} does not know {}", shown(&endpoint.base_url))
        }
        Class::BadRequest => format!("{name} refuses the request"),
        _ => format!("{name} is unavailable"),
    };
    let code = code.map_or_else(String::new, |code| format!(" ({code})"));
    // Scrubbed before it is shortened: half a key is a key still.
    let message = short(&scrubbed(&said.message, endpoint), MESSAGE);
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    let failure = Failure::new(class, format!("{what}{code}{message}"));
    let hint = match (class, &endpoint.key_variable) {
        (Class::Auth, Some(variable)) if endpoint.api_key.is_some() => Some(format!("check the key in {variable}")),
        (Class::Auth, Some(variable)) => Some(format!("set {variable}")),
        (Class::Auth, None) => Some(format!(
            "say where its key is: `providers: {{ {name}: {{ api_key: {{ env: NAME }} }} }}` in orch.yaml, and set that variable"
        )),
        (Class::BadRequest, _) if unknown && name == "ollama" && !model.is_empty() => {
            Some(format!("fetch it with `ollama pull {model}`"))
        }
        (Class::BadRequest, _) if unknown => {
            Some(format!("check the model's name and the base URL {}", shown(&endpoint.base_url)))
        }
        (Class::BadRequest, _) if said.kind.contains("insufficient_quota") => {
            Some(format!("the account at {name} has no credit left"))
        }
        _ => None,
    };
    Failure { hint, ..failure }
}

/// How long the provider asks to wait, in milliseconds; `now` is when it asked.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|t| t.parse::<f64>().ok());
    let seconds = || text(RETRY_AFTER.as_str()).and_then(|t| t.parse::<f64>().ok()).map(|s| s * 1000.0);
    if let Some(wait) = milliseconds.or_else(seconds) {
        if !wait.is_finite() || wait < 0.0 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above, and capped")]
        return Some((wait.ceil() as u64).min(LONGEST_WAIT));
    }
    let date = |name: &str| Some(jiff::fmt::rfc2822::parse(text(name)?).ok()?.timestamp());
    // Its own date, when it tells one: its clock may differ from ours.
    let asked_at = date(DATE.as_str()).unwrap_or(now);
    let wait = date(RETRY_AFTER.as_str())?.as_millisecond() - asked_at.as_millisecond();
    Some(u64::try_from(wait).unwrap_or(0).min(LONGEST_WAIT))
}

/// The beginning of a body, on one line and without secrets.
pub(super) fn excerpt(bytes: &[u8], endpoint: &Endpoint, length: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(16 * 1024)]);
    short(&scrubbed(&text, endpoint), length)
}

/// The first characters of a text, on one line.
fn short(text: &str, length: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(length) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.trim_end_matches('.').to_owned(),
    }
}

/// The text with every secret of the endpoint struck out.
fn scrubbed(text: &str, endpoint: &Endpoint) -> String {
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
