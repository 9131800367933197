use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

fn redactor(secret: &str) -> Redactor {
    Redactor::new([("KEY", &SecretString::from(secret.to_owned()))])
}

fn escaped(secret: &str) -> String {
    secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn addressed(secret: &str) -> String {
    secret.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

/// The forms in which programs write a secret, from its plain value.
fn forms(secret: &str) -> Vec<String> {
    let wrapped: Vec<String> =
        STANDARD.encode(secret).as_bytes().chunks(7).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    vec![
        secret.to_owned(),
        quoted(secret),
        quoted(&quoted(secret)),
        escaped(secret),
        quoted(&escaped(secret)),
        addressed(secret),
        addressed(secret).to_ascii_uppercase(),
        STANDARD.encode(secret),
        URL_SAFE.encode(format!("user:{secret}")),
        STANDARD.encode(format!("us:{secret}@host")),
        addressed(&STANDARD.encode(secret)),
        wrapped.join("\n"),
        quoted(&wrapped.join("\r\n")),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ]
}

/// Whether the text holds the secret, escaped or not.
fn is_in(secret: &str, text: &str) -> bool {
    let found = redactor(secret);
    !found.find(text).is_empty()
}

#[test]
fn known_forms_of_a_secret_are_replaced() {
    let secret = "sk-a/b+c d-0123456789";
    for form in forms(secret) {
        let out = redactor(secret).text(&format!("x {form} y"));
        assert!(out.starts_with("x ") && out.contains("[secret KEY]") && out.ends_with(" y"), "{form}: {out}");
    }
}

#[test]
fn short_values_are_left_alone() {
    assert_eq!(redactor("abc").text("abc"), "abc");
}

#[test]
fn other_text_stays_as_it_is() {
    let text = r#"{"a": "\u0041\\ 100%41 \" 
 äö"}"#;
    assert_eq!(redactor("0123456789").text(text), text);
    assert_eq!(Redactor::default().text(text), text);
}

#[test]
fn a_secret_that_was_cut_off_leaves_no_beginning() {
    let redactor = redactor("sk-0123456789abcdef");
    assert_eq!(redactor.beginning("key sk-0123456789ab"), "key [secret KEY]");
    assert_eq!(redactor.beginning("key sk-0"), "key sk-0");
    let failure = Failure::new(crate::model::Class::BadRequest, "no sk-0123456789…");
    assert_eq!(redactor.result(Err(failure)).unwrap_err().message, "no [secret KEY]…");
}

#[test]
fn of_two_secrets_in_one_another_nothing_is_left() {
    let (long, short) = ("abcdefgh-12345678-xyz".to_owned(), "12345678".to_owned());
    let (long, short) = (SecretString::from(long), SecretString::from(short));
    let redactor = Redactor::new([("SHORT", &short), ("LONG", &long)]);
    assert_eq!(redactor.text("<abcdefgh-12345678-xyz>"), "<[secret LONG]>");
    assert_eq!(redactor.text("<12345678>"), "<[secret SHORT]>");
}

#[test]
fn lines_of_a_secret_are_secrets() {
    let redactor = redactor("first-line-0123\nsecond-line-4567\n");
    assert_eq!(redactor.text("a second-line-4567 b"), "a [secret KEY] b");
}

proptest! {
    #[test]
    fn no_form_of_a_secret_is_left_in_any_text(
        secret in "[ -~]{8,40}", before in "[ -~\n\\\\%]{0,30}", after in "[ -~\n\\\\%]{0,30}", form in 0..14_usize,
    ) {
        prop_assume!(secret.trim().len() >= SHORTEST);
        let secret = secret.trim();
        let form = &forms(secret)[form];
        let text = format!("{before} {form} {after}");
        let out = redactor(secret).text(&text);
        prop_assert!(!is_in(secret, &out), "{out}");
        prop_assert!(!out.contains(form.as_str()) || before.contains(secret) || after.contains(secret), "{out}");
    }

    #[test]
    fn in_pieces_a_text_shows_the_same_as_at_once(
        secret in "[a-zA-Z0-9+/\"\\\\%-]{8,24}", words in prop::collection::vec("[a-z \\\\%\"]{0,40}", 1..4),
        form in 0..14_usize, sizes in prop::collection::vec(1..9_usize, 1..40),
    ) {
        let form = &forms(&secret)[form];
        let text = words.join(&format!(" {form} "));
        let redactor = redactor(&secret);
        let mut pieces = StreamRedactor::new(&redactor);
        let (mut out, mut rest) = (String::new(), text.as_str());
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, next) = rest.split_at((*size).min(rest.len()));
            out.push_str(&pieces.push(piece));
            rest = next;
        }
        out.push_str(&pieces.end());
        prop_assert!(!is_in(&secret, &out), "{text}: {out}");
        prop_assert_eq!(out, redactor.beginning(&text));
    }
}
