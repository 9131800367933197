//! Converts the pipeline of a file into the tree of nodes that the interpreter runs: resolves names and fills in
//! defaults.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::model::agent::DEFAULT_MAX_OUTPUT_TOKENS;
use crate::model::pipeline::pipeline_tool_name;
use crate::model::step::{Access, Extract, OnError, Outcome, Step, StepAction};
use crate::model::{Agent, BuiltinTool, CliAgent, FailureClass, McpServerSpec, McpToolName, Pipeline, SandboxSpec};
use crate::template::{Templates, previous_reads};

use super::agent_tools::{AgentTools, ToolSources};
use super::node::{
    AgentNode, ApproveNode, ArtifactOutput, CallNode, CalledPipelineInput, CalledTool, CommandNode, ForEach, InputRef,
    NodeKind, PipelineNode, PlanBody, PlanNode, RepeatNode, StepLimits, WriteNode,
};
use super::pipeline_digest::pipeline_digest;
use super::plan::{Resolve, StepDefaults};
use super::planned_model::PlannedModel;

/// The default of `retry.max`: the tries of a request in total.
pub(super) const DEFAULT_TRIES: u32 = 3;
/// The default number of re-asks of a step.
pub(super) const DEFAULT_RE_ASKS: u32 = 2;
/// The default of `max_parallel`: how many items of a `for_each` run in parallel.
pub(super) const DEFAULT_MAX_PARALLEL: usize = 4;

/// Plans one pipeline file.
pub(super) struct Planner<'a, E> {
    pipeline: &'a Pipeline,
    defaults: &'a StepDefaults,
    /// The prompts that the steps use.
    templates: &'a Templates,
    resolve: &'a dyn Resolve<E>,
    /// Whether the artifacts of this pipeline have files in the workspace.
    has_artifact_files: bool,
    /// The number of pipelines that call this one, directly or indirectly.
    depth: usize,
}

/// The properties of the place of a step in its pipeline.
#[derive(Clone, Copy)]
struct StepContext {
    /// Whether the artifacts of the step have files in the workspace.
    has_file: bool,
    /// Whether the step is inside a loop of the pipeline.
    in_loop: bool,
}

/// The maximum nesting depth of pipeline calls.
const MAX_CALL_DEPTH: usize = 32;

impl<'a, E> Planner<'a, E> {
    /// Creates the planner for the pipeline of a run.
    pub(super) fn new(
        pipeline: &'a Pipeline,
        defaults: &'a StepDefaults,
        templates: &'a Templates,
        resolve: &'a dyn Resolve<E>,
    ) -> Self {
        Self { pipeline, defaults, templates, resolve, has_artifact_files: true, depth: 0 }
    }

    /// Plans everything in the file.
    pub(super) fn body(&self) -> Result<PlanBody, E> {
        let context = StepContext { has_file: self.has_artifact_files, in_loop: false };
        Ok(PlanBody {
            name: self.pipeline.name.clone(),
            description: self.pipeline.description.clone(),
            nodes: self.nodes(&self.pipeline.steps, context)?,
            finally: self.nodes(&self.pipeline.finally, context)?,
            budget: self.pipeline.budget.clone(),
            success: self.pipeline.success.clone(),
            outputs: self.pipeline.outputs.clone(),
        })
    }

    fn nodes(&self, steps: &[Step], context: StepContext) -> Result<Vec<PlanNode>, E> {
        steps.iter().map(|step| self.node(step, context)).collect()
    }

    fn node(&self, step: &Step, context: StepContext) -> Result<PlanNode, E> {
        let output = match &step.output {
            Some(name) => Some(ArtifactOutput { name: name.clone(), artifact_type: self.resolve.artifact_type(step)? }),
            None => None,
        };
        let for_each = step.for_each.as_ref().map(|list| ForEach {
            list: list.clone(),
            max_parallel: step.max_parallel.map_or(DEFAULT_MAX_PARALLEL, at_least_one),
            // Only the file decides this: `--continue-on-error` must not change the shape of the artifact.
            records_status: step.on_error == Some(OnError::Continue),
        });
        let children_context = StepContext {
            has_file: context.has_file && for_each.is_none(),
            in_loop: context.in_loop || step.repeat.is_some(),
        };
        let mut node = PlanNode {
            id: step.id.clone(),
            when: step.when.clone(),
            for_each,
            inputs: step.inputs.iter().map(|text| InputRef::parse(text)).collect(),
            previous_reads: if context.in_loop {
                previous_reads(&step.texts(), &|name| self.templates.prompt_text(name)).into_iter().collect()
            } else {
                Vec::new()
            },
            output,
            has_file: context.has_file,
            budget: step.budget.clone(),
            access: step.effective_access(&self.pipeline.agents),
            stops_on_failure: match step.on_error {
                Some(OnError::Stop) => true,
                Some(OnError::Continue) => false,
                None => !self.defaults.continue_on_error,
            },
            kind: self.kind(step, children_context)?,
        };
        node.access = node.children().map(|child| child.access).fold(node.access, Access::max);
        Ok(node)
    }

    fn kind(&self, step: &Step, context: StepContext) -> Result<NodeKind, E> {
        let Some(kind) = step.action() else {
            return Err(self.resolve.planning_error(format!("step `{}` has no kind", step.id)));
        };
        Ok(match kind {
            StepAction::Agent { agent, prompt } => NodeKind::Agent(Box::new(self.agent(step, agent, prompt)?)),
            StepAction::Command(line) => NodeKind::Command(Box::new(CommandNode {
                line: line.clone(),
                env: step.env.clone(),
                cwd: step.cwd.clone(),
                stdin: step.stdin.clone(),
                project_root: self.defaults.project_root.clone(),
                success_codes: step.expect.as_ref().map_or_else(|| vec![0], |expect| expect.exit_code.clone()),
                parses_stdout: step.schema.is_some(),
                // orch confines a command only if the step has a `sandbox`, even if `orch.yaml` has one.
                sandbox: step.sandbox.as_ref().and_then(|own| {
                    let access = step.effective_access(&self.pipeline.agents);
                    SandboxSpec::resolve(own, &self.defaults.sandbox, access)
                }),
                limits: self.limits(step, 1, &[FailureClass::CommandFailed, FailureClass::Timeout]),
            })),
            StepAction::Call(name) => NodeKind::Call(Box::new(self.tool_call(step, name)?)),
            StepAction::Write(files) => {
                NodeKind::Write(WriteNode { files: files.to_owned(), source_steps: Vec::new() })
            }
            StepAction::Approve(message) => NodeKind::Approve(ApproveNode {
                message: message.to_owned(),
                on_reject: step.on_reject.unwrap_or(Outcome::Fail),
                timeout: step.timeout.map(|duration| duration.0),
            }),
            StepAction::Parallel(steps) => {
                NodeKind::Parallel(self.nodes(steps, context)?, step.max_parallel.map_or(steps.len(), at_least_one))
            }
            StepAction::Sequence(steps) => NodeKind::Sequence(self.nodes(steps, context)?),
            StepAction::Repeat(repeat) => NodeKind::Repeat(RepeatNode {
                until: repeat.until.clone(),
                max: repeat.max,
                on_max_iterations: repeat.on_max_iterations.unwrap_or(Outcome::Fail),
                nodes: self.nodes(&repeat.steps, context)?,
            }),
            StepAction::Pipeline(file) => {
                let with = step.with.iter().map(|(name, expression)| (name.clone(), expression.0.clone())).collect();
                NodeKind::Pipeline(Box::new(self.call(&step.id, file, with)?))
            }
        })
    }

    /// Plans the call of a tool.
    fn tool_call(&self, step: &Step, name: &str) -> Result<CallNode, E> {
        let tool = match (step.called_builtin(), step.called_mcp_tool()) {
            (Some(tool), _) => {
                let own = step.sandbox.clone().unwrap_or_default();
                let sandbox = SandboxSpec::resolve(&own, &self.defaults.sandbox, tool.access());
                let project_network = self.defaults.sandbox.network.clone().filter(|_| tool == BuiltinTool::Fetch);
                CalledTool::Builtin { tool, sandbox, project_network }
            }
            (None, Some(McpToolName { server, tool })) => {
                let server = self.defaults.mcp.get(&server).cloned();
                let message = || format!("step `{}` calls `{name}`, and `orch.yaml` has no such server", step.id);
                CalledTool::Mcp { server: server.ok_or_else(|| self.resolve.planning_error(message()))?, tool }
            }
            (None, None) => {
                let message = format!("step `{}` calls `{name}`, which is no tool", step.id);
                return Err(self.resolve.planning_error(message));
            }
        };
        Ok(CallNode {
            tool,
            args: step.args.clone(),
            has_schema: step.schema.is_some(),
            limits: self.limits(step, 1, &[FailureClass::ProviderUnavailable, FailureClass::Timeout]),
        })
    }

    /// The pipelines that the model of an agent may call, each as a node whose id is the name of its tool.
    fn called_pipelines(&self, agent: &Agent) -> Result<Vec<PlanNode>, E> {
        let to_node = |file: &String| {
            let id = pipeline_tool_name(file);
            let call = self.call(&id, file, IndexMap::new())?;
            Ok(PlanNode::called_by_model(id, call))
        };
        agent.pipelines.iter().map(to_node).collect()
    }

    /// The MCP servers whose tools an agent may call, in the order of `orch.yaml`.
    fn servers(&self, agent: &Agent) -> Vec<McpServerSpec> {
        let grants = agent.mcp_grants();
        let is_granted = |server: &&McpServerSpec| grants.iter().any(|grant| grant.server == server.name);
        self.defaults.mcp.values().filter(is_granted).cloned().collect()
    }

    fn agent(&self, step: &Step, name: &str, prompt: &str) -> Result<AgentNode, E> {
        let agent = self.pipeline.agents.get(name);
        let access = step.effective_access(&self.pipeline.agents);
        let sandbox = || {
            let own = agent.and_then(|agent| agent.sandbox.clone()).unwrap_or_default();
            SandboxSpec::resolve(&own, &self.defaults.sandbox, access)
        };
        let mut pipelines = Vec::new();
        let mut tools = None;
        if let Some(agent) = agent.filter(|agent| agent.cli_kind().is_none()) {
            pipelines = self.called_pipelines(agent)?;
            let sources = ToolSources {
                project_network: self.defaults.sandbox.network.as_ref(),
                servers: &self.defaults.mcp,
                pipelines: &pipelines,
                pipeline_digest: pipeline_digest(&agent.pipelines, self.resolve, self.templates)?,
            };
            tools = AgentTools::from_agent(agent, sandbox(), sources).map(Arc::new);
        }
        let program = agent.and_then(|agent| agent.cli_agent(access));
        let grants = agent.map(Agent::mcp_grants).unwrap_or_default();
        let servers = self.defaults.mcp.values().filter_map(|server| server.for_cli_agent(&grants));
        // A CLI agent may have tools of its own with a dot in their names.
        let is_own_tool = |name: &String| {
            let server = name.split_once('.').map(|(server, _)| server);
            server.is_none_or(|server| !self.defaults.mcp.contains_key(server))
        };
        let with_servers = |program: CliAgent| CliAgent {
            tools: program.tools.into_iter().filter(is_own_tool).collect(),
            mcp: servers.collect(),
            sandbox: sandbox(),
            ..program
        };
        let primary_model = match program.map(with_servers) {
            Some(program) => PlannedModel {
                estimate: agent.and_then(|agent| agent.estimate).unwrap_or_default(),
                ..PlannedModel::from(program)
            },
            None => self.resolve.model(agent.map_or("auto", |agent| agent.model.as_str()))?,
        };
        // A CLI agent with tools may have changed something before it failed, so orch does not retry it by default.
        let tries = if primary_model.program.as_ref().is_some_and(CliAgent::has_tools) { 1 } else { DEFAULT_TRIES };
        let is_model = primary_model.program.is_none();
        let fallbacks = step.fallback.iter().map(|name| self.resolve.model(name));
        let mut models = std::iter::once(Ok(primary_model)).chain(fallbacks).collect::<Result<Vec<_>, _>>()?;
        let options = agent.map(Agent::options).unwrap_or_default();
        if let Some(own_model) = models.first().map(|model| model.reference.clone()) {
            for model in &mut models {
                let options = options.clone().for_model(&own_model, &model.reference);
                model.price_option = options.price_option().map(str::to_owned);
            }
        }
        let default_limit = self.defaults.max_output_tokens;
        Ok(AgentNode {
            agent: name.to_owned(),
            models,
            temperature: agent.and_then(|agent| agent.temperature),
            options,
            max_output_tokens: agent.map_or(DEFAULT_MAX_OUTPUT_TOKENS, |agent| agent.reply_limit(default_limit)),
            tools,
            servers: agent.map(|agent| self.servers(agent)).unwrap_or_default(),
            pipelines,
            budget: agent.and_then(|agent| agent.budget.clone()),
            prompt: prompt.to_owned(),
            message: step.message.clone(),
            limits: self.agent_limits(step, tries, is_model),
            re_asks: step.re_ask.or(self.defaults.re_ask).unwrap_or(DEFAULT_RE_ASKS),
            strict: step.extract == Some(Extract::Strict),
            accept: step.accept.clone(),
            writers: Vec::new(),
        })
    }

    fn agent_limits(&self, step: &Step, tries: u32, is_model: bool) -> StepLimits {
        let default_classes = [
            FailureClass::RateLimited,
            FailureClass::ProviderUnavailable,
            FailureClass::Timeout,
            FailureClass::UnknownStop,
        ];
        let retry = step.retry.as_ref();
        let sets_retry = retry.is_some_and(|retry| retry.max.is_some() || retry.backoff.is_some());
        StepLimits { waits_for_provider: is_model && !sets_retry, ..self.limits(step, tries, &default_classes) }
    }

    fn limits(&self, step: &Step, tries: u32, default_classes: &[FailureClass]) -> StepLimits {
        let retry = step.retry.clone().unwrap_or_default();
        StepLimits {
            timeout: step.timeout.map(|duration| duration.0).or(self.defaults.timeout),
            deadline: step.deadline.map(|duration| duration.0),
            tries: retry.max.unwrap_or(tries).max(1),
            backoff: retry.backoff.map(|duration| duration.0),
            retry_on: retry.on.unwrap_or_else(|| default_classes.to_vec()),
            waits_for_provider: false,
        }
    }

    /// Plans the call of a pipeline by the step with this id.
    fn call(&self, id: &str, file: &str, with: IndexMap<String, String>) -> Result<PipelineNode, E> {
        if self.depth >= MAX_CALL_DEPTH {
            return Err(self.resolve.planning_error(format!("step `{id}` calls pipelines too deeply")));
        }
        let (pipeline, resolve) = self.resolve.pipeline(file)?;
        let planner = Planner {
            pipeline,
            defaults: self.defaults,
            templates: self.templates,
            resolve: &*resolve,
            has_artifact_files: false,
            depth: self.depth + 1,
        };
        let mut inputs = IndexMap::new();
        for (name, schema) in &pipeline.inputs {
            let (schema, default) = (resolve.input(name, schema)?, schema.get("default").cloned());
            inputs.insert(name.clone(), CalledPipelineInput { schema, default });
        }
        Ok(PipelineNode { body: planner.body()?, with, inputs })
    }
}

fn at_least_one(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).max(1)
}
