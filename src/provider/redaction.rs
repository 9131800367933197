//! Quotes what a server says, without the secrets of its endpoint.
//!
//! Every function redacts a text before it changes it in any other way: half of a key, or a key in lower case, is still
//! secret, and redaction would not recognize it.

use secrecy::SecretString;

use super::Endpoint;
use crate::model::failure::Failure;
use crate::secret::Redactor;

/// The longest text that orch examines for a quotation, in bytes.
const MAX_EXAMINED_BYTES: usize = 16 * 1024;
/// Words in the names of headers whose values may be secrets.
const SECRET_HEADER_WORDS: [&str; 10] =
    ["auth", "authorization", "apikey", "key", "token", "secret", "password", "cookie", "credential", "credentials"];

/// The beginning of a body, as [`quote`] quotes it.
pub(super) fn excerpt(bytes: &[u8], endpoint: &Endpoint, max_chars: usize) -> String {
    quote(&String::from_utf8_lossy(bytes.get(..MAX_EXAMINED_BYTES).unwrap_or(bytes)), endpoint, max_chars)
}

/// At most `max_chars` characters of a text, on one line and with the secrets of the endpoint redacted. The text may
/// have been cut off within a secret.
pub(super) fn quote(text: &str, endpoint: &Endpoint, max_chars: usize) -> String {
    let redactor = redactor(endpoint);
    let text = text.get(..text.floor_char_boundary(MAX_EXAMINED_BYTES)).unwrap_or(text);
    let line = on_one_line(&redactor.redact_beginning(text));
    // Without the control characters between its characters, a secret is readable.
    shorten(&redactor.redact_beginning(&line), max_chars)
}

/// Redacts every secret of the endpoint in a failure.
pub(super) fn redact_failure(failure: Failure, endpoint: &Endpoint) -> Failure {
    redactor(endpoint).redact_failure(failure)
}

/// At most `max_chars` characters of a text, on one line.
pub(super) fn shorten(text: &str, max_chars: usize) -> String {
    let line = on_one_line(text);
    match line.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.trim_end_matches('.').to_owned(),
    }
}

/// The words of a text, without control characters.
fn on_one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// A redactor for the keys of an endpoint and the secrets in its headers.
fn redactor(endpoint: &Endpoint) -> Redactor {
    let keys = endpoint.auth.secrets().into_iter();
    let keys = keys.map(|(variable, secret)| (variable.unwrap_or(&endpoint.name), secret));
    let header_secrets = header_secrets(endpoint);
    Redactor::new(keys.chain(header_secrets.iter().map(|(name, secret)| (*name, secret))))
}

/// The values of headers whose names suggest a secret. The headers in `orch.yaml` hold no secrets, and their values may
/// be ordinary words; a program that uses the library may set others.
fn header_secrets(endpoint: &Endpoint) -> Vec<(&str, SecretString)> {
    let is_secret_word = |word: &str| SECRET_HEADER_WORDS.iter().any(|secret| word.eq_ignore_ascii_case(secret));
    let headers = endpoint.headers.iter().filter(|(name, _)| name.split(['-', '_']).any(is_secret_word));
    headers
        .map(|(name, value)| {
            // `Bearer KEY`
            let value = value.trim();
            let secret = value.rsplit_once(' ').map_or(value, |(_, secret)| secret);
            (name.as_str(), SecretString::from(secret.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::failure::FailureClass;
    use crate::provider::{Dialect, KeyAuth};

    const KEY: &str = "sk-Secret-0123456789";

    fn endpoint() -> Endpoint {
        let auth = KeyAuth { key: Some(KEY.into()), variable: Some("LAB_KEY".into()), header: None };
        let headers = [("x-team", "unavailable"), ("X-Auth-Token", "Bearer abc-0123456789"), ("cookie", "short")];
        Endpoint {
            auth: Arc::new(auth),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Endpoint::new("lab", Dialect::OpenAi, "http://127.0.0.1:1/v1")
        }
    }

    #[test]
    fn a_placeholder_names_the_variable_or_the_header() {
        let text = format!("bad {KEY}, abc-0123456789 of team unavailable; a short one.");
        let quoted = "bad [secret LAB_KEY], [secret X-Auth-Token] of team unavailable; a short one";
        assert_eq!(quote(&text, &endpoint(), 300), quoted);
        let unnamed =
            Endpoint { auth: Arc::new(KeyAuth { key: Some(KEY.into()), ..KeyAuth::default() }), ..endpoint() };
        assert_eq!(quote(KEY, &unnamed, 300), "[secret lab]");
    }

    #[test]
    fn no_part_of_a_key_stays_when_a_text_is_shortened_or_cleaned() {
        let spaced: String = KEY.chars().flat_map(|c| [c, '\u{1}']).collect();
        for text in [
            format!("{}{KEY}", "x".repeat(190)),
            format!("{} {spaced}", "x".repeat(190)),
            format!("{spaced} {}", "x".repeat(300)),
            // The examined part of the text ends within the key.
            format!("{}{KEY}", " ".repeat(MAX_EXAMINED_BYTES - 12)),
        ] {
            for quoted in [quote(&text, &endpoint(), 200), excerpt(text.as_bytes(), &endpoint(), 200)] {
                assert!(!quoted.contains("sk-Se"), "{quoted}");
            }
        }
        let failure = Failure::new(FailureClass::BadRequest, format!("lab says {KEY}")).with_hint(KEY);
        let failure = redact_failure(failure, &endpoint());
        assert_eq!(
            (failure.message.as_str(), failure.hint.as_deref()),
            ("lab says [secret LAB_KEY]", Some("[secret LAB_KEY]"))
        );
    }
}
