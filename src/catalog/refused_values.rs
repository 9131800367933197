//! The values of options that a model or its API refuses.

use super::options::{ModelApi, RequestedOptions};
use crate::model::Dialect;

/// The smallest limit of a reply that `OpenAI`'s Responses API accepts, in tokens.
const MIN_RESPONSES_OUTPUT_TOKENS: u32 = 16;
/// The highest temperature that Anthropic's models accept.
const MAX_CLAUDE_TEMPERATURE: f64 = 1.0;

/// A value of an option that a model or its API refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedValue {
    /// The key that sets the option in the pipeline file.
    pub key: &'static str,
    /// The index of the refused item, if the option is a list.
    pub index: Option<usize>,
    /// The problem, as a predicate of which the model is the subject.
    pub problem: String,
    /// What the user can do.
    pub help: String,
}

impl ModelApi<'_> {
    /// The values that orch would send and that the model or its API refuses.
    pub fn refused_values(&self, requested: RequestedOptions<'_>) -> Vec<RefusedValue> {
        let unsent = self.unsent_options(requested);
        let is_sent = |key: &str| unsent.iter().all(|option| option.key != key);
        let mut refused = Vec::new();
        let (limit, min) = (requested.max_output_tokens, MIN_RESPONSES_OUTPUT_TOKENS);
        if self.is_openai && self.dialect == Some(Dialect::Responses) && limit < min {
            refused.push(RefusedValue {
                key: "max_output_tokens",
                index: None,
                problem: format!("accepts no `max_output_tokens` below {min}, and it is {limit}"),
                help: format!("set `max_output_tokens` to at least {min}"),
            });
        }
        if let Some(temperature) = requested.temperature.filter(|temperature| *temperature > MAX_CLAUDE_TEMPERATURE)
            && matches!(self.dialect, Some(Dialect::Anthropic | Dialect::Converse))
            && is_sent("temperature")
        {
            refused.push(RefusedValue {
                key: "temperature",
                index: None,
                problem: format!("accepts a temperature from 0 to 1, not {temperature}"),
                help: "write a number from 0 to 1".to_owned(),
            });
        }
        if self.dialect == Some(Dialect::Anthropic) {
            let stop = requested.options.stop.iter().enumerate();
            refused.extend(stop.filter(|(_, text)| text.trim().is_empty()).map(|(index, _)| RefusedValue {
                key: "stop",
                index: Some(index),
                problem: "accepts no `stop` that consists of white space".to_owned(),
                help: "write a text with at least one visible character".to_owned(),
            }));
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelOptions;

    /// The keys of the refused values.
    fn refused(api: ModelApi<'_>, temperature: f64, max_output_tokens: u32, stop: &[&str]) -> Vec<&'static str> {
        let stop = stop.iter().map(|text| (*text).to_owned()).collect();
        let options = ModelOptions { stop, ..ModelOptions::default() };
        let requested = RequestedOptions { temperature: Some(temperature), max_output_tokens, options: &options };
        api.refused_values(requested).into_iter().map(|value| value.key).collect()
    }

    #[test]
    fn each_api_refuses_the_values_outside_of_its_range() {
        let api = |dialect, is_openai, model| ModelApi { dialect: Some(dialect), is_openai, model };
        for (api, refused_keys) in [
            (api(Dialect::Responses, true, "gpt-5.1"), "max_output_tokens"),
            (api(Dialect::Responses, false, "qwen3"), ""),
            (api(Dialect::OpenAi, true, "gpt-4.1"), ""),
            (api(Dialect::Anthropic, false, "claude-sonnet-4-5"), "temperature stop"),
            // orch sends this model no temperature.
            (api(Dialect::Anthropic, false, "claude-opus-4-7"), "stop"),
            (api(Dialect::Converse, false, "anthropic.claude-sonnet-4-5-v1:0"), "temperature"),
            (api(Dialect::Gemini, false, "gemini-2.5-pro"), ""),
            (ModelApi::embedded("smollm2-135m"), ""),
        ] {
            assert_eq!(refused(api, 1.5, 15, &["END", " \n"]).join(" "), refused_keys, "{api:?}");
            assert!(refused(api, 1.0, 16, &["END"]).is_empty(), "{api:?}");
        }
    }
}
