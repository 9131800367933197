//! Turns a pipeline as written into the tree of nodes that runs, with names resolved and defaults filled in.

use indexmap::IndexMap;

use crate::model::agent::MAX_OUTPUT_TOKENS;
use crate::model::step::{Access, Extract, OnError, Outcome, Step, StepAction as Written};
use crate::model::{Class, Pipeline};

use super::node::{
    AgentNode, ApproveNode, ArtifactOutput, CommandNode, Each, InputContract, InputRef, NodeKind, PipelineNode,
    PlanBody, PlanNode, PlannedModel, RepeatNode, StepLimits, WriteNode,
};
use super::plan::{Resolve, StepDefaults};

/// The default of `retry.max`: the tries of a request in total.
pub(super) const TRIES: u32 = 3;
/// The default number of re-asks of a step.
pub(super) const RE_ASKS: u32 = 2;
/// The default of `max_parallel`: how many items of a `for_each` run in parallel.
pub(super) const MAX_PARALLEL: usize = 4;

/// Plans one pipeline file.
pub(super) struct Planner<'a, E> {
    pipeline: &'a Pipeline,
    defaults: &'a StepDefaults,
    resolve: &'a dyn Resolve<E>,
    /// Whether workspace files show the artifacts of this pipeline.
    shown: bool,
    depth: usize,
}

/// How deeply pipelines may call one another.
const MAX_CALLS: usize = 32;

impl<'a, E> Planner<'a, E> {
    /// Creates the planner for the pipeline of a run.
    pub(super) fn new(pipeline: &'a Pipeline, defaults: &'a StepDefaults, resolve: &'a dyn Resolve<E>) -> Self {
        Self { pipeline, defaults, resolve, shown: true, depth: 0 }
    }

    /// Plans everything in the file.
    pub(super) fn body(&self) -> Result<PlanBody, E> {
        Ok(PlanBody {
            name: self.pipeline.name.clone(),
            nodes: self.nodes(&self.pipeline.steps, self.shown)?,
            finally: self.nodes(&self.pipeline.finally, self.shown)?,
            budget: self.pipeline.budget.clone(),
            success: self.pipeline.success.clone(),
            outputs: self.pipeline.outputs.clone(),
        })
    }

    fn nodes(&self, steps: &[Step], shown: bool) -> Result<Vec<PlanNode>, E> {
        steps.iter().map(|step| self.node(step, shown)).collect()
    }

    fn node(&self, step: &Step, shown: bool) -> Result<PlanNode, E> {
        let output = match &step.output {
            Some(name) => Some(ArtifactOutput { name: name.clone(), contract: self.resolve.contract(step)? }),
            None => None,
        };
        let each = step.for_each.as_ref().map(|list| Each {
            list: list.clone(),
            limit: step.max_parallel.map_or(MAX_PARALLEL, count),
            // Only the file decides this: a flag must not change the shape of the artifact.
            records: step.on_error == Some(OnError::Continue),
        });
        let inside = shown && each.is_none();
        let mut node = PlanNode {
            id: step.id.clone(),
            when: step.when.clone(),
            each,
            inputs: step.inputs.iter().map(|text| InputRef::parse(text)).collect(),
            output,
            shown,
            budget: step.budget.clone(),
            access: step.effective_access(&self.pipeline.agents),
            stops: match step.on_error {
                Some(OnError::Stop) => true,
                Some(OnError::Continue) => false,
                None => !self.defaults.continue_on_error,
            },
            kind: self.kind(step, inside)?,
        };
        node.access = node.children().map(|child| child.access).fold(node.access, Access::max);
        Ok(node)
    }

    fn kind(&self, step: &Step, shown: bool) -> Result<NodeKind, E> {
        let Some(kind) = step.kind() else {
            return Err(self.resolve.refuse(format!("step `{}` has no kind", step.id)));
        };
        Ok(match kind {
            Written::Agent { agent, prompt } => NodeKind::Agent(Box::new(self.agent(step, agent, prompt)?)),
            Written::Command(line) => NodeKind::Command(Box::new(CommandNode {
                line: line.clone(),
                env: step.env.clone(),
                cwd: step.cwd.clone(),
                stdin: step.stdin.clone(),
                project: self.defaults.project.clone(),
                success: step.expect.as_ref().map_or_else(|| vec![0], |expect| expect.exit_code.clone()),
                takes_stdout: step.schema.is_some(),
                limits: self.limits(step, 1, &[Class::CommandFailed, Class::Timeout]),
            })),
            Written::Write(files) => NodeKind::Write(WriteNode { files: files.to_owned(), from: Vec::new() }),
            Written::Approve(message) => NodeKind::Approve(ApproveNode {
                message: message.to_owned(),
                on_reject: step.on_reject.unwrap_or(Outcome::Fail),
                timeout: step.timeout.map(|span| span.0),
            }),
            Written::Parallel(steps) => {
                NodeKind::Parallel(self.nodes(steps, shown)?, step.max_parallel.map_or(steps.len(), count))
            }
            Written::Sequence(steps) => NodeKind::Sequence(self.nodes(steps, shown)?),
            Written::Repeat(repeat) => NodeKind::Repeat(RepeatNode {
                until: repeat.until.clone(),
                max: repeat.max,
                on_max_iterations: repeat.on_max_iterations.unwrap_or(Outcome::Fail),
                nodes: self.nodes(&repeat.steps, shown)?,
            }),
            Written::Pipeline(file) => NodeKind::Pipeline(Box::new(self.call(step, file)?)),
        })
    }

    fn agent(&self, step: &Step, name: &str, prompt: &str) -> Result<AgentNode, E> {
        let agent = self.pipeline.agents.get(name);
        let access = step.effective_access(&self.pipeline.agents);
        let first = match agent.and_then(|agent| agent.program(access)) {
            Some(program) => PlannedModel {
                estimate: agent.and_then(|agent| agent.estimate).unwrap_or_default(),
                ..PlannedModel::from(program)
            },
            None => self.resolve.model(agent.map_or("auto", |agent| agent.model.as_str()))?,
        };
        // A CLI agent with tools may have changed something before it failed, so it is not retried by default.
        let tries = if first.program.as_ref().is_some_and(|program| !program.tools.is_empty()) { 1 } else { TRIES };
        let is_model = first.program.is_none();
        let others = step.fallback.iter().map(|name| self.resolve.model(name));
        Ok(AgentNode {
            agent: name.to_owned(),
            models: std::iter::once(Ok(first)).chain(others).collect::<Result<_, _>>()?,
            temperature: agent.and_then(|agent| agent.temperature),
            max_output_tokens: agent
                .and_then(|agent| agent.max_output_tokens)
                .or(self.defaults.max_output_tokens)
                .unwrap_or(MAX_OUTPUT_TOKENS),
            budget: agent.and_then(|agent| agent.budget.clone()),
            prompt: prompt.to_owned(),
            message: step.message.clone(),
            limits: self.agent_limits(step, tries, is_model),
            re_asks: step.re_ask.or(self.defaults.re_ask).unwrap_or(RE_ASKS),
            strict: step.extract == Some(Extract::Strict),
            accept: step.accept.clone(),
            written: Vec::new(),
        })
    }

    fn agent_limits(&self, step: &Step, tries: u32, is_model: bool) -> StepLimits {
        let on = [Class::RateLimited, Class::ProviderUnavailable, Class::Timeout, Class::UnknownStop];
        let retry = step.retry.as_ref();
        let says = retry.is_some_and(|retry| retry.max.is_some() || retry.backoff.is_some());
        StepLimits { patient: is_model && !says, ..self.limits(step, tries, &on) }
    }

    fn limits(&self, step: &Step, tries: u32, on: &[Class]) -> StepLimits {
        let retry = step.retry.clone().unwrap_or_default();
        StepLimits {
            timeout: step.timeout.map(|span| span.0).or(self.defaults.timeout),
            deadline: step.deadline.map(|span| span.0),
            tries: retry.max.unwrap_or(tries).max(1),
            backoff: retry.backoff.map(|span| span.0),
            retry_on: retry.on.unwrap_or_else(|| on.to_vec()),
            patient: false,
        }
    }

    fn call(&self, step: &Step, file: &str) -> Result<PipelineNode, E> {
        if self.depth >= MAX_CALLS {
            return Err(self.resolve.refuse(format!("step `{}` calls pipelines too deeply", step.id)));
        }
        let (pipeline, resolve) = self.resolve.pipeline(file)?;
        let planner =
            Planner { pipeline, defaults: self.defaults, resolve: &*resolve, shown: false, depth: self.depth + 1 };
        let mut inputs = IndexMap::new();
        for (name, schema) in &pipeline.inputs {
            let contract =
                InputContract { schema: resolve.input(name, schema)?, default: schema.get("default").cloned() };
            inputs.insert(name.clone(), contract);
        }
        let with = step.with.iter().map(|(name, expression)| (name.clone(), expression.0.clone())).collect();
        Ok(PipelineNode { body: planner.body()?, with, inputs })
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).max(1)
}
