//! The pipeline file as written: one struct for each kind of mapping in the file, with every key documented.
//!
//! orch generates the JSON Schema of the file format, and thereby the descriptions in editors, from these types. They
//! use no `flatten` and no `untagged` or tagged enums, since errors would then lack the path of the invalid key.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::agent::{Acp, CliProgram, Compaction, FirstToolChoice, Tools};
use super::budget::Budget;
use super::cli_agent::TurnEstimate;
use super::options::{ModelOptions, ReasoningEffort};
use super::sandbox::Sandbox;
use super::step::{Access, Step};
use super::step_values::{Condition, Expression, expressions, optional_condition};

/// The pattern of the names of inputs, artifacts and steps.
pub const NAME_PATTERN: &str = "^[a-z_][a-z0-9_]*$";

/// The pattern of an entry of a step's `inputs`: the name of an artifact, with `?` if it is optional.
pub const INPUT_PATTERN: &str = "^[a-z_][a-z0-9_]*[?]?$";

/// The pattern of the name of an environment variable that a pipeline passes on. Windows has variables with names such
/// as `ProgramFiles(x86)`.
pub const PASSED_VARIABLE_PATTERN: &str = "^[^=\\s${}]+$";

/// Names with a special meaning in templates, which inputs, artifacts and steps can't have.
pub const RESERVED_NAMES: &[&str] = &["item", "index", "loop", "project", "steps"];

/// Whether `text` is a name: `[a-z_][a-z0-9_]*`.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let is_start_valid = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    is_start_valid && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The tool name of a pipeline that a model may call: the file name without folder and extension, in lower case, each
/// character that is not allowed in a name replaced by `_`, and with `_` in front of a digit. `agents/review-diff.yaml`
/// becomes `review_diff`.
pub fn pipeline_tool_name(file: &str) -> String {
    let file_name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let stem = file_name.rsplit_once('.').map_or(file_name, |(stem, _)| stem);
    let to_name_char = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = stem.chars().map(to_name_char).collect();
    if is_name(&name) { name } else { format!("_{name}") }
}

/// A pipeline: its inputs, its agents and the steps that they perform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The name of the pipeline, as listings show it.
    #[schemars(length(min = 1, max = 100))]
    #[schemars(example = &"default")]
    pub name: String,
    /// The purpose of the pipeline, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Plan a change, write the code, review it.")]
    pub description: Option<String>,
    /// The inputs of a run: names, each with a JSON Schema for the value. `--task` sets the input `task`.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"task": {"type": "string"}}))]
    #[schemars(extend("propertyNames" = {"pattern": NAME_PATTERN}))]
    pub inputs: IndexMap<String, InputSchema>,
    /// The agents that perform steps, by name: models or CLI agents.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"coder": {"model": "auto", "temperature": 0.2}}))]
    pub agents: IndexMap<String, Agent>,
    /// The steps, which run from top to bottom.
    #[schemars(length(min = 1))]
    #[schemars(example = json!([{"id": "plan", "agent": "planner", "prompt": "planner.md", "output": "plan"}]))]
    pub steps: Vec<Step>,
    /// Steps that run at the end in every case: after success, after a failure and after Ctrl-C.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!([{"id": "tidy", "run": ["rm", "-rf", "scratch"]}]))]
    pub finally: Vec<Step>,
    /// The outputs of the pipeline: names with expressions. A calling pipeline receives them as the result.
    #[serde(default, deserialize_with = "expressions", skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "IndexMap<String, Expression>")]
    #[schemars(example = json!({"report": "synthesis", "score": "review.score"}))]
    #[schemars(extend("propertyNames" = {"pattern": NAME_PATTERN}))]
    pub outputs: IndexMap<String, String>,
    /// The budget of a run, which orch checks before each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"usd": 2.0, "tokens": 500_000, "seconds": 3600}))]
    pub budget: Option<Budget>,
    /// An expression over inputs, artifacts and `steps` that determines at the end whether the run succeeded. By
    /// default, a run succeeds if no step failed.
    #[serde(default, deserialize_with = "optional_condition", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Condition>", example = &"review.approved")]
    pub success: Option<String>,
}

/// The JSON Schema of one input; `default` makes the input optional.
pub type InputSchema = Map<String, Value>;

/// A model with its parameters, or a CLI agent, which has exactly one of `cli`, `acp` and `command`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The model: `provider/model`, an alias from `orch.yaml`, `local` or `auto` (default). For a CLI agent: the model
    /// that the agent should use, by the agent's own name for it. By default, the agent chooses.
    #[serde(default = "auto_model")]
    #[schemars(length(min = 1))]
    #[schemars(example = &"anthropic/claude-sonnet-5")]
    pub model: String,
    /// The sampling temperature. Default: the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2))]
    #[schemars(example = 0.2)]
    pub temperature: Option<f64>,
    /// The maximum length of a reply in tokens. Default: `defaults.max_output_tokens` of `orch.yaml`, else 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    #[schemars(example = 8192)]
    pub max_output_tokens: Option<u32>,
    /// How much the model reasons before it answers: an effort or a budget of tokens, depending on the provider.
    /// Default: the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"high")]
    pub reasoning: Option<ReasoningEffort>,
    /// Nucleus sampling: the model samples only from the likeliest tokens that together have this probability. Default:
    /// the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1))]
    #[schemars(example = 0.9)]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub top_p: Option<f64>,
    /// The seed of the sampling. With a seed, some providers return equal replies to equal requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[schemars(example = 7)]
    pub seed: Option<u32>,
    /// Stop sequences: the model stops when it writes one of these texts. The reply does not contain the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 4))]
    #[schemars(example = json!(["END"]))]
    #[schemars(inner(length(min = 1)))]
    pub stop: Vec<String>,
    /// JSON fields that orch adds unchanged to the body of each request, for parameters that only this provider has.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(example = json!({"service_tier": "flex"}))]
    pub provider_options: Map<String, Value>,
    /// A CLI agent that orch supports by name: `claude` or `codex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"claude")]
    pub cli: Option<CliProgram>,
    /// A CLI agent that speaks the Agent Client Protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"command": ["gemini", "--acp"]}))]
    pub acp: Option<Acp>,
    /// Any other program and its arguments. It reads the prompt from standard input and writes the reply to standard
    /// output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    #[schemars(example = json!(["python3", "review.py"]))]
    pub command: Option<Vec<String>>,
    /// The tools that the agent may use. For a model: `read`, `list`, `search`, `edit`, `write`, `shell` and `fetch`,
    /// which a pattern can narrow, such as `shell(cargo:*)` or `edit(src/**)`. For a CLI agent: the agent's own names
    /// for its tools. For both: `SERVER.TOOL` for a tool of an MCP server in `orch.yaml`, and `SERVER.*` for all of its
    /// tools. Default: `none`. A step that sets no `access` gets the access that these tools need.
    #[serde(default, skip_serializing_if = "Tools::is_none")]
    #[schemars(example = json!(["read", "edit", "shell(cargo:*)"]))]
    pub tools: Tools,
    /// Whether a model must call a tool before it answers: the model decides (`auto`, default), or it must call one
    /// first in each conversation (`required`). If it answers without a call, orch sends the answer back and asks for a
    /// call. After the first reply with calls, the model decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"required")]
    pub tool_choice: Option<FirstToolChoice>,
    /// The maximum number of model requests in a conversation of a model with tools (default: 40), or in one turn of a
    /// CLI agent (default: the agent's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    #[schemars(example = 20)]
    pub max_turns: Option<u32>,
    /// The tools of a model whose calls you approve one by one. orch shows you the exact call, and the run waits until
    /// you answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["shell"]))]
    #[schemars(inner(length(min = 1)))]
    pub approve_tools: Vec<String>,
    /// What orch does before a conversation with tools exceeds the context window of its model: leave out old tool
    /// results (`elide`, default), or let the step fail (`fail`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"fail")]
    pub compaction: Option<Compaction>,
    /// Pipelines that a model may call as tools: files relative to this file. The name of the tool is that of the file,
    /// the inputs of the pipeline are its arguments, and the outputs are its result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["review-diff.yaml"]))]
    #[schemars(inner(length(min = 1)))]
    pub pipelines: Vec<String>,
    /// The workspace access needed by the MCP tools of the agent; `None` without such tools. It follows from
    /// `orch.yaml`, so the loader sets it.
    #[serde(skip)]
    pub mcp_access: Option<Access>,
    /// The workspace access needed by the pipelines that the agent may call; `None` without such pipelines. It follows
    /// from their files, so the loader sets it.
    #[serde(skip)]
    pub pipeline_access: Option<Access>,
    /// The budget of the agent in a run, for all its steps together, including the pipelines that it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"usd": 0.5, "seconds": 1800}))]
    pub budget: Option<Budget>,
    /// The maximum usage of one turn of a CLI agent, which you declare. Before a turn, orch reserves this amount in the
    /// budgets. If the turn does not report its tokens or its cost, orch counts this amount instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"tokens": 50_000, "usd": 0.25}))]
    pub estimate: Option<TurnEstimate>,
    /// Names of environment variables that orch passes to a CLI agent, or to the commands of `shell`, in addition to
    /// the basic ones, such as `PATH`, `USER` and `LANG`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!(["GITHUB_TOKEN"]))]
    #[schemars(inner(length(min = 1), regex(pattern = PASSED_VARIABLE_PATTERN)))]
    pub env: Vec<String>,
    /// The sandbox of a CLI agent or of the tools of a model: the files that it may change and read, the hosts that it
    /// may connect to, and its limits. It may list public hosts, unless `orch.yaml` sets `sandbox.network`. Anything
    /// else that allows more than the default must also be allowed by the `sandbox` of `orch.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!({"network": ["registry.npmjs.org"]}))]
    pub sandbox: Option<Sandbox>,
}

fn auto_model() -> String {
    "auto".to_owned()
}

impl Agent {
    /// An agent with this model and no other key.
    pub fn from_model(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            temperature: None,
            max_output_tokens: None,
            reasoning: None,
            top_p: None,
            seed: None,
            stop: Vec::new(),
            provider_options: Map::new(),
            cli: None,
            acp: None,
            command: None,
            tools: Tools::None,
            tool_choice: None,
            max_turns: None,
            approve_tools: Vec::new(),
            compaction: None,
            pipelines: Vec::new(),
            mcp_access: None,
            pipeline_access: None,
            budget: None,
            estimate: None,
            env: Vec::new(),
            sandbox: None,
        }
    }

    /// The options of the agent's requests.
    pub fn options(&self) -> ModelOptions {
        ModelOptions {
            reasoning: self.reasoning,
            top_p: self.top_p,
            seed: self.seed,
            stop: self.stop.clone(),
            provider_options: self.provider_options.clone(),
        }
    }
}

impl Pipeline {
    /// Applies `change` to every step, including those inside groups and `finally`.
    pub fn for_each_step_mut(&mut self, change: &mut impl FnMut(&mut Step)) {
        fn visit(steps: &mut [Step], change: &mut impl FnMut(&mut Step)) {
            for step in steps {
                change(step);
                for children in [&mut step.parallel, &mut step.steps].into_iter().flatten() {
                    visit(children, change);
                }
                if let Some(repeat) = &mut step.repeat {
                    visit(&mut repeat.steps, change);
                }
            }
        }
        visit(&mut self.steps, change);
        visit(&mut self.finally, change);
    }

    /// Every step, including those inside groups and `finally`, from top to bottom.
    pub fn all_steps(&self) -> Vec<&Step> {
        let mut steps = Vec::new();
        for step in self.steps.iter().chain(&self.finally) {
            step.walk(&mut |step| steps.push(step));
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_name_of_a_pipeline_comes_from_its_file() {
        for (file, name) in [
            ("review-diff.yaml", "review_diff"),
            ("agents/Design.v2.yaml", "design_v2"),
            ("a\\b.yml", "b"),
            ("2x.yaml", "_2x"),
            ("é.yaml", "_"),
            ("plain", "plain"),
        ] {
            assert_eq!(pipeline_tool_name(file), name, "{file}");
            assert!(is_name(name));
        }
    }
}
