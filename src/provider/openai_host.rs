//! Rules that apply only to `OpenAI`'s own server, to Azure's with the same models, and to gateways in front of them.
//! Other servers with the same dialects have fewer restrictions.

use serde_json::Value;

use super::Endpoint;
use crate::catalog::{follows_openai_rules, openai_effort};
use crate::model::Digest;
use crate::model::chat::ChatRequest;
use crate::model::http_url::is_host_within;
use crate::model::options::ReasoningEffort;

/// Whether the rules of `OpenAI`'s own API apply to a model of the endpoint.
pub(super) fn is_openai(endpoint: &Endpoint, model: &str) -> bool {
    follows_openai_rules(&endpoint.name, &endpoint.base_url, model)
}

/// Whether chat completions accept a `prompt_cache_key`. Many servers refuse a request with a parameter that they don't
/// know; Azure accepts this one only for some of its models.
pub(super) fn accepts_cache_key(endpoint: &Endpoint) -> bool {
    is_host_within(&endpoint.base_url, &["api.openai.com"])
}

/// A short key that is the same for all requests of a step, so that the server finds their common prefix in its cache.
pub(super) fn cache_key(request: &ChatRequest) -> String {
    let digest = Digest::compute(format!("{}\n{}", request.model.model, request.system).as_bytes());
    format!("orch-{}", digest.short())
}

/// The reasoning effort to send. Other servers receive the agent's effort unchanged, because orch does not know which
/// efforts each of them accepts.
pub(super) fn effort_to_send(endpoint: &Endpoint, model: &str, effort: ReasoningEffort) -> Option<&'static str> {
    if is_openai(endpoint, model) { openai_effort(model, effort).ok().flatten() } else { Some(effort.as_str()) }
}

/// Whether orch requests encrypted reasoning. `OpenAI` refuses the request if the model does not reason, while other
/// servers ignore the parameter.
pub(super) fn requests_encrypted_reasoning(endpoint: &Endpoint, model: &str) -> bool {
    !is_openai(endpoint, model) || (crate::catalog::is_openai_reasoning_model(model) && !model.contains("-chat"))
}

/// Whether orch sends a schema to a model of the endpoint. `OpenAI` itself refuses a schema whose root is not an object;
/// other servers accept it.
pub(super) fn accepts_schema(endpoint: &Endpoint, model: &str, schema: &Value) -> bool {
    endpoint.structured_output
        && (!is_openai(endpoint, model) || schema.get("type").and_then(Value::as_str) == Some("object"))
}
