//! Walks a plan, and forecasts each step from the results of the steps before it.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::agent::ModelRegistry;
use crate::model::name_scope::PreviousRead;
use crate::model::step::Access;
use crate::model::{StepKey, counted};
use crate::schema::{self, Schema};
use crate::template::{eval, variables};

use super::abstract_env::{AbstractEnv, PlaceholderPair, UnknownValue, placeholders_for, produced_artifacts};
use super::step_texts;
use super::{Prediction, Range, ReuseLookup, StepForecast};
use crate::engine::agent::step_fingerprints;
use crate::engine::message::{RenderedPrompt, eval_condition};
use crate::engine::node::{AgentNode, CalledPipelineInput, NodeKind, PipelineNode, PlanNode, RepeatNode};
use crate::engine::plan::Plan;
use crate::engine::reply_reader::ReplyRules;
use crate::engine::scope::ValueScope;

pub(super) struct ForecastWalk<'a, 'r> {
    pub(super) plan: &'a Plan,
    pub(super) models: &'a ModelRegistry,
    pub(super) reuse: &'a mut ReuseLookup<'r>,
    pub(super) steps: Vec<StepForecast>,
}

impl ForecastWalk<'_, '_> {
    pub(super) fn run(mut self, missing_inputs: &[(String, Schema)]) -> Vec<StepForecast> {
        let plan = self.plan;
        let mut env =
            AbstractEnv::from_inputs(plan.inputs.clone(), plan.inputs.clone(), ValueScope::initial_workspace_version());
        if !missing_inputs.is_empty() {
            let inputs_with = |value: &dyn Fn(&str, &Schema) -> Value| {
                let mut inputs = plan.inputs.clone();
                inputs.extend(missing_inputs.iter().map(|(name, schema)| (name.clone(), value(name, schema))));
                inputs
            };
            let (placeholders, smallest) = (
                inputs_with(&|name, schema| schema.placeholder(name)),
                inputs_with(&|_, schema| schema.smallest_value()),
            );
            env = AbstractEnv::from_inputs(placeholders, smallest, ValueScope::initial_workspace_version());
            env.add_unknown_values(
                missing_inputs.iter().map(|(name, schema)| (name.clone(), UnknownValue::from_schema(schema))),
            );
        }
        self.walk_nodes(&plan.body.nodes, None, &mut env);
        self.walk_nodes(&plan.body.finally, None, &mut env);
        self.steps
    }

    fn walk_nodes(&mut self, nodes: &[PlanNode], parent: Option<&StepKey>, env: &mut AbstractEnv) {
        for node in nodes {
            self.walk_node(node, &StepKey::child_of(parent, &node.id), env);
        }
    }

    fn walk_node(&mut self, node: &PlanNode, key: &StepKey, env: &mut AbstractEnv) {
        let prediction = predict(node, env);
        if let Prediction::Skipped(reason) | Prediction::Fails(reason) = &prediction {
            env.placeholders.note_skipped_step(node, reason);
            env.smallest.note_skipped_step(node, reason);
            self.add_step_without_run(node, key, &prediction);
            return;
        }
        let first_step = self.steps.len();
        match &node.for_each {
            None => self.forecast_single(node, key, env),
            Some(for_each) => self.forecast_for_each(node, key, for_each, env),
        }
        env.placeholders.note_completed_step(node, None);
        env.smallest.note_completed_step(node, None);
        if let Prediction::MayRun(_) = &prediction {
            env.mark_uncertain(node.artifact_names());
            for step in self.steps.iter_mut().skip(first_step) {
                step.multiply(Range { min: 0, max: Some(1) });
            }
            if let Some(step) = self.steps.get_mut(first_step).filter(|step| step.prediction == Prediction::Runs) {
                step.prediction = prediction;
            }
        }
    }

    /// Adds a step that does not run, and the steps inside it.
    pub(super) fn add_step_without_run(&mut self, node: &PlanNode, key: &StepKey, prediction: &Prediction) {
        self.steps.push(StepForecast {
            prediction: prediction.clone(),
            executions: Range::exactly(0),
            ..new_forecast(node, key)
        });
        for child in node.children() {
            let child_prediction = Prediction::Skipped(format!("step `{}` does not run", node.id));
            self.add_step_without_run(child, &key.child(&child.id), &child_prediction);
        }
    }

    fn forecast_single(&mut self, node: &PlanNode, key: &StepKey, env: &mut AbstractEnv) {
        let mut inner = env.child();
        let value = self.forecast_once(node, key, &mut inner);
        match (&node.output, value) {
            (Some(output), Some(value)) => env.add_known(&output.name, &value),
            (Some(output), None) => env.add_unknown(&output.name, placeholders_for(node, &output.name)),
            (None, _) => node.artifact_names().iter().for_each(|name| env.copy_artifact(name, &inner)),
        }
    }

    /// Forecasts one execution of a step: the whole step, one item, or one iteration. Returns its value, if it is
    /// known.
    pub(super) fn forecast_once(
        &mut self,
        node: &PlanNode,
        key: &StepKey,
        env: &mut AbstractEnv,
    ) -> Option<Arc<Value>> {
        match &node.kind {
            NodeKind::Agent(agent) => {
                let value = self.forecast_agent(node, key, agent, env);
                self.forecast_model_calls(key, agent, env);
                value
            }
            NodeKind::Command(_) | NodeKind::Call(_) | NodeKind::Write(_) | NodeKind::Approve(_) => {
                let exact = env.knows(&step_texts::used_variables(self.plan, node, env));
                let (texts, _) = step_texts::texts_with_read_members(self.plan, node, env, exact);
                self.steps.push(StepForecast { texts, ..new_forecast(node, key) });
                None
            }
            NodeKind::Parallel(nodes, _) => {
                self.steps.push(new_forecast(node, key));
                let outer_env = env.child();
                for child in nodes {
                    let mut inner = outer_env.child();
                    self.walk_nodes(std::slice::from_ref(child), Some(key), &mut inner);
                    child.artifact_names().iter().for_each(|name| env.copy_artifact(name, &inner));
                }
                None
            }
            NodeKind::Sequence(nodes) => {
                self.steps.push(new_forecast(node, key));
                self.walk_nodes(nodes, Some(key), env);
                None
            }
            NodeKind::Repeat(repeat) => {
                self.forecast_repeat(node, key, repeat, env);
                None
            }
            NodeKind::Pipeline(call) => {
                self.forecast_call(node, key, call, env);
                None
            }
        }
    }

    fn forecast_agent(
        &mut self,
        node: &PlanNode,
        key: &StepKey,
        agent: &AgentNode,
        env: &AbstractEnv,
    ) -> Option<Arc<Value>> {
        let exact = env.knows(&step_texts::used_variables(self.plan, node, env));
        let (texts, extended) = step_texts::texts_with_read_members(self.plan, node, env, exact);
        let env = extended.as_ref().unwrap_or(env);
        let reused_value = if exact && node.access == Access::None {
            let prompt = RenderedPrompt::render(&self.plan.templates, node, agent, &env.placeholders).ok();
            prompt.and_then(|prompt| {
                let rules =
                    ReplyRules { node, agent, scope: &env.placeholders, reserved_names: self.plan.reserved_names() };
                let (fingerprint, prefix_fingerprints) = step_fingerprints(&rules, &prompt);
                std::iter::once(fingerprint).chain(prefix_fingerprints).find_map(|candidate| (self.reuse)(&candidate))
            })
        } else {
            None
        };
        let step = StepForecast { texts, ..new_forecast(node, key) };
        self.steps.push(match &reused_value {
            Some(_) => StepForecast { prediction: Prediction::Reused, reused: 1, ..step },
            None => StepForecast { requests: Some(self.estimate_requests(node, agent, env, exact)), ..step },
        });
        reused_value.map(Arc::new)
    }

    /// Forecasts the pipelines that the model of an agent may call, any number of times and with any arguments.
    fn forecast_model_calls(&mut self, key: &StepKey, agent: &AgentNode, env: &AbstractEnv) {
        for node in &agent.pipelines {
            let NodeKind::Pipeline(call) = &node.kind else { continue };
            let (first_step, key) = (self.steps.len(), key.child(&node.id));
            self.steps.push(new_forecast(node, &key));
            let inputs_with = |value: &dyn Fn(&str, &Schema) -> Value| -> Map<String, Value> {
                call.inputs.iter().map(|(name, input)| (name.clone(), value(name, &input.schema))).collect()
            };
            let placeholders = inputs_with(&|name, schema| schema.placeholder(name));
            let smallest = inputs_with(&|_, schema| schema.smallest_value());
            let mut inner =
                AbstractEnv::from_inputs(placeholders, smallest, env.placeholders.workspace_version().clone());
            let unknown = |input: &CalledPipelineInput| UnknownValue::from_schema(&input.schema);
            inner.add_unknown_values(call.inputs.iter().map(|(name, input)| (name.clone(), unknown(input))));
            self.walk_nodes(&call.body.nodes, Some(&key), &mut inner);
            self.walk_nodes(&call.body.finally, Some(&key), &mut inner);
            for step in self.steps.iter_mut().skip(first_step) {
                step.multiply(Range { min: 0, max: None });
            }
            if let Some(step) = self.steps.get_mut(first_step) {
                step.prediction = Prediction::MayRun("as often as the model calls it".to_owned());
            }
        }
    }

    fn forecast_repeat(&mut self, node: &PlanNode, key: &StepKey, repeat: &RepeatNode, env: &mut AbstractEnv) {
        let first_step = self.steps.len();
        self.steps.push(new_forecast(node, key));
        let max = u64::from(repeat.max);
        let mut inner = env.for_first_iteration(repeat.max);
        if repeat.max > 1 {
            inner.add_loop_artifacts(repeat.nodes.iter().flat_map(produced_artifacts));
        }
        self.walk_nodes(&repeat.nodes, Some(key), &mut inner);
        let iterations = Range { min: if repeat.until.is_some() { 1 } else { max }, max: Some(max) };
        self.steps.iter_mut().skip(first_step + 1).for_each(|step| step.multiply(iterations));
        for name in node.children().flat_map(PlanNode::artifact_names) {
            env.copy_artifact(&name, &inner);
            // The walk covers only the first iteration. A later iteration may produce another value, so the artifact
            // counts as unknown even if the first iteration reuses a result.
            env.mark_unknown(&name);
        }
    }

    fn forecast_call(&mut self, node: &PlanNode, key: &StepKey, call: &PipelineNode, env: &mut AbstractEnv) {
        self.steps.push(new_forecast(node, key));
        let (mut placeholders, mut smallest, mut unknown_inputs) = (Map::new(), Map::new(), Vec::new());
        for (name, input) in &call.inputs {
            let expression = call.with.get(name);
            let evaluate = |scope: &ValueScope, fallback: Value| match expression {
                Some(expression) => eval(expression, &scope.context(node)).unwrap_or(fallback),
                None => input.default.clone().unwrap_or(fallback),
            };
            placeholders.insert(name.clone(), evaluate(&env.placeholders, input.schema.placeholder(name)));
            smallest.insert(name.clone(), evaluate(&env.smallest, input.schema.smallest_value()));
            if !expression.is_none_or(|expression| env.knows(&variables(expression))) {
                unknown_inputs.push((name.clone(), UnknownValue::from_schema(&input.schema)));
            }
        }
        let mut inner = AbstractEnv::from_inputs(placeholders, smallest, env.placeholders.workspace_version().clone());
        inner.add_unknown_values(unknown_inputs);
        self.walk_nodes(&call.body.nodes, Some(key), &mut inner);
        self.walk_nodes(&call.body.finally, Some(key), &mut inner);
        for (name, expression) in &call.body.outputs {
            let evaluate = |scope: &ValueScope| {
                eval(expression, &scope.full_context()).unwrap_or_else(|_| schema::placeholder_value(name, "any"))
            };
            let (placeholder, smallest) = (evaluate(&inner.placeholders), evaluate(&inner.smallest));
            if inner.knows(&variables(expression)) {
                env.add_known(name, &Arc::new(placeholder));
            } else {
                env.add_unknown(
                    name,
                    PlaceholderPair { placeholder, smallest, unknown: UnknownValue { schema: None, max_tokens: None } },
                );
            }
        }
    }
}

/// Predicts whether a step runs.
fn predict(node: &PlanNode, env: &AbstractEnv) -> Prediction {
    if let Some(reason) = env.placeholders.missing_input(node) {
        return Prediction::Skipped(reason.to_string());
    }
    let required = node.inputs.iter().filter(|input| !input.optional);
    let uncertain_input = required.map(|input| &input.name).find(|name| env.uncertain.contains(*name));
    match &node.when {
        Some(when) if env.knows(&variables(when)) => match eval_condition(when, &env.placeholders.context(node)) {
            Ok(true) => {}
            Ok(false) => return Prediction::Skipped(format!("when: {when} is false")),
            Err(failure) => return Prediction::Fails(failure.message),
        },
        Some(when) => return Prediction::MayRun(format!("when: {when}")),
        None => {}
    }
    uncertain_input.map_or(Prediction::Runs, |name| Prediction::MayRun(format!("if there is {name}")))
}

/// Creates the forecast of a step that runs once, with only the facts from the pipeline file.
fn new_forecast(node: &PlanNode, key: &StepKey) -> StepForecast {
    let repetition = match (&node.for_each, &node.kind) {
        (Some(for_each), _) => Some(format!("for each of `{}`, {} at once", for_each.list, for_each.max_parallel)),
        (None, NodeKind::Repeat(repeat)) => {
            let until = repeat.until.as_ref().map_or_else(String::new, |until| format!(" until `{until}`"));
            Some(format!("{} at most{until}", counted(repeat.max, "time")))
        }
        (None, _) => None,
    };
    StepForecast {
        step: key.clone(),
        kind: node.kind.kind(),
        prediction: Prediction::Runs,
        executions: Range::exactly(1),
        reused: 0,
        repetition,
        reads: described_reads(node),
        output: node.output.as_ref().map(|output| output.name.clone()),
        path: node.artifact_path(),
        texts: Vec::new(),
        requests: None,
    }
}

/// Describes the artifacts that a step reads: `plan`, `code?`, `loop.previous.review`.
fn described_reads(node: &PlanNode) -> Vec<String> {
    let inputs = node.inputs.iter().map(|input| format!("{}{}", input.name, if input.optional { "?" } else { "" }));
    inputs.chain(node.previous_reads.iter().map(PreviousRead::expression)).collect()
}
