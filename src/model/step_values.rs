//! The types of the values of a step's keys.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::duration::HumanDuration;
use super::failure::FailureClass;

/// An expression. YAML numbers and booleans are accepted without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Expression(pub String);

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            literal @ (Value::Number(_) | Value::Bool(_)) => Ok(Self(literal.to_string())),
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

/// A condition: an expression for a boolean. YAML booleans are accepted without quotes.
///
/// Only the file format has this type. The model stores the text of the expression.
pub(super) struct Condition(String);

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Bool(literal) => Ok(Self(literal.to_string())),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(D::Error::custom("expected a condition"))
            }
        }
    }
}

impl JsonSchema for Condition {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "boolean"], "minLength": 1 })
    }
}

/// Reads a condition.
pub(super) fn condition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Condition::deserialize(deserializer).map(|condition| condition.0)
}

/// Reads a condition that may be absent.
pub(super) fn optional_condition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    condition(deserializer).map(Some)
}

/// Reads expressions by name.
pub(super) fn expressions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IndexMap<String, String>, D::Error> {
    let expressions = IndexMap::<String, Expression>::deserialize(deserializer)?;
    Ok(expressions.into_iter().map(|(name, expression)| (name, expression.0)).collect())
}

/// A command: a list of arguments, or one line for the shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CommandLine {
    /// A line for `sh -c`; inserted values are quoted.
    Shell(String),
    /// A program with its arguments.
    Argv(Vec<String>),
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(line) => Ok(Self::Shell(line)),
            value => match serde_json::from_value::<Vec<String>>(value) {
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

/// The expected result of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The exit codes that count as success. An empty list accepts all.
    #[schemars(example = json!([0, 1]))]
    pub exit_code: Vec<u8>,
}

/// A condition on the reply of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The condition: an expression over the reply, by the name of the output, and over the values in the step's scope.
    #[serde(deserialize_with = "condition")]
    #[schemars(with = "Condition", example = &"plan.steps | length <= 3")]
    pub that: String,
    /// The message to the agent if the condition is false.
    #[serde(rename = "else")]
    #[schemars(length(min = 1))]
    #[schemars(example = &"plan three steps at most")]
    pub otherwise: String,
}

/// When and how often orch retries a failed request or command, or a failed call of a tool that only reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The maximum number of attempts, including the first. Default: 3; for a command, a call of a tool or a CLI agent
    /// with `tools`, 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    #[schemars(example = 5)]
    pub max: Option<u32>,
    /// The delay before the first retry. It doubles with each retry, up to 30 seconds. Default: `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2s")]
    pub backoff: Option<HumanDuration>,
    /// The failure classes that orch retries. Default: `rate_limited`, `provider_unavailable`, `timeout` and
    /// `unknown_stop`; for a command, `command_failed` and `timeout`; for a call of a tool, `provider_unavailable` and
    /// `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!(["rate_limited", "timeout"]))]
    pub on: Option<Vec<FailureClass>>,
}

/// How strictly orch extracts the JSON value from a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extract {
    /// Accept a value inside prose or code fences, or after lossless repairs. orch records the source and the repairs.
    #[default]
    Lenient,
    /// Accept only a reply with exactly one distinct value that needs no repair.
    Strict,
}

/// What a run does after a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Skip every later step, except the steps of `finally`.
    Stop,
    /// Run later steps that do not require the output of the failed step. The run fails, unless the pipeline's
    /// `success` is true.
    Continue,
}

/// The result of a step whose approval was rejected or whose loop reached `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The step fails.
    Fail,
    /// The step completes.
    Continue,
}

/// The access of a step to the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// The step does not access files; its result depends only on its inputs.
    None,
    /// The step reads files. On resume, it runs again if an earlier step wrote files again.
    Read,
    /// The step writes files.
    Write,
}
