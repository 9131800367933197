//! The reasoning that `OpenRouter` sends as `reasoning_details` besides the text. orch sends it back in the next request
//! of the conversation if the provider signed or encrypted a part of it.

use serde_json::{Map, Value, json};

/// The field of a message that contains the reasoning.
pub(super) const REASONING_FIELD: &str = "reasoning_details";

/// The reasoning of a reply so far.
#[derive(Default)]
pub(super) struct ReasoningDetails(Vec<Map<String, Value>>);

impl ReasoningDetails {
    /// Appends a detail. A stream splits a text, and ends it with a signature.
    pub(super) fn push(&mut self, detail: &Value) {
        let Some(detail) = detail.as_object() else { return };
        let continues = |last: &&mut Map<String, Value>| {
            let is_same = |field: &str| last.get(field) == detail.get(field);
            is_same("type") && is_same("index") && !is_protected(last) && !has_text(detail, "data")
        };
        match self.0.last_mut().filter(continues) {
            Some(last) => append(last, detail),
            None => self.0.push(detail.clone()),
        }
    }

    /// Whether there is no detail.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The field to send back; `None` if the provider neither signed nor encrypted a part of the reasoning.
    pub(super) fn into_data(self) -> Option<Value> {
        self.0.iter().any(is_protected).then(|| json!({ REASONING_FIELD: self.0 }))
    }
}

/// Whether a detail is signed or encrypted.
fn is_protected(detail: &Map<String, Value>) -> bool {
    has_text(detail, "signature") || has_text(detail, "data")
}

fn has_text(detail: &Map<String, Value>, field: &str) -> bool {
    detail.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty())
}

/// Appends the texts of a piece to a detail, and takes over its other fields.
fn append(detail: &mut Map<String, Value>, piece: &Map<String, Value>) {
    for (field, value) in piece {
        match (detail.get_mut(field), value) {
            (_, Value::Null) => {}
            (Some(Value::String(text)), Value::String(more)) if matches!(field.as_str(), "text" | "summary") => {
                text.push_str(more);
            }
            _ => {
                detail.insert(field.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(details: &[Value]) -> Option<Value> {
        let mut collected = ReasoningDetails::default();
        for detail in details {
            collected.push(detail);
        }
        collected.into_data()
    }

    #[test]
    fn the_pieces_of_a_text_are_joined() {
        let text = |text: &str, signature: Value| json!({"type": "reasoning.text", "index": 0, "text": text, "signature": signature});
        let encrypted = json!({"type": "reasoning.encrypted", "index": 0, "data": "e1", "id": "rs_1"});
        let pieces = [
            text("Let me ", Value::Null),
            text("see.", Value::Null),
            json!({"type": "reasoning.text", "index": 0, "signature": "s1", "format": "f"}),
            text("More.", json!("s2")),
            encrypted.clone(),
            encrypted.clone(),
        ];
        let first =
            json!({"type": "reasoning.text", "index": 0, "text": "Let me see.", "signature": "s1", "format": "f"});
        let expected = [first, text("More.", json!("s2")), encrypted.clone(), encrypted];
        assert_eq!(data(&pieces), Some(json!({"reasoning_details": expected})));
    }

    #[test]
    fn reasoning_without_a_signature_is_not_sent_back() {
        let summary = json!({"type": "reasoning.summary", "summary": "Four", "signature": ""});
        assert_eq!(data(&[summary]), None);
        assert_eq!(data(&[]), None);
    }
}
