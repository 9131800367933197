//! Checks the input values of a run against the pipeline's `inputs`.

use serde_json::{Map, Value};

use crate::diagnostic::did_you_mean;
use crate::model::Pipeline;
use crate::schema::Schema;

use super::error::RunnerError;

/// The names and schemas of the inputs that have neither a value nor a default.
pub(crate) type MissingInputs = Vec<(String, Schema)>;

/// Provides the inputs of a run once orch has loaded the pipeline.
pub trait InputSource {
    /// Returns the inputs for a run of `pipeline`. Adds the defaults and checks every value.
    ///
    /// # Errors
    /// An input is missing or unknown, or its value does not fit its schema.
    fn inputs(&self, pipeline: &Pipeline) -> Result<Map<String, Value>, RunnerError>;
}

impl InputSource for Map<String, Value> {
    fn inputs(&self, pipeline: &Pipeline) -> Result<Map<String, Value>, RunnerError> {
        complete_inputs(pipeline, self)
    }
}

/// Adds the defaults to the provided inputs, and checks every value.
pub(crate) fn complete_inputs(
    pipeline: &Pipeline,
    provided: &Map<String, Value>,
) -> Result<Map<String, Value>, RunnerError> {
    complete_located_inputs(pipeline, provided, &|_| None)
}

/// The location of an input in the file that contains it.
pub(crate) trait InputLocation {
    /// The file, line and column of the value at a JSON pointer within the input.
    fn value_position(&self, pointer: &str) -> String;
    /// The file, line and column of the input's key.
    fn key_position(&self) -> String;
}

/// Returns the location of the input with this name, if the input is from a file.
type LocateInput<'a> = &'a dyn Fn(&str) -> Option<Box<dyn InputLocation>>;

/// Like [`complete_inputs`], but error messages contain the location of the input.
pub(crate) fn complete_located_inputs(
    pipeline: &Pipeline,
    provided: &Map<String, Value>,
    locate: LocateInput<'_>,
) -> Result<Map<String, Value>, RunnerError> {
    let (values, missing) = check_inputs(pipeline, provided, locate)?;
    let Some((name, _)) = missing.first() else { return Ok(values) };
    let hint = if name == "task" {
        "describe the task: `--task \"…\"`".to_owned()
    } else {
        format!("set it: `--input {name}=…`")
    };
    Err(RunnerError::usage(format!("the input `{name}` is missing")).with_hint(hint))
}

/// Checks every value. Returns the inputs with a value or a default, and the missing inputs.
pub(crate) fn check_inputs(
    pipeline: &Pipeline,
    provided: &Map<String, Value>,
    locate: LocateInput<'_>,
) -> Result<(Map<String, Value>, MissingInputs), RunnerError> {
    if let Some(name) = provided.keys().find(|name| !pipeline.inputs.contains_key(*name)) {
        return Err(unknown_input_error(pipeline, name, locate(name)));
    }
    let (mut values, mut missing) = (Map::new(), MissingInputs::new());
    for (name, schema) in &pipeline.inputs {
        let compiled_schema = Schema::compile(name, Value::Object(schema.clone()))
            .map_err(|error| RunnerError::usage(format!("the schema of the input `{name}` is invalid: {error}")))?;
        let Some(value) = provided.get(name).or_else(|| schema.get("default")) else {
            missing.push((name.clone(), compiled_schema));
            continue;
        };
        if let Some(mismatch) = compiled_schema.mismatches(value).first() {
            let prefix =
                locate(name).map(|input| format!("{}: ", input.value_position(&mismatch.pointer))).unwrap_or_default();
            return Err(RunnerError::usage(format!("{prefix}the input `{name}` does not fit its schema: {mismatch}")));
        }
        values.insert(name.clone(), value.clone());
    }
    Ok((values, missing))
}

fn unknown_input_error(pipeline: &Pipeline, name: &str, input: Option<Box<dyn InputLocation>>) -> RunnerError {
    let prefix = input.map(|input| format!("{}: ", input.key_position())).unwrap_or_default();
    let input_names = pipeline.inputs.keys().map(String::as_str);
    let hint = if let Some(nearest) = did_you_mean(name, input_names.clone()) {
        format!("did you mean `{nearest}`?")
    } else {
        let list: Vec<String> = input_names.map(|name| format!("`{name}`")).collect();
        if list.is_empty() {
            "the pipeline has no inputs".to_owned()
        } else {
            format!("its inputs are {}", list.join(", "))
        }
    };
    RunnerError::usage(format!("{prefix}the pipeline has no input `{name}`")).with_hint(hint)
}
