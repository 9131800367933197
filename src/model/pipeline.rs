//! The pipeline file, as written: one struct a level, every key documented.
//!
//! The JSON Schema of the file format is generated from these types, and so are the
//! editor's descriptions. No `flatten`, `untagged` or tagged enums here: they would
//! lose the path of a mistake.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::agent::{Acp, CliProgram, Tools};
use super::budget::Budget;
use super::program::TurnEstimate;
use super::step::Step;

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
    /// What is done at the end whatever happened: after success, after a failure, and after Ctrl-C.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!([{"id": "tidy", "run": ["rm", "-rf", "scratch"]}]))]
    pub finally: Vec<Step>,
    /// What the pipeline gives to one that calls it, and shows as its result: names with expressions.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"report": "synthesis", "score": "review.score"}))]
    #[schemars(extend("propertyNames" = {"pattern": NAME_PATTERN}))]
    pub outputs: IndexMap<String, String>,
    /// What may be spent, checked before each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"usd": 2.0, "tokens": 500_000, "seconds": 3600}))]
    pub budget: Option<Budget>,
    /// An expression over inputs, artifacts and `steps` that decides at the end whether the run
    /// succeeded; without it a run succeeds when no step failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"review.approved")]
    #[schemars(length(min = 1))]
    pub success: Option<String>,
}

/// The JSON Schema of one input; `default` makes the input optional.
pub type Input = Map<String, Value>;

/// A model with its parameters, or a program: at most one of `cli`, `acp` and `command`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// `provider/model`, an alias from `orch.yaml`, `local`, or `auto`. For a program: the model that
    /// it is told to use, in its own words; its own choice when absent.
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
    /// A command-line agent: `claude` or `codex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"claude")]
    pub cli: Option<CliProgram>,
    /// A program that speaks the Agent Client Protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"command": ["gemini", "--acp"]}))]
    pub acp: Option<Acp>,
    /// Any program, with its arguments: the prompt on its standard input, the reply on its standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    #[schemars(example = json!(["python3", "review.py"]))]
    pub command: Option<Vec<String>>,
    /// The tools that a program may use, by its own names; `none` by default. With tools the agent's
    /// steps have write access to the workspace unless they say otherwise.
    #[serde(default, skip_serializing_if = "Tools::is_none")]
    #[schemars(example = json!(["Read", "Edit", "Bash(git diff:*)"]))]
    pub tools: Tools,
    /// How many turns a program may take for one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    #[schemars(example = 20)]
    pub max_turns: Option<u32>,
    /// What the agent may spend in a run, in all its steps together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"usd": 0.5, "seconds": 1800}))]
    pub budget: Option<Budget>,
    /// What one turn of a program takes at most: counts against budgets for what a turn does not report, and is
    /// reserved before a turn begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"tokens": 50_000, "usd": 0.25}))]
    pub estimate: Option<TurnEstimate>,
    /// Names of environment variables that a program may see beside the basic ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["GITHUB_TOKEN"]))]
    #[schemars(inner(length(min = 1)))]
    pub env: Vec<String>,
}

fn auto() -> String {
    "auto".to_owned()
}

impl Pipeline {
    /// Changes every step, those inside groups and `finally` too.
    pub fn each_step_mut(&mut self, change: &mut impl FnMut(&mut Step)) {
        fn each(steps: &mut [Step], change: &mut impl FnMut(&mut Step)) {
            for step in steps {
                change(step);
                for inside in [&mut step.parallel, &mut step.steps].into_iter().flatten() {
                    each(inside, change);
                }
                if let Some(repeat) = &mut step.repeat {
                    each(&mut repeat.steps, change);
                }
            }
        }
        each(&mut self.steps, change);
        each(&mut self.finally, change);
    }

    /// Every step, those inside groups and `finally` too, from top to bottom.
    pub fn all_steps(&self) -> Vec<&Step> {
        let mut found = Vec::new();
        for step in self.steps.iter().chain(&self.finally) {
            step.walk(&mut |step| found.push(step));
        }
        found
    }
}
