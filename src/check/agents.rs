//! Checks agents and models: each model reference must resolve, and at least one step must use each agent.

use std::collections::HashSet;
use std::ops::Range;

use crate::config::{Document, Project, child_pointer, item_pointer, model_file_problem, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::name::LOCAL_PROVIDER;
use crate::model::{BuiltinProvider, ModelRef};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let agents = &project.pipeline.agents;
    let steps = steps_with_pointers(&project.pipeline);
    // A step with an unknown agent probably misspells the name of a declared agent, which then only seems unused.
    let used_agents: HashSet<&String> = steps.iter().filter_map(|(_, step)| step.agent.as_ref()).collect();
    let all_agents_known = used_agents.iter().all(|name| agents.contains_key(*name));
    for (name, agent) in agents {
        let pointer = child_pointer(&child_pointer("/agents", name), "model");
        // CLI agents use model names of their own, which orch does not check.
        if agent.cli_kind().is_none() {
            diagnostics.extend(check_model(project, &agent.model, &pointer));
        }
        if all_agents_known && !used_agents.contains(name) {
            let span = project.document.spans.key(&child_pointer("/agents", name));
            let message = format!("no step uses the agent `{name}`");
            diagnostics.push(Diagnostic::warning(Code::UnusedAgent, message).with_span(&project.document.file, span));
        }
    }
    for (pointer, step) in &steps {
        if let Some(name) = step.agent.as_ref().filter(|name| !agents.contains_key(*name)) {
            diagnostics.push(unknown_agent(project, name, &child_pointer(pointer, "agent")));
        }
        for (index, reference) in step.fallback.iter().enumerate() {
            let pointer = item_pointer(&child_pointer(pointer, "fallback"), index);
            diagnostics.extend(check_model(project, reference, &pointer));
        }
    }
    diagnostics.extend(check_settings(project));
    diagnostics
}

fn unknown_agent(project: &Project, name: &str, pointer: &str) -> Diagnostic {
    let span = project.document.spans.value(pointer);
    let diagnostic = Diagnostic::error(Code::UnknownAgent, format!("unknown agent `{name}`"));
    let agent_names = project.pipeline.agents.keys().map(String::as_str);
    let diagnostic = diagnostic.with_span(&project.document.file, span).with_suggestion(name, agent_names);
    if diagnostic.help.is_empty() { diagnostic.with_help("agents are declared under `agents:`") } else { diagnostic }
}

/// Checks a model reference in the pipeline file.
fn check_model(project: &Project, reference: &str, pointer: &str) -> Option<Diagnostic> {
    let Some(error) = check_reference(project, reference, ReferenceSite::Use) else {
        return check_model_file(project, reference, &project.document, pointer);
    };
    // Without a model in the file, the reference is the default, `auto`.
    let span = project.document.spans.contains(pointer).then(|| project.document.spans.value(pointer))?;
    Some(error.into_diagnostic(&project.document, span))
}

/// Checks that a model file exists and that orch can run it. `None` for a model that is not a file.
fn check_model_file(project: &Project, reference: &str, document: &Document, pointer: &str) -> Option<Diagnostic> {
    let model = ModelRef::parse(reference)?;
    let problem = model_file_problem(&project.root, model.file_path()?)?;
    let new_diagnostic = if problem.is_missing { Diagnostic::warning } else { Diagnostic::error };
    Some(
        new_diagnostic(Code::UnusableModelFile, problem.message)
            .with_span(&document.file, document.spans.value(pointer))
            .with_help(problem.help),
    )
}

/// Checks the models that `orch.yaml` names: the entries of `models` and the default model.
fn check_settings(project: &Project) -> Vec<Diagnostic> {
    let Some(document) = &project.settings_document else { return Vec::new() };
    let mut diagnostics = Vec::new();
    for (alias, entry) in &project.settings.models {
        let pointer = child_pointer("/models", alias);
        let key_pointer =
            |key: &str| Some(child_pointer(&pointer, key)).filter(|pointer| document.spans.contains(pointer));
        let (model_pointer, gguf_pointer) = (key_pointer("model"), key_pointer("gguf"));
        let has_both = model_pointer.is_some() && gguf_pointer.is_some();
        let has_neither = model_pointer.is_none() && gguf_pointer.is_none() && entry.model.is_empty();
        if has_both || has_neither {
            diagnostics.push(invalid_model_entry(document, &pointer, alias, has_both));
            continue;
        }
        let pointer = model_pointer.or(gguf_pointer).unwrap_or(pointer);
        diagnostics.extend(match check_reference(project, &entry.model, ReferenceSite::Alias) {
            Some(error) => Some(error.into_diagnostic(document, document.spans.value(&pointer))),
            None => check_model_file(project, &entry.model, document, &pointer),
        });
    }
    if let Some(reference) = &project.settings.defaults.model
        && reference != "auto"
    {
        let error = check_reference(project, reference, ReferenceSite::Use);
        let span = document.spans.value("/defaults/model");
        diagnostics.extend(error.map(|error| error.into_diagnostic(document, span)));
    }
    diagnostics
}

/// The diagnostic for an entry of `models` that has both `model` and `gguf`, or neither.
fn invalid_model_entry(document: &Document, pointer: &str, alias: &str, has_both: bool) -> Diagnostic {
    let (message, help) = if has_both {
        (format!("`{alias}` has both `model` and `gguf`"), "leave one of them out")
    } else {
        (format!("`{alias}` names no model"), "add `model: provider/model`, or `gguf: PATH` for a file")
    };
    Diagnostic::error(Code::InvalidModel, message)
        .with_span(&document.file, document.spans.value(pointer))
        .with_help(help)
}

/// The place of a model reference. It decides which names the reference may use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReferenceSite {
    /// An agent, a fallback or the default model. The reference may be `auto`, `local` or an alias.
    Use,
    /// The definition of an alias. The reference may be `local` or another alias, unless the aliases form a cycle.
    Alias,
}

/// The error for a model reference that does not resolve, without its position in a file.
struct ReferenceError {
    code: Code,
    message: String,
    /// The unknown name, for a suggestion of a similar one.
    name: String,
    known_names: Vec<String>,
    help: String,
}

impl ReferenceError {
    fn into_diagnostic(self, document: &Document, span: Range<usize>) -> Diagnostic {
        let known_names = self.known_names.iter().map(String::as_str);
        let diagnostic = Diagnostic::error(self.code, self.message)
            .with_span(&document.file, span)
            .with_suggestion(&self.name, known_names);
        if diagnostic.help.is_empty() { diagnostic.with_help(self.help) } else { diagnostic }
    }
}

/// Checks that a model reference resolves; returns the error if it does not.
fn check_reference(project: &Project, reference: &str, site: ReferenceSite) -> Option<ReferenceError> {
    let aliases = &project.settings.models;
    let known_aliases = || aliases.keys().cloned();
    let is_name = reference == "local" || aliases.contains_key(reference);
    if site == ReferenceSite::Use && (is_name || reference == "auto") {
        return None;
    }
    if site == ReferenceSite::Alias && is_name {
        let mut target = reference;
        // A chain of aliases that is longer than their number never ends.
        for _ in 0..=aliases.len() {
            match aliases.get(target) {
                Some(entry) => target = &entry.model,
                None => return None,
            }
        }
        let message = format!("the alias `{reference}` leads back to itself");
        let help = "define one of the aliases as `provider/model`".to_owned();
        let name = reference.to_owned();
        return Some(ReferenceError { code: Code::InvalidModel, message, name, known_names: Vec::new(), help });
    }
    let Some(model) = ModelRef::parse(reference) else {
        let (message, known_names) = match site {
            _ if reference.contains('/') => (format!("`{reference}` is not `provider/model`"), Vec::new()),
            ReferenceSite::Use => {
                let special_names = ["auto", "local"].map(str::to_owned);
                (format!("unknown model `{reference}`"), known_aliases().chain(special_names).collect())
            }
            ReferenceSite::Alias => (
                format!("an alias must be defined as `provider/model` or another alias, not `{reference}`"),
                known_aliases().collect(),
            ),
        };
        let help = "write `provider/model`, `local:PATH`, an alias from `orch.yaml`, `local` or `auto`".to_owned();
        let name = reference.to_owned();
        return Some(ReferenceError { code: Code::InvalidModel, message, name, known_names, help });
    };
    if model.provider == LOCAL_PROVIDER
        || BuiltinProvider::find(&model.provider).is_some()
        || project.settings.providers.contains_key(&model.provider)
    {
        return None;
    }
    let message = format!("unknown provider `{}`", model.provider);
    let known_names = BuiltinProvider::names()
        .chain([LOCAL_PROVIDER])
        .map(ToOwned::to_owned)
        .chain(project.settings.providers.keys().cloned());
    let help = "declare it under `providers:` in `orch.yaml`".to_owned();
    let (name, known_names) = (model.provider, known_names.collect());
    Some(ReferenceError { code: Code::UnknownProvider, message, name, known_names, help })
}
