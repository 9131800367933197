//! Sends every request over HTTP and reads its reply, within time-outs and size limits.
//!
//! Never sends a request twice, and never puts a key into a failure.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::assembler::{Assembler, ReplySink};
use super::body::{ResponseBody, has_further_value, parse_json_body};
use super::body_format::{BodyFormat, BodyStart, ContentType};
use super::client::{header_map, parse_url, shared_client, without_secrets};
use super::contradictions::self_contradiction;
use super::error_response::{ErrorResponse, is_gateway_timeout};
use super::errors::{self, RequestContext};
use super::foreign_reply::{check_dialect_hint, foreign_reply};
use super::redaction::{excerpt, quote, redact_failure};
use super::stream::{ExchangeProgress, StreamReader};
use super::stream_content::{StreamContent, reports_generation};
use super::{Endpoint, RequestLimits, UnauthenticatedRequest, error_body, requested_wait};
use crate::model::chat::ChatReply;
use crate::model::failure::{Failure, FailureClass};
use crate::network::send_logged;

/// The largest part of an unusable body that orch reads for the message, in bytes.
const MAX_QUOTED_BODY: usize = 1024;
/// The longest content type that orch quotes, in characters.
const MAX_CONTENT_TYPE_CHARS: usize = 100;

/// One request, ready to be sent.
pub(super) struct HttpCall<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// The model's name, for messages.
    pub(super) model: &'a str,
    pub(super) url: String,
    /// The header that carries the key, and the prefix before the key in it.
    pub(super) key_header: (&'static str, &'static str),
    pub(super) headers: &'a [(&'static str, &'static str)],
    pub(super) body: Value,
    pub(super) limits: &'a RequestLimits,
}

/// A response that has already been received.
pub(super) struct ReceivedResponse<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) response: Response,
    pub(super) limits: &'a RequestLimits,
}

/// The source of a response.
enum ResponseSource<'a> {
    Request(HttpCall<'a>),
    Received(ReceivedResponse<'a>),
}

/// Sends the request and reads the reply to its end.
pub(super) async fn exchange<A: Assembler>(
    call: HttpCall<'_>,
    assembler: A,
    sink: ReplySink<'_>,
) -> Result<ChatReply, Failure> {
    run_exchange(call.endpoint, call.limits, ResponseSource::Request(call), assembler, sink).await
}

/// Reads the reply in a response that has already been received.
pub(super) async fn read_received_response<A: Assembler>(
    received: ReceivedResponse<'_>,
    assembler: A,
    sink: ReplySink<'_>,
) -> Result<ChatReply, Failure> {
    run_exchange(received.endpoint, received.limits, ResponseSource::Received(received), assembler, sink).await
}

/// Reads a response within its time limits, and turns the outcome into a reply or a failure.
async fn run_exchange<A: Assembler>(
    endpoint: &Endpoint,
    limits: &RequestLimits,
    source: ResponseSource<'_>,
    mut assembler: A,
    sink: ReplySink<'_>,
) -> Result<ChatReply, Failure> {
    let mut progress = ExchangeProgress::default();
    let exchange = async {
        match source {
            ResponseSource::Request(call) => send_request(call, &mut assembler, &mut progress, sink).await,
            ResponseSource::Received(ReceivedResponse { endpoint, response, limits }) => {
                let clock = limits.clock.as_ref();
                let context = RequestContext { endpoint, model: "", clock, retry_after_ms: None };
                let first_byte_deadline = Instant::now() + limits.first_byte_timeout;
                progress.may_have_generated = true;
                receive(response, context, limits, first_byte_deadline, &mut assembler, &mut progress, sink).await
            }
        }
    };
    // The flag of a failure is true if orch cut the exchange off.
    let result = tokio::select! {
        biased;
        result = exchange => result.map_err(|failure| (failure, false)),
        () = limits.cancellation.cancelled() => Err((errors::timed_out(endpoint, "was cut off"), true)),
        () = tokio::time::sleep(limits.total_timeout) => {
            let limit = format_duration(limits.total_timeout);
            Err((errors::timed_out(endpoint, &format!("did not finish within {limit}")), true))
        }
    };
    let result = match result {
        // The reply had already ended, so the time-out does not matter.
        Err((_, true)) if progress.reply_ended || assembler.builder().stop.single_reason_ends_content() => Ok(()),
        Err((failure, true)) => Err(errors::append_server_text(failure, &progress.other_text, endpoint)),
        Err((failure, false)) => Err(failure),
        Ok(()) => Ok(()),
    };
    let result = result.and_then(|()| match assembler.builder().stop.server_failure() {
        _ if assembler.builder().has_too_many_blocks() => Err(errors::too_many_parts(endpoint)),
        Some(reason) => Err(errors::reply_aborted(endpoint, reason)),
        None => progress.check_reply(assembler.builder(), endpoint),
    });
    match result {
        Ok(()) => Ok(add_server_text(assembler.into_reply(), &progress.other_text, endpoint)),
        Err(failure) => {
            let retry_after_ms = progress.retry_after_ms.filter(|_| requested_wait::is_wait_useful(failure.class));
            let failure = Failure { retry_after_ms: failure.retry_after_ms.or(retry_after_ms), ..failure };
            let usage = Some(assembler.usage()).filter(|usage| !usage.is_empty()).map(Box::new);
            Err(Failure { usage, interrupted: progress.may_have_generated, ..redact_failure(failure, endpoint) })
        }
    }
}

/// Adds the text that the server sent besides the reply, or instead of it, to the reply's details.
fn add_server_text(mut reply: ChatReply, text: &str, endpoint: &Endpoint) -> ChatReply {
    if text.trim().is_empty() {
        return reply;
    }
    let text = excerpt(text.as_bytes(), endpoint, error_body::MAX_MESSAGE_CHARS);
    if reply.text().trim().is_empty() {
        let instead = reply.details.instead.take().map_or_else(String::new, |instead| format!("{instead} and "));
        reply.details.instead = Some(format!("{instead}the words: {text}"));
    } else {
        reply.details.beside = Some(text);
    }
    reply
}

/// Sends the request and reads the response. `progress` contains the state even if this function fails or its future is
/// dropped.
async fn send_request<A: Assembler>(
    call: HttpCall<'_>,
    assembler: &mut A,
    progress: &mut ExchangeProgress,
    sink: ReplySink<'_>,
) -> Result<(), Failure> {
    let HttpCall { endpoint, model, url, key_header, headers, body, limits } = call;
    let context = RequestContext { endpoint, model, clock: limits.clock.as_ref(), retry_after_ms: None };
    let mut url = parse_url(&url, &endpoint.name)?;
    if !endpoint.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&endpoint.query);
    }
    let client = shared_client(&url, limits.connect_timeout, &endpoint.network)?;
    let payload = serde_json::to_vec(&body)
        .map_err(|error| Failure::new(FailureClass::BadRequest, format!("can't encode the request: {error}")))?;
    let mut headers = header_map(headers, endpoint)?;
    endpoint.auth.authenticate(&mut UnauthenticatedRequest {
        provider: &endpoint.name,
        url: &url,
        headers: &mut headers,
        body: &payload,
        now: limits.clock.now(),
        key_header,
    })?;
    let request = client.post(url).headers(headers).body(payload);

    let first_byte_deadline = Instant::now() + limits.first_byte_timeout;
    progress.may_have_generated = true;
    let response = timeout_at(first_byte_deadline, send_logged("provider", "POST", request))
        .await
        .map_err(|_| {
            let limit = format_duration(limits.first_byte_timeout);
            errors::timed_out(endpoint, &format!("sent nothing within {limit}"))
        })?
        .map_err(|error| {
            progress.may_have_generated = !error.is_connect();
            errors::unreachable(endpoint, &error, limits)
        })?;
    receive(response, context, limits, first_byte_deadline, assembler, progress, sink).await
}

/// Reads a response whose status and headers have arrived.
async fn receive<A: Assembler>(
    response: Response,
    mut context: RequestContext<'_>,
    limits: &RequestLimits,
    first_byte_deadline: Instant,
    assembler: &mut A,
    progress: &mut ExchangeProgress,
    sink: ReplySink<'_>,
) -> Result<(), Failure> {
    let endpoint = context.endpoint;
    let status = response.status();
    if !status.is_success() {
        progress.may_have_generated = is_gateway_timeout(status);
        let error_response = ErrorResponse::read(response, limits).await;
        progress.may_have_generated |= error_response.reports_generation(assembler);
        return Err(errors::from_status(&error_response, &context));
    }
    context.retry_after_ms = requested_wait::wait_from_headers(response.headers(), limits.clock.now());
    progress.retry_after_ms = context.retry_after_ms;
    let content_type = ContentType::of(response.headers());
    let mut body = ResponseBody::new(response, endpoint, limits, first_byte_deadline);
    let mut start = BodyStart::default();
    start.push(&body.next_chunk().await?.unwrap_or_default());
    while start.needs_more(&content_type)
        && let Some(chunk) = body.next_chunk().await?
    {
        start.push(&chunk);
    }
    match start.format(&content_type) {
        BodyFormat::Events => {
            let mut reader =
                StreamReader { context: &context, assembler, sink, progress, content: StreamContent::default() };
            reader.read_events(Bytes::from(start.into_bytes()), &mut body).await
        }
        BodyFormat::Json => {
            let bytes = body.read_json(&start.into_bytes()).await?;
            read_json(&bytes, &context, assembler, progress, sink)
        }
        format => {
            // The model may have written a text that orch can't read. Only an error page is certainly no reply.
            progress.may_have_generated = !start.is_markup();
            let first_bytes = body.read_unusable_body(&start.into_bytes(), MAX_QUOTED_BODY).await;
            let failure = unusable_body(format == BodyFormat::WebPage, &content_type, &first_bytes, &context);
            Err(Failure { status: Some(status.as_u16()), ..failure })
        }
    }
}

/// Reads a reply that is one JSON value.
fn read_json<A: Assembler>(
    bytes: &[u8],
    context: &RequestContext<'_>,
    assembler: &mut A,
    progress: &mut ExchangeProgress,
    sink: ReplySink<'_>,
) -> Result<(), Failure> {
    let endpoint = context.endpoint;
    let body = bytes;
    let (value, bytes) = parse_json_body(body).ok_or_else(|| {
        let excerpt = excerpt(body, endpoint, 200);
        errors::unavailable(endpoint, &format!("sent broken JSON: {excerpt}"))
    })?;
    if let Some(failure) = error_body::failure_reported_in_body(&value, context) {
        progress.may_have_generated = reports_generation(assembler, &value);
        return Err(failure);
    }
    if has_further_value(body, bytes) {
        let problem = "sent several JSON values, each of which may be only a part of the reply";
        return Err(errors::unavailable(endpoint, problem));
    }
    if let Some(failure) = self_contradiction(&value, A::USAGE_FIELDS, endpoint) {
        reports_generation(assembler, &value);
        return Err(failure);
    }
    if !assembler.read_complete_reply(&value, sink) {
        if let Some(failure) = foreign_reply(&value, endpoint) {
            assembler.read_usage(&value);
            return Err(failure);
        }
        let excerpt = excerpt(bytes, endpoint, 200);
        let failure = errors::unavailable(endpoint, &format!("answered with JSON that is not a reply: {excerpt}"));
        let recognized = error_body::failure_without_reply(&value.to_string(), context);
        // An error that orch recognizes means that the model generated nothing; any other text may be a reply.
        let has_message = error_body::parse_error_body(&value).is_some();
        let failure = if has_message { failure } else { failure.with_hint(check_dialect_hint(endpoint)) };
        let is_recognized = error_body::is_recognized_error(recognized.class) && has_message;
        progress.may_have_generated = !is_recognized || reports_generation(assembler, &value);
        return Err(Failure { class: recognized.class, retry_after_ms: recognized.retry_after_ms, ..failure });
    }
    if assembler.is_complete_unstreamed() {
        Ok(())
    } else {
        Err(errors::unavailable(endpoint, "sent a reply without a stop reason, so it may not be complete"))
    }
}

/// The failure for a response that is neither a stream of events nor JSON.
fn unusable_body(
    is_web_page: bool,
    content_type: &ContentType,
    first_bytes: &[u8],
    context: &RequestContext<'_>,
) -> Failure {
    let endpoint = context.endpoint;
    let excerpt = excerpt(first_bytes, endpoint, 200);
    if is_web_page {
        return Failure::new(
            FailureClass::BadRequest,
            format!("{} answered with a web page: {excerpt}", endpoint.name),
        )
        .with_hint(format!("check that {} is the base URL of an API", without_secrets(&endpoint.base_url)));
    }
    let body_type = match quote(&content_type.header, endpoint, MAX_CONTENT_TYPE_CHARS) {
        header if header.is_empty() => "something without a content type".to_owned(),
        header => header,
    };
    errors::unavailable(endpoint, &format!("answered with {body_type}: {excerpt}"))
}

/// Requests `GET url` and parses the response as JSON.
pub(super) async fn get_json(endpoint: &Endpoint, url: &str, limits: &RequestLimits) -> Result<Value, Failure> {
    let url = parse_url(url, &endpoint.name)?;
    let client = shared_client(&url, limits.connect_timeout, &endpoint.network)?;
    let request = async {
        let deadline = Instant::now() + limits.first_byte_timeout;
        let response = timeout_at(deadline, send_logged("provider", "GET", client.get(url)))
            .await
            .map_err(|_| {
                errors::timed_out(
                    endpoint,
                    &format!("sent nothing within {}", format_duration(limits.first_byte_timeout)),
                )
            })?
            .map_err(|error| errors::unreachable(endpoint, &error, limits))?;
        if !response.status().is_success() {
            let context = RequestContext { endpoint, model: "", clock: limits.clock.as_ref(), retry_after_ms: None };
            return Err(errors::from_status(&ErrorResponse::read(response, limits).await, &context));
        }
        let bytes = ResponseBody::new(response, endpoint, limits, deadline).read_json(&[]).await?;
        parse_json_body(&bytes).map(|(value, _)| value).ok_or_else(|| {
            let excerpt = excerpt(&bytes, endpoint, 200);
            errors::unavailable(endpoint, &format!("answered with something that is not JSON: {excerpt}"))
        })
    };
    let result = timeout(limits.total_timeout, request).await.unwrap_or_else(|_| {
        Err(errors::timed_out(endpoint, &format!("did not finish within {}", format_duration(limits.total_timeout))))
    });
    result.map_err(|failure| redact_failure(failure, endpoint))
}

/// Formats a duration for a message.
pub(super) fn format_duration(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
