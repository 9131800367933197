//! The walk over a plan: what becomes of each step, given what is known when it is reached.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::agent::Models;
use crate::model::StepKey;
use crate::model::step::Access;
use crate::schema::{self, Schema};
use crate::template::{eval, variables};

use super::super::agent::recipes_of;
use super::super::message::{Asked, holds};
use super::super::node::{AgentNode, Each, Kind, Node, PipelineNode, RepeatNode};
use super::super::plan::Plan;
use super::super::scope::Scope;
use super::show;
use super::world::{Faces, Unknown, World, faces, produced};
use super::{Foreseen, Prospect, Range, Reuse};

/// Items of a known list that are looked at one by one; of a longer list the first stands for all.
const ITEMS: usize = 100;

pub(super) struct Walk<'a, 'r> {
    pub(super) plan: &'a Plan,
    pub(super) models: &'a Models,
    pub(super) reuse: &'a mut Reuse<'r>,
    pub(super) found: Vec<Foreseen>,
}

/// Where a node is met: its key, and how many groups are around it.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: &'a StepKey,
    depth: usize,
}

impl Walk<'_, '_> {
    pub(super) fn run(mut self, open: &[(String, Schema)]) -> Vec<Foreseen> {
        let plan = self.plan;
        let mut world = World::of_inputs(plan.inputs.clone(), plan.inputs.clone(), Scope::untouched());
        if !open.is_empty() {
            let with = |value: &dyn Fn(&str, &Schema) -> Value| {
                let mut inputs = plan.inputs.clone();
                inputs.extend(open.iter().map(|(name, schema)| (name.clone(), value(name, schema))));
                inputs
            };
            let (shown, least) = (with(&|name, schema| schema.placeholder(name)), with(&|_, schema| schema.least()));
            world = World::of_inputs(shown, least, Scope::untouched());
            world.unknown.extend(open.iter().map(|(name, schema)| (name.clone(), Unknown::of(schema))));
        }
        self.nodes(&plan.body.nodes, None, &mut world);
        self.nodes(&plan.body.finally, None, &mut world);
        self.found
    }

    fn nodes(&mut self, nodes: &[Node], inside: Option<Place<'_>>, world: &mut World) {
        for node in nodes {
            let key = StepKey::below(inside.map(|place| place.key), &node.id);
            let depth = inside.map_or(0, |place| place.depth + 1);
            self.node(node, Place { key: &key, depth }, world);
        }
    }

    fn node(&mut self, node: &Node, place: Place<'_>, world: &mut World) {
        let prospect = prospect(node, world);
        if let Prospect::Skipped(reason) | Prospect::Fails(reason) = &prospect {
            world.shown.skipped(node, reason);
            world.least.skipped(node, reason);
            self.not_run(node, place, &prospect);
            return;
        }
        let from = self.found.len();
        match &node.each {
            None => self.single(node, place, world),
            Some(each) => self.each(node, place, each, world),
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

    /// A step that does not run, with those inside it.
    fn not_run(&mut self, node: &Node, place: Place<'_>, prospect: &Prospect) {
        self.found.push(Foreseen { prospect: prospect.clone(), times: Range::exactly(0), ..blank(node, place) });
        for child in node.children() {
            let key = place.key.child(&child.id);
            let inside = Prospect::Skipped(format!("step {} does not run", node.id));
            self.not_run(child, Place { key: &key, depth: place.depth + 1 }, &inside);
        }
    }

    fn single(&mut self, node: &Node, place: Place<'_>, world: &mut World) {
        let mut inner = world.clone();
        let value = self.once(node, place, &mut inner);
        match (&node.output, value) {
            (Some(output), Some(value)) => world.add_known(&output.name, &value),
            (Some(output), None) => world.add_unknown(&output.name, faces(node, &output.name)),
            (None, _) => node.names().iter().for_each(|name| world.take(name, &inner)),
        }
    }

    /// A step once: as a whole, for one item, in one round. Its value, if that is known.
    fn once(&mut self, node: &Node, place: Place<'_>, world: &mut World) -> Option<Arc<Value>> {
        match &node.kind {
            Kind::Agent(agent) => self.agent(node, place, agent, world),
            Kind::Command(_) | Kind::Write(_) | Kind::Approve(_) => {
                let exact = world.knows(&show::used(self.plan, node, world));
                let texts = show::texts(self.plan, node, world, exact);
                self.found.push(Foreseen { texts, ..blank(node, place) });
                None
            }
            Kind::Parallel(nodes, _) => {
                self.found.push(blank(node, place));
                let before = world.clone();
                for child in nodes {
                    let mut inner = before.clone();
                    self.nodes(std::slice::from_ref(child), Some(place), &mut inner);
                    child.names().iter().for_each(|name| world.take(name, &inner));
                }
                None
            }
            Kind::Sequence(nodes) => {
                self.found.push(blank(node, place));
                self.nodes(nodes, Some(place), world);
                None
            }
            Kind::Repeat(repeat) => {
                self.repeat(node, place, repeat, world);
                None
            }
            Kind::Pipeline(call) => {
                self.called(node, place, call, world);
                None
            }
        }
    }

    fn agent(&mut self, node: &Node, place: Place<'_>, agent: &AgentNode, world: &World) -> Option<Arc<Value>> {
        let exact = world.knows(&show::used(self.plan, node, world));
        let texts = show::texts(self.plan, node, world, exact);
        let kept = if exact && node.access == Access::None {
            let asked = Asked::render(self.plan, node, agent, &world.shown).ok();
            asked.and_then(|asked| {
                let (whole, fewer) = recipes_of(node, agent, &asked, &world.shown);
                std::iter::once(whole).chain(fewer).find_map(|recipe| (self.reuse)(&recipe))
            })
        } else {
            None
        };
        let step = Foreseen { texts, ..blank(node, place) };
        self.found.push(match &kept {
            Some(_) => Foreseen { prospect: Prospect::Kept, kept: 1, ..step },
            None => Foreseen { asks: Some(self.asks(node, agent, world, exact)), ..step },
        });
        kept.map(Arc::new)
    }

    fn each(&mut self, node: &Node, place: Place<'_>, each: &Each, world: &mut World) {
        let known = world.knows(&variables(&each.list));
        match (eval(&each.list, &world.shown.context(node)), known) {
            (Ok(Value::Array(items)), true) => self.known_items(node, place, (each, &items), world),
            (Ok(Value::Array(items)), false) => {
                self.unknown_items(node, place, (each, items.into_iter().next()), world);
            }
            (Ok(_) | Err(_), false) => self.unknown_items(node, place, (each, None), world),
            (Ok(_), true) => {
                let why = format!("`for_each: {}` is no list", each.list);
                self.not_run(node, place, &Prospect::Fails(why));
            }
            (Err(error), true) => self.not_run(node, place, &Prospect::Fails(error.to_string())),
        }
    }

    fn known_items(&mut self, node: &Node, place: Place<'_>, (each, items): (&Each, &[Value]), world: &mut World) {
        let from = self.found.len();
        let mut values = Vec::new();
        for (index, item) in items.iter().take(ITEMS).enumerate() {
            let locals = vec![("item", item.clone()), ("index", Value::from(index))];
            let mut inner = world.with(locals.clone(), locals);
            inner.unknown.remove("item");
            inner.unknown.remove("index");
            let start = self.found.len();
            values.extend(self.once(node, place, &mut inner));
            if start > from {
                let later = self.found.split_off(start);
                self.found.iter_mut().skip(from).zip(later).for_each(|(step, other)| step.add(other));
            }
        }
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if items.is_empty() {
            self.not_run(node, place, &Prospect::Skipped(format!("`{}` is empty", each.list)));
        } else if items.len() > ITEMS {
            // The first hundred stand for all.
            let share = Range { least: count / 100, most: Some(count.div_ceil(100)) };
            self.found.iter_mut().skip(from).for_each(|step| step.times(share));
        }
        let Some(output) = &node.output else { return };
        if values.len() == items.len() {
            let entry = |(index, value): (usize, &Arc<Value>)| {
                if each.records {
                    json!({ "index": index, "status": "completed", "value": **value })
                } else {
                    (**value).clone()
                }
            };
            let list: Value = values.iter().enumerate().map(entry).collect();
            world.add_known(&output.name, &Arc::new(list));
        } else {
            world.add_unknown(&output.name, list_of(node, each, &output.name, Range::exactly(count)));
        }
    }

    fn unknown_items(
        &mut self,
        node: &Node,
        place: Place<'_>,
        (each, first): (&Each, Option<Value>),
        world: &mut World,
    ) {
        let mut path = each.list.trim().split('.');
        let root = path.next().and_then(|name| world.unknown.get(name)).cloned();
        let path: Vec<&str> = path.collect();
        let counted = root.as_ref().and_then(|root| root.schema.as_ref()?.count_at(&path));
        let count = counted.map_or(Range { least: 0, most: None }, |(least, most)| Range { least, most });
        let least = match eval(&each.list, &world.least.context(node)) {
            Ok(Value::Array(items)) => items.into_iter().next(),
            Ok(_) | Err(_) => None,
        };
        let shown = first.unwrap_or_else(|| schema::unknown("item", "any"));
        let index = ("index", Value::from(0));
        let mut inner =
            world.with(vec![("item", shown.clone()), index.clone()], vec![("item", least.unwrap_or(shown)), index]);
        // One item is no longer than the list.
        let most = root.and_then(|root| root.most);
        inner.unknown.insert("item".to_owned(), Unknown { schema: None, most });
        inner.unknown.insert("index".to_owned(), Unknown { schema: None, most: Some(4) });
        let from = self.found.len();
        self.once(node, place, &mut inner);
        self.found.iter_mut().skip(from).for_each(|step| step.times(count));
        if let Some(output) = &node.output {
            world.add_unknown(&output.name, list_of(node, each, &output.name, count));
        }
    }

    fn repeat(&mut self, node: &Node, place: Place<'_>, repeat: &RepeatNode, world: &mut World) {
        let from = self.found.len();
        self.found.push(blank(node, place));
        let max = u64::from(repeat.max);
        let first = json!({ "index": 1, "index0": 0, "first": true, "last": repeat.max == 1, "max": repeat.max });
        let mut inner = world.with(vec![("loop", first.clone())], vec![("loop", first)]);
        if repeat.max > 1 {
            inner.later.extend(repeat.nodes.iter().flat_map(produced));
        }
        self.nodes(&repeat.nodes, Some(place), &mut inner);
        let rounds = Range { least: if repeat.until.is_some() { 1 } else { max }, most: Some(max) };
        self.found.iter_mut().skip(from + 1).for_each(|step| step.times(rounds));
        for name in node.children().flat_map(Node::names) {
            world.take(&name, &inner);
            // What the first round keeps need not be what the last one gives.
            world.unknown.entry(name).or_insert(Unknown { schema: None, most: None });
        }
    }

    fn called(&mut self, node: &Node, place: Place<'_>, call: &PipelineNode, world: &mut World) {
        self.found.push(blank(node, place));
        let (mut shown, mut least, mut unknown) = (Map::new(), Map::new(), Vec::new());
        for (name, contract) in &call.inputs {
            let given = call.with.get(name);
            let of = |scope: &Scope, other: Value| match given {
                Some(expression) => eval(expression, &scope.context(node)).unwrap_or(other),
                None => contract.default.clone().unwrap_or(other),
            };
            shown.insert(name.clone(), of(&world.shown, contract.schema.placeholder(name)));
            least.insert(name.clone(), of(&world.least, contract.schema.least()));
            if !given.is_none_or(|expression| world.knows(&variables(expression))) {
                unknown.push((name.clone(), Unknown::of(&contract.schema)));
            }
        }
        let mut inner = World::of_inputs(shown, least, world.shown.tree().clone());
        inner.unknown.extend(unknown);
        self.nodes(&call.body.nodes, Some(place), &mut inner);
        self.nodes(&call.body.finally, Some(place), &mut inner);
        for (name, expression) in &call.body.outputs {
            let of =
                |scope: &Scope| eval(expression, &scope.everything()).unwrap_or_else(|_| schema::unknown(name, "any"));
            let (shown, least) = (of(&inner.shown), of(&inner.least));
            if inner.knows(&variables(expression)) {
                world.add_known(name, &Arc::new(shown));
            } else {
                world.add_unknown(name, Faces { shown, least, unknown: Unknown { schema: None, most: None } });
            }
        }
    }
}

/// What becomes of a step, before anything of it is done.
fn prospect(node: &Node, world: &World) -> Prospect {
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

/// What stands for the list that a step over items gives.
fn list_of(node: &Node, each: &Each, name: &str, count: Range) -> Faces {
    let one = faces(node, &format!("{name}[]"));
    let entry =
        |value: Value| if each.records { json!({ "index": 0, "status": "completed", "value": value }) } else { value };
    let least = (0..count.least.min(100)).map(|_| entry(one.least.clone())).collect();
    let most = one.unknown.most.zip(count.most).map(|(item, count)| item.saturating_mul(count));
    Faces { shown: json!([entry(one.shown)]), least, unknown: Unknown { schema: None, most } }
}

/// A step of which only the file is known.
fn blank(node: &Node, place: Place<'_>) -> Foreseen {
    let each = match (&node.each, &node.kind) {
        (Some(each), _) => Some(format!("for each of `{}`, {} at once", each.list, each.limit)),
        (None, Kind::Repeat(repeat)) => {
            let until = repeat.until.as_ref().map_or_else(String::new, |until| format!(" until `{until}`"));
            Some(format!("{} times at most{until}", repeat.max))
        }
        (None, _) => None,
    };
    Foreseen {
        step: place.key.clone(),
        depth: place.depth,
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
