//! Reads the events of a stream to the end of its reply.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::Endpoint;
use super::assembler::{Assembler, ReplySink};
use super::body::{COMPLETENESS_CHECK_DELAY, ResponseBody};
use super::contradictions::parse_json;
use super::contradictions::self_contradiction;
use super::error_body;
use super::errors::{self, RequestContext};
use super::foreign_reply::foreign_reply;
use super::redaction::excerpt;
use super::reply_builder::ReplyBuilder;
use super::sse::{SseDecoder, SseItem};
use super::stream_content::{StreamContent, reports_generation};
use crate::model::failure::{Failure, FailureClass};

/// The maximum wait for the usage after the end of a reply.
const USAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum amount of text besides the reply that orch stores, in bytes.
const MAX_OTHER_TEXT: usize = 4096;

/// The kind of an event in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// A part of the reply.
    Part,
    /// The dialect's own end event.
    End,
    /// An event that only keeps the connection alive.
    KeepAlive,
    /// Not an event of the dialect.
    Unrecognized,
    /// An event that contradicts earlier ones. The text follows the provider's name in the message.
    Inconsistent(&'static str),
}

/// The state of an exchange, which remains available if the exchange fails or its future is dropped.
#[derive(Debug, Default)]
pub(super) struct ExchangeProgress {
    /// Whether the model may have started to generate.
    pub(super) may_have_generated: bool,
    /// Whether the end of the reply has arrived.
    pub(super) reply_ended: bool,
    /// Text in the stream that is not part of the reply.
    pub(super) other_text: String,
    /// The position in `other_text` of the first text that came after content and before a stop reason.
    pub(super) text_after_content: Option<usize>,
    /// The wait that the headers request, in milliseconds.
    pub(super) retry_after_ms: Option<u64>,
}

impl ExchangeProgress {
    /// Fails if the text or the calls of a reply are not as the model wrote them, or if the reply has no stop reason
    /// and other text came after content. The failure quotes that text, which may explain why the reply ended.
    pub(super) fn check_reply(&self, builder: &ReplyBuilder, endpoint: &Endpoint) -> Result<(), Failure> {
        if let Some(inconsistency) = builder.inconsistency() {
            return Err(errors::unavailable(endpoint, &inconsistency));
        }
        let Some(start) = self.text_after_content.filter(|_| !builder.stop.has_reason()) else { return Ok(()) };
        let text = self.other_text.get(start..).filter(|text| !text.trim().is_empty()).unwrap_or(&self.other_text);
        Err(errors::append_server_text(
            errors::unavailable(endpoint, "ended the reply without a stop reason"),
            text,
            endpoint,
        ))
    }
}

/// Reads an event stream into an assembler.
pub(super) struct StreamReader<'a, A> {
    pub(super) context: &'a RequestContext<'a>,
    pub(super) assembler: &'a mut A,
    pub(super) sink: ReplySink<'a>,
    pub(super) progress: &'a mut ExchangeProgress,
    pub(super) content: StreamContent,
}

impl<A: Assembler> StreamReader<'_, A> {
    /// Reads events to the end of the reply.
    pub(super) async fn read_events(&mut self, first: Bytes, body: &mut ResponseBody<'_>) -> Result<(), Failure> {
        let mut decoder = SseDecoder::default();
        let mut chunk = Some(first);
        let mut usage_deadline = None;
        let mut failure = None;
        while let Some(bytes) = chunk {
            self.content.record_bytes(&bytes);
            for item in decoder.push(&bytes) {
                self.read_item(&item)?;
            }
            // `next_chunk` checks the body only after a pause. A server that sends white space or comments to keep the
            // connection alive may never pause, so check here too.
            if matches!(bytes.trim_ascii().first(), None | Some(b':')) {
                self.check_json_body()?;
            }
            chunk = self.next_chunk(body, &mut usage_deadline).await.unwrap_or_else(|error| {
                failure = Some(error);
                None
            });
        }
        for item in decoder.finish() {
            // An incomplete event at the end is the result of a broken connection, not a mistake of the server.
            let is_incomplete = match &item {
                SseItem::Data(data) => !is_done(data) && parse_json(data).is_err(),
                SseItem::Error(_) | SseItem::Stray(_) => false,
            };
            if !is_incomplete {
                self.read_item(&item)?;
            }
        }
        self.finish(body, failure)
    }

    /// The next chunk; `None` at the end of the body, or if orch needs no more of it.
    async fn next_chunk(
        &mut self,
        body: &mut ResponseBody<'_>,
        usage_deadline: &mut Option<Instant>,
    ) -> Result<Option<Bytes>, Failure> {
        if self.progress.reply_ended {
            if self.assembler.has_final_usage() {
                return Ok(None);
            }
            let deadline = *usage_deadline.get_or_insert_with(|| Instant::now() + USAGE_TIMEOUT);
            // The reply is complete, so orch ignores an error of the connection.
            return Ok(timeout_at(deadline, body.next_chunk()).await.ok().and_then(Result::ok).flatten());
        }
        if !self.assembler.builder().is_empty() {
            return body.next_chunk().await;
        }
        let next = body.next_chunk();
        tokio::pin!(next);
        if let Ok(chunk) = timeout(COMPLETENESS_CHECK_DELAY, &mut next).await {
            return chunk;
        }
        self.check_json_body()?;
        if self.progress.reply_ended { Ok(None) } else { next.await }
    }

    /// Checks whether the body so far is one JSON value: a complete reply or an error. Such a value is complete even if
    /// the connection breaks or stays open.
    fn check_json_body(&mut self) -> Result<(), Failure> {
        if !self.assembler.builder().is_empty() || self.progress.reply_ended || !self.content.has_changed() {
            return Ok(());
        }
        let value = self.content.json_value().unwrap_or_default();
        if let Some(failure) = error_body::failure_reported_in_body(&value, self.context) {
            return Err(self.record_failure(failure, &value));
        }
        self.progress.reply_ended = self.read_complete_reply()?;
        Ok(())
    }

    /// Fails if a value has a key with several values.
    fn check_keys(&mut self, value: &Value) -> Result<(), Failure> {
        match self_contradiction(value, A::USAGE_FIELDS, self.context.endpoint) {
            Some(failure) => Err(self.record_inconsistency(failure, value)),
            None => Ok(()),
        }
    }

    /// Records that the model generated what contradicts itself in `value`, and returns the failure.
    fn record_inconsistency(&mut self, failure: Failure, value: &Value) -> Failure {
        let failure = self.record_failure(failure, value);
        self.progress.may_have_generated = true;
        failure
    }

    /// Reads a single value that contains a complete reply; returns false if there is none.
    fn read_complete_reply(&mut self) -> Result<bool, Failure> {
        self.check_keys(&self.content.json_value().unwrap_or_default())?;
        let is_reply = self.content.read_single_reply(self.assembler, self.sink);
        if is_reply {
            self.content.has_reply_part = true;
            self.progress.other_text.clear();
        }
        Ok(is_reply)
    }

    /// Decides at the end of the stream whether the reply is complete; `stream_failure` is set if the stream did not
    /// end properly.
    fn finish(&mut self, body: &ResponseBody<'_>, stream_failure: Option<Failure>) -> Result<(), Failure> {
        let is_complete = match &stream_failure {
            // After a time-out, or if the server sends too much, the reply is complete if exactly one chunk had a stop
            // reason and no content followed it.
            Some(failure) if body.has_timed_out || failure.class == FailureClass::OutputTooLarge => {
                self.assembler.builder().stop.single_reason_ends_content()
            }
            // The connection broke before the end of the stream.
            Some(_) => false,
            None => self.assembler.is_complete_at_stream_end(),
        };
        let is_complete = is_complete || self.progress.reply_ended;
        if let Some(failure) =
            stream_failure.as_ref().filter(|failure| failure.class == FailureClass::OutputTooLarge && !is_complete)
        {
            return Err(failure.clone());
        }
        if self.assembler.builder().is_empty() && self.read_complete_reply()? {
            return Ok(());
        }
        if let Some(failure) = self.foreign_reply() {
            self.progress.may_have_generated = true;
            return Err(failure);
        }
        if let Some(failure) = self.failure_without_reply() {
            // An error that orch recognizes means that the model generated nothing; any other text may be a reply.
            let is_recognized = error_body::is_recognized_error(failure.class)
                && self
                    .content
                    .first_unrecognized_event
                    .as_ref()
                    .is_none_or(|event| error_body::parse_error_body(event).is_some());
            self.progress.may_have_generated = self.content.has_reply_part || !is_recognized;
            return Err(failure);
        }
        if is_complete {
            return Ok(());
        }
        let failure =
            stream_failure.unwrap_or_else(|| errors::connection_lost(self.context.endpoint, body.received_bytes));
        Err(errors::append_server_text(failure, &self.progress.other_text, self.context.endpoint))
    }

    /// The failure for a stream of another dialect.
    fn foreign_reply(&self) -> Option<Failure> {
        let builder = self.assembler.builder();
        let is_unanswered = builder.is_empty() && !builder.stop.has_reason();
        let event = self.content.first_unrecognized_event.as_ref().filter(|_| is_unanswered)?;
        foreign_reply(event, self.context.endpoint)
    }

    /// The failure for a stream that contains other text instead of a reply. An empty reply with other text counts as a
    /// reply, unless the text is an error that orch recognizes.
    fn failure_without_reply(&self) -> Option<Failure> {
        let text = &self.progress.other_text;
        let has_only_text = self.assembler.builder().is_empty() && !text.trim().is_empty();
        let failure = has_only_text.then(|| error_body::failure_without_reply(text, self.context))?;
        (!self.content.has_reply_part || error_body::is_recognized_error(failure.class)).then_some(failure)
    }

    /// Reads one item of the stream.
    fn read_item(&mut self, item: &SseItem) -> Result<(), Failure> {
        let (data, is_error_event) = match item {
            SseItem::Data(data) => (data.trim_ascii(), false),
            SseItem::Error(data) => (data.trim_ascii(), true),
            SseItem::Stray(line) => return self.read_stray_line(line),
        };
        if data.is_empty() {
            return Ok(());
        }
        if is_done(data) {
            self.progress.reply_ended |= self.assembler.is_complete_at_done();
            return Ok(());
        }
        let value = match parse_json(data) {
            Ok(value) => value,
            Err(_) if self.progress.reply_ended => return Ok(()),
            Err(_) if is_error_event => Value::String(String::from_utf8_lossy(data).into_owned()),
            Err(_) if is_text(data) => return self.handle_text(data),
            Err(_) => {
                let endpoint = self.context.endpoint;
                let excerpt = excerpt(data, endpoint, 200);
                return Err(errors::unavailable(endpoint, &format!("sent an event that is not JSON: {excerpt}")));
            }
        };
        self.read_value(&value, is_error_event, data)
    }

    /// Reads the JSON value of an event; `data` is its text.
    fn read_value(&mut self, value: &Value, is_error_event: bool, data: &[u8]) -> Result<(), Failure> {
        if self.progress.reply_ended {
            // Ignore events after the final usage. Otherwise the result would depend on whether they arrive in the same
            // chunk, since orch reads no further chunk.
            if !self.assembler.has_final_usage() {
                self.assembler.read_usage(value);
            }
            return Ok(());
        }
        let failure = error_body::failure_reported_in_body(value, self.context);
        if let Some(failure) =
            failure.or_else(|| is_error_event.then(|| error_body::failure_from_error_event(value, self.context)))
        {
            return Err(self.record_failure(failure, value));
        }
        if let Some(text) = value.as_str() {
            return self.handle_text(text.as_bytes());
        }
        self.check_keys(value)?;
        let kind = self.assembler.read_event(value, self.sink);
        if self.assembler.builder().has_too_many_blocks() {
            return Err(errors::too_many_parts(self.context.endpoint));
        }
        match kind {
            EventKind::Part => self.content.has_reply_part = true,
            EventKind::End => (self.content.has_reply_part, self.progress.reply_ended) = (true, true),
            EventKind::KeepAlive => {}
            EventKind::Unrecognized => return self.handle_unrecognized(value, data),
            EventKind::Inconsistent(problem) => {
                let failure = errors::unavailable(self.context.endpoint, problem);
                return Err(self.record_inconsistency(failure, value));
            }
        }
        Ok(())
    }

    /// Handles a value that is not an event of the dialect. After content, a value with a `detail` is an error of a
    /// FastAPI server.
    fn handle_unrecognized(&mut self, value: &Value, data: &[u8]) -> Result<(), Failure> {
        self.content.record_unrecognized_event::<A>(value);
        if !self.assembler.builder().is_empty() && error_body::has_detail(value) {
            return Err(self.record_failure(error_body::failure_from_error_event(value, self.context), value));
        }
        self.record_other_text(data);
        Ok(())
    }

    /// Handles text that is not part of the reply. After content, text that begins with `error:` is an error.
    fn handle_text(&mut self, text: &[u8]) -> Result<(), Failure> {
        if !self.assembler.builder().is_empty() && text_after_error_prefix(text).is_some() {
            let value = Value::String(String::from_utf8_lossy(text).into_owned());
            return Err(self.record_failure(error_body::failure_from_error_event(&value, self.context), &value));
        }
        self.record_other_text(text);
        Ok(())
    }

    /// Reads a line that is not a field of an event: llama.cpp writes its errors as `error: {…}`, and a gateway may
    /// send a bare JSON object or a sentence.
    fn read_stray_line(&mut self, line: &[u8]) -> Result<(), Failure> {
        if self.progress.reply_ended {
            return Ok(());
        }
        let error_text = text_after_error_prefix(line);
        let data = error_text.unwrap_or(line).trim_ascii();
        match parse_json(data) {
            Ok(value) if value.is_object() || value.is_array() => {
                let failure = error_body::failure_reported_in_body(&value, self.context)
                    .or_else(|| error_text.map(|_| error_body::failure_from_error_event(&value, self.context)));
                match failure {
                    Some(failure) => Err(self.record_failure(failure, &value)),
                    None => self.handle_unrecognized(&value, data),
                }
            }
            _ => self.handle_text(line.trim_ascii()),
        }
    }

    /// Records whether the model generated anything before the failure that `value` reports, and returns the failure.
    fn record_failure(&mut self, failure: Failure, value: &Value) -> Failure {
        self.progress.may_have_generated = reports_generation(self.assembler, value) || self.content.has_reply_part;
        failure
    }

    /// Records text that is not part of the reply, up to [`MAX_OTHER_TEXT`].
    fn record_other_text(&mut self, data: &[u8]) {
        let builder = self.assembler.builder();
        if self.progress.text_after_content.is_none() && !builder.is_empty() && !builder.stop.has_reason() {
            self.progress.text_after_content = Some(self.progress.other_text.len());
        }
        let other_text = &mut self.progress.other_text;
        if other_text.len() < MAX_OTHER_TEXT {
            let text = String::from_utf8_lossy(data);
            other_text.extend(text.chars().take(MAX_OTHER_TEXT - other_text.len()).chain(['\n']));
        }
    }
}

/// The text after `error:` at the beginning of a line, in upper or lower case.
fn text_after_error_prefix(line: &[u8]) -> Option<&[u8]> {
    let (prefix, text) = line.split_at_checked(b"error:".len())?;
    prefix.eq_ignore_ascii_case(b"error:").then_some(text)
}

/// Whether the data of an event is text rather than invalid JSON: valid UTF-8 that does not begin with a bracket.
fn is_text(data: &[u8]) -> bool {
    !data.starts_with(b"{") && !data.starts_with(b"[") && std::str::from_utf8(data).is_ok()
}

/// Whether the data of an event is `[DONE]`, the end marker of Chat Completions.
fn is_done(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]"
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests;
