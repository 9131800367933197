//! The one path over which requests leave and replies come in.
//!
//! Applies time-outs and size limits, and reads replies. Nothing is ever sent twice, and no failure holds a key.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer_shape::{AnswerShape, content_type, is_undecided, shape};
use super::body::{ResponseBody, first_value, is_complete};
use super::client::{address, client, header_map, shown};
use super::draft::Draft;
use super::errors::{self, RequestContext};
use super::seen::{StreamContent, tells_of_work};
use super::stream::{ExchangeProgress, Hearing, StreamItem};
use super::{Endpoint, RequestLimits, StreamEvent, said, waits};
use crate::model::chat::ChatReply;
use crate::model::failure::{Class, Failure};
use crate::model::usage::ReportedUsage;

/// How much of the body of a refused request is read, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// How much of an answer that is not a reply is read for the message, in bytes.
const SHOWN_BODY: usize = 1024;
/// Statuses of a gateway that passed the request on and gave up waiting: 504 (RFC 9110) and 524 (Cloudflare).
const GATEWAY_TIMEOUTS: [u16; 2] = [504, 524];

/// Builds a reply from its parts, in one dialect.
pub(super) trait Assembler: Default + Send {
    /// Reads one event of the stream.
    fn event(&mut self, event: &Value, sink: ReplySink<'_>) -> StreamItem;

    /// Reads a complete reply, from a server that does not stream; returns false when it is not a reply.
    fn whole(&mut self, body: &Value, sink: ReplySink<'_>) -> bool;

    /// The reply so far.
    fn draft(&self) -> &Draft;

    /// Whether the reply is complete when `[DONE]` comes.
    fn done(&self) -> bool;

    /// Whether the reply is complete when the body of a stream ends properly.
    fn closed_whole(&self) -> bool;

    /// Whether a reply that is not streamed is complete.
    fn answered_whole(&self) -> bool;

    /// Reads only the usage of an event, such as one that comes after the end of the reply.
    fn count(&mut self, event: &Value);

    /// Whether the provider has reported a usage that covers all output.
    fn counted(&self) -> bool;

    /// The usage reported so far.
    fn usage(&self) -> ReportedUsage;

    /// Finishes the reply.
    fn reply(self) -> ChatReply;
}

/// Receives the parts of a reply as they arrive.
pub(super) type ReplySink<'a> = &'a (dyn Fn(StreamEvent) + Send + Sync);

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

/// A server's answer that has already been received.
pub(super) struct ReceivedAnswer<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) response: Response,
    pub(super) limits: &'a RequestLimits,
}

/// Where an answer comes from.
enum AnswerSource<'a> {
    Request(HttpCall<'a>),
    Received(ReceivedAnswer<'a>),
}

/// Sends the request and reads the reply to its end.
pub(super) async fn exchange<A: Assembler>(
    call: HttpCall<'_>,
    assembler: A,
    sink: ReplySink<'_>,
) -> Result<ChatReply, Failure> {
    supervise(call.endpoint, call.limits, AnswerSource::Request(call), assembler, sink).await
}

/// Reads the reply, to its end, in an answer that has already been received.
pub(super) async fn read_received<A: Assembler>(
    answer: ReceivedAnswer<'_>,
    assembler: A,
    sink: ReplySink<'_>,
) -> Result<ChatReply, Failure> {
    supervise(answer.endpoint, answer.limits, AnswerSource::Received(answer), assembler, sink).await
}

/// Reads an answer within its time limits, and turns the outcome into a reply or a failure.
async fn supervise<A: Assembler>(
    endpoint: &Endpoint,
    limits: &RequestLimits,
    source: AnswerSource<'_>,
    mut assembler: A,
    sink: ReplySink<'_>,
) -> Result<ChatReply, Failure> {
    let mut progress = ExchangeProgress::default();
    let read = async {
        match source {
            AnswerSource::Request(call) => converse(call, &mut assembler, &mut progress, sink).await,
            AnswerSource::Received(ReceivedAnswer { endpoint, response, limits }) => {
                let context = RequestContext { endpoint, model: "", clock: limits.clock.as_ref(), header_wait: None };
                let first_byte = Instant::now() + limits.first_byte;
                progress.at_work = true;
                receive(response, context, limits, first_byte, &mut assembler, &mut progress, sink).await
            }
        }
    };
    let result = tokio::select! {
        biased;
        result = read => result.map_err(|failure| (failure, false)),
        () = limits.cut.cancelled() => Err((errors::timed_out(endpoint, "was cut off"), true)),
        () = tokio::time::sleep(limits.total) => {
            let limit = seconds(limits.total);
            Err((errors::timed_out(endpoint, &format!("did not finish within {limit}")), true))
        }
    };
    let result = match result {
        // The answer had already ended, so the time-out does not matter.
        Err((_, true)) if progress.ended || assembler.draft().stop.ended_on_open_line() => Ok(()),
        Err((failure, true)) => Err(errors::with_words(failure, &progress.words, endpoint)),
        Err((failure, false)) => Err(failure),
        Ok(()) => Ok(()),
    };
    let result = result.and_then(|()| match assembler.draft().stop.server_failed() {
        Some(reason) => Err(errors::gave_up(endpoint, reason)),
        None => progress.broken_off(assembler.draft(), endpoint),
    });
    match result {
        Ok(()) => Ok(finished(assembler.reply(), &progress.words, endpoint)),
        Err(failure) => {
            let header_wait = progress.header_wait.filter(|_| waits::helps(failure.class));
            let failure = Failure { retry_after_ms: failure.retry_after_ms.or(header_wait), ..failure };
            let usage = Some(assembler.usage()).filter(|usage| !usage.is_nothing()).map(Box::new);
            Err(Failure { usage, interrupted: progress.at_work, ..errors::scrub(failure, endpoint) })
        }
    }
}

/// The reply, with a remark about what the server said besides it or instead of text.
fn finished(mut reply: ChatReply, words: &str, endpoint: &Endpoint) -> ChatReply {
    if words.trim().is_empty() {
        return reply;
    }
    let words = errors::excerpt(words.as_bytes(), endpoint, said::MESSAGE);
    if reply.text.trim().is_empty() {
        let instead = reply.remarks.instead.take().map_or_else(String::new, |instead| format!("{instead} and "));
        reply.remarks.instead = Some(format!("{instead}the words: {words}"));
    } else {
        reply.remarks.beside = Some(words);
    }
    reply
}

/// Sends the request and reads the answer; `progress` records how far this came, in case it fails or is dropped.
async fn converse<A: Assembler>(
    call: HttpCall<'_>,
    assembler: &mut A,
    progress: &mut ExchangeProgress,
    sink: ReplySink<'_>,
) -> Result<(), Failure> {
    let HttpCall { endpoint, model, url, key_header, headers, body, limits } = call;
    let context = RequestContext { endpoint, model, clock: limits.clock.as_ref(), header_wait: None };
    let mut target = address(&url, &endpoint.name)?;
    if !endpoint.query.is_empty() {
        target.query_pairs_mut().extend_pairs(&endpoint.query);
    }
    let client = client(&target, limits.connect, &endpoint.network)?;
    let payload = serde_json::to_vec(&body)
        .map_err(|e| Failure::new(Class::BadRequest, format!("can't encode the request: {e}")))?;
    let request = client.post(target).headers(header_map(headers, endpoint, key_header)?).body(payload);

    let first_byte = Instant::now() + limits.first_byte;
    progress.at_work = true;
    let response = timeout_at(first_byte, request.send())
        .await
        .map_err(|_| {
            let limit = seconds(limits.first_byte);
            errors::timed_out(endpoint, &format!("sent nothing within {limit}"))
        })?
        .map_err(|e| {
            progress.at_work = !e.is_connect();
            errors::unreachable(endpoint, &e, limits)
        })?;
    receive(response, context, limits, first_byte, assembler, progress, sink).await
}

/// Reads a response, from its status on.
async fn receive<A: Assembler>(
    response: Response,
    mut context: RequestContext<'_>,
    limits: &RequestLimits,
    first_byte: Instant,
    assembler: &mut A,
    progress: &mut ExchangeProgress,
    sink: ReplySink<'_>,
) -> Result<(), Failure> {
    let endpoint = context.endpoint;
    let status = response.status();
    if !status.is_success() {
        // A gateway that gave up waiting has passed the request on, so the model may have generated something.
        progress.at_work = GATEWAY_TIMEOUTS.contains(&status.as_u16());
        return Err(refused(response, &context, limits).await);
    }
    context.header_wait = waits::in_headers(response.headers(), limits.clock.now());
    progress.header_wait = context.header_wait;
    let kind = content_type(response.headers());
    let mut body = ResponseBody { response, endpoint, limits, first_byte, received: 0, silent: false };
    let mut first = body.chunk().await?.unwrap_or_default();
    while is_undecided(&kind, &first)
        && let Some(more) = body.chunk().await?
    {
        first = [first, more].concat().into();
    }
    match shape(&kind, &first) {
        AnswerShape::Events => {
            let mut hearing = Hearing { context: &context, assembler, sink, progress, seen: StreamContent::default() };
            hearing.events(first, &mut body).await
        }
        AnswerShape::Json => {
            let bytes = body.json(first).await?;
            read_json(&bytes, &context, assembler, progress, sink)
        }
        shape => {
            progress.at_work = false;
            let first = body.beginning(first, SHOWN_BODY).await;
            let failure = no_reply(shape == AnswerShape::Page, &kind, &first, &context);
            Err(Failure { status: Some(status.as_u16()), ..failure })
        }
    }
}

/// Reads a reply that came as one JSON value.
fn read_json<A: Assembler>(
    bytes: &[u8],
    context: &RequestContext<'_>,
    assembler: &mut A,
    progress: &mut ExchangeProgress,
    sink: ReplySink<'_>,
) -> Result<(), Failure> {
    let endpoint = context.endpoint;
    let (value, bytes) = first_value(bytes).ok_or_else(|| {
        let what = errors::excerpt(bytes, endpoint, 200);
        errors::unavailable(endpoint, &format!("sent broken JSON: {what}"))
    })?;
    if let Some(failure) = said::reported(&value, context) {
        progress.at_work = tells_of_work(assembler, &value);
        return Err(failure);
    }
    if !assembler.whole(&value, sink) {
        let what = errors::excerpt(bytes, endpoint, 200);
        let failure = errors::unavailable(endpoint, &format!("answered with JSON that is no reply: {what}"));
        let said = said::instead(&value.to_string(), context);
        // An error that orch recognizes means that the model generated nothing; any other words may be a reply.
        let known = said.class != Class::ProviderUnavailable && said::said(&value).is_some();
        progress.at_work = !known || tells_of_work(assembler, &value);
        return Err(Failure { class: said.class, retry_after_ms: said.retry_after_ms, ..failure });
    }
    if assembler.answered_whole() {
        Ok(())
    } else {
        Err(errors::unavailable(endpoint, "sent a reply without a stop reason, so it may not be whole"))
    }
}

/// The failure for an answer that is neither a stream of events nor JSON.
fn no_reply(page: bool, kind: &str, first: &[u8], context: &RequestContext<'_>) -> Failure {
    let endpoint = context.endpoint;
    let what = errors::excerpt(first, endpoint, 200);
    if page {
        return Failure::new(Class::BadRequest, format!("{} answered with a web page: {what}", endpoint.name))
            .with_hint(format!("check that {} is the base URL of an API", shown(&endpoint.base_url)));
    }
    let kind = if kind.is_empty() { "something without a content type" } else { kind };
    errors::unavailable(endpoint, &format!("answered with {kind}: {what}"))
}

/// The failure for a response with a status other than 2xx.
async fn refused(mut response: Response, context: &RequestContext<'_>, limits: &RequestLimits) -> Failure {
    let status = response.status();
    let headers = response.headers().clone();
    let mut body = BytesMut::new();
    // The body only explains the failure: take what arrives in time, and report the status even if the body breaks off.
    let patience = limits.idle.min(Duration::from_secs(10)).min(limits.total / 4);
    let deadline = Instant::now() + patience;
    while body.len() < MAX_ERROR_BODY && !is_complete(&body) {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    body.truncate(MAX_ERROR_BODY);
    errors::from_status(status, &headers, &body, context)
}

/// Requests `GET url` and parses the response as JSON.
pub(super) async fn get_json(endpoint: &Endpoint, url: &str, limits: &RequestLimits) -> Result<Value, Failure> {
    let target = address(url, &endpoint.name)?;
    let client = client(&target, limits.connect, &endpoint.network)?;
    let read = async {
        let deadline = Instant::now() + limits.first_byte;
        let response = timeout_at(deadline, client.get(target).send())
            .await
            .map_err(|_| errors::timed_out(endpoint, &format!("sent nothing within {}", seconds(limits.first_byte))))?
            .map_err(|e| errors::unreachable(endpoint, &e, limits))?;
        if !response.status().is_success() {
            let context = RequestContext { endpoint, model: "", clock: limits.clock.as_ref(), header_wait: None };
            return Err(refused(response, &context, limits).await);
        }
        let mut body = ResponseBody { response, endpoint, limits, first_byte: deadline, received: 0, silent: false };
        let bytes = body.json(Bytes::new()).await?;
        first_value(&bytes).map(|(value, _)| value).ok_or_else(|| {
            let what = errors::excerpt(&bytes, endpoint, 200);
            errors::unavailable(endpoint, &format!("answered with something that is not JSON: {what}"))
        })
    };
    let result = timeout(limits.total, read).await.unwrap_or_else(|_| {
        Err(errors::timed_out(endpoint, &format!("did not finish within {}", seconds(limits.total))))
    });
    result.map_err(|failure| errors::scrub(failure, endpoint))
}

/// A duration as text for a message.
pub(super) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
