//! Checks agents and models: every model reference must resolve, and some step must use every agent.

use crate::config::{Document, Project, child_pointer, item_pointer, model_file_problem, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::ModelRef;
use crate::model::name::{BUILT_IN_PROVIDERS, LOCAL_PROVIDER};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let agents = &project.pipeline.agents;
    // If a step names an unknown agent, the user probably misspelt the name of an agent that then seems unused.
    let steps = steps_with_pointers(&project.pipeline);
    let all_known = steps.iter().filter_map(|(_, step)| step.agent.as_ref()).all(|agent| agents.contains_key(agent));
    for (name, agent) in agents {
        let pointer = child_pointer(&child_pointer("/agents", name), "model");
        // CLI agents use model names of their own, which orch does not check.
        if agent.cli_kind().is_none() {
            problems.extend(check_model(project, &agent.model, &pointer));
        }
        if all_known && !steps.iter().any(|(_, step)| step.agent.as_ref() == Some(name)) {
            let span = project.document.spans.key(&child_pointer("/agents", name));
            let message = format!("no step uses the agent `{name}`");
            problems.push(Diagnostic::warning(Code::UnusedAgent, message).with_span(&project.document.file, span));
        }
    }
    for (pointer, step) in &steps {
        if let Some(agent) = step.agent.as_ref().filter(|agent| !agents.contains_key(*agent)) {
            problems.push(unknown_agent(project, agent, &child_pointer(pointer, "agent")));
        }
        for (index, name) in step.fallback.iter().enumerate() {
            problems.extend(check_model(project, name, &item_pointer(&child_pointer(pointer, "fallback"), index)));
        }
    }
    problems.extend(check_settings(project));
    problems
}

fn unknown_agent(project: &Project, name: &str, pointer: &str) -> Diagnostic {
    let span = project.document.spans.value(pointer);
    let problem = Diagnostic::error(Code::UnknownAgent, format!("unknown agent `{name}`"));
    let agent_names = project.pipeline.agents.keys().map(String::as_str);
    let problem = problem.with_span(&project.document.file, span).with_suggestion(name, agent_names);
    if problem.help.is_empty() { problem.with_help("agents are declared under `agents:`") } else { problem }
}

/// Checks a model reference in the pipeline file.
fn check_model(project: &Project, name: &str, pointer: &str) -> Option<Diagnostic> {
    let Some(problem) = check_reference(project, name, true) else {
        return check_model_file(project, name, &project.document, pointer);
    };
    let span = if project.document.spans.contains(pointer) {
        project.document.spans.value(pointer)
    } else {
        return None; // the file names no model, so `name` is the default, `auto`
    };
    Some(problem.into_diagnostic(&project.document, span))
}

/// Checks that a model file exists and that orch can run it. `None` for a model that is not a file.
fn check_model_file(project: &Project, name: &str, document: &Document, pointer: &str) -> Option<Diagnostic> {
    let model = ModelRef::parse(name)?;
    let problem = model_file_problem(&project.root, model.file_path()?)?;
    let new_diagnostic = if problem.is_missing { Diagnostic::warning } else { Diagnostic::error };
    Some(
        new_diagnostic(Code::UnusableModelFile, problem.message)
            .with_span(&document.file, document.spans.value(pointer))
            .with_help(problem.help),
    )
}

/// Checks the models that `orch.yaml` names: the entries of `models` and the default model. An alias may refer to
/// another alias, but no chain of aliases may lead back to itself.
fn check_settings(project: &Project) -> Vec<Diagnostic> {
    let Some(document) = &project.settings_document else { return Vec::new() };
    let mut problems = Vec::new();
    for (alias, settings) in &project.settings.models {
        let pointer = child_pointer("/models", alias);
        let key_pointer =
            |key: &str| Some(child_pointer(&pointer, key)).filter(|pointer| document.spans.contains(pointer));
        let (model_pointer, gguf_pointer) = (key_pointer("model"), key_pointer("gguf"));
        let is_mapping = model_pointer.is_some() || gguf_pointer.is_some();
        if (model_pointer.is_some() && gguf_pointer.is_some()) || (!is_mapping && settings.model.is_empty()) {
            problems.push(model_entry_problem(document, &pointer, alias, is_mapping));
            continue;
        }
        let pointer = model_pointer.or(gguf_pointer).unwrap_or(pointer);
        problems.extend(match check_reference(project, &settings.model, false) {
            Some(problem) => Some(problem.into_diagnostic(document, document.spans.value(&pointer))),
            None => check_model_file(project, &settings.model, document, &pointer),
        });
    }
    if let Some(name) = &project.settings.defaults.model
        && name != "auto"
    {
        let problem = check_reference(project, name, true);
        let span = document.spans.value("/defaults/model");
        problems.extend(problem.map(|problem| problem.into_diagnostic(document, span)));
    }
    problems
}

/// The diagnostic for an entry of `models` that has neither `model` nor `gguf`, or both.
fn model_entry_problem(document: &Document, pointer: &str, alias: &str, has_both: bool) -> Diagnostic {
    let (message, help) = if has_both {
        (format!("`{alias}` has both `model` and `gguf`"), "leave one of them out")
    } else {
        (format!("`{alias}` names no model"), "add `model: provider/model`, or `gguf: PATH` for a file")
    };
    Diagnostic::error(Code::InvalidModel, message)
        .with_span(&document.file, document.spans.value(pointer))
        .with_help(help)
}

/// A mistake in a model reference, without its position in a file.
struct ReferenceProblem {
    code: Code,
    message: String,
    name: String,
    known_names: Vec<String>,
    help: String,
}

impl ReferenceProblem {
    fn into_diagnostic(self, document: &crate::config::Document, span: std::ops::Range<usize>) -> Diagnostic {
        let known_names = self.known_names.iter().map(String::as_str);
        let problem = Diagnostic::error(self.code, self.message)
            .with_span(&document.file, span)
            .with_suggestion(&self.name, known_names);
        if problem.help.is_empty() { problem.with_help(self.help) } else { problem }
    }
}

/// Checks that a model reference resolves. With `allows_names`, it may be `auto`, `local` or an alias. Without, it is
/// the model of an alias, which may be `local` or another alias, if the chain of aliases ends.
fn check_reference(project: &Project, name: &str, allows_names: bool) -> Option<ReferenceProblem> {
    let known_aliases = || project.settings.models.keys().cloned();
    let models = &project.settings.models;
    if allows_names && (name == "auto" || name == "local" || models.contains_key(name)) {
        return None;
    }
    // An alias may refer to another alias or to `local`, unless the chain of aliases never ends.
    if !allows_names && (name == "local" || models.contains_key(name)) {
        let mut end = name;
        for _ in 0..=models.len() {
            match models.get(end) {
                Some(entry) => end = &entry.model,
                None => return None,
            }
        }
        let message = format!("the alias `{name}` leads back to itself");
        let help = "define one of the aliases as `provider/model`".to_owned();
        let name = name.to_owned();
        return Some(ReferenceProblem { code: Code::InvalidModel, message, name, known_names: Vec::new(), help });
    }
    let Some(model) = ModelRef::parse(name) else {
        let (message, known_names) = if name.contains('/') {
            (format!("`{name}` is not `provider/model`"), Vec::new())
        } else if allows_names {
            let special_names = ["auto", "local"].map(str::to_owned);
            (format!("unknown model `{name}`"), known_aliases().chain(special_names).collect())
        } else {
            (
                format!("an alias must be defined as `provider/model` or another alias, not `{name}`"),
                known_aliases().collect(),
            )
        };
        let help = "write `provider/model`, `local:PATH`, an alias from `orch.yaml`, `local` or `auto`".to_owned();
        return Some(ReferenceProblem { code: Code::InvalidModel, message, name: name.to_owned(), known_names, help });
    };
    if model.provider == LOCAL_PROVIDER
        || BUILT_IN_PROVIDERS.contains(&model.provider.as_str())
        || project.settings.providers.contains_key(&model.provider)
    {
        return None;
    }
    let message = format!("unknown provider `{}`", model.provider);
    let known_names = BUILT_IN_PROVIDERS
        .iter()
        .chain([&LOCAL_PROVIDER])
        .map(|name| (*name).to_owned())
        .chain(project.settings.providers.keys().cloned());
    let help = "declare it under `providers:` in `orch.yaml`".to_owned();
    let (name, known_names) = (model.provider, known_names.collect());
    Some(ReferenceProblem { code: Code::UnknownProvider, message, name, known_names, help })
}
