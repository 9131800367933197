//! Coerces a value to a schema: removes wrappers and converts scalars to the schema's types, without losing or adding
//! content.

use serde_json::{Map, Value};

use super::cursor::ParseMode;
use super::equality::is_same_value;
use super::parser;
use super::report::Repair;
use super::scalars;
use crate::schema::{Mismatch, Schema, json_type_name};

/// The maximum number of wrappers (one-element arrays, one-key objects, JSON strings) that orch removes from one value.
const MAX_WRAPPERS: usize = 3;

/// The maximum depth of the subschemas that orch applies to a value.
const MAX_DEPTH: usize = 64;

/// The maximum number of steps for one value. Nested unions multiply the steps, so a limit is necessary.
const MAX_STEPS: usize = 200_000;

/// Returns the coerced value if it fits the schema, and the repairs. `parser_repairs` lists the repairs of the parser.
pub(super) fn coerce_to_schema(
    value: &Value,
    schema: &Schema,
    parser_repairs: &[Repair],
) -> Option<(Value, Vec<Repair>)> {
    let mut value = value.clone();
    let mut repairs = Vec::new();
    let has_respelled_number = parser_repairs.contains(&Repair::NumberSpelling);
    for wrapper_count in 0..=MAX_WRAPPERS {
        if wrapper_count > 0 {
            let (inner, repair) = remove_wrapper(value)?;
            value = inner;
            if !repairs.contains(&repair) {
                repairs.push(repair);
            }
            if schema.is_valid(&value) {
                return Some((value, repairs));
            }
        }
        let mut coercer = Coercer { root: schema.as_value(), has_respelled_number, repairs: repairs.clone(), steps: 0 };
        if let Some(coerced) = coercer.coerce_value(&value, schema.as_value(), 0)
            && schema.is_valid(&coerced)
        {
            return Some((coerced, coercer.repairs));
        }
    }
    None
}

/// Returns the reasons why a value does not fit the schema that remain if every part is converted that has a conversion.
/// The list is empty if the value fits without one.
pub(super) fn remaining_mismatches(value: &Value, schema: &Schema, parser_repairs: &[Repair]) -> Vec<Mismatch> {
    let mismatches = schema.mismatches(value);
    let has_respelled_number = parser_repairs.contains(&Repair::NumberSpelling);
    let mut coercer = Coercer { root: schema.as_value(), has_respelled_number, repairs: Vec::new(), steps: 0 };
    let Some(converted) = coercer.coerce_value(value, schema.as_value(), 0) else { return mismatches };
    let remaining = schema.mismatches(&converted);
    // A conversion to one of several alternatives may lead away from the others.
    if remaining.is_empty() || remaining.len() > mismatches.len() { mismatches } else { remaining }
}

/// Removes one wrapper.
fn remove_wrapper(value: Value) -> Option<(Value, Repair)> {
    match value {
        Value::Array(mut items) if items.len() == 1 => Some((items.pop()?, Repair::OneElementArray)),
        Value::Object(members) if members.len() == 1 => Some((members.into_iter().next()?.1, Repair::OneKeyEnvelope)),
        Value::String(text) => Some((parse_nested_json(&text)?, Repair::DoublyEncoded)),
        _ => None,
    }
}

/// Parses a string that contains only an object or an array as JSON.
fn parse_nested_json(text: &str) -> Option<Value> {
    let text = text.trim();
    let parsed =
        text.starts_with(['{', '[']).then(|| parser::parse_in_mode(text, 0, ParseMode::Exact).ok()).flatten()?;
    (parsed.end == text.len()).then_some(parsed.value)
}

struct Coercer<'a> {
    root: &'a Value,
    /// Whether the parser changed the spelling of a number.
    has_respelled_number: bool,
    repairs: Vec<Repair>,
    steps: usize,
}

impl<'a> Coercer<'a> {
    /// Converts a value to this part of the schema. Returns `None` if nothing changes.
    fn coerce_value(&mut self, value: &Value, schema: &'a Value, depth: usize) -> Option<Value> {
        self.steps += 1;
        if depth > MAX_DEPTH || self.steps > MAX_STEPS {
            return None;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            return self.coerce_value(value, self.root.pointer(target.strip_prefix('#')?)?, depth + 1);
        }
        let mut new_value = self.coerce_scalar(value, schema);
        for subschema in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            new_value = self.coerce_value(new_value.as_ref().unwrap_or(value), subschema, depth + 1).or(new_value);
        }
        if new_value.is_none() {
            new_value = ["anyOf", "oneOf"]
                .iter()
                .find_map(|keyword| self.coerce_union(value, schema.get(keyword)?.as_array()?, depth));
        }
        let new_container = match new_value.as_ref().unwrap_or(value) {
            Value::Object(members) => self.coerce_members(members, schema, depth),
            Value::Array(items) => self.coerce_items(items, schema, depth),
            _ => None,
        };
        new_container.or(new_value)
    }

    /// Applies the first alternative (a subschema of `anyOf` or `oneOf`) that changes the value, unless an alternative
    /// accepts the type of the unchanged value.
    fn coerce_union(&mut self, value: &Value, branches: &'a [Value], depth: usize) -> Option<Value> {
        let accepts_type = |branch: &Value| {
            branch.get("type").is_some_and(|expected_type| {
                !value.is_object()
                    && !value.is_array()
                    && has_type(expected_type, json_type_name(value))
                    && !branch.as_object().is_some_and(|branch| branch.contains_key("enum"))
            })
        };
        if branches.iter().any(accepts_type) {
            return None;
        }
        branches.iter().find_map(|branch| {
            let previous_repairs = self.repairs.clone();
            let new_value = self.coerce_value(value, branch, depth + 1);
            if new_value.is_none() {
                self.repairs = previous_repairs;
            }
            new_value
        })
    }

    fn coerce_members(&mut self, members: &Map<String, Value>, schema: &'a Value, depth: usize) -> Option<Value> {
        // Counts every member as a step, because the result has a copy of each member.
        self.steps = self.steps.saturating_add(members.len());
        let properties = schema.get("properties").and_then(Value::as_object);
        let default_schema = schema.get("additionalProperties");
        let mut new_members = Map::new();
        let mut is_changed = false;
        for (key, value) in members {
            let trimmed = key.trim();
            let is_property = properties.is_some_and(|p| p.contains_key(key));
            let name = if !is_property
                && properties.is_some_and(|p| p.contains_key(trimmed))
                && !members.contains_key(trimmed)
            {
                self.add_repair(Repair::KeySpaces);
                is_changed = true;
                trimmed
            } else {
                key
            };
            let value_schema = properties.and_then(|p| p.get(name)).or(default_schema);
            let new_value = value_schema.and_then(|value_schema| self.coerce_value(value, value_schema, depth + 1));
            is_changed |= new_value.is_some();
            new_members.insert(name.to_owned(), new_value.unwrap_or_else(|| value.clone()));
        }
        is_changed.then_some(Value::Object(new_members))
    }

    fn coerce_items(&mut self, items: &[Value], schema: &'a Value, depth: usize) -> Option<Value> {
        let positional_schemas = schema.get("prefixItems").and_then(Value::as_array);
        let default_schema = schema.get("items");
        if positional_schemas.is_none() && default_schema.is_none() {
            return None;
        }
        // Counts every item as a step, because the result has a copy of each item.
        self.steps = self.steps.saturating_add(items.len());
        let mut is_changed = false;
        let mut new_items = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let value_schema = positional_schemas.and_then(|schemas| schemas.get(i)).or(default_schema);
            let new_value = value_schema.and_then(|value_schema| self.coerce_value(item, value_schema, depth + 1));
            is_changed |= new_value.is_some();
            new_items.push(new_value.unwrap_or_else(|| item.clone()));
        }
        is_changed.then_some(Value::Array(new_items))
    }

    fn coerce_scalar(&mut self, value: &Value, schema: &Value) -> Option<Value> {
        if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            return self.coerce_to_enum(value, choices);
        }
        let expected_type = schema.get("type")?;
        if has_type(expected_type, json_type_name(value)) {
            return None;
        }
        let (new_value, repair) = match value {
            Value::String(text) => parse_typed(text, expected_type)?,
            // If the parser changed the spelling of a number, the text would differ from the reply.
            Value::Number(number) if has_type(expected_type, "string") && !self.has_respelled_number => {
                (Value::String(number.to_string()), Repair::Coerced)
            }
            _ => return None,
        };
        self.add_repair(repair);
        Some(new_value)
    }

    /// Returns the choice of an enumeration that differs from the value only in letter case, if there is exactly one.
    /// Otherwise returns the number that the value contains as a string, if the number is a choice.
    fn coerce_to_enum(&mut self, value: &Value, choices: &[Value]) -> Option<Value> {
        if choices.contains(value) {
            return None;
        }
        let text = value.as_str()?.trim();
        let mut matches = choices
            .iter()
            .filter(|choice| choice.as_str().is_some_and(|choice| choice.to_lowercase() == text.to_lowercase()));
        let only_match = matches.next().filter(|_| matches.next().is_none()).cloned();
        if let Some(choice) = only_match {
            self.add_repair(Repair::EnumCase);
            return Some(choice);
        }
        let number =
            scalars::is_json_number(text.as_bytes()).then(|| serde_json::from_str::<Value>(text).ok()).flatten()?;
        let choice = choices.iter().any(|choice| is_same_value(choice, &number)).then_some(number);
        if choice.is_some() {
            self.add_repair(Repair::Coerced);
        }
        choice
    }

    fn add_repair(&mut self, repair: Repair) {
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
    }
}

/// Parses a text as a value of one of the expected types. Returns `None` if the text contains anything else.
fn parse_typed(text: &str, expected_type: &Value) -> Option<(Value, Repair)> {
    let trimmed = text.trim();
    if has_type(expected_type, "number") || has_type(expected_type, "integer") {
        let ungrouped = scalars::remove_digit_groups(trimmed);
        let digits = ungrouped.as_deref().unwrap_or(trimmed);
        if scalars::is_json_number(digits.as_bytes()) {
            return Some((serde_json::from_str(digits).ok()?, Repair::Coerced));
        }
    }
    if has_type(expected_type, "boolean")
        && let Some(index) = ["false", "true"].iter().position(|word| trimmed.eq_ignore_ascii_case(word))
    {
        return Some((Value::Bool(index == 1), Repair::Coerced));
    }
    if has_type(expected_type, "object") || has_type(expected_type, "array") {
        return parse_nested_json(trimmed).map(|value| (value, Repair::DoublyEncoded));
    }
    None
}

/// Whether the value of the keyword `type` allows a type.
fn has_type(keyword: &Value, name: &str) -> bool {
    let is_allowed = |allowed: &Value| {
        allowed.as_str().is_some_and(|allowed| allowed == name || allowed == "integer" && name == "number")
    };
    match keyword {
        Value::Array(type_names) => type_names.iter().any(is_allowed),
        type_name => is_allowed(type_name),
    }
}
