//! Extracts the JSON value that a model's reply contains, or rejects the reply with a reason.
//!
//! One pass finds the candidates: the whole text, fenced blocks, tags, and balanced values in prose. The parser reads
//! each one exactly or else with repairs, and the schema chooses. orch never completes a value that was cut off, never
//! invents one, and never changes the content of a string or number, except for the letter case of an enum value. It
//! skips markup that is not the answer: reasoning, quotations, quoted documents, code in another language.

mod answer;
mod choose;
mod clean;
mod coerce;
mod cursor;
mod doubts;
mod escape;
mod extent;
mod fences;
mod guard;
mod marks;
mod markup;
mod parser;
mod report;
mod rivals;
mod scan;
mod strings;
mod words;

pub use answer::{AnswerText, answer_text};
pub use report::{Extraction, Rejection, RejectionReason, Repair, ValueSource};

use crate::schema::Schema;

/// How strictly orch reads a reply, and what the provider reported about its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether a reply with more than one distinct value, or with any repair, is rejected.
    pub strict: bool,
    /// Why the model stopped.
    pub stop: StopHint,
}

/// Why the model stopped, as far as extraction needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopHint {
    /// The model finished its reply.
    Complete,
    /// The reply was cut off at the token limit.
    Length,
    /// The model refused to answer.
    Refusal,
    /// The reason is not known.
    #[default]
    Unknown,
}

/// Extracts the value that fits the schema from a reply.
///
/// # Errors
/// A [`Rejection`] with the reason, when the reply holds no such value or more than one reading is possible.
pub fn extract(reply: &[u8], schema: &Schema, options: &Options) -> Result<Extraction, Box<Rejection>> {
    match options.stop {
        StopHint::Refusal => return report::no(RejectionReason::Refusal, "the model refused to answer"),
        StopHint::Length => {
            return report::no(RejectionReason::MaxTokensReached, "the reply was cut off at the token limit");
        }
        StopHint::Complete | StopHint::Unknown => {}
    }
    let (text, before) = clean::clean(reply);
    let text = clean::trim(&text);
    if text.is_empty() {
        return report::no(RejectionReason::EmptyReply, "the reply is empty");
    }
    let lead = answer::leading(text, answer::Markup::Any);
    if !lead.answered {
        return report::no(
            RejectionReason::EmptyReply,
            format!("the reply has no answer, only {}", lead.left_out.join(", ")),
        );
    }
    let mut chooser = choose::Chooser::new(schema);
    scan::scan(clean::trim(text.get(lead.start..).unwrap_or_default()), &mut chooser);
    let found = chooser.finish(*options, &before)?;
    Ok(Extraction { left_out: lead.left_out, ..found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn schema() -> Schema {
        Schema::compile(
            "t",
            json!({ "type": "object", "required": ["ok"], "properties": { "ok": { "type": "boolean" } } }),
        )
        .unwrap()
    }

    fn read(reply: &str) -> Result<(Value, &'static str), &'static str> {
        let found = extract(reply.as_bytes(), &schema(), &Options::default());
        found.map(|e| (e.value, e.source.as_str())).map_err(|r| r.reason.as_str())
    }

    #[test]
    fn the_schema_chooses_among_what_is_there() {
        assert_eq!(read(r#"{"ok": true}"#), Ok((json!({ "ok": true }), "whole")));
        assert_eq!(read("Sure:\n```json\n{\"ok\": true}\n```\nDone {x}."), Ok((json!({ "ok": true }), "fence")));
        assert_eq!(read(r#"First {"no": 1}, then {"ok": false}."#), Ok((json!({ "ok": false }), "prose")));
        assert_eq!(read("no idea"), Err("no_json"));
        assert_eq!(read(r#"{"ok": 1}"#), Err("schema_mismatch"));
        assert_eq!(read("  "), Err("empty_reply"));
    }

    #[test]
    fn json_that_a_string_of_the_answer_quotes_is_not_taken_for_it() {
        let schema = json!({ "required": ["next"], "properties": { "next": { "type": "string" } } });
        let schema = Schema::compile("t", schema).unwrap();
        let read = |reply: &str| extract(reply.as_bytes(), &schema, &Options::default());
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
            let rejected = read(&reply).unwrap_err();
            assert!(
                matches!(rejected.reason, RejectionReason::AmbiguousReply | RejectionReason::NoJson),
                "{reply}: {rejected:?}"
            );
        }
        let after = "{\"next\": \"coder\", \"reason\": \"printed \"x\"} then\n\nRather:\n{\"next\": \"done\"}\n";
        assert_eq!(read(after).unwrap().value, json!({ "next": "done" }));
    }

    #[test]
    fn what_follows_the_end_of_an_answer_is_no_answer() {
        for end in [
            "<|END_RESPONSE|>",
            "<|end_of_solution|>",
            "<|END_TEXT|>",
            " [INST] and then? [/INST] ",
            "</s><s>[INST] x [/INST]",
        ] {
            let reply = format!("{{\"ok\": true}}{end}{{\"ok\": false}}");
            assert_eq!(read(&reply).unwrap().0, json!({ "ok": true }), "{reply}");
        }
        let constrained = "<|channel|>final <|constrain|>json<|message|>{\"ok\": true}";
        assert_eq!(read(constrained).unwrap().0, json!({ "ok": true }));
        let analysis = "<|channel|>analysis<|message|>{\"ok\": false}<|end|><|start|>assistant";
        assert_eq!(read(&format!("{analysis}{constrained}")).unwrap().0, json!({ "ok": true }));
        assert_eq!(read("[INST] say it [/INST] {\"ok\": true}").unwrap().0, json!({ "ok": true }));
        assert_eq!(read("Use the [INST] token: {\"ok\": true}").unwrap().0, json!({ "ok": true }));
    }

    #[test]
    fn a_cut_value_is_never_read_in_part() {
        assert_eq!(read(r#"{"steps": [{"ok": true}, {"ok""#), Err("max_tokens_reached"));
        let cut = Options { stop: StopHint::Length, strict: false };
        assert_eq!(extract(br#"{"ok": true}"#, &schema(), &cut).unwrap_err().reason, RejectionReason::MaxTokensReached);
    }

    #[test]
    fn hostile_replies_end_quickly() {
        for reply in ["[".repeat(200_000), "`".repeat(200_000), "{\"a\":".repeat(100_000), "\u{0}\u{fffd}".repeat(1000)]
        {
            assert!(extract(reply.as_bytes(), &schema(), &Options::default()).is_err());
        }
    }
}
