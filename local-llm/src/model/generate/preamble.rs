//! Writes a call or an answer that must be JSON, as the model chooses.
//!
//! A model may begin with prose, and then make a call or answer. Some models also forget the marker of a call, and
//! begin with its JSON. So the model writes freely until its choice is evident. Only a call with its marker keeps the
//! text before it. An answer, and a call without its marker, begin again without this text.

use serde_json::Value;

use super::{Generation, PartEnd, ReplyPart, text_before_marker};
use crate::Error;
use crate::decoder::CallMarkerRule;
use crate::model::GenerateEvent;
use crate::tools::CALL_MARKER;

/// The maximum number of tokens before the choice. After so much prose, the reply is an answer.
const MAX_PREAMBLE_TOKENS: usize = 256;

/// The first key of a call.
const NAME_KEY: &str = "name";

impl Generation<'_> {
    /// Writes an answer that fits the schema of the request, or a call. The model has read the prompt.
    pub(super) fn write_json_or_call(&mut self) -> Result<(), Error> {
        let base = self.prompt.len();
        let logits_after_prompt = self.logits.clone();
        let limit = MAX_PREAMBLE_TOKENS.min(self.token_limit / 2);
        let mut decoder = self.new_decoder(None, limit).with_marker_rule(CallMarkerRule::EndsText);
        let end = self.write_part(&mut decoder, base, ReplyPart::Preamble)?;
        self.reply.output_tokens += decoder.generated_count();
        let text = String::from_utf8_lossy(&decoder.document()).into_owned();
        match end {
            // The reply has this finish reason from the beginning.
            PartEnd::Cancelled => Ok(()),
            PartEnd::CallBegun => {
                self.reply.text = text_before_marker(&text);
                let unread = decoder.unprocessed_tokens(self.processed_count(base)).to_vec();
                self.write_call(unread, "")
            }
            PartEnd::Complete | PartEnd::Truncated => {
                self.cache.truncate(base);
                self.logits = logits_after_prompt;
                if begins_unmarked_call(&text, self.request.schema.as_ref()) {
                    self.write_call(Vec::new(), CALL_MARKER)
                } else {
                    self.write_json()
                }
            }
        }
    }

    /// Writes an answer under the grammar of its schema. The model has read the prompt.
    fn write_json(&mut self) -> Result<(), Error> {
        let grammar = self.answer_grammar()?;
        let mut decoder = self.new_decoder(grammar, self.token_limit);
        let forced_prefix = decoder.forced_prefix();
        self.read(&forced_prefix)?;
        let end = self.write_part(&mut decoder, self.prompt.len(), ReplyPart::Answer)?;
        self.finish_answer(&decoder, end);
        Ok(())
    }

    /// Reports the progress of a preamble to the caller. Returns the end of the preamble if the choice is evident.
    pub(super) fn report_preamble(&mut self, document: &[u8], is_stopped: bool) -> Option<PartEnd> {
        if (self.on_event)(GenerateEvent::CallProgress).is_break() {
            return Some(PartEnd::Cancelled);
        }
        if document.ends_with(CALL_MARKER.as_bytes()) {
            return Some(PartEnd::CallBegun);
        }
        let has_json = first_json_key(&String::from_utf8_lossy(document)).is_some();
        (is_stopped || has_json).then_some(PartEnd::Complete)
    }
}

/// Whether a text has the beginning of a call without its marker, and not that of an answer with this schema.
fn begins_unmarked_call(text: &str, schema: Option<&Value>) -> bool {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    // Without a list of its properties, an answer may have this key too.
    let is_key_of_call = properties.is_some_and(|properties| !properties.contains_key(NAME_KEY));
    is_key_of_call && first_json_key(text) == Some(NAME_KEY)
}

/// The first key of the first JSON object in a text, if the text has this key and the colon after it.
fn first_json_key(text: &str) -> Option<&str> {
    text.match_indices('{').find_map(|(position, _)| {
        let start = text.get(position + 1..)?.trim_start().strip_prefix('"')?;
        let (key, rest) = start.split_once('"')?;
        rest.trim_start().starts_with(':').then_some(key)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_key_of_json_is_found_once_it_is_complete() {
        for (text, key) in [
            ("", None),
            ("Let me look at `{a}` first.", None),
            ("{\"na", None),
            ("{\"name\"", None),
            ("{\"name\":", Some("name")),
            ("```json\n{\n  \"tests_pass\" : false", Some("tests_pass")),
            ("{{\"name\": \"read\"", Some("name")),
            ("{ x } {\"a\": 1, \"b\": 2}", Some("a")),
        ] {
            assert_eq!(first_json_key(text), key, "{text}");
        }
    }

    #[test]
    fn json_with_a_name_is_a_call_unless_the_answer_may_have_a_name() {
        let call = "```json\n{\"name\": \"read\"";
        let report = json!({ "type": "object", "properties": { "tests_pass": { "type": "boolean" } } });
        let person = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
        assert!(begins_unmarked_call(call, Some(&report)));
        assert!(!begins_unmarked_call("{\"tests_pass\": true", Some(&report)));
        for schema in [Some(&person), Some(&json!({})), Some(&json!(true)), None] {
            assert!(!begins_unmarked_call(call, schema), "{schema:?}");
        }
    }
}
