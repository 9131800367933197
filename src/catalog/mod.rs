//! Known facts about models: prices, context windows, and the options that a model or its API does not accept.
//!
//! `models.json` holds list prices in US dollars per million tokens and context windows in tokens, by provider and
//! model. For a model that it does not list, both are unknown; orch does not guess them.

mod entry;
mod misspelling;
mod openai;
mod options;
mod provider_options;
mod reasoning;
mod refused_values;
mod tools;
mod version;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::model::{Digest, ModelRef, Usage};

use entry::CatalogEntry;
use version::{claude_generation, claude_version, parse_version};

pub use misspelling::{IntendedModel, misspelt_model};
pub use openai::{follows_openai_rules, is_openai_reasoning_model};
pub use options::{MIN_TOP_P_WITH_REASONING, ModelApi, RequestedOptions, UnsentOption, UnsentReason};
pub use provider_options::{ReservedOption, is_converse_field, reserved_options};
pub use reasoning::{
    BedrockReasoning, ClaudeThinking, GeminiThinking, MIN_CLAUDE_BUDGET, ReasoningRefusal, bedrock_reasoning,
    claude_thinking, gemini_thinking, openai_effort,
};
pub use refused_values::RefusedValue;
pub use tools::{
    bedrock_accepts_forced_calls, bedrock_limits_tool_schemas, claude_accepts_forced_calls,
    gemini_accepts_schema_with_tools,
};

/// Providers that run on the user's own machine.
const FREE_PROVIDERS: &[&str] = &["local", "ollama", "lmstudio", "llamacpp", "vllm"];

/// The providers in the table. orch parses the table only for models of these providers.
const LISTED_PROVIDERS: &[&str] = &["anthropic", "gemini", "openai", "openrouter"];

/// The table of models, as JSON.
const TABLE: &str = include_str!("models.json");

type CatalogTable = HashMap<String, HashMap<String, CatalogEntry>>;

fn catalog_table() -> &'static CatalogTable {
    static PARSED: OnceLock<CatalogTable> = OnceLock::new();
    // A unit test checks that the file can be parsed, so the default never applies.
    PARSED.get_or_init(|| serde_json::from_str(TABLE).unwrap_or_default())
}

/// The version of the table: a digest of its content.
pub fn table_version() -> Digest {
    Digest::compute(TABLE.as_bytes())
}

fn catalog_entry(model: &ModelRef) -> Option<CatalogEntry> {
    if !LISTED_PROVIDERS.contains(&model.provider.as_str()) {
        return None;
    }
    let models = catalog_table().get(&model.provider)?;
    let name = model.model.strip_prefix("models/").unwrap_or(&model.model);
    // The longest name takes precedence: `gpt-5-mini` before `gpt-5`.
    let matches = models.iter().filter(|(listed_name, _)| is_version_of(listed_name, name));
    let (_, entry) = matches.max_by_key(|(listed_name, _)| listed_name.len())?;
    Some(*entry)
}

/// The cost of the usage in US dollars; `None` if the model's price is unknown.
///
/// Models that run on the user's own machine cost nothing.
pub fn cost(model: &ModelRef, usage: &Usage) -> Option<f64> {
    if FREE_PROVIDERS.contains(&model.provider.as_str()) {
        return Some(0.0);
    }
    catalog_entry(model).map(|entry| entry.cost(usage))
}

/// The maximum number of tokens in a request and its reply together; `None` if it is unknown.
pub fn context_window(model: &ModelRef) -> Option<u64> {
    match (model.provider.as_str(), model.model.as_str()) {
        // The embedded engine supports at most this many positions for any model.
        ("local", "qwen2.5-coder-1.5b" | "smollm2-135m" | "qwen3-4b" | "qwen3-8b") => Some(8_192),
        ("local", "qwen2.5-coder-7b" | "qwen2.5-coder-14b") => Some(8_192),
        (_, _) => catalog_entry(model)?.context_window,
    }
}

/// Whether a Claude model has a fixed temperature and refuses requests that set one: Opus from 4.7 on, and every
/// family from 5 on.
pub fn claude_has_fixed_temperature(name: &str) -> bool {
    claude_version(name).is_some_and(|(family, version)| version >= (5, 0) || (family == "opus" && version >= (4, 7)))
}

/// Whether Anthropic's Messages API accepts a schema for a model. Claude models before 4.5 refuse it. orch does not know
/// the other models at servers with this dialect, so it sends them a schema.
pub fn anthropic_accepts_schema(name: &str) -> bool {
    claude_generation(name).is_none_or(|generation| generation >= (4, 5))
}

/// Whether Bedrock's Converse API is known to accept a schema for a model. Bedrock refuses a schema for most other
/// models, such as Claude Opus from 4.7, Sonnet 5 and, in some regions, Haiku 4.5.
pub fn bedrock_accepts_schema(name: &str) -> bool {
    matches!(claude_version(name), Some(("sonnet", (4, 5)) | ("opus", (4, 5 | 6))))
}

/// Whether Amazon Bedrock accepts cache points for a model: Claude from 4 on, Sonnet 3.7 and Haiku 3.5. For most other
/// models, Bedrock refuses requests that contain a cache point. The result is also false for an inference profile whose
/// name does not contain the model's name.
pub fn bedrock_accepts_cache_points(name: &str) -> bool {
    let earlier_models = ["claude-3-7-sonnet", "claude-3-5-haiku"];
    claude_version(name).is_some_and(|(_, version)| version >= (4, 0))
        || earlier_models.iter().any(|model| name.contains(model))
}

/// Whether a Gemini model has a fixed temperature: from 3.6 on, and the lite models of 3.5. These models ignore any
/// other temperature, and Google has announced that future models will refuse it.
pub fn gemini_has_fixed_temperature(name: &str) -> bool {
    let Some((_, name)) = name.rsplit_once("gemini-") else { return false };
    let version = parse_version(name);
    version >= (3, 6) || (version == (3, 5) && name.contains("lite"))
}

/// Whether `name` is the listed model, or a dated, numbered, `latest` or `preview` version of it.
fn is_version_of(listed_name: &str, name: &str) -> bool {
    let Some(suffix) = name.strip_prefix(listed_name) else {
        return false;
    };
    suffix.strip_prefix(['-', '@']).map_or(suffix.is_empty(), is_version)
}

/// Whether the end of a name, after a `-` or `@`, only identifies a version of a model.
fn is_version(version: &str) -> bool {
    // `-5` after `claude-opus-5` is another model; `-20250929` is a version of the same model.
    let digits = version.chars().filter(char::is_ascii_digit).count();
    let is_dated = digits >= 6 && version.chars().all(|c| c.is_ascii_digit() || c == '-');
    let is_numbered = version.len() == 3 && digits == 3;
    is_dated || is_numbered || version == "latest" || version == "preview"
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    fn cost_of(model: &str, usage: Usage) -> Option<f64> {
        cost(&ModelRef::parse(model).unwrap(), &usage)
    }

    const MILLION_TOKENS: Usage =
        Usage { input: 1_000_000, cache_read: 0, cache_write: 0, output: 1_000_000, reasoning: 500_000 };

    #[test]
    fn the_table_can_be_parsed_and_has_plausible_prices() {
        let table: CatalogTable = serde_json::from_str(include_str!("models.json")).unwrap();
        let mut providers: Vec<&str> = table.keys().map(String::as_str).collect();
        providers.sort_unstable();
        assert_eq!(providers, LISTED_PROVIDERS);
        for (provider, models) in &table {
            assert!(models.len() > 10, "{provider}");
            for (model, entry) in models {
                assert!(entry.input >= 0.0 && entry.output >= entry.input * 0.5, "{provider}/{model}");
            }
        }
    }

    #[test]
    fn context_windows_of_listed_and_embedded_models_are_known() {
        let window_of = |name: &str| context_window(&ModelRef::parse(name).unwrap());
        assert_eq!(window_of("openai/gpt-4"), Some(8192));
        assert_eq!(window_of("anthropic/claude-sonnet-4-5-20250929"), Some(200_000));
        assert_eq!(window_of("local/smollm2-135m"), Some(8192));
        assert_eq!((window_of("ollama/qwen3:8b"), window_of("openai/gpt-99")), (None, None));
        assert!(
            catalog_table()
                .values()
                .flat_map(HashMap::values)
                .filter_map(|entry| entry.context_window)
                .all(|window| window > 2000)
        );
    }

    #[test]
    fn names_identify_models_with_a_fixed_temperature() {
        for name in
            ["claude-opus-4-7", "claude-opus-4.8", "claude-sonnet-5-5", "claude-haiku-5-5-20261001", "claude-fable-5"]
        {
            assert!(
                claude_has_fixed_temperature(name) && claude_has_fixed_temperature(&format!("anthropic/{name}")),
                "{name}"
            );
        }
        for name in
            ["claude-opus-4-6", "claude-opus-4-20250514", "claude-sonnet-4-6", "claude-3-5-sonnet", "other", "claude-"]
        {
            assert!(!claude_has_fixed_temperature(name), "{name}");
        }
        let arn = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-haiku-4-5-v1:0";
        for name in ["anthropic.claude-opus-4-1-20250805-v1:0", "us.anthropic.claude-3-7-sonnet-20250219-v1:0", arn] {
            assert!(bedrock_accepts_cache_points(name), "{name}");
        }
        let opaque_arn = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2";
        for name in
            ["amazon.nova-pro-v1:0", "anthropic.claude-3-5-sonnet-v2:0", "anthropic.claude-instant-v1", opaque_arn]
        {
            assert!(!bedrock_accepts_cache_points(name), "{name}");
        }
        for name in ["gemini-3.6-flash", "gemini-3.5-flash-lite", "models/gemini-4-argon", "gemini-10-x"] {
            assert!(gemini_has_fixed_temperature(name), "{name}");
        }
        for name in ["gemini-2.5-pro", "gemini-3.5-flash", "gemini-3-pro-preview", "gemini-flash-latest", "gemma-3"] {
            assert!(!gemini_has_fixed_temperature(name), "{name}");
        }
    }

    #[test]
    fn names_identify_models_that_accept_a_schema() {
        for (name, at_anthropic, at_bedrock) in [
            ("claude-3-5-haiku-latest", false, false),
            ("claude-3-7-sonnet-20250219", false, false),
            ("claude-sonnet-4-20250514", false, false),
            ("claude-opus-4-1-20250805-v1:0", false, false),
            ("claude-haiku-4-5-20251001-v1:0", true, false),
            ("claude-sonnet-4-5-20250929-v1:0", true, true),
            ("claude-sonnet-4-5@20250929", true, true),
            ("claude-opus-4-5-20251101-v1:0", true, true),
            ("claude-opus-4-6-v1", true, true),
            ("claude-sonnet-4-6", true, false),
            ("claude-opus-4-7", true, false),
            ("claude-opus-4-8", true, false),
            ("claude-sonnet-5", true, false),
            ("claude-opus-5-v1:0", true, false),
            ("claude-mythos-preview", true, false),
            ("claude-latest", true, false),
            ("some-model", true, false),
        ] {
            assert_eq!(anthropic_accepts_schema(name), at_anthropic, "{name}");
            for prefix in ["anthropic.", "us.anthropic."] {
                assert_eq!(bedrock_accepts_schema(&format!("{prefix}{name}")), at_bedrock, "{name}");
            }
        }
        for name in ["amazon.nova-pro-v1:0", "openai.gpt-oss-120b-1:0"] {
            assert!(!bedrock_accepts_schema(name), "{name}");
        }
    }

    #[test]
    fn cached_tokens_have_their_own_price() {
        let usage = Usage { cache_read: 400_000, cache_write: 100_000, ..MILLION_TOKENS };
        // 0.5 M at 5, 0.4 M at 0.5, 0.1 M at 6.25, 1 M out at 25; reasoning is part of the output.
        let cost = cost_of("anthropic/claude-opus-4-5", usage).unwrap();
        assert!((cost - (2.5 + 0.2 + 0.625 + 25.0)).abs() < 1e-9, "{cost}");
    }

    #[test]
    fn long_prompts_have_other_prices() {
        let short = Usage { input: 100_000, ..Usage::default() };
        let long = Usage { input: 300_000, ..Usage::default() };
        let gemini_cost = |usage| cost_of("gemini/gemini-2.5-pro", usage).unwrap();
        assert!((gemini_cost(short) - 0.125).abs() < 1e-9);
        assert!((gemini_cost(long) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn dated_versions_have_the_price_of_their_model_and_unlisted_models_have_none() {
        for version in ["claude-opus-4-5-20251101", "claude-opus-4-5@20251101", "claude-opus-4-5-latest"] {
            assert_eq!(
                cost_of(&format!("anthropic/{version}"), MILLION_TOKENS),
                cost_of("anthropic/claude-opus-4-5", MILLION_TOKENS)
            );
        }
        assert_ne!(cost_of("openai/gpt-4o-mini", MILLION_TOKENS), cost_of("openai/gpt-4o", MILLION_TOKENS));
        assert_eq!(cost_of("openai/gpt-4o-2099-01-01", MILLION_TOKENS), cost_of("openai/gpt-4o", MILLION_TOKENS));
        for unknown in ["anthropic/claude-opus-5-99", "openai/gpt-99", "lab/qwen", "openai/gpt-4o-nonsense"] {
            assert_eq!(cost_of(unknown, MILLION_TOKENS), None, "{unknown}");
        }
    }

    #[test]
    fn models_on_the_users_machine_cost_nothing() {
        for model in ["local/smollm2-135m", "ollama/qwen3:8b", "lmstudio/x", "llamacpp/x", "vllm/org/x"] {
            assert_eq!(cost_of(model, MILLION_TOKENS), Some(0.0), "{model}");
        }
    }
}
