//! The plan of a run: a checked pipeline with every name resolved.
//!
//! A plan is plain data with compiled schemas and templates. It never reads files, the environment or the clock.

use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::files::PathIndex;
use crate::model::budget::{Budget, BudgetScope, Limit};
use crate::model::effect::CallKind;
use crate::model::event::PlannedStep;
use crate::model::step::Step;
use crate::model::{
    BuiltinTool, CliAgentKind, Digest, Failure, McpServerSpec, McpTransport, Pipeline, Sandbox, SandboxSpec, StepKey,
};
use crate::schema::Schema;
use crate::template::Templates;

use super::artifact_flow;
use super::node::{AgentNode, ArtifactType, CalledTool, NodeKind, PlanBody, PlanNode};
use super::plan_budgets::collect_budgets;
use super::plan_index::{PlanIndex, step_places};
use super::plan_remaker::PlanRemaker;
use super::planned_model::PlannedModel;
use super::planner::Planner;
use super::step_execution::digest;

/// A pipeline ready to run.
pub struct Plan {
    /// The pipeline to run.
    pub body: PlanBody,
    /// The budget of the run.
    pub budget: Option<Budget>,
    /// The templates of every prompt that its steps use.
    pub templates: Arc<Templates>,
    /// The input values of the run.
    pub inputs: Map<String, Value>,
    /// The project's folder, which confined programs may read; empty if it is unknown.
    pub project_root: Arc<str>,
    /// The workspace files that no step may write.
    reserved_names: Arc<ReservedNames>,
    index: OnceLock<PlanIndex>,
    /// The digest of the plan, after something has needed it.
    pub(super) digest: OnceLock<Result<Digest, Failure>>,
    /// Makes the plan again, if every branch runs as in another process.
    pub(super) remaker: Option<Arc<PlanRemaker>>,
}

/// Settings from the command line and `orch.yaml` for steps that do not set them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepDefaults {
    /// `--continue-on-error`.
    pub continue_on_error: bool,
    /// `defaults.timeout`.
    pub timeout: Option<Duration>,
    /// `defaults.re_ask`.
    pub re_ask: Option<u32>,
    /// `defaults.max_output_tokens`.
    pub max_output_tokens: Option<u32>,
    /// `budget` of `orch.yaml`, used if the pipeline has none.
    pub budget: Option<Budget>,
    /// `--budget`, which replaces the run's budget.
    pub budget_override: Option<Budget>,
    /// The project's folder, for commands.
    pub project_root: Arc<str>,
    /// `sandbox` of `orch.yaml`.
    pub sandbox: Sandbox,
    /// `mcp` of `orch.yaml`: the MCP servers by name.
    pub mcp: IndexMap<String, McpServerSpec>,
}

/// Resolves names in a pipeline file that refer to definitions outside it.
pub trait Resolve<E> {
    /// Resolves the name of a model: `auto`, an alias, or `provider/model`.
    fn model(&self, name: &str) -> Result<PlannedModel, E>;
    /// Returns the type of a step's artifact; any JSON if steps of this kind have no `schema`.
    fn artifact_type(&self, step: &Step) -> Result<ArtifactType, E>;
    /// Returns the compiled schema of a pipeline's input.
    fn input(&self, name: &str, schema: &Map<String, Value>) -> Result<Schema, E>;
    /// Returns a pipeline that a step calls, and the resolver of its names.
    fn pipeline(&self, file: &str) -> Result<(&Pipeline, Box<dyn Resolve<E> + '_>), E>;
    /// Returns the error for a step that can't be planned. `check` reports such steps earlier.
    fn planning_error(&self, message: String) -> E;
}

impl Plan {
    /// Plans a pipeline that passed the check.
    pub fn new<E>(
        pipeline: &Pipeline,
        inputs: Map<String, Value>,
        templates: Templates,
        defaults: &StepDefaults,
        resolve: &dyn Resolve<E>,
    ) -> Result<Self, E> {
        let mut body = Planner::new(pipeline, defaults, &templates, resolve).body()?;
        artifact_flow::annotate_writes(&mut body);
        let budget =
            defaults.budget_override.clone().or_else(|| body.budget.clone()).or_else(|| defaults.budget.clone());
        let (templates, project_root) = (Arc::new(templates), defaults.project_root.clone());
        let no_names = ReservedNames::new(PathIndex::default(), PathIndex::default());
        let (reserved_names, index) = (Arc::new(no_names), OnceLock::new());
        let digest = OnceLock::new();
        let mut plan =
            Self { body, budget, templates, inputs, project_root, reserved_names, index, digest, remaker: None };
        let artifacts = PathIndex::new(plan.artifact_paths());
        plan.reserved_names = Arc::new(ReservedNames::new(artifacts, PathIndex::default()));
        Ok(plan)
    }

    /// Returns the plan for a workspace that contains these project files, which no step may write.
    #[must_use]
    pub fn with_project_files(self, project_files: Vec<String>) -> Self {
        let artifacts = self.reserved_names.artifacts.clone();
        let reserved_names = Arc::new(ReservedNames::new(artifacts, PathIndex::new(project_files)));
        Self { reserved_names, digest: OnceLock::new(), ..self }
    }

    /// The workspace files that no step may write: the files of artifacts and of the project.
    pub(super) fn reserved_names(&self) -> &Arc<ReservedNames> {
        &self.reserved_names
    }

    /// Visits every step with its key, in the order of the file. The boolean is true for a step inside a loop or
    /// `for_each`, or in a pipeline that a model may call: it may run any number of times.
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(StepKey, &'a PlanNode, bool)) {
        fn visit_node<'a>(
            node: &'a PlanNode,
            parent: Option<&StepKey>,
            runs_repeatedly: bool,
            visit: &mut dyn FnMut(StepKey, &'a PlanNode, bool),
        ) {
            let step = StepKey::child_of(parent, &node.id);
            visit(step.clone(), node, runs_repeatedly);
            let repeats_children = matches!(node.kind, NodeKind::Repeat(_) | NodeKind::Agent(_));
            let runs_repeatedly = runs_repeatedly || node.for_each.is_some() || repeats_children;
            node.children().for_each(|child| visit_node(child, Some(&step), runs_repeatedly, visit));
        }
        self.body.nodes.iter().chain(&self.body.finally).for_each(|node| visit_node(node, None, false, visit));
    }

    /// The steps for the journal's list at the start of a run, including the steps inside groups.
    pub fn planned_steps(&self) -> Vec<PlannedStep> {
        let mut steps = Vec::new();
        self.visit(&mut |step, node, runs_repeatedly| {
            let (agent, model) = match &node.kind {
                NodeKind::Agent(agent) => {
                    (agent.agent.clone(), agent.models.first().map(|model| model.reference.clone()))
                }
                NodeKind::Command(_)
                | NodeKind::Call(_)
                | NodeKind::Write(_)
                | NodeKind::Approve(_)
                | NodeKind::Parallel(..)
                | NodeKind::Repeat(_)
                | NodeKind::Sequence(_)
                | NodeKind::Pipeline(_) => (String::new(), None),
            };
            let output = node.output.as_ref().map(|output| output.name.clone());
            steps.push(PlannedStep { step, kind: node.kind.kind(), agent, model, output, many: runs_repeatedly });
        });
        steps
    }

    /// The index of the steps. The first look-up creates it.
    fn index(&self) -> &PlanIndex {
        self.index.get_or_init(|| {
            let (mut index, mut outermost) = (PlanIndex::default(), None);
            self.visit(&mut |step, node, runs_repeatedly| {
                // `visit` reaches a loop before the steps inside the loop.
                if !runs_repeatedly {
                    outermost = Some(step.clone());
                }
                if let Some(output) = &node.output {
                    index.producers.entry(output.name.clone()).or_insert_with(|| step.clone());
                    if let (Some(path), Entry::Vacant(entry)) =
                        (node.artifact_path(), index.artifact_paths.entry(output.name.clone()))
                    {
                        entry.insert(path);
                    }
                }
                let restart_point = outermost.clone().unwrap_or_else(|| step.clone());
                index.restart_points.entry(step).or_insert(restart_point);
            });
            index.places = step_places(&self.body);
            index
        })
    }

    /// A step by its key, without items and iterations.
    pub(super) fn node(&self, step: &StepKey) -> Option<&PlanNode> {
        let (first, inner) = self.index().places.get(step)?.split_first()?;
        let node = self.body.nodes.iter().chain(&self.body.finally).nth(*first)?;
        inner.iter().try_fold(node, |node, position| node.children().nth(*position))
    }

    /// The workspace file of an artifact.
    pub(super) fn artifact_path(&self, name: &str) -> Option<String> {
        self.index().artifact_paths.get(name).cloned()
    }

    /// The step that produces an artifact, or the loop around that step.
    pub(super) fn producer(&self, name: &str) -> Option<StepKey> {
        self.index().producers.get(name).map(|step| self.restart_point(step))
    }

    /// The step itself, or the outermost loop around it, since `--from` with a step of a loop repeats the whole loop. For
    /// a step of a pipeline that a model called, the step with the model.
    pub(super) fn restart_point(&self, wanted: &StepKey) -> StepKey {
        self.index().restart_points.get(wanted).unwrap_or(wanted).clone()
    }

    /// Every budget of the plan: of the run, of steps, of agents, and of called pipelines.
    pub fn budgets(&self) -> Vec<Limit> {
        let mut limits: Vec<Limit> = self.budget.clone().map(|budget| (BudgetScope::Run, budget)).into_iter().collect();
        collect_budgets(&self.body, None, &mut limits);
        limits
    }

    /// Every agent step, with its agent.
    pub(super) fn agents(&self) -> Vec<(StepKey, &AgentNode)> {
        let mut agents = Vec::new();
        self.visit(&mut |step, node, _| {
            if let NodeKind::Agent(agent) = &node.kind {
                agents.push((step, &**agent));
            }
        });
        agents
    }

    /// Every model that a step may call, with the step.
    pub fn models(&self) -> Vec<(StepKey, &PlannedModel)> {
        let agents = self.agents().into_iter();
        agents.flat_map(|(step, agent)| agent.models.iter().map(move |model| (step.clone(), model))).collect()
    }

    /// The MCP servers whose tools a step may call, each with the step.
    pub fn mcp_servers(&self) -> Vec<(StepKey, &McpServerSpec)> {
        let mut servers = Vec::new();
        self.visit(&mut |step, node, _| match &node.kind {
            NodeKind::Agent(agent) => servers.extend(agent.servers.iter().map(|server| (step.clone(), server))),
            NodeKind::Call(call) => {
                if let CalledTool::Mcp { server, .. } = &call.tool {
                    servers.push((step, server));
                }
            }
            NodeKind::Command(_)
            | NodeKind::Write(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_)
            | NodeKind::Pipeline(_) => {}
        });
        servers
    }

    /// The sandboxes of commands, CLI agents, MCP servers and the tool `shell`. Leaves out the steps whose calls of a
    /// kind `is_replayed`, since their programs do not run.
    pub fn sandboxes(&self, is_replayed: &dyn Fn(&StepKey, CallKind) -> bool) -> Vec<PlannedSandbox<'_>> {
        let mut sandboxes = Vec::new();
        self.visit(&mut |step, node, _| match &node.kind {
            NodeKind::Command(command) if !is_replayed(&step, CallKind::Command) => {
                let planned = |sandbox| PlannedSandbox { step, sandbox, needs_hosts: false };
                sandboxes.extend(command.sandbox.as_ref().map(planned));
            }
            NodeKind::Agent(agent) if !is_replayed(&step, CallKind::Turn) => {
                for program in agent.models.iter().filter_map(|model| model.program.as_ref()) {
                    let needs_hosts = matches!(program.kind, CliAgentKind::Claude | CliAgentKind::Codex);
                    let planned = |sandbox| PlannedSandbox { step: step.clone(), sandbox, needs_hosts };
                    sandboxes.extend(program.sandbox.as_ref().map(planned));
                }
                let tools = agent.tools.as_deref().filter(|tools| tools.includes(BuiltinTool::Shell));
                let planned = |sandbox| PlannedSandbox { step: step.clone(), sandbox, needs_hosts: false };
                sandboxes.extend(tools.and_then(|tools| tools.sandbox.as_ref()).map(planned));
            }
            NodeKind::Call(call) => {
                if let CalledTool::Builtin { tool: BuiltinTool::Shell, sandbox: Some(sandbox), .. } = &call.tool
                    && !is_replayed(&step, CallKind::Tool(BuiltinTool::Shell))
                {
                    sandboxes.push(PlannedSandbox { step, sandbox, needs_hosts: false });
                }
            }
            NodeKind::Command(_)
            | NodeKind::Agent(_)
            | NodeKind::Write(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_)
            | NodeKind::Pipeline(_) => {}
        });
        let servers = self.mcp_servers().into_iter();
        sandboxes.extend(servers.filter_map(|(step, server)| {
            let McpTransport::Stdio { sandbox: Some(sandbox), .. } = &server.transport else { return None };
            let is_replayed = is_replayed(&step, CallKind::McpTool(server.call_kind()));
            (!is_replayed).then_some(PlannedSandbox { step, sandbox, needs_hosts: false })
        }));
        sandboxes
    }

    /// The names of the environment variables that commands, CLI agents, MCP servers and the tool `shell` receive.
    pub fn variables(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        self.visit(&mut |_, node, _| match &node.kind {
            NodeKind::Agent(agent) => {
                let programs = agent.models.iter().filter_map(|model| model.program.as_ref());
                names.extend(programs.flat_map(|program| &program.env).map(String::as_str));
                names.extend(agent.tools.iter().flat_map(|tools| &tools.env).map(String::as_str));
            }
            NodeKind::Command(command) => names.extend(command.env.iter().map(String::as_str)),
            NodeKind::Call(_)
            | NodeKind::Write(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_)
            | NodeKind::Pipeline(_) => {}
        });
        names.extend(self.mcp_servers().into_iter().flat_map(|(_, server)| server.variables()));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The workspace files of the plan's artifacts, as relative paths.
    pub fn artifact_paths(&self) -> Vec<String> {
        let mut files = Vec::new();
        self.visit(&mut |_, node, _| files.extend(node.artifact_path()));
        files
    }
}

/// A program that orch confines.
#[derive(Clone, Debug)]
pub struct PlannedSandbox<'a> {
    /// The step that starts the program.
    pub step: StepKey,
    /// The sandbox of the program.
    pub sandbox: &'a SandboxSpec,
    /// Whether the program connects to its provider even if the sandbox has no network.
    pub needs_hosts: bool,
}

/// The workspace files that `write` may not change.
#[derive(Clone, Debug)]
pub(super) struct ReservedNames {
    /// The files of the run's artifacts.
    pub(super) artifacts: PathIndex,
    /// The files of the run's own project.
    pub(super) project: PathIndex,
    /// The digest of all paths, for the fingerprints of the steps whose artifacts become files.
    pub(super) digest: Digest,
}

impl ReservedNames {
    fn new(artifacts: PathIndex, project: PathIndex) -> Self {
        let digest = digest(&json!([&artifacts.paths()[..], &project.paths()[..]]));
        Self { artifacts, project, digest }
    }
}
