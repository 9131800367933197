//! Reading the events of a stream to the end of its reply.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::Endpoint;
use super::body::Body;
use super::draft::Draft;
use super::errors::{self, Context};
use super::http::{Assembler, Sink};
use super::said;
use super::seen::{Seen, tells_of_work};
use super::sse::{Decoder, Item};
use crate::model::failure::{Class, Failure};

/// How long a stream may send usage after the end of its reply.
const GRACE: Duration = Duration::from_secs(2);
/// The most that is kept of what a stream holds beside the reply, in bytes.
const MOST_WORDS: usize = 4096;

/// What one event of a stream was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A part of the reply.
    Part,
    /// The dialect's own end.
    End,
    /// A sign of life, which says nothing.
    Ignored,
    /// Nothing that the dialect knows.
    Foreign,
}

/// What is known of an exchange when it ends, however it ends.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether the model may have begun.
    pub(super) at_work: bool,
    /// Whether the dialect's own end was seen.
    pub(super) ended: bool,
    /// What the stream held that is not of the dialect's shape.
    pub(super) words: String,
    /// Where in `words` begins what came after content and before a stop reason.
    pub(super) amid: Option<usize>,
    /// How long the headers ask to wait, in milliseconds.
    pub(super) header_wait: Option<u64>,
}

impl Progress {
    /// The failure of a reply without a stop reason in which the server said something else after content: it may
    /// have told why it ended.
    pub(super) fn broken_off(&self, draft: &Draft, endpoint: &Endpoint) -> Result<(), Failure> {
        let Some(at) = self.amid.filter(|_| !draft.stop.came()) else { return Ok(()) };
        let words = self.words.get(at..).filter(|words| !words.trim().is_empty()).unwrap_or(&self.words);
        Err(errors::with_words(errors::unavailable(endpoint, "ended the reply without a stop reason"), words, endpoint))
    }
}

/// An event stream as it is read into the assembler.
pub(super) struct Hearing<'a, A> {
    pub(super) context: &'a Context<'a>,
    pub(super) assembler: &'a mut A,
    pub(super) sink: Sink<'a>,
    pub(super) progress: &'a mut Progress,
    pub(super) seen: Seen,
}

impl<A: Assembler> Hearing<'_, A> {
    /// Reads events to the end of the reply.
    pub(super) async fn events(&mut self, first: Bytes, body: &mut Body<'_>) -> Result<(), Failure> {
        let mut decoder = Decoder::default();
        let mut chunk = Some(first);
        let mut grace = None;
        let mut broken = None;
        while let Some(bytes) = chunk {
            self.seen.body(&bytes);
            for item in decoder.push(&bytes) {
                self.item(&item)?;
            }
            chunk = self.next(body, &mut grace).await.unwrap_or_else(|failure| {
                broken = Some(failure);
                None
            });
        }
        for item in decoder.finish() {
            // Half an event at the end is a broken connection, not a broken server.
            let half =
                matches!(&item, Item::Data(data) if !is_done(data) && serde_json::from_slice::<Value>(data).is_err());
            if !half {
                self.item(&item)?;
            }
        }
        self.close(body, broken)
    }

    /// The next bytes; none when nothing more is to come.
    async fn next(&mut self, body: &mut Body<'_>, grace: &mut Option<Instant>) -> Result<Option<Bytes>, Failure> {
        if self.progress.ended {
            if self.assembler.counted() {
                return Ok(None);
            }
            let until = *grace.get_or_insert_with(|| Instant::now() + GRACE);
            // The reply is complete: whatever becomes of the connection now does not matter.
            return Ok(timeout_at(until, body.chunk()).await.ok().and_then(Result::ok).flatten());
        }
        body.chunk().await
    }

    /// Judges a stream that is over; `broken` is why it did not end in order.
    fn close(&mut self, body: &Body<'_>, broken: Option<Failure>) -> Result<(), Failure> {
        let whole = match &broken {
            // What came after the stop reason is no content, however much it was.
            Some(failure) if body.silent || failure.class == Class::OutputTooLarge => {
                self.assembler.draft().stop.ended_on_open_line()
            }
            // Whoever breaks off did not come to the end.
            Some(_) => false,
            None => self.assembler.closed_whole(),
        };
        let whole = whole || self.progress.ended;
        if let Some(failure) = broken.as_ref().filter(|failure| failure.class == Class::OutputTooLarge && !whole) {
            return Err(failure.clone());
        }
        if !self.progress.ended
            && self.assembler.draft().is_empty()
            && self.seen.is_one_reply(self.assembler, self.sink)
        {
            return Ok(());
        }
        if let Some(failure) = self.said_instead() {
            // Words that are known as an error tell that nothing was generated; any others may be a reply.
            let known = failure.class != Class::ProviderUnavailable
                && self.seen.foreign.as_ref().is_none_or(|event| said::said(event).is_some());
            self.progress.at_work = self.seen.began || !known;
            return Err(failure);
        }
        if whole {
            return Ok(());
        }
        let failure = broken.unwrap_or_else(|| errors::cut(self.context.endpoint, body.received));
        Err(errors::with_words(failure, &self.progress.words, self.context.endpoint))
    }

    /// The failure of a stream that has words of the server in place of a reply. An empty reply with a mere note
    /// beside it is a reply.
    fn said_instead(&self) -> Option<Failure> {
        let words = &self.progress.words;
        let empty = self.assembler.draft().is_empty() && !words.trim().is_empty();
        let failure = empty.then(|| said::instead(words, self.context))?;
        (!self.seen.began || failure.class != Class::ProviderUnavailable).then_some(failure)
    }

    /// Reads one item of the stream.
    fn item(&mut self, item: &Item) -> Result<(), Failure> {
        let (data, named) = match item {
            Item::Data(data) => (data.trim_ascii(), false),
            Item::Error(data) => (data.trim_ascii(), true),
            Item::Stray(line) => return self.stray(line),
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
            // What comes once usage is reported would not be read if it came in a later piece.
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
            Heard::Part => self.seen.began = true,
            Heard::End => (self.seen.began, self.progress.ended) = (true, true),
            Heard::Ignored => {}
            Heard::Foreign => return self.foreign(value, data),
        }
        Ok(())
    }

    /// Takes in a value that is not of the dialect's shape. After content, one with a `detail` reports an error, as
    /// FastAPI's servers do.
    fn foreign(&mut self, value: &Value, data: &[u8]) -> Result<(), Failure> {
        self.seen.foreign.get_or_insert_with(|| value.clone());
        if !self.assembler.draft().is_empty() && said::has_detail(value) {
            return Err(self.refused(said::named_error(value, self.context), value));
        }
        self.keep(data);
        Ok(())
    }

    /// Takes in words that are no part of the reply. After content, those that call themselves an error are one.
    fn text(&mut self, words: &[u8]) -> Result<(), Failure> {
        if !self.assembler.draft().is_empty() && after_error_mark(words).is_some() {
            let value = Value::String(String::from_utf8_lossy(words).into_owned());
            return Err(self.refused(said::named_error(&value, self.context), &value));
        }
        self.keep(words);
        Ok(())
    }

    /// Reads a line that is no field of an event: llama.cpp writes its errors as `error: {…}`, and a
    /// gateway may send a bare JSON object or a sentence.
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

    /// The failure that a value reports. When it came first and tells of no work, nothing was generated.
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

/// Whether the data of an event is words rather than JSON that was damaged: text without an opening bracket.
fn is_text(data: &[u8]) -> bool {
    !data.starts_with(b"{") && !data.starts_with(b"[") && std::str::from_utf8(data).is_ok()
}

/// Whether the data of an event is the end mark of Chat Completions.
fn is_done(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]"
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
mod tests {
    use futures_util::stream;

    use super::super::{anthropic, gemini, openai};
    use super::*;
    use crate::clock::SystemClock;
    use crate::model::chat::{ChatReply, StopReason};
    use crate::provider::{Dialect, Limits};

    const OPENAI: &[&str] = &[
        r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Grüße — "},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"日本"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#,
        "[DONE]",
    ];
    const ANTHROPIC: &[&str] = &[
        r#"{"type":"message_start","message":{"id":"m","model":"m","stop_reason":null,"usage":{"input_tokens":7,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grüße — "}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"日本"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    const GEMINI: &[&str] = &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Grüße — "}]}}],"modelVersion":"m"}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"日本"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7}}"#,
    ];
    const WHOLE: &str = "Grüße — 日本";

    fn bytes(events: &[&str], ping: &str) -> Vec<u8> {
        events.iter().map(|event| format!("data: {event}\n\n{ping}")).collect::<String>().into_bytes()
    }

    /// What is read of these chunks, after which the body ends in order, or breaks off.
    async fn read(dialect: Dialect, chunks: Vec<Vec<u8>>, breaks: bool) -> Result<ChatReply, Failure> {
        let end = breaks.then(|| Err(std::io::Error::other("reset")));
        let chunks: Vec<_> = chunks.into_iter().map(Ok).chain(end).collect();
        let response = http::Response::new(reqwest::Body::wrap_stream(stream::iter(chunks)));
        let endpoint = Endpoint {
            name: "lab".into(),
            dialect,
            base_url: "http://lab".into(),
            api_key: None,
            key_variable: None,
            headers: Vec::new(),
            structured: true,
            key_header: None,
            query: Vec::new(),
            network: std::sync::Arc::default(),
        };
        let limits = Limits::default();
        let first_byte = Instant::now() + limits.first_byte;
        let (endpoint, limits) = (&endpoint, &limits);
        let body = Body { response: response.into(), endpoint, limits, first_byte, received: 0, silent: false };
        match dialect {
            Dialect::Anthropic => hear(anthropic::Parts::default(), body).await,
            Dialect::OpenAi => hear(openai::Parts::default(), body).await,
            Dialect::Gemini => hear(gemini::Parts::default(), body).await,
        }
    }

    async fn hear<A: Assembler>(mut assembler: A, mut body: Body<'_>) -> Result<ChatReply, Failure> {
        let context = Context { endpoint: body.endpoint, model: "m", clock: &SystemClock, header_wait: None };
        let mut progress = Progress::default();
        let first = body.chunk().await?.unwrap_or_default();
        let (assembler_, progress) = (&mut assembler, &mut progress);
        let mut hearing =
            Hearing { context: &context, assembler: assembler_, sink: &|_| {}, progress, seen: Seen::default() };
        hearing.events(first, &mut body).await?;
        Ok(assembler.reply())
    }

    fn is_whole(reply: &ChatReply) -> bool {
        (reply.text.as_str(), reply.stop) == (WHOLE, StopReason::End) && reply.remarks.is_empty()
    }

    const GOOD: [(Dialect, &[&str], &str); 3] = [
        (Dialect::OpenAi, OPENAI, ": ping\n\n"),
        (Dialect::Anthropic, ANTHROPIC, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
        (Dialect::Gemini, GEMINI, ": ping\n\n"),
    ];

    #[tokio::test]
    async fn a_good_stream_is_whole_wherever_it_is_split_and_whatever_pings_come_between() {
        for (dialect, events, ping) in GOOD {
            for ping in ["", ping] {
                let good = bytes(events, ping);
                for at in 0..=good.len() {
                    let chunks = vec![good[..at].to_vec(), good[at..].to_vec()];
                    let reply = read(dialect, chunks, false).await.unwrap();
                    assert!(is_whole(&reply), "{dialect} {at}: {reply:?}");
                }
                let single = good.iter().map(|byte| vec![*byte]).collect();
                assert!(is_whole(&read(dialect, single, false).await.unwrap()), "{dialect}");
            }
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_anywhere_gives_the_whole_reply_or_none() {
        for (dialect, events, ping) in GOOD {
            for ping in ["", ping] {
                let good = bytes(events, ping);
                for (at, breaks) in (0..good.len()).flat_map(|at| [(at, false), (at, true)]) {
                    if let Ok(reply) = read(dialect, vec![good[..at].to_vec()], breaks).await {
                        assert!(is_whole(&reply), "{dialect} {at} {breaks}: {reply:?}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_reason_in_every_chunk_and_then_a_reset_is_not_whole() {
        let openai = r#"{"choices":[{"delta":{"content":"half "},"finish_reason":"stop"}]}"#;
        let gemini = r#"{"candidates":[{"content":{"parts":[{"text":"half "}]},"finishReason":"STOP"}]}"#;
        for (dialect, chunk) in [(Dialect::OpenAi, openai), (Dialect::Gemini, gemini)] {
            for events in [vec![chunk], vec![chunk, chunk]] {
                let failure = read(dialect, vec![bytes(&events, "")], true).await.unwrap_err();
                assert!(failure.message.contains("broke off after"), "{failure:?}");
            }
        }
        // Without a reset the dialects differ: only Chat Completions has an end of its own that is missing.
        let chunks = |chunk| vec![bytes(&[chunk, chunk], "")];
        assert!(read(Dialect::OpenAi, chunks(openai), false).await.is_err());
        assert_eq!(read(Dialect::Gemini, chunks(gemini), false).await.unwrap().text, "half half ");
    }
}
