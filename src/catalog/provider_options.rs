//! The members of a request that orch sets itself. `provider_options` can't set them.

use serde_json::{Map, Value};

use crate::model::{Dialect, ModelOptions};

/// A member that `provider_options` can't set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedOption {
    /// The names that lead to the member, as the user wrote them.
    pub names: Vec<String>,
    /// How the user sets the member instead.
    pub help: String,
}

impl ReservedOption {
    /// The path of the member, with dots: `generationConfig.topP`.
    pub fn path(&self) -> String {
        self.names.join(".")
    }
}

/// The path and the help of a [`ReservedOption`].
type ReservedRow = (&'static str, &'static str);

// The help texts, each named after the subject of the members that it is for.
const MODEL: &str = "`model` of the agent sets it";
const PROMPT: &str = "`prompt` and `message` of the step set it";
const STREAM: &str = "remove it: orch chooses how it receives replies";
const TOOLS: &str = "`tools` of the agent sets it";
const TOOL_CHOICE: &str = "`tool_choice` of the agent sets it";
const SCHEMA: &str = "`schema` of the step sets it";
const OUTPUT_LIMIT: &str = "`max_output_tokens` of the agent sets it";
const TEMPERATURE: &str = "`temperature` of the agent sets it";
const TOP_P: &str = "`top_p` of the agent sets it";
const SEED: &str = "`seed` of the agent sets it";
const STOP: &str = "`stop` of the agent sets it";
const REASONING: &str = "`reasoning` of the agent sets it";
const CONVERSATION: &str = "remove it: orch sends the whole conversation with each request";
const INCLUDE: &str = "remove it: orch requests the encrypted reasoning, and reads nothing else that `include` adds";
const SECOND_REASONING: &str = "remove it or `reasoning` of the agent: both set the reasoning";
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
    ("tool_choice", TOOL_CHOICE),
    ("functions", TOOLS),
    ("function_call", TOOL_CHOICE),
    ("n", ONE_REPLY),
    ("store", CONVERSATION),
];

const RESPONSES: &[ReservedRow] = &[
    ("model", MODEL),
    ("instructions", PROMPT),
    ("input", PROMPT),
    ("stream", STREAM),
    ("stream_options", STREAM),
    ("store", CONVERSATION),
    ("include", INCLUDE),
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
    ("tool_choice", TOOL_CHOICE),
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
    ("tool_choice", TOOL_CHOICE),
];

const GEMINI: &[ReservedRow] = &[
    ("model", MODEL),
    ("systemInstruction", PROMPT),
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
    ("tools", TOOLS),
    ("toolConfig", TOOLS),
];

/// Fields of the Converse API itself, followed by fields of the models.
const CONVERSE: &[ReservedRow] = &[
    ("modelId", MODEL),
    ("system", PROMPT),
    ("messages", PROMPT),
    ("inferenceConfig", "`max_output_tokens`, `temperature`, `top_p` and `stop` of the agent set it"),
    ("outputConfig", SCHEMA),
    ("toolConfig", TOOLS),
    ("additionalModelRequestFields", "write its fields directly under `provider_options`"),
    ("max_tokens", OUTPUT_LIMIT),
    ("temperature", TEMPERATURE),
    ("top_p", TOP_P),
    ("stop_sequences", STOP),
    ("thinking", REASONING),
    ("output_config.effort", REASONING),
    ("reasoningConfig", REASONING),
    ("reasoning_effort", REASONING),
];

/// Members with which servers set the reasoning, in any dialect. They are reserved only if the agent has `reasoning`.
const REASONING_MEMBERS: &[ReservedRow] = &[
    ("reasoning.effort", SECOND_REASONING),
    ("reasoning.max_tokens", SECOND_REASONING),
    ("reasoning.enabled", SECOND_REASONING),
    ("reasoning_effort", SECOND_REASONING),
    ("reasoning_config", SECOND_REASONING),
    ("thinking", SECOND_REASONING),
    ("thinkingConfig", SECOND_REASONING),
    ("thinking_config", SECOND_REASONING),
    ("thinking_budget", SECOND_REASONING),
    ("enable_thinking", SECOND_REASONING),
];

/// The optional fields of the Converse API itself. orch sends other fields of `provider_options` as fields of the
/// model.
const CONVERSE_FIELDS: &[&str] = &[
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
];

/// Whether a field of `provider_options` is an optional field of the Converse API itself, not of a model.
pub fn is_converse_field(name: &str) -> bool {
    CONVERSE_FIELDS.contains(&name)
}

/// The fields of `provider_options` that orch sets itself in requests of a dialect. Compares names as servers do, or
/// more loosely: a member in another spelling would be either a second value or a mistake.
pub fn reserved_options(dialect: Dialect, options: &ModelOptions) -> Vec<ReservedOption> {
    let rows = match dialect {
        Dialect::Anthropic => ANTHROPIC,
        Dialect::OpenAi => CHAT_COMPLETIONS,
        Dialect::Responses => RESPONSES,
        Dialect::Gemini => GEMINI,
        Dialect::Converse => CONVERSE,
    };
    let reasoning_rows = if options.reasoning.is_some() { REASONING_MEMBERS } else { &[] };
    let mut search = ReservedSearch { dialect, found: Vec::new() };
    for &(path, help) in rows.iter().chain(reasoning_rows) {
        search.visit(path, help, &options.provider_options, &[]);
    }
    search.found
}

/// A search for reserved members.
struct ReservedSearch {
    dialect: Dialect,
    found: Vec<ReservedOption>,
}

impl ReservedSearch {
    /// Finds the members at a path, in every spelling. `parents` are the names that lead to these members.
    fn visit(&mut self, path: &str, help: &str, members: &Map<String, Value>, parents: &[&str]) {
        let (name, remaining_path) = match path.split_once('.') {
            Some((name, remaining_path)) => (name, Some(remaining_path)),
            None => (path, None),
        };
        for (written_name, value) in members {
            if !is_same_name(self.dialect, written_name, name) {
                continue;
            }
            let names: Vec<&str> = parents.iter().copied().chain([written_name.as_str()]).collect();
            match (remaining_path, value) {
                (None, _) => self.add(&names, help),
                // orch could not merge this mapping with its own.
                (Some(_), _) if written_name != name => self.add(&names, &format!("write `{name}`")),
                (Some(remaining_path), Value::Object(inner)) => self.visit(remaining_path, help, inner, &names),
                (Some(_), _) => self.add(&names, "write a mapping"),
            }
        }
    }

    fn add(&mut self, names: &[&str], help: &str) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        if self.found.iter().all(|reserved| reserved.names != names) {
            self.found.push(ReservedOption { names, help: help.to_owned() });
        }
    }
}

/// Whether a server could take two names for the same one. Gemini accepts names in camel case and in snake case.
fn is_same_name(dialect: Dialect, written_name: &str, name: &str) -> bool {
    let normalized = |name: &str| -> String {
        let significant = name.trim().chars().filter(|c| dialect != Dialect::Gemini || *c != '_');
        significant.map(|c| c.to_ascii_lowercase()).collect()
    };
    normalized(written_name) == normalized(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;
    use crate::model::ReasoningEffort;

    const NO_OPTIONS: [(&str, &str); 0] = [];

    /// The path and the help of each reserved member of an agent, with or without `reasoning`.
    fn reserved_with(dialect: Dialect, reasoning: Option<ReasoningEffort>, options: &str) -> Vec<(String, String)> {
        let provider_options: Map<String, Value> = serde_json::from_str(options).unwrap();
        let options = ModelOptions { reasoning, provider_options, ..ModelOptions::default() };
        reserved_options(dialect, &options).into_iter().map(|reserved| (reserved.path(), reserved.help)).collect()
    }

    fn assert_reserved(dialect: Dialect, options: &str, expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(path, help)| ((*path).to_owned(), (*help).to_owned())).collect();
        assert_eq!(reserved_with(dialect, None, options), expected, "{dialect} {options}");
    }

    #[test]
    fn members_that_orch_sets_are_reserved_in_their_dialect() {
        use Dialect::{Anthropic, Converse, Gemini, OpenAi, Responses};
        assert_reserved(OpenAi, r#"{"top_k": 40, "chat_template_kwargs": {"model": 1}}"#, &NO_OPTIONS);
        assert_reserved(OpenAi, r#"{"max_tokens": 5}"#, &[("max_tokens", OUTPUT_LIMIT)]);
        assert_reserved(OpenAi, r#"{"store": true}"#, &[("store", CONVERSATION)]);
        assert_reserved(Responses, r#"{"text": {"verbosity": "low"}, "max_tokens": 5}"#, &NO_OPTIONS);
        assert_reserved(Responses, r#"{"text": {"format": {}}}"#, &[("text.format", SCHEMA)]);
        assert_reserved(Responses, r#"{"include": []}"#, &[("include", INCLUDE)]);
        assert_reserved(Anthropic, r#"{"top_k": 5, "output_config": {"task_budget": 1}}"#, &NO_OPTIONS);
        let nested =
            r#"{"generationConfig": {"topK": 4, "thinkingConfig": {"thinkingBudget": 1, "includeThoughts": true}}}"#;
        assert_reserved(Gemini, nested, &[("generationConfig.thinkingConfig.thinkingBudget", REASONING)]);
        assert_reserved(Converse, r#"{"guardrailConfig": {}, "top_k": 5}"#, &NO_OPTIONS);
        for dialect in [OpenAi, Responses, Anthropic, Gemini] {
            assert_reserved(dialect, r#"{"tools": []}"#, &[("tools", TOOLS)]);
        }
    }

    #[test]
    fn gemini_options_in_snake_case_are_reserved_too() {
        let gemini = |options: &str, expected: &[(&str, &str)]| assert_reserved(Dialect::Gemini, options, expected);
        for (name, help) in [
            ("max_output_tokens", OUTPUT_LIMIT),
            ("candidate_count", ONE_REPLY),
            ("response_schema", SCHEMA),
            ("response_json_schema", SCHEMA),
            ("response_mime_type", SCHEMA),
            ("stop_sequences", STOP),
            ("top_p", TOP_P),
            ("TopP", TOP_P),
        ] {
            let path = format!("generationConfig.{name}");
            gemini(&format!(r#"{{"generationConfig": {{"{name}": 1}}}}"#), &[(path.as_str(), help)]);
        }
        gemini(
            r#"{"system_instruction": {}, "tool_config": {}}"#,
            &[("system_instruction", PROMPT), ("tool_config", TOOLS)],
        );
        gemini(r#"{"generation_config": {"topK": 4}}"#, &[("generation_config", "write `generationConfig`")]);
        let thinking = r#"{"generationConfig": {"thinking_config": {"include_thoughts": true}}}"#;
        gemini(thinking, &[("generationConfig.thinking_config", "write `thinkingConfig`")]);
        let level = r#"{"generationConfig": {"thinkingConfig": {"thinking_level": "low"}}}"#;
        gemini(level, &[("generationConfig.thinkingConfig.thinking_level", REASONING)]);
    }

    #[test]
    fn another_case_and_spaces_do_not_hide_a_reserved_name() {
        for (dialect, name, help) in [
            (Dialect::OpenAi, "Model", MODEL),
            (Dialect::OpenAi, "model ", MODEL),
            (Dialect::OpenAi, "STREAM", STREAM),
            (Dialect::Responses, " Store", CONVERSATION),
            (Dialect::Anthropic, "Messages", PROMPT),
            (Dialect::Converse, "InferenceConfig", CONVERSE[3].1),
        ] {
            assert_reserved(dialect, &format!(r#"{{"{name}": 1}}"#), &[(name, help)]);
        }
        assert_reserved(Dialect::Responses, r#"{"Text": {"verbosity": "low"}}"#, &[("Text", "write `text`")]);
        // Outside of Gemini, an underscore makes another name.
        assert_reserved(Dialect::OpenAi, r#"{"maxtokens": 1}"#, &NO_OPTIONS);
    }

    #[test]
    fn members_that_set_the_reasoning_are_reserved_if_the_agent_sets_it() {
        for (dialect, options, path) in [
            (Dialect::OpenAi, r#"{"reasoning": {"effort": "low", "exclude": true}}"#, "reasoning.effort"),
            (Dialect::OpenAi, r#"{"thinking": {"type": "disabled"}}"#, "thinking"),
            (Dialect::OpenAi, r#"{"enable_thinking": false}"#, "enable_thinking"),
            (
                Dialect::Responses,
                r#"{"reasoning_effort": "low", "reasoning": {"summary": "auto"}}"#,
                "reasoning_effort",
            ),
            (Dialect::Anthropic, r#"{"reasoning_effort": "low"}"#, "reasoning_effort"),
            (Dialect::Gemini, r#"{"thinkingConfig": {}}"#, "thinkingConfig"),
            (Dialect::Converse, r#"{"reasoning_config": {}}"#, "reasoning_config"),
        ] {
            assert_reserved(dialect, options, &NO_OPTIONS);
            let expected = [(path.to_owned(), SECOND_REASONING.to_owned())];
            assert_eq!(reserved_with(dialect, Some(ReasoningEffort::High), options), expected, "{dialect} {options}");
        }
    }

    #[test]
    fn a_member_that_must_be_a_mapping_is_reported_once() {
        assert_reserved(Dialect::Gemini, r#"{"generationConfig": 5}"#, &[("generationConfig", "write a mapping")]);
    }
}
