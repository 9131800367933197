//! Finds the parts of a credential that are secret on their own: the header `Bearer KEY` contains KEY, and a server may
//! return only that part.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::MIN_NEEDLE_BYTES;
use super::variables::{MIN_SECRET_BYTES, has_secret_name, looks_random, may_have_secret};

/// The schemes that precede the secret in a header, in lower case.
const SCHEMES: [&str; 10] =
    ["api-key", "apikey", BASIC, "bearer", "digest", "dpop", "key", "negotiate", "oauth", "token"];
/// The scheme of a user and a password, in Base64.
const BASIC: &str = "basic";

/// The parts of a value that are secret on their own, if the value is a credential: what follows a scheme
/// (`Bearer KEY`), the user and the password of the scheme `Basic`, and the values of pairs (`token=KEY`, or a cookie).
pub(super) fn secret_parts(value: &str) -> Vec<String> {
    let value = value.trim();
    let mut parts: Vec<String> = Vec::new();
    if let Some((scheme, rest)) = value.split_once(char::is_whitespace) {
        let (scheme, rest) = (scheme.to_ascii_lowercase(), rest.trim());
        let is_known = SCHEMES.contains(&scheme.as_str());
        if is_known || (scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) && is_long_and_random(rest)) {
            parts.push(rest.to_owned());
        }
        if scheme == BASIC {
            parts.extend(decoded_basic(rest));
        }
    }
    let pieces = value.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '&'));
    for (name, text) in pieces.filter_map(|piece| piece.split_once(['=', ':'])) {
        let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let text = text.trim_matches(['"', '\'']);
        if has_secret_name(name) || may_have_secret(name) || is_long_and_random(text) {
            parts.push(text.to_owned());
        }
    }
    parts.retain(|part| part.len() >= MIN_NEEDLE_BYTES);
    parts
}

/// Whether a text is a secret without any sign beside it: `x86-64-v3` looks random, too.
fn is_long_and_random(text: &str) -> bool {
    text.len() >= MIN_SECRET_BYTES && looks_random(text)
}

/// The user and the password of a header with the scheme `Basic`, and the password alone.
fn decoded_basic(encoded: &str) -> Vec<String> {
    let bytes = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
    let Some(text) = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()) else { return Vec::new() };
    let password = text.split_once(':').map(|(_, password)| password.to_owned());
    password.into_iter().chain([text]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_after_a_scheme_is_secret_on_its_own() {
        for (value, part) in [
            ("Bearer abcdefghijkl", "abcdefghijkl"),
            (" token  abcdefghijkl ", "abcdefghijkl"),
            ("Basic dXNlcjpodW50ZXIyLWh1bnRlcjI=", "hunter2-hunter2"),
            ("Basic dXNlcjpodW50ZXIyLWh1bnRlcjI=", "user:hunter2-hunter2"),
            ("Basic dXNlcjpodW50ZXIyLWh1bnRlcjI", "hunter2-hunter2"),
            ("Custom x7Kp2qL9x7Kp4Tz1", "x7Kp2qL9x7Kp4Tz1"),
            ("token=abcdefghijkl", "abcdefghijkl"),
            ("theme=dark; session=x7Kp2qL9", "x7Kp2qL9"),
            ("theme=dark; sid=x7Kp2qL9x7Kp4Tz1", "x7Kp2qL9x7Kp4Tz1"),
            ("Digest user=\"me\", api-key=\"abcdefghijkl\"", "abcdefghijkl"),
            ("X-Api-Key:abcdefghijkl", "abcdefghijkl"),
        ] {
            let parts = secret_parts(value);
            assert!(parts.iter().any(|found| found == part), "{value}: {parts:?}");
        }
    }

    #[test]
    fn ordinary_texts_and_short_parts_are_not_secret() {
        for value in [
            "platform engineering",
            "Bearer abc",
            "info,hyper=warn",
            "2026-11-24T10:00:00",
            "https://example.org/documentation",
            "/usr/local/bin:/usr/bin",
            "key=short",
            "-C target-cpu=x86-64-v3",
            "",
        ] {
            assert_eq!(secret_parts(value), Vec::<String>::new(), "{value}");
        }
    }
}
