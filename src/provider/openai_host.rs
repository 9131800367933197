//! Rules that apply only where a server is `OpenAI`'s own, or Azure's with the same models. Other servers that speak
//! the same dialects accept more.

use serde_json::Value;

use super::Endpoint;
use crate::catalog::openai_effort;
use crate::model::Digest;
use crate::model::address::{is_host_within, is_openai_address};
use crate::model::chat::ChatRequest;
use crate::model::options::ReasoningEffort;

/// Whether the endpoint is `OpenAI`'s own, or Azure's with the same models.
pub(super) fn is_openai(endpoint: &Endpoint) -> bool {
    is_openai_address(&endpoint.base_url)
}

/// Whether chat completions accept a `prompt_cache_key`. Many servers refuse a request with a parameter that they don't
/// know; Azure accepts this one only for some of its models.
pub(super) fn accepts_cache_key(endpoint: &Endpoint) -> bool {
    is_host_within(&endpoint.base_url, &["api.openai.com"])
}

/// A short key that all requests of a step share, so that the server finds their common beginning in its cache.
pub(super) fn cache_key(request: &ChatRequest) -> String {
    let digest = Digest::compute(format!("{}\n{}", request.model.model, request.system).as_bytes());
    format!("orch-{}", digest.short())
}

/// The word for an effort of reasoning. Other servers get the word of the agent, since each accepts other ones.
pub(super) fn reasoning_word(endpoint: &Endpoint, model: &str, effort: ReasoningEffort) -> Option<&'static str> {
    if is_openai(endpoint) { openai_effort(model, effort).ok().flatten() } else { Some(effort.as_str()) }
}

/// Whether orch asks for encrypted reasoning. `OpenAI` itself refuses that for models without reasoning; other servers
/// ignore it.
pub(super) fn returns_encrypted_reasoning(endpoint: &Endpoint, model: &str) -> bool {
    !is_openai(endpoint) || (crate::catalog::is_openai_reasoning_model(model) && !model.contains("-chat"))
}

/// Whether orch sends a schema to the endpoint. `OpenAI` itself refuses a schema whose root is not an object; other
/// servers accept it.
pub(super) fn accepts_schema(endpoint: &Endpoint, schema: &Value) -> bool {
    endpoint.structured_output && (!is_openai(endpoint) || schema.get("type").and_then(Value::as_str) == Some("object"))
}
