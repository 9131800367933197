//! What the user can do about an error body.

use super::client::without_secrets;
use super::error_body::{ErrorBody, denies_access, has_no_credit};
use super::errors::RequestContext;
use super::openai_host::is_openai;
use super::{Dialect, Endpoint};
use crate::model::failure::FailureClass;

/// The names, in lower case, of the fields that contain a schema in the dialects, and of the feature.
const SCHEMA_FIELDS: &[&str] = &[
    "output_config.format",
    "output_format",
    "outputconfig",
    "textformat",
    "text.format",
    "response_format",
    "json_schema",
    "responsejsonschema",
    "response_json_schema",
    "responsemimetype",
    "response_mime_type",
    "structured output",
    "structured_output",
    "response mime type",
];

/// Phrases, in lower case, with which a provider reports that a model accepts no tools: Ollama, Bedrock, `OpenRouter`
/// ("No endpoints found that support tool use"), Gemini, Groq, Mistral.
const TOOLS_REFUSED: &[&str] = &[
    "not support tool",
    "not support function call",
    "n't support tool",
    "n't support function call",
    "that support tool use",
    "tool use is not supported",
    "tool calling is not supported",
    "tool calling` is not supported",
    "function calling is not supported",
    "function calling is not enabled",
    "tools are not supported",
    "`tools` is not supported",
    "'tools' is not supported",
];

/// The hint for the failure that an error body describes; `None` if the class alone determines the hint.
pub(super) fn hint(
    code: Option<u16>,
    body: &ErrorBody,
    context: &RequestContext<'_>,
    class: FailureClass,
) -> Option<String> {
    let (endpoint, model) = (context.endpoint, context.model);
    let name = &endpoint.name;
    let tools_hint = tools_hint(endpoint, body);
    match class {
        _ if has_no_credit(code, body) => {
            Some(format!("add credit to the account at {name}, or name another model with --model"))
        }
        FailureClass::Auth if denies_access(code, body) => Some(endpoint.auth.denied_hint(name)),
        FailureClass::Auth => Some(endpoint.auth.refused_hint(name)),
        FailureClass::BadRequest if tools_hint.is_some() => tools_hint,
        FailureClass::BadRequest if code == Some(404) && name == "ollama" && !model.is_empty() => {
            Some(format!("fetch it with `ollama pull {model}`"))
        }
        FailureClass::BadRequest if code == Some(404) => Some(not_found_hint(endpoint, body)),
        FailureClass::BadRequest if body.contains_any(&["max_completion_tokens"]) => limit_name_hint(endpoint, model),
        FailureClass::BadRequest if endpoint.structured_output && body.contains_any(SCHEMA_FIELDS) => Some(format!(
            "if the model or the server accepts no schema, set `structured_output: off` for the provider `{name}` in \
             orch.yaml: then only the prompt contains the schema"
        )),
        _ => None,
    }
}

/// The hint for a server that refuses tools.
fn tools_hint(endpoint: &Endpoint, body: &ErrorBody) -> Option<String> {
    let name = &endpoint.name;
    if body.contains_any(&["requires --jinja"]) {
        return Some("start llama-server with `--jinja`, or remove `tools` of the agent".to_owned());
    }
    if body.contains_any(&["--enable-auto-tool-choice", "--tool-call-parser"]) {
        return Some(
            "start vLLM with `--enable-auto-tool-choice` and the `--tool-call-parser` for the model, or remove `tools` \
             of the agent"
                .to_owned(),
        );
    }
    // `OpenAI` accepts tools of its reasoning models only in the other API, unless they don't reason.
    if endpoint.dialect == Dialect::OpenAi && body.contains_any(&["function tools"]) && names_responses_api(body) {
        return Some(format!(
            "the model accepts tools only in the Responses API, or without reasoning: set `dialect: responses` under \
             `providers.{name}` of orch.yaml, or `reasoning: none` of the agent"
        ));
    }
    body.contains_any(TOOLS_REFUSED)
        .then(|| "name a model that accepts tools with --model, or remove `tools` of the agent".to_owned())
}

/// Whether the server names the Responses API as the one to use.
fn names_responses_api(body: &ErrorBody) -> bool {
    body.message.contains("v1/responses")
}

/// The hint for a server that refuses the name under which the request limits the reply, which is `max_tokens` or
/// `max_completion_tokens`.
fn limit_name_hint(endpoint: &Endpoint, model: &str) -> Option<String> {
    let name = &endpoint.name;
    match endpoint.dialect {
        Dialect::OpenAi if is_openai(endpoint, model) => Some(format!(
            "a server that does not know `max_completion_tokens` must not be the provider `openai`: give `{name}` \
             another name in orch.yaml"
        )),
        Dialect::OpenAi => Some(format!(
            "for a reasoning model of OpenAI behind a gateway, name the provider `openai` instead of `{name}`, or, if \
             the gateway has the Responses API, set `dialect: responses`"
        )),
        Dialect::Anthropic | Dialect::Responses | Dialect::Gemini | Dialect::Converse => None,
    }
}

/// The hint for a 404: to use another dialect if the model may need it, else to check the model's name and the address.
fn not_found_hint(endpoint: &Endpoint, body: &ErrorBody) -> String {
    let check_hint = format!("check the model's name and the base URL {}", without_secrets(&endpoint.base_url));
    match endpoint.dialect {
        // Azure's deployments have such addresses, and also need the version of the API as a parameter.
        _ if endpoint.base_url.contains("{model}") => {
            "the model's name is a part of the address: check the name, and the parameters under `query:`".to_owned()
        }
        // `OpenAI` offers some models only in one of its APIs.
        Dialect::OpenAi if names_responses_api(body) => {
            format!("set `dialect: responses` under `providers.{}` of orch.yaml", endpoint.name)
        }
        Dialect::Responses => {
            format!("{check_hint}; a server without the Responses API needs `dialect: openai`")
        }
        _ => check_hint,
    }
}
