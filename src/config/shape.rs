//! Checks whether a file has the shape that its generated schema requires.
//!
//! Walks the file along the plain schemas of `generate`, and reports each mistake at its exact location and in the
//! terms of the file format. Does not handle schemas that users write.

use serde_json::{Map, Value};

use super::advice::{self, has_json_type, quoted};
use super::form::{AdditionalMembers, FormMembers, SchemaForm};
use super::secret_ref::ENV_PATTERN;
use super::settings::{PROVIDER_PATTERN, REGION_PATTERN};
use super::spans::{Document, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::agent::TOOLS_PATTERN;
use crate::model::command_mode::COMMAND_MODE_PATTERN;
use crate::model::mcp::{MCP_SERVER_PATTERN, is_mcp_server_name};
use crate::model::pipeline::{INPUT_PATTERN, NAME_PATTERN, PASSED_VARIABLE_PATTERN, is_name};
use crate::model::sandbox::NETWORK_PATTERN;
use crate::model::{HumanBytes, HumanDuration};

/// A pattern, the function that checks a string against it, and a description of the allowed strings.
type Pattern = (&'static str, fn(&str) -> bool, &'static str);

/// The patterns that generated schemas may use.
pub(super) const KNOWN_PATTERNS: &[Pattern] = &[
    (NAME_PATTERN, is_name, "lower-case letters, digits and `_`, not starting with a digit"),
    (
        INPUT_PATTERN,
        |text| is_name(text.strip_suffix('?').unwrap_or(text)),
        "the name of an artifact, with `?` at the end if it is optional",
    ),
    (TOOLS_PATTERN, |text| text == "none", "`none` or a list of names"),
    (NETWORK_PATTERN, |text| matches!(text, "none" | "all"), "`none`, `all` or a list of hosts"),
    (COMMAND_MODE_PATTERN, |text| matches!(text, "replay" | "run"), "`replay`, `run` or a mapping of steps to these"),
    (HumanBytes::PATTERN, |text| HumanBytes::parse(text).is_some(), "a size such as `512MiB` or `2GiB`"),
    (HumanDuration::PATTERN, |text| HumanDuration::parse(text).is_some(), "a duration such as `90s`, `5m` or `1h30m`"),
    (
        PROVIDER_PATTERN,
        |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)),
        "letters, digits, `_`, `.` and `-`",
    ),
    (
        MCP_SERVER_PATTERN,
        is_mcp_server_name,
        "lower-case letters, digits, `_` and `-`, at most 32, starting with a letter",
    ),
    (
        ENV_PATTERN,
        |text| {
            let is_word_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_word_char)
        },
        "the name of an environment variable",
    ),
    (
        PASSED_VARIABLE_PATTERN,
        |text| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "=${}".contains(c)),
        "the name of an environment variable, without its value",
    ),
    (
        REGION_PATTERN,
        |text| {
            let is_word = |word: &str| {
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            };
            text.contains('-') && text.split('-').all(is_word)
        },
        "the name of an AWS region, such as `eu-central-1`",
    ),
];

/// Returns a diagnostic for every difference between the document and the schema. `type_name` is the name of the
/// schema's type.
pub(super) fn check(document: &Document, form: &SchemaForm<'_>, type_name: &str) -> Vec<Diagnostic> {
    let mut walker = ShapeWalker { document, root: form, diagnostics: Vec::new() };
    walker.check_value(&document.value, form, FormLocation { type_name, key: "" }, "");
    walker.diagnostics
}

/// The location of a value: the name of the type that contains the value, and its key there. The root, list items, and
/// entries of mappings with arbitrary keys have an empty key and the name of their own type.
#[derive(Clone, Copy)]
struct FormLocation<'a> {
    type_name: &'a str,
    key: &'a str,
}

struct ShapeWalker<'a> {
    document: &'a Document,
    root: &'a SchemaForm<'a>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> ShapeWalker<'a> {
    fn check_value(&mut self, value: &Value, form: &'a SchemaForm<'a>, location: FormLocation<'_>, pointer: &str) {
        let type_name = form.type_name().unwrap_or(location.type_name);
        let Some(form) = form.resolve(self.root) else { return };
        if let Some(diagnostic) = self.wrong_type(value, form, location, pointer) {
            self.diagnostics.push(diagnostic);
            return;
        }
        match value {
            Value::Object(map) => self.check_object(map, form, type_name, pointer),
            Value::Array(list) => self.check_list(list, form, pointer),
            Value::String(text) => self.check_text(text, form, type_name, pointer),
            Value::Number(_) => self.check_number(value, form, pointer),
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn wrong_type(
        &self,
        value: &Value,
        form: &SchemaForm<'_>,
        location: FormLocation<'_>,
        pointer: &str,
    ) -> Option<Diagnostic> {
        let allowed: Vec<&str> = form.types.as_ref()?.0.iter().map(|name| &**name).collect();
        if allowed.iter().any(|name| has_json_type(value, name)) {
            return None;
        }
        if form.is_secret && value.is_string() {
            return Some(self.secret_in_file(pointer));
        }
        let expected: Vec<_> = allowed.iter().map(|name| describe_type(name)).collect();
        let message =
            format!("{} must be {}, not {}", describe_location(pointer), expected.join(" or "), describe_value(value));
        let diagnostic = self.error_at(Code::WrongType, message, pointer);
        if is_input(pointer) && !value.is_null() {
            return Some(advice::not_a_schema(diagnostic, value));
        }
        Some(advice::wrong_type(diagnostic, value, location.type_name, location.key, form, &allowed))
    }

    /// The diagnostic for a secret in the file itself. Neither the message nor a source line may contain the secret.
    fn secret_in_file(&self, pointer: &str) -> Diagnostic {
        let (line, _) = self.document.file.line_column(self.document.spans.value(pointer).start);
        let message = format!("{} in line {line} must be a mapping, not the secret itself", describe_location(pointer));
        Diagnostic::error(Code::WrongType, message)
            .with_file(&self.document.file)
            .with_help("name the environment variable that holds it: `{ env: NAME }`")
    }

    fn check_object(&mut self, map: &Map<String, Value>, form: &'a SchemaForm<'a>, type_name: &str, pointer: &str) {
        for (key, value) in map {
            let member_pointer = child_pointer(pointer, key);
            if let Some(pattern) = form.property_names.as_ref().and_then(|names| names.pattern.as_deref()) {
                self.check_pattern(key, pattern, &member_pointer, true);
            }
            match (form.properties.get(key), &form.additional_properties) {
                (Some(property), _) => {
                    self.check_value(value, property, FormLocation { type_name, key }, &member_pointer);
                }
                (None, Some(AdditionalMembers::Forbidden)) => {
                    self.report_unknown_key(key, value, &form.properties, type_name, &member_pointer);
                }
                (None, Some(AdditionalMembers::Matching(member_form))) => {
                    self.check_value(value, member_form, entry_location(member_form), &member_pointer);
                }
                (None, Some(AdditionalMembers::Any) | None) => {}
            }
        }
        for key in form.required.iter().filter(|key| !map.contains_key(&***key)) {
            self.report_missing_key(key, map, &form.properties, pointer);
        }
    }

    fn report_unknown_key(
        &mut self,
        key: &str,
        value: &Value,
        properties: &FormMembers<'_>,
        type_name: &str,
        pointer: &str,
    ) {
        let span = self.document.spans.key(pointer);
        let following = self.document.file.text.get(span.end..).unwrap_or_default();
        let diagnostic =
            Diagnostic::error(Code::UnknownKey, format!("unknown key `{key}`")).with_span(&self.document.file, span);
        if value.is_null() && following.trim_start().starts_with([',', '}']) {
            let help = "in braces, a value ends at the first comma: put quotes around the whole value before this one";
            return self.diagnostics.push(diagnostic.with_help(help));
        }
        self.diagnostics.push(advice::unknown_key(diagnostic, key, value, type_name, &properties.names()));
    }

    fn report_missing_key(&mut self, key: &str, map: &Map<String, Value>, properties: &FormMembers<'_>, pointer: &str) {
        let owner = match map.get("id").and_then(Value::as_str) {
            Some(id) => format!("step `{id}`"),
            None if pointer.is_empty() => "the file".to_owned(),
            None => describe_location(pointer),
        };
        let message = format!("{owner} has no `{key}`");
        let span = if pointer.is_empty() { 0..0 } else { self.document.spans.value(pointer) };
        let mut diagnostic = Diagnostic::error(Code::MissingKey, message).with_span(&self.document.file, span);
        if let Some(description) = properties.get(key).and_then(|property| property.description.as_deref()) {
            diagnostic = diagnostic.with_help(format!("`{key}`: {}", first_sentence(description)));
        }
        self.diagnostics.push(diagnostic);
    }

    fn check_list(&mut self, list: &[Value], form: &'a SchemaForm<'a>, pointer: &str) {
        if list.is_empty() && form.min_items > 0 {
            let message = format!("{} must not be empty", describe_location(pointer));
            self.diagnostics.push(self.error_at(Code::WrongValue, message, pointer));
        }
        let length = u64::try_from(list.len()).unwrap_or(u64::MAX);
        if let Some(max) = form.max_items.filter(|max| length > *max) {
            let message = format!("{} must have at most {max} items, not {length}", describe_location(pointer));
            self.diagnostics.push(self.error_at(Code::WrongValue, message, pointer));
        }
        if let Some(items) = &form.items {
            for (index, value) in list.iter().enumerate() {
                self.check_value(value, items, entry_location(items), &item_pointer(pointer, index));
            }
        }
    }

    fn check_text(&mut self, text: &str, form: &SchemaForm<'_>, type_name: &str, pointer: &str) {
        if let Some(allowed) = &form.enum_values {
            let allowed: Vec<&str> = allowed.iter().map(|name| &**name).collect();
            if !allowed.contains(&text) {
                let is_short = allowed.len() <= 6;
                let message = if is_short {
                    format!("{} must be {}, not `{text}`", describe_location(pointer), quoted(&allowed, " or "))
                } else {
                    format!("{} cannot be `{text}`", describe_location(pointer))
                };
                let diagnostic = self.error_at(Code::WrongValue, message, pointer);
                self.diagnostics.push(advice::unknown_word(diagnostic, text, type_name, &allowed, is_short));
            }
        }
        let (min, max) = (form.min_length, form.max_length.unwrap_or(u64::MAX));
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if length < min {
            let message = format!("{} must not be empty", describe_location(pointer));
            self.diagnostics.push(self.error_at(Code::WrongValue, message, pointer));
        } else if length > max {
            let message = format!("{} must have at most {max} characters, not {length}", describe_location(pointer));
            self.diagnostics.push(self.error_at(Code::WrongValue, message, pointer));
        } else if let Some(pattern) = form.pattern.as_deref() {
            self.check_pattern(text, pattern, pointer, false);
        }
    }

    /// Checks a string or a key against one of the known patterns.
    fn check_pattern(&mut self, text: &str, pattern: &str, pointer: &str, is_key: bool) {
        let Some((known_pattern, is_match, description)) = KNOWN_PATTERNS.iter().find(|entry| pattern == entry.0)
        else {
            return;
        };
        if is_match(text) {
            return;
        }
        let is_name =
            ![HumanDuration::PATTERN, HumanBytes::PATTERN, TOOLS_PATTERN, NETWORK_PATTERN, COMMAND_MODE_PATTERN]
                .contains(known_pattern);
        let code = if is_name { Code::InvalidName } else { Code::WrongValue };
        let message = if *known_pattern == PASSED_VARIABLE_PATTERN {
            // The value of a variable may be a secret.
            let (name, suffix) = text.split_once('=').map_or((text, ""), |(name, _)| (name, "=…"));
            format!("`{name}{suffix}` is not the name of an environment variable")
        } else if is_name {
            format!("`{text}` is not a valid name")
        } else {
            format!("{} must be {description}, not `{text}`", describe_location(pointer))
        };
        let spans = &self.document.spans;
        let span = if is_key { spans.key(pointer) } else { spans.value(pointer) };
        let diagnostic = Diagnostic::error(code, message).with_span(&self.document.file, span);
        self.diagnostics.push(match *known_pattern {
            NAME_PATTERN | INPUT_PATTERN => advice::invalid_name(diagnostic, text, is_match, description),
            TOOLS_PATTERN => advice::tools_as_text(diagnostic, text),
            NETWORK_PATTERN => diagnostic.with_help(format!("write it as a list: `[{text}]`")),
            HumanDuration::PATTERN => advice::invalid_duration(diagnostic, text),
            PASSED_VARIABLE_PATTERN => {
                diagnostic.with_help("`env` names variables of your environment; orch passes their values on")
            }
            _ if is_name => diagnostic.with_help(format!("allowed: {description}")),
            _ => diagnostic,
        });
    }

    fn check_number(&mut self, value: &Value, form: &SchemaForm<'_>, pointer: &str) {
        let Some(number) = value.as_f64() else { return };
        let minimum = form.minimum.as_ref().filter(|min| min.as_f64().is_some_and(|min| number < min));
        let maximum = form.maximum.as_ref().filter(|max| max.as_f64().is_some_and(|max| number > max));
        let exclusive = form.exclusive_minimum.as_ref().filter(|min| min.as_f64().is_some_and(|min| number <= min));
        for (violated_bound, comparison) in [(minimum, "at least"), (exclusive, "greater than"), (maximum, "at most")] {
            if let Some(bound) = violated_bound {
                let message = format!("{} must be {comparison} {bound}, not {value}", describe_location(pointer));
                self.diagnostics.push(self.error_at(Code::WrongValue, message, pointer));
            }
        }
    }

    fn error_at(&self, code: Code, message: String, pointer: &str) -> Diagnostic {
        Diagnostic::error(code, message).with_span(&self.document.file, self.document.spans.value(pointer))
    }
}

/// Whether a value is one of the `inputs` of a pipeline.
fn is_input(pointer: &str) -> bool {
    pointer.strip_prefix("/inputs/").is_some_and(|name| !name.contains('/'))
}

/// The location of an entry of a list or of a mapping with arbitrary keys.
fn entry_location<'f>(form: &'f SchemaForm<'_>) -> FormLocation<'f> {
    FormLocation { type_name: form.type_name().unwrap_or_default(), key: "" }
}

/// Describes the value at a pointer for a message: by its key, or by its position in a list.
fn describe_location(pointer: &str) -> String {
    let tokens: Vec<String> =
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    match tokens.as_slice() {
        [] => "the file".to_owned(),
        [.., list, index] if index.bytes().all(|b| b.is_ascii_digit()) => {
            let number = index.parse::<usize>().map_or_else(|_| index.clone(), |index| (index + 1).to_string());
            format!("item {number} of `{list}`")
        }
        [.., key] => format!("`{key}`"),
    }
}

fn describe_type(name: &str) -> &'static str {
    match name {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        _ => "a number",
    }
}

/// Describes a value of the wrong type for a message.
fn describe_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::String(text) if text.chars().count() <= 40 && !text.contains('\n') => format!("the string `{text}`"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// The first sentence of a description, with a lower-case first letter and without its full stop.
fn first_sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    let first = text.split_once(". ").map_or(text.as_str(), |(first, _)| first).trim_end_matches('.');
    let mut chars = first.chars();
    chars.next().map_or_else(String::new, |letter| letter.to_lowercase().chain(chars).collect())
}
