//! What the command line says of inputs.

use std::collections::BTreeMap;

use clap::ValueHint;
use serde_json::{Map, Value};

use crate::config::child;
use crate::model::Pipeline;
use crate::schema::Schema;

use crate::session::inputs::{InputPlace, MissingInputs, checked, complete};
use crate::session::{InputSource, SessionError};

use super::text::{Json, SourcedText, TextSource, ValuePlaces};

/// What the command line says of inputs.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct CliInputs {
    /// The task, which fills the input `task`; `-` reads it from standard input
    #[arg(long, short, value_name = "TEXT", conflicts_with = "task_file")]
    task: Option<String>,

    /// Read the task from a file, or from standard input with `-`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    task_file: Option<String>,

    /// Another input: `NAME=VALUE`, or `NAME=@FILE` to read the value from a file (`@-`: standard input). Values
    /// of other types than string are JSON. A value that begins with `@` itself begins with `@@`
    #[arg(long = "input", short = 'i', value_name = "NAME=VALUE")]
    inputs: Vec<String>,

    /// Read inputs from a JSON file, an object with a member for each; `-` is standard input. `--task` and
    /// `--input` go before what it says
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    input_file: Option<String>,
}

/// The inputs that were given, and where those that were read are written.
#[derive(Default)]
struct LocatedInputs {
    values: Map<String, Value>,
    places: BTreeMap<String, ValuePlaces>,
}

impl InputSource for CliInputs {
    fn inputs(&self, pipeline: &Pipeline) -> Result<Map<String, Value>, SessionError> {
        let found = self.found(pipeline)?;
        complete(pipeline, &found.values, &|name| found.place(name))
    }
}

impl CliInputs {
    /// The inputs as far as they are given, and the schemas of those that are not.
    pub(in crate::cli) fn known(
        &self,
        pipeline: &Pipeline,
    ) -> Result<(Map<String, Value>, MissingInputs), SessionError> {
        let found = self.found(pipeline)?;
        checked(pipeline, &found.values, &|name| found.place(name))
    }

    fn found(&self, pipeline: &Pipeline) -> Result<LocatedInputs, SessionError> {
        let mut flags = Vec::new();
        for text in &self.inputs {
            flags.push(text.split_once('=').ok_or_else(|| {
                SessionError::usage(format!("`--input {text}` has no `=`")).hint("write `--input NAME=VALUE`")
            })?);
        }
        self.one_reads_standard_input(&flags)?;
        let mut found = self.of_file()?;
        let mut named = Vec::new();
        if let Some(task) = self.task(pipeline)? {
            named.push("task");
            found.insert("task", task);
        }
        for (name, value) in flags {
            if named.contains(&name) {
                return Err(SessionError::usage(format!("the input `{name}` is given twice")));
            }
            named.push(name);
            found.insert(name, input(pipeline, name, value)?);
        }
        Ok(found)
    }

    /// Refuses options of which the second would find standard input empty.
    fn one_reads_standard_input(&self, flags: &[(&str, &str)]) -> Result<(), SessionError> {
        let is_dash = |value: &Option<String>| value.as_deref() == Some("-");
        let mut readers = Vec::new();
        readers.extend(is_dash(&self.task).then(|| "`--task -`".to_owned()));
        readers.extend(is_dash(&self.task_file).then(|| "`--task-file -`".to_owned()));
        readers.extend(is_dash(&self.input_file).then(|| "`--input-file -`".to_owned()));
        readers
            .extend(flags.iter().filter(|(_, value)| *value == "@-").map(|(name, _)| format!("`--input {name}=@-`")));
        if readers.len() < 2 {
            return Ok(());
        }
        Err(SessionError::usage(format!("standard input can be read once, and {} want it", readers.join(" and ")))
            .hint("put one of them into a file, and name that"))
    }

    /// What `--input-file` holds.
    fn of_file(&self) -> Result<LocatedInputs, SessionError> {
        const HINT: &str = "`--input-file` takes a JSON file with all inputs: `{\"task\": \"…\"}`";
        const WHAT: &str = "what `--input-file` names";
        let mut found = LocatedInputs::default();
        let Some(path) = &self.input_file else { return Ok(found) };
        let Json { value, places } = SourcedText::read(WHAT, TextSource::of(path), HINT)?.json(WHAT, "object")?;
        let Value::Object(members) = value else {
            let place = places.map_or_else(|| path.clone(), |places| places.of(""));
            return Err(SessionError::usage(format!(
                "{place}: {WHAT} must be an object, with a member for each input"
            ))
            .hint(HINT));
        };
        for (name, value) in members {
            let places = places.as_ref().map(|whole| ValuePlaces { pointer: child("", &name), ..whole.clone() });
            found.insert(&name, Json { value, places });
        }
        Ok(found)
    }

    fn task(&self, pipeline: &Pipeline) -> Result<Option<Json>, SessionError> {
        const WHAT: &str = "the task";
        let text = match (&self.task, &self.task_file) {
            (Some(dash), _) if dash == "-" => SourcedText::read(WHAT, TextSource::Stdin, "")?,
            (Some(text), _) => SourcedText::literal(WHAT, text)?,
            (None, Some(path)) => {
                SourcedText::read(WHAT, TextSource::of(path), "`--task-file` takes a text file with the task in it")?
            }
            (None, None) => return Ok(None),
        };
        if text.text.trim().is_empty() {
            return Err(SessionError::usage("the task is empty").hint("say what is to be done: `--task \"…\"`"));
        }
        typed(pipeline, "task", text).map(Some)
    }
}

impl LocatedInputs {
    fn place(&self, name: &str) -> Option<Box<dyn InputPlace>> {
        self.places.get(name).map(|places| Box::new(places.clone()) as Box<dyn InputPlace>)
    }

    fn insert(&mut self, name: &str, json: Json) {
        self.values.insert(name.to_owned(), json.value);
        match json.places {
            Some(places) => self.places.insert(name.to_owned(), places),
            None => self.places.remove(name),
        };
    }
}

/// The value of one `--input`.
fn input(pipeline: &Pipeline, name: &str, value: &str) -> Result<Json, SessionError> {
    let what = format!("the input `{name}`");
    let text = match value.strip_prefix('@') {
        None => SourcedText::literal(&what, value)?,
        Some(literal) if literal.starts_with('@') => SourcedText::literal(&what, literal)?,
        Some("") => {
            return Err(SessionError::usage(format!("`--input {name}=@` names no file"))
                .hint(format!("write `--input {name}=@FILE`, or `--input {name}=@@` for a lone `@`")));
        }
        Some(path) => {
            let hint = format!(
                "`@` reads the value from a file; a value that begins with `@` itself has two: `--input {name}=@{value}`"
            );
            SourcedText::read(&what, TextSource::of(path), &hint)?
        }
    };
    typed(pipeline, name, text)
}

/// A text as the value that the schema of its input wants: the text itself, or the JSON that it is.
fn typed(pipeline: &Pipeline, name: &str, text: SourcedText) -> Result<Json, SessionError> {
    let what = format!("the input `{name}`");
    let schema = pipeline.inputs.get(name);
    let kinds: Option<Vec<&str>> = schema.and_then(|schema| schema.get("type")).map(|kind| match kind {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    });
    let Some(kinds) = kinds else { return Ok(untyped(&what, schema, text)) };
    if kinds.contains(&"string") {
        return Ok(Json { value: Value::String(text.text), places: None });
    }
    text.json(&what, &kinds.join(" or "))
}

/// A text for a schema without a `type`: itself if that fits, else the JSON that it is if that does.
fn untyped(what: &str, schema: Option<&Map<String, Value>>, text: SourcedText) -> Json {
    let schema = schema.and_then(|schema| Schema::compile("input", Value::Object(schema.clone())).ok());
    let fits = |value: &Value| schema.as_ref().is_none_or(|schema| schema.is_valid(value));
    let plain = Value::String(text.text.clone());
    let json = if fits(&plain) { None } else { text.json(what, "JSON").ok().filter(|json| fits(&json.value)) };
    json.unwrap_or(Json { value: plain, places: None })
}
