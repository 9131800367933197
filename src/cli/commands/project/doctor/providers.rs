//! Reports which model APIs are usable, and which model `model: auto` selects.

use anyhow::Result;

use crate::agent::{AUTO_CANDIDATES, ModelRegistry, choose_model};
use crate::cli::startup::runtime;
use crate::config::Settings;
use crate::model::ModelRef;
use crate::model::name::LOCAL_PROVIDER;
use crate::provider::{Dialect, Endpoint, is_loopback_address, served_models};
use crate::runner::Runner;

use super::DoctorReport;

/// The result of the check of a provider.
pub(super) struct ProviderCheck {
    name: String,
    /// The models that the server lists. Empty if orch sent the server no request.
    served_models: Vec<String>,
    is_usable: bool,
}

/// Reports every provider. [`report_default_model`] and [`models_to_probe`] need the returned results.
pub(super) fn report_providers(
    registry: &ModelRegistry,
    settings: &Settings,
    report: &mut DoctorReport<'_>,
) -> Result<Vec<ProviderCheck>> {
    let mut providers = Vec::new();
    for name in registry.providers() {
        let Some(endpoint) = registry.endpoint(name) else { continue };
        let is_usable = !endpoint.auth.secrets().is_empty() && endpoint.auth.missing_variable().is_none();
        let mut provider_check = ProviderCheck { name: name.to_owned(), served_models: Vec::new(), is_usable };
        if let Some(failure) = registry.invalid_address(name) {
            provider_check.is_usable = false;
            report.print_check(Some(false), name, failure.message)?;
        } else if let Some(variable) = endpoint.auth.missing_variable() {
            report.print_check(None, name, format!("{variable} is not set"))?;
        } else if let [first, others @ ..] = endpoint.auth.variables().as_slice() {
            let verb = if others.is_empty() { "is" } else { "are" };
            let names: Vec<&str> = [first].into_iter().chain(others).copied().collect();
            report.print_check(Some(true), name, format!("{} {verb} set", names.join(" and ")))?;
        } else {
            let is_expected = name == "ollama" || settings.providers.contains_key(name);
            report_server(endpoint, is_expected, &mut provider_check, report)?;
        }
        providers.push(provider_check);
    }
    Ok(providers)
}

/// Reports a server that needs no key. If `is_expected` is not set, skips a server that does not respond.
fn report_server(
    endpoint: &Endpoint,
    is_expected: bool,
    provider_check: &mut ProviderCheck,
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    let (name, url) = (&endpoint.name, &endpoint.base_url);
    // Without --probe, orch sends nothing to other machines.
    if !is_loopback_address(url) || !matches!(endpoint.dialect, Dialect::OpenAi | Dialect::Responses) {
        provider_check.is_usable = is_expected;
        return if is_expected {
            report.print_check(None, name, format!("at {url}, without a key; --probe tests it"))
        } else {
            Ok(())
        };
    }
    match runtime()?.block_on(served_models(endpoint, report.timeout)) {
        Ok(list) if list.is_empty() => {
            let advice = if name == "ollama" { "; get one: `ollama pull qwen3`" } else { "" };
            report.print_check(None, name, format!("{url} answers, but serves no model{advice}"))
        }
        Ok(list) => {
            report.print_check(Some(true), name, format!("{url} answers with {}", list.join(", ")))?;
            (provider_check.served_models, provider_check.is_usable) = (list, true);
            Ok(())
        }
        Err(_) if !is_expected => Ok(()),
        // The server responded with an error, so it is running.
        Err(failure) if failure.status.is_some() => {
            provider_check.is_usable = true;
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
    registry: &ModelRegistry,
    runner: &Runner,
    settings: &Settings,
    providers: &[ProviderCheck],
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    if let Some(name) = settings.defaults.model.as_deref().filter(|name| *name != "auto") {
        let model = match registry.resolve(name) {
            Ok(model) => model,
            Err(error) => return report.print_check(Some(false), "model", format!("`defaults.model`: {error}")),
        };
        return match registry.missing_key(&model.provider) {
            Some(variable) => {
                let problem = format!("{model} (`defaults.model`) needs a key, and {variable} is not set");
                report.print_check(Some(false), "model", format!("{problem}: export {variable}=…"))
            }
            None => report.print_check(Some(true), "model", format!("{model} (`defaults.model`)")),
        };
    }
    let variables = runner.environment.variable_lookup();
    let ollama = providers
        .iter()
        .find(|provider_check| provider_check.name == "ollama" && !provider_check.served_models.is_empty());
    let url = registry.endpoint("ollama").map_or("", |endpoint| endpoint.base_url.as_str());
    let choice = choose_model(
        &|name: &str| variables(name).is_some(),
        ollama.map(|provider_check| (url, provider_check.served_models.clone())),
    );
    match choice {
        Ok(Some(choice)) => {
            report.print_check(Some(true), "model", format!("{} (auto: {})", choice.model, choice.reason))
        }
        Ok(None) => {
            let description = match registry.resolve(LOCAL_PROVIDER) {
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

/// Selects a model to probe for each usable provider.
pub(super) fn models_to_probe(
    registry: &ModelRegistry,
    settings: &Settings,
    providers: &[ProviderCheck],
) -> Vec<ModelRef> {
    let names = settings.defaults.model.iter().chain(settings.models.values().map(|entry| &entry.model));
    let configured_models: Vec<ModelRef> = names.filter_map(|name| registry.resolve(name).ok()).collect();
    let select_model = |provider_check: &ProviderCheck| {
        let from_settings = configured_models.iter().find(|model| model.provider == provider_check.name).cloned();
        let candidate = AUTO_CANDIDATES.iter().find(|candidate| candidate.provider == provider_check.name);
        let candidate = candidate.map(|candidate| ModelRef::new(candidate.provider, candidate.model));
        let from_server =
            provider_check.served_models.first().map(|model| ModelRef::new(provider_check.name.clone(), model.clone()));
        from_settings.or(candidate).or(from_server)
    };
    providers.iter().filter(|provider_check| provider_check.is_usable).filter_map(select_model).collect()
}
