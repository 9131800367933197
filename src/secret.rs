//! Secrets: the values that must never be written, and the redactor that keeps them out.
//!
//! Values come from the environment only. Every writer of the program (journal, blobs,
//! messages, reports) gets text that passed through a [`Redactor`].

use secrecy::{ExposeSecret, SecretString};

use crate::model::Failure;
use crate::model::event::{Done, Reply};

/// Values shorter than this are not searched for: they would hit ordinary text.
pub const SHORTEST: usize = 8;

/// Replaces every known secret, and its base64 and URL-encoded forms, by a mark.
#[derive(Default)]
pub struct Redactor {
    needles: Vec<(SecretString, String)>,
}

impl Redactor {
    /// A redactor for named values; the name stands in the mark that replaces the value.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a SecretString)>) -> Self {
        let mut needles = Vec::new();
        for (name, secret) in secrets {
            let value = secret.expose_secret();
            if value.len() < SHORTEST {
                continue;
            }
            let mark = format!("[secret {name}]");
            for form in [value.to_owned(), percent_encoded(value), base64(value.as_bytes())] {
                if needles.iter().all(|(seen, _): &(SecretString, String)| seen.expose_secret() != form) {
                    needles.push((SecretString::from(form), mark.clone()));
                }
            }
        }
        Self { needles }
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (needle, mark) in &self.needles {
            if text.contains(needle.expose_secret()) {
                text = text.replace(needle.expose_secret(), mark);
            }
        }
        text
    }

    /// A reply or failure as it may be recorded: redacted once, on arrival.
    pub fn result(&self, result: Result<Reply, Failure>) -> Result<Reply, Failure> {
        match result {
            Ok(Reply::Chat(mut reply)) => {
                reply.text = self.text(&reply.text);
                Ok(Reply::Chat(reply))
            }
            Ok(Reply::Done(Done::Command(mut done))) => {
                done.stdout = self.text(&done.stdout);
                done.stderr = self.text(&done.stderr);
                Ok(Reply::Done(Done::Command(done)))
            }
            // What was there before is kept as it was, so that it can be put back.
            Ok(Reply::Done(done @ (Done::Looked(_) | Done::Written(_)))) => Ok(Reply::Done(done)),
            Err(mut failure) => {
                failure.message = self.text(&failure.message);
                failure.hint = failure.hint.map(|hint| self.text(&hint));
                Err(failure)
            }
        }
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&format!("{byte:02X}"));
        }
    }
    out
}

/// Base64 without its last, padding-dependent character, so that it is found inside a longer text too.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for place in 0..=chunk.len() {
            let index = (word >> (18 - 6 * place)) & 63;
            out.push(LETTERS.get(index as usize).map_or('=', |letter| char::from(*letter)));
        }
    }
    if !bytes.len().is_multiple_of(3) {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_forms_of_a_secret_are_replaced() {
        let secret = SecretString::from("sk-a/b+c d-0123456789".to_owned());
        let redactor = Redactor::new([("KEY", &secret)]);
        let encoded = "c2stYS9iK2MgZC0wMTIzNDU2Nzg5";
        for text in ["x sk-a/b+c d-0123456789 y", "sk-a%2Fb%2Bc%20d-0123456789", encoded] {
            let out = redactor.text(text);
            assert!(out.contains("[secret KEY]") && !out.contains("0123456789") && !out.contains("MTIzNDU2"), "{out}");
        }
    }

    #[test]
    fn short_values_are_left_alone() {
        let secret = SecretString::from("abc".to_owned());
        assert_eq!(Redactor::new([("KEY", &secret)]).text("abc"), "abc");
    }
}
