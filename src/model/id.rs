//! Identifiers of runs, steps, calls and contents.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A run's id: a UUID v7, so that ids sort by start time. It is displayed in its short form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct RunId(pub uuid::Uuid);

impl RunId {
    /// The last twelve hexadecimal digits: the random part, short enough to type.
    pub fn short(&self) -> String {
        let text = self.0.simple().to_string();
        text[20..].to_owned()
    }

    /// Whether `text` identifies this run: its full id, or at least the first four digits of its short form.
    pub fn matches(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        text.len() >= 4
            && (self.short().starts_with(&text) || self.0.to_string() == text || self.0.simple().to_string() == text)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// A step's position in the plan: ids joined by `/`, with items and iterations as `[n]` from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct StepKey(String);

impl StepKey {
    /// The key of a step at the top level.
    pub fn root(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// The key of a child step.
    #[must_use]
    pub fn child(&self, id: &str) -> Self {
        Self(format!("{}/{id}", self.0))
    }

    /// The key of an item or iteration of this step, counted from 0.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The key of a child of a group, or of a step at the top level.
    pub fn child_of(parent: Option<&Self>, id: &str) -> Self {
        parent.map_or_else(|| Self::root(id), |parent| parent.child(id))
    }

    /// The key without items and iterations: the step as declared in the pipeline file.
    #[must_use]
    pub fn declared_key(&self) -> Self {
        let ids = self.0.split('/').map(|segment| segment.split('[').next().unwrap_or(segment));
        Self(ids.collect::<Vec<_>>().join("/"))
    }

    /// Whether this is a step inside `other`, or an item or iteration of `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.strip_prefix(other.as_str()).is_some_and(|suffix| suffix.starts_with(['/', '[']))
    }

    /// The keys of the steps and items that contain this step, outermost first.
    pub fn ancestors(&self) -> Vec<Self> {
        let separators = self.0.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'/' | b'['));
        separators.filter_map(|(index, _)| self.0.get(..index)).map(|prefix| Self(prefix.to_owned())).collect()
    }

    /// The last id, with its item or iteration number.
    pub fn last_segment(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The index of the item or iteration; `None` for a step of the file.
    pub fn item_index(&self) -> Option<usize> {
        self.0.strip_suffix(']')?.rsplit_once('[')?.1.parse().ok()
    }

    /// Whether this is an item or an iteration, not a step of the file.
    pub fn is_item(&self) -> bool {
        self.0.ends_with(']')
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A call's key: the step key, the attempt and the ordinal, such as `implement[3]/code@1#2`. The key of a tool call
/// also has its position in the reply of the model: `implement[3]/code@1#2.1`. So it does not depend on the order in
/// which parallel tool calls end. If an MCP server asks for input before it returns a result, the same call is made
/// again with the answers, and the key has the number of the answers: `implement[3]/code@1#2.1+1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct CallKey {
    /// The step that makes the call.
    pub step: StepKey,
    /// The attempt of the step, from 1.
    pub attempt: u32,
    /// The call within the attempt, from 1. A tool call has the ordinal of the request whose reply contains it.
    pub ordinal: u32,
    /// The position of a tool call in the reply, from 1. Absent for all other calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<u32>,
    /// How often the user has answered the questions of an MCP server before this call, from 1. Absent for the first
    /// call and for all other calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_round: Option<u32>,
}

impl CallKey {
    /// The key of a tool call in the reply to this request. `position` counts from 1.
    #[must_use]
    pub fn for_tool_call(&self, position: u32) -> Self {
        Self { tool_call: Some(position), ..self.clone() }
    }

    /// The key of the same call of an MCP tool with answers to the server's questions, and of the questions. `round`
    /// counts from 1.
    #[must_use]
    pub fn for_input_round(&self, round: u32) -> Self {
        Self { input_round: Some(round), ..self.clone() }
    }

    /// The number of the call in its attempt, as text: `2`, `2.1` for a tool call, or `2.1+1` for a tool call with
    /// answers.
    pub fn number(&self) -> String {
        let position = self.tool_call.map(|position| format!(".{position}")).unwrap_or_default();
        let round = self.input_round.map(|round| format!("+{round}")).unwrap_or_default();
        format!("{}{position}{round}", self.ordinal)
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.step, self.attempt, self.number())
    }
}

/// A BLAKE3 digest, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest of some bytes.
    pub fn compute(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for display.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }

    /// The 32 bytes; `None` if the text is no digest, since a record may come from another machine.
    pub fn to_bytes(&self) -> Option<[u8; 32]> {
        blake3::Hash::from_hex(&self.0).ok().map(|hash| *hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_ancestors_and_segments() {
        let outer = StepKey::root("implement");
        let key = outer.item(3).child("fix").item(0).child("code");
        assert_eq!(key.as_str(), "implement[3]/fix[0]/code");
        assert_eq!(key.declared_key().as_str(), "implement/fix/code");
        assert!(key.is_within(&outer) && key.is_within(&outer.item(3)) && !key.is_within(&StepKey::root("impl")));
        assert!(!outer.is_within(&outer));
        let ancestors: Vec<String> = key.ancestors().iter().map(ToString::to_string).collect();
        assert_eq!(ancestors, ["implement", "implement[3]", "implement[3]/fix", "implement[3]/fix[0]"]);
        assert_eq!(key.last_segment(), "code");
    }

    #[test]
    fn a_tool_call_has_the_key_of_its_request_and_a_position() {
        let step = StepKey::root("code");
        let request = CallKey { step, attempt: 1, ordinal: 2, tool_call: None, input_round: None };
        assert_eq!(request.to_string(), "code@1#2");
        assert_eq!(request.for_tool_call(3).to_string(), "code@1#2.3");
        assert_eq!(request.for_tool_call(3).for_input_round(2).to_string(), "code@1#2.3+2");
        assert_eq!(request.for_input_round(1).to_string(), "code@1#2+1");
        assert!(request < request.for_tool_call(1) && request.for_tool_call(2) < request.for_tool_call(10));
        assert!(request.for_tool_call(1) < request.for_tool_call(1).for_input_round(1));
        assert!(request.for_tool_call(1).for_input_round(1) < request.for_tool_call(2));
        let value = serde_json::to_value(&request).unwrap();
        assert_eq!(value, serde_json::json!({ "step": "code", "attempt": 1, "ordinal": 2 }));
        assert_eq!(serde_json::from_value::<CallKey>(value).unwrap(), request);
    }
}
