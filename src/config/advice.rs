//! Advice about unknown keys and values of the wrong type.

use serde_json::Value;

use super::form::SchemaForm;
use super::generate;
use super::shape::is_a;
use crate::diagnostic::equivalents::{self, YamlShape};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::model::Span;

/// Adds advice about an unknown key. Tries in this order: what orch calls a key of another tool, the nearest known key,
/// where else the key belongs, and the list of known keys.
pub(super) fn unknown_key(
    mut problem: Diagnostic,
    key: &str,
    value: &Value,
    place: &str,
    known: &[&str],
) -> Diagnostic {
    if let Some(found) = equivalents::key(place, key) {
        // Only a simple value is sure to fit the other key; a list or mapping may need another structure.
        let rename = found.rename.filter(|_| !value.is_array() && !value.is_object());
        return problem.help(found.help).replaced(key, rename);
    }
    let near = did_you_mean(key, known.iter().copied());
    match near.is_none().then(|| elsewhere(place, key)).flatten() {
        Some(place) => return problem.help(format!("`{key}` belongs {place}")),
        None => problem = problem.suggest(key, known.iter().copied()),
    }
    if problem.help.is_empty() { problem.help(format!("known keys here: {}", quoted(known, ", "))) } else { problem }
}

/// Where a key belongs that is known in another place.
fn elsewhere(place: &str, key: &str) -> Option<&'static str> {
    let (pipeline, settings) = (generate::pipeline_form(), generate::settings_form());
    let in_file = [("Pipeline", pipeline), ("Settings", settings)];
    let tops = in_file.into_iter().filter(|(_, form)| form.properties.get(key).is_some()).map(|(name, _)| name);
    let mut owners = pipeline.owners(key).chain(tops).filter(|owner| *owner != place);
    let described = |owner: &str| match owner {
        "Step" => Some("to a step: write it under `steps:`"),
        "Agent" => Some("to an agent: write it under `agents:`"),
        "Repeat" => Some("to a loop: write it under `repeat:`"),
        "Retry" => Some("under `retry:` of a step"),
        "Expect" => Some("under `expect:` of a step"),
        "Budget" => Some("under `budget:`"),
        "Pipeline" => Some("to the pipeline: write it at the top of the file"),
        "Settings" => Some("into orch.yaml"),
        _ => None,
    };
    let place_of_file = |owner: &&str| match *owner {
        // Steps, agents and loops exist only in pipeline files, so advice for a test case never names them.
        "Settings" => place != "Settings",
        _ => !matches!(place, "Case" | "Expected"),
    };
    owners.find(place_of_file).and_then(described)
}

/// Adds advice about a value that has none of the allowed types. `place` and `key` say where it is.
pub(super) fn wrong_type(
    problem: Diagnostic,
    value: &Value,
    place: &str,
    key: &str,
    form: &SchemaForm<'_>,
    allowed: &[&str],
) -> Diagnostic {
    let shape = match value {
        Value::Null => return problem.help("leave the key out if it has no value"),
        Value::String(text) if allowed.iter().any(|name| could_be(text, name)) => {
            return problem.help("remove the quotes");
        }
        Value::String(_) => YamlShape::Text,
        Value::Number(_) => YamlShape::Number,
        Value::Bool(_) => YamlShape::Bool,
        Value::Array(_) => YamlShape::List,
        Value::Object(_) => YamlShape::Mapping,
    };
    // A mapping with `id` is a single step without its dash, not a mapping of steps by name.
    let one_step = value.get("id").is_some() && allowed == ["array"];
    if !one_step && let Some(help) = equivalents::value(place, key, shape, &shown(value)) {
        return problem.help(help);
    }
    match value {
        Value::Number(number) if form.pattern.as_deref() == Some(Span::PATTERN) => {
            problem.help(format!("give it a unit, as in `{number}s` or `{number}m`"))
        }
        Value::Number(_) | Value::Bool(_) if allowed.contains(&"string") => problem.help("put quotes around it"),
        Value::String(_) if allowed.contains(&"array") => problem.help("write it as a list: `[…]`"),
        Value::Object(_) if allowed.contains(&"array") => problem.help("begin each item with `- `"),
        _ => problem,
    }
}

/// Adds advice about a pipeline input that is not a schema.
pub(super) fn no_schema(problem: Diagnostic, value: &Value) -> Diagnostic {
    let schema = match value {
        Value::String(text) => equivalents::json_type(text).map(|name| format!("{{ type: {name} }}")),
        Value::Number(number) if number.is_f64() => Some(format!("{{ type: number, default: {number} }}")),
        Value::Number(number) => Some(format!("{{ type: integer, default: {number} }}")),
        Value::Bool(is) => Some(format!("{{ type: boolean, default: {is} }}")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match schema {
        Some(schema) => problem.help(format!("an input is a JSON Schema: write `{schema}`")),
        None => problem
            .help("an input is a JSON Schema, such as `{ type: string }`; its value is given when the pipeline is run"),
    }
}

/// Adds advice about a name that `fits` rejects: the nearest valid name. It depends on the rejected name alone, so that
/// the fixes for a declaration and for its uses agree.
pub(super) fn bad_name(problem: Diagnostic, text: &str, fits: &dyn Fn(&str) -> bool, words: &str) -> Diagnostic {
    match as_name(text).filter(|name| fits(name)) {
        Some(name) => problem.help(format!("write `{name}`; allowed: {words}")).replaced(text, Some(&name)),
        None => problem.help(format!("allowed: {words}")),
    }
}

/// The units of durations, each with the words that users write for it.
const UNITS: &[(&str, &str)] = &[
    ("ms", "milliseconds millisecond millis msec"),
    ("s", "seconds second secs sec"),
    ("m", "minutes minute mins min"),
    ("h", "hours hour hrs hr"),
];

/// Adds advice about an invalid duration.
pub(super) fn bad_span(problem: Diagnostic, text: &str) -> Diagnostic {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return problem;
    }
    let unit = text.get(number.len()..).unwrap_or_default().trim().to_lowercase();
    let known = UNITS.iter().find(|(short, words)| *short == unit || words.split(' ').any(|word| word == unit));
    match known {
        Some((short, _)) => {
            let right = format!("{number}{short}");
            problem.help(format!("write `{right}`")).replaced(text, Some(&right))
        }
        None if unit.is_empty() => problem.help(format!("give it a unit, as in `{number}s` or `{number}m`")),
        None => problem,
    }
}

/// The name in snake case: lower case, with `_` between words. `None` if it has other characters.
fn as_name(text: &str) -> Option<String> {
    let (body, mark) = text.strip_suffix('?').map_or((text, ""), |body| (body, "?"));
    if !body.chars().all(|c| c.is_ascii_alphanumeric() || "_-. /".contains(c)) {
        return None;
    }
    let mut name = String::new();
    let mut small = false;
    for char in body.chars() {
        match char {
            'A'..='Z' if small => name.extend(['_', char.to_ascii_lowercase()]),
            '-' | '.' | ' ' | '/' => name.push('_'),
            char => name.push(char.to_ascii_lowercase()),
        }
        small = char.is_ascii_lowercase() || char.is_ascii_digit();
    }
    Some(format!("{name}{mark}"))
}

/// The length in bytes up to which advice repeats a value.
const LONGEST: usize = 80;

/// Renders a value as YAML on one line.
fn shown(value: &Value) -> String {
    let plain = |text: &str| {
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        first && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
    };
    let text = match value {
        Value::String(text) if plain(text) => text.clone(),
        value => value.to_string(),
    };
    if text.len() > LONGEST { "…".to_owned() } else { text }
}

fn could_be(text: &str, name: &str) -> bool {
    serde_json::from_str::<Value>(text)
        .is_ok_and(|value| (value.is_number() || value.is_boolean()) && is_a(&value, name))
}

pub(super) fn quoted(names: &[&str], separator: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(separator)
}
