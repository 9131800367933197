//! The values of a step's keys.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::failure::Class;
use super::span::Span;

/// An expression; a number, `true` or `false` may stand without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Expression(pub String);

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            plain @ (Value::Number(_) | Value::Bool(_)) => Ok(Self(plain.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(D::Error::custom("expected an expression")),
        }
    }
}

impl JsonSchema for Expression {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expression".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "number", "boolean"],
            "description": "An expression over inputs and artifacts.",
            "minLength": 1
        })
    }
}

/// A command: a list of arguments, or one line for the shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CommandLine {
    /// A line for `sh -c`; values put into it are quoted.
    Shell(String),
    /// A program with its arguments.
    Argv(Vec<String>),
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(line) => Ok(Self::Shell(line)),
            other => match serde_json::from_value::<Vec<String>>(other) {
                Ok(argv) if !argv.is_empty() => Ok(Self::Argv(argv)),
                _ => Err(D::Error::custom("expected a command line, or a list with a program and its arguments")),
            },
        }
    }
}

impl JsonSchema for CommandLine {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CommandLine".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "array"],
            "description": "A program with its arguments, or one line for `sh -c`.",
            "minLength": 1,
            "minItems": 1,
            "items": { "type": "string" }
        })
    }
}

/// Which ends of a command count as success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The exit codes that count as success; empty for all of them.
    #[schemars(example = json!([0, 1]))]
    pub exit_code: Vec<u8>,
}

/// What must hold of an agent's reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The condition, an expression over what the step sees and its reply, under the name of the output.
    #[schemars(length(min = 1))]
    #[schemars(example = &"plan.steps | length <= 3")]
    pub that: String,
    /// What the agent is told when the condition does not hold.
    #[serde(rename = "else")]
    #[schemars(length(min = 1))]
    #[schemars(example = &"plan three steps at most")]
    pub otherwise: String,
}

/// When and how often a failed request is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Tries in all, the first included (3; 1 for a command).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    #[schemars(example = 5)]
    pub max: Option<u32>,
    /// The first pause; it doubles with every try, up to 30 seconds (500ms).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2s")]
    pub backoff: Option<Span>,
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

/// What an end that is neither success nor error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The step fails.
    Fail,
    /// The step completes.
    Continue,
}

/// What a step does to the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nothing: its result depends on its inputs alone.
    None,
    /// It reads files, so that it runs again when a step before it wrote again.
    Read,
    /// It writes files.
    Write,
}
