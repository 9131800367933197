//! The steps of a plan: a tree of plain data plus compiled schemas.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;

use crate::model::budget::Budget;
use crate::model::event::StepKind;
use crate::model::step::{Accept, Access, CommandLine, Outcome};
use crate::model::{Class, Digest, ModelRef, Program, StepKey, TurnEstimate};
use crate::schema::Schema;

/// Steps with what is done after them: a pipeline file, ready to run.
#[derive(Clone)]
pub struct PlanBody {
    /// The pipeline's name.
    pub name: String,
    /// The steps, in order.
    pub nodes: Vec<PlanNode>,
    /// What is done at the end, whatever happened.
    pub finally: Vec<PlanNode>,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// The expression that decides about success.
    pub success: Option<String>,
    /// What is given to a caller: names with expressions.
    pub outputs: IndexMap<String, String>,
}

/// One step ready to run.
#[derive(Clone)]
pub struct PlanNode {
    /// The step's id.
    pub id: String,
    /// The condition under which the step runs.
    pub when: Option<String>,
    /// The list that it runs over.
    pub each: Option<Each>,
    /// The artifacts that it reads.
    pub inputs: Vec<InputRef>,
    /// What it produces.
    pub output: Option<ArtifactOutput>,
    /// Whether its artifact is shown as a file: not inside an item or a called pipeline.
    pub shown: bool,
    /// What it does to the workspace.
    pub access: Access,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// Whether a failure stops what comes after.
    pub stops: bool,
    /// What it is.
    pub kind: NodeKind,
}

/// The list that a step runs over.
#[derive(Clone)]
pub struct Each {
    /// The expression that gives the list.
    pub list: String,
    /// How many items run at once.
    pub limit: usize,
    /// Whether failed items stand in the output beside the others.
    pub records: bool,
}

/// What a step produces.
#[derive(Clone)]
pub struct ArtifactOutput {
    /// The artifact's name.
    pub name: String,
    /// What the artifact must be; with `for_each`, what each item must be.
    pub contract: Contract,
}

/// What a step is.
#[derive(Clone)]
pub enum NodeKind {
    /// A model is asked.
    Agent(Box<AgentNode>),
    /// A command is run.
    Command(Box<CommandNode>),
    /// Files are written.
    Write(WriteNode),
    /// A person is asked.
    Approve(ApproveNode),
    /// Steps side by side.
    Parallel(Vec<PlanNode>, usize),
    /// Steps again and again.
    Repeat(RepeatNode),
    /// Steps one after another.
    Sequence(Vec<PlanNode>),
    /// Another pipeline.
    Pipeline(Box<PipelineNode>),
}

/// An agent's part of a step.
#[derive(Clone)]
pub struct AgentNode {
    /// The agent's name.
    pub agent: String,
    /// The models to ask: the agent's, then the fallbacks.
    pub models: Vec<PlannedModel>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Upper bound of a reply in tokens.
    pub max_output_tokens: u32,
    /// What the agent may spend in all its steps together.
    pub budget: Option<Budget>,
    /// The prompt's file name.
    pub prompt: String,
    /// The inline template of the user message.
    pub message: Option<String>,
    /// When and how often it is tried again.
    pub limits: StepLimits,
    /// How often a reply that does not validate is sent back.
    pub re_asks: u32,
    /// Whether replies must be exact.
    pub strict: bool,
    /// What must hold of a reply beyond its schema.
    pub accept: Vec<Accept>,
    /// The steps after it that write files of its artifact.
    pub written: Vec<WrittenBy>,
}

/// A step that writes the files of an agent's artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrittenBy {
    /// The step.
    pub step: StepKey,
    /// The members that lead from the artifact to the list of files.
    pub members: Vec<String>,
}

/// How long a step may take, and how often it is tried.
#[derive(Clone, Debug)]
pub struct StepLimits {
    /// How long one request or command may take.
    pub timeout: Option<Duration>,
    /// How long the whole step may take.
    pub deadline: Option<Duration>,
    /// Tries in all.
    pub tries: u32,
    /// The first pause between two tries.
    pub backoff: Option<Duration>,
    /// The classes of failure that are tried again.
    pub retry_on: Vec<Class>,
    /// Whether a provider that is unavailable is waited for longer than `tries` and `backoff` say: the
    /// pipeline says neither, and the step asks a model.
    pub patient: bool,
}

impl StepLimits {
    /// Whether it is the deadline that ends a first try.
    pub(super) fn deadline_is_less(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.timeout.is_none_or(|timeout| deadline < timeout))
    }
}

/// A command's part of a step.
#[derive(Clone)]
pub struct CommandNode {
    /// The command as written, with templates.
    pub line: CommandLine,
    /// Names of variables that it may see.
    pub env: Vec<String>,
    /// The folder in which it runs, a template.
    pub cwd: Option<String>,
    /// The expression of its standard input.
    pub stdin: Option<String>,
    /// Where the project lies: `project.root` of its templates.
    pub project: Arc<str>,
    /// The exit codes that count as success; empty for all.
    pub success: Vec<u8>,
    /// Whether its standard output is the artifact.
    pub takes_stdout: bool,
    /// When and how often it is tried again.
    pub limits: StepLimits,
}

/// The part of a step that writes files.
#[derive(Clone)]
pub struct WriteNode {
    /// The expression that gives the files.
    pub files: String,
    /// The steps of agents whose artifacts the files are a part of, as far as the pipeline's text tells.
    pub from: Vec<StepKey>,
}

/// The part of a step that asks a person.
#[derive(Clone)]
pub struct ApproveNode {
    /// The template of what is shown.
    pub message: String,
    /// What a no means.
    pub on_reject: Outcome,
    /// How long an answer is waited for.
    pub timeout: Option<Duration>,
}

/// A loop.
#[derive(Clone)]
pub struct RepeatNode {
    /// The condition that ends it.
    pub until: Option<String>,
    /// Rounds at most.
    pub max: u32,
    /// What it means that the condition never held.
    pub on_max_iterations: Outcome,
    /// What is done in a round.
    pub nodes: Vec<PlanNode>,
}

/// A pipeline that is called.
#[derive(Clone)]
pub struct PipelineNode {
    /// What is run.
    pub body: PlanBody,
    /// Its inputs: names with expressions over the caller's values.
    pub with: IndexMap<String, String>,
    /// What its inputs must be.
    pub inputs: IndexMap<String, InputContract>,
}

/// What an input of a called pipeline must be.
#[derive(Clone)]
pub struct InputContract {
    /// Its schema.
    pub schema: Schema,
    /// What it is when nothing is given.
    pub default: Option<Value>,
}

/// A model, or a program in its place, with what the engine must know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedModel {
    /// The model.
    pub reference: ModelRef,
    /// The dialect in which it is asked.
    pub dialect: String,
    /// What tells the weights of a file from others: the digest of its content.
    pub weights: Option<String>,
    /// The program that stands in the model's place, if one does.
    pub program: Option<Program>,
    /// What one turn of the program takes at most, as its agent says: no part of a recipe.
    pub estimate: TurnEstimate,
}

impl PlannedModel {
    /// A model that is asked in a dialect.
    pub fn of(reference: ModelRef, dialect: &str) -> Self {
        Self { reference, dialect: dialect.to_owned(), weights: None, program: None, estimate: TurnEstimate::default() }
    }
}

impl From<Program> for PlannedModel {
    fn from(program: Program) -> Self {
        // What a program makes of a schema is its own affair: the prompt shows it all the same.
        let (reference, dialect) = (program.reference(), program.kind.as_str().to_owned());
        Self { reference, dialect, weights: None, program: Some(program), estimate: TurnEstimate::default() }
    }
}

/// An artifact that a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRef {
    /// The artifact's name.
    pub name: String,
    /// Whether the step runs without it.
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

/// What a step's artifact must be.
#[derive(Clone)]
pub enum Contract {
    /// A string, as it comes.
    Text,
    /// JSON that fits a schema.
    Json(Schema),
}

impl Contract {
    /// Whether the artifact is text.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text)
    }

    /// Whether to check a value may take long, however small the value is.
    pub fn takes_long(&self) -> bool {
        match self {
            Self::Text => false,
            Self::Json(schema) => schema.takes_long(),
        }
    }

    /// The digest of the contract: the schema with everything it refers to.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Text => Digest::of(b"text"),
            Self::Json(schema) => schema.digest(),
        }
    }
}

impl NodeKind {
    /// The kind as journals name it.
    pub fn name(&self) -> StepKind {
        match self {
            Self::Agent(_) => StepKind::Agent,
            Self::Command(_) => StepKind::Command,
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
    /// The steps inside it.
    pub fn children(&self) -> Box<dyn Iterator<Item = &PlanNode> + '_> {
        match &self.kind {
            NodeKind::Parallel(nodes, _) | NodeKind::Sequence(nodes) => Box::new(nodes.iter()),
            NodeKind::Repeat(repeat) => Box::new(repeat.nodes.iter()),
            NodeKind::Pipeline(call) => Box::new(call.body.nodes.iter().chain(&call.body.finally)),
            NodeKind::Agent(_) | NodeKind::Command(_) | NodeKind::Write(_) | NodeKind::Approve(_) => {
                Box::new(std::iter::empty())
            }
        }
    }

    /// The same, to be changed.
    pub(super) fn children_mut(&mut self) -> Box<dyn Iterator<Item = &mut PlanNode> + '_> {
        match &mut self.kind {
            NodeKind::Parallel(nodes, _) | NodeKind::Sequence(nodes) => Box::new(nodes.iter_mut()),
            NodeKind::Repeat(repeat) => Box::new(repeat.nodes.iter_mut()),
            NodeKind::Pipeline(call) => Box::new(call.body.nodes.iter_mut().chain(&mut call.body.finally)),
            NodeKind::Agent(_) | NodeKind::Command(_) | NodeKind::Write(_) | NodeKind::Approve(_) => {
                Box::new(std::iter::empty())
            }
        }
    }

    /// The artifacts that are there once the step completed: its own, else those of a group's steps,
    /// else what a called pipeline gives.
    pub fn names(&self) -> Vec<String> {
        if let Some(output) = &self.output {
            return vec![output.name.clone()];
        }
        if self.each.is_some() {
            return Vec::new();
        }
        match &self.kind {
            NodeKind::Pipeline(call) => call.body.outputs.keys().cloned().collect(),
            NodeKind::Parallel(..)
            | NodeKind::Sequence(_)
            | NodeKind::Repeat(_)
            | NodeKind::Agent(_)
            | NodeKind::Command(_)
            | NodeKind::Write(_)
            | NodeKind::Approve(_) => self.children().flat_map(PlanNode::names).collect(),
        }
    }

    /// The file that shows its artifact, relative to the workspace.
    pub fn path(&self) -> Option<String> {
        let output = self.output.as_ref().filter(|_| self.shown)?;
        let as_text = self.each.is_none() && output.contract.is_text();
        Some(crate::model::Artifact::path_of(&output.name, as_text))
    }
}
