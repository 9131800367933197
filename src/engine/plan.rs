//! The plan of a run: a checked pipeline with every name resolved.
//!
//! A plan is plain data plus compiled schemas and templates. It never reads files, the environment or the clock.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::model::budget::Budget;
use crate::model::event::PlannedStep;
use crate::model::step::Step;
use crate::model::{Pipeline, StepKey};
use crate::schema::Schema;
use crate::template::Templates;

use super::budget::{BudgetScope, Limit};
use super::node::{AgentNode, Contract, NodeKind, PlanBody, PlanNode, PlannedModel};
use super::planner::Planner;
use super::written;

/// A pipeline ready to run.
pub struct Plan {
    /// The pipeline to run.
    pub body: PlanBody,
    /// The budget of the run.
    pub budget: Option<Budget>,
    /// The templates of every prompt that its steps use.
    pub templates: Arc<Templates>,
    /// The values given to the run.
    pub inputs: Map<String, Value>,
    /// The workspace files that no step may write.
    kept: Arc<ReservedNames>,
}

/// Settings from the command line and `orch.yaml` for steps that do not set them.
#[derive(Clone, Debug, Default)]
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
    pub given: Option<Budget>,
    /// The project's folder, for commands.
    pub project: Arc<str>,
}

/// Resolves names in a pipeline file that refer to something outside of it.
pub trait Resolve<E> {
    /// Resolves the name of a model: `auto`, an alias, or `provider/model`.
    fn model(&self, name: &str) -> Result<PlannedModel, E>;
    /// Returns the contract of a step's output; any JSON if steps of this kind take no schema.
    fn contract(&self, step: &Step) -> Result<Contract, E>;
    /// Returns the compiled schema of a pipeline's input.
    fn input(&self, name: &str, schema: &Map<String, Value>) -> Result<Schema, E>;
    /// Returns a pipeline that another one calls, and what resolves its names.
    fn pipeline(&self, file: &str) -> Result<(&Pipeline, Box<dyn Resolve<E> + '_>), E>;
    /// The error for a step that can't be planned. `check` reports such steps earlier.
    fn refuse(&self, why: String) -> E;
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
        let mut body = Planner::new(pipeline, defaults, resolve).body()?;
        written::note(&mut body);
        let budget = defaults.given.clone().or_else(|| body.budget.clone()).or_else(|| defaults.budget.clone());
        let mut plan = Self { body, budget, templates: Arc::new(templates), inputs, kept: Arc::default() };
        plan.kept = Arc::new(ReservedNames { artifacts: plan.paths(), project: Vec::new() });
        Ok(plan)
    }

    /// Returns the plan for a workspace that contains these project files, which no agent may list for writing.
    #[must_use]
    pub fn beside(self, own: Vec<String>) -> Self {
        let artifacts = self.kept.artifacts.clone();
        Self { kept: Arc::new(ReservedNames { artifacts, project: own }), ..self }
    }

    /// The workspace files that no step may write: those that show artifacts, and those of the project.
    pub(super) fn kept(&self) -> &Arc<ReservedNames> {
        &self.kept
    }

    /// Visits every step with its key, in the order of the file. The boolean is true inside a loop or `for_each`, where
    /// a step may run any number of times.
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(StepKey, &'a PlanNode, bool)) {
        fn go<'a>(
            node: &'a PlanNode,
            parent: Option<&StepKey>,
            many: bool,
            visit: &mut dyn FnMut(StepKey, &'a PlanNode, bool),
        ) {
            let step = StepKey::below(parent, &node.id);
            visit(step.clone(), node, many);
            let many = many || node.each.is_some() || matches!(node.kind, NodeKind::Repeat(_));
            node.children().for_each(|child| go(child, Some(&step), many, visit));
        }
        self.body.nodes.iter().chain(&self.body.finally).for_each(|node| go(node, None, false, visit));
    }

    /// The steps as the journal announces them, including those inside groups.
    pub fn announced(&self) -> Vec<PlannedStep> {
        let mut found = Vec::new();
        self.visit(&mut |step, node, many| {
            let (agent, model) = match &node.kind {
                NodeKind::Agent(agent) => {
                    (agent.agent.clone(), agent.models.first().map(|model| model.reference.clone()))
                }
                NodeKind::Command(_)
                | NodeKind::Write(_)
                | NodeKind::Approve(_)
                | NodeKind::Parallel(..)
                | NodeKind::Repeat(_)
                | NodeKind::Sequence(_)
                | NodeKind::Pipeline(_) => (String::new(), None),
            };
            let output = node.output.as_ref().map(|output| output.name.clone());
            found.push(PlannedStep { step, kind: node.kind.name(), agent, model, output, many });
        });
        found
    }

    /// The workspace file that shows an artifact.
    pub(super) fn shown(&self, name: &str) -> Option<String> {
        let mut found = None;
        self.visit(&mut |_, node, _| {
            let path = node.path().filter(|_| node.output.as_ref().is_some_and(|output| output.name == name));
            found = found.take().or(path);
        });
        found
    }

    /// The step that produces an artifact, or the loop around that step.
    pub(super) fn giver(&self, name: &str) -> Option<StepKey> {
        let mut found = None;
        self.visit(&mut |step, node, _| {
            if node.output.as_ref().is_some_and(|output| output.name == name) {
                found.get_or_insert(step);
            }
        });
        found.map(|step| self.runs_once(&step))
    }

    /// The step itself, or the loop around it: `--from` with a step of a loop starts the whole loop again.
    pub(super) fn runs_once(&self, wanted: &StepKey) -> StepKey {
        let (mut once, mut found) = (None, None);
        self.visit(&mut |step, _, many| {
            let is_wanted = step == *wanted;
            // A loop is visited before the steps inside it.
            if !many {
                once = Some(step);
            }
            if is_wanted && found.is_none() {
                found.clone_from(&once);
            }
        });
        found.unwrap_or_else(|| wanted.clone())
    }

    /// Every budget of the plan: those of the run, of steps, of agents, and of called pipelines.
    pub fn budgets(&self) -> Vec<Limit> {
        let mut found: Vec<Limit> = self.budget.clone().map(|budget| (BudgetScope::Run, budget)).into_iter().collect();
        budgets(&self.body, None, &mut found);
        found
    }

    /// Every agent step, with its agent.
    pub(super) fn agents(&self) -> Vec<(StepKey, &AgentNode)> {
        let mut found = Vec::new();
        self.visit(&mut |step, node, _| {
            if let NodeKind::Agent(agent) = &node.kind {
                found.push((step, &**agent));
            }
        });
        found
    }

    /// Every model that a step may ask, with the step.
    pub fn asked(&self) -> Vec<(StepKey, &PlannedModel)> {
        let agents = self.agents().into_iter();
        agents.flat_map(|(step, agent)| agent.models.iter().map(move |model| (step.clone(), model))).collect()
    }

    /// The names of the environment variables that commands and CLI agents receive.
    pub fn variables(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        self.visit(&mut |_, node, _| match &node.kind {
            NodeKind::Agent(agent) => {
                let programs = agent.models.iter().filter_map(|model| model.program.as_ref());
                found.extend(programs.flat_map(|program| &program.env).map(String::as_str));
            }
            NodeKind::Command(command) => found.extend(command.env.iter().map(String::as_str)),
            NodeKind::Write(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_)
            | NodeKind::Pipeline(_) => {}
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The workspace files that show the plan's artifacts, as relative paths.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.visit(&mut |_, node, _| found.extend(node.path()));
        found
    }
}

/// Workspace files that `write` may not touch.
#[derive(Clone, Debug, Default)]
pub(super) struct ReservedNames {
    /// Files that show artifacts of the run.
    pub(super) artifacts: Vec<String>,
    /// Files of the run's own project.
    pub(super) project: Vec<String>,
}

/// Collects the budgets of a pipeline's steps and agents. An agent's budget covers all its steps in the same file.
fn budgets(body: &PlanBody, parent: Option<&StepKey>, found: &mut Vec<Limit>) {
    fn add<'a>(node: &'a PlanNode, parent: Option<&StepKey>, agents: &mut PlanAgents<'a>, found: &mut Vec<Limit>) {
        let step = StepKey::below(parent, &node.id);
        found.extend(node.budget.clone().map(|budget| (BudgetScope::Step(step.clone()), budget)));
        match &node.kind {
            NodeKind::Agent(agent) => {
                if let Some(budget) = &agent.budget {
                    agents.entry(agent.agent.as_str()).or_insert((budget, Vec::new())).1.push(step);
                }
            }
            NodeKind::Pipeline(call) => {
                found.extend(call.body.budget.clone().map(|budget| (BudgetScope::Step(step.clone()), budget)));
                budgets(&call.body, Some(&step), found);
            }
            NodeKind::Command(_)
            | NodeKind::Write(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_) => node.children().for_each(|child| add(child, Some(&step), agents, found)),
        }
    }
    let mut agents = PlanAgents::new();
    body.nodes.iter().chain(&body.finally).for_each(|node| add(node, parent, &mut agents, found));
    found.extend(
        agents.into_iter().map(|(name, (budget, steps))| (BudgetScope::Agent(name.to_owned(), steps), budget.clone())),
    );
}

type PlanAgents<'a> = IndexMap<&'a str, (&'a Budget, Vec<StepKey>)>;
