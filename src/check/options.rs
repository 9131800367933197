//! Checks whether the models of agents and their APIs accept the agents' options.
//!
//! If the files alone do not determine an agent's model, checks only `provider_options`.

use super::models::resolve_reference;
use crate::catalog::{
    MIN_CLAUDE_BUDGET, MIN_TOP_P_WITH_REASONING, ModelApi, ReasoningRefusal, RequestedOptions, ReservedOption,
    UnsentOption, UnsentReason, reserved_options,
};
use crate::config::{Project, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::model::name::LOCAL_PROVIDER;
use crate::model::options::receives_provider_options;
use crate::model::{Agent, Dialect, ModelOptions, ModelRef, ReasoningEffort};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (name, agent) in project.pipeline.agents.iter().filter(|(_, agent)| agent.cli_kind().is_none()) {
        OptionCheck { project, name, agent, options: agent.options() }.check(&mut diagnostics);
    }
    diagnostics
}

/// The built-in providers whose servers know few words for the effort of reasoning, depending on their version and the
/// model. `OpenRouter` and `LiteLLM` know all words of orch.
const LOCAL_SERVERS: [&str; 4] = ["ollama", "lmstudio", "llamacpp", "vllm"];

struct OptionCheck<'a> {
    project: &'a Project,
    name: &'a str,
    agent: &'a Agent,
    options: ModelOptions,
}

impl OptionCheck<'_> {
    fn check(&self, diagnostics: &mut Vec<Diagnostic>) {
        if let Some(model) = resolve_reference(self.project, &self.agent.model) {
            diagnostics.extend(self.check_model(&model));
        } else {
            let reserved = reserved_for_auto(&self.options);
            diagnostics.extend(reserved.iter().map(|reserved| self.reserved_option_error(reserved)));
        }
        for (pointer, step) in steps_with_pointers(&self.project.pipeline) {
            if step.agent.as_deref() != Some(self.name) {
                continue;
            }
            for (index, fallback) in step.fallback.iter().enumerate() {
                let pointer = item_pointer(&child_pointer(&pointer, "fallback"), index);
                diagnostics.extend(self.check_fallback(fallback, &pointer));
            }
        }
    }

    /// Checks the options against the agent's own model.
    fn check_model(&self, model: &ModelRef) -> Vec<Diagnostic> {
        let Some(api) = model_api(self.project, model) else { return Vec::new() };
        let requested = self.requested_options();
        let unsent = api.unsent_options(requested).into_iter();
        let mut diagnostics: Vec<Diagnostic> =
            unsent.map(|option| self.unsent_option_diagnostic(model, api.dialect, option)).collect();
        for refused in api.refused_values(requested) {
            let pointer = self.pointer(refused.key);
            let pointer = match refused.index {
                Some(index) => item_pointer(&pointer, index),
                None => pointer,
            };
            let span = self.project.document.spans.value(&pointer);
            diagnostics.push(self.error(format!("`{model}` {}", refused.problem), span).with_help(refused.help));
        }
        let help = "write `low`, `medium` or `high`";
        diagnostics.extend(self.effort_warning(model, &api).map(|message| {
            let span = self.project.document.spans.value(&self.pointer("reasoning"));
            let warning = Diagnostic::warning(Code::UnsupportedParameter, message);
            warning.with_span(&self.project.document.file, span).with_help(help)
        }));
        let Some(dialect) = api.dialect else { return diagnostics };
        let reserved = reserved_options(dialect, &self.options);
        diagnostics.extend(reserved.iter().map(|reserved| self.reserved_option_error(reserved)));
        diagnostics
    }

    /// Warns about each option that orch does not send to a fallback, because the fallback refuses it or belongs to
    /// another provider, and reports values that the fallback refuses. Does not warn about options for which the
    /// fallback has a fixed value.
    fn check_fallback(&self, fallback: &str, pointer: &str) -> Vec<Diagnostic> {
        let Some(model) = resolve_reference(self.project, fallback) else { return Vec::new() };
        let Some(api) = model_api(self.project, &model) else { return Vec::new() };
        let (name, document) = (self.name, &self.project.document);
        let at_fallback = |diagnostic: Diagnostic, help: String| {
            diagnostic.with_span(&document.file, document.spans.value(pointer)).with_help(help)
        };
        let warning = |key: &str, message: String| {
            let help = format!("orch sends it no `{key}`; remove `{key}`, or use another fallback");
            at_fallback(Diagnostic::warning(Code::UnsupportedParameter, message), help)
        };
        let requested = self.requested_options();
        // `provider_options` have a separate warning.
        let refused = api
            .unsent_options(requested)
            .into_iter()
            .filter(|option| option.reason.is_mistake() && option.key != "provider_options");
        let mut diagnostics: Vec<Diagnostic> = refused
            .map(|option| {
                let key = option.key;
                warning(key, format!("the fallback `{fallback}` does not accept `{key}` of agent `{name}`"))
            })
            .collect();
        let help = "write `low`, `medium` or `high`, or use another fallback";
        diagnostics.extend(
            self.effort_warning(&model, &api)
                .map(|message| at_fallback(Diagnostic::warning(Code::UnsupportedParameter, message), help.to_owned())),
        );
        let own_model = resolve_reference(self.project, &self.agent.model);
        let is_other_provider = own_model.is_some_and(|own| !receives_provider_options(&own, &model));
        if is_other_provider && !self.options.provider_options.is_empty() {
            let message =
                format!("`provider_options` of agent `{name}` are not for the fallback `{fallback}`, another provider");
            diagnostics.push(warning("provider_options", message));
        }
        let refused_values = api.refused_values(requested).into_iter().map(|refused| {
            let message = format!("the fallback `{fallback}` {}", refused.problem);
            at_fallback(Diagnostic::error(Code::UnsupportedParameter, message), refused.help)
        });
        diagnostics.extend(refused_values);
        diagnostics
    }

    /// The warning for an effort that the model's server may not know. In the dialects of `OpenAI`, orch translates the
    /// effort only for the models of `OpenAI`.
    fn effort_warning(&self, model: &ModelRef, api: &ModelApi<'_>) -> Option<String> {
        let effort = self.options.reasoning?;
        let is_uncommon = matches!(effort, ReasoningEffort::Minimal | ReasoningEffort::Max);
        let is_sent_unchanged = matches!(api.dialect, Some(Dialect::OpenAi | Dialect::Responses)) && !api.is_openai;
        let is_local_server = LOCAL_SERVERS.contains(&model.provider.as_str());
        (is_uncommon && is_sent_unchanged && is_local_server).then(|| {
            format!("orch sends the word `{}` to `{model}` unchanged, and its server may not know it", effort.as_str())
        })
    }

    fn requested_options(&self) -> RequestedOptions<'_> {
        RequestedOptions {
            temperature: self.agent.temperature,
            max_output_tokens: self.project.settings.reply_limit(self.agent),
            options: &self.options,
        }
    }

    /// The diagnostic for an option that orch does not send to the agent's model.
    fn unsent_option_diagnostic(&self, model: &ModelRef, dialect: Option<Dialect>, option: UnsentOption) -> Diagnostic {
        let key = option.key;
        let remove = format!("remove `{key}`");
        let option_name = if key == "temperature" { "temperature" } else { "`top_p`" };
        let (message, help) = match option.reason {
            UnsentReason::NotInApi => match dialect {
                None if key == "reasoning" => ("the embedded model does not reason".to_owned(), remove),
                None => (format!("the embedded model has no `{key}`"), remove),
                Some(dialect) => {
                    let message = format!("`{model}` accepts no `{key}`: {} has no such parameter", api_name(dialect));
                    let help = match dialect {
                        Dialect::Responses => format!(
                            "{remove}, or set `dialect: openai` for the provider `{}` in `orch.yaml`",
                            model.provider
                        ),
                        _ => remove,
                    };
                    (message, help)
                }
            },
            UnsentReason::Refused => (format!("`{model}` accepts no `{key}`"), remove),
            UnsentReason::Fixed => {
                (format!("`{model}` has a fixed {option_name}: orch does not send this one"), remove)
            }
            UnsentReason::FixedWithReasoning => (
                format!("`{model}` has a fixed {option_name} while it reasons: orch does not send this one"),
                format!("{remove}, or write `reasoning: none`"),
            ),
            UnsentReason::TooLowWithReasoning => {
                let (min, top_p) = (MIN_TOP_P_WITH_REASONING, self.options.top_p.unwrap_or_default());
                let message = format!("`{model}` accepts a `top_p` from {min} to 1 while it reasons, not {top_p}");
                (message, format!("write a number from {min} to 1, or `reasoning: none`"))
            }
            UnsentReason::NotWithTemperature => (
                format!("`{model}` accepts either `temperature` or `top_p`, not both"),
                "remove one of them".to_owned(),
            ),
            UnsentReason::Reasoning(refusal) => self.explain_reasoning_refusal(model, refusal),
        };
        let mut diagnostic = self.error_at_value(key, message).with_help(help);
        if !option.reason.is_mistake() {
            diagnostic.severity = Severity::Warning;
        }
        diagnostic
    }

    /// Returns the message and the help.
    fn explain_reasoning_refusal(&self, model: &ModelRef, refusal: ReasoningRefusal) -> (String, String) {
        let effort = self.options.reasoning.map_or("", ReasoningEffort::as_str);
        match refusal {
            ReasoningRefusal::NeverReasons => {
                (format!("`{model}` does not reason"), "remove `reasoning`, or use a model that reasons".to_owned())
            }
            ReasoningRefusal::AlwaysReasons => {
                (format!("`{model}` always reasons"), "write `reasoning: minimal`, or use another model".to_owned())
            }
            ReasoningRefusal::ReplyLimitTooLow => (
                format!(
                    "`{model}` reasons only if `max_output_tokens` is above {MIN_CLAUDE_BUDGET}, and it is {}",
                    self.requested_options().max_output_tokens
                ),
                "raise `max_output_tokens`, or write `reasoning: none`".to_owned(),
            ),
            ReasoningRefusal::ReplyLimitRefused => (
                format!(
                    "with `reasoning: {effort}`, `{model}` accepts no limit of the reply, and orch always sends one"
                ),
                "write `reasoning: medium`".to_owned(),
            ),
            ReasoningRefusal::UnknownField => (
                format!("orch does not know the field for the reasoning of `{model}`, and sends none"),
                "write the model's own field under `provider_options`".to_owned(),
            ),
        }
    }

    fn reserved_option_error(&self, reserved: &ReservedOption) -> Diagnostic {
        let names = reserved.names.iter();
        let pointer = names.fold(self.pointer("provider_options"), |pointer, name| child_pointer(&pointer, name));
        let message = format!("`provider_options` can't set `{}`", reserved.path());
        self.error(message, self.project.document.spans.key(&pointer)).with_help(reserved.help.clone())
    }

    fn pointer(&self, key: &str) -> String {
        child_pointer(&child_pointer("/agents", self.name), key)
    }

    fn error_at_value(&self, key: &str, message: String) -> Diagnostic {
        self.error(message, self.project.document.spans.value(&self.pointer(key)))
    }

    fn error(&self, message: String, span: std::ops::Range<usize>) -> Diagnostic {
        Diagnostic::error(Code::UnsupportedParameter, message).with_span(&self.project.document.file, span)
    }
}

/// A model and the API through which orch reaches it; `None` if its provider is unknown.
pub(super) fn model_api<'m>(project: &Project, model: &'m ModelRef) -> Option<ModelApi<'m>> {
    if model.provider == LOCAL_PROVIDER {
        return Some(ModelApi::embedded(&model.model));
    }
    let server = project.api_server(&model.provider)?;
    Some(ModelApi::at_server(&model.provider, server.dialect, &server.base_url, &model.model))
}

/// The fields of `provider_options` that orch sets itself in each dialect that `auto` can select.
fn reserved_for_auto(options: &ModelOptions) -> Vec<ReservedOption> {
    let other_dialects = [Dialect::Responses, Dialect::Anthropic].map(|dialect| reserved_options(dialect, options));
    let is_reserved_in =
        |others: &Vec<ReservedOption>, option: &ReservedOption| others.iter().any(|other| other.names == option.names);
    let mut reserved = reserved_options(Dialect::OpenAi, options);
    reserved.retain(|option| other_dialects.iter().all(|others| is_reserved_in(others, option)));
    reserved
}

fn api_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "Anthropic's Messages API",
        Dialect::OpenAi => "the Chat Completions API",
        Dialect::Responses => "OpenAI's Responses API",
        Dialect::Gemini => "the Gemini API",
        Dialect::Converse => "Bedrock's Converse API",
    }
}
