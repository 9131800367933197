//! The models of `OpenAI`, and where the rules of its API apply.

use crate::model::http_url::is_openai_url;

/// The name of the provider whose models are `OpenAI`'s, also behind a gateway.
const OPENAI_PROVIDER: &str = "openai";

/// Whether a request must follow the rules of `OpenAI`'s own API, which refuses some options that other servers accept
/// and calls the limit of a reply `max_completion_tokens`. The rules apply to every model at `OpenAI`'s or Azure's
/// address. At any other address of the provider `openai`, such as a gateway to `OpenAI`, they apply to models with the
/// name of an `OpenAI` reasoning model.
pub fn follows_openai_rules(provider: &str, base_url: &str, model: &str) -> bool {
    is_openai_url(base_url) || (provider == OPENAI_PROVIDER && is_openai_reasoning_model(model))
}

/// Whether an `OpenAI` model is a reasoning model, which refuses any temperature except its default while it reasons.
pub fn is_openai_reasoning_model(name: &str) -> bool {
    let name = openai_base_model(name);
    let leading_number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse::<u32>().ok()
    };
    let is_o_series = name.strip_prefix('o').and_then(leading_number).is_some();
    is_o_series
        || name.starts_with("codex-mini")
        || name.strip_prefix("gpt-").and_then(leading_number).is_some_and(|number| number >= 5)
}

/// The base model of a fine-tuned model: `gpt-4.1-mini` for `ft:gpt-4.1-mini:org::id`. Returns other names unchanged.
pub(super) fn openai_base_model(name: &str) -> &str {
    name.strip_prefix("ft:").map_or(name, |name| name.split(':').next().unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_identify_reasoning_models() {
        for name in [
            "gpt-5",
            "gpt-5-mini",
            "gpt-6.1-sol",
            "o1",
            "o4-mini",
            "ft:o4-mini-2025-04-16:org::id",
            "codex-mini-latest",
        ] {
            assert!(is_openai_reasoning_model(name), "{name}");
        }
        for name in ["gpt-4o", "gpt-4.1", "gpt-oss-120b", "omni", "ft:gpt-4.1-mini-2025-04-14:o1::o3", "qwen3", "ft:"] {
            assert!(!is_openai_reasoning_model(name), "{name}");
        }
    }

    #[test]
    fn openai_rules_apply_at_its_addresses_and_elsewhere_to_its_reasoning_models() {
        let gateway = "https://gateway.example/v1";
        for (provider, base_url, model, follows) in [
            ("openai", "https://api.openai.com/v1", "gpt-4.1", true),
            ("lab", "https://api.openai.com/v1", "gpt-4.1", true),
            ("azure", "https://name.openai.azure.us/openai/v1", "my-deployment", true),
            ("openai", gateway, "gpt-5.4", true),
            ("openai", gateway, "o3-mini", true),
            ("openai", gateway, "gpt-4.1", false),
            ("openai", gateway, "qwen3", false),
            ("lab", gateway, "gpt-5.4", false),
        ] {
            assert_eq!(follows_openai_rules(provider, base_url, model), follows, "{provider} {base_url} {model}");
        }
    }
}
