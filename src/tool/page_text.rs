//! The text of a page from the web: decodes its characters, and converts HTML.

use encoding_rs::{Encoding, UTF_8};

use crate::model::counted;

use super::file_type::{describe_binary, is_binary};
use super::html_text::html_to_text;

/// The part of a page in which orch looks for a declaration of its encoding, in bytes.
const DECLARATION_BYTES: usize = 1024;
/// Parts of content types other than `text/…` whose contents are text.
const TEXT_TYPES: &[&str] =
    &["json", "xml", "javascript", "ecmascript", "yaml", "toml", "csv", "x-sh", "x-www-form-urlencoded", "graphql"];

/// The body of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PageBody {
    /// Its text.
    Text(String),
    /// The type and the size of a body that is not text.
    Binary(String),
}

/// Converts the body of a page with this content type to text.
pub(super) fn page_text(content_type: &str, bytes: &[u8]) -> PageBody {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let beginning = bytes.get(..bytes.len().min(DECLARATION_BYTES)).unwrap_or_default();
    let (encoding, bom_length) = encoding_of(content_type, beginning);
    // In UTF-16, every second byte of a text may be a NUL.
    let looks_binary = encoding == UTF_8 && is_binary(beginning);
    if !is_text_type(&media_type) || looks_binary {
        return PageBody::Binary(match media_type.as_str() {
            "" => describe_binary(beginning, bytes.len() as u64),
            media_type => format!("{media_type}, {}", counted(bytes.len(), "byte")),
        });
    }
    let (text, _) = encoding.decode_without_bom_handling(bytes.get(bom_length..).unwrap_or_default());
    if is_html(&media_type, &text) {
        return PageBody::Text(html_to_text(&text));
    }
    PageBody::Text(text.into_owned())
}

fn is_text_type(media_type: &str) -> bool {
    media_type.is_empty()
        || media_type.starts_with("text/")
        || TEXT_TYPES.iter().any(|part| media_type.rsplit(['/', '+']).next().is_some_and(|subtype| subtype == *part))
}

fn is_html(media_type: &str, text: &str) -> bool {
    let begins_with = |prefix: &str| {
        let beginning = text.trim_start().get(..prefix.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix))
    };
    match media_type {
        "text/html" | "application/xhtml+xml" => true,
        "" => begins_with("<!doctype html") || begins_with("<html"),
        _ => false,
    }
}

/// The encoding of a page, and the length of its byte order mark. A byte order mark takes precedence over the content
/// type, and the content type over a declaration in the page.
fn encoding_of(content_type: &str, beginning: &[u8]) -> (&'static Encoding, usize) {
    if let Some((encoding, length)) = Encoding::for_bom(beginning) {
        return (encoding, length);
    }
    let declared = label_after("charset=", content_type);
    let declared = declared.or_else(|| {
        let text = String::from_utf8_lossy(beginning);
        label_after("charset=", &text).or_else(|| label_after("encoding=", &text))
    });
    (declared.unwrap_or(UTF_8), 0)
}

/// The encoding whose label follows a marker.
fn label_after(marker: &str, text: &str) -> Option<&'static Encoding> {
    let (_, rest) = text.split_at(text.to_ascii_lowercase().find(marker)? + marker.len());
    let rest = rest.trim_start_matches(['"', '\'', ' ']);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_:.".contains(c)).unwrap_or(rest.len());
    Encoding::for_label(rest.get(..end)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content_type: &str, bytes: &[u8]) -> String {
        match page_text(content_type, bytes) {
            PageBody::Text(text) => text,
            PageBody::Binary(description) => panic!("{description}"),
        }
    }

    #[test]
    fn the_characters_of_a_page_are_decoded() {
        assert_eq!(text("text/plain; charset=ISO-8859-1", b"caf\xe9"), "café");
        assert_eq!(text("text/plain", "café".as_bytes()), "café");
        assert_eq!(text("text/plain", b"\xff\xfea\0b\0"), "ab");
        assert_eq!(text("text/html", b"<meta charset=\"windows-1251\"><p>\xcf\xf0\xe8\xe2\xe5\xf2"), "Привет\n");
        assert_eq!(text("application/json", b"{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(text("application/ld+json; charset=utf-8", b"{}"), "{}");
        assert_eq!(text("", b"<!DOCTYPE HTML><p>a &amp; b"), "a & b\n");
    }

    #[test]
    fn a_page_that_is_not_text_is_described() {
        let png = b"\x89PNG\r\n\x1a\n\0\0";
        assert_eq!(page_text("image/png", png), PageBody::Binary("image/png, 10 bytes".to_owned()));
        assert_eq!(page_text("", png), PageBody::Binary("PNG image, 10 bytes".to_owned()));
        assert!(matches!(page_text("text/plain", b"a\0b"), PageBody::Binary(_)));
        assert!(matches!(page_text("application/octet-stream", b"text"), PageBody::Binary(_)));
    }
}
