//! Loads the pipelines that a pipeline calls: those that its steps name, and those that its agents offer to their models.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::load::{Loader, load_in_root};
use super::missing_file::NamedFolder;
use super::project::{Project, steps_with_pointers};
use super::spans::{Document, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Pipeline, StepAction};

/// The maximum number of levels of pipelines that call one another.
const MAX_CALLS: usize = 32;

/// The chain of pipeline files that leads to a called pipeline, and the loaded pipelines. orch loads a pipeline that
/// several others call only once; otherwise the work could double at each level of calls.
#[derive(Default)]
pub(super) struct CallState {
    pub(super) callers: Vec<PathBuf>,
    /// The loaded pipelines, by file; `None` for a file whose mistakes are already reported.
    loaded: HashMap<PathBuf, Option<Arc<Project>>>,
}

/// Renders a cycle of calls for a message, such as `a.yaml → b.yaml → a.yaml`.
fn render_cycle(callers: &[PathBuf], called: &Path) -> String {
    let cycle_start = callers.iter().position(|caller| caller == called).unwrap_or(0);
    let files = callers.iter().skip(cycle_start).map(PathBuf::as_path).chain([called]);
    files.map(|file| file.display().to_string()).collect::<Vec<_>>().join(" → ")
}

/// The files that a pipeline names as called pipelines, each with the pointer of the value that names it.
fn named_files(pipeline: &Pipeline) -> Vec<(String, &str)> {
    let mut files = Vec::new();
    for (pointer, step) in steps_with_pointers(pipeline) {
        if let Some(StepAction::Pipeline(name)) = step.action() {
            files.push((child_pointer(&pointer, "pipeline"), name));
        }
    }
    for (agent_name, agent) in &pipeline.agents {
        let pointer = child_pointer(&child_pointer("/agents", agent_name), "pipelines");
        let entries = agent.pipelines.iter().enumerate();
        files.extend(entries.map(|(index, name)| (item_pointer(&pointer, index), name.as_str())));
    }
    files
}

/// Sets the access to the workspace that the pipelines need which each agent may call.
pub(super) fn set_pipeline_access(pipeline: &mut Pipeline, called: &BTreeMap<String, Arc<Project>>) {
    for agent in pipeline.agents.values_mut() {
        let projects = agent.pipelines.iter().filter_map(|file| called.get(file));
        agent.pipeline_access = projects.map(|project| project.workspace_access()).max();
    }
}

impl Loader<'_> {
    /// Loads the pipelines that steps and models call. Refuses a pipeline that calls itself, directly or indirectly,
    /// because the call could never end.
    pub(super) fn load_called(
        &mut self,
        path: &Path,
        document: &Document,
        pipeline: &Pipeline,
        calls: &mut CallState,
    ) -> BTreeMap<String, Arc<Project>> {
        let mut projects = BTreeMap::new();
        for (pointer, name) in named_files(pipeline) {
            if projects.contains_key(name) {
                continue;
            }
            let new_diagnostic = |code: Code, message: String| {
                Diagnostic::error(code, message).with_span(&document.file, document.spans.value(&pointer))
            };
            let file = path.parent().unwrap_or(Path::new("")).join(name);
            let is_outside =
                Path::new(name).is_absolute() || name.split(['/', '\\']).any(|component| component == "..");
            if is_outside {
                let diagnostic =
                    new_diagnostic(Code::PathOutsideFolder, format!("`{name}` leads out of the pipeline's folder"));
                self.diagnostics.push(diagnostic.with_help("name a file beside this one, or below"));
            } else if !self.sources.exists(&file) {
                let diagnostic = new_diagnostic(Code::PipelineNotFound, format!("there is no pipeline `{name}`"));
                self.diagnostics.push(self.add_called_pipeline_advice(diagnostic, path, name));
            } else if calls.callers.contains(&file) || calls.callers.len() >= MAX_CALLS {
                let message = format!("`{name}` calls itself: {}", render_cycle(&calls.callers, &file));
                self.diagnostics.push(new_diagnostic(Code::PipelineCycle, message));
            } else if let Some(loaded) = calls.loaded.get(&file) {
                projects.extend(loaded.clone().map(|project| (name.to_owned(), project)));
            } else {
                match load_in_root(self.sources, &file, self.root.to_owned(), calls) {
                    Ok(project) => {
                        let project = Arc::new(project);
                        calls.loaded.insert(file, Some(project.clone()));
                        projects.insert(name.to_owned(), project);
                    }
                    Err(diagnostics) => {
                        calls.loaded.insert(file, None);
                        self.diagnostics.extend(diagnostics);
                    }
                }
            }
        }
        projects
    }

    /// Adds advice to a diagnostic about a pipeline that a step of the pipeline at `path` calls by `name`.
    fn add_called_pipeline_advice(&self, diagnostic: Diagnostic, path: &Path, name: &str) -> Diagnostic {
        let folder = path.parent().unwrap_or(Path::new(""));
        let is_other_pipeline = |other: &String| {
            let is_yaml = [".yaml", ".yml"].iter().any(|ending| other.ends_with(ending));
            is_yaml && folder.join(other) != path
        };
        let names: Vec<String> = self.sources.list_files(folder).into_iter().filter(is_other_pipeline).collect();
        if names.is_empty() || name.contains('\\') {
            return diagnostic;
        }
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        NamedFolder { folder: &folder, names: &names, endings: &[".yaml", ".yml"] }.add_advice(diagnostic, name)
    }
}
