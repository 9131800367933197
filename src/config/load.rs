//! Loads a project from the path of a pipeline: finds the root and reads the files that the pipeline names.
//!
//! Fails only if the pipeline itself can't be loaded. Every other problem goes into [`Project::problems`], so that one
//! check reports all of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::absent::{not_found, unlike_a_pipeline};
use super::form::SchemaForm;
use super::json::{json_value, parse_json, references};
use super::project::{Project, places};
use super::root::{self, SETTINGS_FILE};
use super::settings::Settings;
use super::sources::Sources;
use super::spans::{Document, SpanIndex};
use super::{files, generate, shape, yaml};
use crate::diagnostic::{Code, Diagnostic, SourceFile, sort};
use crate::model::{Pipeline, StepAction};
use crate::schema::SchemaSet;
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
    load_within(sources, path, root::find_root_from(sources, path), &mut Calls::default())
}

/// The chain of pipeline files that leads to a called one, and the files that were loaded already. A pipeline that
/// several others call is loaded only once: otherwise pipelines that each call two others would make the work double at
/// each level.
#[derive(Default)]
struct Calls {
    callers: Vec<PathBuf>,
    /// `None` for a file whose mistakes have been reported.
    loaded: HashMap<PathBuf, Option<Arc<Project>>>,
}

/// Loads a pipeline whose root is known.
fn load_within(sources: &Sources, path: &Path, root: PathBuf, calls: &mut Calls) -> Result<Project, Vec<Diagnostic>> {
    let shown = path.to_string_lossy().replace('\\', "/");
    if let Some(problem) = files::link_outside(&root, path, &shown) {
        return Err(vec![*problem]);
    }
    let file = sources.read(path, &shown).map_err(|problem| vec![not_found(*problem, &root, &shown)])?;
    let parsed = parse::<Pipeline>(&file, generate::pipeline_form(), "Pipeline");
    let (document, pipeline) = parsed.map_err(|found| unlike_a_pipeline(found, path))?;
    let mut loader = Loader { sources, root: &root, problems: Vec::new(), absent: false };
    let (settings, settings_document) = loader.settings();
    let prompts = loader.prompts(&pipeline);
    let schema_documents = loader.schemas(&pipeline);
    calls.callers.push(path.to_owned());
    let called = loader.called(path, &document, &pipeline, calls);
    calls.callers.pop();
    let (mut problems, absent) = (loader.problems, loader.absent);
    sort(&mut problems);
    let schemas = set(&schema_documents);
    // The names only serve advice about a missing file. Listing large folders for hundreds of pipelines would take
    // longer than everything else.
    let names = |folder: &str| if absent { sources.list(&root.join(folder)) } else { Vec::new() };
    let (prompt_names, schema_names) = (names("prompts"), names("schemas"));
    let (settings, root) = (settings.unwrap_or_default(), root.clone());
    #[rustfmt::skip]
    let project = Project { root, pipeline, document, settings, settings_document, prompts, prompt_names, schemas, schema_documents, schema_names, called, problems };
    Ok(project)
}

/// Loads only the settings of a root; returns the defaults if there is no `orch.yaml`.
///
/// # Errors
/// Every mistake of the file.
pub fn load_settings(root: &Path) -> Result<Settings, Vec<Diagnostic>> {
    load_settings_from(&Sources::default(), root)
}

/// Like [`load_settings`], with texts that replace files.
///
/// # Errors
/// Every mistake of the file.
pub fn load_settings_from(sources: &Sources, root: &Path) -> Result<Settings, Vec<Diagnostic>> {
    let mut loader = Loader { sources, root, problems: Vec::new(), absent: false };
    let (settings, _) = loader.settings();
    if loader.problems.is_empty() { Ok(settings.unwrap_or_default()) } else { Err(loader.problems) }
}

/// Loads every schema of a root, as a project whose pipeline has no steps.
///
/// # Errors
/// There is no schema, or `schemas/` can't be read or is a link that leads out of the project.
pub fn load_schemas(root: &Path) -> Result<Project, Vec<Diagnostic>> {
    load_schemas_from(&Sources::default(), root)
}

/// Like [`load_schemas`], with texts that replace files.
///
/// # Errors
/// There is no schema, or `schemas/` can't be read or is a link that leads out of the project.
pub fn load_schemas_from(sources: &Sources, root: &Path) -> Result<Project, Vec<Diagnostic>> {
    let file = SourceFile::new(root::shown(root, "schemas"), "");
    if let Some(problem) = files::link_outside(root, &root.join("schemas"), &file.path) {
        return Err(vec![*problem]);
    }
    let mut listing = sources.look(&root.join("schemas"), &file.path);
    let schema_names = std::mem::take(&mut listing.names);
    let mut unread = listing.into_problems();
    let mut wanted: Vec<String> = schema_names.iter().filter(|name| name.ends_with(".json")).cloned().collect();
    if wanted.is_empty() && unread.iter().any(Diagnostic::is_error) {
        return Err(unread);
    }
    if wanted.is_empty() {
        let problem = Diagnostic::error(Code::SchemaNotFound, format!("there is no schema in `{}/`", file.path));
        return Err(vec![problem.help("schemas are files such as `schemas/plan.schema.json`")]);
    }
    let value = json!({ "name": "schemas", "steps": [] });
    let pipeline = Pipeline::deserialize(&value)
        .map_err(|error| vec![Diagnostic::error(Code::WrongValue, error.to_string()).in_file(&file)])?;
    let document = Document { file, value, spans: SpanIndex::default() };
    let mut loader = Loader { sources, root, problems: Vec::new(), absent: false };
    let schema_documents = loader.schema_files(&mut wanted);
    // No step refers to these files, so no other check reports one that can't be read.
    let json = schema_names.iter().filter(|name| name.ends_with(".json"));
    unread.extend(json.filter_map(|name| unnamed(sources, root, name)));
    let (mut problems, schemas) = (loader.problems, set(&schema_documents));
    problems.extend(unread);
    sort(&mut problems);
    let (settings, settings_document, prompts, prompt_names) = (Settings::default(), None, BTreeMap::new(), Vec::new());
    let root = root.to_owned();
    #[rustfmt::skip]
    let project = Project { root, pipeline, document, settings, settings_document, prompts, prompt_names, schemas, schema_documents, schema_names, called: BTreeMap::new(), problems };
    Ok(project)
}

/// Why a listed schema can't be read, in the cases that are otherwise reported for the step that names it: it is a link
/// out of its folder, or its name is not UTF-8.
fn unnamed(sources: &Sources, root: &Path, name: &str) -> Option<Diagnostic> {
    let shown = root::shown(root, &format!("schemas/{name}"));
    if files::link_outside(root, &root.join("schemas").join(name), &shown).is_some() {
        // Reading the file has reported this already.
        return None;
    }
    match files::confined(&root.join("schemas"), name) {
        Err(why) => Some(Diagnostic::error(Code::OutsideFolder, why).in_file(&SourceFile::new(shown, ""))),
        Ok(path) if !sources.exists(&path) => sources.read(&path, &shown).err().map(|problem| *problem),
        Ok(_) => None,
    }
}

fn set(documents: &BTreeMap<String, Document>) -> SchemaSet {
    let mut schemas = SchemaSet::default();
    for (name, document) in documents {
        schemas.insert(name, document.value.clone());
    }
    schemas
}

/// Parses a pipeline from a text, without reading any other file.
///
/// # Errors
/// Every mistake of the text.
pub fn parse_pipeline(file: &Arc<SourceFile>) -> Result<(Document, Pipeline), Vec<Diagnostic>> {
    parse(file, generate::pipeline_form(), "Pipeline")
}

pub(super) fn parse<T: DeserializeOwned>(
    file: &Arc<SourceFile>,
    form: &SchemaForm<'_>,
    place: &str,
) -> Result<(Document, T), Vec<Diagnostic>> {
    let document = yaml::parse(file)?;
    let mut found = shape::check(&document, form, place);
    if !found.is_empty() {
        sort(&mut found);
        return Err(found);
    }
    match T::deserialize(&document.value) {
        Ok(model) => Ok((document, model)),
        // The schema is generated from the model, so a value that fits the schema but not the model is rare.
        Err(error) => Err(vec![Diagnostic::error(Code::WrongValue, error.to_string()).in_file(file)]),
    }
}

/// How many levels deep pipelines may call one another.
const MAX_CALLS: usize = 32;

/// The files of a cycle of calls, for a message.
fn chain(callers: &[PathBuf], last: &Path) -> String {
    let from = callers.iter().position(|caller| caller == last).unwrap_or(0);
    let files = callers.iter().skip(from).map(PathBuf::as_path).chain([last]);
    files.map(|file| file.display().to_string()).collect::<Vec<_>>().join(" → ")
}

struct Loader<'a> {
    sources: &'a Sources,
    root: &'a Path,
    problems: Vec<Diagnostic>,
    /// Whether a file that the pipeline names is missing.
    absent: bool,
}

impl Loader<'_> {
    fn settings(&mut self) -> (Option<Settings>, Option<Document>) {
        let path = self.root.join(SETTINGS_FILE);
        if !self.sources.exists(&path) {
            return (None, None);
        }
        let Some(file) = self.read(&path, SETTINGS_FILE) else { return (None, None) };
        // A file with nothing but comments is fine, because settings are optional.
        if file.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return (None, None);
        }
        match parse::<Settings>(&file, generate::settings_form(), "Settings") {
            Ok((document, settings)) => (Some(settings), Some(document)),
            Err(found) => {
                self.problems.extend(found);
                (None, None)
            }
        }
    }

    fn read(&mut self, path: &Path, name: &str) -> Option<Arc<SourceFile>> {
        let shown = root::shown(self.root, name);
        let outside = files::link_outside(self.root, path, &shown).map_or(Ok(()), Err);
        match outside.and_then(|()| self.sources.read(path, &shown)) {
            Ok(file) => Some(file),
            Err(problem) => {
                self.problems.push(*problem);
                None
            }
        }
    }

    /// Reads a file of a folder if it exists. A missing file is left to the check, which knows which step names it.
    fn member(&mut self, folder: &str, name: &str) -> Option<Arc<SourceFile>> {
        let place = self.root.join(folder);
        let (path, outside) = match files::confined(&place, name) {
            Ok(path) => (Some(path).filter(|path| self.sources.exists(path)), None),
            // A link that leads out of its folder. If it leads out of the project too, it is read all the same, which
            // reports that.
            Err(_) => (None, files::named(&place, name).ok().filter(|path| files::escapes(self.root, path))),
        };
        let path = path.or(outside);
        self.absent |= path.is_none();
        self.read(&path?, &format!("{folder}/{name}"))
    }

    fn prompts(&mut self, pipeline: &Pipeline) -> BTreeMap<String, Arc<SourceFile>> {
        let mut found = BTreeMap::new();
        let steps = pipeline.all_steps();
        let mut wanted: Vec<String> = steps.iter().filter_map(|step| step.prompt.clone()).collect();
        for step in steps {
            let inline = step.message.iter().chain(&step.approve);
            wanted.extend(inline.flat_map(|text| template::includes(text)));
        }
        while let Some(name) = wanted.pop() {
            if found.contains_key(&name) {
                continue;
            }
            if let Some(file) = self.member("prompts", &name) {
                wanted.extend(template::includes(&file.text));
                found.insert(name, file);
            }
        }
        found
    }

    fn schemas(&mut self, pipeline: &Pipeline) -> BTreeMap<String, Document> {
        self.schema_files(&mut pipeline.all_steps().into_iter().filter_map(Project::schema_file).collect())
    }

    /// The schemas with these names, and all schemas that they refer to.
    fn schema_files(&mut self, wanted: &mut Vec<String>) -> BTreeMap<String, Document> {
        let mut found = BTreeMap::new();
        let mut tried = Vec::new();
        let mut ids = Vec::new();
        while let Some(name) = wanted.pop().or_else(|| self.named_by_id(&mut ids)) {
            if tried.contains(&name) {
                continue;
            }
            tried.push(name.clone());
            let Some(file) = self.member("schemas", &name) else { continue };
            if let Some(document) = self.json(&file) {
                references(&document.value, wanted, &mut ids);
                found.insert(name, document);
            }
        }
        found
    }

    /// Loads the pipelines that steps call. A pipeline that calls itself at any depth is refused, since it would never
    /// end.
    fn called(
        &mut self,
        path: &Path,
        document: &Document,
        pipeline: &Pipeline,
        calls: &mut Calls,
    ) -> BTreeMap<String, Arc<Project>> {
        let mut found = BTreeMap::new();
        for (pointer, step) in places(pipeline) {
            let Some(StepAction::Pipeline(name)) = step.kind() else { continue };
            if found.contains_key(name) {
                continue;
            }
            let pointer = super::spans::child(&pointer, "pipeline");
            let refuse = |code: Code, message: String| {
                Diagnostic::error(code, message).at(&document.file, document.spans.value(&pointer))
            };
            let file = path.parent().unwrap_or(Path::new("")).join(name);
            let outside = Path::new(name).is_absolute() || name.split(['/', '\\']).any(|part| part == "..");
            if outside {
                let problem = refuse(Code::OutsideFolder, format!("`{name}` leads out of the pipeline's folder"));
                self.problems.push(problem.help("name a file beside this one, or below"));
            } else if !self.sources.exists(&file) {
                let names = self.sources.list(path.parent().unwrap_or(Path::new("")));
                let problem = refuse(Code::PipelineNotFound, format!("there is no pipeline `{name}`"));
                self.problems.push(problem.suggest(name, names.iter().map(String::as_str)));
            } else if calls.callers.contains(&file) || calls.callers.len() >= MAX_CALLS {
                let message = format!("`{name}` calls itself: {}", chain(&calls.callers, &file));
                self.problems.push(refuse(Code::PipelineCycle, message));
            } else if let Some(known) = calls.loaded.get(&file) {
                found.extend(known.clone().map(|project| (name.to_owned(), project)));
            } else {
                match load_within(self.sources, &file, self.root.to_owned(), calls) {
                    Ok(project) => {
                        let project = Arc::new(project);
                        calls.loaded.insert(file, Some(project.clone()));
                        found.insert(name.to_owned(), project);
                    }
                    Err(problems) => {
                        calls.loaded.insert(file, None);
                        self.problems.extend(problems);
                    }
                }
            }
        }
        found
    }

    /// The next file of `schemas/` whose `$id` is one of the wanted ones. Mistakes in the other files are not reported
    /// here.
    fn named_by_id(&self, ids: &mut Vec<String>) -> Option<String> {
        let folder = self.root.join("schemas");
        if files::escapes(self.root, &folder) {
            return None;
        }
        let has = |name: &String, id: &str| {
            let file = files::confined(&folder, name).ok().and_then(|path| self.sources.read(&path, name).ok());
            let value = file.and_then(|file| json_value(&file).ok());
            value.is_some_and(|value| value.get("$id").and_then(Value::as_str) == Some(id))
        };
        while let Some(id) = ids.pop() {
            let found = self.sources.list(&folder).into_iter().find(|name| name.ends_with(".json") && has(name, &id));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn json(&mut self, file: &Arc<SourceFile>) -> Option<Document> {
        match parse_json(file) {
            Ok(document) => Some(document),
            Err(found) => {
                self.problems.extend(found);
                None
            }
        }
    }
}
