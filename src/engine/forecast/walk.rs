//! Walks a plan and forecasts each step from what is known when the walk reaches it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::agent::ModelRegistry;
use crate::model::StepKey;
use crate::model::step::Access;
use crate::schema::{self, Schema};
use crate::template::{eval, variables};

use super::show;
use super::world::{AbstractEnv, PlaceholderPair, Unknown, faces, produced};
use super::{Foreseen, Prospect, Range, Reuse};
use crate::engine::agent::recipes_of;
use crate::engine::message::{RenderedPrompt, holds};
use crate::engine::node::{AgentNode, NodeKind, PipelineNode, PlanNode, RepeatNode};
use crate::engine::plan::Plan;
use crate::engine::reading::Rules;
use crate::engine::scope::ValueScope;

pub(super) struct ForecastWalk<'a, 'r> {
    pub(super) plan: &'a Plan,
    pub(super) models: &'a ModelRegistry,
    pub(super) reuse: &'a mut Reuse<'r>,
    pub(super) found: Vec<Foreseen>,
}

impl ForecastWalk<'_, '_> {
    pub(super) fn run(mut self, open: &[(String, Schema)]) -> Vec<Foreseen> {
        let plan = self.plan;
        let mut world = AbstractEnv::of_inputs(plan.inputs.clone(), plan.inputs.clone(), ValueScope::untouched());
        if !open.is_empty() {
            let with = |value: &dyn Fn(&str, &Schema) -> Value| {
                let mut inputs = plan.inputs.clone();
                inputs.extend(open.iter().map(|(name, schema)| (name.clone(), value(name, schema))));
                inputs
            };
            let (shown, least) = (with(&|name, schema| schema.placeholder(name)), with(&|_, schema| schema.least()));
            world = AbstractEnv::of_inputs(shown, least, ValueScope::untouched());
            world.unknown.extend(open.iter().map(|(name, schema)| (name.clone(), Unknown::of(schema))));
        }
        self.nodes(&plan.body.nodes, None, &mut world);
        self.nodes(&plan.body.finally, None, &mut world);
        self.found
    }

    fn nodes(&mut self, nodes: &[PlanNode], inside: Option<&StepKey>, world: &mut AbstractEnv) {
        for node in nodes {
            self.node(node, &StepKey::below(inside, &node.id), world);
        }
    }

    fn node(&mut self, node: &PlanNode, key: &StepKey, world: &mut AbstractEnv) {
        let prospect = prospect(node, world);
        if let Prospect::Skipped(reason) | Prospect::Fails(reason) = &prospect {
            world.shown.skipped(node, reason);
            world.least.skipped(node, reason);
            self.not_run(node, key, &prospect);
            return;
        }
        let from = self.found.len();
        match &node.each {
            None => self.single(node, key, world),
            Some(each) => self.each(node, key, each, world),
        }
        world.shown.completed(node, None);
        world.least.completed(node, None);
        if let Prospect::MayRun(_) = &prospect {
            world.unsure.extend(node.names());
            for step in self.found.iter_mut().skip(from) {
                step.times(Range { least: 0, most: Some(1) });
            }
            if let Some(step) = self.found.get_mut(from).filter(|step| step.prospect == Prospect::Runs) {
                step.prospect = prospect;
            }
        }
    }

    /// Adds a step that does not run, with the steps inside it.
    pub(super) fn not_run(&mut self, node: &PlanNode, key: &StepKey, prospect: &Prospect) {
        self.found.push(Foreseen { prospect: prospect.clone(), times: Range::exactly(0), ..blank(node, key) });
        for child in node.children() {
            let inside = Prospect::Skipped(format!("step {} does not run", node.id));
            self.not_run(child, &key.child(&child.id), &inside);
        }
    }

    fn single(&mut self, node: &PlanNode, key: &StepKey, world: &mut AbstractEnv) {
        let mut inner = world.clone();
        let value = self.once(node, key, &mut inner);
        match (&node.output, value) {
            (Some(output), Some(value)) => world.add_known(&output.name, &value),
            (Some(output), None) => world.add_unknown(&output.name, faces(node, &output.name)),
            (None, _) => node.names().iter().for_each(|name| world.take(name, &inner)),
        }
    }

    /// Forecasts one execution of a step: the whole step, one item, or one round. Returns its value, if that is known.
    pub(super) fn once(&mut self, node: &PlanNode, key: &StepKey, world: &mut AbstractEnv) -> Option<Arc<Value>> {
        match &node.kind {
            NodeKind::Agent(agent) => self.agent(node, key, agent, world),
            NodeKind::Command(_) | NodeKind::Write(_) | NodeKind::Approve(_) => {
                let exact = world.knows(&show::used(self.plan, node, world));
                let texts = show::texts(self.plan, node, world, exact);
                self.found.push(Foreseen { texts, ..blank(node, key) });
                None
            }
            NodeKind::Parallel(nodes, _) => {
                self.found.push(blank(node, key));
                let before = world.clone();
                for child in nodes {
                    let mut inner = before.clone();
                    self.nodes(std::slice::from_ref(child), Some(key), &mut inner);
                    child.names().iter().for_each(|name| world.take(name, &inner));
                }
                None
            }
            NodeKind::Sequence(nodes) => {
                self.found.push(blank(node, key));
                self.nodes(nodes, Some(key), world);
                None
            }
            NodeKind::Repeat(repeat) => {
                self.repeat(node, key, repeat, world);
                None
            }
            NodeKind::Pipeline(call) => {
                self.called(node, key, call, world);
                None
            }
        }
    }

    fn agent(&mut self, node: &PlanNode, key: &StepKey, agent: &AgentNode, world: &AbstractEnv) -> Option<Arc<Value>> {
        let exact = world.knows(&show::used(self.plan, node, world));
        let texts = show::texts(self.plan, node, world, exact);
        let kept = if exact && node.access == Access::None {
            let asked = RenderedPrompt::render(&self.plan.templates, node, agent, &world.shown).ok();
            asked.and_then(|asked| {
                let rules = Rules { node, agent, scope: &world.shown, kept: self.plan.kept() };
                let (whole, fewer) = recipes_of(&rules, &asked);
                std::iter::once(whole).chain(fewer).find_map(|recipe| (self.reuse)(&recipe))
            })
        } else {
            None
        };
        let step = Foreseen { texts, ..blank(node, key) };
        self.found.push(match &kept {
            Some(_) => Foreseen { prospect: Prospect::Kept, kept: 1, ..step },
            None => Foreseen { asks: Some(self.asks(node, agent, world, exact)), ..step },
        });
        kept.map(Arc::new)
    }

    fn repeat(&mut self, node: &PlanNode, key: &StepKey, repeat: &RepeatNode, world: &mut AbstractEnv) {
        let from = self.found.len();
        self.found.push(blank(node, key));
        let max = u64::from(repeat.max);
        let first = json!({ "index": 1, "index0": 0, "first": true, "last": repeat.max == 1, "max": repeat.max });
        let mut inner = world.with(vec![("loop", first.clone())], vec![("loop", first)]);
        if repeat.max > 1 {
            inner.later.extend(repeat.nodes.iter().flat_map(produced));
        }
        self.nodes(&repeat.nodes, Some(key), &mut inner);
        let rounds = Range { least: if repeat.until.is_some() { 1 } else { max }, most: Some(max) };
        self.found.iter_mut().skip(from + 1).for_each(|step| step.times(rounds));
        for name in node.children().flat_map(PlanNode::names) {
            world.take(&name, &inner);
            // The first round may reuse a result, but the last round may produce another one, so the artifact counts as
            // unknown.
            world.unknown.entry(name).or_insert(Unknown { schema: None, most: None });
        }
    }

    fn called(&mut self, node: &PlanNode, key: &StepKey, call: &PipelineNode, world: &mut AbstractEnv) {
        self.found.push(blank(node, key));
        let (mut shown, mut least, mut unknown) = (Map::new(), Map::new(), Vec::new());
        for (name, contract) in &call.inputs {
            let given = call.with.get(name);
            let of = |scope: &ValueScope, other: Value| match given {
                Some(expression) => eval(expression, &scope.context(node)).unwrap_or(other),
                None => contract.default.clone().unwrap_or(other),
            };
            shown.insert(name.clone(), of(&world.shown, contract.schema.placeholder(name)));
            least.insert(name.clone(), of(&world.least, contract.schema.least()));
            if !given.is_none_or(|expression| world.knows(&variables(expression))) {
                unknown.push((name.clone(), Unknown::of(&contract.schema)));
            }
        }
        let mut inner = AbstractEnv::of_inputs(shown, least, world.shown.tree().clone());
        inner.unknown.extend(unknown);
        self.nodes(&call.body.nodes, Some(key), &mut inner);
        self.nodes(&call.body.finally, Some(key), &mut inner);
        for (name, expression) in &call.body.outputs {
            let of = |scope: &ValueScope| {
                eval(expression, &scope.everything()).unwrap_or_else(|_| schema::unknown(name, "any"))
            };
            let (shown, least) = (of(&inner.shown), of(&inner.least));
            if inner.knows(&variables(expression)) {
                world.add_known(name, &Arc::new(shown));
            } else {
                world
                    .add_unknown(name, PlaceholderPair { shown, least, unknown: Unknown { schema: None, most: None } });
            }
        }
    }
}

/// Returns what would happen to a step before anything of it runs.
fn prospect(node: &PlanNode, world: &AbstractEnv) -> Prospect {
    if let Some(reason) = world.shown.missing(node) {
        return Prospect::Skipped(reason);
    }
    let required = node.inputs.iter().filter(|input| !input.optional);
    let unsure = required.map(|input| &input.name).find(|name| world.unsure.contains(*name));
    match &node.when {
        Some(when) if world.knows(&variables(when)) => match holds(when, &world.shown.context(node)) {
            Ok(true) => {}
            Ok(false) => return Prospect::Skipped(format!("when: {when} is false")),
            Err(failure) => return Prospect::Fails(failure.message),
        },
        Some(when) => return Prospect::MayRun(format!("when: {when}")),
        None => {}
    }
    unsure.map_or(Prospect::Runs, |name| Prospect::MayRun(format!("if there is {name}")))
}

/// Creates an entry with only what the pipeline file says about the step.
fn blank(node: &PlanNode, key: &StepKey) -> Foreseen {
    let each = match (&node.each, &node.kind) {
        (Some(each), _) => Some(format!("for each of `{}`, {} at once", each.list, each.limit)),
        (None, NodeKind::Repeat(repeat)) => {
            let until = repeat.until.as_ref().map_or_else(String::new, |until| format!(" until `{until}`"));
            Some(format!("{} times at most{until}", repeat.max))
        }
        (None, _) => None,
    };
    Foreseen {
        step: key.clone(),
        kind: node.kind.name(),
        prospect: Prospect::Runs,
        times: Range::exactly(1),
        kept: 0,
        each,
        reads: node
            .inputs
            .iter()
            .map(|input| format!("{}{}", input.name, if input.optional { "?" } else { "" }))
            .collect(),
        output: node.output.as_ref().map(|output| output.name.clone()),
        path: node.path(),
        texts: Vec::new(),
        asks: None,
    }
}
