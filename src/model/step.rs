//! A step of a pipeline, as written: one of several kinds, told by the key that it has.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::agent::Agents;
use super::budget::Budget;
use super::failure::Class;
use super::pipeline::{Agent, INPUT_PATTERN, NAME_PATTERN};
use super::span::Span;

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The step's name, unique in the pipeline: `[a-z_][a-z0-9_]*`.
    #[schemars(example = &"plan")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub id: String,
    /// Kind agent: who does the step, a key of `agents`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"planner")]
    pub agent: Option<String>,
    /// The system prompt of an agent: a file in `prompts/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"planner.md")]
    #[schemars(length(min = 1))]
    pub prompt: Option<String>,
    /// Kind command: a program with its arguments, each a template, or one line for `sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!(["cargo", "test", "--", "{{ item }}"]))]
    pub run: Option<CommandLine>,
    /// Kind files: an expression that gives the files to write into the workspace: a list of
    /// `{path, content}`, or an artifact with such a list under `files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"code")]
    #[schemars(length(min = 1))]
    pub write: Option<String>,
    /// Kind approval: a template of what a person is asked to agree to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Publish this?\n\n{{ review.summary }}")]
    #[schemars(length(min = 1))]
    pub approve: Option<String>,
    /// Kind group: steps that run side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "style", "agent": "reviewer", "prompt": "style.md", "output": "style_notes"}]))]
    pub parallel: Option<Vec<Step>>,
    /// Kind group: steps that run again until a condition holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"until": "review.approved", "max": 3, "steps": []}))]
    pub repeat: Option<Repeat>,
    /// Kind group: steps that run one after another, as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "code", "agent": "coder", "prompt": "coder.md", "output": "code"}]))]
    pub steps: Option<Vec<Step>>,
    /// Kind pipeline: another pipeline file, relative to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"review-diff.yaml")]
    #[schemars(length(min = 1))]
    pub pipeline: Option<String>,
    /// The inputs of the pipeline that is called: names with expressions.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"task": "item.title", "rounds": 3}))]
    #[schemars(extend("propertyNames" = {"pattern": NAME_PATTERN}))]
    pub with: IndexMap<String, Expression>,
    /// Artifacts that the step may read; `name?` is optional and undefined when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["plan", "code?"]))]
    #[schemars(inner(regex(pattern = INPUT_PATTERN)))]
    pub inputs: Vec<String>,
    /// The artifact that the step produces: `workspace/<output>.json`. With `for_each` it is the
    /// list of what each item gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub output: Option<String>,
    /// The schema of the output: a file in `schemas/` by name (`plan` or `plan.schema.json`),
    /// `text` for a string, `any` for any JSON. By default the schema named like the output.
    /// With `for_each` it is the schema of one item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan")]
    #[schemars(length(min = 1))]
    pub schema: Option<String>,
    /// An inline template for the user message of an agent; by default the inputs of the run and
    /// the step's artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Review this.\n\n{{ code | tojson }}")]
    pub message: Option<String>,
    /// An expression; the step is skipped unless it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"not review.approved")]
    #[schemars(length(min = 1))]
    pub when: Option<String>,
    /// An expression that gives a list; the step runs once for each `item` of it, with its `index` from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan.steps")]
    #[schemars(length(min = 1))]
    pub for_each: Option<String>,
    /// How many items of `for_each`, or steps of `parallel`, run at once (4; all of `parallel`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(example = 8)]
    pub max_parallel: Option<u32>,
    /// How long one request, command or wait for a person may take, such as `90s` or `5m`.
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
    /// Names of environment variables that a command sees, beside `PATH`, `HOME` and the locale.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["CARGO_HOME"]))]
    #[schemars(inner(length(min = 1)))]
    pub env: Vec<String>,
    /// The folder in which a command runs, relative to the workspace (the workspace itself).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"crates/core")]
    #[schemars(length(min = 1))]
    pub cwd: Option<String>,
    /// An expression whose value a command reads on its standard input: text as it is, all else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan")]
    #[schemars(length(min = 1))]
    pub stdin: Option<String>,
    /// Which exit codes of a command count as success (`[0]`); empty for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"exit_code": [0, 1]}))]
    pub expect: Option<Expect>,
    /// What a person's no does to an approval (`fail`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"continue")]
    pub on_reject: Option<Outcome>,
    /// What the step does to the workspace; by default `write` for `write`, `run` and agents with
    /// `tools`, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"read")]
    pub access: Option<Access>,
    /// What the step and the steps inside it may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"tokens": 100_000}))]
    pub budget: Option<Budget>,
    /// What happens to the run when this step fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"continue")]
    pub on_error: Option<OnError>,
}

/// Steps that run again until a condition holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// An expression over what the round produced; when it is true the loop ends. Without it the
    /// steps run `max` times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"review.approved")]
    #[schemars(length(min = 1))]
    pub until: Option<String>,
    /// Rounds at most.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(example = 3)]
    pub max: u32,
    /// What it means that `until` never came true (`fail`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"continue")]
    pub on_exhausted: Option<Outcome>,
    /// What is done in each round; it sees what the round before produced.
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "code", "agent": "coder", "prompt": "coder.md", "output": "code"}]))]
    pub steps: Vec<Step>,
}

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

/// What a step is, told by the one key that it has.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// `agent:` with `prompt:`.
    Agent {
        /// A key of `agents`.
        agent: &'a str,
        /// A file in `prompts/`.
        prompt: &'a str,
    },
    /// `run:`.
    Command(&'a CommandLine),
    /// `write:`.
    Write(&'a str),
    /// `approve:`.
    Approve(&'a str),
    /// `parallel:`.
    Parallel(&'a [Step]),
    /// `repeat:`.
    Repeat(&'a Repeat),
    /// `steps:`.
    Sequence(&'a [Step]),
    /// `pipeline:`.
    Pipeline(&'a str),
}

/// The keys that tell a step's kind.
pub const KINDS: &[&str] = &["agent", "run", "write", "approve", "parallel", "repeat", "steps", "pipeline"];

impl Step {
    /// What the step is; `None` when it has no key that tells, which loading refuses.
    pub fn kind(&self) -> Option<Kind<'_>> {
        if let Some(agent) = &self.agent {
            return Some(Kind::Agent { agent, prompt: self.prompt.as_deref().unwrap_or_default() });
        }
        let command = self.run.as_ref().map(Kind::Command);
        let write = || self.write.as_deref().map(Kind::Write);
        let approve = || self.approve.as_deref().map(Kind::Approve);
        let parallel = || self.parallel.as_deref().map(Kind::Parallel);
        let repeat = || self.repeat.as_ref().map(Kind::Repeat);
        let sequence = || self.steps.as_deref().map(Kind::Sequence);
        let pipeline = || self.pipeline.as_deref().map(Kind::Pipeline);
        command.or_else(write).or_else(approve).or_else(parallel).or_else(repeat).or_else(sequence).or_else(pipeline)
    }

    /// The steps inside a group, and the key under which they stand; empty for other kinds.
    pub fn children(&self) -> (&'static str, &[Step]) {
        match self.kind() {
            Some(Kind::Parallel(steps)) => ("parallel", steps),
            Some(Kind::Repeat(repeat)) => ("repeat/steps", &repeat.steps),
            Some(Kind::Sequence(steps)) => ("steps", steps),
            Some(Kind::Agent { .. } | Kind::Command(_) | Kind::Write(_) | Kind::Approve(_) | Kind::Pipeline(_))
            | None => ("", &[]),
        }
    }

    /// What the step does to the workspace, by its key, its kind, or what its agent may do.
    pub fn effective_access(&self, agents: &Agents) -> Access {
        self.access.unwrap_or_else(|| match self.kind() {
            Some(Kind::Command(_) | Kind::Write(_)) => Access::Write,
            Some(Kind::Agent { agent, .. }) => agents.get(agent).map_or(Access::None, Agent::access),
            _ => Access::None,
        })
    }

    /// The step and all steps inside it, from top to bottom.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Step)) {
        visit(self);
        for child in self.children().1 {
            child.walk(visit);
        }
    }
}
