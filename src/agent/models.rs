//! The models that a project can use: of built-in providers, of providers in `orch.yaml`, and embedded ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};

use crate::catalog::{self, ModelApi, RequestedOptions};
use crate::config::{EnvAddresses, Settings};
use crate::model::http_url::{base_url_error, host_with_port};
use crate::model::name::{LOCAL_PROVIDER, NameError, resolve_name};
use crate::model::{Agent, AllowedHost, ChatRequest, Failure, FailureClass, Message, ModelRef, PricedModel, Usage};
use crate::provider::{self, BuiltinProvider, Endpoint, Provider};
use crate::secret::{MIN_NEEDLE_BYTES, Redactor};

use super::endpoints::{endpoints, env_addresses, env_base_url};
use super::env_lookup::EnvLookup;
use super::local_models::LocalModels;
use super::program::AgentEnv;

/// The models that a project can use, by provider.
pub struct ModelRegistry {
    endpoints: BTreeMap<String, Endpoint>,
    aliases: BTreeMap<String, String>,
    settings: Settings,
    local_models: LocalModels,
    /// The secrets to redact in addition to the keys of providers, each with its name.
    secrets: Vec<(String, SecretString)>,
    /// Providers to which orch refuses to connect, since the user did not agree to their disclosures.
    untrusted: BTreeSet<String>,
    /// The addresses of built-in providers from the environment.
    env_addresses: EnvAddresses,
    /// The providers to which orch has connected, by name.
    connected: Mutex<BTreeMap<String, Arc<dyn Provider>>>,
}

impl ModelRegistry {
    /// Creates a registry for these settings; `cache` is the folder of embedded models.
    pub fn new(settings: &Settings, variables: &EnvLookup, cache: PathBuf) -> Self {
        let secret = |name: &str| Some((name.to_owned(), SecretString::from(variables(name)?)));
        let secrets = settings.secret_variables().into_iter().filter_map(secret).collect();
        let aliases = settings.models.iter().map(|(name, entry)| (name.clone(), entry.model.clone())).collect();
        Self {
            endpoints: endpoints(settings, variables),
            aliases,
            settings: settings.clone(),
            local_models: LocalModels::new(cache),
            secrets,
            untrusted: BTreeSet::new(),
            env_addresses: env_addresses(variables),
            connected: Mutex::default(),
        }
    }

    /// Sets the root of the project, to which the paths of model files are relative.
    #[must_use]
    pub fn with_root(mut self, root: &Path) -> Self {
        self.local_models.root = root.to_owned();
        self
    }

    /// Makes the registry refuse to connect to these providers.
    #[must_use]
    pub fn with_untrusted(mut self, providers: BTreeSet<String>) -> Self {
        self.untrusted = providers;
        self
    }

    /// Adds secrets to redact.
    #[must_use]
    pub fn with_secrets(mut self, secrets: impl IntoIterator<Item = (String, SecretString)>) -> Self {
        self.secrets.extend(secrets);
        self
    }

    /// Resolves a model's name other than `auto`.
    pub fn resolve(&self, name: &str) -> Result<ModelRef, NameError> {
        let providers: Vec<String> = self.endpoints.keys().cloned().chain([LOCAL_PROVIDER.to_owned()]).collect();
        resolve_name(name, &self.aliases, &providers, default_local_model())
    }

    /// The files of embedded models.
    pub fn local_models(&self) -> &LocalModels {
        &self.local_models
    }

    /// A digest that identifies a model's weights on this machine; `None` when the model's name already identifies
    /// them.
    ///
    /// # Errors
    /// The file of the model can't be read.
    pub fn weights_digest(&self, model: &ModelRef) -> Result<Option<String>, Failure> {
        if model.provider != LOCAL_PROVIDER {
            return Ok(None);
        }
        let read_failure = |error| {
            let message = format!("the file of {model} can't be read: {error}");
            self.local_models
                .file_problem(&model.model)
                .unwrap_or_else(|| Failure::new(FailureClass::NotInstalled, message))
        };
        self.local_models.weights_digest(&model.model).map_err(read_failure)
    }

    /// The endpoint of an HTTP provider, for `auto` and `doctor`.
    pub fn endpoint(&self, name: &str) -> Option<&Endpoint> {
        self.endpoints.get(name)
    }

    /// The names of the HTTP providers, sorted.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.endpoints.keys().map(String::as_str)
    }

    /// The environment variable for a provider's key, if the provider needs a key and the variable is not set.
    pub fn missing_key(&self, provider: &str) -> Option<&str> {
        self.endpoints.get(provider)?.auth.missing_variable()
    }

    /// The name of a provider's dialect. Does not connect to an HTTP provider.
    pub fn dialect(&self, name: &str) -> Result<&'static str, Failure> {
        match self.endpoints.get(name) {
            Some(endpoint) => Ok(endpoint.dialect.as_str()),
            None => Ok(self.provider(name)?.dialect()),
        }
    }

    /// The keys of an agent's options that orch does not send to a model, each with a clause about the model that
    /// explains why. `reply_limit` is the limit of a reply to the agent.
    pub fn unsent_options(
        &self,
        model: &ModelRef,
        agent: &Agent,
        reply_limit: u32,
    ) -> Vec<(&'static str, &'static str)> {
        let Some(api) = self.model_api(model) else { return Vec::new() };
        let requested = RequestedOptions {
            temperature: agent.temperature,
            max_output_tokens: reply_limit,
            options: &agent.options(),
        };
        api.unsent_options(requested).into_iter().map(|option| (option.key, option.reason.clause())).collect()
    }

    /// The API through which orch reaches a model; `None` if there is no such provider.
    fn model_api<'m>(&self, model: &'m ModelRef) -> Option<ModelApi<'m>> {
        if let Some(endpoint) = self.endpoints.get(&model.provider) {
            return Some(ModelApi::at_server(&endpoint.name, endpoint.dialect, &endpoint.base_url, &model.model));
        }
        (model.provider == LOCAL_PROVIDER).then(|| ModelApi::embedded(&model.model))
    }

    /// The failure with which every request of an agent to a model would end, if orch can tell it before it sends one.
    /// `reply_limit` is the limit of a reply to the agent.
    pub fn request_failure(&self, model: &ModelRef, agent: &Agent, reply_limit: u32) -> Option<Failure> {
        let refuses_tools = self.model_api(model).is_some_and(|api| api.refuses_tools());
        if refuses_tools && agent.has_model_tools() {
            let key = if agent.tools.names().is_empty() { "pipelines" } else { "tools" };
            let message = format!("the agent has `{key}`, which the model can't call");
            let failure = Failure::new(FailureClass::BadRequest, message);
            return Some(
                failure.with_hint(format!("name another model with --model, or remove `{key}` from the agent")),
            );
        }
        let request = ChatRequest {
            temperature: agent.temperature,
            options: Box::new(agent.options()),
            ..ChatRequest::new(model.clone(), vec![Message::user("-")], reply_limit)
        };
        let endpoint = self.endpoints.get(&model.provider)?;
        provider::create_provider(endpoint.clone()).check_request(&request).err()
    }

    /// The provider with this name. Connects on the first call.
    pub fn provider(&self, name: &str) -> Result<Arc<dyn Provider>, Failure> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provider) = connected.get(name) {
            return Ok(provider.clone());
        }
        if let Some(failure) = self.invalid_address(name) {
            return Err(failure);
        }
        let provider: Arc<dyn Provider> = match self.endpoints.get(name) {
            Some(endpoint) if self.untrusted.contains(name) => return Err(trust_failure(endpoint)),
            Some(endpoint) if self.exposes_key(endpoint) => {
                return Err(unencrypted_failure(name, endpoint.auth.variables().first().copied(), "use https://"));
            }
            Some(endpoint) => Arc::from(provider::create_provider(endpoint.clone())),
            None if name == LOCAL_PROVIDER => local_provider(&self.local_models)?,
            None => {
                return Err(Failure::new(FailureClass::BadRequest, format!("there is no provider `{name}`")));
            }
        };
        connected.insert(name.to_owned(), provider.clone());
        Ok(provider)
    }

    /// The failure for an invalid address of a provider in the environment.
    pub fn invalid_address(&self, name: &str) -> Option<Failure> {
        let variable = BuiltinProvider::find(name)?.url_variable?;
        let reason = base_url_error(self.env_addresses.get(name)?)?;
        Some(address_failure(variable, &reason))
    }

    /// The providers to which the settings allow sending a key over plain HTTP.
    pub fn insecure_providers(&self) -> Vec<String> {
        let providers = self.settings.providers.iter().filter(|(_, entry)| entry.insecure);
        providers.map(|(name, _)| name.clone()).collect()
    }

    /// Whether orch would send a key over plain HTTP although the settings do not allow that.
    fn exposes_key(&self, endpoint: &Endpoint) -> bool {
        let is_allowed = self.settings.providers.get(&endpoint.name).is_some_and(|entry| entry.insecure);
        !endpoint.auth.secrets().is_empty() && !is_allowed && provider::is_unencrypted_address(&endpoint.base_url)
    }

    /// The cost of a call in US dollars, if the price is known.
    ///
    /// Prices in `orch.yaml` take precedence over the built-in table.
    pub fn cost(&self, model: &ModelRef, usage: &Usage) -> Option<f64> {
        match self.settings.entry_with_prices(model) {
            Some(entry) => entry.cost(usage),
            None => catalog::cost(model, usage),
        }
    }

    /// The cost of a call in US dollars, if the price is known. The list price does not apply if an option of the request
    /// changes the price, unless the model is free.
    pub fn cost_of(&self, priced_model: &PricedModel, usage: &Usage) -> Option<f64> {
        let has_own_prices = self.settings.entry_with_prices(&priced_model.model).is_some();
        let cost = self.cost(&priced_model.model, usage)?;
        (priced_model.changed_by.is_none() || has_own_prices || cost == 0.0).then_some(cost)
    }

    /// The maximum size of a request and its reply together, in tokens; `None` when it is unknown.
    ///
    /// `orch.yaml` takes precedence over the built-in table.
    pub fn context_window(&self, model: &ModelRef) -> Option<u64> {
        self.settings
            .context_window(model)
            .or_else(|| catalog::context_window(model))
            .or_else(|| local_window(&self.local_models, model))
    }

    /// The names of keys and secrets that are too short to redact.
    pub fn unredactable_names(&self) -> Vec<&str> {
        let is_short = |secret: &SecretString| secret.expose_secret().trim().len() < MIN_NEEDLE_BYTES;
        self.secrets_of(&[]).into_iter().filter(|(_, secret)| is_short(secret)).map(|(name, _)| name).collect()
    }

    /// A redactor for all known keys and secrets.
    pub fn redactor(&self) -> Redactor {
        self.redactor_with(&[])
    }

    /// A redactor for all known keys and secrets and these additional ones.
    pub fn redactor_with(&self, additional: &[(String, SecretString)]) -> Redactor {
        Redactor::new(self.secrets_of(additional))
    }

    /// All known keys and secrets, and these additional ones, each with its name.
    fn secrets_of<'a>(&'a self, additional: &'a [(String, SecretString)]) -> Vec<(&'a str, &'a SecretString)> {
        let keys = self.endpoints.values().flat_map(|endpoint| {
            let secrets = endpoint.auth.secrets().into_iter();
            secrets.map(|(variable, secret)| (variable.unwrap_or(&endpoint.name), secret))
        });
        let secrets = self.secrets.iter().chain(additional).map(|(name, secret)| (name.as_str(), secret));
        keys.chain(secrets).collect()
    }
}

/// The failure for a variable whose value is not a valid address of a provider.
fn address_failure(variable: &str, reason: &str) -> Failure {
    Failure::new(FailureClass::BadRequest, format!("the value of {variable} is not the address of an API: {reason}"))
        .with_hint(format!("set {variable} to an address such as `http://127.0.0.1:8000/v1`, or unset it"))
}

/// The address of a built-in provider from the environment, for CLI agents that read the same variable and send one of
/// these keys there.
///
/// # Errors
/// The address is invalid, or the agent would send a key over plain HTTP although the settings do not allow that.
pub(super) fn env_base_url_for_agent(
    name: &str,
    key_variables: &[&str],
    agent_env: &AgentEnv,
) -> Result<Option<String>, Failure> {
    let Some(url) = env_base_url(name, &agent_env.variables) else { return Ok(None) };
    let variable = BuiltinProvider::find(name).and_then(|builtin| builtin.url_variable);
    let variable = variable.unwrap_or(name);
    if let Some(reason) = base_url_error(&url) {
        return Err(address_failure(variable, &reason));
    }
    let key = key_variables.iter().find(|key| (agent_env.variables)(key).is_some());
    let is_allowed = agent_env.insecure_providers.iter().any(|provider| provider == name);
    match key {
        Some(key) if !is_allowed && provider::is_unencrypted_address(&url) => {
            Err(unencrypted_failure(name, Some(key), &format!("use https:// in {variable}")))
        }
        _ => Ok(Some(url)),
    }
}

/// The hosts that a CLI agent needs for its models: the host of its provider, and the host of the address in the
/// environment, which may be on a private network.
pub(super) fn provider_hosts(api_host: &str, env_url: Option<&str>) -> Vec<AllowedHost> {
    let env_host = env_url.and_then(host_with_port).map(|host| AllowedHost { host, private: true });
    std::iter::once(AllowedHost { host: api_host.to_owned(), private: false }).chain(env_host).collect()
}

fn trust_failure(endpoint: &Endpoint) -> Failure {
    let name = &endpoint.name;
    Failure::new(FailureClass::Auth, format!("this project is not trusted to send a key to {name}"))
        .with_hint("`orch trust` shows what orch.yaml sends to which address, and records your agreement")
}

fn unencrypted_failure(name: &str, key_variable: Option<&str>, fix: &str) -> Failure {
    let key = key_variable.map_or_else(|| "its key".to_owned(), |name| format!("the key in {name}"));
    let message = format!("the address of {name} is plain http, so others could read {key} in transit");
    Failure::new(FailureClass::BadRequest, message)
        .with_hint(format!("{fix}, or set `insecure: true` under `providers.{name}` of orch.yaml"))
}

#[cfg(feature = "local")]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as without the embedded model")]
fn local_provider(local_models: &LocalModels) -> Result<Arc<dyn Provider>, Failure> {
    Ok(Arc::new(super::local::LocalProvider::new(local_models)))
}

#[cfg(not(feature = "local"))]
fn local_provider(_: &LocalModels) -> Result<Arc<dyn Provider>, Failure> {
    Err(Failure::new(FailureClass::NotInstalled, "this orch was built without the embedded model")
        .with_hint("build it with the feature `local`, or name another model with --model"))
}

/// The context window of a model file in tokens, from the header of the file, up to the engine's limit.
#[cfg(feature = "local")]
fn local_window(local_models: &LocalModels, model: &ModelRef) -> Option<u64> {
    let file = (model.provider == LOCAL_PROVIDER).then(|| local_models.own_model_path(&model.model))?;
    local_llm::gguf::read_header(&file).ok().map(|header| header.context_length())
}

#[cfg(not(feature = "local"))]
fn local_window(_: &LocalModels, _: &ModelRef) -> Option<u64> {
    None
}

#[cfg(feature = "local")]
fn default_local_model() -> &'static str {
    local_llm::catalog::default_model().name
}

#[cfg(not(feature = "local"))]
fn default_local_model() -> &'static str {
    "none"
}
