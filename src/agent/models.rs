//! The models that a project can use: those of built-in providers, those of `orch.yaml`, and the embedded ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};

use crate::catalog;
use crate::config::{self, ModelSettings, Settings, StructuredOutput};
use crate::model::address::why_no_base_address;
use crate::model::name::{LOCAL, NameError, resolve_name};
use crate::model::{Class, Failure, ModelRef, Usage};
use crate::network::Network;
use crate::provider::{self, BUILTIN, Dialect, Endpoint, Provider};
use crate::secret::{Redactor, SHORTEST};

use super::program::AgentEnv;
use super::shelf::Shelf;

/// Looks up an environment variable; empty values count as unset.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Every model that can be used, by provider.
pub struct ModelRegistry {
    endpoints: BTreeMap<String, Endpoint>,
    aliases: BTreeMap<String, String>,
    settings: Settings,
    shelf: Shelf,
    secrets: Vec<(String, SecretString)>,
    /// Providers to which orch refuses to connect, since the user did not agree to what they would be sent.
    withheld: BTreeSet<String>,
    /// Addresses of built-in providers that the environment sets.
    moved: BTreeMap<String, String>,
    connected: Mutex<BTreeMap<String, Arc<dyn Provider>>>,
}

impl ModelRegistry {
    /// A registry for these settings; `cache` is the folder of embedded models.
    pub fn new(settings: &Settings, variables: &Variables, cache: PathBuf) -> Self {
        let named = |name: &String| Some((name.clone(), SecretString::from(variables(name)?)));
        let secrets = settings.secrets.iter().filter_map(named).collect();
        let network = Arc::new(Network::from_variables(|name| variables(name)));
        let mut endpoints = BTreeMap::new();
        for builtin in BUILTIN {
            let endpoint = Endpoint {
                name: builtin.name.to_owned(),
                dialect: builtin.dialect,
                base_url: moved(builtin.name, variables).unwrap_or_else(|| builtin.base_url.to_owned()),
                api_key: builtin.key_variable.and_then(|name| variables(name)).map(SecretString::from),
                key_variable: builtin.key_variable.map(ToOwned::to_owned),
                headers: Vec::new(),
                structured: true,
                key_header: None,
                query: Vec::new(),
                network: network.clone(),
            };
            endpoints.insert(builtin.name.to_owned(), endpoint);
        }
        for (name, entry) in &settings.providers {
            let builtin = BUILTIN.iter().find(|builtin| builtin.name == name);
            let of_builtin = builtin.map(|builtin| builtin.base_url.to_owned());
            let own = entry.api_key.as_ref().map(|key| key.env.clone());
            let variable = own.or_else(|| builtin.and_then(|builtin| builtin.key_variable).map(ToOwned::to_owned));
            let endpoint = Endpoint {
                name: name.clone(),
                dialect: dialect(entry.dialect),
                // An address from the environment is only for the provider's own key, not for another key that the file
                // names.
                base_url: moved(name, variables)
                    .filter(|_| variable.as_deref() == builtin.and_then(|builtin| builtin.key_variable))
                    .or_else(|| entry.base_url.clone())
                    .or(of_builtin)
                    .unwrap_or_default(),
                // A server of the user's own needs no key unless the file names one.
                api_key: variable.as_ref().and_then(|name| variables(name)).map(SecretString::from),
                key_variable: if entry.api_key.is_some() || entry.base_url.is_none() { variable } else { None },
                headers: entry.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
                structured: entry.structured_output != Some(StructuredOutput::Off),
                key_header: entry.key_header.clone(),
                query: entry.query.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
                network: network.clone(),
            };
            endpoints.insert(name.clone(), endpoint);
        }
        let aliases = settings.models.iter().map(|(name, entry)| (name.clone(), entry.model.clone())).collect();
        let (withheld, connected) = (BTreeSet::new(), Mutex::default());
        let places =
            BUILTIN.iter().filter_map(|builtin| Some((builtin.name.to_owned(), moved(builtin.name, variables)?)));
        let moved = places.collect();
        let shelf = Shelf::new(cache);
        Self { endpoints, aliases, settings: settings.clone(), shelf, secrets, withheld, moved, connected }
    }

    /// The same for a project with this root, to which the paths of model files are relative.
    #[must_use]
    pub fn at(mut self, root: &Path) -> Self {
        self.shelf.root = root.to_owned();
        self
    }

    /// The same, but it refuses to connect to these providers.
    #[must_use]
    pub fn withholding(mut self, providers: BTreeSet<String>) -> Self {
        self.withheld = providers;
        self
    }

    /// The same, but it also redacts these values.
    #[must_use]
    pub fn with_secrets(mut self, secrets: impl IntoIterator<Item = (String, SecretString)>) -> Self {
        self.secrets.extend(secrets);
        self
    }

    /// The model that a name other than `auto` stands for.
    pub fn resolve(&self, name: &str) -> Result<ModelRef, NameError> {
        let providers: Vec<String> = self.endpoints.keys().cloned().chain([LOCAL.to_owned()]).collect();
        resolve_name(name, &self.aliases, &providers, default_local())
    }

    /// Where the files of embedded models are.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// A digest that identifies a model's weights on this machine; `None` when the model's name already identifies
    /// them.
    ///
    /// # Errors
    /// Its file can't be read.
    pub fn weights(&self, model: &ModelRef) -> Result<Option<String>, Failure> {
        if model.provider != LOCAL {
            return Ok(None);
        }
        let unread = |error| {
            let words = format!("the file of {model} can't be read: {error}");
            self.shelf.problem(&model.model).unwrap_or_else(|| Failure::new(Class::NotInstalled, words))
        };
        self.shelf.identity(&model.model).map_err(unread)
    }

    /// The endpoint of a provider, for `auto` and `doctor`.
    pub fn endpoint(&self, name: &str) -> Option<&Endpoint> {
        self.endpoints.get(name)
    }

    /// The names of the providers over HTTP, sorted.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.endpoints.keys().map(String::as_str)
    }

    /// The environment variable with a provider's key, if it is needed and not set.
    pub fn missing_key(&self, provider: &str) -> Option<&str> {
        let endpoint = self.endpoints.get(provider)?;
        if endpoint.api_key.is_some() { None } else { endpoint.key_variable.as_deref() }
    }

    /// The name of a provider's dialect; does not connect.
    pub fn dialect(&self, name: &str) -> Result<&'static str, Failure> {
        match self.endpoints.get(name) {
            Some(endpoint) => Ok(endpoint.dialect.as_str()),
            None => Ok(self.provider(name)?.dialect()),
        }
    }

    /// The provider with this name; connects once.
    pub fn provider(&self, name: &str) -> Result<Arc<dyn Provider>, Failure> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provider) = connected.get(name) {
            return Ok(provider.clone());
        }
        if let Some(failure) = self.bad_address(name) {
            return Err(failure);
        }
        let provider: Arc<dyn Provider> = match self.endpoints.get(name) {
            Some(endpoint) if self.withheld.contains(name) => return Err(untrusted(endpoint)),
            Some(endpoint) if self.exposes_key(endpoint) => {
                return Err(unencrypted(name, endpoint.key_variable.as_deref(), "use https://"));
            }
            Some(endpoint) => Arc::from(provider::connect(endpoint.clone())),
            None if name == LOCAL => local(&self.shelf)?,
            None => {
                return Err(Failure::new(Class::BadRequest, format!("there is no provider `{name}`")));
            }
        };
        connected.insert(name.to_owned(), provider.clone());
        Ok(provider)
    }

    /// Why a provider can't be used, when the environment sets its address to an invalid one.
    pub fn bad_address(&self, name: &str) -> Option<Failure> {
        let variable = BUILTIN.iter().find(|builtin| builtin.name == name)?.url_variable?;
        let why = why_no_base_address(self.moved.get(name)?)?;
        Some(bad_address(variable, &why))
    }

    /// The providers to which the settings allow sending a key over plain HTTP.
    pub fn unencrypted(&self) -> Vec<String> {
        let providers = self.settings.providers.iter().filter(|(_, entry)| entry.insecure);
        providers.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a key would be sent over plain HTTP and the settings do not allow that.
    fn exposes_key(&self, endpoint: &Endpoint) -> bool {
        let allowed = self.settings.providers.get(&endpoint.name).is_some_and(|entry| entry.insecure);
        endpoint.api_key.is_some() && !allowed && provider::is_unencrypted_address(&endpoint.base_url)
    }

    /// What a call cost in US dollars, when the price is known.
    ///
    /// Prices in `orch.yaml` take precedence over the built-in table.
    pub fn cost(&self, model: &ModelRef, usage: &Usage) -> Option<f64> {
        match self.settings.prices(model) {
            Some(entry) => own_cost(entry, usage),
            None => catalog::cost(model, usage),
        }
    }

    /// A model's context window for a request and its reply together, in tokens; `None` when it is unknown.
    ///
    /// `orch.yaml` takes precedence over the built-in table.
    pub fn window(&self, model: &ModelRef) -> Option<u64> {
        self.settings.window(model).or_else(|| catalog::window(model)).or_else(|| local_window(&self.shelf, model))
    }

    /// The names of keys and secrets that are too short to be redacted.
    pub fn too_short(&self) -> Vec<&str> {
        let short = |secret: &SecretString| secret.expose_secret().trim().len() < SHORTEST;
        let keys = self.endpoints.values().filter(|endpoint| endpoint.api_key.as_ref().is_some_and(short));
        let keys = keys.map(|endpoint| endpoint.key_variable.as_deref().unwrap_or(&endpoint.name));
        let secrets = self.secrets.iter().filter(|(_, secret)| short(secret)).map(|(name, _)| name.as_str());
        keys.chain(secrets).collect()
    }

    /// A redactor for every known key and secret.
    pub fn redactor(&self) -> Redactor {
        self.redactor_with(&[])
    }

    /// The same, for these secrets too.
    pub fn redactor_with(&self, more: &[(String, SecretString)]) -> Redactor {
        let keys = self.endpoints.values().filter_map(|endpoint| {
            let name = endpoint.key_variable.as_deref().unwrap_or(&endpoint.name);
            Some((name, endpoint.api_key.as_ref()?))
        });
        let secrets = self.secrets.iter().chain(more).map(|(name, secret)| (name.as_str(), secret));
        Redactor::new(keys.chain(secrets))
    }
}

/// The failure for a variable that sets a provider's address to an invalid one.
fn bad_address(variable: &str, why: &str) -> Failure {
    Failure::new(Class::BadRequest, format!("the value of {variable} is not the address of an API: {why}"))
        .with_hint(format!("set {variable} to an address such as `http://127.0.0.1:8000/v1`, or unset it"))
}

/// The address of a built-in provider from the environment, for CLI agents that read the same variable and send one of
/// these keys there.
///
/// # Errors
/// The address is invalid, or a key would be sent over plain HTTP and the settings do not allow that.
pub(super) fn moved_address(name: &str, keys: &[&str], place: &AgentEnv) -> Result<Option<String>, Failure> {
    let Some(url) = moved(name, &place.variables) else { return Ok(None) };
    let variable = BUILTIN.iter().find(|builtin| builtin.name == name).and_then(|builtin| builtin.url_variable);
    let variable = variable.unwrap_or(name);
    if let Some(why) = why_no_base_address(&url) {
        return Err(bad_address(variable, &why));
    }
    let key = keys.iter().find(|key| (place.variables)(key).is_some());
    let allowed = place.unencrypted.iter().any(|provider| provider == name);
    match key {
        Some(key) if !allowed && provider::is_unencrypted_address(&url) => {
            Err(unencrypted(name, Some(key), &format!("use https:// in {variable}")))
        }
        _ => Ok(Some(url)),
    }
}

fn untrusted(endpoint: &Endpoint) -> Failure {
    let name = &endpoint.name;
    Failure::new(Class::Auth, format!("this project is not trusted to send a key to {name}"))
        .with_hint("`orch trust` shows what orch.yaml sends where, and records that you agree")
}

fn unencrypted(name: &str, key_variable: Option<&str>, repair: &str) -> Failure {
    let key = key_variable.map_or_else(|| "its key".to_owned(), |name| format!("the key in {name}"));
    Failure::new(Class::BadRequest, format!("the address of {name} is plain http, so {key} could be read on its way"))
        .with_hint(format!("{repair}, or set `insecure: true` under `providers.{name}` of orch.yaml"))
}

/// The cost in US dollars by the prices in `orch.yaml`, which are for a million tokens.
fn own_cost(entry: &ModelSettings, usage: &Usage) -> Option<f64> {
    let (input, output) = (entry.input_price?, entry.output_price?);
    let cached = entry.cached_input_price.unwrap_or(input);
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
    let of = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
    Some(
        of(usage.input.saturating_sub(usage.cache_read), input)
            + of(usage.cache_read, cached)
            + of(usage.output, output),
    )
}

/// The address of a built-in provider from the environment, which takes precedence over `orch.yaml`.
fn moved(name: &str, variables: &Variables) -> Option<String> {
    let builtin = BUILTIN.iter().find(|builtin| builtin.name == name)?;
    Some(builtin.base_url_from(&variables(builtin.url_variable?)?))
}

fn dialect(name: config::DialectSetting) -> Dialect {
    match name {
        config::DialectSetting::Anthropic => Dialect::Anthropic,
        config::DialectSetting::Openai => Dialect::OpenAi,
        config::DialectSetting::Gemini => Dialect::Gemini,
    }
}

#[cfg(feature = "local")]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as without the embedded model")]
fn local(shelf: &Shelf) -> Result<Arc<dyn Provider>, Failure> {
    Ok(Arc::new(super::local::Local::new(shelf)))
}

#[cfg(not(feature = "local"))]
fn local(_: &Shelf) -> Result<Arc<dyn Provider>, Failure> {
    Err(Failure::new(Class::NotInstalled, "this orch was built without the embedded model")
        .with_hint("build it with the feature `local`, or name another model with --model"))
}

/// The context window of a model file in tokens: the one in its header, up to the engine's limit.
#[cfg(feature = "local")]
fn local_window(shelf: &Shelf, model: &ModelRef) -> Option<u64> {
    let file = (model.provider == LOCAL).then(|| shelf.own_file(&model.model))?;
    local_llm::gguf::read(&file).ok().map(|header| header.context())
}

#[cfg(not(feature = "local"))]
fn local_window(_: &Shelf, _: &ModelRef) -> Option<u64> {
    None
}

#[cfg(feature = "local")]
fn default_local() -> &'static str {
    local_llm::catalog::default_model().name
}

#[cfg(not(feature = "local"))]
fn default_local() -> &'static str {
    "none"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_know_every_built_in_provider() {
        let names: Vec<&str> = BUILTIN.iter().map(|builtin| builtin.name).collect();
        assert_eq!(names, crate::model::name::BUILT_IN);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let yaml = r#"{"providers": {"openai": {"dialect": "openai", "base_url": "http://file/v1"}}}"#;
        let settings: Settings = serde_json::from_str(yaml).unwrap();
        let variables: Variables = Arc::new(|name| (name == "OPENAI_BASE_URL").then(|| "http://env/v1".to_owned()));
        let models = ModelRegistry::new(&settings, &variables, PathBuf::new());
        assert_eq!(models.endpoint("openai").unwrap().base_url, "http://env/v1");
        let none: Variables = Arc::new(|_| None);
        assert_eq!(
            ModelRegistry::new(&settings, &none, PathBuf::new()).endpoint("openai").unwrap().base_url,
            "http://file/v1"
        );
    }
}
