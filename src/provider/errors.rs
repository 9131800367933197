//! Turns statuses, error bodies and broken connections into [`Failure`]s with one sentence and a class, in the same way
//! for every dialect. No message contains a secret of the endpoint.

use std::error::Error;
use std::io;

use reqwest::Url;
use reqwest::header::LOCATION;
use serde_json::Value;

use super::client::without_secrets;
use super::error_body::{ErrorBody, MAX_MESSAGE_CHARS, failure_from_body};
use super::error_response::ErrorResponse;
use super::http::format_duration;
use super::redaction::{excerpt, quote, shorten};
use super::reply_blocks::MAX_BLOCKS;
use super::{Endpoint, RequestLimits, requested_wait};
use crate::clock::Clock;
use crate::model::counted;
use crate::model::failure::{Failure, FailureClass};
use crate::network::{self, ProxySetting, certificate_problem};

/// The endpoint and model of a request, with the data that the parsers of error bodies need.
pub(super) struct RequestContext<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// The model of the request; empty when there is none.
    pub(super) model: &'a str,
    /// The clock with which a date from the server is converted into a wait.
    pub(super) clock: &'a dyn Clock,
    /// The wait that the headers of a 2xx response request, in milliseconds, for an error in its body.
    pub(super) retry_after_ms: Option<u64>,
}

/// A failure of [`FailureClass::ProviderUnavailable`]. Its message is the provider's name and what happened.
pub(super) fn unavailable(endpoint: &Endpoint, what_happened: &str) -> Failure {
    Failure::new(FailureClass::ProviderUnavailable, format!("{} {what_happened}", endpoint.name))
}

/// A failure of [`FailureClass::Timeout`]. Its message is the provider's name and what happened.
pub(super) fn timed_out(endpoint: &Endpoint, what_happened: &str) -> Failure {
    Failure::new(FailureClass::Timeout, format!("{} {what_happened}", endpoint.name))
}

/// The failure when the connection breaks in the middle of a reply.
pub(super) fn connection_lost(endpoint: &Endpoint, received: usize) -> Failure {
    let received = counted(received, "byte");
    unavailable(endpoint, &format!("broke off after {received}, before the reply was complete"))
}

/// Appends to a failure's message the text that the server sent besides the reply.
pub(super) fn append_server_text(failure: Failure, text: &str, endpoint: &Endpoint) -> Failure {
    if text.trim().is_empty() {
        return failure;
    }
    let text = excerpt(text.as_bytes(), endpoint, MAX_MESSAGE_CHARS);
    Failure { message: format!("{}; it said: {text}", failure.message), ..failure }
}

/// The failure when the stop reason means that the server aborted the reply.
pub(super) fn reply_aborted(endpoint: &Endpoint, reason: &str) -> Failure {
    let reason = quote(reason, endpoint, 60);
    unavailable(endpoint, &format!("aborted the reply: its stop reason is `{reason}`"))
}

/// The failure when a reply has more parts than orch accepts.
pub(super) fn too_many_parts(endpoint: &Endpoint) -> Failure {
    let message = format!("{} sent a reply with more than the allowed {MAX_BLOCKS} parts", endpoint.name);
    Failure::new(FailureClass::OutputTooLarge, message)
}

/// The failure when orch could not send the request or received no response.
pub(super) fn unreachable(endpoint: &Endpoint, error: &reqwest::Error, limits: &RequestLimits) -> Failure {
    let url = without_secrets(&endpoint.base_url);
    let proxy = proxy_for(endpoint);
    let via_proxy = proxy.as_ref().map_or_else(String::new, |proxy| format!(" through {}", proxy.description()));
    if error.is_timeout() {
        let limit = format_duration(limits.connect_timeout);
        return Failure::new(FailureClass::Timeout, format!("can't connect to {url}{via_proxy} within {limit}"))
            .with_hint(unreachable_hint(endpoint, proxy.as_ref(), false));
    }
    if !error.is_connect() {
        let failure =
            unavailable(endpoint, &format!("closed the connection without a response: {}", innermost_cause(error)));
        return if url.starts_with("http:") { failure.with_hint(MAYBE_TLS_HINT) } else { failure };
    }
    if network::is_not_tls(error) {
        let message = format!("can't reach {url}{via_proxy}: the server at this address does not speak TLS");
        return Failure::new(FailureClass::BadRequest, message).with_hint(NO_TLS_HINT);
    }
    if let Some((reason, hint)) = certificate_problem(error) {
        // Not retryable: a retry would not make the certificate trusted.
        let message = format!(
            "can't reach {url}{via_proxy}: its certificate is not trusted: {}",
            shorten(&reason, MAX_MESSAGE_CHARS)
        );
        return Failure::new(FailureClass::BadRequest, message).with_hint(hint);
    }
    if let Some(failure) = tunnel_failure(endpoint, proxy.as_ref(), &innermost_cause(error)) {
        return Failure { unreached: true, ..failure };
    }
    let is_refused = error_chain(error).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
    });
    let reason = if is_refused { "connection refused".to_owned() } else { innermost_cause(error) };
    let failure = Failure::new(FailureClass::ProviderUnavailable, format!("can't reach {url}{via_proxy}: {reason}"));
    // A server without TLS may close the connection during the handshake.
    let hint = if reason == "tls handshake eof" {
        NO_TLS_HINT.to_owned()
    } else {
        unreachable_hint(endpoint, proxy.as_ref(), is_refused)
    };
    let failure = failure.with_hint(hint);
    Failure { unreached: true, ..failure }
}

/// The failure when a proxy opens no tunnel to a TLS server. The only status that reqwest's error identifies is 407.
fn tunnel_failure(endpoint: &Endpoint, proxy: Option<&ProxySetting>, cause: &str) -> Option<Failure> {
    let reason = cause.strip_prefix("tunnel error: ")?;
    let proxy = proxy?;
    if reason == "proxy authorization required" {
        let failure = proxy_auth_failure(proxy, "");
        return Some(Failure { status: Some(407), ..failure });
    }
    let url = without_secrets(&endpoint.base_url);
    let reason = if reason == "unsuccessful" { "it refuses to connect to that server" } else { reason };
    let message = format!("can't reach {url} through {}: {reason}", proxy.description());
    Some(Failure::new(FailureClass::ProviderUnavailable, message).with_hint(format!(
        "have the proxy in {} allow connections to that server, or name the host in NO_PROXY",
        proxy.variable
    )))
}

/// The failure when a proxy requires a user and a password; `text` is the proxy's message.
fn proxy_auth_failure(proxy: &ProxySetting, text: &str) -> Failure {
    let message = format!("{} asks for a user and password (407): {text}", proxy.description());
    let hint = format!("write them into {}, as in `http://USER:PASSWORD@HOST:PORT`", proxy.variable);
    Failure::new(FailureClass::BadRequest, message.trim_end_matches(": ")).with_hint(hint)
}

/// The hint when a server closes a plain HTTP connection.
const MAYBE_TLS_HINT: &str = "if the server expects TLS, write `https://` in its base URL";
/// The hint when a server does not complete a TLS handshake.
const NO_TLS_HINT: &str = "check the port in the base URL; a server without TLS has an address with `http://`";

/// The proxy between orch and an endpoint, if there is one.
fn proxy_for(endpoint: &Endpoint) -> Option<ProxySetting> {
    let url = Url::parse(&endpoint.base_url).ok()?;
    endpoint.network.proxy(&url).ok().flatten()
}

/// The hint for a server that can't be reached.
fn unreachable_hint(endpoint: &Endpoint, proxy: Option<&ProxySetting>, is_refused: bool) -> String {
    let name = &endpoint.name;
    match proxy {
        Some(proxy) if !proxy.resolves_names() => format!(
            "check the proxy in {}, or name the host in NO_PROXY; with `socks5h://` the proxy looks the host up",
            proxy.variable
        ),
        Some(proxy) => format!("check the proxy in {}, or name the host in NO_PROXY", proxy.variable),
        None if is_refused && name == "ollama" => "start it with `ollama serve`".to_owned(),
        None if is_refused => format!("start {name}, or correct its base URL"),
        None => "check the network and the base URL".to_owned(),
    }
}

fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

/// The message of the innermost cause. The outer errors only repeat the address.
pub(super) fn innermost_cause(error: &reqwest::Error) -> String {
    let innermost = error_chain(error).last().map(ToString::to_string).unwrap_or_default();
    shorten(&innermost, MAX_MESSAGE_CHARS)
}

/// The failure for a response with a status other than 2xx.
pub(super) fn from_status(response: &ErrorResponse, context: &RequestContext<'_>) -> Failure {
    let endpoint = context.endpoint;
    let code = response.status.as_u16();
    if response.status.is_redirection() {
        let location =
            response.headers.get(LOCATION).map(|value| excerpt(value.as_bytes(), endpoint, MAX_MESSAGE_CHARS));
        let target = location.map_or_else(String::new, |location| without_secrets(&location));
        let failure =
            Failure::new(FailureClass::BadRequest, format!("{} redirects to {target} ({code})", endpoint.name))
                .with_hint("orch follows no redirects: set the base URL to the address that this one redirects to");
        return Failure { status: Some(code), ..failure };
    }
    let (error_body, described_by) = response.error();
    let mut error_body =
        error_body.unwrap_or_else(|| ErrorBody::from_text(excerpt(response.body.bytes(), endpoint, MAX_MESSAGE_CHARS)));
    // AWS writes the name of the error only into a header.
    if let Some(label) = response.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()) {
        error_body.add_label(label);
    }
    let failure = failure_from_proxy(code, &error_body, endpoint)
        .unwrap_or_else(|| failure_from_body(Some(code), &error_body, context));
    let now = context.clock.now();
    let wait_in_body = || {
        let described_by = described_by.unwrap_or(&Value::Null);
        requested_wait::wait_from_body(described_by, &error_body.message, failure.class, now)
    };
    let retry_after_ms = requested_wait::wait_from_headers(&response.headers, now).or_else(wait_in_body);
    Failure { status: Some(code), retry_after_ms, ..failure }
}

/// The failure for a 407 if orch uses a proxy: the proxy sent the 407, not the provider.
fn failure_from_proxy(code: u16, error_body: &ErrorBody, endpoint: &Endpoint) -> Option<Failure> {
    let proxy = proxy_for(endpoint).filter(|_| code == 407)?;
    Some(proxy_auth_failure(&proxy, &quote(&error_body.message, endpoint, MAX_MESSAGE_CHARS)))
}
