//! Reads the events of a stream to the end of its reply.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::Endpoint;
use super::body::{PAUSE, ResponseBody};
use super::draft::Draft;
use super::errors::{self, RequestContext};
use super::http::{Assembler, ReplySink};
use super::said;
use super::seen::{StreamContent, tells_of_work};
use super::sse::{Decoder, SseItem};
use crate::model::failure::{Class, Failure};

/// How long orch waits for the usage after the end of a reply.
const GRACE: Duration = Duration::from_secs(2);
/// How much orch keeps of what a stream holds besides the reply, in bytes.
const MOST_WORDS: usize = 4096;

/// What one event of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamItem {
    /// A part of the reply.
    Part,
    /// The dialect's own end event.
    End,
    /// An event that only keeps the connection alive.
    Ignored,
    /// Not an event of the dialect.
    Foreign,
}

/// The state of an exchange; it outlives the exchange, however that ends.
#[derive(Debug, Default)]
pub(super) struct ExchangeProgress {
    /// Whether the model may have started to generate.
    pub(super) at_work: bool,
    /// Whether the end of the reply was seen.
    pub(super) ended: bool,
    /// What the stream held that does not have the dialect's shape.
    pub(super) words: String,
    /// Where in `words` the part starts that came after content and before a stop reason.
    pub(super) amid: Option<usize>,
    /// How long the headers ask to wait, in milliseconds.
    pub(super) header_wait: Option<u64>,
}

impl ExchangeProgress {
    /// Fails for a reply without a stop reason if the server said something else after content: it may say why the
    /// reply ended.
    pub(super) fn broken_off(&self, draft: &Draft, endpoint: &Endpoint) -> Result<(), Failure> {
        let Some(at) = self.amid.filter(|_| !draft.stop.came()) else { return Ok(()) };
        let words = self.words.get(at..).filter(|words| !words.trim().is_empty()).unwrap_or(&self.words);
        Err(errors::with_words(errors::unavailable(endpoint, "ended the reply without a stop reason"), words, endpoint))
    }
}

/// Reads an event stream into an assembler.
pub(super) struct Hearing<'a, A> {
    pub(super) context: &'a RequestContext<'a>,
    pub(super) assembler: &'a mut A,
    pub(super) sink: ReplySink<'a>,
    pub(super) progress: &'a mut ExchangeProgress,
    pub(super) seen: StreamContent,
}

impl<A: Assembler> Hearing<'_, A> {
    /// Reads events to the end of the reply.
    pub(super) async fn events(&mut self, first: Bytes, body: &mut ResponseBody<'_>) -> Result<(), Failure> {
        let mut decoder = Decoder::default();
        let mut chunk = Some(first);
        let mut grace = None;
        let mut broken = None;
        while let Some(bytes) = chunk {
            self.seen.body(&bytes);
            for item in decoder.push(&bytes) {
                self.item(&item)?;
            }
            // White space and comments keep a connection alive, and may leave no pause in which to check.
            if matches!(bytes.trim_ascii().first(), None | Some(b':')) {
                self.look()?;
            }
            chunk = self.next(body, &mut grace).await.unwrap_or_else(|failure| {
                broken = Some(failure);
                None
            });
        }
        for item in decoder.finish() {
            // Half an event at the end means a broken connection, not a faulty server.
            let half = matches!(&item, SseItem::Data(data) if !is_done(data) && serde_json::from_slice::<Value>(data).is_err());
            if !half {
                self.item(&item)?;
            }
        }
        self.close(body, broken)
    }

    /// The next bytes; `None` when nothing more is needed.
    async fn next(
        &mut self,
        body: &mut ResponseBody<'_>,
        grace: &mut Option<Instant>,
    ) -> Result<Option<Bytes>, Failure> {
        if self.progress.ended {
            if self.assembler.counted() {
                return Ok(None);
            }
            let until = *grace.get_or_insert_with(|| Instant::now() + GRACE);
            // The reply is complete, so an error of the connection no longer matters.
            return Ok(timeout_at(until, body.chunk()).await.ok().and_then(Result::ok).flatten());
        }
        if !self.assembler.draft().is_empty() {
            return body.chunk().await;
        }
        let next = body.chunk();
        tokio::pin!(next);
        if let Ok(chunk) = timeout(PAUSE, &mut next).await {
            return chunk;
        }
        self.look()?;
        if self.progress.ended { Ok(None) } else { next.await }
    }

    /// Checks whether what came so far is one JSON value: a complete reply, or an error. Such a value is complete by
    /// itself, even if the connection breaks or stays open.
    fn look(&mut self) -> Result<(), Failure> {
        if !self.assembler.draft().is_empty() || self.progress.ended || !self.seen.is_new() {
            return Ok(());
        }
        let value = self.seen.value().unwrap_or_default();
        if let Some(failure) = said::reported(&value, self.context) {
            return Err(self.refused(failure, &value));
        }
        self.progress.ended = self.one_reply();
        Ok(())
    }

    /// Reads a value that is a complete reply by itself; returns false when there is none.
    fn one_reply(&mut self) -> bool {
        let is_reply = self.seen.is_one_reply(self.assembler, self.sink);
        if is_reply {
            self.seen.began = true;
            self.progress.words.clear();
        }
        is_reply
    }

    /// Decides about a stream that is over; `broken` is the failure if it did not end properly.
    fn close(&mut self, body: &ResponseBody<'_>, broken: Option<Failure>) -> Result<(), Failure> {
        let whole = match &broken {
            // What came after the stop reason is not content, however much it was.
            Some(failure) if body.silent || failure.class == Class::OutputTooLarge => {
                self.assembler.draft().stop.ended_on_open_line()
            }
            // A stream that broke off did not reach its end.
            Some(_) => false,
            None => self.assembler.closed_whole(),
        };
        let whole = whole || self.progress.ended;
        if let Some(failure) = broken.as_ref().filter(|failure| failure.class == Class::OutputTooLarge && !whole) {
            return Err(failure.clone());
        }
        if self.assembler.draft().is_empty() && self.one_reply() {
            return Ok(());
        }
        if let Some(failure) = self.said_instead() {
            // An error that orch recognizes means that the model generated nothing; any other words may be a reply.
            let known = failure.class != Class::ProviderUnavailable
                && self.seen.first_foreign.as_ref().is_none_or(|event| said::said(event).is_some());
            self.progress.at_work = self.seen.began || !known;
            return Err(failure);
        }
        if whole {
            return Ok(());
        }
        let failure = broken.unwrap_or_else(|| errors::cut(self.context.endpoint, body.received));
        Err(errors::with_words(failure, &self.progress.words, self.context.endpoint))
    }

    /// The failure for a stream in which the server said something in place of a reply. An empty reply with only a note
    /// beside it counts as a reply.
    fn said_instead(&self) -> Option<Failure> {
        let words = &self.progress.words;
        let empty = self.assembler.draft().is_empty() && !words.trim().is_empty();
        let failure = empty.then(|| said::instead(words, self.context))?;
        (!self.seen.began || failure.class != Class::ProviderUnavailable).then_some(failure)
    }

    /// Reads one item of the stream.
    fn item(&mut self, item: &SseItem) -> Result<(), Failure> {
        let (data, named) = match item {
            SseItem::Data(data) => (data.trim_ascii(), false),
            SseItem::Error(data) => (data.trim_ascii(), true),
            SseItem::Stray(line) => return self.stray(line),
        };
        if data.is_empty() {
            return Ok(());
        }
        if is_done(data) {
            self.progress.ended |= self.assembler.done();
            return Ok(());
        }
        let value: Value = match serde_json::from_slice(data) {
            Ok(value) => value,
            Err(_) if self.progress.ended => return Ok(()),
            Err(_) if named => Value::String(String::from_utf8_lossy(data).into_owned()),
            Err(_) if is_text(data) => return self.text(data),
            Err(_) => {
                let endpoint = self.context.endpoint;
                let what = errors::excerpt(data, endpoint, 200);
                return Err(errors::unavailable(endpoint, &format!("sent an event that is not JSON: {what}")));
            }
        };
        self.value(&value, named, data)
    }

    fn value(&mut self, value: &Value, named: bool, data: &[u8]) -> Result<(), Failure> {
        if self.progress.ended {
            // Once the usage is complete, ignore the rest: orch would not read it either if it came in a later chunk.
            if !self.assembler.counted() {
                self.assembler.count(value);
            }
            return Ok(());
        }
        let failure = said::reported(value, self.context);
        if let Some(failure) = failure.or_else(|| named.then(|| said::named_error(value, self.context))) {
            return Err(self.refused(failure, value));
        }
        if let Some(text) = value.as_str() {
            return self.text(text.as_bytes());
        }
        match self.assembler.event(value, self.sink) {
            StreamItem::Part => self.seen.began = true,
            StreamItem::End => (self.seen.began, self.progress.ended) = (true, true),
            StreamItem::Ignored => {}
            StreamItem::Foreign => return self.foreign(value, data),
        }
        Ok(())
    }

    /// Handles a value that does not have the dialect's shape. After content, one with a `detail` reports an error, as
    /// FastAPI servers send it.
    fn foreign(&mut self, value: &Value, data: &[u8]) -> Result<(), Failure> {
        self.seen.foreign::<A>(value);
        if !self.assembler.draft().is_empty() && said::has_detail(value) {
            return Err(self.refused(said::named_error(value, self.context), value));
        }
        self.keep(data);
        Ok(())
    }

    /// Handles text that is not part of the reply. After content, text that begins with `error:` is an error.
    fn text(&mut self, words: &[u8]) -> Result<(), Failure> {
        if !self.assembler.draft().is_empty() && after_error_mark(words).is_some() {
            let value = Value::String(String::from_utf8_lossy(words).into_owned());
            return Err(self.refused(said::named_error(&value, self.context), &value));
        }
        self.keep(words);
        Ok(())
    }

    /// Reads a line that is not a field of an event: llama.cpp writes its errors as `error: {…}`, and a gateway may
    /// send a bare JSON object or a sentence.
    fn stray(&mut self, line: &[u8]) -> Result<(), Failure> {
        if self.progress.ended {
            return Ok(());
        }
        let marked = after_error_mark(line);
        let data = marked.unwrap_or(line).trim_ascii();
        match serde_json::from_slice::<Value>(data) {
            Ok(value) if value.is_object() || value.is_array() => {
                let failure = said::reported(&value, self.context);
                match failure.or_else(|| marked.map(|_| said::named_error(&value, self.context))) {
                    Some(failure) => Err(self.refused(failure, &value)),
                    None => self.foreign(&value, data),
                }
            }
            _ => self.text(line.trim_ascii()),
        }
    }

    /// Passes on the failure that `value` reports, and records whether the model generated anything before it.
    fn refused(&mut self, failure: Failure, value: &Value) -> Failure {
        self.progress.at_work = tells_of_work(self.assembler, value) || self.seen.began;
        failure
    }

    fn keep(&mut self, data: &[u8]) {
        let draft = self.assembler.draft();
        if self.progress.amid.is_none() && !draft.is_empty() && !draft.stop.came() {
            self.progress.amid = Some(self.progress.words.len());
        }
        let words = &mut self.progress.words;
        if words.len() < MOST_WORDS {
            let text = String::from_utf8_lossy(data);
            words.extend(text.chars().take(MOST_WORDS - words.len()).chain(['\n']));
        }
    }
}

/// What follows `error:` at the beginning of a line, in upper or lower case.
fn after_error_mark(line: &[u8]) -> Option<&[u8]> {
    let (mark, rest) = line.split_at_checked(b"error:".len())?;
    mark.eq_ignore_ascii_case(b"error:").then_some(rest)
}

/// Whether the data of an event is text rather than damaged JSON: valid UTF-8 without an opening bracket.
fn is_text(data: &[u8]) -> bool {
    !data.starts_with(b"{") && !data.starts_with(b"[") && std::str::from_utf8(data).is_ok()
}

/// Whether the data of an event is `[DONE]`, the end mark of Chat Completions.
fn is_done(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]"
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
mod tests;
