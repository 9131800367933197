//! Extracts the JSON value that a model's reply contains, or rejects the reply with a reason.
//!
//! One pass finds the candidates: the whole text, fenced blocks, tags, and balanced values in prose. The parser parses
//! each candidate strictly or else with repairs, and the schema selects the answer. orch never completes a truncated
//! value, never invents a value, and never changes the content of a string or number, except for the letter case of an
//! enum value. It skips text that is not the answer: reasoning, quotations, quoted documents, code in another language.

mod alternatives;
mod ambiguity;
mod answer;
mod bracket_end;
mod brackets;
mod chooser;
mod clean;
mod coerce;
mod cursor;
mod equality;
mod escape;
mod fences;
mod parser;
mod report;
mod scalars;
mod scan;
mod special_tokens;
mod strings;
mod tags;

pub use answer::{AnswerText, answer_text};
pub use report::{Extraction, Rejection, RejectionReason, Repair, ValueSource};

use serde_json::Value;

use crate::schema::{Mismatch, Schema};

/// How strictly orch parses a reply, and why the model stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether orch rejects a reply that has more than one matching value or needs a repair.
    pub strict: bool,
    /// Why the model stopped, as reported by the provider.
    pub stop: StopHint,
}

/// Why the model stopped, in the terms that extraction needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopHint {
    /// The model finished its reply.
    Complete,
    /// The reply was cut off at the token limit.
    Length,
    /// The model refused to answer.
    Refusal,
    /// The reason is unknown.
    #[default]
    Unknown,
}

/// Returns the reasons why a value does not fit the schema, without those that [`extract`] removes by a conversion, such
/// as "3" for 3.
pub fn remaining_mismatches(value: &Value, schema: &Schema) -> Vec<Mismatch> {
    coerce::remaining_mismatches(value, schema, &[])
}

/// Extracts the value that fits the schema from a reply.
///
/// # Errors
/// A [`Rejection`] with the reason, if the reply contains no such value or can be parsed in more than one way.
pub fn extract(reply: &[u8], schema: &Schema, options: &Options) -> Result<Extraction, Box<Rejection>> {
    match options.stop {
        StopHint::Refusal => return report::reject(RejectionReason::Refusal, "the model refused to answer"),
        StopHint::Length => {
            return report::reject(RejectionReason::MaxTokensReached, "the reply was cut off at the token limit");
        }
        StopHint::Complete | StopHint::Unknown => {}
    }
    let (text, text_repairs) = clean::decode_reply(reply);
    let text = clean::trim(&text);
    if text.is_empty() {
        return report::reject(RejectionReason::EmptyReply, "the reply is empty");
    }
    let preamble = answer::skip_preamble(text, answer::ReasoningTags::Any);
    if !preamble.has_answer {
        return report::reject(
            RejectionReason::EmptyReply,
            format!("the reply has no answer, only {}", preamble.left_out.join(", ")),
        );
    }
    let mut chooser = chooser::Chooser::new(schema);
    scan::scan(clean::trim(text.get(preamble.start..).unwrap_or_default()), &mut chooser);
    let extraction = chooser.finish(*options, &text_repairs)?;
    Ok(Extraction { left_out: preamble.left_out, ..extraction })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::compile(
            "t",
            json!({ "type": "object", "required": ["ok"], "properties": { "ok": { "type": "boolean" } } }),
        )
        .unwrap()
    }

    fn extract_value(reply: &str) -> Result<(Value, &'static str), &'static str> {
        let result = extract(reply.as_bytes(), &schema(), &Options::default());
        result
            .map(|extraction| (extraction.value, extraction.source.as_str()))
            .map_err(|rejection| rejection.reason.as_str())
    }

    #[test]
    fn the_schema_selects_one_of_several_values() {
        assert_eq!(extract_value(r#"{"ok": true}"#), Ok((json!({ "ok": true }), "whole")));
        assert_eq!(
            extract_value("Sure:\n```json\n{\"ok\": true}\n```\nDone {x}."),
            Ok((json!({ "ok": true }), "fence"))
        );
        assert_eq!(extract_value(r#"First {"no": 1}, then {"ok": false}."#), Ok((json!({ "ok": false }), "prose")));
        assert_eq!(extract_value("no idea"), Err("no_json"));
        assert_eq!(extract_value(r#"{"ok": 1}"#), Err("schema_mismatch"));
        assert_eq!(extract_value("  "), Err("empty_reply"));
    }

    #[test]
    fn json_inside_a_string_of_the_answer_is_not_the_answer() {
        let schema = json!({ "required": ["next"], "properties": { "next": { "type": "string" } } });
        let schema = Schema::compile("t", schema).unwrap();
        let extract_value = |reply: &str| extract(reply.as_bytes(), &schema, &Options::default());
        let quoted = r#"{"next": "coder", "reason": "printed "x"} then {"next": "done"}"}"#;
        for reply in [
            quoted.to_owned(),
            format!("```json\n{quoted}\n```"),
            r#"{"next": "coder", "reason": "he said "no"} and {"next": "done"} too"}"#.to_owned(),
            "{\"next\": \"coder\", \"reason\": \"he said \"no\"} and\n{\"next\": \"done\"}\ntoo\"}".to_owned(),
            r#"{"reason": """x"" is it", "note": "y """, "next": "coder"}"#.to_owned(),
            r#"{"reason": "f("a") "x"] {"next": "done"}", "next": "coder"}"#.to_owned(),
            r#"{"next": "x"} {"b" y", "b": "print({"next": "done"})"}"#.to_owned(),
        ] {
            let rejection = extract_value(&reply).unwrap_err();
            assert!(
                matches!(rejection.reason, RejectionReason::AmbiguousReply | RejectionReason::NoJson),
                "{reply}: {rejection:?}"
            );
        }
        let corrected_reply =
            "{\"next\": \"coder\", \"reason\": \"printed \"x\"} then\n\nRather:\n{\"next\": \"done\"}\n";
        assert_eq!(extract_value(corrected_reply).unwrap().value, json!({ "next": "done" }));
    }

    #[test]
    fn text_after_the_end_of_the_turn_is_ignored() {
        for end_token in [
            "<|END_RESPONSE|>",
            "<|end_of_solution|>",
            "<|END_TEXT|>",
            " [INST] and then? [/INST] ",
            "</s><s>[INST] x [/INST]",
        ] {
            let reply = format!("{{\"ok\": true}}{end_token}{{\"ok\": false}}");
            assert_eq!(extract_value(&reply).unwrap().0, json!({ "ok": true }), "{reply}");
        }
        let constrained_answer = "<|channel|>final <|constrain|>json<|message|>{\"ok\": true}";
        assert_eq!(extract_value(constrained_answer).unwrap().0, json!({ "ok": true }));
        let analysis_channel = "<|channel|>analysis<|message|>{\"ok\": false}<|end|><|start|>assistant";
        assert_eq!(extract_value(&format!("{analysis_channel}{constrained_answer}")).unwrap().0, json!({ "ok": true }));
        assert_eq!(extract_value("[INST] say it [/INST] {\"ok\": true}").unwrap().0, json!({ "ok": true }));
        assert_eq!(extract_value("Use the [INST] token: {\"ok\": true}").unwrap().0, json!({ "ok": true }));
    }

    #[test]
    fn a_truncated_value_is_rejected() {
        assert_eq!(extract_value(r#"{"steps": [{"ok": true}, {"ok""#), Err("max_tokens_reached"));
        let options = Options { stop: StopHint::Length, strict: false };
        assert_eq!(
            extract(br#"{"ok": true}"#, &schema(), &options).unwrap_err().reason,
            RejectionReason::MaxTokensReached
        );
    }

    #[test]
    fn hostile_replies_are_rejected_quickly() {
        for reply in ["[".repeat(200_000), "`".repeat(200_000), "{\"a\":".repeat(100_000), "\u{0}\u{fffd}".repeat(1000)]
        {
            assert!(extract(reply.as_bytes(), &schema(), &Options::default()).is_err());
        }
    }
}
