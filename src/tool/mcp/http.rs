//! Connects to a server over HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use indexmap::IndexMap;
use reqwest::Url;
use reqwest::redirect::Policy;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use crate::model::{Failure, FailureClass, McpHeader};
use crate::tool::http_client::{build_client, client_builder};

use super::http_client::{EventSizes, HttpClient};
use super::text_worker::TextWorker;
use super::{MAX_MESSAGE_BYTES, McpContext};

/// The maximum number of redirects of one request.
pub(super) const MAX_REDIRECTS: usize = 10;
/// How often orch resumes a stream of messages that was cut off, before the call fails.
const MAX_RESUMES: usize = 3;
/// The longest wait before it does.
const MAX_RESUME_DELAY: Duration = Duration::from_secs(4);
/// The part of an error page that messages contain, in bytes.
const MAX_ERROR_BYTES: usize = 4 << 10;

/// A connection over HTTP.
pub(super) type HttpTransport = StreamableHttpClientTransport<HttpClient>;

/// Prepares a connection, and tells whether its events are too large. The first message opens it.
pub(super) fn open(
    server: &str,
    url: &str,
    headers: &IndexMap<String, McpHeader>,
    context: &McpContext,
) -> Result<(HttpTransport, EventSizes), Failure> {
    let invalid = |reason: String| {
        let message = format!("the address of the MCP server `{server}` can't be used: {reason}");
        Failure::new(FailureClass::BadRequest, message)
    };
    let parsed = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
    let proxy = context.network.proxy(&parsed)?;
    let builder = client_builder(&context.network, &parsed, proxy.as_ref())?;
    // A connection whose last body was not read to its end would delay the next request.
    let client = build_client(builder.redirect(redirect_policy()).pool_max_idle_per_host(0))?;
    let mut backoff = ExponentialBackoff::default();
    backoff.max_times = Some(MAX_RESUMES);
    backoff.max_delay = Some(MAX_RESUME_DELAY);
    let mut config = StreamableHttpClientTransportConfig::with_uri(url)
        .custom_headers(header_values(server, headers, context)?)
        .max_sse_event_size(MAX_MESSAGE_BYTES)
        .max_json_response_size(MAX_MESSAGE_BYTES)
        .max_error_response_size(MAX_ERROR_BYTES)
        // The crate would send the request again, and the server may have performed it.
        .reinit_on_expired_session(false);
    config.retry_config = Arc::new(backoff);
    let events = EventSizes::default();
    let client = HttpClient::new(client, events.clone(), TextWorker::new(&context.ending_process_groups));
    Ok((StreamableHttpClientTransport::with_client(client, config), events))
}

/// Follows up to [`MAX_REDIRECTS`] redirects, unless there is a [`redirect_refusal`].
fn redirect_policy() -> Policy {
    Policy::custom(|attempt| {
        let status = attempt.status().as_u16();
        let first = attempt.previous().first();
        let is_allowed = first.is_some_and(|first| redirect_refusal(status, first, attempt.url()).is_none());
        if is_allowed && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
    })
}

/// Why orch does not follow a redirect with this status from `url` to `target`, if it does not. It follows only redirects
/// that keep the message, and only to the same host and port: others would get the headers.
pub(super) fn redirect_refusal(status: u16, url: &Url, target: &Url) -> Option<&'static str> {
    if !matches!(status, 307 | 308) {
        return Some("only the statuses 307 and 308 keep the message");
    }
    (url.origin() != target.origin()).then_some(
        "the scheme, the host or the port differs, and orch would send the headers and the arguments of calls there",
    )
}

/// The headers of each request, with the values of their variables.
fn header_values(
    server: &str,
    headers: &IndexMap<String, McpHeader>,
    context: &McpContext,
) -> Result<HashMap<HeaderName, HeaderValue>, Failure> {
    let mut values = HashMap::new();
    for (name, header) in headers {
        let value = match header {
            McpHeader::Text(text) => text.clone(),
            McpHeader::Variable(variable) => (context.variables)(variable).ok_or_else(|| {
                let message = format!("the header `{name}` of the MCP server `{server}` needs the variable {variable}");
                let hint = format!("set {variable} in the environment of orch, for example to `Bearer TOKEN`");
                Failure::new(FailureClass::Auth, message).with_hint(hint)
            })?,
        };
        let parsed = (HeaderName::try_from(name), HeaderValue::try_from(value.trim()));
        let (Ok(header_name), Ok(mut header_value)) = parsed else {
            let message = format!("the header `{name}` of the MCP server `{server}` can't be sent");
            let hint = "its value must be one line without control characters";
            return Err(Failure::new(FailureClass::BadRequest, message).with_hint(hint));
        };
        header_value.set_sensitive(true);
        values.insert(header_name, header_value);
    }
    Ok(values)
}
