//! The values given to a run, checked against the pipeline's `inputs`.

use serde_json::{Map, Value};

use crate::diagnostic::did_you_mean;
use crate::model::Pipeline;
use crate::schema::Schema;

use super::error::SessionError;

/// The inputs that are not given and have no default, with their schemas.
pub(crate) type MissingInputs = Vec<(String, Schema)>;

/// Provides the inputs of a run when the pipeline is known.
pub trait InputSource {
    /// The inputs for a run of `pipeline`, with defaults filled in and every value checked.
    ///
    /// # Errors
    /// A value is missing, unknown or does not fit its schema.
    fn inputs(&self, pipeline: &Pipeline) -> Result<Map<String, Value>, SessionError>;
}

impl InputSource for Map<String, Value> {
    fn inputs(&self, pipeline: &Pipeline) -> Result<Map<String, Value>, SessionError> {
        of(pipeline, self)
    }
}

/// The inputs for a run: the given ones, with defaults filled in and every value checked.
pub(crate) fn of(pipeline: &Pipeline, given: &Map<String, Value>) -> Result<Map<String, Value>, SessionError> {
    complete(pipeline, given, &|_| None)
}

/// The position of an input in the file that it was read from.
pub(crate) trait InputPlace {
    /// The file, line and column of the part of the value that a JSON pointer selects.
    fn part(&self, pointer: &str) -> String;
    /// The file, line and column of the value's key.
    fn name(&self) -> String;
}

/// Returns the position of the input with this name, if it was read from a file.
type PlaceOf<'a> = &'a dyn Fn(&str) -> Option<Box<dyn InputPlace>>;

/// The same as [`of`]; error messages contain the position of the input.
pub(crate) fn complete(
    pipeline: &Pipeline,
    given: &Map<String, Value>,
    place_of: PlaceOf<'_>,
) -> Result<Map<String, Value>, SessionError> {
    let (values, open) = checked(pipeline, given, place_of)?;
    let Some((name, _)) = open.first() else { return Ok(values) };
    let hint = if name == "task" {
        "say what is to be done: `--task \"…\"`".to_owned()
    } else {
        format!("give it: `--input {name}=…`")
    };
    Err(SessionError::usage(format!("the input `{name}` is missing")).hint(hint))
}

/// The values of the inputs that are given or have a default, and the schemas of the others.
pub(crate) fn checked(
    pipeline: &Pipeline,
    given: &Map<String, Value>,
    place_of: PlaceOf<'_>,
) -> Result<(Map<String, Value>, MissingInputs), SessionError> {
    if let Some(name) = given.keys().find(|name| !pipeline.inputs.contains_key(*name)) {
        return Err(unknown(pipeline, name, place_of(name)));
    }
    let (mut values, mut open) = (Map::new(), MissingInputs::new());
    for (name, schema) in &pipeline.inputs {
        let compiled = Schema::compile(name, Value::Object(schema.clone()))
            .map_err(|error| SessionError::usage(format!("the schema of the input `{name}` is broken: {error}")))?;
        let Some(value) = given.get(name).or_else(|| schema.get("default")) else {
            open.push((name.clone(), compiled));
            continue;
        };
        if let Some(first) = compiled.errors(value).first() {
            let place = place_of(name).map(|place| format!("{}: ", place.part(&first.pointer))).unwrap_or_default();
            return Err(SessionError::usage(format!("{place}the input `{name}` does not fit: {first}")));
        }
        values.insert(name.clone(), value.clone());
    }
    Ok((values, open))
}

fn unknown(pipeline: &Pipeline, name: &str, place: Option<Box<dyn InputPlace>>) -> SessionError {
    let place = place.map(|place| format!("{}: ", place.name())).unwrap_or_default();
    let known = pipeline.inputs.keys().map(String::as_str);
    let help = if let Some(nearest) = did_you_mean(name, known.clone()) {
        format!("did you mean `{nearest}`?")
    } else {
        let list: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        if list.is_empty() { "it has no inputs".to_owned() } else { format!("its inputs are {}", list.join(", ")) }
    };
    SessionError::usage(format!("{place}the pipeline has no input `{name}`")).hint(help)
}
