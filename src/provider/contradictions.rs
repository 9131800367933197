//! Finds what shows that a reply is not as the model wrote it: keys with several values, and calls without a name.

use std::collections::HashSet;

use serde_json::Value;

use super::redaction::quote;
use super::usage::UsageFields;
use super::{Endpoint, errors};
use crate::model::failure::Failure;
use crate::model::repeated_keys::{REPEATED, ReadJson};
use crate::model::surrogates;

/// The maximum length of a key in a message, in characters.
const MAX_KEY_CHARS: usize = 60;

/// Members that say nothing about the content of a reply. If one has several values, the first counts.
const METADATA: [&str; 11] = [
    "id",
    "model",
    "object",
    "created",
    "created_at",
    "system_fingerprint",
    "service_tier",
    "provider",
    "modelVersion",
    "responseId",
    "sequence_number",
];

/// Members whose values orch combines: it counts the larger number, and the stop reason that is not a regular end.
const COMBINED: [&str; 6] = ["usage", "usageMetadata", "finish_reason", "finishReason", "stop_reason", "stopReason"];

/// Members that are not examined: objects with token counts, and the arguments of calls: the model receives the
/// problem of those as the result of its call.
const UNEXAMINED: [&str; 7] = ["usage", "usageMetadata", "timings", "x_groq", "arguments", "args", "input"];

/// Parses JSON of a server. In strings, halves of surrogate pairs become marks. Keys that an object has again with another
/// value have marks too, except those that say nothing about the content of a reply.
pub(super) fn parse_json(bytes: &[u8]) -> serde_json::Result<Value> {
    let ReadJson { mut value, has_repeated_keys } = surrogates::parse_json(bytes)?;
    if has_repeated_keys {
        remove_repeated_metadata(&mut value);
    }
    Ok(value)
}

/// What is wrong with a reply under construction, apart from missing pieces.
#[derive(Default)]
pub(super) struct Contradictions {
    /// The first problem. Follows the provider's name in a message.
    problem: Option<&'static str>,
    /// The calls without a name so far. A name may still arrive for the call with the same key.
    nameless_calls: HashSet<String>,
}

impl Contradictions {
    /// Records a problem, whose text follows the provider's name in a message.
    pub(super) fn record(&mut self, problem: &'static str) {
        self.problem.get_or_insert(problem);
    }

    /// Records a call without the name of its tool. A later name can belong to it only if the key is not empty.
    pub(super) fn record_nameless_call(&mut self, key: &str) {
        self.nameless_calls.insert(key.to_owned());
    }

    /// Records that the call with this key has a name.
    pub(super) fn record_name(&mut self, key: &str) {
        if !key.is_empty() {
            self.nameless_calls.remove(key);
        }
    }

    /// Adds the problems of another version of the reply.
    pub(super) fn merge(&mut self, other: &Self) {
        self.problem = self.problem.or(other.problem);
        self.nameless_calls.extend(other.nameless_calls.iter().cloned());
    }

    /// The first problem.
    pub(super) fn problem(&self) -> Option<&'static str> {
        self.problem
    }

    /// Whether a call has no name.
    pub(super) fn has_nameless_call(&self) -> bool {
        !self.nameless_calls.is_empty()
    }
}

/// Removes the further values of members that say nothing about the content of a reply.
pub(super) fn remove_repeated_metadata(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members
                .retain(|key, _| !(key.starts_with(REPEATED) && METADATA.contains(&key.trim_start_matches(REPEATED))));
            let examined = members.iter_mut().filter(|(key, _)| !UNEXAMINED.contains(&key.as_str()));
            examined.for_each(|(_, member)| remove_repeated_metadata(member));
        }
        Value::Array(items) => items.iter_mut().for_each(remove_repeated_metadata),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The failure for an event or a body that contradicts itself: a key has several values. `fields` are the usage fields of
/// the dialect, which some servers write beside the content.
pub(super) fn self_contradiction(value: &Value, fields: &UsageFields, endpoint: &Endpoint) -> Option<Failure> {
    let key = quote(contradictory_key(value, fields)?, endpoint, MAX_KEY_CHARS);
    let problem = format!("sent `{key}` twice in one object, with different values, so the reply can't be trusted");
    Some(errors::unavailable(endpoint, &problem))
}

fn contradictory_key<'a>(value: &'a Value, fields: &UsageFields) -> Option<&'a str> {
    match value {
        Value::Object(members) => members.iter().find_map(|(key, member)| {
            let name = key.trim_start_matches(REPEATED);
            if name.len() < key.len() {
                return Some(name).filter(|name| !COMBINED.contains(name) && !fields.has(name));
            }
            if UNEXAMINED.contains(&name) { None } else { contradictory_key(member, fields) }
        }),
        Value::Array(items) => items.iter().find_map(|item| contradictory_key(item, fields)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::usage::OPENAI;

    fn contradiction(json: &str) -> Option<String> {
        let endpoint = Endpoint::new("lab", Dialect::OpenAi, "http://lab");
        let failure = self_contradiction(&parse_json(json.as_bytes()).unwrap(), &OPENAI, &endpoint)?;
        Some(failure.message)
    }

    #[test]
    fn a_member_with_several_values_is_a_contradiction_unless_orch_combines_them() {
        for (json, key) in [
            (r#"{"choices": [], "choices": [{}]}"#, "choices"),
            (r#"{"choices": [{"delta": {"content": "a", "content": "b"}}]}"#, "content"),
            (r#"{"choices": [{"index": 0, "index": 1}]}"#, "index"),
            (r#"{"choices": [{"delta": {"tool_calls": [{"function": {"name": "a", "name": "b"}}]}}]}"#, "name"),
            (r#"{"input": {"path": "a"}, "input": {"path": "b"}}"#, "input"),
        ] {
            let expected = format!("lab sent `{key}` twice in one object");
            assert!(contradiction(json).is_some_and(|problem| problem.starts_with(&expected)), "{json}");
        }
        for json in [
            r#"{"id": "a", "id": "b", "choices": [{"delta": {"content": "a", "content": "a"}}]}"#,
            r#"{"choices": [{"finish_reason": "length", "finish_reason": "stop"}], "usage": 1, "usage": 2}"#,
            r#"{"usage": {"prompt_tokens": 10, "prompt_tokens": 1}, "eval_count": 1, "eval_count": 2}"#,
            r#"{"input": {"path": "a", "path": "b"}}"#,
        ] {
            assert_eq!(contradiction(json), None, "{json}");
        }
        let value = parse_json(br#"{"id": "a", "id": "b", "item": {"id": 1, "id": 2}}"#).unwrap();
        assert_eq!(value, serde_json::json!({"id": "a", "item": {"id": 1}}));
    }

    #[test]
    fn a_name_may_arrive_after_its_call() {
        let mut contradictions = Contradictions::default();
        contradictions.record_nameless_call("0");
        assert!(contradictions.has_nameless_call());
        contradictions.record_name("0");
        assert!(!contradictions.has_nameless_call());
        contradictions.record_nameless_call("");
        contradictions.record_name("");
        assert!(contradictions.has_nameless_call());
    }
}
