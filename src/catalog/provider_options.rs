//! The members of a request that orch sets itself. `provider_options` can't set them.

use serde_json::{Map, Value};

use crate::model::Dialect;

/// A member that `provider_options` can't set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedOption {
    /// The path of the member, with dots: `generationConfig.topP`.
    pub path: &'static str,
    /// How the user sets the member instead.
    pub help: &'static str,
}

/// The path and the help of a [`ReservedOption`].
type ReservedRow = (&'static str, &'static str);

// The help texts, each named after the subject of the members that it is for.
const MODEL: &str = "`model` of the agent sets it";
const PROMPT: &str = "`prompt` and `message` of the step set it";
const STREAM: &str = "remove it: orch chooses how it receives replies";
const TOOLS: &str = "`tools` of the agent sets it";
const SCHEMA: &str = "`schema` of the step sets it";
const OUTPUT_LIMIT: &str = "`max_output_tokens` of the agent sets it";
const TEMPERATURE: &str = "`temperature` of the agent sets it";
const TOP_P: &str = "`top_p` of the agent sets it";
const SEED: &str = "`seed` of the agent sets it";
const STOP: &str = "`stop` of the agent sets it";
const REASONING: &str = "`reasoning` of the agent sets it";
const CONVERSATION: &str = "remove it: orch sends the whole conversation with each request";
const ONE_REPLY: &str = "remove it: orch reads one reply for each request";

const CHAT_COMPLETIONS: &[ReservedRow] = &[
    ("model", MODEL),
    ("messages", PROMPT),
    ("stream", STREAM),
    ("stream_options", STREAM),
    ("max_tokens", OUTPUT_LIMIT),
    ("max_completion_tokens", OUTPUT_LIMIT),
    ("temperature", TEMPERATURE),
    ("top_p", TOP_P),
    ("seed", SEED),
    ("stop", STOP),
    ("reasoning_effort", REASONING),
    ("response_format", SCHEMA),
    ("tools", TOOLS),
    ("tool_choice", TOOLS),
    ("functions", TOOLS),
    ("function_call", TOOLS),
    ("n", ONE_REPLY),
];

const RESPONSES: &[ReservedRow] = &[
    ("model", MODEL),
    ("instructions", PROMPT),
    ("input", PROMPT),
    ("stream", STREAM),
    ("stream_options", STREAM),
    ("store", CONVERSATION),
    ("include", CONVERSATION),
    ("previous_response_id", CONVERSATION),
    ("conversation", CONVERSATION),
    ("background", STREAM),
    ("prompt", PROMPT),
    ("prompt_cache_key", "remove it: orch sets it from the model and the prompt"),
    ("max_output_tokens", OUTPUT_LIMIT),
    ("temperature", TEMPERATURE),
    ("top_p", TOP_P),
    ("reasoning.effort", REASONING),
    ("text.format", SCHEMA),
    ("tools", TOOLS),
    ("tool_choice", TOOLS),
];

const ANTHROPIC: &[ReservedRow] = &[
    ("model", MODEL),
    ("system", PROMPT),
    ("messages", PROMPT),
    ("stream", STREAM),
    ("max_tokens", OUTPUT_LIMIT),
    ("temperature", TEMPERATURE),
    ("top_p", TOP_P),
    ("stop_sequences", STOP),
    ("thinking", REASONING),
    ("output_config.effort", REASONING),
    ("output_config.format", SCHEMA),
    ("tools", TOOLS),
    ("tool_choice", TOOLS),
];

const GEMINI: &[ReservedRow] = &[
    ("model", MODEL),
    ("systemInstruction", PROMPT),
    ("system_instruction", PROMPT),
    ("contents", PROMPT),
    ("generationConfig.maxOutputTokens", OUTPUT_LIMIT),
    ("generationConfig.temperature", TEMPERATURE),
    ("generationConfig.topP", TOP_P),
    ("generationConfig.seed", SEED),
    ("generationConfig.stopSequences", STOP),
    ("generationConfig.thinkingConfig.thinkingBudget", REASONING),
    ("generationConfig.thinkingConfig.thinkingLevel", REASONING),
    ("generationConfig.responseMimeType", SCHEMA),
    ("generationConfig.responseSchema", SCHEMA),
    ("generationConfig.responseJsonSchema", SCHEMA),
    ("generationConfig.candidateCount", ONE_REPLY),
    ("generation_config", "write `generationConfig`"),
    ("tools", TOOLS),
    ("toolConfig", TOOLS),
    ("tool_config", TOOLS),
];

/// Fields of the Converse API itself, followed by fields of the models.
const CONVERSE: &[ReservedRow] = &[
    ("modelId", MODEL),
    ("system", PROMPT),
    ("messages", PROMPT),
    ("inferenceConfig", "`max_output_tokens`, `temperature`, `top_p` and `stop` of the agent set it"),
    ("outputConfig", SCHEMA),
    ("toolConfig", TOOLS),
    ("additionalModelRequestFields", "write its members directly under `provider_options`"),
    ("max_tokens", OUTPUT_LIMIT),
    ("temperature", TEMPERATURE),
    ("top_p", TOP_P),
    ("stop_sequences", STOP),
    ("thinking", REASONING),
    ("output_config.effort", REASONING),
    ("reasoningConfig", REASONING),
    ("reasoning_effort", REASONING),
];

/// The optional fields of the Converse API itself. orch sends other members of `provider_options` as fields of the
/// model.
const CONVERSE_FIELDS: &[&str] = &[
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
];

/// Whether a member of `provider_options` is an optional field of the Converse API itself, not of a model.
pub fn is_converse_field(name: &str) -> bool {
    CONVERSE_FIELDS.contains(&name)
}

/// The members of `provider_options` that orch sets itself in requests of a dialect.
pub fn reserved_options(dialect: Dialect, options: &Map<String, Value>) -> Vec<ReservedOption> {
    let rows = match dialect {
        Dialect::Anthropic => ANTHROPIC,
        Dialect::OpenAi => CHAT_COMPLETIONS,
        Dialect::Responses => RESPONSES,
        Dialect::Gemini => GEMINI,
        Dialect::Converse => CONVERSE,
    };
    let mut reserved: Vec<ReservedOption> = Vec::new();
    for &(path, help) in rows {
        if let Some(option) = find_reserved(path, help, options)
            && reserved.iter().all(|earlier| earlier.path != option.path)
        {
            reserved.push(option);
        }
    }
    reserved
}

/// Finds the member at a path. If a member on the path must be a mapping and is not, returns that member.
fn find_reserved(path: &'static str, help: &'static str, options: &Map<String, Value>) -> Option<ReservedOption> {
    let mut members = options;
    for (dot_index, _) in path.match_indices('.') {
        let name = path.get(..dot_index)?.rsplit('.').next()?;
        match members.get(name)? {
            Value::Object(inner) => members = inner,
            _ => return Some(ReservedOption { path: path.get(..dot_index)?, help: "write a mapping" }),
        }
    }
    let is_set = members.contains_key(path.rsplit('.').next()?);
    is_set.then_some(ReservedOption { path, help })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    const NO_OPTIONS: [(&str, &str); 0] = [];

    fn reserved(dialect: Dialect, options: &str) -> Vec<(&'static str, &'static str)> {
        let options: Map<String, Value> = serde_json::from_str(options).unwrap();
        reserved_options(dialect, &options).into_iter().map(|reserved| (reserved.path, reserved.help)).collect()
    }

    #[test]
    fn members_that_orch_sets_are_reserved_in_their_dialect() {
        assert_eq!(reserved(Dialect::OpenAi, r#"{"top_k": 40, "chat_template_kwargs": {"model": 1}}"#), NO_OPTIONS);
        assert_eq!(reserved(Dialect::OpenAi, r#"{"max_tokens": 5}"#), [("max_tokens", OUTPUT_LIMIT)]);
        assert_eq!(reserved(Dialect::Responses, r#"{"text": {"verbosity": "low"}, "max_tokens": 5}"#), NO_OPTIONS);
        assert_eq!(reserved(Dialect::Responses, r#"{"text": {"format": {}}}"#), [("text.format", SCHEMA)]);
        assert_eq!(reserved(Dialect::Anthropic, r#"{"top_k": 5, "output_config": {"task_budget": 1}}"#), NO_OPTIONS);
        let nested =
            r#"{"generationConfig": {"topK": 4, "thinkingConfig": {"thinkingBudget": 1, "includeThoughts": true}}}"#;
        assert_eq!(reserved(Dialect::Gemini, nested), [("generationConfig.thinkingConfig.thinkingBudget", REASONING)]);
        assert_eq!(reserved(Dialect::Converse, r#"{"guardrailConfig": {}, "top_k": 5}"#), NO_OPTIONS);
    }

    #[test]
    fn a_member_that_must_be_a_mapping_is_reported_once() {
        assert_eq!(reserved(Dialect::Gemini, r#"{"generationConfig": 5}"#), [("generationConfig", "write a mapping")]);
    }
}
