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

/// Whether orch needs more bytes to recognize the format, because the content type is not specific and the first word
/// may be incomplete.
pub(super) fn needs_more_bytes(content_type: &str, first_bytes: &[u8]) -> bool {
    let first_word = first_bytes.trim_ascii_start();
    matches!(content_type, "" | "text/plain" | "application/octet-stream")
        && first_word.len() < "event".len()
        && !first_word.starts_with(b"{")
        && !first_word.starts_with(b"[")
        && !first_word.starts_with(b"<")
        && !first_word.starts_with(b":")
}

/// Recognizes the format of a body by its content type, or by its first bytes if the content type is not specific.
pub(super) fn detect_format(content_type: &str, first_bytes: &[u8]) -> BodyFormat {
    match content_type {
        "text/event-stream" => BodyFormat::Events,
        "application/json" => BodyFormat::Json,
        "text/html" | "application/xhtml+xml" => BodyFormat::WebPage,
        "" | "text/plain" | "application/octet-stream" => {
            match first_bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                Some(b'{' | b'[') => BodyFormat::Json,
                Some(b'<') => BodyFormat::WebPage,
                Some(b'd' | b'e' | b'i' | b'r' | b':')
                    if [&b"data"[..], b"event", b"id", b"retry", b":"]
                        .iter()
                        .any(|field| first_bytes.trim_ascii_start().starts_with(field)) =>
                {
                    BodyFormat::Events
                }
                _ => BodyFormat::Other,
            }
        }
        other if other.ends_with("+json") => BodyFormat::Json,
        _ => BodyFormat::Other,
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
    fn an_untyped_body_is_recognized_once_its_first_word_is_complete() {
        assert!(
            needs_more_bytes("", b"") && needs_more_bytes("", b"\n dat") && needs_more_bytes("text/plain", b"even")
        );
        assert!(!needs_more_bytes("", b"event") && !needs_more_bytes("", b" {") && !needs_more_bytes("", b":"));
        assert!(!needs_more_bytes("text/event-stream", b"d"));
    }

    #[test]
    fn an_untyped_body_is_recognized_by_its_first_bytes() {
        assert_eq!(detect_format("", b"data: {}"), BodyFormat::Events);
        assert_eq!(detect_format("text/plain", b": ping"), BodyFormat::Events);
        assert_eq!(detect_format("", b" {\"a\":1}"), BodyFormat::Json);
        assert_eq!(detect_format("text/plain", b"<html>"), BodyFormat::WebPage);
        assert_eq!(detect_format("text/plain", b"ready"), BodyFormat::Other);
        assert_eq!(detect_format("image/png", b"{"), BodyFormat::Other);
        assert_eq!(detect_format("application/problem+json", b"{"), BodyFormat::Json);
    }
}
