//! Forecasts `for_each` steps. For a known list, walks the items one by one; for an unknown list, walks one placeholder
//! item.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::StepKey;
use crate::schema;
use crate::template::{eval, variables};

use super::abstract_env::{AbstractEnv, PlaceholderPair, UnknownValue, placeholders_for};
use super::walk::ForecastWalk;
use super::{Prediction, Range};
use crate::engine::node::{ForEach, PlanNode};

/// The maximum number of items of a known list that the forecast walks. For a longer list it scales up the estimate of
/// the walked items.
const MAX_WALKED_ITEMS: usize = 100;

impl ForecastWalk<'_, '_> {
    pub(super) fn forecast_for_each(
        &mut self,
        node: &PlanNode,
        key: &StepKey,
        for_each: &ForEach,
        env: &mut AbstractEnv,
    ) {
        let is_known = env.knows(&variables(&for_each.list));
        match (eval(&for_each.list, &env.placeholders.context(node)), is_known) {
            (Ok(Value::Array(items)), true) => self.forecast_known_items(node, key, for_each, &items, env),
            (Ok(Value::Array(items)), false) => {
                self.forecast_unknown_items(node, key, for_each, items.into_iter().next(), env);
            }
            (Ok(_) | Err(_), false) => self.forecast_unknown_items(node, key, for_each, None, env),
            (Ok(_), true) => {
                let message = format!("`for_each: {}` is not a list", for_each.list);
                self.add_step_without_run(node, key, &Prediction::Fails(message));
            }
            (Err(error), true) => self.add_step_without_run(node, key, &Prediction::Fails(error.to_string())),
        }
    }

    fn forecast_known_items(
        &mut self,
        node: &PlanNode,
        key: &StepKey,
        for_each: &ForEach,
        items: &[Value],
        env: &mut AbstractEnv,
    ) {
        let first_step = self.steps.len();
        let mut values = Vec::new();
        for (index, item) in items.iter().take(MAX_WALKED_ITEMS).enumerate() {
            let mut inner = env.for_item(item.clone(), item.clone(), index);
            inner.unknown.remove_mut("item");
            inner.unknown.remove_mut("index");
            let item_start = self.steps.len();
            values.extend(self.forecast_once(node, key, &mut inner));
            if item_start > first_step {
                let item_steps = self.steps.split_off(item_start);
                self.steps
                    .iter_mut()
                    .skip(first_step)
                    .zip(item_steps)
                    .for_each(|(step, item_step)| step.add_item(item_step));
            }
        }
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if items.is_empty() {
            self.add_step_without_run(node, key, &Prediction::Skipped(format!("`{}` is empty", for_each.list)));
        } else if items.len() > MAX_WALKED_ITEMS {
            let walked = u64::try_from(MAX_WALKED_ITEMS).unwrap_or(u64::MAX);
            let scale = Range { min: count / walked, max: Some(count.div_ceil(walked)) };
            self.steps.iter_mut().skip(first_step).for_each(|step| step.multiply(scale));
        }
        let Some(output) = &node.output else { return };
        if values.len() == items.len() {
            let entry = |(index, value): (usize, &Arc<Value>)| {
                if for_each.records_status {
                    json!({ "index": index, "status": "completed", "value": **value })
                } else {
                    (**value).clone()
                }
            };
            let output_list: Value = values.iter().enumerate().map(entry).collect();
            env.add_known(&output.name, &Arc::new(output_list));
        } else {
            env.add_unknown(&output.name, list_placeholders(node, for_each, &output.name, Range::exactly(count)));
        }
    }

    fn forecast_unknown_items(
        &mut self,
        node: &PlanNode,
        key: &StepKey,
        for_each: &ForEach,
        first_item: Option<Value>,
        env: &mut AbstractEnv,
    ) {
        let mut path = for_each.list.trim().split('.');
        let list_value = path.next().and_then(|name| env.unknown.get(name)).cloned();
        let path: Vec<&str> = path.collect();
        let bounds = list_value.as_ref().and_then(|list_value| list_value.schema.as_ref()?.item_count_range(&path));
        let count = bounds.map_or(Range { min: 0, max: None }, |(min, max)| Range { min, max });
        let smallest_item = match eval(&for_each.list, &env.smallest.context(node)) {
            Ok(Value::Array(items)) => items.into_iter().next(),
            Ok(_) | Err(_) => None,
        };
        let placeholder_item = first_item.unwrap_or_else(|| schema::placeholder_value("item", "any"));
        let smallest_item = smallest_item.unwrap_or_else(|| placeholder_item.clone());
        let mut inner = env.for_item(placeholder_item, smallest_item, 0);
        // An item has at most as many tokens as the whole list.
        let max_tokens = list_value.and_then(|list_value| list_value.max_tokens);
        inner.unknown.insert_mut("item".to_owned(), UnknownValue { schema: None, max_tokens });
        inner.unknown.insert_mut("index".to_owned(), UnknownValue { schema: None, max_tokens: Some(4) });
        let first_step = self.steps.len();
        self.forecast_once(node, key, &mut inner);
        self.steps.iter_mut().skip(first_step).for_each(|step| step.multiply(count));
        if let Some(output) = &node.output {
            env.add_unknown(&output.name, list_placeholders(node, for_each, &output.name, count));
        }
    }
}

/// Returns the placeholder and the smallest value for the list that a `for_each` step produces.
fn list_placeholders(node: &PlanNode, for_each: &ForEach, name: &str, count: Range) -> PlaceholderPair {
    let item_pair = placeholders_for(node, &format!("{name}[]"));
    let entry = |value: Value| {
        if for_each.records_status { json!({ "index": 0, "status": "completed", "value": value }) } else { value }
    };
    let smallest = (0..count.min.min(100)).map(|_| entry(item_pair.smallest.clone())).collect();
    let max_tokens = item_pair.unknown.max_tokens.zip(count.max).map(|(item, count)| item.saturating_mul(count));
    PlaceholderPair {
        placeholder: json!([entry(item_pair.placeholder)]),
        smallest,
        unknown: UnknownValue { schema: None, max_tokens },
    }
}
