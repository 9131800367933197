//! Makes a value fit that does not fit as it is: removes its wrappings and converts its scalars to the schema's types.
//! No content is lost and none is added.

use serde_json::{Map, Value};

use super::cursor::Mode;
use super::parser;
use super::report::Repair;
use super::words;
use crate::schema::{Schema, type_of};

/// The most wrappings that are removed from one value.
const MOST_WRAPPINGS: usize = 3;

/// How many levels deep the schema is followed.
const DEEPEST: usize = 64;

/// The most schema steps for one value; a limit is necessary because nested unions multiply the steps.
const MOST_STEPS: usize = 200_000;

/// Returns the value in a form that fits, and the repairs that this took. `read_with` lists the parser's repairs.
pub(super) fn fit(value: &Value, schema: &Schema, read_with: &[Repair]) -> Option<(Value, Vec<Repair>)> {
    let mut value = value.clone();
    let mut repairs = Vec::new();
    let respelled = read_with.contains(&Repair::NumberSpelling);
    for wrapping in 0..=MOST_WRAPPINGS {
        if wrapping > 0 {
            let (inner, repair) = unwrap(value)?;
            value = inner;
            if !repairs.contains(&repair) {
                repairs.push(repair);
            }
            if schema.is_valid(&value) {
                return Some((value, repairs));
            }
        }
        let mut coercer = Coercer { root: schema.document(), respelled, repairs: repairs.clone(), steps: 0 };
        if let Some(coerced) = coercer.value(&value, schema.document(), 0)
            && schema.is_valid(&coerced)
        {
            return Some((coerced, coercer.repairs));
        }
    }
    None
}

/// Removes one wrapping.
fn unwrap(value: Value) -> Option<(Value, Repair)> {
    match value {
        Value::Array(mut items) if items.len() == 1 => Some((items.pop()?, Repair::OneElementArray)),
        Value::Object(members) if members.len() == 1 => Some((members.into_iter().next()?.1, Repair::OneKeyEnvelope)),
        Value::String(text) => Some((decode(&text)?, Repair::DoublyEncoded)),
        _ => None,
    }
}

/// The object or array that a string contains as JSON.
fn decode(text: &str) -> Option<Value> {
    let text = text.trim();
    let parsed = text.starts_with(['{', '[']).then(|| parser::read_as(text, 0, Mode::Exact).ok()).flatten()?;
    (parsed.end == text.len()).then_some(parsed.value)
}

struct Coercer<'a> {
    root: &'a Value,
    /// Whether the parser changed how a number is spelled.
    respelled: bool,
    repairs: Vec<Repair>,
    steps: usize,
}

impl<'a> Coercer<'a> {
    /// The value converted to this part of the schema; `None` when nothing changes.
    fn value(&mut self, value: &Value, schema: &'a Value, depth: usize) -> Option<Value> {
        self.steps += 1;
        if depth > DEEPEST || self.steps > MOST_STEPS {
            return None;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            return self.value(value, self.root.pointer(target.strip_prefix('#')?)?, depth + 1);
        }
        let mut changed = self.scalar(value, schema);
        for all in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            changed = self.value(changed.as_ref().unwrap_or(value), all, depth + 1).or(changed);
        }
        if changed.is_none() {
            changed =
                ["anyOf", "oneOf"].iter().find_map(|union| self.union(value, schema.get(union)?.as_array()?, depth));
        }
        let current = changed.as_ref().unwrap_or(value);
        let inside = match current {
            Value::Object(members) => self.members(members, schema, depth),
            Value::Array(items) => self.items(items, schema, depth),
            _ => None,
        };
        inside.or(changed)
    }

    /// Applies the first branch that changes something, unless a branch accepts the value's type as it is.
    fn union(&mut self, value: &Value, branches: &'a [Value], depth: usize) -> Option<Value> {
        let fits = |branch: &Value| {
            branch.get("type").is_some_and(|wanted| {
                !value.is_object()
                    && !value.is_array()
                    && has_type(wanted, type_of(value))
                    && !branch.as_object().is_some_and(|b| b.contains_key("enum"))
            })
        };
        if branches.iter().any(fits) {
            return None;
        }
        branches.iter().find_map(|branch| {
            let before = self.repairs.clone();
            let changed = self.value(value, branch, depth + 1);
            if changed.is_none() {
                self.repairs = before;
            }
            changed
        })
    }

    fn members(&mut self, members: &Map<String, Value>, schema: &'a Value, depth: usize) -> Option<Value> {
        // Every member is copied, also those that the schema does not mention.
        self.steps = self.steps.saturating_add(members.len());
        let properties = schema.get("properties").and_then(Value::as_object);
        let rest = schema.get("additionalProperties");
        let mut out = Map::new();
        let mut changed = false;
        for (key, value) in members {
            let trimmed = key.trim();
            let known = properties.is_some_and(|p| p.contains_key(key));
            let name =
                if !known && properties.is_some_and(|p| p.contains_key(trimmed)) && !members.contains_key(trimmed) {
                    self.note(Repair::KeySpaces);
                    changed = true;
                    trimmed
                } else {
                    key
                };
            let wanted = properties.and_then(|p| p.get(name)).or(rest);
            let new = wanted.and_then(|wanted| self.value(value, wanted, depth + 1));
            changed |= new.is_some();
            out.insert(name.to_owned(), new.unwrap_or_else(|| value.clone()));
        }
        changed.then_some(Value::Object(out))
    }

    fn items(&mut self, items: &[Value], schema: &'a Value, depth: usize) -> Option<Value> {
        let prefix = schema.get("prefixItems").and_then(Value::as_array);
        let rest = schema.get("items");
        if prefix.is_none() && rest.is_none() {
            return None;
        }
        // Every item is copied, also those that the schema does not mention.
        self.steps = self.steps.saturating_add(items.len());
        let mut changed = false;
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let wanted = prefix.and_then(|prefix| prefix.get(i)).or(rest);
            let new = wanted.and_then(|wanted| self.value(item, wanted, depth + 1));
            changed |= new.is_some();
            out.push(new.unwrap_or_else(|| item.clone()));
        }
        changed.then_some(Value::Array(out))
    }

    fn scalar(&mut self, value: &Value, schema: &Value) -> Option<Value> {
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return self.word(value, words);
        }
        let wanted = schema.get("type")?;
        if has_type(wanted, type_of(value)) {
            return None;
        }
        let (new, repair) = match value {
            Value::String(text) => from_text(text, wanted)?,
            // A number that the parser respelled would become a different text.
            Value::Number(number) if has_type(wanted, "string") && !self.respelled => {
                (Value::String(number.to_string()), Repair::Coerced)
            }
            _ => return None,
        };
        self.note(repair);
        Some(new)
    }

    /// The only word of an enumeration that differs from the value in letter case alone, or the number of the
    /// enumeration that a string spells.
    fn word(&mut self, value: &Value, words: &[Value]) -> Option<Value> {
        if words.contains(value) {
            return None;
        }
        let text = value.as_str()?.trim();
        let mut same =
            words.iter().filter(|word| word.as_str().is_some_and(|word| word.to_lowercase() == text.to_lowercase()));
        let only = same.next().filter(|_| same.next().is_none()).cloned();
        if let Some(word) = only {
            self.note(Repair::EnumCase);
            return Some(word);
        }
        let number = words::is_number(text.as_bytes()).then(|| serde_json::from_str::<Value>(text).ok()).flatten()?;
        let found = words.contains(&number).then_some(number);
        if found.is_some() {
            self.note(Repair::Coerced);
        }
        found
    }

    fn note(&mut self, repair: Repair) {
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
    }
}

/// Converts a text to one of the wanted types, when the text contains that value and nothing else.
fn from_text(text: &str, wanted: &Value) -> Option<(Value, Repair)> {
    let trimmed = text.trim();
    let number = has_type(wanted, "number") || has_type(wanted, "integer");
    if number {
        let plain = words::ungrouped(trimmed);
        let digits = plain.as_deref().unwrap_or(trimmed);
        if words::is_number(digits.as_bytes()) {
            return Some((serde_json::from_str(digits).ok()?, Repair::Coerced));
        }
    }
    if has_type(wanted, "boolean")
        && let Some(flag) = ["false", "true"].iter().position(|word| trimmed.eq_ignore_ascii_case(word))
    {
        return Some((Value::Bool(flag == 1), Repair::Coerced));
    }
    if has_type(wanted, "object") || has_type(wanted, "array") {
        return decode(trimmed).map(|value| (value, Repair::DoublyEncoded));
    }
    None
}

/// Whether a `type` keyword names this type.
fn has_type(wanted: &Value, kind: &str) -> bool {
    let is = |word: &Value| word.as_str().is_some_and(|word| word == kind || word == "integer" && kind == "number");
    match wanted {
        Value::Array(words) => words.iter().any(is),
        word => is(word),
    }
}
