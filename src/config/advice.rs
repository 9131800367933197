//! Advice about unknown keys and values of the wrong type.

use serde_json::Value;

use super::form::SchemaForm;
use super::generate;
use crate::diagnostic::equivalents::{self, YamlShape};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::model::HumanDuration;

/// Adds advice about an unknown key. Tries in this order: orch's name for a key of another tool, the nearest known key,
/// another type with this key, and the list of known keys.
pub(super) fn unknown_key(
    mut diagnostic: Diagnostic,
    key: &str,
    value: &Value,
    type_name: &str,
    known_keys: &[&str],
) -> Diagnostic {
    if let Some(equivalent) = equivalents::key_help(type_name, key) {
        // Only a scalar is sure to fit the other key. A list or mapping may need another structure.
        let rename = equivalent.rename.filter(|_| !value.is_array() && !value.is_object());
        return diagnostic.with_help(equivalent.help).with_replacement(key, rename);
    }
    let similar_key = did_you_mean(key, known_keys.iter().copied());
    match similar_key.is_none().then(|| describe_destination(type_name, key)).flatten() {
        Some(destination) => return diagnostic.with_help(format!("`{key}` belongs {destination}")),
        None => diagnostic = diagnostic.with_suggestion(key, known_keys.iter().copied()),
    }
    if diagnostic.help.is_empty() {
        diagnostic.with_help(format!("known keys here: {}", quoted(known_keys, ", ")))
    } else {
        diagnostic
    }
}

/// Adds advice about a text that is none of the words of a type. Tries in this order: orch's word for a word of another
/// tool, the nearest allowed word, and the list of allowed words, unless the message has it.
pub(super) fn unknown_word(
    diagnostic: Diagnostic,
    word: &str,
    type_name: &str,
    allowed: &[&str],
    is_listed: bool,
) -> Diagnostic {
    if let Some((advice, own_word)) = equivalents::word_help(type_name, word) {
        return diagnostic.with_help(advice).with_replacement(word, own_word);
    }
    let diagnostic = diagnostic.with_suggestion(word, allowed.iter().copied());
    if is_listed || !diagnostic.help.is_empty() {
        return diagnostic;
    }
    diagnostic.with_help(format!("one of {}", quoted(allowed, ", ")))
}

/// Describes where a key belongs, if another type has this key.
fn describe_destination(type_name: &str, key: &str) -> Option<&'static str> {
    let (pipeline, settings) = (generate::pipeline_form(), generate::settings_form());
    let roots = [("Pipeline", pipeline), ("Settings", settings)];
    let root_names = roots.into_iter().filter(|(_, form)| form.properties.get(key).is_some()).map(|(name, _)| name);
    let mut owners = pipeline.owners(key).chain(root_names).filter(|owner| *owner != type_name);
    let describe = |owner: &str| match owner {
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
    let is_relevant = |owner: &&str| match *owner {
        // Only pipeline files have steps, agents and loops, so advice for a test case never names them.
        "Settings" => type_name != "Settings",
        _ => !matches!(type_name, "Case" | "Expected"),
    };
    owners.find(is_relevant).and_then(describe)
}

/// Adds advice about a value that has none of the allowed types. The value belongs to `key` of the type `type_name`.
pub(super) fn wrong_type(
    diagnostic: Diagnostic,
    value: &Value,
    type_name: &str,
    key: &str,
    form: &SchemaForm<'_>,
    allowed: &[&str],
) -> Diagnostic {
    if (type_name, key) == ("Agent", "tools")
        && let Value::Bool(has_tools) = value
    {
        return diagnostic.with_help(if *has_tools { equivalents::ALL_TOOLS_HELP } else { "write `tools: none`" });
    }
    let shape = match value {
        Value::Null => return diagnostic.with_help("leave the key out if it has no value"),
        Value::String(text) if allowed.iter().any(|name| contains_scalar(text, name)) => {
            return diagnostic.with_help("remove the quotes");
        }
        Value::String(_) => YamlShape::Text,
        Value::Number(_) => YamlShape::Number,
        Value::Bool(_) => YamlShape::Bool,
        Value::Array(_) => YamlShape::List,
        Value::Object(_) => YamlShape::Mapping,
    };
    // A mapping with `id` is a single step without its dash, not a mapping of steps by name.
    let is_single_step = value.get("id").is_some() && allowed == ["array"];
    let written = match value {
        Value::String(text) if NAME_LISTS.contains(&key) => render_names(text),
        value => render_inline(value),
    };
    if !is_single_step && let Some(help) = equivalents::value_help(type_name, key, shape, &written) {
        return diagnostic.with_help(help);
    }
    match value {
        Value::Number(number) if form.pattern.as_deref() == Some(HumanDuration::PATTERN) => {
            diagnostic.with_help(unit_help(&number.to_string()))
        }
        Value::Number(_) | Value::Bool(_) if allowed.contains(&"string") => {
            diagnostic.with_help("put quotes around it")
        }
        Value::String(_) if allowed.contains(&"array") => diagnostic.with_help("write it as a list: `[…]`"),
        Value::Object(_) if allowed.contains(&"array") => diagnostic.with_help("begin each item with `- `"),
        _ => diagnostic,
    }
}

/// Adds advice about a pipeline input whose value is not a schema.
pub(super) fn not_a_schema(diagnostic: Diagnostic, value: &Value) -> Diagnostic {
    let schema = match value {
        Value::String(text) => equivalents::json_schema_type(text).map(|name| format!("{{ type: {name} }}")),
        Value::Number(number) if number.is_f64() => Some(format!("{{ type: number, default: {number} }}")),
        Value::Number(number) => Some(format!("{{ type: integer, default: {number} }}")),
        Value::Bool(boolean) => Some(format!("{{ type: boolean, default: {boolean} }}")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match schema {
        Some(schema) => diagnostic.with_help(format!("an input is a JSON Schema: write `{schema}`")),
        None => diagnostic.with_help(
            "an input is a JSON Schema, such as `{ type: string }`; pass its value when you run the pipeline",
        ),
    }
}

/// Adds advice about a name that `is_valid` rejects: the nearest valid name. The advice depends only on the rejected
/// name, so that the fixes for a declaration and for its uses agree. `allowed` describes the valid names.
pub(super) fn invalid_name(
    diagnostic: Diagnostic,
    text: &str,
    is_valid: &dyn Fn(&str) -> bool,
    allowed: &str,
) -> Diagnostic {
    match to_snake_case(text).filter(|name| is_valid(name)) {
        Some(name) => {
            diagnostic.with_help(format!("write `{name}`; allowed: {allowed}")).with_replacement(text, Some(&name))
        }
        None => diagnostic.with_help(format!("allowed: {allowed}")),
    }
}

/// Adds advice about a text in place of a list of tools.
pub(super) fn tools_as_text(diagnostic: Diagnostic, text: &str) -> Diagnostic {
    if equivalents::means_all_tools(text) {
        return diagnostic.with_help(equivalents::ALL_TOOLS_HELP);
    }
    let has_separators = text.contains([',', '(']);
    let names = if has_separators { text.to_owned() } else { text.split_whitespace().collect::<Vec<_>>().join(", ") };
    diagnostic.with_help(format!("write it as a list: `[{names}]`"))
}

/// The units of durations, each with other spellings that users write.
const DURATION_UNITS: &[(&str, &str)] = &[
    ("ms", "milliseconds millisecond millis msec"),
    ("s", "seconds second secs sec"),
    ("m", "minutes minute mins min"),
    ("h", "hours hour hrs hr"),
];

/// Adds advice about an invalid duration.
pub(super) fn invalid_duration(diagnostic: Diagnostic, text: &str) -> Diagnostic {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return diagnostic;
    }
    let unit = text.get(number.len()..).unwrap_or_default().trim().to_lowercase();
    let matching_unit = DURATION_UNITS
        .iter()
        .find(|(short, spellings)| *short == unit || spellings.split(' ').any(|spelling| spelling == unit));
    match matching_unit {
        Some((short, _)) => {
            let corrected = format!("{number}{short}");
            diagnostic.with_help(format!("write `{corrected}`")).with_replacement(text, Some(&corrected))
        }
        None if unit.is_empty() => diagnostic.with_help(unit_help(number)),
        None => diagnostic,
    }
}

/// Numbers from here on are probably milliseconds, as the settings of many tools have them.
const MIN_LIKELY_MILLISECONDS: u64 = 5000;

/// Advice about a duration without a unit.
fn unit_help(number: &str) -> String {
    if number.parse::<u64>().is_ok_and(|value| value >= MIN_LIKELY_MILLISECONDS) {
        return format!("give it a unit, as in `{number}ms` for milliseconds or `{number}s` for seconds");
    }
    format!("give it a unit, as in `{number}s` or `{number}m`")
}

/// Converts a name to snake case; `None` if it has characters other than letters, digits and separators.
fn to_snake_case(text: &str) -> Option<String> {
    let (base, optional_suffix) = text.strip_suffix('?').map_or((text, ""), |base| (base, "?"));
    if !base.chars().all(|c| c.is_ascii_alphanumeric() || "_-. /".contains(c)) {
        return None;
    }
    let mut name = String::new();
    let mut is_after_lower_case = false;
    for char in base.chars() {
        match char {
            'A'..='Z' if is_after_lower_case => name.extend(['_', char.to_ascii_lowercase()]),
            '-' | '.' | ' ' | '/' => name.push('_'),
            char => name.push(char.to_ascii_lowercase()),
        }
        is_after_lower_case = char.is_ascii_lowercase() || char.is_ascii_digit();
    }
    Some(format!("{name}{optional_suffix}"))
}

/// The maximum length of a value that advice quotes, in bytes.
const MAX_QUOTED_BYTES: usize = 80;

/// The keys whose value is a list of names, which have neither commas nor spaces.
const NAME_LISTS: &[&str] = &["approve_tools", "env", "fallback", "inputs"];

/// Renders the items of a list that a user wrote as one text, such as `plan, code`.
fn render_names(text: &str) -> String {
    let names = text.split([',', ' ']).filter(|name| !name.is_empty());
    names.map(|name| render_inline(&Value::from(name))).collect::<Vec<_>>().join(", ")
}

/// Renders a value as YAML on one line. A value that is too long becomes `…`.
fn render_inline(value: &Value) -> String {
    let needs_no_quotes = |text: &str| {
        let has_valid_start = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        has_valid_start && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
    };
    let text = match value {
        Value::String(text) if needs_no_quotes(text) => text.clone(),
        value => value.to_string(),
    };
    if text.len() > MAX_QUOTED_BYTES { "…".to_owned() } else { text }
}

/// Whether a string contains a number or boolean of this type, and nothing else.
fn contains_scalar(text: &str, type_name: &str) -> bool {
    serde_json::from_str::<Value>(text)
        .is_ok_and(|value| (value.is_number() || value.is_boolean()) && has_json_type(&value, type_name))
}

/// Joins names in backticks, with a separator between them.
pub(super) fn quoted(names: &[&str], separator: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(separator)
}

/// Whether a value has a type of JSON Schema.
pub(super) fn has_json_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}
