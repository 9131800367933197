//! Checks whether a file has the shape that its generated schema requires.
//!
//! Walks the file along the plain schemas of `generate`, and reports each mistake at its exact location and in the
//! terms of the file format. Does not handle schemas that users write.

use serde_json::{Map, Value};

use super::advice::{self, quoted};
use super::form::{FormMembers, Rest, SchemaForm};
use super::settings::{ENV_PATTERN, PROVIDER_PATTERN};
use super::spans::{Document, child, item};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Span;
use crate::model::agent::TOOLS_PATTERN;
use crate::model::pipeline::{INPUT_PATTERN, NAME_PATTERN, is_name};

/// A pattern, the function that checks a string against it, and a description of the strings that it allows.
type Pattern = (&'static str, fn(&str) -> bool, &'static str);

/// The patterns that generated schemas may use.
pub(super) const KNOWN_PATTERNS: &[Pattern] = &[
    (NAME_PATTERN, is_name, "lower-case letters, digits and `_`, not starting with a digit"),
    (
        INPUT_PATTERN,
        |text| is_name(text.strip_suffix('?').unwrap_or(text)),
        "the name of an artifact, with `?` at the end if it is optional",
    ),
    (TOOLS_PATTERN, |text| text == "none", "`none`, or a list of names"),
    (Span::PATTERN, |text| Span::parse(text).is_some(), "a time such as `90s`, `5m` or `1h30m`"),
    (
        PROVIDER_PATTERN,
        |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)),
        "letters, digits, `_`, `.` and `-`",
    ),
    (
        ENV_PATTERN,
        |text| {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(word)
        },
        "the name of an environment variable",
    ),
];

/// Every difference between the document and the schema, whose type is called `place`.
pub(super) fn check(document: &Document, form: &SchemaForm<'_>, place: &str) -> Vec<Diagnostic> {
    let mut walker = ShapeWalker { document, root: form, found: Vec::new() };
    walker.value(&document.value, form, At { place, key: "" }, "");
    walker.found
}

/// Where a value is: the name of the type that contains it and its key there. The root, list items and entries of
/// mappings with free keys have the name of their own type and an empty key.
#[derive(Clone, Copy)]
struct At<'a> {
    place: &'a str,
    key: &'a str,
}

struct ShapeWalker<'a> {
    document: &'a Document,
    root: &'a SchemaForm<'a>,
    found: Vec<Diagnostic>,
}

impl<'a> ShapeWalker<'a> {
    fn value(&mut self, value: &Value, form: &'a SchemaForm<'a>, at: At<'_>, pointer: &str) {
        let place = form.name().unwrap_or(at.place);
        let Some(form) = form.resolve(self.root) else { return };
        if let Some(problem) = self.wrong_type(value, form, at, pointer) {
            self.found.push(problem);
            return;
        }
        match value {
            Value::Object(map) => self.object(map, form, place, pointer),
            Value::Array(list) => self.list(list, form, pointer),
            Value::String(text) => self.text(text, form, pointer),
            Value::Number(_) => self.number(value, form, pointer),
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn wrong_type(&self, value: &Value, form: &SchemaForm<'_>, at: At<'_>, pointer: &str) -> Option<Diagnostic> {
        let allowed: Vec<&str> = form.types.as_ref()?.0.iter().map(|name| &**name).collect();
        if allowed.iter().any(|name| is_a(value, name)) {
            return None;
        }
        if form.secret && value.is_string() {
            return Some(self.secret(pointer));
        }
        let wanted: Vec<_> = allowed.iter().map(|name| described(name)).collect();
        let message = format!("{} must be {}, not {}", subject(pointer), wanted.join(" or "), kind(value));
        let problem = self.at_value(Code::WrongType, message, pointer);
        if is_input(pointer) && !value.is_null() {
            return Some(advice::no_schema(problem, value));
        }
        Some(advice::wrong_type(problem, value, at.place, at.key, form, &allowed))
    }

    /// For a secret that is written in the file: neither the message nor a source line may show it.
    fn secret(&self, pointer: &str) -> Diagnostic {
        let (line, _) = self.document.file.line_column(self.document.spans.value(pointer).start);
        let message = format!("{} in line {line} must be a mapping, not the secret itself", subject(pointer));
        Diagnostic::error(Code::WrongType, message)
            .in_file(&self.document.file)
            .help("name the environment variable that holds it: `{ env: NAME }`")
    }

    fn object(&mut self, map: &Map<String, Value>, form: &'a SchemaForm<'a>, place: &str, pointer: &str) {
        for (key, value) in map {
            let below = child(pointer, key);
            if let Some(pattern) = form.property_names.as_ref().and_then(|names| names.pattern.as_deref()) {
                self.pattern(key, pattern, &below, true);
            }
            match (form.properties.get(key), &form.additional_properties) {
                (Some(property), _) => self.value(value, property, At { place, key }, &below),
                (None, Some(Rest::Nothing)) => self.unknown_key(key, value, &form.properties, place, &below),
                (None, Some(Rest::Each(rest))) => self.value(value, rest, entry(rest), &below),
                (None, Some(Rest::Any) | None) => {}
            }
        }
        for key in form.required.iter().filter(|key| !map.contains_key(&***key)) {
            self.missing_key(key, map, &form.properties, pointer);
        }
    }

    fn unknown_key(&mut self, key: &str, value: &Value, known: &FormMembers<'_>, place: &str, pointer: &str) {
        let span = self.document.spans.key(pointer);
        let problem = Diagnostic::error(Code::UnknownKey, format!("unknown key `{key}`")).at(&self.document.file, span);
        self.found.push(advice::unknown_key(problem, key, value, place, &known.names()));
    }

    fn missing_key(&mut self, key: &str, map: &Map<String, Value>, properties: &FormMembers<'_>, pointer: &str) {
        let owner = match map.get("id").and_then(Value::as_str) {
            Some(id) => format!("step `{id}`"),
            None if pointer.is_empty() => "the file".to_owned(),
            None => subject(pointer),
        };
        let message = format!("{owner} has no `{key}`");
        let span = if pointer.is_empty() { 0..0 } else { self.document.spans.value(pointer) };
        let mut problem = Diagnostic::error(Code::MissingKey, message).at(&self.document.file, span);
        if let Some(about) = properties.get(key).and_then(|property| property.description.as_deref()) {
            problem = problem.help(format!("`{key}`: {}", first_sentence(about)));
        }
        self.found.push(problem);
    }

    fn list(&mut self, list: &[Value], form: &'a SchemaForm<'a>, pointer: &str) {
        if list.is_empty() && form.min_items > 0 {
            let message = format!("{} must not be empty", subject(pointer));
            self.found.push(self.at_value(Code::WrongValue, message, pointer));
        }
        if let Some(items) = &form.items {
            for (index, value) in list.iter().enumerate() {
                self.value(value, items, entry(items), &item(pointer, index));
            }
        }
    }

    fn text(&mut self, text: &str, form: &SchemaForm<'_>, pointer: &str) {
        if let Some(names) = &form.names {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            if !names.contains(&text) {
                let few = names.len() <= 6;
                let message = if few {
                    format!("{} must be {}, not `{text}`", subject(pointer), quoted(&names, " or "))
                } else {
                    format!("{} cannot be `{text}`", subject(pointer))
                };
                let problem = self.at_value(Code::WrongValue, message, pointer).suggest(text, names.iter().copied());
                let listed = few || !problem.help.is_empty();
                self.found.push(if listed {
                    problem
                } else {
                    problem.help(format!("one of {}", quoted(&names, ", ")))
                });
            }
        }
        let (least, most) = (form.min_length, form.max_length.unwrap_or(u64::MAX));
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if length < least {
            let message = format!("{} must not be empty", subject(pointer));
            self.found.push(self.at_value(Code::WrongValue, message, pointer));
        } else if length > most {
            let message = format!("{} must have at most {most} characters, not {length}", subject(pointer));
            self.found.push(self.at_value(Code::WrongValue, message, pointer));
        } else if let Some(pattern) = form.pattern.as_deref() {
            self.pattern(text, pattern, pointer, false);
        }
    }

    /// Checks a string or a key against one of the known patterns.
    fn pattern(&mut self, text: &str, pattern: &str, pointer: &str, is_key: bool) {
        let Some((source, fits, words)) = KNOWN_PATTERNS.iter().find(|known| pattern == known.0) else { return };
        if fits(text) {
            return;
        }
        let is_name = *source != Span::PATTERN;
        let code = if is_name { Code::BadName } else { Code::WrongValue };
        let message = if is_name {
            format!("`{text}` is not a valid name")
        } else {
            format!("{} must be {words}, not `{text}`", subject(pointer))
        };
        let spans = &self.document.spans;
        let span = if is_key { spans.key(pointer) } else { spans.value(pointer) };
        let problem = Diagnostic::error(code, message).at(&self.document.file, span);
        self.found.push(match *source {
            NAME_PATTERN | INPUT_PATTERN => advice::bad_name(problem, text, fits, words),
            TOOLS_PATTERN => problem.help(format!("write it as a list: `[{text}]`")),
            Span::PATTERN => advice::bad_span(problem, text),
            _ if is_name => problem.help(format!("allowed: {words}")),
            _ => problem,
        });
    }

    fn number(&mut self, value: &Value, form: &SchemaForm<'_>, pointer: &str) {
        let Some(number) = value.as_f64() else { return };
        let below = form.minimum.as_ref().filter(|least| least.as_f64().is_some_and(|least| number < least));
        let above = form.maximum.as_ref().filter(|most| most.as_f64().is_some_and(|most| number > most));
        for (bound, word) in [(below, "least"), (above, "most")] {
            if let Some(bound) = bound {
                let message = format!("{} must be at {word} {bound}, not {value}", subject(pointer));
                self.found.push(self.at_value(Code::WrongValue, message, pointer));
            }
        }
    }

    fn at_value(&self, code: Code, message: String, pointer: &str) -> Diagnostic {
        Diagnostic::error(code, message).at(&self.document.file, self.document.spans.value(pointer))
    }
}

/// Whether a value is one of the `inputs` of a pipeline.
fn is_input(pointer: &str) -> bool {
    pointer.strip_prefix("/inputs/").is_some_and(|name| !name.contains('/'))
}

/// Where an entry of a list or of a mapping with free keys is: it has the name of its form.
fn entry<'f>(form: &'f SchemaForm<'_>) -> At<'f> {
    At { place: form.name().unwrap_or_default(), key: "" }
}

/// What a message calls the value at a pointer: its key, or its position in a list.
fn subject(pointer: &str) -> String {
    let tokens: Vec<String> = pointer.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~")).collect();
    match tokens.as_slice() {
        [] => "the file".to_owned(),
        [.., list, index] if index.bytes().all(|b| b.is_ascii_digit()) => {
            let number = index.parse::<usize>().map_or_else(|_| index.clone(), |index| (index + 1).to_string());
            format!("item {number} of `{list}`")
        }
        [.., key] => format!("`{key}`"),
    }
}

pub(super) fn is_a(value: &Value, name: &str) -> bool {
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

fn described(name: &str) -> &'static str {
    match name {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        _ => "a number",
    }
}

/// What a message calls a value of the wrong type.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::String(text) if text.chars().count() <= 40 && !text.contains('\n') => format!("the string `{text}`"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn first_sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    let first = text.split_once(". ").map_or(text.as_str(), |(first, _)| first).trim_end_matches('.');
    let mut chars = first.chars();
    chars.next().map_or_else(String::new, |letter| letter.to_lowercase().chain(chars).collect())
}
