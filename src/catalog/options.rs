//! The options that a model or its API does not accept. orch leaves them out of requests.

use super::reasoning::{
    BedrockReasoning, ClaudeThinking, GeminiThinking, ReasoningRefusal, bedrock_reasoning, claude_generation,
    claude_thinking, gemini_thinking, openai_effort,
};
use super::{
    claude_has_fixed_temperature, follows_openai_rules, gemini_has_fixed_temperature, is_openai_reasoning_model,
};
use crate::model::{ChatRequest, Dialect, ModelOptions, ReasoningEffort};

/// The smallest `top_p` that Claude models accept while they reason.
pub const MIN_TOP_P_WITH_REASONING: f64 = 0.95;

/// A model, and the API through which orch reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelApi<'a> {
    /// The dialect of the API; `None` for an embedded model.
    pub dialect: Option<Dialect>,
    /// Whether the rules of `OpenAI`'s own API apply to the model; see [`follows_openai_rules`].
    pub is_openai: bool,
    /// The name of the model at the provider.
    pub model: &'a str,
}

/// The options of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestedOptions<'a> {
    /// The sampling temperature.
    pub temperature: Option<f64>,
    /// The maximum length of the reply in tokens.
    pub max_output_tokens: u32,
    /// The other options.
    pub options: &'a ModelOptions,
}

impl<'a> From<&'a ChatRequest> for RequestedOptions<'a> {
    fn from(request: &'a ChatRequest) -> Self {
        let ChatRequest { temperature, max_output_tokens, .. } = *request;
        Self { temperature, max_output_tokens, options: &request.options }
    }
}

/// An option that orch does not send to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsentOption {
    /// The key that sets the option in the pipeline file.
    pub key: &'static str,
    /// Why orch does not send it.
    pub reason: UnsentReason,
}

/// Why orch does not send an option to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsentReason {
    /// The API, or the embedded model, has no such option.
    NotInApi,
    /// The API has the option, but the model refuses it.
    Refused,
    /// The model has a fixed value.
    Fixed,
    /// The model has a fixed value while it reasons.
    FixedWithReasoning,
    /// The value is below the minimum that the model accepts while it reasons.
    TooLowWithReasoning,
    /// The model accepts either this option or a temperature.
    NotWithTemperature,
    /// The model can't reason with this effort.
    Reasoning(ReasoningRefusal),
}

impl UnsentReason {
    /// Whether the option is an error of the user. If not, the option only has no effect on this model, so that an
    /// agent can have the same options with several models.
    pub fn is_mistake(self) -> bool {
        match self {
            Self::Fixed | Self::FixedWithReasoning | Self::Reasoning(ReasoningRefusal::UnknownField) => false,
            Self::NotInApi
            | Self::Refused
            | Self::TooLowWithReasoning
            | Self::NotWithTemperature
            | Self::Reasoning(_) => true,
        }
    }
}

impl<'a> ModelApi<'a> {
    /// A model of a provider whose server speaks a dialect at an address.
    pub fn at_server(provider: &str, dialect: Dialect, base_url: &str, model: &'a str) -> Self {
        Self { dialect: Some(dialect), is_openai: follows_openai_rules(provider, base_url, model), model }
    }

    /// An embedded model.
    pub fn embedded(model: &'a str) -> Self {
        Self { dialect: None, is_openai: false, model }
    }
}

impl ModelApi<'_> {
    /// The options that orch does not send to the model, in the order of the keys of an agent.
    pub fn unsent_options(&self, requested: RequestedOptions<'_>) -> Vec<UnsentOption> {
        let RequestedOptions { temperature, max_output_tokens, options } = requested;
        let mut unsent = Vec::new();
        let mut add = |key, reason: Option<UnsentReason>| {
            unsent.extend(reason.map(|reason| UnsentOption { key, reason }));
        };
        let reasoning = options.reasoning.map(|effort| self.reasoning_state(effort, max_output_tokens));
        let is_thinking_claude = reasoning == Some(Ok(ReasoningState::ThinkingClaude));
        add("temperature", temperature.and_then(|_| self.unsent_temperature(is_thinking_claude)));
        let refusal = reasoning.and_then(Result::err);
        add(
            "reasoning",
            refusal.map(|refusal| match self.dialect {
                None => UnsentReason::NotInApi,
                Some(_) => UnsentReason::Reasoning(refusal),
            }),
        );
        let sends_temperature = temperature.is_some() && self.unsent_temperature(is_thinking_claude).is_none();
        add("top_p", options.top_p.and_then(|top_p| self.unsent_top_p(top_p, is_thinking_claude, sends_temperature)));
        add("seed", options.seed.and_then(|_| self.unsent_seed()));
        add("stop", if options.stop.is_empty() { None } else { self.unsent_stop() });
        let has_provider_options = !options.provider_options.is_empty();
        add("provider_options", (has_provider_options && self.dialect.is_none()).then_some(UnsentReason::NotInApi));
        unsent
    }

    /// The number of tokens of a reply that the model may use for reasoning with this effort; `None` if the request sets
    /// no number.
    pub fn reasoning_budget(&self, effort: ReasoningEffort, max_output_tokens: u32) -> Option<u32> {
        let claude_budget = |thinking| match thinking {
            ClaudeThinking::Budget(budget) => Some(budget),
            ClaudeThinking::Absent | ClaudeThinking::Off(_) | ClaudeThinking::Adaptive(_) => None,
        };
        match self.dialect? {
            Dialect::Anthropic => claude_budget(claude_thinking(self.model, effort, max_output_tokens).ok()?),
            Dialect::Converse => match bedrock_reasoning(self.model, effort, max_output_tokens).ok()? {
                BedrockReasoning::Claude(thinking) => claude_budget(thinking),
                BedrockReasoning::Absent | BedrockReasoning::Nova(_) | BedrockReasoning::Effort(_) => None,
            },
            Dialect::Gemini => match gemini_thinking(self.model, effort, max_output_tokens).ok()? {
                GeminiThinking::Budget(budget) => Some(budget),
                GeminiThinking::Absent | GeminiThinking::Level(_) => None,
            },
            Dialect::OpenAi | Dialect::Responses => None,
        }
    }

    /// Determines how a reasoning effort restricts the other options.
    ///
    /// # Errors
    /// The model can't reason with this effort.
    fn reasoning_state(
        &self,
        effort: ReasoningEffort,
        max_output_tokens: u32,
    ) -> Result<ReasoningState, ReasoningRefusal> {
        let claude_state =
            |is_on: bool| if is_on { ReasoningState::ThinkingClaude } else { ReasoningState::Unrestricted };
        match self.dialect {
            None if effort == ReasoningEffort::None => Ok(ReasoningState::Unrestricted),
            None => Err(ReasoningRefusal::NeverReasons),
            Some(Dialect::Anthropic) => {
                claude_thinking(self.model, effort, max_output_tokens).map(|thinking| claude_state(thinking.is_on()))
            }
            Some(Dialect::Converse) => bedrock_reasoning(self.model, effort, max_output_tokens).map(|reasoning| {
                claude_state(matches!(reasoning, BedrockReasoning::Claude(thinking) if thinking.is_on()))
            }),
            Some(Dialect::Gemini) => {
                gemini_thinking(self.model, effort, max_output_tokens).map(|_| ReasoningState::Unrestricted)
            }
            Some(Dialect::OpenAi | Dialect::Responses) if self.is_openai => {
                openai_effort(self.model, effort).map(|_| ReasoningState::Unrestricted)
            }
            Some(Dialect::OpenAi | Dialect::Responses) => Ok(ReasoningState::Unrestricted),
        }
    }

    /// Whether the model has a fixed temperature and `top_p`. Newer models of Anthropic refuse every request that sets
    /// a temperature, even if it is the model's default.
    fn has_fixed_sampling(&self) -> bool {
        match self.dialect {
            None => false,
            Some(Dialect::OpenAi | Dialect::Responses) => self.is_openai && is_openai_reasoning_model(self.model),
            Some(Dialect::Anthropic | Dialect::Converse) => claude_has_fixed_temperature(self.model),
            Some(Dialect::Gemini) => gemini_has_fixed_temperature(self.model),
        }
    }

    fn unsent_temperature(&self, is_thinking_claude: bool) -> Option<UnsentReason> {
        if self.has_fixed_sampling() {
            Some(UnsentReason::Fixed)
        } else {
            is_thinking_claude.then_some(UnsentReason::FixedWithReasoning)
        }
    }

    fn unsent_top_p(&self, top_p: f64, is_thinking_claude: bool, sends_temperature: bool) -> Option<UnsentReason> {
        if self.has_fixed_sampling() {
            Some(UnsentReason::Fixed)
        } else if is_thinking_claude && top_p < MIN_TOP_P_WITH_REASONING {
            Some(UnsentReason::TooLowWithReasoning)
        } else {
            (sends_temperature && self.refuses_temperature_with_top_p()).then_some(UnsentReason::NotWithTemperature)
        }
    }

    /// Whether the model refuses a request with both a temperature and `top_p`, as Claude does from 4.1 on.
    fn refuses_temperature_with_top_p(&self) -> bool {
        matches!(self.dialect, Some(Dialect::Anthropic | Dialect::Converse))
            && claude_generation(self.model).is_some_and(|generation| generation >= (4, 1))
    }

    fn unsent_seed(&self) -> Option<UnsentReason> {
        match self.dialect {
            Some(Dialect::Anthropic | Dialect::Converse | Dialect::Responses) => Some(UnsentReason::NotInApi),
            Some(Dialect::OpenAi | Dialect::Gemini) | None => None,
        }
    }

    fn unsent_stop(&self) -> Option<UnsentReason> {
        match self.dialect {
            Some(Dialect::Responses) => Some(UnsentReason::NotInApi),
            Some(Dialect::OpenAi) if self.is_openai && is_openai_reasoning_model(self.model) => {
                Some(UnsentReason::Refused)
            }
            Some(Dialect::OpenAi | Dialect::Anthropic | Dialect::Gemini | Dialect::Converse) | None => None,
        }
    }
}

/// How the reasoning of a request restricts its other options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReasoningState {
    /// The request makes a Claude model reason, which then accepts fewer values of the sampling options.
    ThinkingClaude,
    /// The other options have no restrictions.
    Unrestricted,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;
    use UnsentReason::{
        Fixed, FixedWithReasoning, NotInApi, NotWithTemperature, Reasoning, Refused, TooLowWithReasoning,
    };

    const OPENAI: (Option<Dialect>, bool) = (Some(Dialect::Responses), true);
    const OPENAI_CHAT: (Option<Dialect>, bool) = (Some(Dialect::OpenAi), true);
    const OTHER_CHAT: (Option<Dialect>, bool) = (Some(Dialect::OpenAi), false);
    const ANTHROPIC: (Option<Dialect>, bool) = (Some(Dialect::Anthropic), false);
    const BEDROCK: (Option<Dialect>, bool) = (Some(Dialect::Converse), false);
    const GEMINI: (Option<Dialect>, bool) = (Some(Dialect::Gemini), false);
    const EMBEDDED: (Option<Dialect>, bool) = (None, false);

    const NO_OPTIONS: [(&str, UnsentReason); 0] = [];

    /// The keys of the options that orch does not send to a model, with the reasons. Here, `options` also contains
    /// `temperature`.
    fn unsent(api: (Option<Dialect>, bool), model: &str, options: &str) -> Vec<(&'static str, UnsentReason)> {
        let mut options: serde_json::Value = serde_json::from_str(options).unwrap();
        let temperature = options.as_object_mut().unwrap().remove("temperature").and_then(|value| value.as_f64());
        let options: ModelOptions = serde_json::from_value(options).unwrap();
        let requested = RequestedOptions { temperature, max_output_tokens: 4096, options: &options };
        let api = ModelApi { dialect: api.0, is_openai: api.1, model };
        api.unsent_options(requested).into_iter().map(|unsent| (unsent.key, unsent.reason)).collect()
    }

    #[test]
    fn each_api_receives_only_the_options_that_it_defines() {
        const ALL: &str =
            r#"{"reasoning": "low", "top_p": 0.95, "seed": 7, "stop": ["END"], "provider_options": {"a": 1}}"#;
        for (api, model, unsent_keys) in [
            (OTHER_CHAT, "qwen3", ""),
            (GEMINI, "gemini-2.5-flash", ""),
            (ANTHROPIC, "claude-sonnet-4-5", "seed"),
            (BEDROCK, "anthropic.claude-sonnet-4-5-v1:0", "seed"),
            (OPENAI, "gpt-5.4", "top_p seed stop"),
            (OPENAI_CHAT, "gpt-5.4", "top_p stop"),
            (EMBEDDED, "smollm2-135m", "reasoning provider_options"),
        ] {
            let keys: Vec<&str> = unsent(api, model, ALL).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys.join(" "), unsent_keys, "{model}");
        }
        assert_eq!(unsent(ANTHROPIC, "claude-sonnet-4-5", r#"{"seed": 1}"#), [("seed", NotInApi)]);
        assert_eq!(unsent(OPENAI_CHAT, "o3", r#"{"stop": ["x"]}"#), [("stop", Refused)]);
        assert_eq!(unsent(EMBEDDED, "smollm2-135m", r#"{"reasoning": "none"}"#), NO_OPTIONS);
        assert_eq!(unsent(EMBEDDED, "smollm2-135m", r#"{"reasoning": "low"}"#), [("reasoning", NotInApi)]);
    }

    #[test]
    fn models_with_fixed_sampling_receive_neither_temperature_nor_top_p() {
        let both_fixed = [("temperature", Fixed), ("top_p", Fixed)];
        for (api, model) in [
            (OPENAI, "gpt-6.1-sol"),
            (ANTHROPIC, "claude-opus-4-7"),
            (GEMINI, "gemini-3.8-flash"),
            (BEDROCK, "anthropic.claude-opus-5"),
        ] {
            assert_eq!(unsent(api, model, r#"{"temperature": 0.5, "top_p": 0.9}"#), both_fixed, "{model}");
        }
        for (api, model) in [(OPENAI, "gpt-4.1"), (OTHER_CHAT, "gpt-5"), (GEMINI, "gemini-2.5-pro"), (EMBEDDED, "x")] {
            assert_eq!(unsent(api, model, r#"{"temperature": 0.5, "top_p": 0.9}"#), NO_OPTIONS, "{model}");
        }
        for model in [
            "gpt-5",
            "gpt-5-mini",
            "gpt-5.1",
            "gpt-6-sol",
            "o1",
            "o3-mini",
            "o4-mini",
            "ft:o4-mini:org::id",
            "codex-mini-latest",
        ] {
            assert_eq!(unsent(OPENAI, model, r#"{"temperature": 0.5}"#), [("temperature", Fixed)], "{model}");
        }
        for model in ["gpt-4o", "gpt-4.1", "omni", "chatgpt-4o-latest", "ft:gpt-4.1-mini:org::id"] {
            assert_eq!(unsent(OPENAI, model, r#"{"temperature": 0.5}"#), NO_OPTIONS, "{model}");
        }
    }

    #[test]
    fn a_claude_model_that_reasons_has_a_fixed_temperature() {
        let unsent_for_claude = |model, options| unsent(ANTHROPIC, model, options);
        assert_eq!(unsent_for_claude("claude-sonnet-4-5", r#"{"temperature": 0.5, "reasoning": "none"}"#), NO_OPTIONS);
        assert_eq!(
            unsent_for_claude("claude-sonnet-4-5", r#"{"temperature": 0.5, "reasoning": "low", "top_p": 0.96}"#),
            [("temperature", FixedWithReasoning)]
        );
        assert_eq!(
            unsent_for_claude("claude-opus-4-6", r#"{"reasoning": "low", "top_p": 0.9}"#),
            [("top_p", TooLowWithReasoning)]
        );
        assert_eq!(
            unsent_for_claude("claude-3-5-haiku-latest", r#"{"temperature": 0.5, "reasoning": "low"}"#),
            [("reasoning", Reasoning(ReasoningRefusal::NeverReasons))]
        );
    }

    #[test]
    fn the_reasoning_budget_is_known_where_the_request_sets_one() {
        let budget = |(dialect, is_openai), model, effort, limit| {
            ModelApi { dialect, is_openai, model }.reasoning_budget(effort, limit)
        };
        assert_eq!(budget(ANTHROPIC, "claude-sonnet-4-5", ReasoningEffort::Max, 4096), Some(3891));
        assert_eq!(budget(BEDROCK, "anthropic.claude-sonnet-4-5-v1:0", ReasoningEffort::Low, 1100), Some(1024));
        assert_eq!(budget(GEMINI, "gemini-2.5-flash", ReasoningEffort::High, 1000), Some(800));
        assert_eq!(budget(ANTHROPIC, "claude-opus-4-6", ReasoningEffort::Max, 4096), None);
        assert_eq!(budget(ANTHROPIC, "claude-sonnet-4-5", ReasoningEffort::None, 4096), None);
        assert_eq!(budget(OTHER_CHAT, "qwen3", ReasoningEffort::Max, 4096), None);
        assert_eq!(budget(EMBEDDED, "smollm2-135m", ReasoningEffort::Low, 4096), None);
    }

    #[test]
    fn newer_claude_models_accept_either_a_temperature_or_top_p() {
        let both = r#"{"temperature": 0.5, "top_p": 0.9}"#;
        assert_eq!(unsent(ANTHROPIC, "claude-sonnet-4-5", both), [("top_p", NotWithTemperature)]);
        assert_eq!(unsent(BEDROCK, "anthropic.claude-opus-4-1-v1:0", both), [("top_p", NotWithTemperature)]);
        assert_eq!(unsent(ANTHROPIC, "claude-3-5-haiku-latest", both), NO_OPTIONS);
        assert_eq!(unsent(ANTHROPIC, "claude-sonnet-4-5", r#"{"top_p": 0.9}"#), NO_OPTIONS);
    }
}
