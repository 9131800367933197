//! The options that orch sends in a request: those that the model and its API accept, and `provider_options`.

use serde_json::{Map, Value, json};

use super::{Dialect, Endpoint};
use crate::catalog::{ClaudeThinking, ModelApi, RequestedOptions, reserved_options};
use crate::model::chat::ChatRequest;
use crate::model::failure::{Failure, FailureClass};
use crate::model::options::{ModelOptions, ReasoningEffort};

/// The options of a request that the model accepts.
#[derive(Debug)]
pub(super) struct SentOptions<'a> {
    pub(super) temperature: Option<f64>,
    /// `None` also if the model refuses the effort; the check or the run reports that. So the functions that determine
    /// how a request sets the reasoning return no error for this effort.
    pub(super) reasoning: Option<ReasoningEffort>,
    pub(super) top_p: Option<f64>,
    pub(super) seed: Option<u32>,
    /// The stop sequences; empty if there are none.
    pub(super) stop: &'a [String],
}

impl<'a> SentOptions<'a> {
    /// The options of a request to an endpoint.
    ///
    /// # Errors
    /// The model or its API refuses the value of an option.
    pub(super) fn new(endpoint: &Endpoint, request: &'a ChatRequest) -> Result<Self, Failure> {
        let api = ModelApi::at_server(&endpoint.name, endpoint.dialect, &endpoint.base_url, &request.model.model);
        let requested = RequestedOptions::from(request);
        if let Some(refused) = api.refused_values(requested).into_iter().next() {
            let message = format!("{} {}", request.model, refused.problem);
            return Err(Failure::new(FailureClass::BadRequest, message).with_hint(refused.help));
        }
        if !request.tools.is_empty() && api.refuses_tools() {
            let failure = Failure::new(FailureClass::BadRequest, format!("{} accepts no tools", request.model));
            return Err(failure.with_hint("name another model with --model, or remove `tools` of the agent"));
        }
        let unsent = api.unsent_options(requested);
        let is_sent = |key: &str| unsent.iter().all(|option| option.key != key);
        let options = &request.options;
        Ok(Self {
            temperature: request.temperature.filter(|_| is_sent("temperature")),
            reasoning: options.reasoning.filter(|_| is_sent("reasoning")),
            top_p: options.top_p.filter(|_| is_sent("top_p")),
            seed: options.seed.filter(|_| is_sent("seed")),
            stop: if is_sent("stop") { &options.stop } else { &[] },
        })
    }
}

/// The fields of a request that set the reasoning of a Claude model.
#[derive(Debug, Default)]
pub(super) struct ThinkingFields {
    /// The value of `thinking`.
    pub(super) thinking: Option<Value>,
    /// The value of `output_config.effort`.
    pub(super) effort: Option<&'static str>,
}

/// The fields that set the reasoning of a Claude model, in Anthropic's API and in Bedrock's.
pub(super) fn thinking_fields(thinking: ClaudeThinking) -> ThinkingFields {
    match thinking {
        ClaudeThinking::OmitConfig => ThinkingFields::default(),
        ClaudeThinking::Off(kind) => ThinkingFields { thinking: Some(json!({"type": kind})), effort: None },
        ClaudeThinking::Adaptive(effort) => {
            ThinkingFields { thinking: Some(json!({"type": "adaptive"})), effort: Some(effort) }
        }
        ClaudeThinking::Budget(budget) => {
            let thinking = json!({"type": "enabled", "budget_tokens": budget});
            ThinkingFields { thinking: Some(thinking), effort: None }
        }
    }
}

/// Adds the `provider_options` of a request to its body, and merges mappings that both contain.
///
/// # Errors
/// The options contain a member that orch sets itself. `validate` reports this too if the files alone determine the
/// model.
pub(super) fn add_provider_options(
    body: &mut Map<String, Value>,
    options: &ModelOptions,
    dialect: Dialect,
) -> Result<(), Failure> {
    refuse_reserved(options, dialect)?;
    merge_options(body, &options.provider_options, dialect)
}

/// Refuses `provider_options` that contain a member that orch sets itself.
pub(super) fn refuse_reserved(options: &ModelOptions, dialect: Dialect) -> Result<(), Failure> {
    let reserved = reserved_options(dialect, options).into_iter().next();
    reserved.map_or(Ok(()), |reserved| Err(refused_option(&reserved.path(), dialect, &reserved.help)))
}

/// Merges options into a part of a body.
pub(super) fn merge_options(
    target: &mut Map<String, Value>,
    options: &Map<String, Value>,
    dialect: Dialect,
) -> Result<(), Failure> {
    let conflict = merge_members(target, options);
    conflict.map_or(Ok(()), |path| Err(refused_option(&path, dialect, "remove it: orch sets it")))
}

/// The failure for a field of `provider_options` that orch sets itself.
fn refused_option(path: &str, dialect: Dialect, help: &str) -> Failure {
    let message = format!("`provider_options` can't set `{path}` in the dialect `{dialect}`");
    Failure::new(FailureClass::BadRequest, message).with_hint(help)
}

/// Adds members to a mapping. Returns the path of the first member that both contain and that is not a mapping in both.
fn merge_members(target: &mut Map<String, Value>, added: &Map<String, Value>) -> Option<String> {
    for (name, value) in added {
        let Some(existing) = target.get_mut(name) else {
            target.insert(name.clone(), value.clone());
            continue;
        };
        let (Value::Object(existing), Value::Object(value)) = (existing, value) else { return Some(name.clone()) };
        if let Some(path) = merge_members(existing, value) {
            return Some(format!("{name}.{path}"));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    fn merge(body: Value, options: Value, dialect: Dialect) -> Result<Value, Failure> {
        let (Value::Object(mut body), Value::Object(provider_options)) = (body, options) else { unreachable!() };
        let options = ModelOptions { provider_options, ..ModelOptions::default() };
        add_provider_options(&mut body, &options, dialect).map(|()| Value::Object(body))
    }

    #[test]
    fn mappings_are_merged() {
        let body = json!({"generationConfig": {"topP": 0.5, "thinkingConfig": {"thinkingBudget": 5}}});
        let options =
            json!({"generationConfig": {"topK": 4, "thinkingConfig": {"includeThoughts": true}}, "labels": {}});
        assert_eq!(
            merge(body, options, Dialect::Gemini).unwrap(),
            json!({"generationConfig": {"topP": 0.5, "topK": 4,
                "thinkingConfig": {"thinkingBudget": 5, "includeThoughts": true}}, "labels": {}})
        );
    }

    #[test]
    fn a_member_that_orch_sets_is_refused() {
        let failure = merge(json!({}), json!({"max_tokens": 5}), Dialect::OpenAi).unwrap_err();
        assert_eq!(failure.class, FailureClass::BadRequest);
        assert_eq!(failure.message, "`provider_options` can't set `max_tokens` in the dialect `openai`");
        assert_eq!(failure.hint.as_deref(), Some("`max_output_tokens` of the agent sets it"));
        // orch also refuses to replace a member that no table lists.
        let failure = merge(json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), Dialect::OpenAi).unwrap_err();
        assert_eq!(failure.message, "`provider_options` can't set `a.b` in the dialect `openai`");
    }
}
