//! Which model APIs are usable from here, and what `model: auto` would be.

use std::time::Duration;

use crate::agent::{CANDIDATES, ModelRegistry, choose};
use crate::cli::runtime;
use crate::config::Settings;
use crate::model::ModelRef;
use crate::model::name::LOCAL;
use crate::provider::{Dialect, Endpoint, is_loopback_address, served_models};
use crate::session::{Runner, SessionError};

use super::DoctorReport;

/// How long a server on this machine has to say what it has.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of a provider.
pub(super) struct ProviderFacts {
    /// Its name.
    name: String,
    /// Its models, as far as it was asked and said them.
    served: Vec<String>,
    usable: bool,
}

/// Tells of every provider; what was learnt is for [`default_model`] and probes.
pub(super) fn tell(
    models: &ModelRegistry,
    settings: &Settings,
    report: &mut DoctorReport<'_>,
) -> Result<Vec<ProviderFacts>, SessionError> {
    let mut all = Vec::new();
    for name in models.providers() {
        let Some(endpoint) = models.endpoint(name) else { continue };
        let mut known = ProviderFacts { name: name.to_owned(), served: Vec::new(), usable: endpoint.api_key.is_some() };
        if let Some(failure) = models.bad_address(name) {
            known.usable = false;
            report.line(Some(false), name, failure.message)?;
        } else if let Some(variable) = &endpoint.key_variable {
            let set = endpoint.api_key.is_some();
            report.line(set.then_some(true), name, format!("{variable} is {}set", if set { "" } else { "not " }))?;
        } else {
            let named = name == "ollama" || settings.providers.contains_key(name);
            server(endpoint, named, &mut known, report)?;
        }
        all.push(known);
    }
    Ok(all)
}

/// Tells of a server that needs no key; those that nobody named only when they answer.
fn server(
    endpoint: &Endpoint,
    named: bool,
    known: &mut ProviderFacts,
    report: &mut DoctorReport<'_>,
) -> Result<(), SessionError> {
    let (name, url) = (&endpoint.name, &endpoint.base_url);
    // Nothing beyond this machine is asked unless --probe is given.
    if !is_loopback_address(url) || !matches!(endpoint.dialect, Dialect::OpenAi) {
        known.usable = named;
        return if named {
            report.line(None, name, format!("at {url}, without a key; --probe asks it"))
        } else {
            Ok(())
        };
    }
    match runtime()?.block_on(served_models(endpoint, PATIENCE)) {
        Ok(list) if list.is_empty() => {
            let how = if name == "ollama" { "; get one: `ollama pull qwen3`" } else { "" };
            report.line(None, name, format!("{url} answers and has no model{how}"))
        }
        Ok(list) => {
            report.line(Some(true), name, format!("{url} answers with {}", list.join(", ")))?;
            (known.served, known.usable) = (list, true);
            Ok(())
        }
        Err(_) if !named => Ok(()),
        // A server that answers otherwise is another thing than none.
        Err(failure) if failure.status.is_some() || failure.message.contains("no list of models") => {
            known.usable = true;
            report.line(None, name, format!("{url} answers, but does not list its models: {}", failure.message))
        }
        Err(failure) if failure.unreached => report.line(None, name, format!("nothing answers at {url}")),
        Err(failure) => {
            let way = failure.hint.map_or_else(String::new, |hint| format!("; {hint}"));
            report.line(None, name, format!("{}{way}", failure.message))
        }
    }
}

/// Tells what a run asks that names no model, and whether it can.
pub(super) fn default_model(
    models: &ModelRegistry,
    runner: &Runner,
    settings: &Settings,
    known: &[ProviderFacts],
    report: &mut DoctorReport<'_>,
) -> Result<(), SessionError> {
    if let Some(name) = settings.defaults.model.as_deref().filter(|name| *name != "auto") {
        let model = match models.resolve(name) {
            Ok(model) => model,
            Err(error) => return report.line(Some(false), "model", format!("`defaults.model`: {error}")),
        };
        return match models.missing_key(&model.provider) {
            Some(variable) => {
                let how = format!("{model} (`defaults.model`) needs a key, and {variable} is not set");
                report.line(Some(false), "model", format!("{how}: export {variable}=…"))
            }
            None => report.line(Some(true), "model", format!("{model} (`defaults.model`)")),
        };
    }
    let variables = runner.environment.variables();
    let ollama = known.iter().find(|known| known.name == "ollama").filter(|known| !known.served.is_empty());
    let url = models.endpoint("ollama").map_or("", |endpoint| endpoint.base_url.as_str());
    let choice = choose(&|name: &str| variables(name).is_some(), ollama.map(|known| (url, known.served.clone())));
    match choice {
        Ok(Some(choice)) => report.line(Some(true), "model", format!("{} (auto: {})", choice.model, choice.why)),
        Ok(None) => {
            let words = match models.resolve(LOCAL) {
                Ok(model) => format!("{model} (auto: no key is set and no local server answers)"),
                Err(error) => error.to_string(),
            };
            report.line(None, "model", words)
        }
        Err(error) => report.line(None, "model", format!("{error}; name one with --model or `defaults.model`")),
    }
}

/// The model that a probe asks of each provider that is usable.
pub(super) fn to_probe(models: &ModelRegistry, settings: &Settings, known: &[ProviderFacts]) -> Vec<ModelRef> {
    let named = settings.defaults.model.iter().chain(settings.models.values().map(|entry| &entry.model));
    let named: Vec<ModelRef> = named.filter_map(|name| models.resolve(name).ok()).collect();
    let of = |known: &ProviderFacts| {
        let own = named.iter().find(|model| model.provider == known.name).cloned();
        let usual = CANDIDATES.iter().find(|candidate| candidate.provider == known.name);
        let usual = usual.map(|candidate| ModelRef::new(candidate.provider, candidate.model));
        let first = known.served.first().map(|model| ModelRef::new(known.name.clone(), model.clone()));
        own.or(usual).or(first)
    };
    known.iter().filter(|known| known.usable).filter_map(of).collect()
}
