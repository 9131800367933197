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
    match class {
        _ if has_no_credit(code, body) => {
            Some(format!("add credit to the account at {name}, or name another model with --model"))
        }
        FailureClass::Auth if denies_access(code, body) => Some(endpoint.auth.denied_hint(name)),
        FailureClass::Auth => Some(endpoint.auth.refused_hint(name)),
        FailureClass::BadRequest if code == Some(404) && name == "ollama" && !model.is_empty() => {
            Some(format!("fetch it with `ollama pull {model}`"))
        }
        FailureClass::BadRequest if code == Some(404) => Some(not_found_hint(endpoint, &body.message)),
        FailureClass::BadRequest if body.contains_any(&["max_completion_tokens"]) => limit_name_hint(endpoint, model),
        FailureClass::BadRequest if endpoint.structured_output && body.contains_any(SCHEMA_FIELDS) => Some(format!(
            "if the model or the server accepts no schema, set `structured_output: off` for the provider `{name}` in \
             orch.yaml: then only the prompt contains the schema"
        )),
        _ => None,
    }
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
fn not_found_hint(endpoint: &Endpoint, message: &str) -> String {
    let check_hint = format!("check the model's name and the base URL {}", without_secrets(&endpoint.base_url));
    match endpoint.dialect {
        // Azure's deployments have such addresses, and also need the version of the API as a parameter.
        _ if endpoint.base_url.contains("{model}") => {
            "the model's name is a part of the address: check the name, and the parameters under `query:`".to_owned()
        }
        // `OpenAI` offers some models only in one of its APIs.
        Dialect::OpenAi if message.contains("v1/responses") => {
            format!("set `dialect: responses` under `providers.{}` of orch.yaml", endpoint.name)
        }
        Dialect::Responses => {
            format!("{check_hint}; a server without the Responses API needs `dialect: openai`")
        }
        _ => check_hint,
    }
}
