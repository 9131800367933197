use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::ToolChoice;

fn redactor(secret: &str) -> Redactor {
    Redactor::new([("KEY", &SecretString::from(secret.to_owned()))])
}

fn unicode_escaped(secret: &str) -> String {
    secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn percent_encoded(secret: &str) -> String {
    secret.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn json_escaped(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

/// The encodings in which programs write a secret.
fn encodings(secret: &str) -> Vec<String> {
    let wrapped: Vec<String> =
        STANDARD.encode(secret).as_bytes().chunks(7).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    vec![
        secret.to_owned(),
        json_escaped(secret),
        json_escaped(&json_escaped(secret)),
        unicode_escaped(secret),
        json_escaped(&unicode_escaped(secret)),
        percent_encoded(secret),
        percent_encoded(secret).to_ascii_uppercase(),
        STANDARD.encode(secret),
        URL_SAFE.encode(format!("user:{secret}")),
        STANDARD.encode(format!("us:{secret}@host")),
        percent_encoded(&STANDARD.encode(secret)),
        wrapped.join("\n"),
        json_escaped(&wrapped.join("\r\n")),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ]
}

/// Whether the text contains the secret in any encoding.
fn contains_secret(secret: &str, text: &str) -> bool {
    let redactor = redactor(secret);
    !redactor.find_secrets(text).is_empty()
}

#[test]
fn encodings_of_a_secret_are_redacted() {
    let secret = "sk-a/b+c d-0123456789";
    for encoding in encodings(secret) {
        let out = redactor(secret).redact(&format!("x {encoding} y"));
        assert!(out.starts_with("x ") && out.contains("[secret KEY]") && out.ends_with(" y"), "{encoding}: {out}");
    }
}

#[test]
fn short_values_are_not_redacted() {
    assert_eq!(redactor("abc").redact("abc"), "abc");
}

#[test]
fn other_text_is_unchanged() {
    let text = r#"{"a": "\u0041\\ 100%41 \" 
 äö"}"#;
    assert_eq!(redactor("0123456789").redact(text), text);
    assert_eq!(Redactor::default().redact(text), text);
}

#[test]
fn the_beginning_of_a_truncated_secret_is_redacted() {
    let redactor = redactor("sk-0123456789abcdef");
    assert_eq!(redactor.redact_beginning("key sk-0123456789ab"), "key [secret KEY]");
    assert_eq!(redactor.redact_beginning("key sk-0"), "key sk-0");
    let failure = Failure::new(crate::model::FailureClass::BadRequest, "no sk-0123456789…");
    assert_eq!(redactor.redact_result(Err(failure)).unwrap_err().message, "no [secret KEY]…");
}

#[test]
fn the_parts_of_secrets_at_both_ends_of_an_excerpt_are_redacted() {
    let redactor = redactor("sk-0123456789abcdef");
    let text = "456789abcdef and sk-0123456789a";
    assert_eq!(redactor.redact_part(text, true, true), "[secret KEY] and [secret KEY]");
    assert_eq!(redactor.redact_part(text, true, false), "[secret KEY] and sk-0123456789a");
    assert_eq!(redactor.redact_part(text, false, false), text);
}

#[test]
fn a_secret_that_is_cut_off_inside_a_message_is_redacted() {
    let redactor = redactor("sk-0123456789abcdef");
    let failure = Failure::new(crate::model::FailureClass::BadRequest, "no sk-0123456789…; it said: sk-01234567…` x")
        .with_hint("not sk-0123456789…");
    let failure = redactor.redact_failure(failure);
    assert_eq!(failure.message, "no [secret KEY]…; it said: [secret KEY]…` x");
    assert_eq!(failure.hint.as_deref(), Some("not [secret KEY]…"));
    let details = ReplyDetails {
        beside: Some("busy sk-0123456789abc…".to_owned()),
        instead: Some("the words: sk-0123456789abc…".to_owned()),
        // The limit of its length cuts this text off.
        malformed_call: Some("bad call sk-0123456789".to_owned()),
        ..ReplyDetails::default()
    };
    let details = redactor.redact_details(details);
    assert_eq!(details.beside.as_deref(), Some("busy [secret KEY]…"));
    assert_eq!(details.instead.as_deref(), Some("the words: [secret KEY]…"));
    assert_eq!(details.malformed_call.as_deref(), Some("bad call [secret KEY]"));
}

#[test]
fn both_sides_of_a_cut_in_a_message_are_redacted() {
    let redactor = redactor("sk-0123456789abcdef");
    for (text, expected) in [
        ("it said: …456789abcdef, and ended", "it said: …[secret KEY], and ended"),
        (
            "no sk-0123456789\n[… 9 bytes are left out here …]\n456789abcdef",
            "no [secret KEY]\n[… 9 bytes are left out here …]\n[secret KEY]",
        ),
        ("… sk-0123456789abcdef …", "… [secret KEY] …"),
        ("a … b", "a … b"),
    ] {
        assert_eq!(redactor.redact_quotations(text), expected);
    }
}

#[test]
fn a_part_of_a_credential_is_redacted_without_its_scheme() {
    let redactor = redactor("Bearer abcdefghijkl");
    assert_eq!(redactor.redact("sent Bearer abcdefghijkl"), "sent [secret KEY]");
    assert_eq!(redactor.redact("sent abcdefghijkl"), "sent [secret KEY]");
    assert_eq!(redactor.redact(&format!("sent {}", STANDARD.encode("abcdefghijkl"))), "sent [secret KEY]");
    assert_eq!(redactor.redact("the Bearer scheme"), "the Bearer scheme");
}

#[test]
fn nested_secrets_are_redacted_completely() {
    let (long, short) = ("abcdefgh-12345678-xyz".to_owned(), "12345678".to_owned());
    let (long, short) = (SecretString::from(long), SecretString::from(short));
    let redactor = Redactor::new([("SHORT", &short), ("LONG", &long)]);
    assert_eq!(redactor.redact("<abcdefgh-12345678-xyz>"), "<[secret LONG]>");
    assert_eq!(redactor.redact("<12345678>"), "<[secret SHORT]>");
}

#[test]
fn each_line_of_a_secret_is_redacted() {
    let redactor = redactor("first-line-0123\nsecond-line-4567\n");
    assert_eq!(redactor.redact("a second-line-4567 b"), "a [secret KEY] b");
}

proptest! {
    #[test]
    fn every_encoding_is_redacted_in_any_text(
        secret in "[ -~]{8,40}", before in "[ -~\n\\\\%]{0,30}", after in "[ -~\n\\\\%]{0,30}", encoding in 0..14_usize,
    ) {
        prop_assume!(secret.trim().len() >= MIN_NEEDLE_BYTES);
        let secret = secret.trim();
        let encoding = &encodings(secret)[encoding];
        let text = format!("{before} {encoding} {after}");
        let out = redactor(secret).redact(&text);
        prop_assert!(!contains_secret(secret, &out), "{out}");
        prop_assert!(!out.contains(encoding.as_str()) || before.contains(secret) || after.contains(secret), "{out}");
    }

    #[test]
    fn a_stream_is_redacted_like_the_whole_text(
        secret in "[a-zA-Z0-9+/\"\\\\%-]{8,24}", words in prop::collection::vec("[a-z \\\\%\"]{0,40}", 1..4),
        encoding in 0..14_usize, sizes in prop::collection::vec(1..9_usize, 1..40),
    ) {
        let encoding = &encodings(&secret)[encoding];
        let text = words.join(&format!(" {encoding} "));
        let redactor = redactor(&secret);
        let mut stream_redactor = StreamRedactor::new(&redactor);
        let (mut out, mut remaining) = (String::new(), text.as_str());
        for size in sizes.iter().cycle() {
            if remaining.is_empty() { break; }
            let (piece, tail) = remaining.split_at((*size).min(remaining.len()));
            out.push_str(&stream_redactor.push(piece));
            remaining = tail;
        }
        out.push_str(&stream_redactor.finish());
        prop_assert!(!contains_secret(&secret, &out), "{text}: {out}");
        prop_assert_eq!(out, redactor.redact_beginning(&text));
    }
}

#[test]
fn definitions_of_tools_are_redacted() {
    let redactor = redactor("hunter2-hunter2");
    let definition = ToolDefinition {
        name: "read".to_owned(),
        description: "Reads with hunter2-hunter2.".to_owned(),
        parameters: Arc::new(json!({"properties": {"hunter2-hunter2": {"default": "hunter2-hunter2"}}})),
    };
    let tools = OfferedTools { definitions: vec![definition], choice: ToolChoice::Required };
    let redacted = redactor.redact_tools(tools);
    assert_eq!(redacted.choice, ToolChoice::Required);
    let [definition] = redacted.definitions.as_slice() else { panic!("{redacted:?}") };
    assert_eq!((definition.name.as_str(), definition.description.as_str()), ("read", "Reads with [secret KEY]."));
    assert_eq!(*definition.parameters, json!({"properties": {"[secret KEY]": {"default": "[secret KEY]"}}}));
}

#[test]
fn secrets_in_what_is_unknown_about_a_program_are_redacted() {
    let unknown = vec!["orch could not read `/group/hunter2-hunter2`".to_owned()];
    let sandbox = SandboxUse { unknown, ..SandboxUse::default() };
    let redacted = redactor("hunter2-hunter2").redact_sandbox(sandbox);
    assert!(!redacted.unknown[0].contains("hunter2"), "{redacted:?}");
}

#[test]
fn the_reasons_of_a_partial_comparison_contain_no_secret() {
    let activity = AgentActivity::with_unknown_changes("`s3cret-folder-name` can't be read");
    let redacted = redactor("s3cret-folder-name").redact_activity(activity);
    assert_eq!(redacted.partial_reasons, ["`[secret KEY]` can't be read"]);
}

#[test]
fn the_part_of_a_secret_at_the_end_of_a_shortened_tool_use_is_redacted() {
    let lines = vec!["Bash curl -H s3cret-folder-na…".to_owned(), "Bash ls s3cret-folder-name".to_owned()];
    let activity = AgentActivity { tools: lines.clone(), denied: lines, ..AgentActivity::default() };
    let redacted = redactor("s3cret-folder-name").redact_activity(activity);
    let expected = ["Bash curl -H [secret KEY]…", "Bash ls [secret KEY]"];
    assert_eq!(redacted.tools, expected);
    assert_eq!(redacted.denied, expected);
}
