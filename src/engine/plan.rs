//! What will be run: a checked pipeline with every name resolved.
//!
//! A plan is plain data plus compiled schemas and templates. It refuses to know files,
//! the environment and the clock.

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
    /// What is run.
    pub body: PlanBody,
    /// What the run may spend.
    pub budget: Option<Budget>,
    /// Every prompt that its steps use.
    pub templates: Arc<Templates>,
    /// The values given to the run.
    pub inputs: Map<String, Value>,
    /// The files of the workspace that no step may write.
    kept: Arc<ReservedNames>,
}

/// What the command line and `orch.yaml` add to a step that says nothing itself.
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
    /// `budget` of `orch.yaml`: holds when the pipeline has none.
    pub budget: Option<Budget>,
    /// `--budget`: takes the place of the run's budget.
    pub given: Option<Budget>,
    /// Where the project lies, for commands.
    pub project: Arc<str>,
}

/// Resolves the names in a pipeline file that lead outside it.
pub trait Resolve<E> {
    /// The model of a name: `auto`, an alias, `provider/model`.
    fn model(&self, name: &str) -> Result<PlannedModel, E>;
    /// The contract of a step's output; any JSON for a step of a kind that takes no schema.
    fn contract(&self, step: &Step) -> Result<Contract, E>;
    /// The schema of an input of a pipeline.
    fn input(&self, name: &str, schema: &Map<String, Value>) -> Result<Schema, E>;
    /// A pipeline that another one calls, with what resolves its names.
    fn pipeline(&self, file: &str) -> Result<(&Pipeline, Box<dyn Resolve<E> + '_>), E>;
    /// A step that can't be planned; checking refuses those first.
    fn refuse(&self, why: String) -> E;
}

impl Plan {
    /// Plans a pipeline that was checked.
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

    /// The same for a workspace with these files of the project: no agent may list them to be written.
    #[must_use]
    pub fn beside(self, own: Vec<String>) -> Self {
        let artifacts = self.kept.artifacts.clone();
        Self { kept: Arc::new(ReservedNames { artifacts, project: own }), ..self }
    }

    /// The files of the workspace that no step may write: those that show artifacts, and those of the project.
    pub(super) fn kept(&self) -> &Arc<ReservedNames> {
        &self.kept
    }

    /// Visits every step with its key, in the order of the file; `many` where it is inside of what runs
    /// any number of times.
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

    /// The steps as they are announced to the journal, with those inside groups.
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

    /// The file in the workspace that shows an artifact.
    pub(super) fn shown(&self, name: &str) -> Option<String> {
        let mut found = None;
        self.visit(&mut |_, node, _| {
            let path = node.path().filter(|_| node.output.as_ref().is_some_and(|output| output.name == name));
            found = found.take().or(path);
        });
        found
    }

    /// The step that gives an artifact; the whole loop, where that step is in one.
    pub(super) fn giver(&self, name: &str) -> Option<StepKey> {
        let mut found = None;
        self.visit(&mut |step, node, _| {
            if node.output.as_ref().is_some_and(|output| output.name == name) {
                found.get_or_insert(step);
            }
        });
        found.map(|step| self.runs_once(&step))
    }

    /// A step, or the loop around it: `--from` with a step of a loop begins the loop anew.
    pub(super) fn runs_once(&self, wanted: &StepKey) -> StepKey {
        let (mut once, mut found) = (None, None);
        self.visit(&mut |step, _, many| {
            let is_wanted = step == *wanted;
            // A loop is visited before what is in it.
            if !many {
                once = Some(step);
            }
            if is_wanted && found.is_none() {
                found.clone_from(&once);
            }
        });
        found.unwrap_or_else(|| wanted.clone())
    }

    /// Every budget of the plan: of the run, of steps, of agents, and of pipelines that steps call.
    pub fn budgets(&self) -> Vec<Limit> {
        let mut found: Vec<Limit> = self.budget.clone().map(|budget| (BudgetScope::Run, budget)).into_iter().collect();
        budgets(&self.body, None, &mut found);
        found
    }

    /// Every step that asks, with its agent.
    pub(super) fn agents(&self) -> Vec<(StepKey, &AgentNode)> {
        let mut found = Vec::new();
        self.visit(&mut |step, node, _| {
            if let NodeKind::Agent(agent) = &node.kind {
                found.push((step, &**agent));
            }
        });
        found
    }

    /// Every model that may be asked, with the step that asks.
    pub fn asked(&self) -> Vec<(StepKey, &PlannedModel)> {
        let agents = self.agents().into_iter();
        agents.flat_map(|(step, agent)| agent.models.iter().map(move |model| (step.clone(), model))).collect()
    }

    /// The variables that commands and agent programs are given by name.
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

    /// The artifact files that the plan writes, relative to the workspace.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.visit(&mut |_, node, _| found.extend(node.path()));
        found
    }
}

/// Files of the workspace that are kept from `write`.
#[derive(Clone, Debug, Default)]
pub(super) struct ReservedNames {
    /// Those that show artifacts of the run.
    pub(super) artifacts: Vec<String>,
    /// Those that the run's own project is made of.
    pub(super) project: Vec<String>,
}

/// The budgets of a pipeline's steps and agents; an agent's counts in all steps of its own file.
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
