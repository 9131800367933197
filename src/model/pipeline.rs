//! The pipeline file, as written: one struct a level, every key documented.
//!
//! The JSON Schema of the file format is generated from these types, and so are the
//! editor's descriptions. No `flatten`, `untagged` or tagged enums here: they would
//! lose the path of a mistake.

use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::failure::Class;

/// The pattern of the names of inputs, artifacts and steps.
pub const NAME_PATTERN: &str = "^[a-z_][a-z0-9_]*$";

/// The pattern of an artifact that a step reads: a name, with `?` if it is optional.
pub const INPUT_PATTERN: &str = "^[a-z_][a-z0-9_]*[?]?$";

/// Whether `text` is a name: `[a-z_][a-z0-9_]*`.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    first && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A pipeline: who does what, in which order, with which contracts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The pipeline's name, shown in listings.
    #[schemars(length(min = 1, max = 100))]
    #[schemars(example = &"default")]
    pub name: String,
    /// What the pipeline is for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Plan a change, write the code, review it.")]
    pub description: Option<String>,
    /// Values given to a run; each is a JSON Schema. `--task` fills `task`.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"task": {"type": "string"}}))]
    #[schemars(extend("propertyNames" = {"pattern": NAME_PATTERN}))]
    pub inputs: IndexMap<String, Input>,
    /// Who does the steps.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"coder": {"model": "auto", "temperature": 0.2}}))]
    pub agents: IndexMap<String, Agent>,
    /// What is done, from top to bottom.
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "plan", "agent": "planner", "prompt": "planner.md", "output": "plan"}]))]
    pub steps: Vec<Step>,
    /// An expression over inputs, artifacts and `steps` that must be true at the end;
    /// without it a run succeeds when no step failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"review.approved")]
    #[schemars(length(min = 1))]
    pub success: Option<String>,
}

/// The JSON Schema of one input; `default` makes the input optional.
pub type Input = Map<String, Value>;

/// A model with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// `provider/model`, an alias from `orch.yaml`, `local`, or `auto`.
    #[serde(default = "auto")]
    #[schemars(length(min = 1))]
    #[schemars(example = &"anthropic/claude-sonnet-5")]
    pub model: String,
    /// Sampling temperature; the provider's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2))]
    #[schemars(example = 0.2)]
    pub temperature: Option<f64>,
    /// Upper bound of a reply in tokens (4096).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    #[schemars(example = 8192)]
    pub max_output_tokens: Option<u32>,
}

fn auto() -> String {
    "auto".to_owned()
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The step's name, unique in the pipeline: `[a-z_][a-z0-9_]*`.
    #[schemars(example = &"plan")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub id: String,
    /// The agent that does the step: a key of `agents`.
    #[schemars(example = &"planner")]
    pub agent: String,
    /// The system prompt: a file in `prompts/`.
    #[schemars(example = &"planner.md")]
    #[schemars(length(min = 1))]
    pub prompt: String,
    /// Artifacts that the step may read; `name?` is optional and undefined when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["plan", "code?"]))]
    #[schemars(inner(regex(pattern = INPUT_PATTERN)))]
    pub inputs: Vec<String>,
    /// The artifact that the step produces: `workspace/<output>.json`.
    #[schemars(example = &"plan")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub output: String,
    /// The schema of the output: a file in `schemas/` by name (`plan` or `plan.schema.json`),
    /// `text` for a string, `any` for any JSON. By default the schema named like the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan")]
    #[schemars(length(min = 1))]
    pub schema: Option<String>,
    /// An inline template for the user message; by default the inputs of the run and the
    /// step's artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Review this.\n\n{{ code | tojson }}")]
    pub message: Option<String>,
    /// An expression; the step is skipped unless it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"not review.approved")]
    #[schemars(length(min = 1))]
    pub when: Option<String>,
    /// How long one request may take, such as `90s` or `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"5m")]
    pub timeout: Option<Span>,
    /// How long the whole step may take, retries and re-asks included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"30m")]
    pub deadline: Option<Span>,
    /// When and how often a failed request is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"max": 5}))]
    pub retry: Option<Retry>,
    /// How often a reply that does not validate is sent back with its errors (2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    #[schemars(example = 2)]
    pub re_ask: Option<u32>,
    /// Models to go on with when `retry` is used up, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["openai/gpt-5-mini"]))]
    #[schemars(inner(length(min = 1)))]
    pub fallback: Vec<String>,
    /// How strictly the JSON is taken out of a reply (`lenient`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"strict")]
    pub extract: Option<Extract>,
    /// What happens to the run when this step fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"continue")]
    pub on_error: Option<OnError>,
}

/// When and how often a failed request is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Tries in all, the first included (3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    #[schemars(example = 5)]
    pub max: Option<u32>,
    /// The classes of failure that are tried again (`rate_limited`, `provider_unavailable`, `timeout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!(["rate_limited", "timeout"]))]
    pub on: Option<Vec<Class>>,
}

/// How strictly the JSON is taken out of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extract {
    /// Prose, fences and lossless repairs are accepted and recorded.
    #[default]
    Lenient,
    /// Only one distinct value, needing no repair, is accepted.
    Strict,
}

/// What happens to the run when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Nothing after the step runs.
    Stop,
    /// The steps that do not need it still run; the run ends failed all the same.
    Continue,
}

/// A span of time, written as `90s`, `5m` or `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// The pattern of a span of time in the generated schemas.
    pub const PATTERN: &str = "^([0-9]{1,9}(ms|s|m|h))+$";

    /// Parses one or more numbers with a unit each (`ms`, `s`, `m`, `h`); `None` otherwise.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let count: u64 = rest.get(..digits)?.parse().ok()?;
            let tail = rest.get(digits..)?;
            let letters = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
            let millis = match tail.get(..letters)? {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            total = total.checked_add(Duration::from_millis(count.checked_mul(millis)?))?;
            rest = tail.get(letters..)?;
        }
        (total > Duration::ZERO).then_some(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if millis >= size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected a time such as `90s`, `5m` or `1h30m`"))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A span of time, such as `90s`, `5m` or `1h30m`.",
            "pattern": Span::PATTERN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_what_they_print() {
        for text in ["90s", "5m", "1h30m", "250ms"] {
            let span = Span::parse(text).expect(text);
            assert_eq!(Span::parse(&span.to_string()), Some(span));
        }
        for text in ["", "5", "m", "5 m", "0s", "-1s", "5d", "99999999999999999999h"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
