//! `orch.yaml`: providers, model aliases and defaults of a project.

use std::path::Path;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Code, Diagnostic};
use crate::model::pipeline::Span;

use super::{file, shape, yaml};

/// What `orch.yaml` says; every key is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Model servers by name, beside the built-in ones.
    pub providers: IndexMap<String, ProviderEntry>,
    /// Names for models: `fast: lab/qwen3-coder`.
    pub models: IndexMap<String, ModelEntry>,
    /// What agents and steps that say nothing themselves get.
    pub defaults: Defaults,
}

/// A model server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    /// The protocol that it speaks.
    pub dialect: DialectName,
    /// Where it is, such as `http://127.0.0.1:8000/v1`.
    #[schemars(length(min = 1))]
    pub base_url: String,
    /// Where its key comes from; servers without keys leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey>,
    /// Whether it is asked to hold its replies to the schema (true); the prompt shows the schema anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_output: Option<bool>,
    /// Further headers of every request; never put a key here.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, String>,
}

/// The protocols that orch speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DialectName {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI-compatible chat completions.
    Openai,
    /// Gemini's `generateContent`.
    Gemini,
}

impl DialectName {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::Gemini => "gemini",
        }
    }
}

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The environment variable that holds it.
    #[schemars(length(min = 1))]
    pub env: String,
}

/// What a model's name stands for: `provider/model`.
pub type ModelEntry = String;

/// What agents and steps that say nothing themselves get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// What `model: auto` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How long one request may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How often a reply that does not validate is sent back with its errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub re_ask: Option<u32>,
    /// Upper bound of a reply in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_output_tokens: Option<u32>,
}

/// Reads the `orch.yaml` of a root; the defaults when there is none.
pub fn load_settings(root: &Path, shown: &Path) -> Result<Settings, Vec<Diagnostic>> {
    let path = root.join("orch.yaml");
    if !path.exists() {
        return Ok(Settings::default());
    }
    let source = file::read(&path, shown)?;
    if source.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Settings::default());
    }
    let document = yaml::parse(&source)?;
    let settings: Settings = shape::read(&document, &shape::settings_schema())?;
    let findings = addresses(&settings, &document);
    if findings.is_empty() { Ok(settings) } else { Err(findings) }
}

/// Addresses and headers that no request could be sent with.
fn addresses(settings: &Settings, document: &yaml::Document) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut find = |message: String, pointer: String, help: &str| {
        let span = document.value_span(&pointer);
        findings.push(Diagnostic::new(Code::WrongValue, message, &document.source, span).help(help));
    };
    for (name, provider) in &settings.providers {
        let url = provider.base_url.trim();
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        if host.is_empty() || url.contains(char::is_whitespace) {
            let pointer = format!("/providers/{name}/base_url");
            find(format!("`{url}` is no address"), pointer, "write it out, such as `http://127.0.0.1:8000/v1`");
        }
        for header in provider.headers.keys() {
            if header.is_empty()
                || !header.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&b))
            {
                let pointer = format!("/providers/{name}/headers");
                find(
                    format!("`{header}` is no name of a header"),
                    pointer,
                    "header names have letters, digits and `-`",
                );
            }
        }
    }
    findings
}
