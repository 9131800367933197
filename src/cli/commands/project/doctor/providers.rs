//! Reports which model APIs are usable, and which model `model: auto` selects.

use std::time::Duration;

use anyhow::Result;

use crate::agent::{AUTO_CANDIDATES, ModelRegistry, choose_model};
use crate::cli::startup::runtime;
use crate::config::Settings;
use crate::model::ModelRef;
use crate::model::name::LOCAL_PROVIDER;
use crate::provider::{Dialect, Endpoint, is_loopback_address, served_models};
use crate::session::Runner;

use super::DoctorReport;

/// The time limit for a server on this machine to list its models.
const SERVER_TIMEOUT: Duration = Duration::from_millis(500);

/// The results of checking a provider.
pub(super) struct ProviderCheck {
    name: String,
    /// The models that the server listed, if orch asked it.
    served_models: Vec<String>,
    is_usable: bool,
}

/// Reports every provider. The result is for [`default_model`] and [`models_to_probe`].
pub(super) fn report_providers(
    models: &ModelRegistry,
    settings: &Settings,
    report: &mut DoctorReport<'_>,
) -> Result<Vec<ProviderCheck>> {
    let mut providers = Vec::new();
    for name in models.providers() {
        let Some(endpoint) = models.endpoint(name) else { continue };
        let is_usable = !endpoint.auth.secrets().is_empty() && endpoint.auth.missing_variable().is_none();
        let mut facts = ProviderCheck { name: name.to_owned(), served_models: Vec::new(), is_usable };
        if let Some(failure) = models.invalid_address(name) {
            facts.is_usable = false;
            report.print_check(Some(false), name, failure.message)?;
        } else if let Some(variable) = endpoint.auth.missing_variable() {
            report.print_check(None, name, format!("{variable} is not set"))?;
        } else if let [first, others @ ..] = endpoint.auth.variables().as_slice() {
            let verb = if others.is_empty() { "is" } else { "are" };
            let names: Vec<&str> = [first].into_iter().chain(others).copied().collect();
            report.print_check(Some(true), name, format!("{} {verb} set", names.join(" and ")))?;
        } else {
            let is_expected = name == "ollama" || settings.providers.contains_key(name);
            report_server(endpoint, is_expected, &mut facts, report)?;
        }
        providers.push(facts);
    }
    Ok(providers)
}

/// Reports a server that needs no key. Unless it is expected, the report leaves out a server that does not answer.
fn report_server(
    endpoint: &Endpoint,
    is_expected: bool,
    facts: &mut ProviderCheck,
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    let (name, url) = (&endpoint.name, &endpoint.base_url);
    // Without --probe, orch sends nothing to other machines.
    if !is_loopback_address(url) || !matches!(endpoint.dialect, Dialect::OpenAi | Dialect::Responses) {
        facts.is_usable = is_expected;
        return if is_expected {
            report.print_check(None, name, format!("at {url}, without a key; --probe tests it"))
        } else {
            Ok(())
        };
    }
    match runtime()?.block_on(served_models(endpoint, SERVER_TIMEOUT)) {
        Ok(list) if list.is_empty() => {
            let advice = if name == "ollama" { "; get one: `ollama pull qwen3`" } else { "" };
            report.print_check(None, name, format!("{url} answers, but serves no model{advice}"))
        }
        Ok(list) => {
            report.print_check(Some(true), name, format!("{url} answers with {}", list.join(", ")))?;
            (facts.served_models, facts.is_usable) = (list, true);
            Ok(())
        }
        Err(_) if !is_expected => Ok(()),
        // A server that answers with an error is different from a server that is not there.
        Err(failure) if failure.status.is_some() => {
            facts.is_usable = true;
            report.print_check(None, name, format!("{url} answers, but does not list its models: {}", failure.message))
        }
        Err(failure) if failure.unreached => report.print_check(None, name, format!("nothing answers at {url}")),
        Err(failure) => {
            let hint = failure.hint.map_or_else(String::new, |hint| format!("; {hint}"));
            report.print_check(None, name, format!("{}{hint}", failure.message))
        }
    }
}

/// Reports the default model of runs, and whether it is usable.
pub(super) fn report_default_model(
    models: &ModelRegistry,
    runner: &Runner,
    settings: &Settings,
    providers: &[ProviderCheck],
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    if let Some(name) = settings.defaults.model.as_deref().filter(|name| *name != "auto") {
        let model = match models.resolve(name) {
            Ok(model) => model,
            Err(error) => return report.print_check(Some(false), "model", format!("`defaults.model`: {error}")),
        };
        return match models.missing_key(&model.provider) {
            Some(variable) => {
                let problem = format!("{model} (`defaults.model`) needs a key, and {variable} is not set");
                report.print_check(Some(false), "model", format!("{problem}: export {variable}=…"))
            }
            None => report.print_check(Some(true), "model", format!("{model} (`defaults.model`)")),
        };
    }
    let variables = runner.environment.variable_lookup();
    let ollama = providers.iter().find(|facts| facts.name == "ollama" && !facts.served_models.is_empty());
    let url = models.endpoint("ollama").map_or("", |endpoint| endpoint.base_url.as_str());
    let choice =
        choose_model(&|name: &str| variables(name).is_some(), ollama.map(|facts| (url, facts.served_models.clone())));
    match choice {
        Ok(Some(choice)) => {
            report.print_check(Some(true), "model", format!("{} (auto: {})", choice.model, choice.reason))
        }
        Ok(None) => {
            let description = match models.resolve(LOCAL_PROVIDER) {
                Ok(model) => format!("{model} (auto: no key is set and no local server answers)"),
                Err(error) => error.to_string(),
            };
            report.print_check(None, "model", description)
        }
        Err(error) => {
            report.print_check(None, "model", format!("{error}; select a model with --model or `defaults.model`"))
        }
    }
}

/// One model to probe for each usable provider.
pub(super) fn models_to_probe(
    models: &ModelRegistry,
    settings: &Settings,
    providers: &[ProviderCheck],
) -> Vec<ModelRef> {
    let names = settings.defaults.model.iter().chain(settings.models.values().map(|entry| &entry.model));
    let configured: Vec<ModelRef> = names.filter_map(|name| models.resolve(name).ok()).collect();
    let select = |facts: &ProviderCheck| {
        let from_settings = configured.iter().find(|model| model.provider == facts.name).cloned();
        let candidate = AUTO_CANDIDATES.iter().find(|candidate| candidate.provider == facts.name);
        let candidate = candidate.map(|candidate| ModelRef::new(candidate.provider, candidate.model));
        let from_server = facts.served_models.first().map(|model| ModelRef::new(facts.name.clone(), model.clone()));
        from_settings.or(candidate).or(from_server)
    };
    providers.iter().filter(|facts| facts.is_usable).filter_map(select).collect()
}
