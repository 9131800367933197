//! References from the values of artifacts to recorded replies.
//!
//! The value of an artifact is usually a part of the reply from which orch extracted it, and the journal contains the
//! reply already. So the journal stores where the value is instead of the value. A reference does not depend on how orch
//! extracts values: orch creates one only if the part of the text, read strictly, is exactly the value.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::count_values;
use crate::model::event::{CallEnded, CallOutput, Fact};

/// The number of bytes of a value as JSON from which orch searches for it in the reply. A smaller value needs hardly more
/// space than a reference.
const MIN_VALUE_BYTES: usize = 128;

/// The maximum number of places in a text at which orch tries to read the value.
const MAX_TRIES: usize = 32;

/// The number of bytes of a text that count as much as one JSON value, in the limit for foreign runs: about as many as a
/// value takes in memory.
const BYTES_PER_VALUE: usize = 64;

/// The text that a call returned, in the journal.
#[derive(Clone, Debug)]
pub(super) struct RecordedText<'a> {
    /// The `seq` of the `call_ended` event.
    pub(super) seq: u64,
    pub(super) text: Cow<'a, str>,
}

/// The part of a recorded text that is the value of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ValueReference {
    /// The `seq` of the `call_ended` event, in the run of the artifact.
    pub(super) seq: u64,
    /// The position of the first byte of the part.
    start: usize,
    /// The position after the last byte of the part.
    end: usize,
    /// Whether the part is JSON. Otherwise, the value is a string with the part as its text.
    is_json: bool,
}

impl ValueReference {
    /// Whether a value is so large that the journal stores a reference, if it can. Returns the value as JSON.
    pub(super) fn json_if_large(value: &Value) -> Option<String> {
        let may_be_large = match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
            Value::String(text) => text.len() >= MIN_VALUE_BYTES,
            Value::Array(_) | Value::Object(_) => true,
        };
        let json = may_be_large.then(|| value.to_string())?;
        (json.len() >= MIN_VALUE_BYTES).then_some(json)
    }

    /// Finds a value in a recorded text; `json` is the value as JSON.
    pub(super) fn find(value: &Value, json: &str, recorded: &RecordedText<'_>) -> Option<Self> {
        let (seq, text) = (recorded.seq, recorded.text.as_ref());
        if let Value::String(string) = value
            && let Some(start) = text.find(string.as_str())
        {
            return Some(Self { seq, start, end: start + string.len(), is_json: false });
        }
        let Range { start, end } = find_json(value, json, text)?;
        Some(Self { seq, start, end, is_json: true })
    }

    /// The part of the recorded text; `None` if the text has no such part.
    pub(super) fn part<'t>(&self, text: &'t str) -> Option<&'t str> {
        text.get(self.start..self.end)
    }

    /// The value, given the part of the recorded text.
    pub(super) fn value(&self, part: &str) -> serde_json::Result<Value> {
        if self.is_json { serde_json::from_str(part) } else { Ok(Value::String(part.to_owned())) }
    }

    /// An upper bound of the memory that the value takes, as a number of JSON values.
    pub(super) fn size_in_values(&self, part: &str) -> usize {
        let values = if self.is_json { count_values(part.as_bytes()) } else { 1 };
        values.saturating_add(part.len() / BYTES_PER_VALUE)
    }
}

/// Finds the JSON of a value in a text. The parser limits the nesting, so the journal stores a deeply nested value itself.
fn find_json(value: &Value, json: &str, text: &str) -> Option<Range<usize>> {
    let opening = match value {
        Value::Object(_) => '{',
        Value::Array(_) => '[',
        Value::String(_) => '"',
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    let mut start = 0;
    for _ in 0..MAX_TRIES {
        start += text.get(start..)?.find(opening)?;
        let mut values = serde_json::Deserializer::from_str(text.get(start..)?).into_iter::<Value>();
        match values.next() {
            // Compare as texts: a comparison of values ignores the order of members.
            Some(Ok(found)) => {
                let end = start + values.byte_offset();
                let found_json = found.to_string();
                if found_json == json {
                    return Some(start..end);
                }
                start = if contains(&found, value) { start + opening.len_utf8() } else { end };
            }
            Some(Err(_)) | None => start += opening.len_utf8(),
        }
    }
    None
}

/// Whether a value is nested in another one, possibly with another order of members.
fn contains(outer: &Value, value: &Value) -> bool {
    let is_or_contains = |inner: &Value| inner == value || contains(inner, value);
    match outer {
        Value::Array(items) => items.iter().any(is_or_contains),
        Value::Object(members) => members.values().any(is_or_contains),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The text that a call returned and that the value of an artifact may be a part of: the text of a reply, the standard
/// output of a command or the result of a tool. The format of the journal depends on this function.
pub(super) fn recorded_text(fact: &Fact) -> Option<Cow<'_, str>> {
    let Fact::CallEnded(CallEnded { reply, output, .. }) = fact else { return None };
    match (reply, output) {
        (Some(reply), _) => Some(reply.text()),
        (None, Some(CallOutput::Command(output))) => Some(Cow::Borrowed(&output.stdout)),
        (None, Some(CallOutput::Tool(output))) => Some(Cow::Borrowed(output.result.whole_text())),
        (None, Some(CallOutput::McpTool(output))) => Some(Cow::Borrowed(output.result.whole_text())),
        (None, Some(CallOutput::Snapshot(_) | CallOutput::Applied(_) | CallOutput::Pipeline(_)) | None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The value that a reference gives back, and the part of the text to which it refers.
    fn find<'t>(value: &Value, text: &'t str) -> Option<(Value, &'t str)> {
        let recorded = RecordedText { seq: 7, text: Cow::Borrowed(text) };
        let reference = ValueReference::find(value, &value.to_string(), &recorded)?;
        assert_eq!(reference.seq, 7);
        let part = reference.part(text).unwrap();
        Some((reference.value(part).unwrap(), part))
    }

    #[test]
    fn a_reference_gives_back_exactly_the_value() {
        let value: Value = serde_json::from_str(r#"{"b": [1.10, 1e400, "é\n"], "a": {"x": null}}"#).unwrap();
        let json = "{\n \"b\" : [1.10,1e400, \"\\u00e9\\n\"], \"a\":{\"x\":null}}";
        for text in [
            json.to_owned(),
            format!("Here it is {{x}}, or {{}}:\n```json\n{json}\n```\nDone."),
            format!("{{\"a\": 1}}{json}"),
        ] {
            let (found, part) = find(&value, &text).unwrap();
            assert_eq!((found.to_string(), part), (value.to_string(), json), "{text}");
        }
        let text = Value::String("a \"b\"\nc".to_owned());
        assert_eq!(find(&text, "So: a \"b\"\nc\n"), Some((text.clone(), "a \"b\"\nc")));
        assert_eq!(find(&text, r#"So: "a \"b\"\nc""#), Some((text.clone(), r#""a \"b\"\nc""#)));
    }

    #[test]
    fn a_value_that_is_a_part_of_other_json_has_a_reference() {
        let value = json!({ "steps": [{ "id": 1 }, { "id": 2 }] });
        let (json, text) = (value.to_string(), format!(r#"{{"plan": {value}, "done": true}}"#));
        assert_eq!(find(&value, &text), Some((value.clone(), json.as_str())));
        let drafts = vec![json!({ "id": 0 }); 2 * MAX_TRIES];
        let outer = json!({ "drafts": drafts, "none": [{ "plan": [value] }] }).to_string();
        assert_eq!(find(&json!([value]), &outer), Some((json!([value]), format!("[{json}]").as_str())));
        let last = json!({ "id": 7, "done": true });
        let (last_json, text) = (last.to_string(), format!("{outer}{last}"));
        assert_eq!(find(&last, &text), Some((last.clone(), last_json.as_str())), "it skips all drafts at once");
    }

    #[test]
    fn a_value_that_is_no_exact_part_of_the_text_has_no_reference() {
        let value = json!({ "a": 1, "b": [true] });
        for text in [
            r#"{"b": [true], "a": 1}"#,
            r#"{"a": 1.0, "b": [true]}"#,
            r#"{"a": 1, "b": [true],}"#,
            "{'a': 1, 'b': [true]}",
            r#"{"a": 1, "b": [true"#,
            "",
        ] {
            assert_eq!(find(&value, text), None, "{text}");
        }
        assert_eq!(find(&json!(7), "7"), None);
        let deep = "[".repeat(300) + &"]".repeat(300);
        assert_eq!(find(&json!([[0]]), &deep), None);
        assert_eq!(find(&value, &("{".repeat(1000) + r#"{"a": 1, "b": [true]}"#)), None);
    }

    #[test]
    fn the_size_of_a_value_depends_on_its_values_and_its_bytes() {
        let value = json!([1, 2, "x".repeat(100 * BYTES_PER_VALUE)]);
        let text = value.to_string();
        let recorded = RecordedText { seq: 1, text: Cow::Borrowed(&text) };
        let reference = ValueReference::find(&value, &text, &recorded).unwrap();
        assert_eq!(reference.size_in_values(reference.part(&text).unwrap()), 104);
        let value = Value::String(text.clone());
        let reference = ValueReference::find(&value, &value.to_string(), &recorded).unwrap();
        assert_eq!(reference.size_in_values(reference.part(&text).unwrap()), 101);
    }

    #[test]
    fn only_large_values_have_references() {
        assert_eq!(ValueReference::json_if_large(&json!({ "a": 1 })), None);
        assert_eq!(ValueReference::json_if_large(&json!("x".repeat(MIN_VALUE_BYTES - 1))), None);
        assert!(ValueReference::json_if_large(&json!("x".repeat(MIN_VALUE_BYTES))).is_some());
        assert!(ValueReference::json_if_large(&json!(vec![1; MIN_VALUE_BYTES])).is_some());
    }
}
