//! Loads a project from the path of a pipeline: finds the root, and reads the files that the pipeline names.
//!
//! Fails only if the pipeline itself can't be loaded. Every other mistake becomes a diagnostic in
//! [`Project::diagnostics`], so that one check reports all of them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::called_pipelines::{CallState, set_pipeline_access};
use super::form::SchemaForm;
use super::json::{collect_references, parse_json, parse_json_value};
use super::missing_pipeline::{add_file_type_advice, add_missing_pipeline_advice};
use super::project::Project;
use super::root::{self, SETTINGS_FILE};
use super::schema_files::{schema_set, set_command_schemas, unreadable_schema};
use super::settings::Settings;
use super::sources::Sources;
use super::spans::{Document, SpanIndex};
use super::{files, generate, shape, yaml};
use crate::diagnostic::{Code, Diagnostic, SourceFile, sort_and_dedup};
use crate::model::Pipeline;
use crate::template;

/// Loads the pipeline at `path` with everything that it names.
///
/// # Errors
/// The mistakes of the pipeline file, if it can't be loaded.
pub fn load(path: &Path) -> Result<Project, Vec<Diagnostic>> {
    load_from(&Sources::default(), path)
}

/// Like [`load`], with texts that replace files.
///
/// # Errors
/// The mistakes of the pipeline file, if it can't be loaded.
pub fn load_from(sources: &Sources, path: &Path) -> Result<Project, Vec<Diagnostic>> {
    load_in_root(sources, path, root::find_root_from(sources, path), &mut CallState::default())
}

/// Loads a pipeline of the project at `root`.
pub(super) fn load_in_root(
    sources: &Sources,
    path: &Path,
    root: PathBuf,
    calls: &mut CallState,
) -> Result<Project, Vec<Diagnostic>> {
    let display_path = path.to_string_lossy().replace('\\', "/");
    if let Some(diagnostic) = files::check_link_target(&root, path, &display_path) {
        return Err(vec![*diagnostic]);
    }
    let file = sources
        .read(path, &display_path)
        .map_err(|diagnostic| vec![add_missing_pipeline_advice(*diagnostic, &root, &display_path)])?;
    let parsed = parse_with_form::<Pipeline>(&file, generate::pipeline_form(), "Pipeline");
    let (document, mut pipeline) = parsed.map_err(|diagnostics| add_file_type_advice(diagnostics, path))?;
    set_command_schemas(&mut pipeline, &root, sources);
    let mut loader = Loader { sources, root: &root, diagnostics: Vec::new(), has_missing_file: false };
    let (settings, settings_document) = loader.load_settings();
    if let Some(settings) = &settings {
        set_mcp_access(&mut pipeline, settings);
    }
    let prompts = loader.load_prompts(&pipeline);
    let schema_documents = loader.load_schemas(&pipeline);
    calls.callers.push(path.to_owned());
    let called = loader.load_called(path, &document, &pipeline, calls);
    calls.callers.pop();
    set_pipeline_access(&mut pipeline, &called);
    let (mut diagnostics, has_missing_file) = (loader.diagnostics, loader.has_missing_file);
    sort_and_dedup(&mut diagnostics);
    let schemas = schema_set(&schema_documents);
    // Only advice about a missing file uses the names. Listing large folders for hundreds of pipelines would take
    // longer than everything else.
    let names_in = |folder: &str| if has_missing_file { sources.list_files(&root.join(folder)) } else { Vec::new() };
    let (prompt_names, schema_names) = (names_in("prompts"), names_in("schemas"));
    let (settings, root) = (settings.unwrap_or_default(), root.clone());
    #[rustfmt::skip]
    let project = Project { root, pipeline, document, settings, settings_document, prompts, prompt_names, schemas, schema_documents, schema_names, called_projects: called, diagnostics, env_addresses: sources.env_addresses() };
    Ok(project)
}

/// Sets the access to the workspace that the MCP tools of each agent and of each call need. It follows from `orch.yaml`.
fn set_mcp_access(pipeline: &mut Pipeline, settings: &Settings) {
    let access_of = |server: &str| Some(settings.mcp.get(server)?.workspace_access(&settings.sandbox));
    for agent in pipeline.agents.values_mut() {
        agent.mcp_access = agent.mcp_grants().iter().filter_map(|grant| access_of(&grant.server)).max();
    }
    pipeline.for_each_step_mut(&mut |step| {
        step.mcp_access = step.called_mcp_tool().and_then(|name| access_of(&name.server));
    });
}

/// Loads only the settings of a root, with the byte range of each value; `None` if there is no `orch.yaml`. `sources` may
/// replace files by texts.
///
/// # Errors
/// The mistakes of the file that its schema shows. `check` finds the others.
pub fn load_settings(sources: &Sources, root: &Path) -> Result<Option<(Document, Settings)>, Vec<Diagnostic>> {
    let mut loader = Loader { sources, root, diagnostics: Vec::new(), has_missing_file: false };
    let (settings, document) = loader.load_settings();
    if loader.diagnostics.is_empty() { Ok(document.zip(settings)) } else { Err(loader.diagnostics) }
}

/// Loads every schema of a root, as a project whose pipeline has no steps.
///
/// # Errors
/// The project has no schema, or `schemas/` can't be read or is a link that leads out of the project.
pub fn load_schemas(root: &Path) -> Result<Project, Vec<Diagnostic>> {
    load_schemas_from(&Sources::default(), root)
}

/// Like [`load_schemas`], with texts that replace files.
///
/// # Errors
/// The project has no schema, or `schemas/` can't be read or is a link that leads out of the project.
pub fn load_schemas_from(sources: &Sources, root: &Path) -> Result<Project, Vec<Diagnostic>> {
    let file = SourceFile::new(root::display_path(root, "schemas"), "");
    if let Some(diagnostic) = files::check_link_target(root, &root.join("schemas"), &file.path) {
        return Err(vec![*diagnostic]);
    }
    let mut listing = sources.list_folder(&root.join("schemas"), &file.path);
    let schema_names = std::mem::take(&mut listing.names);
    let mut read_diagnostics = listing.into_diagnostics();
    let mut file_names: Vec<String> = schema_names.iter().filter(|name| name.ends_with(".json")).cloned().collect();
    if file_names.is_empty() && read_diagnostics.iter().any(Diagnostic::is_error) {
        return Err(read_diagnostics);
    }
    if file_names.is_empty() {
        let diagnostic = Diagnostic::error(Code::SchemaNotFound, format!("there is no schema in `{}/`", file.path));
        return Err(vec![diagnostic.with_help("schemas are files such as `schemas/plan.schema.json`")]);
    }
    let value = json!({ "name": "schemas", "steps": [] });
    let pipeline = Pipeline::deserialize(&value)
        .map_err(|error| vec![Diagnostic::error(Code::WrongValue, error.to_string()).with_file(&file)])?;
    let document = Document { file, value, spans: SpanIndex::default() };
    let mut loader = Loader { sources, root, diagnostics: Vec::new(), has_missing_file: false };
    let schema_documents = loader.load_schema_files(&mut file_names);
    // No step refers to these files, so no other check reports a file that can't be read.
    let json_names = schema_names.iter().filter(|name| name.ends_with(".json"));
    read_diagnostics.extend(json_names.filter_map(|name| unreadable_schema(sources, root, name)));
    let (mut diagnostics, schemas) = (loader.diagnostics, schema_set(&schema_documents));
    diagnostics.extend(read_diagnostics);
    sort_and_dedup(&mut diagnostics);
    let (settings, settings_document, prompts, prompt_names) = (Settings::default(), None, BTreeMap::new(), Vec::new());
    let root = root.to_owned();
    #[rustfmt::skip]
    let project = Project { root, pipeline, document, settings, settings_document, prompts, prompt_names, schemas, schema_documents, schema_names, called_projects: BTreeMap::new(), diagnostics, env_addresses: sources.env_addresses() };
    Ok(project)
}

/// Parses a pipeline from a text, without reading any other file.
///
/// # Errors
/// Every mistake of the text.
pub fn parse_pipeline(file: &Arc<SourceFile>) -> Result<(Document, Pipeline), Vec<Diagnostic>> {
    parse_with_form(file, generate::pipeline_form(), "Pipeline")
}

/// Parses a file and checks it against its form. `type_name` is the name of the form's type.
pub(super) fn parse_with_form<T: DeserializeOwned>(
    file: &Arc<SourceFile>,
    form: &SchemaForm<'_>,
    type_name: &str,
) -> Result<(Document, T), Vec<Diagnostic>> {
    let document = yaml::parse(file)?;
    let mut diagnostics = shape::check(&document, form, type_name);
    if !diagnostics.is_empty() {
        sort_and_dedup(&mut diagnostics);
        return Err(diagnostics);
    }
    match T::deserialize(&document.value) {
        Ok(parsed) => Ok((document, parsed)),
        // The schema is generated from the Rust type, so a value rarely fits the schema but not the type.
        Err(error) => Err(vec![Diagnostic::error(Code::WrongValue, error.to_string()).with_file(file)]),
    }
}

/// Reads the files that a pipeline names, and collects their mistakes.
pub(super) struct Loader<'a> {
    pub(super) sources: &'a Sources,
    pub(super) root: &'a Path,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Whether a file that the pipeline names is missing.
    has_missing_file: bool,
}

impl Loader<'_> {
    fn load_settings(&mut self) -> (Option<Settings>, Option<Document>) {
        let path = self.root.join(SETTINGS_FILE);
        if !self.sources.exists(&path) {
            return (None, None);
        }
        let Some(file) = self.read(&path, SETTINGS_FILE) else { return (None, None) };
        // A file with only comments is valid, because settings are optional.
        if file.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return (None, None);
        }
        match parse_with_form::<Settings>(&file, generate::settings_form(), "Settings") {
            Ok((document, settings)) => (Some(settings), Some(document)),
            Err(diagnostics) => {
                self.diagnostics.extend(diagnostics);
                (None, None)
            }
        }
    }

    fn read(&mut self, path: &Path, name: &str) -> Option<Arc<SourceFile>> {
        let display_path = root::display_path(self.root, name);
        let link_check = files::check_link_target(self.root, path, &display_path).map_or(Ok(()), Err);
        match link_check.and_then(|()| self.sources.read(path, &display_path)) {
            Ok(file) => Some(file),
            Err(diagnostic) => {
                self.diagnostics.push(*diagnostic);
                None
            }
        }
    }

    /// Reads a file of a folder if it exists. The checks report a missing file, at the step that names the file.
    fn read_member(&mut self, folder: &str, name: &str) -> Option<Arc<SourceFile>> {
        let folder_path = self.root.join(folder);
        let (path, outside_path) = match files::resolve_in_folder(&folder_path, name) {
            Ok(path) => (Some(path).filter(|path| self.sources.exists(path)), None),
            // The name may be a link out of the folder. If the link leads out of the project, `read` reports it.
            Err(_) => (
                None,
                files::join_in_folder(&folder_path, name).ok().filter(|path| files::is_outside_folder(self.root, path)),
            ),
        };
        let path = path.or(outside_path);
        self.has_missing_file |= path.is_none();
        self.read(&path?, &format!("{folder}/{name}"))
    }

    fn load_prompts(&mut self, pipeline: &Pipeline) -> BTreeMap<String, Arc<SourceFile>> {
        let mut prompts = BTreeMap::new();
        let steps = pipeline.all_steps();
        let mut pending: Vec<String> = steps.iter().filter_map(|step| step.prompt.clone()).collect();
        for step in steps {
            let inline_templates = step.message.iter().chain(&step.approve).map(String::as_str);
            pending.extend(inline_templates.chain(step.argument_texts()).flat_map(template::includes));
        }
        while let Some(name) = pending.pop() {
            if prompts.contains_key(&name) {
                continue;
            }
            if let Some(file) = self.read_member("prompts", &name) {
                pending.extend(template::includes(&file.text));
                prompts.insert(name, file);
            }
        }
        prompts
    }

    fn load_schemas(&mut self, pipeline: &Pipeline) -> BTreeMap<String, Document> {
        self.load_schema_files(&mut pipeline.all_steps().into_iter().filter_map(Project::schema_file).collect())
    }

    /// Loads the schemas with these names, and all schemas to which they refer.
    fn load_schema_files(&mut self, pending: &mut Vec<String>) -> BTreeMap<String, Document> {
        let mut documents = BTreeMap::new();
        let mut visited = HashSet::new();
        let mut ids = Vec::new();
        while let Some(name) = pending.pop().or_else(|| self.find_by_id(&mut ids)) {
            if !visited.insert(name.clone()) {
                continue;
            }
            let Some(file) = self.read_member("schemas", &name) else { continue };
            if let Some(document) = self.parse_json(&file) {
                collect_references(&document.value, pending, &mut ids);
                documents.insert(name, document);
            }
        }
        documents
    }

    /// Takes ids from the list until a file in `schemas/` has one of them as its `$id`, and returns that file. Does not
    /// report mistakes in other files.
    fn find_by_id(&self, ids: &mut Vec<String>) -> Option<String> {
        let folder = self.root.join("schemas");
        if files::is_outside_folder(self.root, &folder) {
            return None;
        }
        let has_id = |name: &String, id: &str| {
            let file =
                files::resolve_in_folder(&folder, name).ok().and_then(|path| self.sources.read(&path, name).ok());
            let value = file.and_then(|file| parse_json_value(&file).ok());
            value.is_some_and(|value| value.get("$id").and_then(Value::as_str) == Some(id))
        };
        while let Some(id) = ids.pop() {
            let file_name =
                self.sources.list_files(&folder).into_iter().find(|name| name.ends_with(".json") && has_id(name, &id));
            if file_name.is_some() {
                return file_name;
            }
        }
        None
    }

    fn parse_json(&mut self, file: &Arc<SourceFile>) -> Option<Document> {
        match parse_json(file) {
            Ok(document) => Some(document),
            Err(diagnostics) => {
                self.diagnostics.extend(diagnostics);
                None
            }
        }
    }
}
