//! The options that a model or its API does not accept. orch leaves them out of requests.

use super::reasoning::{
    BedrockReasoning, ClaudeThinking, GeminiThinking, ReasoningRefusal, bedrock_reasoning, claude_thinking,
    gemini_thinking, openai_effort,
};
use super::version::claude_generation;
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
    /// A clause about the model that explains why orch does not send the option.
    pub fn clause(self) -> &'static str {
        match self {
            Self::NotInApi | Self::Refused => "which refuses it",
            Self::Fixed => "which has a fixed one",
            Self::FixedWithReasoning => "which has a fixed one while it reasons",
            Self::TooLowWithReasoning => "which refuses values below 0.95 while it reasons",
            Self::NotWithTemperature => "which accepts either it or `temperature`",
            Self::Reasoning(ReasoningRefusal::NeverReasons) => "which does not reason",
            Self::Reasoning(ReasoningRefusal::AlwaysReasons) => "which always reasons",
            Self::Reasoning(ReasoningRefusal::ReplyLimitTooLow) => "which needs a higher `max_output_tokens` to reason",
            Self::Reasoning(ReasoningRefusal::ReplyLimitRefused) => "which then accepts no limit of the reply",
            Self::Reasoning(ReasoningRefusal::UnknownField) => "whose field for it orch does not know",
        }
    }

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
        let state = reasoning.and_then(Result::ok);
        add("temperature", temperature.and_then(|_| self.unsent_temperature(state)));
        let refusal = reasoning.and_then(Result::err);
        add(
            "reasoning",
            refusal.map(|refusal| match self.dialect {
                None => UnsentReason::NotInApi,
                Some(_) => UnsentReason::Reasoning(refusal),
            }),
        );
        let sends_temperature = temperature.is_some() && self.unsent_temperature(state).is_none();
        add("top_p", options.top_p.and_then(|top_p| self.unsent_top_p(top_p, state, sends_temperature)));
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
            ClaudeThinking::OmitConfig | ClaudeThinking::Off(_) | ClaudeThinking::Adaptive(_) => None,
        };
        match self.dialect? {
            Dialect::Anthropic => claude_budget(claude_thinking(self.model, effort, max_output_tokens).ok()?),
            Dialect::Converse => match bedrock_reasoning(self.model, effort, max_output_tokens).ok()? {
                BedrockReasoning::Claude(thinking) => claude_budget(thinking),
                BedrockReasoning::OmitConfig | BedrockReasoning::Nova(_) | BedrockReasoning::Effort(_) => None,
            },
            Dialect::Gemini => match gemini_thinking(self.model, effort, max_output_tokens).ok()? {
                GeminiThinking::Budget(budget) => Some(budget),
                GeminiThinking::OmitConfig | GeminiThinking::Level(_) => None,
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
                openai_effort(self.model, effort).map(|sent_effort| match sent_effort {
                    Some("none") => ReasoningState::OpenAiOff,
                    Some(_) | None => ReasoningState::Unrestricted,
                })
            }
            Some(Dialect::OpenAi | Dialect::Responses) => Ok(ReasoningState::Unrestricted),
        }
    }

    /// Why orch sends neither a temperature nor `top_p`: the model has fixed ones. Newer models of Anthropic refuse
    /// every request that sets a temperature, even if it is the model's default.
    fn fixed_sampling(&self, state: Option<ReasoningState>) -> Option<UnsentReason> {
        let is_fixed = match self.dialect {
            None => false,
            Some(Dialect::OpenAi | Dialect::Responses) => return self.fixed_openai_sampling(state),
            Some(Dialect::Anthropic | Dialect::Converse) => claude_has_fixed_temperature(self.model),
            Some(Dialect::Gemini) => gemini_has_fixed_temperature(self.model),
        };
        is_fixed.then_some(UnsentReason::Fixed)
    }

    /// The same for a model of `OpenAI`. Most models from GPT-5.1 on can turn their reasoning off, and then accept
    /// both.
    fn fixed_openai_sampling(&self, state: Option<ReasoningState>) -> Option<UnsentReason> {
        let is_reasoning_model = self.is_openai && is_openai_reasoning_model(self.model);
        if !is_reasoning_model || state == Some(ReasoningState::OpenAiOff) {
            return None;
        }
        let can_turn_off = openai_effort(self.model, ReasoningEffort::None) == Ok(Some("none"));
        Some(if can_turn_off { UnsentReason::FixedWithReasoning } else { UnsentReason::Fixed })
    }

    fn unsent_temperature(&self, state: Option<ReasoningState>) -> Option<UnsentReason> {
        let is_thinking_claude = state == Some(ReasoningState::ThinkingClaude);
        self.fixed_sampling(state).or_else(|| is_thinking_claude.then_some(UnsentReason::FixedWithReasoning))
    }

    fn unsent_top_p(&self, top_p: f64, state: Option<ReasoningState>, sends_temperature: bool) -> Option<UnsentReason> {
        if let Some(reason) = self.fixed_sampling(state) {
            Some(reason)
        } else if state == Some(ReasoningState::ThinkingClaude) && top_p < MIN_TOP_P_WITH_REASONING {
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
    /// The request turns off the reasoning of a model of `OpenAI`, which then accepts the sampling options.
    OpenAiOff,
    /// The other options have no further restrictions.
    Unrestricted,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests;
