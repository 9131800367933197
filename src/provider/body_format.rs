//! Recognizes the format of a response body (events, JSON, a web page) by its content type and its first bytes.

use reqwest::header::{CONTENT_TYPE, HeaderMap};

/// The format of a response body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFormat {
    /// A stream of events.
    Events,
    /// One JSON value.
    Json,
    /// A web page.
    WebPage,
    /// Anything else.
    Other,
}

/// The content type of a response.
pub(super) struct ContentType {
    /// The header as the server sent it; empty if there is none.
    pub(super) header: String,
    /// The type without its parameters, in lower case. A message must quote the header instead: a secret in lower case
    /// is not recognized.
    media_type: String,
}

impl ContentType {
    /// The content type in the headers of a response.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let header = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Self::new(header.unwrap_or_default())
    }

    fn new(header: String) -> Self {
        let media_type = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Self { header, media_type }
    }

    fn is_event_stream(&self) -> bool {
        self.media_type == "text/event-stream"
    }

    fn is_json(&self) -> bool {
        self.media_type == "application/json" || self.media_type.ends_with("+json")
    }

    fn is_web_page(&self) -> bool {
        matches!(self.media_type.as_str(), "text/html" | "application/xhtml+xml")
    }

    /// Whether the type says nothing about the content.
    fn is_unspecific(&self) -> bool {
        matches!(self.media_type.as_str(), "" | "text/plain" | "application/octet-stream")
    }

    /// Whether a body of this type has a JSON value on each line.
    fn is_json_lines(&self) -> bool {
        let subtype = self.media_type.split_once('/').map_or("", |(_, subtype)| subtype);
        let subtype = subtype.strip_prefix("x-").unwrap_or(subtype);
        matches!(subtype, "ndjson" | "jsonl" | "jsonlines" | "json-stream")
    }
}

/// The fields with which a stream of events may begin; a comment begins with a colon.
const EVENT_FIELDS: [&[u8]; 5] = [b":", b"data", b"event", b"id", b"retry"];

/// The bytes of a UTF-8 byte order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of a body until its format is known. Examines each byte of the white space at its beginning once.
#[derive(Debug, Default)]
pub(super) struct BodyStart {
    bytes: Vec<u8>,
    /// The offset of the first byte after a byte order mark and white space.
    word_start: usize,
}

impl BodyStart {
    /// Appends a chunk.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        if self.word_start == 0 && self.bytes.starts_with(BYTE_ORDER_MARK) {
            self.word_start = BYTE_ORDER_MARK.len();
        }
        let white_space = self.first_word().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.word_start += white_space;
    }

    /// The bytes after a byte order mark and white space.
    fn first_word(&self) -> &[u8] {
        self.bytes.get(self.word_start..).unwrap_or_default()
    }

    /// Whether orch needs more bytes to recognize the format, because the first word may be incomplete. Under the type of
    /// a stream, its first byte is enough, unless it may belong to a byte order mark.
    pub(super) fn needs_more(&self, content_type: &ContentType) -> bool {
        let word = self.first_word();
        if content_type.is_event_stream() {
            return BYTE_ORDER_MARK.starts_with(word);
        }
        let is_recognizable = matches!(word.first(), Some(b'{' | b'[' | b'<' | b':'));
        !is_recognizable && word.len() < "event".len()
    }

    /// Recognizes the format of the body. Some servers send a reply under another type than that of its format, so the
    /// first bytes decide. Under the type of a stream, everything but markup is read as events: the reader of events also
    /// reads a reply that is one JSON value.
    pub(super) fn format(&self, content_type: &ContentType) -> BodyFormat {
        match self.first_word().first() {
            Some(b'<') if content_type.is_event_stream() => BodyFormat::WebPage,
            _ if content_type.is_event_stream() => BodyFormat::Events,
            // The reader of events accepts a reply in one value, and no reply in several ones.
            Some(b'{' | b'[') if content_type.is_json_lines() => BodyFormat::Events,
            Some(b'{' | b'[') => BodyFormat::Json,
            Some(b'<') if content_type.is_unspecific() => BodyFormat::WebPage,
            _ if EVENT_FIELDS.iter().any(|field| self.first_word().starts_with(field)) => BodyFormat::Events,
            _ if content_type.is_json() => BodyFormat::Json,
            _ if content_type.is_web_page() => BodyFormat::WebPage,
            _ => BodyFormat::Other,
        }
    }

    /// Whether the body is markup, such as the error page of a gateway, and so can't be the reply of a model.
    pub(super) fn is_markup(&self) -> bool {
        self.first_word().starts_with(b"<")
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(bytes: &[u8]) -> BodyStart {
        let mut start = BodyStart::default();
        start.push(bytes);
        start
    }

    fn content_type(header: &str) -> ContentType {
        ContentType::new(header.to_owned())
    }

    fn format(header: &str, bytes: &[u8]) -> BodyFormat {
        start(bytes).format(&content_type(header))
    }

    #[test]
    fn a_body_is_recognized_once_its_first_word_is_complete() {
        let needs_more = |header: &str, bytes: &[u8]| start(bytes).needs_more(&content_type(header));
        for header in ["", "text/plain", "text/html", "application/json", "application/x-ndjson"] {
            assert!(
                needs_more(header, b"") && needs_more(header, b"\n dat") && needs_more(header, b"even"),
                "{header}"
            );
            assert!(
                !needs_more(header, b"event") && !needs_more(header, b" {") && !needs_more(header, b":"),
                "{header}"
            );
        }
        assert!(!needs_more("Text/Event-Stream; charset=utf-8", b"d"));
        assert!(needs_more("text/event-stream", b"\n") && needs_more("text/event-stream", b"\xef\xbb"));
        assert!(!needs_more("text/event-stream", b"\xef\xbb\xbf<"));
    }

    #[test]
    fn the_first_bytes_decide_unless_the_type_is_that_of_a_stream() {
        for header in ["", "text/plain", "text/json", "application/json", "TEXT/HTML", "image/png", "application/xml"] {
            assert_eq!(format(header, b"data: {}"), BodyFormat::Events, "{header}");
            assert_eq!(format(header, b"\n: ping"), BodyFormat::Events, "{header}");
            assert_eq!(format(header, b" {\"a\":1}"), BodyFormat::Json, "{header}");
            assert_eq!(format(header, b"\xef\xbb\xbf\n[1]"), BodyFormat::Json, "{header}");
        }
        for (header, text, expected) in [
            ("text/plain", "<html>", BodyFormat::WebPage),
            ("text/html", "ready", BodyFormat::WebPage),
            ("text/plain", "ready", BodyFormat::Other),
            ("application/xml", "<Error>", BodyFormat::Other),
            ("application/vnd.amazon.eventstream", "\0\0\0|", BodyFormat::Other),
            ("application/problem+json", "x", BodyFormat::Json),
            ("text/event-stream; charset=utf-8", "{", BodyFormat::Events),
            ("text/event-stream", "hello", BodyFormat::Events),
            ("text/event-stream", "\n<html>", BodyFormat::WebPage),
            ("application/x-ndjson", "{\"a\":1}\n{\"b\":2}", BodyFormat::Events),
            ("application/jsonl", "[1]\n", BodyFormat::Events),
        ] {
            assert_eq!(format(header, text.as_bytes()), expected, "{header}");
        }
    }

    #[test]
    fn white_space_at_the_beginning_is_examined_once() {
        let mut start = BodyStart::default();
        for count in 1..=1000 {
            start.push(b" \n");
            // The next chunk begins where the examination ended.
            assert_eq!(start.word_start, 2 * count);
        }
        start.push(b"<p>");
        assert!(start.is_markup() && !start.needs_more(&content_type("")));
        // A byte order mark may arrive in pieces.
        let mut start = BodyStart::default();
        "\u{feff} {".as_bytes().chunks(1).for_each(|chunk| start.push(chunk));
        assert_eq!(start.format(&content_type("")), BodyFormat::Json);
    }

    #[test]
    fn the_header_keeps_its_case() {
        assert_eq!(content_type("Text/X-Key; a=B").header, "Text/X-Key; a=B");
    }
}
