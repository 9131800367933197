//! The steps of a plan: a tree of plain data and compiled schemas.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;

use crate::model::budget::Budget;
use crate::model::event::StepKind;
use crate::model::name_scope::{ExportedNames, PreviousRead};
use crate::model::step::{Accept, Access, CommandLine, Outcome};
use crate::model::{Digest, FailureClass, McpServerSpec, ModelOptions, SandboxSpec, StepKey};
use crate::schema::Schema;

use super::agent_tools::AgentTools;
pub use super::call_nodes::{CallNode, CalledPipelineInput, CalledTool, PipelineNode};
use super::planned_model::PlannedModel;

/// A pipeline file, ready to run.
#[derive(Clone, Serialize)]
pub struct PlanBody {
    /// The pipeline's name.
    pub name: String,
    /// The purpose of the pipeline, in one sentence.
    pub description: Option<String>,
    /// The steps, in order.
    pub nodes: Vec<PlanNode>,
    /// The steps of `finally`, which run at the end even after a failure.
    pub finally: Vec<PlanNode>,
    /// The budget of the pipeline.
    pub budget: Option<Budget>,
    /// The expression that decides about success.
    pub success: Option<String>,
    /// The outputs of the pipeline: names with expressions.
    pub outputs: IndexMap<String, String>,
}

/// A step, ready to run.
#[derive(Clone, Serialize)]
pub struct PlanNode {
    /// The step's id.
    pub id: String,
    /// The condition under which the step runs.
    pub when: Option<String>,
    /// The list that it runs over (`for_each`).
    pub for_each: Option<ForEach>,
    /// The artifacts that it reads.
    pub inputs: Vec<InputRef>,
    /// The artifacts of earlier iterations that its texts read through `loop.previous`.
    pub previous_reads: Vec<PreviousRead>,
    /// The artifact that it produces.
    pub output: Option<ArtifactOutput>,
    /// Whether its artifact has a file in the workspace; false inside an item or a called pipeline.
    pub has_file: bool,
    /// How it uses the workspace.
    pub access: Access,
    /// The budget of the step.
    pub budget: Option<Budget>,
    /// Whether its failure stops the following steps.
    pub stops_on_failure: bool,
    /// The kind, with the data of that kind.
    pub kind: NodeKind,
}

/// The list that a step runs over.
#[derive(Clone, Serialize)]
pub struct ForEach {
    /// The expression that evaluates to the list.
    pub list: String,
    /// How many items run in parallel.
    pub max_parallel: usize,
    /// Whether the output contains a record of the status of each item, including failed items (`on_error: continue`).
    pub records_status: bool,
}

/// The artifact that a step produces.
#[derive(Clone, Serialize)]
pub struct ArtifactOutput {
    /// The artifact's name.
    pub name: String,
    /// The type of the artifact; with `for_each`, the type of each item.
    pub artifact_type: ArtifactType,
}

/// The kind of a step.
#[derive(Clone, Serialize)]
pub enum NodeKind {
    /// Calls a model or a CLI agent.
    Agent(Box<AgentNode>),
    /// Runs a command.
    Command(Box<CommandNode>),
    /// Calls a tool.
    Call(Box<CallNode>),
    /// Writes files.
    Write(WriteNode),
    /// Asks the user for an approval.
    Approve(ApproveNode),
    /// Runs steps in parallel, at most this many at once.
    Parallel(Vec<PlanNode>, usize),
    /// Runs steps repeatedly.
    Repeat(RepeatNode),
    /// Runs steps in order.
    Sequence(Vec<PlanNode>),
    /// Calls another pipeline.
    Pipeline(Box<PipelineNode>),
}

/// The data of an agent step.
#[derive(Clone, Serialize)]
pub struct AgentNode {
    /// The agent's name.
    pub agent: String,
    /// The models to call in order: the agent's own, then the fallbacks.
    pub models: Vec<PlannedModel>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// The other options of its requests.
    pub options: ModelOptions,
    /// The upper bound of a reply, in tokens.
    pub max_output_tokens: u32,
    /// The tools that its model may call; `None` for a model without tools and for a CLI agent.
    pub tools: Option<Arc<AgentTools>>,
    /// The MCP servers whose tools it may call, a model or a CLI agent.
    pub servers: Vec<McpServerSpec>,
    /// The pipelines that its model may call as tools. The id of each node is the name of the tool.
    pub pipelines: Vec<PlanNode>,
    /// The agent's budget for all its steps together.
    pub budget: Option<Budget>,
    /// The prompt's file name.
    pub prompt: String,
    /// The inline template of the user message.
    pub message: Option<String>,
    /// Time limits and retries.
    pub limits: StepLimits,
    /// The maximal number of re-asks when a reply does not validate.
    pub re_asks: u32,
    /// Whether a reply must be exact JSON (`extract: strict`).
    pub strict: bool,
    /// Conditions that a reply must meet beyond its schema.
    pub accept: Vec<Accept>,
    /// The later `write` steps that write the files in its artifact.
    pub writers: Vec<FileWriter>,
}

/// A step that writes the files of an agent's artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FileWriter {
    /// The step.
    pub step: StepKey,
    /// The names of the members that lead from the artifact to the list of files.
    pub members: Vec<String>,
}

/// The time limits and retries of a step.
#[derive(Clone, Debug, Serialize)]
pub struct StepLimits {
    /// The time limit of one request or command.
    pub timeout: Option<Duration>,
    /// The time limit of the whole step.
    pub deadline: Option<Duration>,
    /// The number of tries in total.
    pub tries: u32,
    /// The first pause between two tries.
    pub backoff: Option<Duration>,
    /// The failure classes that orch retries.
    pub retry_on: Vec<FailureClass>,
    /// Whether the step waits longer for an unavailable provider than `tries` and `backoff` say. True if the step calls
    /// a model and the pipeline sets neither `retry.max` nor `retry.backoff`.
    pub waits_for_provider: bool,
}

impl StepLimits {
    /// Whether the deadline is shorter than the time-out, so that the deadline ends the first try.
    pub(super) fn deadline_ends_first_try(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.timeout.is_none_or(|timeout| deadline < timeout))
    }
}

/// The data of a command step.
#[derive(Clone, Serialize)]
pub struct CommandNode {
    /// The command in the pipeline file, with templates.
    pub line: CommandLine,
    /// Names of environment variables that the command may see.
    pub env: Vec<String>,
    /// The folder in which it runs, as a template.
    pub cwd: Option<String>,
    /// The expression for its standard input.
    pub stdin: Option<String>,
    /// The project's folder, which templates see as `project.root`.
    pub project_root: Arc<str>,
    /// The exit codes that count as success; if empty, every exit code does.
    pub success_codes: Vec<u8>,
    /// Whether its standard output is the artifact.
    pub parses_stdout: bool,
    /// The sandbox of the command; `None` if orch does not confine it.
    pub sandbox: Option<SandboxSpec>,
    /// Time limits and retries.
    pub limits: StepLimits,
}

/// The data of a step that writes files.
#[derive(Clone, Serialize)]
pub struct WriteNode {
    /// The expression for the list of files.
    pub files: String,
    /// The agent steps whose artifacts list the files, as far as orch can derive them from the pipeline file.
    pub source_steps: Vec<StepKey>,
}

/// The data of an approval step.
#[derive(Clone, Serialize)]
pub struct ApproveNode {
    /// The template of the text that the user sees.
    pub message: String,
    /// The outcome after a rejection.
    pub on_reject: Outcome,
    /// How long the step waits for an answer.
    pub timeout: Option<Duration>,
}

/// The data of a loop.
#[derive(Clone, Serialize)]
pub struct RepeatNode {
    /// The condition that ends it.
    pub until: Option<String>,
    /// The maximal number of iterations.
    pub max: u32,
    /// The outcome if the condition is still false after the last iteration.
    pub on_max_iterations: Outcome,
    /// The steps of an iteration.
    pub nodes: Vec<PlanNode>,
}

/// An artifact that a step reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputRef {
    /// The artifact's name.
    pub name: String,
    /// Whether the step also runs without it.
    pub optional: bool,
}

impl InputRef {
    /// Reads `name` or `name?`.
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix('?') {
            Some(name) => Self { name: name.to_owned(), optional: true },
            None => Self { name: text.to_owned(), optional: false },
        }
    }
}

/// The type of a step's artifact.
#[derive(Clone, Serialize)]
pub enum ArtifactType {
    /// Any text.
    Text,
    /// JSON that fits a schema.
    Json(#[serde(serialize_with = "super::plan_digest::serialize_schema")] Schema),
}

impl ArtifactType {
    /// Whether the artifact is text.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text)
    }

    /// Whether checking a value may take long, even if the value is small.
    pub fn takes_long(&self) -> bool {
        match self {
            Self::Text => false,
            Self::Json(schema) => schema.may_take_long(),
        }
    }

    /// The digest of the type: the schema with all schemas that it refers to.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Text => Digest::compute(b"text"),
            Self::Json(schema) => schema.digest(),
        }
    }
}

impl NodeKind {
    /// The kind as the journal stores it.
    pub fn kind(&self) -> StepKind {
        match self {
            Self::Agent(_) => StepKind::Agent,
            Self::Command(_) => StepKind::Command,
            Self::Call(_) => StepKind::Call,
            Self::Write(_) => StepKind::Write,
            Self::Approve(_) => StepKind::Approve,
            Self::Parallel(..) => StepKind::Parallel,
            Self::Repeat(_) => StepKind::Repeat,
            Self::Sequence(_) => StepKind::Sequence,
            Self::Pipeline(_) => StepKind::Pipeline,
        }
    }
}

impl PlanNode {
    /// The steps inside it. Those of an agent are the pipelines that its model may call.
    pub fn children(&self) -> Box<dyn Iterator<Item = &PlanNode> + '_> {
        match &self.kind {
            NodeKind::Parallel(nodes, _) | NodeKind::Sequence(nodes) => Box::new(nodes.iter()),
            NodeKind::Repeat(repeat) => Box::new(repeat.nodes.iter()),
            NodeKind::Pipeline(call) => Box::new(call.body.nodes.iter().chain(&call.body.finally)),
            NodeKind::Agent(agent) => Box::new(agent.pipelines.iter()),
            NodeKind::Command(_) | NodeKind::Call(_) | NodeKind::Write(_) | NodeKind::Approve(_) => {
                Box::new(std::iter::empty())
            }
        }
    }

    /// The steps inside it, as mutable references.
    pub(super) fn children_mut(&mut self) -> Box<dyn Iterator<Item = &mut PlanNode> + '_> {
        match &mut self.kind {
            NodeKind::Parallel(nodes, _) | NodeKind::Sequence(nodes) => Box::new(nodes.iter_mut()),
            NodeKind::Repeat(repeat) => Box::new(repeat.nodes.iter_mut()),
            NodeKind::Pipeline(call) => Box::new(call.body.nodes.iter_mut().chain(&mut call.body.finally)),
            NodeKind::Agent(agent) => Box::new(agent.pipelines.iter_mut()),
            NodeKind::Command(_) | NodeKind::Call(_) | NodeKind::Write(_) | NodeKind::Approve(_) => {
                Box::new(std::iter::empty())
            }
        }
    }

    /// The names of the artifacts that exist after the step has completed: its own artifact, the artifacts of the steps
    /// in a group, or the outputs of a called pipeline.
    pub fn artifact_names(&self) -> Vec<String> {
        match self.exported_names() {
            ExportedNames::Output(name) => vec![name.to_owned()],
            ExportedNames::OfChildren => self.exporting_children().flat_map(PlanNode::artifact_names).collect(),
            ExportedNames::OfCalledPipeline => self.called_outputs().map(str::to_owned).collect(),
            ExportedNames::Nothing => Vec::new(),
        }
    }

    /// The steps inside it whose artifacts later steps see. A model passes on nothing of the pipelines that it calls.
    pub(super) fn exporting_children(&self) -> impl Iterator<Item = &PlanNode> {
        let is_agent = matches!(self.kind, NodeKind::Agent(_));
        self.children().filter(move |_| !is_agent)
    }

    /// The names of the outputs of the pipeline that it calls; nothing if it calls none.
    fn called_outputs(&self) -> impl Iterator<Item = &str> {
        let call = match &self.kind {
            NodeKind::Pipeline(call) => Some(call),
            NodeKind::Agent(_)
            | NodeKind::Command(_)
            | NodeKind::Call(_)
            | NodeKind::Write(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_) => None,
        };
        call.into_iter().flat_map(|call| call.body.outputs.keys()).map(String::as_str)
    }

    /// The names of the artifacts that it reads, of its own iteration and of earlier iterations.
    pub fn read_artifacts(&self) -> impl Iterator<Item = &str> {
        let inputs = self.inputs.iter().map(|input| input.name.as_str());
        inputs.chain(self.previous_reads.iter().filter_map(|read| read.artifact.as_deref()))
    }

    /// Which names later steps see.
    pub fn exported_names(&self) -> ExportedNames<'_> {
        let output = self.output.as_ref().map(|output| output.name.as_str());
        ExportedNames::of_step(output, self.for_each.is_some(), matches!(self.kind, NodeKind::Pipeline(_)))
    }

    /// The workspace file of its artifact, as a relative path.
    pub fn artifact_path(&self) -> Option<String> {
        let output = self.output.as_ref().filter(|_| self.has_file)?;
        let as_text = self.for_each.is_none() && output.artifact_type.is_text();
        Some(crate::model::Artifact::file_path(&output.name, as_text))
    }
}
