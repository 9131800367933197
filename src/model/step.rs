//! A step of a pipeline, as in the file. One of several keys determines the kind of the step.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::agent::Agents;
use super::budget::Budget;
use super::duration::HumanDuration;
use super::mcp::McpToolName;
use super::name_scope::ExportedNames;
use super::pipeline::{Agent, INPUT_PATTERN, NAME_PATTERN, PASSED_VARIABLE_PATTERN};
use super::sandbox::Sandbox;
use super::step_values::{Condition, optional_condition};
use super::tool::BuiltinTool;

pub use super::step_values::{Accept, Access, CommandLine, Expect, Expression, Extract, OnError, Outcome, Retry};

/// A step. Exactly one of `agent`, `run`, `call`, `write`, `approve`, `parallel`, `repeat`, `steps` and `pipeline`
/// determines its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The id of the step, unique in the pipeline: `[a-z_][a-z0-9_]*`.
    #[schemars(example = &"plan")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub id: String,
    /// Kind `agent`: the agent that performs the step, a key of `agents`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"planner")]
    pub agent: Option<String>,
    /// The template of the system prompt of an agent step: a file in `prompts/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"planner.md")]
    #[schemars(length(min = 1))]
    pub prompt: Option<String>,
    /// Kind `command`: the command to execute, as a list of a program and its arguments, each a template, or as one
    /// line for `sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!(["cargo", "test", "--", "{{ item }}"]))]
    pub run: Option<CommandLine>,
    /// Kind `call`: the tool to call without a model: `SERVER.TOOL` for a tool of an MCP server in `orch.yaml`, or one of
    /// `read`, `list`, `search`, `edit`, `write`, `shell` and `fetch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"github.list_issues")]
    #[schemars(length(min = 1))]
    pub call: Option<String>,
    /// The arguments of the called tool: names with values. Each text is a template. A text that is only one expression
    /// in `{{ }}` keeps the type of its value.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(example = json!({"repo": "{{ repo }}", "labels": ["bug"]}))]
    pub args: Map<String, Value>,
    /// The access to the workspace that the called MCP tool needs; `None` for any other step. It follows from
    /// `orch.yaml`, so the loader sets it.
    #[serde(skip)]
    pub mcp_access: Option<Access>,
    /// Kind `write`: an expression for the files to write into the workspace. Its value is a list of `{path, content}`
    /// or an artifact with such a list under `files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"code")]
    #[schemars(length(min = 1))]
    pub write: Option<String>,
    /// Kind `approve`: a template of the question to the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Publish this?\n\n{{ review.summary }}")]
    #[schemars(length(min = 1))]
    pub approve: Option<String>,
    /// Kind `parallel`: steps that run in parallel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "style", "agent": "reviewer", "prompt": "style.md", "output": "style_notes"}]))]
    pub parallel: Option<Vec<Step>>,
    /// Kind `repeat`: a loop, which repeats steps until a condition is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"until": "review.approved", "max": 3, "steps": []}))]
    pub repeat: Option<Repeat>,
    /// Kind `sequence`: steps that run in sequence, as one step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "code", "agent": "coder", "prompt": "coder.md", "output": "code"}]))]
    pub steps: Option<Vec<Step>>,
    /// Kind `pipeline`: the pipeline file to call, relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"review-diff.yaml")]
    #[schemars(length(min = 1))]
    pub pipeline: Option<String>,
    /// The inputs of the called pipeline: names with expressions.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"task": "item.title", "rounds": 3}))]
    #[schemars(extend("propertyNames" = {"pattern": NAME_PATTERN}))]
    pub with: IndexMap<String, Expression>,
    /// The artifacts that the step reads. orch skips the step if a required artifact is missing. `name?` is an optional
    /// artifact, which is undefined if it is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["plan", "code?"]))]
    #[schemars(inner(regex(pattern = INPUT_PATTERN)))]
    pub inputs: Vec<String>,
    /// The name of the artifact that the step produces, which orch saves as `workspace/<output>.json`. With `for_each`,
    /// it is the list of the items' results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub output: Option<String>,
    /// The schema of the output: a file in `schemas/` (`plan` or `plan.schema.json`), `text` for a string, or `any` for
    /// any JSON value. Default: the schema with the name of the output; for a command, only if that file exists; for a
    /// call, what the tool returns. With `for_each`, it is the schema of one item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan")]
    #[schemars(length(min = 1))]
    pub schema: Option<String>,
    /// An inline template of the user message of an agent step. By default, the message contains the inputs of the run,
    /// the item of `for_each` and the artifacts in `inputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Review this.\n\n{{ code | tojson }}")]
    pub message: Option<String>,
    /// A condition, as an expression. If it is false, orch skips the step. With `for_each`, orch evaluates it once,
    /// before the list.
    #[serde(default, deserialize_with = "optional_condition", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Condition>", example = &"not review.approved")]
    pub when: Option<String>,
    /// An expression for a list. The step runs once for each element. Templates and expressions of the step read the
    /// element as `item` and its position, from 0, as `index`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan.steps")]
    #[schemars(length(min = 1))]
    pub for_each: Option<String>,
    /// The maximum number of items of `for_each`, or of steps of `parallel`, that run at the same time. Default: 4
    /// items, or all steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(example = 8)]
    pub max_parallel: Option<u32>,
    /// The time limit for one request, for a command, for a call of a tool, or for the user's answer to an approval, such
    /// as `90s` or `5m`. Default for requests, commands and calls: `defaults.timeout` of `orch.yaml`, else 10 minutes for
    /// a request or a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"5m")]
    pub timeout: Option<HumanDuration>,
    /// The time limit for the step, including retries and re-asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"30m")]
    pub deadline: Option<HumanDuration>,
    /// When and how often orch retries a failed request or command, or a failed call of a tool that only reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"max": 5}))]
    pub retry: Option<Retry>,
    /// The maximum number of re-asks: how often orch sends an invalid reply back to the agent with its errors. Default:
    /// `defaults.re_ask` of `orch.yaml`, else 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    #[schemars(example = 2)]
    pub re_ask: Option<u32>,
    /// Conditions on the reply in addition to its schema. If one is false, orch re-asks with its `else` message, within
    /// the limit of `re_ask`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!([{"that": "plan.steps | length <= 3", "else": "plan three steps at most"}]))]
    pub accept: Vec<Accept>,
    /// Models that orch tries in order if all attempts of `retry` failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["openai/gpt-5-mini"]))]
    #[schemars(inner(length(min = 1)))]
    pub fallback: Vec<String>,
    /// How strictly orch extracts the JSON value from a reply. Default: `lenient`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"strict")]
    pub extract: Option<Extract>,
    /// Names of environment variables that orch passes to a command in addition to `PATH`, `HOME` and the locale.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["CARGO_HOME"]))]
    #[schemars(inner(length(min = 1), regex(pattern = PASSED_VARIABLE_PATTERN)))]
    pub env: Vec<String>,
    /// A template of the working directory of a command, relative to the workspace. Default: the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"crates/core")]
    #[schemars(length(min = 1))]
    pub cwd: Option<String>,
    /// An expression whose value orch writes to a command's standard input: strings as text, other values as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"plan")]
    #[schemars(length(min = 1))]
    pub stdin: Option<String>,
    /// The exit codes with which a command succeeds. Default: `[0]`. An empty list accepts all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"exit_code": [0, 1]}))]
    pub expect: Option<Expect>,
    /// The result of the step if the user rejects an approval. Default: `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"continue")]
    pub on_reject: Option<Outcome>,
    /// The access of the step to the workspace. Default: `write` for steps with the key `write` or `run`, and for CLI
    /// agents with `tools`. For an agent with a model: the strongest access that one of its tools needs. Otherwise
    /// `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"read")]
    pub access: Option<Access>,
    /// The sandbox of a command, or of the tool of orch that a step calls: the files that it may change and read, the
    /// hosts that it may connect to, and its limits. Without a sandbox, a command runs with all your rights. A called
    /// tool has one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"min": "basic"}))]
    pub sandbox: Option<Sandbox>,
    /// The budget of the step, including the steps inside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"tokens": 100_000}))]
    pub budget: Option<Budget>,
    /// What the run does after this step failed. Default: `stop`, or `continue` with `--continue-on-error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"continue")]
    pub on_error: Option<OnError>,
}

/// A loop, which repeats steps until a condition is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// The condition that ends the loop: an expression over the artifacts of the iteration and `loop`. Without it,
    /// the steps run `max` times.
    #[serde(default, deserialize_with = "optional_condition", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Condition>", example = &"review.approved")]
    pub until: Option<String>,
    /// The maximum number of iterations.
    #[schemars(range(min = 1, max = 1000))]
    #[schemars(example = 3)]
    pub max: u32,
    /// The result of the step if `until` is still false after `max` iterations. Default: `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"continue")]
    pub on_max_iterations: Option<Outcome>,
    /// The steps of each iteration. They can read the artifacts of the previous iteration as `loop.previous.NAME`.
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "code", "agent": "coder", "prompt": "coder.md", "output": "code"}]))]
    pub steps: Vec<Step>,
}

/// What a step does, by the key that determines its kind.
#[derive(Clone, Copy, Debug)]
pub enum StepAction<'a> {
    /// `agent:` with `prompt:`.
    Agent {
        /// The name of the agent, a key of `agents`.
        agent: &'a str,
        /// The name of the system prompt, a file in `prompts/`.
        prompt: &'a str,
    },
    /// `run:`.
    Command(&'a CommandLine),
    /// `call:`, with the name of the tool.
    Call(&'a str),
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

/// The keys that determine a step's kind. `StepKind` has the names of the kinds: a step with `run` is of the kind
/// `command`, and one with `steps` of the kind `sequence`.
pub const KIND_KEYS: &[&str] = &["agent", "run", "call", "write", "approve", "parallel", "repeat", "steps", "pipeline"];

/// Keys that apply only to some kinds of steps, each with the [`KIND_KEYS`] of these kinds. Every other key applies to
/// all kinds.
pub const KIND_KEYS_BY_KEY: &[(&str, &[&str])] = &[
    ("prompt", &["agent"]),
    ("message", &["agent"]),
    ("re_ask", &["agent"]),
    ("accept", &["agent"]),
    ("fallback", &["agent"]),
    ("extract", &["agent"]),
    ("schema", &["agent", "run", "call"]),
    ("retry", &["agent", "run", "call"]),
    ("deadline", &["agent", "run", "call"]),
    ("timeout", &["agent", "run", "call", "approve"]),
    ("access", &["agent", "run"]),
    ("env", &["run"]),
    ("cwd", &["run"]),
    ("stdin", &["run"]),
    ("expect", &["run"]),
    ("sandbox", &["run", "call"]),
    ("args", &["call"]),
    ("on_reject", &["approve"]),
    ("with", &["pipeline"]),
];

impl Step {
    /// The action of the step; `None` if no key determines it. The loader rejects such a step.
    pub fn action(&self) -> Option<StepAction<'_>> {
        if let Some(agent) = &self.agent {
            return Some(StepAction::Agent { agent, prompt: self.prompt.as_deref().unwrap_or_default() });
        }
        let command = self.run.as_ref().map(StepAction::Command);
        let call = || self.call.as_deref().map(StepAction::Call);
        let write = || self.write.as_deref().map(StepAction::Write);
        let approve = || self.approve.as_deref().map(StepAction::Approve);
        let parallel = || self.parallel.as_deref().map(StepAction::Parallel);
        let repeat = || self.repeat.as_ref().map(StepAction::Repeat);
        let sequence = || self.steps.as_deref().map(StepAction::Sequence);
        let pipeline = || self.pipeline.as_deref().map(StepAction::Pipeline);
        let leaf = command.or_else(call).or_else(write).or_else(approve);
        leaf.or_else(parallel).or_else(repeat).or_else(sequence).or_else(pipeline)
    }

    /// The steps inside a group, with the key that contains them; empty for other kinds.
    pub fn children(&self) -> (&'static str, &[Step]) {
        match self.action() {
            Some(StepAction::Parallel(steps)) => ("parallel", steps),
            Some(StepAction::Repeat(repeat)) => ("repeat/steps", &repeat.steps),
            Some(StepAction::Sequence(steps)) => ("steps", steps),
            Some(
                StepAction::Agent { .. }
                | StepAction::Command(_)
                | StepAction::Call(_)
                | StepAction::Write(_)
                | StepAction::Approve(_)
                | StepAction::Pipeline(_),
            )
            | None => ("", &[]),
        }
    }

    /// The names of the artifacts that later steps see.
    pub fn exported_names(&self) -> ExportedNames<'_> {
        let calls_pipeline = matches!(self.action(), Some(StepAction::Pipeline(_)));
        ExportedNames::of_step(self.output.as_deref(), self.for_each.is_some(), calls_pipeline)
    }

    /// The tool of orch that the step calls; `None` for any other step.
    pub fn called_builtin(&self) -> Option<BuiltinTool> {
        self.call.as_deref().and_then(BuiltinTool::from_name)
    }

    /// The tool of an MCP server that the step calls; `None` for any other step.
    pub fn called_mcp_tool(&self) -> Option<McpToolName> {
        self.call.as_deref().and_then(McpToolName::parse)
    }

    /// The access of the step to the workspace: its `access`, else the default of its kind, its tool or its agent.
    pub fn effective_access(&self, agents: &Agents) -> Access {
        self.access.unwrap_or_else(|| match self.action() {
            Some(StepAction::Command(_) | StepAction::Write(_)) => Access::Write,
            Some(StepAction::Call(_)) => {
                self.called_builtin().map(BuiltinTool::access).or(self.mcp_access).unwrap_or(Access::None)
            }
            Some(StepAction::Agent { agent, .. }) => agents.get(agent).map_or(Access::None, Agent::default_access),
            _ => Access::None,
        })
    }

    /// Visits the step and all steps inside it, from top to bottom.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Step)) {
        visit(self);
        for child in self.children().1 {
            child.walk(visit);
        }
    }
}
