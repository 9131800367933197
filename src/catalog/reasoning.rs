//! How a request sets the amount of reasoning: with an effort, a level or a token budget, depending on the model.

use super::openai::{is_openai_reasoning_model, openai_base_model};
use super::version::{claude_generation, claude_version, parse_version};
use crate::model::ReasoningEffort;

/// Why a model does not support a reasoning effort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningRefusal {
    /// The model does not reason.
    NeverReasons,
    /// The model always reasons.
    AlwaysReasons,
    /// `max_output_tokens` is too low for the smallest reasoning budget.
    ReplyLimitTooLow,
    /// With this effort, the model refuses requests that limit the reply, and orch always sends a limit.
    ReplyLimitRefused,
    /// Each model of the API has its own field for reasoning, and orch does not know the field of this model.
    UnknownField,
}

/// The smallest budget for the reasoning of a Claude model, in tokens.
pub const MIN_CLAUDE_BUDGET: u32 = 1024;

/// How a request sets the reasoning of a Claude model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaudeThinking {
    /// The request contains nothing about reasoning, because the model reasons only on request.
    OmitConfig,
    /// The request turns reasoning off, with this `type` in `thinking`.
    Off(&'static str),
    /// The request sets an effort, and the model decides how much to reason.
    Adaptive(&'static str),
    /// The request sets a budget in tokens.
    Budget(u32),
}

impl ClaudeThinking {
    /// Whether the request makes the model reason.
    pub fn is_on(self) -> bool {
        matches!(self, Self::Adaptive(_) | Self::Budget(_))
    }
}

/// How a request sets the reasoning of a Gemini model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeminiThinking {
    /// The request contains nothing about reasoning, because the model does not reason.
    OmitConfig,
    /// The request sets a budget in tokens.
    Budget(u32),
    /// The request sets a level.
    Level(&'static str),
}

/// How a request to Bedrock sets the reasoning of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BedrockReasoning {
    /// The request contains nothing about reasoning.
    OmitConfig,
    /// The request contains the fields of Claude.
    Claude(ClaudeThinking),
    /// The request contains the field of Amazon Nova 2 with this effort; `None` turns reasoning off.
    Nova(Option<&'static str>),
    /// The request contains `reasoning_effort`.
    Effort(&'static str),
}

/// The effort to send to an OpenAI model: the requested one, or the nearest one that the model accepts. `None` if the
/// request should contain no effort.
///
/// # Errors
/// The model does not reason, or always reasons.
pub fn openai_effort(name: &str, effort: ReasoningEffort) -> Result<Option<&'static str>, ReasoningRefusal> {
    let name = openai_base_model(name);
    let never_reasons = ["gpt-3", "gpt-4", "chatgpt-"].iter().any(|prefix| name.starts_with(prefix))
        || (name.starts_with("gpt-") && name.contains("-chat"));
    if never_reasons {
        return if effort == ReasoningEffort::None { Ok(None) } else { Err(ReasoningRefusal::NeverReasons) };
    }
    // The name may be that of an Azure deployment, which the user chooses freely.
    if !is_openai_reasoning_model(name) {
        return Ok(Some(effort.as_str()));
    }
    let version = name.strip_prefix("gpt-").map_or((0, 0), parse_version);
    let (is_pro, is_codex) = (name.contains("-pro"), name.contains("codex"));
    let is_first_pro = is_pro && version == (5, 0);
    Ok(Some(match effort {
        ReasoningEffort::None if version >= (5, 1) && !is_pro && !is_codex => "none",
        ReasoningEffort::None => return Err(ReasoningRefusal::AlwaysReasons),
        // The first pro model accepts no other effort.
        _ if is_first_pro => "high",
        ReasoningEffort::Minimal if version == (5, 0) && !is_codex => "minimal",
        ReasoningEffort::Minimal | ReasoningEffort::Low if is_pro && version > (5, 0) => "medium",
        ReasoningEffort::Minimal | ReasoningEffort::Low => "low",
        ReasoningEffort::Medium => "medium",
        ReasoningEffort::High => "high",
        ReasoningEffort::Max if version >= (5, 6) => "max",
        ReasoningEffort::Max if version >= (5, 2) || name.contains("codex-max") => "xhigh",
        ReasoningEffort::Max => "high",
    }))
}

/// How a request to Anthropic's API sets the reasoning of a model. From 4.6 on, Claude decides itself how much to
/// reason. Older Claude models and models of other vendors have a token budget.
///
/// # Errors
/// The model can't reason with this effort, or not within the limit of the reply.
pub fn claude_thinking(
    name: &str,
    effort: ReasoningEffort,
    max_output_tokens: u32,
) -> Result<ClaudeThinking, ReasoningRefusal> {
    let generation = claude_generation(name);
    if effort == ReasoningEffort::None {
        return claude_without_thinking(name, generation);
    }
    match generation {
        Some(generation) if generation < (3, 7) => Err(ReasoningRefusal::NeverReasons),
        Some(generation) if generation >= (4, 6) => Ok(ClaudeThinking::Adaptive(match effort {
            ReasoningEffort::None | ReasoningEffort::Minimal | ReasoningEffort::Low => "low",
            ReasoningEffort::Medium => "medium",
            ReasoningEffort::High => "high",
            ReasoningEffort::Max => "max",
        })),
        Some(_) | None if max_output_tokens <= MIN_CLAUDE_BUDGET => Err(ReasoningRefusal::ReplyLimitTooLow),
        Some(_) | None => {
            let budget = reasoning_budget(effort, max_output_tokens).max(MIN_CLAUDE_BUDGET);
            Ok(ClaudeThinking::Budget(budget.min(max_output_tokens - 1)))
        }
    }
}

/// How a request turns off the reasoning of a Claude model. From 5 on, models reason by default, and some of them
/// always reason.
fn claude_without_thinking(name: &str, generation: Option<(u32, u32)>) -> Result<ClaudeThinking, ReasoningRefusal> {
    let Some(generation) = generation else { return Ok(ClaudeThinking::Off("disabled")) };
    let family = claude_version(name).map_or("", |(family, _)| family);
    match family {
        _ if generation < (5, 0) => Ok(ClaudeThinking::OmitConfig),
        "fable" | "mythos" => Err(ReasoningRefusal::AlwaysReasons),
        "opus" if generation >= (5, 5) => Err(ReasoningRefusal::AlwaysReasons),
        "sonnet" if generation >= (5, 5) => Ok(ClaudeThinking::Off("between_tools")),
        _ => Ok(ClaudeThinking::Off("disabled")),
    }
}

/// How a request to the Gemini API sets the reasoning of a model. Gemini 2.5 has a token budget, and later versions
/// have a level.
///
/// # Errors
/// The model does not reason, or always reasons.
pub fn gemini_thinking(
    name: &str,
    effort: ReasoningEffort,
    max_output_tokens: u32,
) -> Result<GeminiThinking, ReasoningRefusal> {
    let version = name.rsplit_once("gemini-").map_or((0, 0), |(_, version)| parse_version(version));
    let (is_pro, is_flash, is_lite) = (name.contains("-pro"), name.contains("-flash"), name.contains("-lite"));
    let is_off = effort == ReasoningEffort::None;
    match version {
        // The name has no version, such as `gemini-flash-latest`.
        (0, 0) if is_off && name.contains("gemini-pro") => Err(ReasoningRefusal::AlwaysReasons),
        (0, 0) if is_off => Ok(GeminiThinking::Budget(0)),
        (1, _) | (2, 0..=4) if is_off => Ok(GeminiThinking::OmitConfig),
        (1, _) | (2, 0..=4) => Err(ReasoningRefusal::NeverReasons),
        (2, _) if is_off && is_pro => Err(ReasoningRefusal::AlwaysReasons),
        (2, _) if is_off => Ok(GeminiThinking::Budget(0)),
        (2, _) => {
            let (min, max) = match (is_pro, is_lite) {
                (true, _) => (128, 32_768),
                (false, true) => (512, 24_576),
                (false, false) => (1, 24_576),
            };
            Ok(GeminiThinking::Budget(reasoning_budget(effort, max_output_tokens).clamp(min, max)))
        }
        _ if is_off => Err(ReasoningRefusal::AlwaysReasons),
        version => Ok(GeminiThinking::Level(match effort {
            ReasoningEffort::None | ReasoningEffort::Minimal if is_flash && version < (3, 7) => "minimal",
            ReasoningEffort::None | ReasoningEffort::Minimal | ReasoningEffort::Low => "low",
            ReasoningEffort::Medium if is_pro && version == (3, 0) => "high",
            ReasoningEffort::Medium => "medium",
            ReasoningEffort::High | ReasoningEffort::Max => "high",
        })),
    }
}

/// How a request to Bedrock sets the reasoning of a model.
///
/// # Errors
/// The model can't reason with this effort, or orch does not know the model's field.
pub fn bedrock_reasoning(
    name: &str,
    effort: ReasoningEffort,
    max_output_tokens: u32,
) -> Result<BedrockReasoning, ReasoningRefusal> {
    let is_off = effort == ReasoningEffort::None;
    let level = match effort {
        ReasoningEffort::None | ReasoningEffort::Minimal | ReasoningEffort::Low => "low",
        ReasoningEffort::Medium => "medium",
        ReasoningEffort::High | ReasoningEffort::Max => "high",
    };
    if name.contains("claude") {
        return claude_thinking(name, effort, max_output_tokens).map(BedrockReasoning::Claude);
    }
    if name.contains("nova-2") {
        return match level {
            _ if is_off => Ok(BedrockReasoning::Nova(None)),
            "high" => Err(ReasoningRefusal::ReplyLimitRefused),
            level => Ok(BedrockReasoning::Nova(Some(level))),
        };
    }
    if name.contains("gpt-oss") {
        return if is_off { Err(ReasoningRefusal::AlwaysReasons) } else { Ok(BedrockReasoning::Effort(level)) };
    }
    if is_off {
        return Ok(BedrockReasoning::OmitConfig);
    }
    let never_reasons = ["nova-micro", "nova-lite", "nova-pro", "nova-premier"].iter().any(|nova| name.contains(nova));
    Err(if never_reasons { ReasoningRefusal::NeverReasons } else { ReasoningRefusal::UnknownField })
}

/// The maximum number of tokens of a reply that the model may use for reasoning.
fn reasoning_budget(effort: ReasoningEffort, max_output_tokens: u32) -> u32 {
    let percent = match effort {
        ReasoningEffort::None => 0,
        ReasoningEffort::Minimal => 10,
        ReasoningEffort::Low => 20,
        ReasoningEffort::Medium => 50,
        ReasoningEffort::High => 80,
        ReasoningEffort::Max => 95,
    };
    u32::try_from(u64::from(max_output_tokens) * percent / 100).unwrap_or(max_output_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReasoningEffort::{High, Low, Max, Medium, Minimal, None as NoReasoning};
    use ReasoningRefusal::{AlwaysReasons, NeverReasons, ReplyLimitRefused, ReplyLimitTooLow, UnknownField};

    #[test]
    fn openai_models_receive_an_effort_that_they_accept() {
        for (model, expected) in [
            ("gpt-5", [Err(AlwaysReasons), Ok("minimal"), Ok("low"), Ok("medium"), Ok("high"), Ok("high")]),
            (
                "gpt-5-mini-2025-08-07",
                [Err(AlwaysReasons), Ok("minimal"), Ok("low"), Ok("medium"), Ok("high"), Ok("high")],
            ),
            ("gpt-5-pro", [Err(AlwaysReasons), Ok("high"), Ok("high"), Ok("high"), Ok("high"), Ok("high")]),
            ("gpt-5.1", [Ok("none"), Ok("low"), Ok("low"), Ok("medium"), Ok("high"), Ok("high")]),
            ("gpt-5.1-codex-mini", [Err(AlwaysReasons), Ok("low"), Ok("low"), Ok("medium"), Ok("high"), Ok("high")]),
            ("gpt-5.4", [Ok("none"), Ok("low"), Ok("low"), Ok("medium"), Ok("high"), Ok("xhigh")]),
            ("gpt-5.4-pro", [Err(AlwaysReasons), Ok("medium"), Ok("medium"), Ok("medium"), Ok("high"), Ok("xhigh")]),
            ("gpt-6.1-sol", [Ok("none"), Ok("low"), Ok("low"), Ok("medium"), Ok("high"), Ok("max")]),
            ("o3-mini", [Err(AlwaysReasons), Ok("low"), Ok("low"), Ok("medium"), Ok("high"), Ok("high")]),
            ("ft:o4-mini:codex::a", [Err(AlwaysReasons), Ok("low"), Ok("low"), Ok("medium"), Ok("high"), Ok("high")]),
            ("codex-mini-latest", [Err(AlwaysReasons), Ok("low"), Ok("low"), Ok("medium"), Ok("high"), Ok("high")]),
            ("my-deployment", [Ok("none"), Ok("minimal"), Ok("low"), Ok("medium"), Ok("high"), Ok("max")]),
        ] {
            let actual = ReasoningEffort::ALL.map(|effort| openai_effort(model, effort));
            assert_eq!(actual, expected.map(|effort| effort.map(Some)), "{model}");
        }
        for model in
            ["gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "chatgpt-4o-latest", "ft:gpt-4.1-mini-2025-04-14:org::id"]
        {
            assert_eq!(openai_effort(model, NoReasoning), Ok(None), "{model}");
            assert_eq!(openai_effort(model, Low), Err(NeverReasons), "{model}");
        }
    }

    #[test]
    fn anthropic_models_receive_a_budget_or_an_effort() {
        use ClaudeThinking::{Adaptive, Budget, Off, OmitConfig};
        for (model, off, low, high) in [
            ("claude-3-5-sonnet-20241022", Ok(OmitConfig), Err(NeverReasons), Err(NeverReasons)),
            ("claude-3-haiku-20240307", Ok(OmitConfig), Err(NeverReasons), Err(NeverReasons)),
            ("claude-3-7-sonnet-latest", Ok(OmitConfig), Ok(Budget(1600)), Ok(Budget(6400))),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Ok(OmitConfig), Ok(Budget(1600)), Ok(Budget(6400))),
            ("claude-opus-4-6", Ok(OmitConfig), Ok(Adaptive("low")), Ok(Adaptive("high"))),
            ("claude-opus-4-7", Ok(OmitConfig), Ok(Adaptive("low")), Ok(Adaptive("high"))),
            ("claude-sonnet-5", Ok(Off("disabled")), Ok(Adaptive("low")), Ok(Adaptive("high"))),
            ("claude-sonnet-5-5", Ok(Off("between_tools")), Ok(Adaptive("low")), Ok(Adaptive("high"))),
            ("claude-haiku-5-5", Ok(Off("disabled")), Ok(Adaptive("low")), Ok(Adaptive("high"))),
            ("claude-opus-5-5", Err(AlwaysReasons), Ok(Adaptive("low")), Ok(Adaptive("high"))),
            ("claude-mythos-preview", Err(AlwaysReasons), Ok(Adaptive("low")), Ok(Adaptive("high"))),
            ("deepseek-reasoner", Ok(Off("disabled")), Ok(Budget(1600)), Ok(Budget(6400))),
        ] {
            let actual = [NoReasoning, Low, High].map(|effort| claude_thinking(model, effort, 8000));
            assert_eq!(actual, [off, low, high], "{model}");
        }
        assert_eq!(claude_thinking("claude-opus-4-6", Max, 8000), Ok(Adaptive("max")));
    }

    #[test]
    fn a_budget_is_at_least_the_minimum_and_below_the_limit_of_the_reply() {
        let thinking = |effort, limit| claude_thinking("claude-sonnet-4-5", effort, limit);
        assert_eq!(thinking(Minimal, 4096), Ok(ClaudeThinking::Budget(1024)));
        assert_eq!(thinking(Max, 4096), Ok(ClaudeThinking::Budget(3891)));
        assert_eq!(thinking(Low, 1025), Ok(ClaudeThinking::Budget(1024)));
        assert_eq!(thinking(Low, 1024), Err(ReplyLimitTooLow));
        for limit in [1025, 2000, 1_000_000] {
            for effort in [Minimal, Low, Medium, High, Max] {
                let Ok(ClaudeThinking::Budget(budget)) = thinking(effort, limit) else { panic!("{limit} {effort:?}") };
                assert!((MIN_CLAUDE_BUDGET..limit).contains(&budget), "{limit} {effort:?} {budget}");
            }
        }
    }

    #[test]
    fn gemini_models_receive_a_budget_or_a_level() {
        use GeminiThinking::{Budget, Level, OmitConfig};
        for (model, off, minimal, medium, max) in [
            ("gemini-2.0-flash", Ok(OmitConfig), Err(NeverReasons), Err(NeverReasons), Err(NeverReasons)),
            ("gemini-2.5-pro", Err(AlwaysReasons), Ok(Budget(128)), Ok(Budget(500)), Ok(Budget(950))),
            ("gemini-2.5-flash-lite", Ok(Budget(0)), Ok(Budget(512)), Ok(Budget(512)), Ok(Budget(950))),
            ("models/gemini-2.5-flash", Ok(Budget(0)), Ok(Budget(100)), Ok(Budget(500)), Ok(Budget(950))),
            ("gemini-3-pro-preview", Err(AlwaysReasons), Ok(Level("low")), Ok(Level("high")), Ok(Level("high"))),
            ("gemini-3.1-pro-preview", Err(AlwaysReasons), Ok(Level("low")), Ok(Level("medium")), Ok(Level("high"))),
            (
                "gemini-3-flash-preview",
                Err(AlwaysReasons),
                Ok(Level("minimal")),
                Ok(Level("medium")),
                Ok(Level("high")),
            ),
            ("gemini-3.8-flash", Err(AlwaysReasons), Ok(Level("low")), Ok(Level("medium")), Ok(Level("high"))),
            ("gemini-flash-latest", Ok(Budget(0)), Ok(Level("minimal")), Ok(Level("medium")), Ok(Level("high"))),
            ("gemini-pro-latest", Err(AlwaysReasons), Ok(Level("low")), Ok(Level("medium")), Ok(Level("high"))),
            ("my-pro-model", Ok(Budget(0)), Ok(Level("low")), Ok(Level("medium")), Ok(Level("high"))),
        ] {
            let actual = [NoReasoning, Minimal, Medium, Max].map(|effort| gemini_thinking(model, effort, 1000));
            assert_eq!(actual, [off, minimal, medium, max], "{model}");
        }
        assert_eq!(gemini_thinking("gemini-2.5-pro", Max, 1_000_000), Ok(Budget(32_768)));
    }

    #[test]
    fn each_model_family_of_bedrock_has_its_own_field() {
        use BedrockReasoning::{Claude, Effort, Nova, OmitConfig};
        let reasoning = |model, effort| bedrock_reasoning(model, effort, 8000);
        assert_eq!(reasoning("anthropic.claude-sonnet-4-5-v1:0", High), Ok(Claude(ClaudeThinking::Budget(6400))));
        assert_eq!(reasoning("us.amazon.nova-2-lite-v1:0", NoReasoning), Ok(Nova(None)));
        assert_eq!(reasoning("us.amazon.nova-2-lite-v1:0", Medium), Ok(Nova(Some("medium"))));
        assert_eq!(reasoning("us.amazon.nova-2-lite-v1:0", Max), Err(ReplyLimitRefused));
        assert_eq!(reasoning("openai.gpt-oss-120b-1:0", Max), Ok(Effort("high")));
        assert_eq!(reasoning("openai.gpt-oss-120b-1:0", NoReasoning), Err(AlwaysReasons));
        assert_eq!(reasoning("amazon.nova-pro-v1:0", NoReasoning), Ok(OmitConfig));
        assert_eq!(reasoning("amazon.nova-pro-v1:0", Low), Err(NeverReasons));
        assert_eq!(reasoning("mistral.magistral-small", Low), Err(UnknownField));
    }
}
