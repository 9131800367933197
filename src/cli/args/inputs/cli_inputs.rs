//! Reads the inputs of a run from the options `--task`, `--task-file`, `--input` and `--input-file`.

use std::collections::BTreeMap;

use clap::ValueHint;
use serde_json::{Map, Value};

use crate::config::child_pointer;
use crate::model::Pipeline;
use crate::schema::Schema;

use crate::runner::inputs::{InputLocation, MissingInputs, check_inputs, complete_located_inputs};
use crate::runner::{InputSource, RunnerError};

use super::text::{LocatedJson, SourcedText, TextSource, ValueLocation};

/// The options that set inputs.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct CliInputs {
    /// Set the input `task`; `-` reads it from standard input
    #[arg(long, short, value_name = "TEXT", conflicts_with = "task_file")]
    task: Option<String>,

    /// Read the input `task` from a file; `-` is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    task_file: Option<String>,

    /// Set another input: `NAME=VALUE`, or `NAME=@FILE` to read the value from a file (`@-` is standard input). A value
    /// that is not a string is JSON. Write `@@` for a literal `@` at the start of a value
    #[arg(long = "input", short = 'i', value_name = "NAME=VALUE")]
    inputs: Vec<String>,

    /// Read inputs from a JSON file that contains an object with one member per input; `-` is standard input. The other
    /// input options take precedence
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    input_file: Option<String>,
}

/// The inputs on the command line, and the locations of values from files.
#[derive(Default)]
struct LocatedInputs {
    values: Map<String, Value>,
    locations: BTreeMap<String, ValueLocation>,
}

impl InputSource for CliInputs {
    fn inputs(&self, pipeline: &Pipeline) -> Result<Map<String, Value>, RunnerError> {
        let inputs = self.located_inputs(pipeline)?;
        complete_located_inputs(pipeline, &inputs.values, &|name| inputs.location(name))
    }
}

impl CliInputs {
    /// Reads the inputs on the command line. Also returns the missing inputs.
    pub(in crate::cli) fn partial_inputs(
        &self,
        pipeline: &Pipeline,
    ) -> Result<(Map<String, Value>, MissingInputs), RunnerError> {
        let inputs = self.located_inputs(pipeline)?;
        check_inputs(pipeline, &inputs.values, &|name| inputs.location(name))
    }

    fn located_inputs(&self, pipeline: &Pipeline) -> Result<LocatedInputs, RunnerError> {
        let mut assignments = Vec::new();
        for text in &self.inputs {
            assignments.push(text.split_once('=').ok_or_else(|| {
                RunnerError::usage(format!("`--input {text}` has no `=`")).with_hint("write `--input NAME=VALUE`")
            })?);
        }
        self.check_standard_input(&assignments)?;
        let mut inputs = self.read_input_file()?;
        let mut seen_names = Vec::new();
        if let Some(task) = self.read_task(pipeline)? {
            seen_names.push("task");
            inputs.insert("task", task);
        }
        for (name, value) in assignments {
            if seen_names.contains(&name) {
                return Err(RunnerError::usage(format!("the input `{name}` is given twice")));
            }
            seen_names.push(name);
            inputs.insert(name, read_input(pipeline, name, value)?);
        }
        Ok(inputs)
    }

    /// Returns an error if several options read standard input, because only the first would receive the content.
    fn check_standard_input(&self, assignments: &[(&str, &str)]) -> Result<(), RunnerError> {
        let reads_stdin = |value: &Option<String>| value.as_deref() == Some("-");
        let mut stdin_options = Vec::new();
        stdin_options.extend(reads_stdin(&self.task).then(|| "`--task -`".to_owned()));
        stdin_options.extend(reads_stdin(&self.task_file).then(|| "`--task-file -`".to_owned()));
        stdin_options.extend(reads_stdin(&self.input_file).then(|| "`--input-file -`".to_owned()));
        stdin_options.extend(
            assignments.iter().filter(|(_, value)| *value == "@-").map(|(name, _)| format!("`--input {name}=@-`")),
        );
        if stdin_options.len() < 2 {
            return Ok(());
        }
        Err(RunnerError::usage(format!(
            "only one option can read standard input: choose between {}",
            stdin_options.join(" and ")
        ))
        .with_hint("write one of the values to a file and pass the file"))
    }

    /// Reads the inputs in the file of `--input-file`.
    fn read_input_file(&self) -> Result<LocatedInputs, RunnerError> {
        const HINT: &str = "pass a JSON file with all inputs, such as `{\"task\": \"…\"}`";
        const LABEL: &str = "the content of `--input-file`";
        let mut inputs = LocatedInputs::default();
        let Some(path) = &self.input_file else { return Ok(inputs) };
        let LocatedJson { value, location } =
            SourcedText::read(LABEL, TextSource::from_path(path), HINT)?.parse_json(LABEL, "object")?;
        let Value::Object(members) = value else {
            let position = location.map_or_else(|| path.clone(), |location| location.position_of(""));
            return Err(RunnerError::usage(format!("{position}: {LABEL} must be an object with one member per input"))
                .with_hint(HINT));
        };
        for (name, value) in members {
            let location =
                location.as_ref().map(|file| ValueLocation { pointer: child_pointer("", &name), ..file.clone() });
            inputs.insert(&name, LocatedJson { value, location });
        }
        Ok(inputs)
    }

    fn read_task(&self, pipeline: &Pipeline) -> Result<Option<LocatedJson>, RunnerError> {
        const LABEL: &str = "the task";
        let text = match (&self.task, &self.task_file) {
            (Some(task), _) if task == "-" => SourcedText::read(LABEL, TextSource::Stdin, "")?,
            (Some(text), _) => SourcedText::literal(LABEL, text)?,
            (None, Some(path)) => {
                SourcedText::read(LABEL, TextSource::from_path(path), "pass a text file that contains the task")?
            }
            (None, None) => return Ok(None),
        };
        if text.text.trim().is_empty() {
            return Err(RunnerError::usage("the task is empty").with_hint("describe the task: `--task \"…\"`"));
        }
        convert_text(pipeline, "task", text).map(Some)
    }
}

impl LocatedInputs {
    fn location(&self, name: &str) -> Option<Box<dyn InputLocation>> {
        self.locations.get(name).map(|location| Box::new(location.clone()) as Box<dyn InputLocation>)
    }

    fn insert(&mut self, name: &str, json: LocatedJson) {
        self.values.insert(name.to_owned(), json.value);
        match json.location {
            Some(location) => self.locations.insert(name.to_owned(), location),
            None => self.locations.remove(name),
        };
    }
}

/// Reads the value of one `--input`.
fn read_input(pipeline: &Pipeline, name: &str, value: &str) -> Result<LocatedJson, RunnerError> {
    let label = format!("the input `{name}`");
    let text = match value.strip_prefix('@') {
        None => SourcedText::literal(&label, value)?,
        Some(literal) if literal.starts_with('@') => SourcedText::literal(&label, literal)?,
        Some("") => {
            return Err(RunnerError::usage(format!("`--input {name}=@` names no file"))
                .with_hint(format!("write `--input {name}=@FILE`, or `--input {name}=@@` for a lone `@`")));
        }
        Some(path) => {
            let hint =
                format!("`@` reads the value from a file; for a literal `@`, write two: `--input {name}=@{value}`");
            SourcedText::read(&label, TextSource::from_path(path), &hint)?
        }
    };
    convert_text(pipeline, name, text)
}

/// Converts a text to the type of its input: to a string, or to the JSON value in the text.
fn convert_text(pipeline: &Pipeline, name: &str, text: SourcedText) -> Result<LocatedJson, RunnerError> {
    let label = format!("the input `{name}`");
    let schema = pipeline.inputs.get(name);
    let types: Option<Vec<&str>> = schema.and_then(|schema| schema.get("type")).map(|value| match value {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    });
    let Some(types) = types else { return Ok(convert_untyped(&label, schema, text)) };
    if types.contains(&"string") {
        return Ok(LocatedJson { value: Value::String(text.text), location: None });
    }
    text.parse_json(&label, &types.join(" or "))
}

/// Converts a text for a schema without `type`. If the schema rejects the text as a string and accepts the JSON value
/// in the text, the result is this JSON value. Otherwise, the result is the string.
fn convert_untyped(label: &str, schema: Option<&Map<String, Value>>, text: SourcedText) -> LocatedJson {
    let schema = schema.and_then(|schema| Schema::compile("input", Value::Object(schema.clone())).ok());
    let fits = |value: &Value| schema.as_ref().is_none_or(|schema| schema.is_valid(value));
    let string = Value::String(text.text.clone());
    let json = if fits(&string) { None } else { text.parse_json(label, "JSON").ok().filter(|json| fits(&json.value)) };
    json.unwrap_or(LocatedJson { value: string, location: None })
}
