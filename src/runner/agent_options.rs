//! Compares the options of agents with the models of a run. The files of a project do not always determine these
//! models: `auto`, `--model` and `--agent` choose models too.

use serde_json::Value;

use crate::agent::ModelRegistry;
use crate::check::resolve_reference;
use crate::config::{Project, child_pointer};
use crate::model::options::receives_provider_options;
use crate::model::{Agent, ModelRef, PricedModel, Usage};

use super::Runner;
use super::error::RunnerError;
use super::models::ResolvedModels;

/// An agent with one of the models that its steps call.
struct AgentModel<'a> {
    name: &'a str,
    agent: &'a Agent,
    model: &'a ModelRef,
    /// Whether the files determine this model. If so, the check has already reported the options that the model
    /// refuses.
    is_in_files: bool,
    /// Whether the files determine the agent's own model.
    is_own_in_files: bool,
    /// Whether the model belongs to another provider than the agent's own model. orch then does not send it the agent's
    /// `provider_options`.
    is_other_provider: bool,
}

/// The agents of one pipeline with the models of their steps: first each agent with its own model, and then the agents
/// with the fallbacks of their steps.
fn agent_models<'a>(project: &'a Project, names: &'a ResolvedModels) -> Vec<AgentModel<'a>> {
    let agents = project.pipeline.agents.iter().filter(|(_, agent)| agent.cli_kind().is_none());
    // An agent that no step uses has no model.
    let own = agents.filter_map(|(name, agent)| {
        let (model, is_in_files) = (names.get(&agent.model)?, is_own_in_files(project, name, agent));
        Some(AgentModel { name, agent, model, is_in_files, is_own_in_files: is_in_files, is_other_provider: false })
    });
    let fallbacks = project.pipeline.all_steps().into_iter().flat_map(|step| {
        let agent = step.agent.as_ref().and_then(|name| project.pipeline.agents.get_key_value(name));
        let agent = agent.filter(|(_, agent)| agent.cli_kind().is_none());
        step.fallback.iter().filter_map(move |fallback| {
            let ((name, agent), model) = (agent?, names.get(fallback)?);
            let own_model = names.get(&agent.model);
            Some(AgentModel {
                name,
                agent,
                model,
                is_in_files: resolve_reference(project, fallback).is_some(),
                is_own_in_files: is_own_in_files(project, name, agent),
                is_other_provider: own_model.is_some_and(|own| !receives_provider_options(own, model)),
            })
        })
    });
    own.chain(fallbacks).collect()
}

/// Whether the files determine an agent's own model.
fn is_own_in_files(project: &Project, name: &str, agent: &Agent) -> bool {
    let pointer = child_pointer(&child_pointer("/agents", name), "model");
    let written_model = project.document.value.pointer(&pointer).and_then(Value::as_str);
    written_model.unwrap_or("auto") == agent.model && resolve_reference(project, &agent.model).is_some()
}

/// Checks that each model of a project can receive the requests of its agents.
///
/// # Errors
/// orch could not build a request, for example because `provider_options` contain what orch sets in the model's dialect.
pub(crate) fn check(project: &Project, models: &ModelRegistry, names: &ResolvedModels) -> Result<(), RunnerError> {
    for project in project.with_called_projects() {
        for AgentModel { name, agent, model, is_other_provider, .. } in agent_models(project, names) {
            let mut agent = agent.clone();
            if is_other_provider {
                agent.provider_options.clear();
            }
            if let Some(failure) = models.request_failure(model, &agent, project.settings.reply_limit(&agent)) {
                let error = RunnerError::usage(format!("agent `{name}` can't use {model}: {}", failure.message));
                return Err(failure.hint.into_iter().fold(error, RunnerError::with_hint));
            }
        }
    }
    Ok(())
}

/// Prints notes about options that make the cost unknown, and about options that orch does not send to a model. The
/// check has already reported the latter for models that the files name, so these notes are only about the models of
/// `auto`, `--model` and `--agent`.
pub(crate) fn note_unsent_options(project: &Project, models: &ModelRegistry, names: &ResolvedModels, runner: &Runner) {
    let mut notes: Vec<String> = Vec::new();
    let sample_usage = Usage { input: 1, output: 1, ..Usage::default() };
    for project in project.with_called_projects() {
        for used in agent_models(project, names) {
            let AgentModel { name, agent, model, .. } = used;
            let priced_model = PricedModel::of_request(model, &agent.options());
            let loses_price =
                models.cost(model, &sample_usage).is_some() && models.cost_of(&priced_model, &sample_usage).is_none();
            if let Some(option) = priced_model.changed_by.filter(|_| loses_price && !used.is_other_provider) {
                notes.push(format!(
                    "the cost of agent `{name}` is unknown: `{option}` in `provider_options` changes the price of {model}"
                ));
            }
            let is_checked = used.is_in_files && used.is_own_in_files;
            if used.is_other_provider && !agent.provider_options.is_empty() && !is_checked {
                notes.push(format!(
                    "orch does not send `provider_options` of agent `{name}` to the fallback {model}, another provider"
                ));
            }
            if used.is_in_files {
                continue;
            }
            for (key, clause) in models.unsent_options(model, agent, project.settings.reply_limit(agent)) {
                notes.push(format!("orch does not send `{key}` of agent `{name}` to {model}, {clause}"));
            }
        }
    }
    for (index, note) in notes.iter().enumerate() {
        // Called pipelines may have agents with the same names and options.
        if !notes[..index].contains(note) {
            runner.reporter.note(note);
        }
    }
}
