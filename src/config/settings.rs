//! `orch.yaml`: providers, models and defaults of a project.
//!
//! Plain data, checked by the same generated-schema route as a pipeline file. Holds the
//! *name* of the variable with a key, never the key.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::tracking::TrackerSettings;
use crate::model::budget::Budget;
use crate::model::name::FILE;
use crate::model::{ModelRef, Span};

/// The pattern of a provider's name: it stands before the slash of `provider/model`.
pub(super) const PROVIDER_PATTERN: &str = "^[A-Za-z0-9_.-]+$";

/// The pattern of the name of an environment variable.
pub(super) const ENV_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// The settings of a project; every part is optional.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Model APIs beside the built-in ones, by name.
    #[schemars(example = json!({"lab": {"dialect": "openai", "base_url": "http://127.0.0.1:8000/v1"}}))]
    #[schemars(extend("propertyNames" = {"pattern": PROVIDER_PATTERN}))]
    pub providers: IndexMap<String, ProviderSettings>,
    /// Other names for models, and what they cost.
    #[schemars(example = json!({"fast": "lab/qwen3-coder"}))]
    pub models: IndexMap<String, ModelSettings>,
    /// What holds where an agent or a step says nothing.
    #[schemars(example = json!({"model": "fast", "timeout": "5m"}))]
    pub defaults: Defaults,
    /// How much a run may do at once.
    #[schemars(example = json!({"max_concurrency": 16}))]
    pub limits: Limits,
    /// What a run may spend, when its pipeline says nothing.
    #[schemars(example = json!({"usd": 2.0}))]
    pub budget: Option<Budget>,
    /// Names of environment variables whose values are never recorded or shown, beside the keys of
    /// providers and variables that are called like a secret.
    #[schemars(example = json!(["STAGING_LOGIN"]), inner(regex(pattern = ENV_PATTERN)))]
    pub secrets: Vec<String>,
    /// Who follows runs from outside.
    #[schemars(example = json!({"convex": {"url": {"env": "CONVEX_URL"}, "auth": {"env": "CONVEX_DEPLOY_KEY"}}}))]
    pub tracker: TrackerSettings,
}

/// How much a run may do at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests and commands of a run at once, in all branches together (64).
    #[schemars(example = 16, range(min = 1, max = 10_000))]
    pub max_concurrency: Option<u32>,
}

/// A model API that speaks one of the known dialects.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// How requests and replies are written.
    #[schemars(example = &"openai")]
    pub dialect: DialectSetting,
    /// Where the API is, up to and without the path of a method; `{model}` stands for the model's name.
    #[schemars(example = &"http://127.0.0.1:8000/v1", length(min = 1))]
    pub base_url: Option<String>,
    /// Where the key is; a provider without one is asked without a key.
    #[schemars(example = json!({"env": "LAB_KEY"}))]
    pub api_key: Option<SecretRef>,
    /// Whether the key may be sent over plain HTTP to another machine, where it can be read on its way.
    #[serde(default)]
    #[schemars(example = true)]
    pub insecure: bool,
    /// Whether schemas are sent for the API to constrain replies (`auto`).
    #[schemars(example = &"off")]
    pub structured_output: Option<StructuredOutput>,
    /// Requests at once.
    #[schemars(example = 8, range(min = 1, max = 10_000))]
    pub max_concurrency: Option<u32>,
    /// Requests a minute.
    #[schemars(example = 60, range(min = 1, max = 1_000_000))]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, input and output together, by an upper estimate.
    #[schemars(example = 100_000, range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// The header that carries the key, for servers that want it in another than the dialect's own.
    #[schemars(example = &"api-key", length(min = 1))]
    pub key_header: Option<String>,
    /// What is put behind the path of each request; never put a secret here.
    #[serde(default)]
    #[schemars(example = json!({"api-version": "2024-10-21"}))]
    pub query: IndexMap<String, String>,
    /// Headers to send with each request; never put a secret here.
    #[serde(default)]
    #[schemars(example = json!({"x-team": "search"}))]
    pub headers: IndexMap<String, String>,
}

/// How requests and replies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DialectSetting {
    /// The Messages API.
    Anthropic,
    /// The Chat Completions API, which many servers speak.
    Openai,
    /// The `generateContent` API.
    Gemini,
}

/// Whether schemas are sent for the API to constrain replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// Sent where the model is known to support the schema.
    #[default]
    Auto,
    /// Never sent; the prompt asks for JSON, and the reply is extracted.
    Off,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("writeOnly" = true))]
pub struct SecretRef {
    /// The environment variable that holds it.
    #[schemars(example = &"LAB_KEY", regex(pattern = ENV_PATTERN))]
    pub env: String,
}

impl Settings {
    /// The entry with prices of a model's own, if the file has one.
    pub fn prices(&self, model: &ModelRef) -> Option<&ModelSettings> {
        self.entries(model).find(|entry| entry.input_price.is_some())
    }

    /// The context window of a model, if the file says it.
    pub fn window(&self, model: &ModelRef) -> Option<u64> {
        self.entries(model).find_map(|entry| entry.context_window)
    }

    fn entries(&self, model: &ModelRef) -> impl Iterator<Item = &ModelSettings> {
        self.models.values().filter(move |entry| ModelRef::parse(&entry.model).as_ref() == Some(model))
    }
}

/// A model under another name; written as `provider/model`, or as a mapping with prices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSettings {
    /// The model, as `provider/model`, or as `local:PATH` for a file. Empty when the entry names none.
    pub model: String,
    /// US dollars for a million input tokens.
    pub input_price: Option<f64>,
    /// US dollars for a million output tokens.
    pub output_price: Option<f64>,
    /// US dollars for a million input tokens that the provider had cached.
    pub cached_input_price: Option<f64>,
    /// How many tokens the model takes in one request, with its reply.
    pub context_window: Option<u64>,
}

/// The mapping form of [`ModelSettings`].
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ModelMapping {
    /// The model, as `provider/model`.
    #[schemars(example = &"lab/qwen3-coder", length(min = 1))]
    model: Option<String>,
    /// In place of `model`: the path of a GGUF file that orch runs itself; a relative one is from the project's root.
    #[schemars(example = &"models/qwen3-8b.gguf", length(min = 1))]
    gguf: Option<String>,
    /// US dollars for a million input tokens.
    #[schemars(example = 0.15, range(min = 0))]
    input_price: Option<f64>,
    /// US dollars for a million output tokens.
    #[schemars(example = 0.6, range(min = 0))]
    output_price: Option<f64>,
    /// US dollars for a million input tokens that the provider had cached.
    #[schemars(example = 0.05, range(min = 0))]
    cached_input_price: Option<f64>,
    /// How many tokens the model takes in one request together with its reply; wins over the table that ships.
    #[schemars(example = 32768, range(min = 1))]
    context_window: Option<u64>,
}

impl<'de> Deserialize<'de> for ModelSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Value::String(model) = value {
            return Ok(Self { model, ..Self::default() });
        }
        let ModelMapping { model, gguf, input_price, output_price, cached_input_price, context_window } =
            serde_json::from_value(value).map_err(D::Error::custom)?;
        let model = gguf.map(|path| format!("{FILE}{path}")).or(model).unwrap_or_default();
        Ok(Self { model, input_price, output_price, cached_input_price, context_window })
    }
}

impl JsonSchema for ModelSettings {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ModelSettings".into()
    }

    /// A string or a mapping, said without `anyOf`: keys only matter to a mapping, and
    /// the length only to a string.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ModelMapping::json_schema(generator);
        schema.insert("type".to_owned(), json!(["string", "object"]));
        schema.insert("minLength".to_owned(), json!(1));
        schema.insert(
            "description".to_owned(),
            json!("A model as `provider/model`, or a mapping with its prices or its file."),
        );
        schema
    }
}

/// What holds where an agent or a step says nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// What `auto` stands for: `provider/model`, an alias, or `local`.
    #[schemars(example = &"fast", length(min = 1))]
    pub model: Option<String>,
    /// How long one request may take.
    #[schemars(example = &"5m")]
    pub timeout: Option<Span>,
    /// How often a reply that does not validate is sent back with its errors (2).
    #[schemars(example = 2, range(min = 0, max = 10))]
    pub re_ask: Option<u32>,
    /// Upper bound of a reply in tokens (4096).
    #[schemars(example = 8192, range(min = 1, max = 1_000_000))]
    pub max_output_tokens: Option<u32>,
}
