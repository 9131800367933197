//! What models and their APIs accept in requests with tools.

use super::openai::openai_base_model;
use super::options::ModelApi;
use super::reasoning::ClaudeThinking;
use super::version::{claude_generation, parse_version};
use crate::model::Dialect;

/// Parts of the names of models at Bedrock that accept no tools.
const BEDROCK_WITHOUT_TOOLS: &[&str] = &[
    "amazon.titan",
    "anthropic.claude-instant",
    "anthropic.claude-v2",
    "ai21.j2",
    "ai21.jamba-instruct",
    "cohere.command-light",
    "cohere.command-text",
    "deepseek.r1",
    "meta.llama2",
    "meta.llama3-8b",
    "meta.llama3-70b",
    "meta.llama3-2-1b",
    "meta.llama3-2-3b",
    "mistral.mistral-7b",
    "mistral.mixtral-8x7b",
];

impl ModelApi<'_> {
    /// Whether the model is known to accept no tools through its API. orch does not know all models, so a server may
    /// refuse tools for others too.
    pub fn refuses_tools(&self) -> bool {
        let name = self.model;
        match self.dialect {
            // orch writes the tools into the prompt of a model without a format for them.
            None => false,
            Some(Dialect::Anthropic) => claude_generation(name).is_some_and(|generation| generation < (3, 0)),
            Some(Dialect::OpenAi | Dialect::Responses) => self.is_openai && openai_refuses_tools(name),
            Some(Dialect::Gemini) => ["gemma-", "-tts", "-image", "-embedding"].iter().any(|part| name.contains(part)),
            Some(Dialect::Converse) => BEDROCK_WITHOUT_TOOLS.iter().any(|part| name.contains(part)),
        }
    }
}

/// Whether a model of `OpenAI` accepts no function tools.
fn openai_refuses_tools(name: &str) -> bool {
    let name = openai_base_model(name);
    let prefixes = ["o1-mini", "o1-preview", "chatgpt-", "gpt-5-chat", "gpt-3.5-turbo-instruct"];
    let parts = ["-search-preview", "-search-api", "-deep-research", "-transcribe", "-tts"];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || parts.iter().any(|part| name.contains(part))
}

/// Whether a Claude model accepts a request that forces it to call a tool. It refuses such a request while reasoning is
/// on. From version 5 on, reasoning is on unless the request turns it off.
pub fn claude_accepts_forced_calls(name: &str, thinking: Option<ClaudeThinking>) -> bool {
    match thinking {
        Some(ClaudeThinking::Adaptive(_) | ClaudeThinking::Budget(_)) => false,
        Some(ClaudeThinking::Off(kind)) => kind == "disabled",
        Some(ClaudeThinking::OmitConfig) | None => claude_generation(name).is_none_or(|generation| generation < (5, 0)),
    }
}

/// Whether Bedrock accepts a request that forces a model to call a tool: for Claude from 3, Amazon Nova and Mistral
/// Large.
pub fn bedrock_accepts_forced_calls(name: &str, thinking: Option<ClaudeThinking>) -> bool {
    if name.contains("claude") {
        return claude_accepts_forced_calls(name, thinking);
    }
    ["amazon.nova", "mistral.mistral-large"].iter().any(|part| name.contains(part))
}

/// Whether Bedrock may refuse keywords other than `type`, `properties` and `required` at the root of the schema of a
/// tool. It does so for Amazon Nova. The result is also true for an inference profile whose name does not contain the
/// name of a model, because it may lead to Amazon Nova.
pub fn bedrock_limits_tool_schemas(name: &str) -> bool {
    // The name of a model contains its vendor, as in `amazon.nova-pro-v1:0`.
    let is_opaque = name.starts_with("arn:") && name.rsplit_once('/').is_some_and(|(_, id)| !id.contains('.'));
    name.contains("nova") || is_opaque
}

/// Whether a Gemini model accepts a schema of its reply in a request that also lists tools. Models from version 3 on
/// do.
pub fn gemini_accepts_schema_with_tools(name: &str) -> bool {
    let Some((_, version)) = name.rsplit_once("gemini-") else { return false };
    match parse_version(version) {
        // A name such as `gemini-flash-latest` means the latest version.
        (0, 0) => version.ends_with("-latest"),
        version => version >= (3, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_without_tools_are_known() {
        let api = |dialect, is_openai, model| ModelApi { dialect: Some(dialect), is_openai, model };
        for (dialect, is_openai, model, refuses_tools) in [
            (Dialect::OpenAi, true, "gpt-6.1-sol", false),
            (Dialect::OpenAi, true, "gpt-4o", false),
            (Dialect::OpenAi, true, "gpt-4o-search-preview", true),
            (Dialect::Responses, true, "o4-mini-deep-research", true),
            (Dialect::Responses, true, "gpt-5-chat-latest", true),
            (Dialect::Responses, true, "gpt-5.1-chat-latest", false),
            (Dialect::Responses, true, "ft:gpt-4.1-mini:org::id", false),
            (Dialect::OpenAi, false, "chatgpt-of-the-lab", false),
            (Dialect::Anthropic, false, "claude-2.1", true),
            (Dialect::Anthropic, false, "claude-3-haiku-20240307", false),
            (Dialect::Anthropic, false, "claude-sonnet-5-5", false),
            (Dialect::Anthropic, false, "kimi-k2", false),
            (Dialect::Gemini, false, "gemini-3.8-flash", false),
            (Dialect::Gemini, false, "gemma-3-27b-it", true),
            (Dialect::Gemini, false, "gemini-2.5-flash-image", true),
            (Dialect::Converse, false, "us.meta.llama3-1-8b-instruct-v1:0", false),
            (Dialect::Converse, false, "meta.llama3-8b-instruct-v1:0", true),
            (Dialect::Converse, false, "us.deepseek.r1-v1:0", true),
            (Dialect::Converse, false, "amazon.nova-pro-v1:0", false),
        ] {
            assert_eq!(api(dialect, is_openai, model).refuses_tools(), refuses_tools, "{dialect} {model}");
        }
        assert!(!ModelApi::embedded("smollm2-135m").refuses_tools());
    }

    #[test]
    fn a_model_that_reasons_can_not_be_forced_to_call_a_tool() {
        for (model, thinking, accepts) in [
            ("claude-sonnet-4-5", None, true),
            ("claude-sonnet-4-5", Some(ClaudeThinking::OmitConfig), true),
            ("claude-sonnet-4-5", Some(ClaudeThinking::Budget(1024)), false),
            ("claude-opus-4-6", Some(ClaudeThinking::Adaptive("low")), false),
            ("claude-sonnet-5", None, false),
            ("claude-sonnet-5", Some(ClaudeThinking::Off("disabled")), true),
            ("claude-sonnet-5-5", Some(ClaudeThinking::Off("between_tools")), false),
        ] {
            assert_eq!(claude_accepts_forced_calls(model, thinking), accepts, "{model} {thinking:?}");
            let name = format!("eu.anthropic.{model}-v1:0");
            assert_eq!(bedrock_accepts_forced_calls(&name, thinking), accepts, "{name}");
        }
        assert!(claude_accepts_forced_calls("kimi-k2", None));
        assert!(bedrock_accepts_forced_calls("amazon.nova-pro-v1:0", None));
        assert!(!bedrock_accepts_forced_calls("meta.llama3-1-8b-instruct-v1:0", None));
    }

    #[test]
    fn the_schemas_of_tools_are_limited_for_nova_and_for_models_without_a_name() {
        let arn = "arn:aws:bedrock:eu-central-1:123456789012:";
        for (model, is_limited) in [
            ("amazon.nova-pro-v1:0".to_owned(), true),
            ("eu.amazon.nova-2-lite-v1:0".to_owned(), true),
            (format!("{arn}custom-model/amazon.nova-lite-v1:0:300k/a1b2"), true),
            (format!("{arn}application-inference-profile/a1b2"), true),
            (format!("{arn}inference-profile/eu.anthropic.claude-haiku-4-5-v1:0"), false),
            ("anthropic.claude-sonnet-5".to_owned(), false),
            ("mistral.mistral-large-2402-v1:0".to_owned(), false),
        ] {
            assert_eq!(bedrock_limits_tool_schemas(&model), is_limited, "{model}");
        }
    }

    #[test]
    fn only_later_gemini_models_accept_a_schema_with_tools() {
        for (model, accepts) in [
            ("gemini-2.5-flash", false),
            ("gemini-3-pro-preview", true),
            ("models/gemini-3.8-flash", true),
            ("gemini-flash-latest", true),
            ("gemini-1.5-pro-latest", false),
            ("some-model", false),
        ] {
            assert_eq!(gemini_accepts_schema_with_tools(model), accepts, "{model}");
        }
    }
}
