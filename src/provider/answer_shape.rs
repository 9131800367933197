//! What the body of an answer is (events, JSON, a web page), judged by its content type and its first bytes.

use reqwest::header::{CONTENT_TYPE, HeaderMap};

/// What the body of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerShape {
    /// A stream of events.
    Events,
    /// One JSON value.
    Json,
    /// A web page.
    Page,
    /// Anything else.
    Other,
}

/// Whether more of the body is needed to recognize it: the content type says nothing, and the first word is incomplete.
pub(super) fn is_undecided(kind: &str, first: &[u8]) -> bool {
    let word = first.trim_ascii_start();
    matches!(kind, "" | "text/plain" | "application/octet-stream")
        && word.len() < "event".len()
        && !word.starts_with(b"{")
        && !word.starts_with(b"[")
        && !word.starts_with(b"<")
        && !word.starts_with(b":")
}

/// Recognizes an answer by its content type, or by its first bytes where the type says nothing.
pub(super) fn shape(kind: &str, first: &[u8]) -> AnswerShape {
    match kind {
        "text/event-stream" => AnswerShape::Events,
        "application/json" => AnswerShape::Json,
        "text/html" | "application/xhtml+xml" => AnswerShape::Page,
        "" | "text/plain" | "application/octet-stream" => match first.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'{' | b'[') => AnswerShape::Json,
            Some(b'<') => AnswerShape::Page,
            Some(b'd' | b'e' | b'i' | b'r' | b':')
                if [&b"data"[..], b"event", b"id", b"retry", b":"]
                    .iter()
                    .any(|field| first.trim_ascii_start().starts_with(field)) =>
            {
                AnswerShape::Events
            }
            _ => AnswerShape::Other,
        },
        other if other.ends_with("+json") => AnswerShape::Json,
        _ => AnswerShape::Other,
    }
}

/// The media type without its parameters, in lower case.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untyped_answer_is_told_once_its_first_word_is_there() {
        assert!(is_undecided("", b"") && is_undecided("", b"\n dat") && is_undecided("text/plain", b"even"));
        assert!(!is_undecided("", b"event") && !is_undecided("", b" {") && !is_undecided("", b":"));
        assert!(!is_undecided("text/event-stream", b"d"));
    }

    #[test]
    fn an_untyped_answer_is_told_by_its_first_bytes() {
        assert_eq!(shape("", b"data: {}"), AnswerShape::Events);
        assert_eq!(shape("text/plain", b": ping"), AnswerShape::Events);
        assert_eq!(shape("", b" {\"a\":1}"), AnswerShape::Json);
        assert_eq!(shape("text/plain", b"<html>"), AnswerShape::Page);
        assert_eq!(shape("text/plain", b"ready"), AnswerShape::Other);
        assert_eq!(shape("image/png", b"{"), AnswerShape::Other);
        assert_eq!(shape("application/problem+json", b"{"), AnswerShape::Json);
    }
}
