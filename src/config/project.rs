//! A loaded project: everything about its files that a check or a run needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::root::{SETTINGS_FILE, absolute};
use super::settings::Settings;
use super::spans::Document;
use crate::diagnostic::{Diagnostic, SourceFile};
use crate::model::step::KINDS;
use crate::model::{Pipeline, Step, StepAction};
use crate::schema::SchemaSet;
use crate::template;

/// A pipeline with the files that it names.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder that holds `prompts/`, `schemas/` and `orch.yaml`.
    pub root: PathBuf,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The pipeline's file, with the byte range of each value.
    pub document: Document,
    /// The settings; defaults when there is no `orch.yaml`.
    pub settings: Settings,
    /// The settings' file, with the byte range of each value, if there is one.
    pub settings_document: Option<Document>,
    /// The prompts that steps name, and those that they include, by name.
    pub prompts: BTreeMap<String, Arc<SourceFile>>,
    /// The names of all files in `prompts/`; listed only if a file that the pipeline names is missing.
    pub prompt_names: Vec<String>,
    /// The schemas that steps name, and those that they refer to, by file name.
    pub schemas: SchemaSet,
    /// The files of these schemas, with the byte range of each value, by file name.
    pub schema_documents: BTreeMap<String, Document>,
    /// The names of all files in `schemas/`, listed in the same case.
    pub schema_names: Vec<String>,
    /// The pipelines that steps call, by the value of `pipeline:`.
    pub called: BTreeMap<String, Arc<Project>>,
    /// The problems of all files other than the pipeline itself.
    pub problems: Vec<Diagnostic>,
}

/// What a step's output must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// A string, used as it is.
    Text,
    /// Any JSON.
    Any,
    /// The schema of a file in `schemas/`.
    File(String),
    /// The schema of what this kind of step produces.
    Built(&'static Value),
}

/// What a step's output must be: its `schema`, else what its kind produces, else the schema with the output's name.
/// With `for_each`, it describes the output of one item. `None` for a step without an output.
pub fn output_type(step: &Step) -> Option<OutputType> {
    let output = step.output.as_ref()?;
    Some(match (step.schema.as_deref(), step.kind()) {
        (Some(name), _) => named_type(name),
        (None, Some(StepAction::Command(_))) => OutputType::Built(&COMMAND),
        (None, Some(StepAction::Write(_))) => OutputType::Built(&WRITTEN),
        (None, Some(StepAction::Approve(_))) => OutputType::Built(&APPROVAL),
        (
            None,
            Some(StepAction::Parallel(_) | StepAction::Repeat(_) | StepAction::Sequence(_) | StepAction::Pipeline(_)),
        ) => OutputType::Any,
        (None, Some(StepAction::Agent { .. }) | None) => OutputType::File(schema_file(output)),
    })
}

/// What the value of `schema:` stands for.
pub fn named_type(name: &str) -> OutputType {
    match name {
        "text" => OutputType::Text,
        "any" => OutputType::Any,
        name => OutputType::File(schema_file(name)),
    }
}

/// The file name of a schema: `plan` and `plan.schema.json` name the same file.
fn schema_file(name: &str) -> String {
    let whole = Path::new(name).extension().is_some_and(|extension| extension == "json");
    if whole { name.to_owned() } else { format!("{name}.schema.json") }
}

/// What an output must be in a file that the user is still writing, judged by the keys that its step has so far.
pub fn output_type_so_far(output: &str, schema: Option<&str>, has: impl Fn(&str) -> bool) -> Option<OutputType> {
    match schema {
        Some(name) => Some(named_type(name)),
        None if KINDS.iter().any(|kind| *kind != "agent" && has(kind)) => None,
        None => Some(OutputType::File(schema_file(output))),
    }
}

/// The schema of the artifact of a command that has no `schema`.
static COMMAND: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object", "additionalProperties": false, "required": ["exit_code", "stdout", "stderr"],
        "properties": {
            "exit_code": { "type": "integer" }, "stdout": { "type": "string" }, "stderr": { "type": "string" },
            "truncated": { "const": true }
        }
    })
});

/// The schema of the artifact of a step that writes files.
static WRITTEN: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object", "required": ["files"],
        "properties": { "files": { "type": "array", "items": {
            "type": "object", "required": ["path", "change"],
            "properties": { "path": { "type": "string" }, "change": { "enum": ["created", "changed", "deleted", "unchanged"] } }
        } } }
    })
});

/// The schema of the artifact of an approval.
static APPROVAL: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object", "additionalProperties": false, "required": ["approved", "note", "by"],
        "properties": { "approved": { "type": "boolean" }, "note": { "type": "string" }, "by": { "type": "string" } }
    })
});

impl Project {
    /// The name of a step's schema file in `schemas/`; `None` if the output has no schema file.
    pub fn schema_file(step: &Step) -> Option<String> {
        match output_type(step)? {
            OutputType::File(name) => Some(name),
            OutputType::Text | OutputType::Any | OutputType::Built(_) => None,
        }
    }

    /// The prompts by name, including those of called pipelines, for the template engine.
    pub fn prompt_sources(&self) -> BTreeMap<&str, &str> {
        let mut all: BTreeMap<&str, &str> = self.called.values().flat_map(|project| project.prompt_sources()).collect();
        all.extend(self.prompts.iter().map(|(name, file)| (name.as_str(), file.text.as_str())));
        all
    }

    /// The files that the project was loaded from, including called pipelines, and those that the next load would read
    /// if they existed: an `orch.yaml` in any folder from the pipeline up to the root, and included prompts that may be
    /// missing.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let one = |project: &Project| {
            let within = |folder: &str, name: &str| project.root.join(folder).join(name);
            let steps = project.pipeline.all_steps();
            let inline = steps.iter().flat_map(|step| step.message.iter().chain(&step.approve));
            let texts = project.prompts.values().map(|file| file.text.as_str()).chain(inline.map(String::as_str));
            let included: Vec<String> = texts.flat_map(template::includes).collect();
            let prompts = project.prompts.keys().chain(&included).map(|name| within("prompts", name));
            let schemas = project.schema_documents.keys().map(|name| within("schemas", name));
            let file = PathBuf::from(&project.document.file.path);
            let (whole, root) = (absolute(&file), absolute(&project.root));
            let folders = whole.ancestors().skip(1).take_while(|folder| *folder != root).chain([root.as_path()]);
            let settings: Vec<PathBuf> = folders.map(|folder| folder.join(SETTINGS_FILE)).collect();
            settings.into_iter().chain(prompts).chain(schemas).chain([file]).collect::<Vec<_>>()
        };
        self.with_called().into_iter().flat_map(one).collect()
    }

    /// This project and those of the pipelines that it calls, at any depth, each file once.
    pub fn with_called(&self) -> Vec<&Project> {
        let mut found: Vec<&Project> = vec![self];
        let mut next = 0;
        while let Some(project) = found.get(next).copied() {
            for called in project.called.values() {
                if !found.iter().any(|known| known.document.file.path == called.document.file.path) {
                    found.push(called);
                }
            }
            next += 1;
        }
        found
    }
}

/// Every step with its pointer in the file, such as `/steps/0/parallel/1`, from top to bottom.
pub fn places(pipeline: &Pipeline) -> Vec<(String, &Step)> {
    fn add<'a>(base: &str, steps: &'a [Step], found: &mut Vec<(String, &'a Step)>) {
        for (index, step) in steps.iter().enumerate() {
            let at = format!("{base}/{index}");
            found.push((at.clone(), step));
            let (key, children) = step.children();
            add(&format!("{at}/{key}"), children, found);
        }
    }
    let mut found = Vec::new();
    add("/steps", &pipeline.steps, &mut found);
    add("/finally", &pipeline.finally, &mut found);
    found
}
