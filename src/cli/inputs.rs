//! The values given to a run, checked against the pipeline's `inputs`.

mod given;
mod text;

use serde_json::{Map, Value};

use crate::diagnostic::did_you_mean;
use crate::model::Pipeline;
use crate::schema::Schema;

use super::error::CliError;
use text::Places;

pub(super) use given::Given;

/// The inputs that are not given and have no default, with their schemas.
pub(super) type Open = Vec<(String, Schema)>;

/// The inputs of a run: those given, defaults filled in, every value checked.
pub(super) fn of(pipeline: &Pipeline, given: &Map<String, Value>) -> Result<Map<String, Value>, CliError> {
    complete(pipeline, given, &|_| None)
}

/// Where a given input is written, when it was read from a file.
type Written<'a> = &'a dyn Fn(&str) -> Option<Places>;

fn complete(
    pipeline: &Pipeline,
    given: &Map<String, Value>,
    written: Written<'_>,
) -> Result<Map<String, Value>, CliError> {
    let (values, open) = checked(pipeline, given, written)?;
    let Some((name, _)) = open.first() else { return Ok(values) };
    let hint = if name == "task" {
        "say what is to be done: `--task \"…\"`".to_owned()
    } else {
        format!("give it: `--input {name}=…`")
    };
    Err(CliError::could_not(format!("the input `{name}` is missing")).hint(hint))
}

fn checked(
    pipeline: &Pipeline,
    given: &Map<String, Value>,
    written: Written<'_>,
) -> Result<(Map<String, Value>, Open), CliError> {
    if let Some(name) = given.keys().find(|name| !pipeline.inputs.contains_key(*name)) {
        return Err(unknown(pipeline, name, written(name)));
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
            let place = written(name).map(|places| format!("{}: ", places.of(&first.pointer))).unwrap_or_default();
            return Err(CliError::could_not(format!("{place}the input `{name}` does not fit: {first}")));
        }
        values.insert(name.clone(), value.clone());
    }
    Ok((values, open))
}

fn unknown(pipeline: &Pipeline, name: &str, places: Option<Places>) -> CliError {
    let place = places.map(|places| format!("{}: ", places.of_name())).unwrap_or_default();
    let known = pipeline.inputs.keys().map(String::as_str);
    let help = if let Some(nearest) = did_you_mean(name, known.clone()) {
        format!("did you mean `{nearest}`?")
    } else {
        let list: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        if list.is_empty() { "it has no inputs".to_owned() } else { format!("its inputs are {}", list.join(", ")) }
    };
    CliError::could_not(format!("{place}the pipeline has no input `{name}`")).hint(help)
}
