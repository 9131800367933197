//! The values given to a run, checked against the pipeline's `inputs`.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::diagnostic::did_you_mean;
use crate::model::Pipeline;
use crate::model::text::{NotText, text_of, without_mark};
use crate::schema::Schema;

use super::error::CliError;

/// The largest text that is read as an input, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What the command line says of inputs.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Given {
    /// The task, which fills the input `task`; `-` reads it from standard input
    #[arg(long, short, value_name = "TEXT", conflicts_with = "task_file")]
    task: Option<String>,

    /// Read the task from a file
    #[arg(long, value_name = "FILE")]
    task_file: Option<PathBuf>,

    /// Another input; values of other types than string are read as JSON
    #[arg(long = "input", short = 'i', value_name = "NAME=VALUE")]
    inputs: Vec<String>,
}

impl Given {
    /// The inputs of a run of `pipeline`, defaults filled in, every value checked.
    pub(super) fn values(&self, pipeline: &Pipeline) -> Result<Map<String, Value>, CliError> {
        complete(pipeline, self.given(pipeline)?)
    }

    /// The same as far as they are given, and the schemas of those that are not.
    pub(super) fn known(&self, pipeline: &Pipeline) -> Result<(Map<String, Value>, Open), CliError> {
        checked(pipeline, &self.given(pipeline)?)
    }

    fn given(&self, pipeline: &Pipeline) -> Result<Map<String, Value>, CliError> {
        let mut given = Map::new();
        if let Some(task) = self.task()? {
            given.insert("task".to_owned(), Value::String(task));
        }
        for text in &self.inputs {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                CliError::could_not(format!("`--input {text}` has no `=`")).hint("write `--input NAME=VALUE`")
            })?;
            let value = typed(pipeline, name, without_mark(value))?;
            if given.insert(name.to_owned(), value).is_some() {
                return Err(CliError::could_not(format!("the input `{name}` is given twice")));
            }
        }
        Ok(given)
    }

    fn task(&self) -> Result<Option<String>, CliError> {
        let task = match (&self.task, &self.task_file) {
            (Some(dash), _) if dash == "-" => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes);
                read.map_err(|error| {
                    CliError::could_not(format!("the task can't be read from standard input: {error}"))
                })?;
                task_text(bytes, |why| CliError::could_not(format!("the task on standard input {why}")))?
            }
            // A shell may have read it from a file: `"$(cat task.md)"`.
            (Some(text), _) => without_mark(text).to_owned(),
            (None, Some(path)) => {
                let hint = "`--task-file` takes a text file with the task in it";
                let mut bytes = Vec::new();
                let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
                read.map_err(|error| CliError::unread(path, &error).hint(hint))?;
                task_text(bytes, |why| CliError::could_not(format!("`{}` {why}", path.display())).hint(hint))?
            }
            (None, None) => return Ok(None),
        };
        if task.len() as u64 > MAX_BYTES {
            return Err(too_long());
        }
        if task.trim().is_empty() {
            return Err(CliError::could_not("the task is empty").hint("say what is to be done: `--task \"…\"`"));
        }
        Ok(Some(task))
    }
}

fn too_long() -> CliError {
    let error = CliError::could_not(format!("the task is longer than {} MiB", MAX_BYTES >> 20));
    error.hint("put what is long into files of the workspace, and name them in the task")
}

/// The text of a task that was read, which must not be too long.
fn task_text(bytes: Vec<u8>, wrong: impl Fn(NotText) -> CliError) -> Result<String, CliError> {
    // What is cut off may end inside a character.
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_long());
    }
    text_of(bytes).map_err(wrong)
}

fn typed(pipeline: &Pipeline, name: &str, text: &str) -> Result<Value, CliError> {
    let kind = pipeline.inputs.get(name).and_then(|schema| schema.get("type")).and_then(Value::as_str);
    if matches!(kind, Some("string") | None) {
        return Ok(Value::String(text.to_owned()));
    }
    serde_json::from_str(text).map_err(|error| {
        CliError::could_not(format!(
            "the input `{name}` must be {}, and `{text}` is no JSON: {error}",
            kind.unwrap_or("JSON")
        ))
    })
}

/// The inputs that are not given and have no default, with their schemas.
pub(super) type Open = Vec<(String, Schema)>;

/// The inputs of a run: those given, defaults filled in, every value checked.
pub(super) fn complete(pipeline: &Pipeline, given: Map<String, Value>) -> Result<Map<String, Value>, CliError> {
    let (values, open) = checked(pipeline, &given)?;
    let Some((name, _)) = open.first() else { return Ok(values) };
    let hint = if name == "task" {
        "say what is to be done: `--task \"…\"`".to_owned()
    } else {
        format!("give it: `--input {name}=…`")
    };
    Err(CliError::could_not(format!("the input `{name}` is missing")).hint(hint))
}

fn checked(pipeline: &Pipeline, given: &Map<String, Value>) -> Result<(Map<String, Value>, Open), CliError> {
    if let Some(name) = given.keys().find(|name| !pipeline.inputs.contains_key(*name)) {
        return Err(unknown(pipeline, name));
    }
    let (mut values, mut open) = (Map::new(), Open::new());
    for (name, schema) in &pipeline.inputs {
        let compiled = Schema::compile(name, Value::Object(schema.clone()))
            .map_err(|error| CliError::could_not(format!("the schema of the input `{name}` is broken: {error}")))?;
        let Some(value) = given.get(name).or_else(|| schema.get("default")) else {
            open.push((name.clone(), compiled));
            continue;
        };
        if let Some(first) = compiled.errors(value).first() {
            return Err(CliError::could_not(format!("the input `{name}` does not fit: {first}")));
        }
        values.insert(name.clone(), value.clone());
    }
    Ok((values, open))
}

fn unknown(pipeline: &Pipeline, name: &str) -> CliError {
    let known = pipeline.inputs.keys().map(String::as_str);
    let help = if let Some(nearest) = did_you_mean(name, known.clone()) {
        format!("did you mean `{nearest}`?")
    } else {
        let list: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        if list.is_empty() { "it has no inputs".to_owned() } else { format!("its inputs are {}", list.join(", ")) }
    };
    CliError::could_not(format!("the pipeline has no input `{name}`")).hint(help)
}
