//! Finds the server of a provider: in `orch.yaml`, in an environment variable, or among the built-in providers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::settings::Settings;
use crate::model::{BuiltinProvider, Dialect};

/// The addresses of built-in providers in environment variables, by the provider's name. They take precedence over
/// `orch.yaml`.
pub type EnvAddresses = BTreeMap<String, String>;

/// The server of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// The dialect of the server's API.
    pub dialect: Dialect,
    /// The address of the server's API; empty if the settings contain none, which `check` reports.
    pub base_url: String,
}

impl Settings {
    /// The server of a provider; `None` if no provider has this name.
    pub fn api_server(&self, provider: &str, env_addresses: &EnvAddresses) -> Option<ApiServer> {
        let builtin = BuiltinProvider::find(provider);
        let env_address = env_addresses.get(provider);
        let Some(entry) = self.providers.get(provider) else {
            let builtin = builtin?;
            let base_url = env_address.cloned().unwrap_or_else(|| builtin.base_url.to_owned());
            return Some(ApiServer { dialect: builtin.dialect_at(&base_url), base_url });
        };
        let builtin_variable = builtin.and_then(|builtin| builtin.key_variable);
        let has_own_key = entry.api_key.as_ref().is_none_or(|key| Some(key.env.as_str()) == builtin_variable);
        let base_url = env_address
            // To an address from the environment, orch sends only the provider's own key, not another key that
            // `orch.yaml` names.
            .filter(|_| entry.aws.is_none() && has_own_key)
            .cloned()
            .or_else(|| entry.address().map(Cow::into_owned))
            .or_else(|| builtin.map(|builtin| builtin.base_url.to_owned()));
        Some(ApiServer { dialect: entry.dialect, base_url: base_url.unwrap_or_default() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_the_dialect_of_openai_unless_the_settings_do() {
        let lab_address = EnvAddresses::from([("openai".to_owned(), "http://lab/v1".to_owned())]);
        let other_key = r#"{"providers": {"openai": {"dialect": "responses", "api_key": {"env": "LAB_KEY"}}}}"#;
        let own_address = r#"{"providers": {"openai": {"dialect": "responses", "base_url": "http://file/v1"}}}"#;
        for (settings, env_addresses, dialect, url) in [
            ("{}", EnvAddresses::new(), Dialect::Responses, "https://api.openai.com/v1"),
            ("{}", lab_address.clone(), Dialect::OpenAi, "http://lab/v1"),
            (own_address, lab_address.clone(), Dialect::Responses, "http://lab/v1"),
            (own_address, EnvAddresses::new(), Dialect::Responses, "http://file/v1"),
            (other_key, lab_address, Dialect::Responses, "https://api.openai.com/v1"),
        ] {
            let settings: Settings = serde_json::from_str(settings).unwrap();
            let server = settings.api_server("openai", &env_addresses).unwrap();
            assert_eq!((server.dialect, server.base_url.as_str()), (dialect, url));
        }
        assert_eq!(Settings::default().api_server("nowhere", &EnvAddresses::new()), None);
    }
}
