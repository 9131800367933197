//! `orch.yaml`: providers, models and defaults of a project.
//!
//! The settings are plain data, which orch checks against a generated schema, like a pipeline file. They contain the
//! *names* of variables with keys, never the keys.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::mcp::McpServerSettings;
use super::secret_ref::{ENV_PATTERN, SecretRef};
use super::tracking::TrackerSettings;
use crate::model::budget::Budget;
use crate::model::mcp::MCP_SERVER_PATTERN;
use crate::model::name::LOCAL_FILE_PREFIX;
use crate::model::{Agent, Dialect, HumanDuration, McpHeader, ModelRef, Normalizer, Sandbox, Usage};

/// The pattern of a provider's name, the part of `provider/model` before the slash.
pub(super) const PROVIDER_PATTERN: &str = "^[A-Za-z0-9_.-]+$";

/// The pattern of an AWS region, which becomes a part of an address.
pub(super) const REGION_PATTERN: &str = "^[a-z0-9]+(-[a-z0-9]+)+$";

/// The settings of a project; every key is optional.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Model APIs in addition to the built-in ones, by name.
    #[schemars(example = json!({"lab": {"dialect": "openai", "base_url": "http://127.0.0.1:8000/v1"}}))]
    #[schemars(extend("propertyNames" = {"pattern": PROVIDER_PATTERN}))]
    pub providers: IndexMap<String, ProviderSettings>,
    /// Aliases of models, and the prices of models.
    #[schemars(example = json!({"fast": "lab/qwen3-coder"}))]
    pub models: IndexMap<String, ModelSettings>,
    /// The values to use where an agent or a step sets none.
    #[schemars(example = json!({"model": "fast", "timeout": "5m"}))]
    pub defaults: Defaults,
    /// Limits on the parallel work of a run.
    #[schemars(example = json!({"max_concurrency": 16}))]
    pub limits: Limits,
    /// The budget of a run whose pipeline sets none.
    #[schemars(example = json!({"usd": 2.0}))]
    pub budget: Option<Budget>,
    /// The defaults for the sandboxes of CLI agents and of command steps that have a `sandbox`. Agents and steps may
    /// allow only what these settings allow. What is not set here does not limit a command step, and limits an agent to
    /// the default and to public hosts. A command step without a `sandbox` is not confined.
    #[schemars(example = json!({"min": "basic"}))]
    pub sandbox: Sandbox,
    /// MCP servers, by name. An agent may call a tool of a server if its `tools` list it as `NAME.TOOL`.
    #[schemars(example = json!({"github": {"command": ["github-mcp-server", "stdio"], "env": ["GITHUB_TOKEN"]}}))]
    #[schemars(extend("propertyNames" = {"pattern": MCP_SERVER_PATTERN}))]
    pub mcp: IndexMap<String, McpServerSettings>,
    /// Names of environment variables whose values orch redacts in everything that it records or shows, in addition to
    /// the keys of providers and variables with names that look like secrets.
    #[schemars(example = json!(["STAGING_LOGIN"]), inner(regex(pattern = ENV_PATTERN)))]
    pub secrets: Vec<String>,
    /// How orch compares requests with recordings, in test cases and with `--replay`.
    #[schemars(example = json!({"normalize": [{"match": "seed [0-9]+", "as": "seed …"}]}))]
    pub recordings: RecordingSettings,
    /// External services to which orch sends the events of runs.
    #[schemars(example = json!({"convex": {"url": {"env": "CONVEX_URL"}, "auth": {"env": "CONVEX_DEPLOY_KEY"}}}))]
    pub tracker: TrackerSettings,
}

/// Limits on the parallel work of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The maximum number of parallel requests and commands of a run, in all branches together. Default: 64.
    #[schemars(example = 16, range(min = 1, max = 10_000))]
    pub max_concurrency: Option<u32>,
}

/// How orch compares requests with recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingSettings {
    /// Rules that make requests comparable: orch replaces each match in the recorded requests and in the requests of the
    /// run before it compares them.
    #[schemars(example = json!([{"match": "seed [0-9]+", "as": "seed …"}]))]
    #[schemars(length(max = 256))]
    pub normalize: Vec<Normalizer>,
}

/// A model API that uses one of the known dialects.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// The format of requests and replies.
    #[schemars(example = &"openai")]
    pub dialect: Dialect,
    /// The URL of the API, without the path of a method; orch replaces `{model}` with the model's name.
    #[schemars(example = &"http://127.0.0.1:8000/v1", length(min = 1))]
    pub base_url: Option<String>,
    /// The variable that holds the API key; without it, orch sends no key.
    #[schemars(example = json!({"env": "LAB_KEY"}))]
    pub api_key: Option<SecretRef>,
    /// Whether orch may send the key over plain HTTP to another machine, so that others on the network can read it.
    #[serde(default)]
    #[schemars(example = true)]
    pub insecure: bool,
    /// Whether orch sends schemas to the API, which then constrains its replies. Default:
    /// `auto`.
    #[schemars(example = &"off")]
    pub structured_output: Option<StructuredOutput>,
    /// The maximum number of parallel requests. Default: no limit.
    #[schemars(example = 8, range(min = 1, max = 10_000))]
    pub max_concurrency: Option<u32>,
    /// The maximum number of requests per minute. Default: no limit.
    #[schemars(example = 60, range(min = 1, max = 1_000_000))]
    pub requests_per_minute: Option<u32>,
    /// The maximum number of tokens per minute, input and output together. Before each call, orch counts an upper bound
    /// of its tokens. Default: no limit.
    #[schemars(example = 100_000, range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// The header that carries the key, for servers that expect another one than the dialect's default.
    #[schemars(example = &"api-key", length(min = 1))]
    pub key_header: Option<String>,
    /// Signs each request with the AWS credentials in the environment, in place of a key.
    #[schemars(example = json!({"region": "eu-central-1"}))]
    pub aws: Option<AwsSettings>,
    /// Query parameters to add to each request; never put a secret here.
    #[serde(default)]
    #[schemars(example = json!({"api-version": "2024-10-21"}))]
    pub query: IndexMap<String, String>,
    /// Headers to send with each request; never put a secret here.
    #[serde(default)]
    #[schemars(example = json!({"x-team": "search"}))]
    pub headers: IndexMap<String, String>,
}

impl ProviderSettings {
    /// The URL of the API: `base_url`, or else the URL of Bedrock in the region of `aws`.
    pub fn address(&self) -> Option<Cow<'_, str>> {
        let bedrock = self.aws.as_ref().filter(|_| self.dialect == Dialect::Converse);
        self.base_url.as_deref().map(Cow::Borrowed).or_else(|| bedrock.map(|aws| Cow::Owned(aws.bedrock_url())))
    }
}

/// The AWS credentials in the variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, for one
/// region.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsSettings {
    /// The region of the models.
    #[schemars(example = &"eu-central-1", regex(pattern = REGION_PATTERN))]
    pub region: String,
}

impl AwsSettings {
    /// The URL of Amazon Bedrock in the region.
    pub fn bedrock_url(&self) -> String {
        // The regions in China have another domain.
        let domain = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://bedrock-runtime.{}.{domain}", self.region)
    }
}

/// Whether orch sends schemas to the API, which then constrains its replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// orch sends a schema if the model is known to support it.
    #[default]
    Auto,
    /// orch sends no schema; the prompt asks for JSON, and orch extracts it from the reply.
    Off,
}

impl Settings {
    /// The names of the variables whose values are secrets, whatever they look like: those under `secrets`, and those
    /// that orch sends as credentials to MCP servers and trackers. The keys of providers belong to their endpoints.
    pub fn secret_variables(&self) -> Vec<&str> {
        let headers = self.mcp.values().flat_map(|server| server.headers.values()).filter_map(McpHeader::variable);
        let convex = self.tracker.convex.as_ref().and_then(|convex| convex.auth.as_ref());
        let webhook = self.tracker.webhook.as_ref().map(|webhook| &webhook.secret);
        let trackers = convex.into_iter().chain(webhook).map(|secret| secret.env.as_str());
        let mut names: Vec<&str> = Vec::new();
        for name in self.secrets.iter().map(String::as_str).chain(headers).chain(trackers) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The entry with prices for a model, if the file has such an entry.
    pub fn entry_with_prices(&self, model: &ModelRef) -> Option<&ModelSettings> {
        self.model_entries(model).find(|entry| entry.input_price.is_some())
    }

    /// The maximum length of a reply to an agent in tokens.
    pub fn reply_limit(&self, agent: &Agent) -> u32 {
        agent.reply_limit(self.defaults.max_output_tokens)
    }

    /// The context window of a model, if the file sets it.
    pub fn context_window(&self, model: &ModelRef) -> Option<u64> {
        self.model_entries(model).find_map(|entry| entry.context_window)
    }

    fn model_entries(&self, model: &ModelRef) -> impl Iterator<Item = &ModelSettings> {
        self.models.values().filter(move |entry| ModelRef::parse(&entry.model).as_ref() == Some(model))
    }
}

/// An alias of a model: `provider/model`, or a mapping with prices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSettings {
    /// The model, as `provider/model`, or as `local:PATH` for a file; empty if the entry names no model.
    pub model: String,
    /// US dollars per million input tokens.
    pub input_price: Option<f64>,
    /// US dollars per million output tokens.
    pub output_price: Option<f64>,
    /// US dollars per million cached input tokens.
    pub cached_input_price: Option<f64>,
    /// The maximum number of tokens of a request together with its reply.
    pub context_window: Option<u64>,
}

impl ModelSettings {
    /// The cost of a call in US dollars from these prices, which are per million tokens; `None` if one of them is
    /// missing.
    pub fn cost(&self, usage: &Usage) -> Option<f64> {
        let (input, output) = (self.input_price?, self.output_price?);
        let cached = self.cached_input_price.unwrap_or(input);
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let cost = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        Some(
            cost(usage.input.saturating_sub(usage.cache_read), input)
                + cost(usage.cache_read, cached)
                + cost(usage.output, output),
        )
    }
}

/// The mapping form of [`ModelSettings`].
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ModelMapping {
    /// The model, as `provider/model`.
    #[schemars(example = &"lab/qwen3-coder", length(min = 1))]
    model: Option<String>,
    /// In place of `model`: the path of a GGUF file that orch runs itself. A relative path starts at the project's
    /// root.
    #[schemars(example = &"models/qwen3-8b.gguf", length(min = 1))]
    gguf: Option<String>,
    /// US dollars per million input tokens.
    #[schemars(example = 0.15, range(min = 0))]
    input_price: Option<f64>,
    /// US dollars per million output tokens.
    #[schemars(example = 0.6, range(min = 0))]
    output_price: Option<f64>,
    /// US dollars per million cached input tokens.
    #[schemars(example = 0.05, range(min = 0))]
    cached_input_price: Option<f64>,
    /// The maximum number of tokens of a request together with its reply; overrides orch's built-in table.
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
        let model = gguf.map(|path| format!("{LOCAL_FILE_PREFIX}{path}")).or(model).unwrap_or_default();
        Ok(Self { model, input_price, output_price, cached_input_price, context_window })
    }
}

impl JsonSchema for ModelSettings {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ModelSettings".into()
    }

    /// A string or a mapping. The schema needs no `anyOf`, because `properties` apply only to a mapping, and the length
    /// only to a string.
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

/// The values to use where an agent or a step sets none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// The model that `auto` selects: `provider/model`, an alias, or `local`.
    #[schemars(example = &"fast", length(min = 1))]
    pub model: Option<String>,
    /// The time limit for one request or command. Default: 10 minutes for a request, no limit for a command.
    #[schemars(example = &"5m")]
    pub timeout: Option<HumanDuration>,
    /// The maximum number of re-asks: how often orch sends an invalid reply back to the agent with its errors.
    /// Default: 2.
    #[schemars(example = 2, range(min = 0, max = 20))]
    pub re_ask: Option<u32>,
    /// The maximum length of a reply in tokens. Default: 4096.
    #[schemars(example = 8192, range(min = 1, max = 1_000_000))]
    pub max_output_tokens: Option<u32>,
}
