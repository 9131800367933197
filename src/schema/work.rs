//! Counts how much work it is to check a value against a schema, before the check runs.
//!
//! A validator tries every alternative. If alternatives refer to the same parts by `$ref`, it reaches a part of the
//! schema on many paths, each time with the same part of the value: forty definitions that each offer the next one
//! twice make 2^40 visits. So for schemas where this can happen, the visits are counted first. Counting needs each pair
//! of a schema part and a value part only once, and is therefore fast even where the check would not be.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::SchemaError;

/// How many visits one check may take: a few seconds of work at most.
pub(super) const MAX_VISITS: u64 = 10_000_000;
/// Up to how many visits the reasons are listed why a value does not fit, if visits are counted.
pub(super) const MAX_LISTED: u64 = 200_000;
/// How many pairs of a schema part and a value part are counted before the result is "too much".
const MAX_PAIRS: usize = 2_000_000;
/// How many schemas a check may enter inside of one another, through values and through references. The validator
/// recurses for each.
pub(super) const MAX_CHECK_DEPTH: usize = 2_000;
/// The greatest nesting depth of a reply's value.
const DEEPEST_VALUE: usize = 513;
/// How many values an `enum` may have before its comparisons count as work.
const LONG_ENUM: usize = 100;
/// Keywords whose value is data rather than a schema.
const DATA: &[&str] = &["const", "default", "enum", "examples"];
/// References whose target depends on how a check reached them.
const DYNAMIC: &[&str] = &["$dynamicRef", "$recursiveRef"];
/// Keywords whose value is a schema that applies to the same value.
const SAME_VALUE: &[&str] = &["not", "if", "then", "else"];
/// Keywords whose value is a list of schemas that apply to the same value.
const SAME_VALUE_LISTS: &[&str] = &["allOf", "anyOf", "oneOf"];

/// Whether the work of a check against a schema is counted first, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkCounting {
    /// It is not counted, because the work grows no faster than the value.
    No,
    /// It is counted because chains of references make a check nest deeper than the value.
    Depth,
    /// It is counted because the work may grow faster than the value.
    Growth,
}

/// Whether the work of checks against a schema must be counted, because it may grow faster than the value.
///
/// The work grows no faster if no keyword offers alternatives, or if nothing refers to another part: then the check
/// reaches no part twice with the same value.
///
/// # Errors
/// The schema takes too much work for every value, with the first part that does; or it has references that resolve
/// only during a check.
pub(super) fn must_be_counted(name: &str, schema: &Value) -> Result<WorkCounting, SchemaError> {
    let mut survey = SchemaSurvey::default();
    survey.part(schema);
    if let Some(keyword) = survey.dynamic {
        let message =
            format!("`{keyword}` can't be used, since what it leads to is known only during a check; write `$ref`");
        return Err(SchemaError { file: name.to_owned(), pointer: String::new(), message, help: None });
    }
    let may_grow = survey.repeats || (survey.has_alternatives && survey.refers);
    if !may_grow && !survey.refers {
        return Ok(WorkCounting::No);
    }
    let mut counter = Counter::new(schema);
    let mut deepest = 0;
    match too_much(&mut counter, schema, &mut String::new(), &mut deepest) {
        // Each nesting level of a value adds at most `deepest` levels to the check.
        None if may_grow => Ok(WorkCounting::Growth),
        None if deepest.saturating_mul(DEEPEST_VALUE) > MAX_CHECK_DEPTH => Ok(WorkCounting::Depth),
        None => Ok(WorkCounting::No),
        Some((pointer, work)) => Err(work.refusal(name, pointer)),
    }
}

/// Why a check takes too much work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMuchWork {
    /// Too many visits.
    Visits,
    /// Too many visits nested inside of one another.
    Depth,
}

/// The maximum number of visits that a check of a value takes.
///
/// # Errors
/// The check would take too much work.
pub(super) fn visits(schema: &Value, value: &Value) -> Result<u64, TooMuchWork> {
    let mut counter = Counter::new(schema);
    let work = counter.work(schema, Some(value));
    if work.depth > MAX_CHECK_DEPTH {
        return Err(TooMuchWork::Depth);
    }
    if work.visits > MAX_VISITS || counter.known.len() > MAX_PAIRS {
        return Err(TooMuchWork::Visits);
    }
    Ok(work.visits)
}

/// The work of a check: the number of visits, and how deep they nest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CheckWork {
    visits: u64,
    depth: usize,
}

impl CheckWork {
    const ENDLESS: Self = Self { visits: u64::MAX, depth: 0 };
    const BOTTOMLESS: Self = Self { visits: u64::MAX, depth: usize::MAX };

    fn and(self, other: Self) -> Self {
        Self { visits: self.visits.saturating_add(other.visits), depth: self.depth.max(other.depth) }
    }

    /// The error for the part of a schema that takes too much work for every value.
    fn refusal(self, name: &str, pointer: String) -> SchemaError {
        let (message, help) = if self.depth > MAX_CHECK_DEPTH {
            (
                format!("this is too complex: more than {MAX_CHECK_DEPTH} schemas refer to one another in a row"),
                "let `$ref` name the last schema of the chain directly",
            )
        } else {
            (
                format!(
                    "this is too complex: to check one value takes more than {MAX_VISITS} steps, since its \
                     alternatives refer to the same parts again and again"
                ),
                "offer fewer alternatives at each level, or write `oneOf` and `anyOf` only where values differ in type",
            )
        };
        SchemaError { file: name.to_owned(), pointer, message, help: Some(help.to_owned()) }
    }
}

/// The properties of a schema that decide whether its work must be counted.
#[derive(Default)]
struct SchemaSurvey {
    refers: bool,
    has_alternatives: bool,
    /// Whether a keyword checks the same parts twice, or compares each value with a long list.
    repeats: bool,
    /// The keyword, if there is one, whose target is known only during a check.
    dynamic: Option<&'static str>,
}

impl SchemaSurvey {
    fn part(&mut self, part: &Value) {
        match part {
            Value::Object(map) => {
                for (key, value) in map.iter().filter(|(key, _)| !DATA.contains(&key.as_str())) {
                    let is_keyword = value.is_string();
                    self.refers |= key == "$ref" && is_keyword;
                    let dynamic = DYNAMIC.iter().find(|name| *name == key && is_keyword);
                    self.dynamic = self.dynamic.or(dynamic.copied());
                    self.has_alternatives |= SAME_VALUE.contains(&key.as_str())
                        || SAME_VALUE_LISTS.contains(&key.as_str())
                        || key == "dependentSchemas";
                    self.repeats |= key.starts_with("unevaluated");
                    self.part(value);
                }
                self.repeats |= map.get("enum").and_then(Value::as_array).is_some_and(|list| list.len() > LONG_ENUM);
            }
            Value::Array(list) => list.iter().for_each(|part| self.part(part)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// The first part that takes too much work for every value, with that work. Updates `deepest`, the deepest nesting of
/// any part.
fn too_much<'a>(
    counter: &mut Counter<'a>,
    part: &'a Value,
    pointer: &mut String,
    deepest: &mut usize,
) -> Option<(String, CheckWork)> {
    if part.is_object() {
        let work = counter.work(part, None);
        if work.visits > MAX_VISITS || work.depth > MAX_CHECK_DEPTH {
            return Some((pointer.clone(), work));
        }
        *deepest = work.depth.max(*deepest);
    }
    let members: Vec<(String, &Value)> = match part {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    for (key, value) in members {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key);
        let found = too_much(counter, value, pointer, deepest);
        pointer.truncate(length);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Counts work once for each pair of a schema part and a value part. Without a value, counts the work that every value
/// takes.
struct Counter<'a> {
    root: &'a Value,
    known: HashMap<(*const Value, *const Value), CheckWork>,
    /// How many calls of [`work`](Self::work) are active: the count nests as deep as the check would.
    depth: usize,
}

impl<'a> Counter<'a> {
    fn new(root: &'a Value) -> Self {
        Self { root, known: HashMap::new(), depth: 0 }
    }

    fn work(&mut self, schema: &'a Value, value: Option<&'a Value>) -> CheckWork {
        let Value::Object(map) = schema else { return CheckWork { visits: 1, depth: 1 } };
        let pair = (std::ptr::from_ref(schema), value.map_or(std::ptr::null(), std::ptr::from_ref));
        if let Some(known) = self.known.get(&pair) {
            return *known;
        }
        if self.known.len() > MAX_PAIRS {
            return CheckWork::ENDLESS;
        }
        if self.depth >= MAX_CHECK_DEPTH {
            return CheckWork::BOTTOMLESS;
        }
        // Breaks cycles. A part that leads back to itself with the same value adds no work, because the validator stops
        // there.
        self.known.insert(pair, CheckWork::default());
        self.depth += 1;
        let same = self.of_same_value(map, value);
        let below = value.map_or_else(CheckWork::default, |value| self.of_parts(map, value));
        self.depth -= 1;
        let repeats = if map.keys().any(|key| key.starts_with("unevaluated")) { 2 } else { 1 };
        let compared = map.get("enum").and_then(Value::as_array).map_or(0, |list| list.len() as u64);
        let visits = same.visits.saturating_mul(repeats).saturating_add(below.visits);
        let visits = visits.saturating_add(compared).saturating_add(1);
        let work = CheckWork { visits, depth: same.depth.max(below.depth).saturating_add(1) };
        self.known.insert(pair, work);
        work
    }

    /// The work of the schemas that apply to the same value.
    fn of_same_value(&mut self, map: &'a Map<String, Value>, value: Option<&'a Value>) -> CheckWork {
        let mut parts: Vec<&'a Value> = SAME_VALUE.iter().filter_map(|key| map.get(*key)).collect();
        let lists = SAME_VALUE_LISTS.iter().filter_map(|key| map.get(*key)?.as_array());
        parts.extend(lists.flatten());
        parts.extend(map.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(Map::values));
        parts.extend(map.get("$ref").and_then(Value::as_str).and_then(|target| self.target(target)));
        parts.into_iter().fold(CheckWork::default(), |sum, part| sum.and(self.work(part, value)))
    }

    /// The work of the schemas that apply to members and items of the value, as if every pattern matched.
    fn of_parts(&mut self, map: &'a Map<String, Value>, value: &'a Value) -> CheckWork {
        let mut pairs: Vec<(&'a Value, &'a Value)> = Vec::new();
        match value {
            Value::Object(members) => {
                let named = map.get("properties").and_then(Value::as_object);
                let patterns: Vec<&Value> =
                    map.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values).collect();
                for (key, member) in members {
                    let own = named.and_then(|named| named.get(key));
                    let others = ["additionalProperties", "unevaluatedProperties"].map(|key| map.get(key));
                    let others = others.into_iter().flatten().filter(|_| own.is_none());
                    let schemas = own.into_iter().chain(patterns.iter().copied()).chain(others);
                    pairs.extend(schemas.map(|schema| (schema, member)));
                }
            }
            Value::Array(items) => {
                let first = ["prefixItems", "items"].iter().find_map(|key| map.get(*key)?.as_array());
                let rest = ["items", "additionalItems", "contains", "unevaluatedItems"];
                let rest: Vec<&Value> =
                    rest.iter().filter_map(|key| map.get(*key)).filter(|part| !part.is_array()).collect();
                for (at, item) in items.iter().enumerate() {
                    let own = first.and_then(|first| first.get(at));
                    pairs.extend(own.into_iter().chain(rest.iter().copied()).map(|schema| (schema, item)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        pairs.into_iter().fold(CheckWork::default(), |sum, (schema, part)| sum.and(self.work(schema, Some(part))))
    }

    /// The part of the schema that a local reference leads to.
    fn target(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(&super::closure::unescaped(reference.strip_prefix('#')?))
    }
}

#[cfg(test)]
mod tests;
