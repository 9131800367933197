//! Forecasts steps that run over a list. Items of a known list are walked one by one; for an unknown list, one
//! placeholder item is.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::StepKey;
use crate::schema;
use crate::template::{eval, variables};

use super::walk::ForecastWalk;
use super::world::{AbstractEnv, PlaceholderPair, Unknown, faces};
use super::{Prospect, Range};
use crate::engine::node::{Each, PlanNode};

/// How many items of a known list are walked one by one. The estimate for a longer list is scaled up from these.
const ITEMS: usize = 100;

impl ForecastWalk<'_, '_> {
    pub(super) fn each(&mut self, node: &PlanNode, key: &StepKey, each: &Each, world: &mut AbstractEnv) {
        let known = world.knows(&variables(&each.list));
        match (eval(&each.list, &world.shown.context(node)), known) {
            (Ok(Value::Array(items)), true) => self.known_items(node, key, each, &items, world),
            (Ok(Value::Array(items)), false) => {
                self.unknown_items(node, key, each, items.into_iter().next(), world);
            }
            (Ok(_) | Err(_), false) => self.unknown_items(node, key, each, None, world),
            (Ok(_), true) => {
                let why = format!("`for_each: {}` is no list", each.list);
                self.not_run(node, key, &Prospect::Fails(why));
            }
            (Err(error), true) => self.not_run(node, key, &Prospect::Fails(error.to_string())),
        }
    }

    fn known_items(&mut self, node: &PlanNode, key: &StepKey, each: &Each, items: &[Value], world: &mut AbstractEnv) {
        let from = self.found.len();
        let mut values = Vec::new();
        for (index, item) in items.iter().take(ITEMS).enumerate() {
            let locals = vec![("item", item.clone()), ("index", Value::from(index))];
            let mut inner = world.with(locals.clone(), locals);
            inner.unknown.remove("item");
            inner.unknown.remove("index");
            let start = self.found.len();
            values.extend(self.once(node, key, &mut inner));
            if start > from {
                let later = self.found.split_off(start);
                self.found.iter_mut().skip(from).zip(later).for_each(|(step, other)| step.add(other));
            }
        }
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if items.is_empty() {
            self.not_run(node, key, &Prospect::Skipped(format!("`{}` is empty", each.list)));
        } else if items.len() > ITEMS {
            // Scale the estimate of the first hundred items up to the whole list.
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
        node: &PlanNode,
        key: &StepKey,
        each: &Each,
        first: Option<Value>,
        world: &mut AbstractEnv,
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
        // An item has at most as many tokens as the whole list.
        let most = root.and_then(|root| root.most);
        inner.unknown.insert("item".to_owned(), Unknown { schema: None, most });
        inner.unknown.insert("index".to_owned(), Unknown { schema: None, most: Some(4) });
        let from = self.found.len();
        self.once(node, key, &mut inner);
        self.found.iter_mut().skip(from).for_each(|step| step.times(count));
        if let Some(output) = &node.output {
            world.add_unknown(&output.name, list_of(node, each, &output.name, count));
        }
    }
}

/// Returns the placeholders for the list that a step over items produces.
fn list_of(node: &PlanNode, each: &Each, name: &str, count: Range) -> PlaceholderPair {
    let one = faces(node, &format!("{name}[]"));
    let entry =
        |value: Value| if each.records { json!({ "index": 0, "status": "completed", "value": value }) } else { value };
    let least = (0..count.least.min(100)).map(|_| entry(one.least.clone())).collect();
    let most = one.unknown.most.zip(count.most).map(|(item, count)| item.saturating_mul(count));
    PlaceholderPair { shown: json!([entry(one.shown)]), least, unknown: Unknown { schema: None, most } }
}
