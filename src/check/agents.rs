//! Checks agents and models: every model reference must resolve, and every agent must be used by a step.

use crate::config::{Document, Project, child, item, model_file, places};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::name::{BUILT_IN, LOCAL};
use crate::model::{ModelRef, Step};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let agents = &project.pipeline.agents;
    // If a step names an unknown agent, the user probably misspelt one that then only seems unused.
    let steps = places(&project.pipeline);
    let named = |step: &Step| step.agent.clone();
    let all_known = steps.iter().filter_map(|(_, step)| named(step)).all(|agent| agents.contains_key(&agent));
    for (name, agent) in agents {
        let pointer = child(&child("/agents", name), "model");
        // CLI agents use model names of their own, which orch does not check.
        if agent.kind().is_none() {
            found.extend(model(project, &agent.model, &pointer));
        }
        if all_known && !steps.iter().any(|(_, step)| step.agent.as_ref() == Some(name)) {
            let span = project.document.spans.key(&child("/agents", name));
            let message = format!("the agent `{name}` has no step");
            found.push(Diagnostic::warning(Code::UnusedAgent, message).at(&project.document.file, span));
        }
    }
    for (at, step) in &steps {
        if let Some(agent) = step.agent.as_ref().filter(|agent| !agents.contains_key(*agent)) {
            found.push(unknown_agent(project, agent, &child(at, "agent")));
        }
        for (number, name) in step.fallback.iter().enumerate() {
            found.extend(model(project, name, &item(&child(at, "fallback"), number)));
        }
    }
    found.extend(settings(project));
    found
}

fn unknown_agent(project: &Project, name: &str, pointer: &str) -> Diagnostic {
    let span = project.document.spans.value(pointer);
    let problem = Diagnostic::error(Code::UnknownAgent, format!("unknown agent `{name}`"));
    let known = project.pipeline.agents.keys().map(String::as_str);
    let problem = problem.at(&project.document.file, span).suggest(name, known);
    if problem.help.is_empty() { problem.help("agents are declared under `agents:`") } else { problem }
}

/// Checks a model reference in the pipeline file.
fn model(project: &Project, name: &str, pointer: &str) -> Option<Diagnostic> {
    let Some(problem) = reference(project, name, true) else {
        return file(project, name, &project.document, pointer);
    };
    let place = if project.document.spans.has(pointer) {
        project.document.spans.value(pointer)
    } else {
        return None; // the default, `auto`
    };
    Some(problem.into_diagnostic(&project.document, place))
}

/// Checks a model that is a file: it must exist and be a model that orch can run. `None` for any other model.
fn file(project: &Project, name: &str, document: &Document, pointer: &str) -> Option<Diagnostic> {
    let model = ModelRef::parse(name)?;
    let problem = model_file(&project.root, model.path()?)?;
    let new = if problem.absent { Diagnostic::warning } else { Diagnostic::error };
    Some(new(Code::ModelFile, problem.message).at(&document.file, document.spans.value(pointer)).help(problem.help))
}

/// Checks the models that `orch.yaml` names: the entries of `models` and the default model. An alias may stand for
/// another alias, but no chain of aliases may lead back to itself.
fn settings(project: &Project) -> Vec<Diagnostic> {
    let Some(document) = &project.settings_document else { return Vec::new() };
    let mut found = Vec::new();
    for (alias, settings) in &project.settings.models {
        let pointer = child("/models", alias);
        let inside = |key: &str| Some(child(&pointer, key)).filter(|inner| document.spans.has(inner));
        let (named, gguf) = (inside("model"), inside("gguf"));
        let is_mapping = named.is_some() || gguf.is_some();
        if (named.is_some() && gguf.is_some()) || (!is_mapping && settings.model.is_empty()) {
            found.push(neither_or_both(document, &pointer, alias, is_mapping));
            continue;
        }
        let pointer = named.or(gguf).unwrap_or(pointer);
        found.extend(match reference(project, &settings.model, false) {
            Some(problem) => Some(problem.into_diagnostic(document, document.spans.value(&pointer))),
            None => file(project, &settings.model, document, &pointer),
        });
    }
    if let Some(name) = &project.settings.defaults.model
        && name != "auto"
    {
        let problem = reference(project, name, true);
        let span = document.spans.value("/defaults/model");
        found.extend(problem.map(|problem| problem.into_diagnostic(document, span)));
    }
    found
}

/// The diagnostic for an entry of `models` that has neither `model` nor `gguf`, or both.
fn neither_or_both(document: &Document, pointer: &str, alias: &str, both: bool) -> Diagnostic {
    let (message, help) = if both {
        (format!("`{alias}` has both `model` and `gguf`"), "leave one of them out")
    } else {
        (format!("`{alias}` names no model"), "add `model: provider/model`, or `gguf: PATH` for a file")
    };
    Diagnostic::error(Code::BadModel, message).at(&document.file, document.spans.value(pointer)).help(help)
}

/// What is wrong with a model reference, before its position in a file is known.
struct Problem {
    code: Code,
    message: String,
    got: String,
    known: Vec<String>,
    help: String,
}

impl Problem {
    fn into_diagnostic(self, document: &crate::config::Document, span: std::ops::Range<usize>) -> Diagnostic {
        let known = self.known.iter().map(String::as_str);
        let problem = Diagnostic::error(self.code, self.message).at(&document.file, span).suggest(&self.got, known);
        if problem.help.is_empty() { problem.help(self.help) } else { problem }
    }
}

fn reference(project: &Project, name: &str, aliases: bool) -> Option<Problem> {
    let known_aliases = || project.settings.models.keys().cloned();
    let models = &project.settings.models;
    if aliases && (name == "auto" || name == "local" || models.contains_key(name)) {
        return None;
    }
    // An alias may stand for another alias or for `local`, unless the chain of aliases never ends.
    if !aliases && (name == "local" || models.contains_key(name)) {
        let mut end = name;
        for _ in 0..=models.len() {
            match models.get(end) {
                Some(next) => end = &next.model,
                None => return None,
            }
        }
        let message = format!("the alias `{name}` leads back to itself");
        let help = "let one of the aliases stand for `provider/model`".to_owned();
        return Some(Problem { code: Code::BadModel, message, got: name.to_owned(), known: Vec::new(), help });
    }
    let Some(model) = ModelRef::parse(name) else {
        let (message, known) = if name.contains('/') {
            (format!("`{name}` is not `provider/model`"), Vec::new())
        } else if aliases {
            let words = ["auto", "local"].map(str::to_owned);
            (format!("unknown model `{name}`"), known_aliases().chain(words).collect())
        } else {
            (format!("an alias stands for `provider/model` or another alias, not `{name}`"), known_aliases().collect())
        };
        let help = "write `provider/model`, `local:PATH`, an alias from `orch.yaml`, `local` or `auto`".to_owned();
        return Some(Problem { code: Code::BadModel, message, got: name.to_owned(), known, help });
    };
    if model.provider == LOCAL
        || BUILT_IN.contains(&model.provider.as_str())
        || project.settings.providers.contains_key(&model.provider)
    {
        return None;
    }
    let message = format!("unknown provider `{}`", model.provider);
    let known = BUILT_IN
        .iter()
        .chain([&LOCAL])
        .map(|name| (*name).to_owned())
        .chain(project.settings.providers.keys().cloned());
    let help = "declare it under `providers:` in `orch.yaml`".to_owned();
    Some(Problem { code: Code::UnknownProvider, message, got: model.provider, known: known.collect(), help })
}
