//! A loaded project: everything that a check or a run needs to know about its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::settings::Settings;
use super::spans::Document;
use crate::diagnostic::{Diagnostic, SourceFile};
use crate::model::{Pipeline, Step};
use crate::schema::SchemaSet;

/// A pipeline with the files that it names.
#[derive(Debug)]
pub struct Project {
    /// The folder that holds `prompts/`, `schemas/` and `orch.yaml`.
    pub root: PathBuf,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The pipeline's file with its places.
    pub document: Document,
    /// The settings; defaults when there is no `orch.yaml`.
    pub settings: Settings,
    /// The settings' file with its places, when there is one.
    pub settings_document: Option<Document>,
    /// The prompts that steps name, and those that they include, by name.
    pub prompts: BTreeMap<String, Arc<SourceFile>>,
    /// The names of all files in `prompts/`.
    pub prompt_names: Vec<String>,
    /// The schemas that steps name, and those that they refer to, by file name.
    pub schemas: SchemaSet,
    /// The files of these schemas with their places, by file name.
    pub schema_documents: BTreeMap<String, Document>,
    /// The names of all files in `schemas/`.
    pub schema_names: Vec<String>,
    /// What was wrong with files that are not the pipeline itself.
    pub problems: Vec<Diagnostic>,
}

/// What a step's output must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// A string, taken as it is.
    Text,
    /// Any JSON.
    Any,
    /// The schema of a file in `schemas/`.
    File(String),
}

/// What a step's output must be: its `schema`, else the schema named like the output.
pub fn output_type(step: &Step) -> OutputType {
    match step.schema.as_deref() {
        Some("text") => OutputType::Text,
        Some("any") => OutputType::Any,
        Some(name) => OutputType::File(schema_file(name)),
        None => OutputType::File(schema_file(&step.output)),
    }
}

/// The file of a schema: `plan` and `plan.schema.json` name the same.
fn schema_file(name: &str) -> String {
    let whole = Path::new(name).extension().is_some_and(|extension| extension == "json");
    if whole { name.to_owned() } else { format!("{name}.schema.json") }
}

impl Project {
    /// The file of a step's schema in `schemas/`; `None` for text and any JSON.
    pub fn schema_file(step: &Step) -> Option<String> {
        match output_type(step) {
            OutputType::File(name) => Some(name),
            OutputType::Text | OutputType::Any => None,
        }
    }

    /// The prompts as name and text, for the template engine.
    pub fn prompt_sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prompts.iter().map(|(name, file)| (name.as_str(), file.text.as_str()))
    }
}
