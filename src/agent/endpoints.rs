//! The endpoints of a project's HTTP providers: the built-in providers, and the providers in `orch.yaml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

use super::env_lookup::EnvLookup;
use crate::config::{EnvAddresses, ProviderSettings, Settings, StructuredOutput};
use crate::network::Network;
use crate::provider::{Auth, AwsAuth, BUILTIN_PROVIDERS, BuiltinProvider, Endpoint, KeyAuth};

/// The endpoints of all HTTP providers, by name.
pub(super) fn endpoints(settings: &Settings, variables: &EnvLookup) -> BTreeMap<String, Endpoint> {
    let network = Arc::new(Network::from_variables(|name| variables(name)));
    let env_addresses = env_addresses(variables);
    let mut endpoints = BTreeMap::new();
    for builtin in BUILTIN_PROVIDERS {
        let Some(server) = Settings::default().api_server(builtin.name, &env_addresses) else { continue };
        let auth = KeyAuth {
            key: builtin.key_variable.and_then(|name| variables(name)).map(SecretString::from),
            variable: builtin.key_variable.map(ToOwned::to_owned),
            header: None,
        };
        let endpoint = Endpoint {
            auth: Arc::new(auth),
            network: network.clone(),
            ..Endpoint::new(builtin.name, server.dialect, server.base_url)
        };
        endpoints.insert(builtin.name.to_owned(), endpoint);
    }
    for (name, entry) in &settings.providers {
        let Some(server) = settings.api_server(name, &env_addresses) else { continue };
        let builtin = BuiltinProvider::find(name);
        let file_variable = entry.api_key.as_ref().map(|key| key.env.clone());
        let variable =
            file_variable.or_else(|| builtin.and_then(|builtin| builtin.key_variable).map(ToOwned::to_owned));
        let endpoint = Endpoint {
            name: name.clone(),
            dialect: server.dialect,
            base_url: server.base_url,
            auth: auth(entry, variable, variables),
            headers: entry.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            structured_output: entry.structured_output != Some(StructuredOutput::Off),
            query: entry.query.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            network: network.clone(),
        };
        endpoints.insert(name.clone(), endpoint);
    }
    endpoints
}

/// The authentication of a provider in `orch.yaml`; `variable` is the environment variable for its key.
fn auth(entry: &ProviderSettings, variable: Option<String>, variables: &EnvLookup) -> Arc<dyn Auth> {
    match &entry.aws {
        Some(aws) => Arc::new(AwsAuth::from_variables(&aws.region, |name| variables(name))),
        None => Arc::new(KeyAuth {
            key: variable.as_ref().and_then(|name| variables(name)).map(SecretString::from),
            // The user's own server needs no key, unless `orch.yaml` names a variable for it.
            variable: variable.filter(|_| entry.api_key.is_some() || entry.base_url.is_none()),
            header: entry.key_header.clone(),
        }),
    }
}

/// The addresses of the built-in providers from the environment.
pub fn env_addresses(variables: &EnvLookup) -> EnvAddresses {
    let address = |builtin: &BuiltinProvider| Some((builtin.name.to_owned(), env_base_url(builtin.name, variables)?));
    BUILTIN_PROVIDERS.iter().filter_map(address).collect()
}

/// The address of a built-in provider from the environment, which takes precedence over `orch.yaml`.
pub(super) fn env_base_url(name: &str, variables: &EnvLookup) -> Option<String> {
    let builtin = BuiltinProvider::find(name)?;
    Some(builtin.base_url_from(&variables(builtin.url_variable?)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::agent::ModelRegistry;

    #[test]
    fn the_settings_may_set_another_dialect_than_the_default_of_an_address() {
        let dialect = |settings: &str, url: Option<&str>| {
            let settings: Settings = serde_json::from_str(settings).unwrap();
            let url = url.map(ToOwned::to_owned);
            let variables: EnvLookup = Arc::new(move |name| url.clone().filter(|_| name == "OPENAI_BASE_URL"));
            ModelRegistry::new(&settings, &variables, PathBuf::new()).dialect("openai").unwrap()
        };
        let responses = r#"{"providers": {"openai": {"dialect": "responses"}}}"#;
        let chat = r#"{"providers": {"openai": {"dialect": "openai"}}}"#;
        for (settings, url, expected) in [
            ("{}", None, "responses"),
            ("{}", Some("http://lab/v1"), "openai"),
            (responses, None, "responses"),
            (responses, Some("http://lab/v1"), "responses"),
            (chat, None, "openai"),
        ] {
            assert_eq!(dialect(settings, url), expected, "{settings} {url:?}");
        }
    }

    #[test]
    fn the_environment_takes_precedence_over_the_settings() {
        let json = r#"{"providers": {"openai": {"dialect": "openai", "base_url": "http://file/v1"}}}"#;
        let settings: Settings = serde_json::from_str(json).unwrap();
        let variables: EnvLookup = Arc::new(|name| (name == "OPENAI_BASE_URL").then(|| "http://env/v1".to_owned()));
        let models = ModelRegistry::new(&settings, &variables, PathBuf::new());
        assert_eq!(models.endpoint("openai").unwrap().base_url, "http://env/v1");
        let no_variables: EnvLookup = Arc::new(|_| None);
        assert_eq!(
            ModelRegistry::new(&settings, &no_variables, PathBuf::new()).endpoint("openai").unwrap().base_url,
            "http://file/v1"
        );
    }
}
