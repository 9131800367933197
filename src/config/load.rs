//! A project: a pipeline file with everything that it names, read from its root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Source, nearest};
use crate::model::Pipeline;
use crate::schema::SchemaSet;
use crate::template;

use super::names::confined;
use super::settings::{Settings, load_settings};
use super::yaml::{self, Document};
use super::{file, shape};

/// A loaded project; what could not be loaded is among the findings.
#[derive(Debug)]
pub struct Project {
    /// The folder that holds `prompts/`, `schemas/` and `.orch/`.
    pub root: PathBuf,
    /// The pipeline file, relative to the root.
    pub file: PathBuf,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Its document, for the places of things.
    pub document: Document,
    /// What `orch.yaml` says.
    pub settings: Settings,
    /// The prompts that the pipeline uses, includes included, by file name.
    pub prompts: BTreeMap<String, Prompt>,
    /// Every schema in `schemas/`, by file name.
    pub schemas: SchemaSet,
    /// The documents of these, for the places of things.
    pub schema_documents: BTreeMap<String, Document>,
    /// What was found on the way; errors keep the project from running.
    pub findings: Vec<Diagnostic>,
}

/// A prompt's text.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The file.
    pub source: Arc<Source>,
}

/// Loads the project of a pipeline file; `here` is the current folder, for paths in findings.
pub fn load(path: &Path, here: &Path) -> Result<Project, Vec<Diagnostic>> {
    let path = here.join(path);
    if !path.exists() {
        return Err(vec![missing_pipeline(&path, here)]);
    }
    let source = file::read(&path, here)?;
    let document = yaml::parse(&source)?;
    let pipeline: Pipeline = shape::read(&document, &shape::pipeline_schema())?;
    let root = find_root(&path);
    let settings = load_settings(&root, here)?;
    let relative = path.strip_prefix(&root).unwrap_or(&path).to_owned();
    let mut project = Project {
        file: relative,
        pipeline,
        document,
        settings,
        prompts: BTreeMap::new(),
        schemas: SchemaSet::default(),
        schema_documents: BTreeMap::new(),
        findings: Vec::new(),
        root,
    };
    project.read_prompts(here);
    project.read_schemas(here);
    Ok(project)
}

/// The root of a pipeline file: the nearest ancestor with `orch.yaml`, else the parent of its nearest
/// ancestor folder named `pipelines`, else the file's folder.
pub fn find_root(path: &Path) -> PathBuf {
    let with_settings = path.ancestors().skip(1).find(|folder| folder.join("orch.yaml").is_file());
    let pipelines = path.ancestors().skip(1).find(|folder| folder.file_name().is_some_and(|name| name == "pipelines"));
    let folder = with_settings.or_else(|| pipelines.and_then(Path::parent)).or_else(|| path.parent());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// The pipeline files under a root's `pipelines/`, sorted.
pub fn list_pipelines(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("pipelines")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                // Cases of `pipeline test` lie there too, and are no pipelines.
                Ok(kind) if kind.is_dir() && entry.file_name() != "tests" => folders.push(path),
                Ok(kind) if !kind.is_dir() && path.extension().is_some_and(|e| e == "yaml" || e == "yml") => {
                    found.push(path)
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn missing_pipeline(path: &Path, here: &Path) -> Diagnostic {
    let source = Source::new(file::shown(path, here), "");
    let finding = Diagnostic::new(Code::Unreadable, "there is no such pipeline", &source, None);
    let root = find_root(path);
    let there: Vec<String> = list_pipelines(&root).iter().map(|p| file::shown(p, here).display().to_string()).collect();
    let wanted = source.path.display().to_string();
    match nearest(&wanted, there.iter().map(String::as_str)) {
        Some(nearest) => finding.help(format!("did you mean `{nearest}`?")),
        None if there.is_empty() => finding.help("`orch init` makes a project with a first pipeline"),
        None => finding.help(format!("there are {}", there.join(", "))),
    }
}

impl Project {
    /// Whether any finding is an error.
    pub fn is_broken(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == crate::diagnostic::Severity::Error)
    }

    fn find(&mut self, code: Code, message: String, pointer: &str) {
        let span = self.document.value_span(pointer);
        self.findings.push(Diagnostic::new(code, message, &self.document.source, span));
    }

    fn read_prompts(&mut self, here: &Path) {
        let folder = self.root.join("prompts");
        let named: Vec<(String, String)> = self
            .pipeline
            .steps
            .iter()
            .enumerate()
            .map(|(i, step)| (step.prompt.clone(), format!("/steps/{i}/prompt")))
            .collect();
        for (name, pointer) in named {
            if self.prompts.contains_key(&name) {
                continue;
            }
            match confined(&folder, &name) {
                Err(why) => self.find(Code::MissingPrompt, why, &pointer),
                Ok(path) if !path.exists() => {
                    let shown = file::shown(&path, here).display().to_string();
                    let span = self.document.value_span(&pointer);
                    let help = suggest(&folder, &name, &["md", "txt", "j2"]);
                    let message = format!("there is no prompt `{shown}`");
                    let finding =
                        Diagnostic::new(Code::MissingPrompt, message, &self.document.source, span).maybe_help(help);
                    self.findings.push(finding);
                }
                Ok(path) => self.read_prompt(&name, &path, here),
            }
        }
    }

    /// Reads a prompt and whatever it includes.
    fn read_prompt(&mut self, name: &str, path: &Path, here: &Path) {
        let source = match file::read(path, here) {
            Ok(source) => source,
            Err(findings) => return self.findings.extend(findings),
        };
        self.prompts.insert(name.to_owned(), Prompt { source: source.clone() });
        let shape = match template::shape(&source.text, Some(name)) {
            Ok(shape) => shape,
            Err(error) => {
                self.findings.push(Diagnostic::new(Code::BadTemplate, error.message, &source, error.range));
                return;
            }
        };
        let folder = self.root.join("prompts");
        for (included, span) in shape.includes {
            if self.prompts.contains_key(&included) {
                continue;
            }
            let refused = match confined(&folder, &included) {
                Err(why) => Some((why, None)),
                Ok(path) if path.exists() => {
                    self.read_prompt(&included, &path, here);
                    None
                }
                Ok(_) => Some((
                    format!("there is no prompt `{included}` to include"),
                    suggest(&folder, &included, &["md", "txt", "j2"]),
                )),
            };
            if let Some((message, help)) = refused {
                self.findings.push(Diagnostic::new(Code::MissingPrompt, message, &source, Some(span)).maybe_help(help));
            }
        }
    }

    fn read_schemas(&mut self, here: &Path) {
        let folder = self.root.join("schemas");
        let Ok(entries) = std::fs::read_dir(&folder) else {
            return;
        };
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .collect();
        paths.sort();
        for path in paths {
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned) else {
                continue;
            };
            let read = confined(&folder, &name)
                .map_err(|why| {
                    vec![Diagnostic::new(Code::BadSchema, why, &Source::new(file::shown(&path, here), ""), None)]
                })
                .and_then(|path| file::read(&path, here))
                .and_then(|source| yaml::parse(&source));
            match read {
                Ok(document) => {
                    self.schemas.insert(&name, document.value.clone());
                    self.schema_documents.insert(name, document);
                }
                Err(findings) => self.findings.extend(findings),
            }
        }
    }

    /// The file name of the schema of a step's output; `None` for `text` and `any`.
    pub fn schema_file(step: &crate::model::Step) -> Option<String> {
        let name = step.schema.as_deref().unwrap_or(&step.output);
        match name {
            "text" | "any" if step.schema.is_some() => None,
            _ if name.ends_with(".json") => Some(name.to_owned()),
            _ => Some(format!("{name}.schema.json")),
        }
    }
}

/// The file in a folder that is spelt most like a missing one.
fn suggest(folder: &Path, name: &str, extensions: &[&str]) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e)))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    nearest(name, names.iter().map(String::as_str)).map(|nearest| format!("did you mean `{nearest}`?"))
}
