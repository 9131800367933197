//! Tests of the options that models and their APIs refuse.

use super::*;
use UnsentReason::{Fixed, FixedWithReasoning, NotInApi, NotWithTemperature, Reasoning, Refused, TooLowWithReasoning};

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
        (OPENAI, "gpt-5"),
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
        "gpt-5.1-codex",
        "gpt-5.1-chat-latest",
        "gpt-5.4-pro",
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
fn openai_models_accept_a_temperature_and_top_p_while_their_reasoning_is_off() {
    for model in ["gpt-5.1", "gpt-5.4-2026-03-01", "gpt-6.1-sol"] {
        for api in [OPENAI, OPENAI_CHAT] {
            let both = r#"{"temperature": 0.5, "top_p": 0.9, "reasoning": "none"}"#;
            assert_eq!(unsent(api, model, both), NO_OPTIONS, "{model}");
            for reasoning in ["", r#", "reasoning": "low""#] {
                let both = format!(r#"{{"temperature": 0.5, "top_p": 0.9{reasoning}}}"#);
                let fixed = [("temperature", FixedWithReasoning), ("top_p", FixedWithReasoning)];
                assert_eq!(unsent(api, model, &both), fixed, "{model}{reasoning}");
            }
        }
    }
    let always_reasons = ("reasoning", Reasoning(ReasoningRefusal::AlwaysReasons));
    let unsent_for_pro = unsent(OPENAI, "gpt-5.4-pro", r#"{"temperature": 0.5, "reasoning": "none"}"#);
    assert_eq!(unsent_for_pro, [("temperature", Fixed), always_reasons]);
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
