//! Rules that apply only where a server is `OpenAI`'s own, or Azure's with the same models. Other servers that speak
//! the same dialects accept more.

use serde_json::Value;

use super::{Endpoint, client};
use crate::model::Digest;
use crate::model::chat::ChatRequest;

/// The domain of `OpenAI`'s own address.
const OPENAI_DOMAIN: &str = "api.openai.com";

/// Whether the endpoint is `OpenAI`'s own, or Azure's with the same models.
pub(super) fn is_openai(endpoint: &Endpoint) -> bool {
    // Azure runs the same models and refuses the same parameters.
    is_within(&endpoint.base_url, &[OPENAI_DOMAIN, "openai.azure.com", "cognitiveservices.azure.com"])
}

/// Whether chat completions accept a `prompt_cache_key`. Many servers refuse a request with a parameter that they don't
/// know; Azure accepts this one only for some of its models.
pub(super) fn accepts_cache_key(endpoint: &Endpoint) -> bool {
    is_within(&endpoint.base_url, &[OPENAI_DOMAIN])
}

/// A short key that all requests of a step share, so that the server finds their common beginning in its cache.
pub(super) fn cache_key(request: &ChatRequest) -> String {
    let digest = Digest::compute(format!("{}\n{}", request.model.model, request.system).as_bytes());
    format!("orch-{}", digest.short())
}

/// Whether the host of an address is one of these domains, or a subdomain of one.
pub(super) fn is_within(url: &str, domains: &[&str]) -> bool {
    client::url_host(url).is_some_and(|host| {
        domains.iter().any(|domain| host == *domain || host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.')))
    })
}

/// Whether the model is one of `OpenAI`'s own reasoning models, which refuse any temperature except their own.
pub(super) fn is_reasoning_model(endpoint: &Endpoint, model: &str) -> bool {
    is_openai(endpoint) && crate::catalog::is_openai_reasoning_model(model)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Dialect;

    #[test]
    fn only_openai_itself_has_reasoning_models() {
        let endpoint = |url: &str| Endpoint::new("openai", Dialect::OpenAi, url);
        let official = endpoint("https://api.openai.com/v1");
        for model in ["gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-6-sol", "o1", "o3-mini", "o4-mini"] {
            assert!(is_reasoning_model(&official, model), "{model}");
        }
        for model in ["gpt-4o", "gpt-4.1", "omni", "chatgpt-4o-latest"] {
            assert!(!is_reasoning_model(&official, model), "{model}");
        }
        assert!(is_openai(&endpoint("https://name.openai.azure.com/openai/v1")));
        assert!(!is_openai(&endpoint("https://evilopenai.azure.com/v1")));
        assert!(!is_reasoning_model(&endpoint("http://127.0.0.1:1/v1"), "gpt-5"));
    }
}
