//! A step of a pipeline, as written: one of several kinds, told by the key that it has.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::agent::Agents;
use super::budget::Budget;
use super::pipeline::{Agent, INPUT_PATTERN, NAME_PATTERN};
use super::span::Span;

pub use super::step_values::{Accept, Access, CommandLine, Expect, Expression, Extract, OnError, Outcome, Retry};

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
    /// What must hold of the reply beyond its schema, where the output's name stands for the reply; a condition
    /// that does not hold is sent back with its words, within `re_ask`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!([{"that": "plan.steps | length <= 3", "else": "plan three steps at most"}]))]
    pub accept: Vec<Accept>,
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
    pub on_max_iterations: Option<Outcome>,
    /// What is done in each round; it sees what the round before produced.
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "code", "agent": "coder", "prompt": "coder.md", "output": "code"}]))]
    pub steps: Vec<Step>,
}

/// What a step is, told by the one key that it has.
#[derive(Clone, Copy, Debug)]
pub enum StepAction<'a> {
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
    pub fn kind(&self) -> Option<StepAction<'_>> {
        if let Some(agent) = &self.agent {
            return Some(StepAction::Agent { agent, prompt: self.prompt.as_deref().unwrap_or_default() });
        }
        let command = self.run.as_ref().map(StepAction::Command);
        let write = || self.write.as_deref().map(StepAction::Write);
        let approve = || self.approve.as_deref().map(StepAction::Approve);
        let parallel = || self.parallel.as_deref().map(StepAction::Parallel);
        let repeat = || self.repeat.as_ref().map(StepAction::Repeat);
        let sequence = || self.steps.as_deref().map(StepAction::Sequence);
        let pipeline = || self.pipeline.as_deref().map(StepAction::Pipeline);
        command.or_else(write).or_else(approve).or_else(parallel).or_else(repeat).or_else(sequence).or_else(pipeline)
    }

    /// The steps inside a group, and the key under which they stand; empty for other kinds.
    pub fn children(&self) -> (&'static str, &[Step]) {
        match self.kind() {
            Some(StepAction::Parallel(steps)) => ("parallel", steps),
            Some(StepAction::Repeat(repeat)) => ("repeat/steps", &repeat.steps),
            Some(StepAction::Sequence(steps)) => ("steps", steps),
            Some(
                StepAction::Agent { .. }
                | StepAction::Command(_)
                | StepAction::Write(_)
                | StepAction::Approve(_)
                | StepAction::Pipeline(_),
            )
            | None => ("", &[]),
        }
    }

    /// What the step does to the workspace, by its key, its kind, or what its agent may do.
    pub fn effective_access(&self, agents: &Agents) -> Access {
        self.access.unwrap_or_else(|| match self.kind() {
            Some(StepAction::Command(_) | StepAction::Write(_)) => Access::Write,
            Some(StepAction::Agent { agent, .. }) => agents.get(agent).map_or(Access::None, Agent::access),
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
