//! A loaded project: the files of a pipeline, in the form that checks and runs need.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::api_server::{ApiServer, EnvAddresses};
use super::root::{SETTINGS_FILE, absolute, display_path};
use super::schema_files::command_schema_file;
use super::settings::Settings;
use super::spans::Document;
use crate::diagnostic::{Diagnostic, SourceFile};
use crate::model::name_scope::PreviousRead;
use crate::model::step::{Access, KIND_KEYS};
use crate::model::{Pipeline, Step, StepAction};
use crate::schema::SchemaSet;
use crate::template;

/// A pipeline with the files that it names.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder that holds `prompts/`, `schemas/` and `orch.yaml`.
    pub root: PathBuf,
    /// The parsed pipeline.
    pub pipeline: Pipeline,
    /// The pipeline's file, with the byte range of each value.
    pub document: Document,
    /// The settings; the defaults if there is no `orch.yaml`.
    pub settings: Settings,
    /// The settings' file, with the byte range of each value, if it exists.
    pub settings_document: Option<Document>,
    /// The prompts that steps name, and the prompts that these include, by name.
    pub prompts: BTreeMap<String, Arc<SourceFile>>,
    /// The names of all files in `prompts/`; listed only if a file that the pipeline names is missing.
    pub prompt_names: Vec<String>,
    /// The schemas that steps name, and the schemas to which these refer, by file name.
    pub schemas: SchemaSet,
    /// The files of these schemas, with the byte range of each value, by file name.
    pub schema_documents: BTreeMap<String, Document>,
    /// The names of all files in `schemas/`; listed only if a file that the pipeline names is missing.
    pub schema_names: Vec<String>,
    /// The pipelines that steps and models call, by the value of `pipeline:` or the entry of `pipelines:`.
    pub called_projects: BTreeMap<String, Arc<Project>>,
    /// The diagnostics about all files except the pipeline file itself.
    pub diagnostics: Vec<Diagnostic>,
    /// The addresses of providers in environment variables.
    pub env_addresses: Arc<EnvAddresses>,
}

/// The type that a step's output must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// A plain string.
    Text,
    /// Any JSON value.
    Any,
    /// The schema of a file in `schemas/`.
    File(String),
    /// The built-in schema for the results of a kind of step.
    BuiltIn(&'static Value),
}

/// The type of a step's output: its `schema`, else the built-in schema of its kind, else the schema with the output's
/// name. With `for_each`, the type of the output of one item. `None` for a step without an output.
///
/// When orch loads a pipeline, it sets the `schema` of a command whose output has the name of a schema file.
pub fn output_type(step: &Step) -> Option<OutputType> {
    let output = step.output.as_ref()?;
    Some(match (step.schema.as_deref(), step.action()) {
        (Some(name), _) => output_type_from_name(name),
        (None, Some(StepAction::Command(_))) => OutputType::BuiltIn(&COMMAND_RESULT_SCHEMA),
        (None, Some(StepAction::Write(_))) => OutputType::BuiltIn(&WRITE_RESULT_SCHEMA),
        (None, Some(StepAction::Approve(_))) => OutputType::BuiltIn(&APPROVAL_SCHEMA),
        // The schema of the result of an MCP tool is known only to its server, and may change.
        (
            None,
            Some(
                StepAction::Call(_)
                | StepAction::Parallel(_)
                | StepAction::Repeat(_)
                | StepAction::Sequence(_)
                | StepAction::Pipeline(_),
            ),
        ) => OutputType::Any,
        (None, Some(StepAction::Agent { .. }) | None) => OutputType::File(schema_file(output)),
    })
}

/// The output type that a value of `schema:` names.
pub fn output_type_from_name(name: &str) -> OutputType {
    match name {
        "text" => OutputType::Text,
        "any" => OutputType::Any,
        name => OutputType::File(schema_file(name)),
    }
}

/// The file name of a schema: `plan` and `plan.schema.json` name the same file.
pub(super) fn schema_file(name: &str) -> String {
    let has_extension = Path::new(name).extension().is_some_and(|extension| extension == "json");
    if has_extension { name.to_owned() } else { format!("{name}.schema.json") }
}

/// The output type in a file that the user is still writing, derived from the keys that its step has so far.
pub fn draft_output_type(output: &str, schema: Option<&str>, has_key: impl Fn(&str) -> bool) -> Option<OutputType> {
    match schema {
        Some(name) => Some(output_type_from_name(name)),
        // A command uses the schema with the name of its output only if the file exists, which the caller finds out.
        None if KIND_KEYS.iter().any(|key| !matches!(*key, "agent" | "run") && has_key(key)) => None,
        None => Some(OutputType::File(schema_file(output))),
    }
}

/// The schema of the artifact of a command that has no `schema`.
static COMMAND_RESULT_SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object", "additionalProperties": false, "required": ["exit_code", "stdout", "stderr"],
        "properties": {
            "exit_code": { "type": "integer" }, "stdout": { "type": "string" }, "stderr": { "type": "string" },
            "truncated": { "const": true }
        }
    })
});

/// The schema of the artifact of a step that writes files.
static WRITE_RESULT_SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object", "required": ["files"],
        "properties": { "files": { "type": "array", "items": {
            "type": "object", "required": ["path", "change"],
            "properties": { "path": { "type": "string" }, "change": { "enum": ["created", "changed", "deleted", "unchanged"] } }
        } } }
    })
});

/// The schema of the artifact of an approval.
static APPROVAL_SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object", "additionalProperties": false, "required": ["approved", "note", "by"],
        "properties": { "approved": { "type": "boolean" }, "note": { "type": "string" }, "by": { "type": "string" } }
    })
});

impl Project {
    /// The server of a provider; `None` if no provider has this name.
    pub fn api_server(&self, provider: &str) -> Option<ApiServer> {
        self.settings.api_server(provider, &self.env_addresses)
    }

    /// Whether `orch.yaml` has mistakes, so that the settings are the defaults in place of its content.
    pub fn has_unusable_settings(&self) -> bool {
        let path = display_path(&self.root, SETTINGS_FILE);
        let is_in_settings = |diagnostic: &Diagnostic| diagnostic.file.as_ref().is_some_and(|file| file.path == path);
        self.settings_document.is_none()
            && self.diagnostics.iter().any(|diagnostic| diagnostic.is_error() && is_in_settings(diagnostic))
    }

    /// Whether a step calls a pipeline that orch could not load, so that the artifacts of the step are unknown.
    pub fn calls_unusable_pipeline(&self) -> bool {
        self.pipeline.all_steps().into_iter().any(|step| match step.action() {
            Some(StepAction::Pipeline(file)) => !self.called_projects.contains_key(file),
            _ => false,
        })
    }

    /// The name of a step's schema file in `schemas/`; `None` if the output has no schema file.
    pub fn schema_file(step: &Step) -> Option<String> {
        match output_type(step)? {
            OutputType::File(name) => Some(name),
            OutputType::Text | OutputType::Any | OutputType::BuiltIn(_) => None,
        }
    }

    /// The prompts by name for MiniJinja, including the prompts of called pipelines.
    pub fn prompt_sources(&self) -> BTreeMap<&str, &str> {
        let mut sources: BTreeMap<&str, &str> =
            self.called_projects.values().flat_map(|project| project.prompt_sources()).collect();
        sources.extend(self.prompts.iter().map(|(name, file)| (name.as_str(), file.text.as_str())));
        sources
    }

    /// The artifacts of earlier iterations that the texts of a step read through `loop.previous`.
    pub fn previous_reads(&self, step: &Step) -> BTreeSet<PreviousRead> {
        template::previous_reads(&step.texts(), &|name| self.prompts.get(name).map(|file| file.text.as_str()))
    }

    /// The files from which orch loaded the project, including called pipelines. Also contains missing files that the
    /// next load would read if they existed: an `orch.yaml` in any folder from the pipeline up to the root, included
    /// prompts, and schemas with the names of the outputs of commands.
    pub fn source_paths(&self) -> BTreeSet<PathBuf> {
        let project_files = |project: &Project| {
            let path_in = |folder: &str, name: &str| project.root.join(folder).join(name);
            let steps = project.pipeline.all_steps();
            let inline_templates = steps.iter().flat_map(|step| step.message.iter().chain(&step.approve));
            let arguments = steps.iter().flat_map(|step| step.argument_texts());
            let inline_templates = inline_templates.map(String::as_str).chain(arguments);
            let sources = project.prompts.values().map(|file| file.text.as_str()).chain(inline_templates);
            let included: Vec<String> = sources.flat_map(template::includes).collect();
            let prompts = project.prompts.keys().chain(&included).map(|name| path_in("prompts", name));
            let command_schemas: Vec<String> = steps.iter().filter_map(|step| command_schema_file(step)).collect();
            let schemas = project.schema_documents.keys().chain(&command_schemas);
            let schemas = schemas.map(|name| path_in("schemas", name));
            let file = PathBuf::from(&project.document.file.path);
            let (absolute_file, root) = (absolute(&file), absolute(&project.root));
            let folders =
                absolute_file.ancestors().skip(1).take_while(|folder| *folder != root).chain([root.as_path()]);
            let settings: Vec<PathBuf> = folders.map(|folder| folder.join(SETTINGS_FILE)).collect();
            settings.into_iter().chain(prompts).chain(schemas).chain([file]).collect::<Vec<_>>()
        };
        self.with_called_projects().into_iter().flat_map(project_files).collect()
    }

    /// This project and the projects of all pipelines that it calls, directly or indirectly, without duplicates.
    pub fn with_called_projects(&self) -> Vec<&Project> {
        let mut projects: Vec<&Project> = vec![self];
        let mut next = 0;
        while let Some(project) = projects.get(next).copied() {
            for called in project.called_projects.values() {
                if !projects.iter().any(|project| project.document.file.path == called.document.file.path) {
                    projects.push(called);
                }
            }
            next += 1;
        }
        projects
    }

    /// The projects of the pipelines that a step of this pipeline calls: that of a `pipeline` step, or those that the
    /// model of its agent may call.
    pub fn projects_called_by(&self, step: &Step) -> Vec<&Project> {
        let agent = step.agent.as_ref().and_then(|name| self.pipeline.agents.get(name));
        let files = agent.into_iter().flat_map(|agent| &agent.pipelines).chain(&step.pipeline);
        files.filter_map(|file| self.called_projects.get(file)).map(|project| &**project).collect()
    }

    /// Whether a step of this pipeline asks the user: it is an approval, or the user approves calls of its agent's tools.
    pub fn asks_for_approval(&self, step: &Step) -> bool {
        let agent = step.agent.as_ref().and_then(|name| self.pipeline.agents.get(name));
        matches!(step.action(), Some(StepAction::Approve(_)))
            || agent.is_some_and(|agent| !agent.approve_tools.is_empty())
    }

    /// The access to the workspace that a run of the pipeline needs: the highest of its steps and of the pipelines that
    /// it calls.
    pub fn workspace_access(&self) -> Access {
        let projects = self.with_called_projects();
        let accesses = projects.iter().flat_map(|project| {
            let agents = &project.pipeline.agents;
            project.pipeline.all_steps().into_iter().map(move |step| step.effective_access(agents))
        });
        accesses.max().unwrap_or(Access::None)
    }
}

/// The step at a pointer or around it, and the steps around that one, outermost first, each with its pointer. Takes time
/// linear in the depth of the step, unlike a search in [`steps_with_pointers`].
pub fn step_and_ancestors<'p>(pipeline: &'p Pipeline, pointer: &str) -> Vec<(String, &'p Step)> {
    let mut found = Vec::new();
    let roots = [("/steps", &pipeline.steps), ("/finally", &pipeline.finally)];
    for (base, steps) in roots {
        let (mut base, mut steps) = (base.to_owned(), steps.as_slice());
        while let Some(index) = pointer.strip_prefix(&base).and_then(first_index)
            && let Some(step) = steps.get(index)
        {
            let step_pointer = format!("{base}/{index}");
            let (key, children) = step.children();
            base = format!("{step_pointer}/{key}");
            steps = children;
            found.push((step_pointer, step));
        }
    }
    found
}

/// The index with which the rest of a pointer begins, as in `/3/run`.
fn first_index(rest: &str) -> Option<usize> {
    rest.strip_prefix('/')?.split('/').next()?.parse().ok()
}

/// Every step of a pipeline from top to bottom, each with its pointer in the file, such as `/steps/0/parallel/1`.
pub fn steps_with_pointers(pipeline: &Pipeline) -> Vec<(String, &Step)> {
    fn collect_steps<'a>(base: &str, steps: &'a [Step], collected: &mut Vec<(String, &'a Step)>) {
        for (index, step) in steps.iter().enumerate() {
            let pointer = format!("{base}/{index}");
            collected.push((pointer.clone(), step));
            let (key, children) = step.children();
            collect_steps(&format!("{pointer}/{key}"), children, collected);
        }
    }
    let mut collected = Vec::new();
    collect_steps("/steps", &pipeline.steps, &mut collected);
    collect_steps("/finally", &pipeline.finally, &mut collected);
    collected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ancestors_of_a_step_come_with_the_step() {
        let inner = json!({ "id": "c", "run": "ls" });
        let group = json!({ "id": "b", "parallel": [{ "id": "a", "run": "ls" }, inner] });
        let text = json!({ "name": "x", "steps": [group], "finally": [{ "id": "d", "run": "ls" }] });
        let pipeline: Pipeline = serde_json::from_value(text).unwrap();
        for (pointer, step) in steps_with_pointers(&pipeline) {
            let steps = step_and_ancestors(&pipeline, &crate::config::child_pointer(&pointer, "run"));
            let ids: Vec<&str> = steps.iter().map(|(_, step)| step.id.as_str()).collect();
            let outer = if pointer.starts_with("/steps/0/") { vec!["b"] } else { Vec::new() };
            assert_eq!(ids, [outer, vec![step.id.as_str()]].concat(), "{pointer}");
            assert_eq!(steps.last().map(|(pointer, _)| pointer.as_str()), Some(pointer.as_str()));
        }
        assert!(step_and_ancestors(&pipeline, "/outputs/steps/0").is_empty());
        assert!(
            step_and_ancestors(&pipeline, "/steps").is_empty() && step_and_ancestors(&pipeline, "/steps/7").is_empty()
        );
    }
}
