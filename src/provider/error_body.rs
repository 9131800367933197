//! Parses the error bodies that servers send instead of a reply, in many shapes, and derives the class of the failure.

use serde_json::Value;

use super::client::without_secrets;
use super::error_hints::hint;
use super::errors::RequestContext;
use super::redaction::quote;
use super::requested_wait;
use crate::model::failure::{Failure, FailureClass};
use crate::model::json_number::whole_number;

/// The longest message of a provider that orch quotes, in characters.
pub(super) const MAX_MESSAGE_CHARS: usize = 300;
/// The longest part of a message in which orch looks for phrases, in bytes. A text that is no error may be a whole body.
const MAX_EXAMINED_BYTES: usize = 64 * 1024;

/// The content of an error body.
#[derive(Default)]
pub(super) struct ErrorBody {
    pub(super) message: String,
    /// Type, code and status names in lower case, joined. They determine the failure class.
    labels: String,
    code: Option<u16>,
}

impl ErrorBody {
    /// An error body that is text instead of JSON.
    pub(super) fn from_text(message: String) -> Self {
        Self { message, ..Self::default() }
    }

    /// Adds the name of an error that a header contains.
    pub(super) fn add_label(&mut self, label: &str) {
        self.labels = format!("{} {}", self.labels, label.to_ascii_lowercase());
    }
}

/// Whether the value of a field reports an error. Servers write `false`, `0`, `""`, `{}` and `[]` for "no error".
fn is_non_empty(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The first element of a list; any other value itself.
fn first_element(value: &Value) -> &Value {
    value.as_array().and_then(|list| list.first()).unwrap_or(value)
}

/// Finds the part of a value that describes an error; `None` if the value does not report one.
pub(super) fn find_error(value: &Value) -> Option<&Value> {
    let value = first_element(value);
    let non_empty_at = |pointer: &str| value.pointer(pointer).filter(|found| is_non_empty(found));
    // Some servers send a flag in addition to the message: `{"error": true, "message": …}`.
    let non_empty_field = |name: &'static str| value.get(name).filter(|field| is_non_empty(field));
    if let Some(error) = non_empty_field("error") {
        return Some(if error.is_boolean() || error.is_number() { value } else { error });
    }
    if let Some(errors) = non_empty_field("errors") {
        return Some(first_element(errors));
    }
    let nested_pointers = ["/choices/0/error", "/choices/0/message/error", "/response/error"];
    if let Some(error) = nested_pointers.into_iter().find_map(non_empty_at) {
        return Some(error);
    }
    if non_empty_at("/base_resp/status_code").is_some() {
        return value.get("base_resp");
    }
    let is_error_label = |field: &str| value.get(field).and_then(Value::as_str).is_some_and(|label| label == "error");
    let has_reply = ["choices", "candidates"].iter().any(|list| non_empty_at(&format!("/{list}")).is_some());
    let has_error_field = !has_reply
        && ["error_type", "error_message", "error_msg", "error_code"]
            .iter()
            .any(|field| non_empty_at(&format!("/{field}")).is_some());
    let has_failure_code = value.get("message").is_some_and(Value::is_string)
        && parse_error_body(value).is_some_and(|body| body.is_failure());
    (has_error_field
        || has_failure_code
        || is_error_label("object")
        || is_error_label("type")
        || is_error_label("status"))
    .then_some(value)
}

impl ErrorBody {
    /// Whether the code or a label shows that the message reports an error.
    fn is_failure(&self) -> bool {
        self.code.is_some() || self.labels.contains("error")
    }
}

/// Reads an error body: `{"error": {…}}`, `{"error": "…"}`, `[{"error": …}]`, `{"message": …}`,
/// `{"detail": …}`, or the flat fields of some servers.
pub(super) fn parse_error_body(value: &Value) -> Option<ErrorBody> {
    let value = first_element(value);
    let error = match value.get("error").filter(|error| is_non_empty(error)) {
        Some(error) if error.is_object() || error.is_string() => error,
        _ => value,
    };
    if let Some(text) = error.as_str() {
        let labels = value.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        return Some(ErrorBody { message: text.to_owned(), labels, code: error_status(value) });
    }
    let message_fields = ["message", "Message", "detail", "error_message", "error_msg", "msg", "status_msg", "title"];
    let message = match message_fields.iter().find_map(|field| error.get(*field).filter(|text| is_non_empty(text))) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None if error.is_object() && !std::ptr::eq(error, value) => error.to_string(),
        None => return None,
    };
    let label_fields = ["type", "code", "status", "error_type", "reason", "__type"];
    let labels = label_fields.iter().filter_map(|field| error.get(*field)?.as_str());
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let reasons = details.filter_map(|detail| detail.get("reason")?.as_str());
    let labels: Vec<&str> = labels.chain(reasons).collect();
    Some(ErrorBody { message, labels: labels.join(" ").to_ascii_lowercase(), code: error_status(error) })
}

/// The status from 400 to 599 in an error body, written as a number or as text.
fn error_status(error: &Value) -> Option<u16> {
    ["code", "status", "status_code", "error_code"].iter().find_map(|field| {
        let value = error.get(*field)?;
        let code = whole_number(value).or_else(|| value.as_str()?.parse().ok())?;
        u16::try_from(code).ok().filter(|code| (400..600).contains(code))
    })
}

/// The failure that a JSON value reports, if any: the value is an error event in a stream, or an error body with a
/// success status.
pub(super) fn failure_reported_in_body(value: &Value, context: &RequestContext<'_>) -> Option<Failure> {
    match value.as_array().filter(|list| list.len() > 1) {
        // Gemini sends a list; the error may follow parts of the reply.
        Some(list) => list.iter().find_map(|part| failure_in_value(part, context)),
        None => failure_in_value(value, context),
    }
}

fn failure_in_value(value: &Value, context: &RequestContext<'_>) -> Option<Failure> {
    let error = find_error(value)?;
    let body = parse_error_body(error).unwrap_or_else(|| ErrorBody::from_text(error.to_string()));
    let outer = first_element(value);
    let code = body.code.or_else(|| error_status(outer));
    let labels = match outer.get("type").and_then(Value::as_str).filter(|_| body.labels.is_empty()) {
        Some(label) => label.to_ascii_lowercase(),
        None => body.labels.clone(),
    };
    let body = ErrorBody { labels, ..body };
    let failure = failure_from_body(code, &body, context);
    // Some servers send the wait next to the error object, not inside it.
    let retry_after_ms = requested_wait(error, "", failure.class, context)
        .or_else(|| requested_wait(value, &body.message, failure.class, context));
    Some(Failure { status: code, retry_after_ms, ..failure })
}

/// The wait in milliseconds that the headers request, or else the error body; `None` where waiting does not help.
fn requested_wait(error: &Value, message: &str, class: FailureClass, context: &RequestContext<'_>) -> Option<u64> {
    let in_body = requested_wait::wait_from_body(error, message, class, context.clock.now());
    context.retry_after_ms.filter(|_| requested_wait::is_wait_useful(class)).or(in_body)
}

/// Whether orch recognizes an error of this class, so that the model generated nothing. `ProviderUnavailable` is the
/// class of every error that orch does not recognize, and of faults of the server.
pub(super) fn is_recognized_error(class: FailureClass) -> bool {
    class != FailureClass::ProviderUnavailable
}

/// Whether a value reports an error in `detail`, as FastAPI does.
pub(super) fn has_detail(value: &Value) -> bool {
    value.get("detail").is_some_and(is_non_empty)
}

/// Whether a value contains a part of a reply, in any dialect.
pub(super) fn has_content(value: &Value) -> bool {
    let content_pointers = [
        "/choices/0/delta/content",
        "/choices/0/message/content",
        "/choices/0/delta/reasoning_content",
        "/choices/0/message/reasoning_content",
        "/candidates/0/content/parts",
        "/content",
        "/output",
        "/response/output",
    ];
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    list.iter().any(|value| content_pointers.iter().any(|pointer| value.pointer(pointer).is_some_and(is_non_empty)))
}

/// The failure for a response without a reply; `text` is what the server sent instead.
pub(super) fn failure_without_reply(text: &str, context: &RequestContext<'_>) -> Failure {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let body = parsed.as_ref().and_then(parse_error_body).unwrap_or_else(|| ErrorBody::from_text(text.to_owned()));
    let class = classify(body.code, &body);
    let message = quote(&body.message, context.endpoint, MAX_MESSAGE_CHARS);
    let failure = Failure::new(class, format!("{} sent no reply, and said: {message}", context.endpoint.name));
    let retry_after_ms = requested_wait(&parsed.unwrap_or_default(), &body.message, class, context);
    Failure { retry_after_ms, ..failure }
}

/// The failure for an event or a line that the server marks as an error, whatever its content.
pub(super) fn failure_from_error_event(value: &Value, context: &RequestContext<'_>) -> Failure {
    let from_text = || ErrorBody::from_text(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let body = parse_error_body(value).unwrap_or_else(from_text);
    let failure = failure_from_body(body.code, &body, context);
    let retry_after_ms = requested_wait(value, &body.message, failure.class, context);
    Failure { status: body.code, retry_after_ms, ..failure }
}

/// Names and phrases with which a provider reports that the account has no credit: `OpenAI` (`insufficient_quota`,
/// `billing_hard_limit_reached`, `billing_not_active`), Anthropic (`billing_error`, "Your credit balance is too low"),
/// `DeepSeek` ("Insufficient Balance"), `OpenRouter` ("Insufficient credits"), Moonshot
/// (`exceeded_current_quota_error`), Gemini ("Your prepayment credits are depleted"), xAI ("Your newly created team
/// doesn't have any credits yet", "Your team has either used all available credits or reached its monthly spending
/// limit"; both with status 403).
const NO_CREDIT: &[&str] = &[
    "insufficient_quota",
    "billing_",
    "exceeded_current_quota",
    "credit balance is too low",
    "insufficient balance",
    "insufficient credit",
    "insufficient_credit",
    "insufficient_funds",
    "credits are depleted",
    "have any credits",
    "out of credits",
    "used all available credits",
];

/// Phrases with which a provider reports, with status 403, that valid credentials have no access to a model or an action:
/// Bedrock ("You don't have access to the model", "is not authorized to perform: bedrock:InvokeModel"), `OpenAI` ("does
/// not have access to model").
const ACCESS_DENIED: &[&str] = &["have access to", "not authorized to", "not allowed to"];

/// Names and phrases with which a provider reports that a request exceeds the model's context window.
const CONTEXT_EXCEEDED: &[&str] = &[
    "context_length",
    "exceed_context_size",
    "maximum context length",
    "context window",
    "available context size",
    "prompt is too long",
];

/// Names and phrases with which a provider reports that a content filter refused the request: Azure (`content_filter`),
/// the Responses API (`bio_policy`), `OpenRouter`'s moderation.
const CONTENT_FILTERED: &[&str] =
    &["content_filter", "content_policy_violation", "responsibleaipolicyviolation", "bio_policy", "input was flagged"];

/// Whether a provider reports that the account has no credit left. This is not [`FailureClass::Auth`]: the key is
/// valid.
pub(super) fn has_no_credit(code: Option<u16>, body: &ErrorBody) -> bool {
    code == Some(402) || body.contains_any(NO_CREDIT)
}

/// Whether a provider reports that valid credentials have no access to the model or the action. AWS uses the name
/// `AccessDeniedException` for some faults of a key too.
pub(super) fn denies_access(code: Option<u16>, body: &ErrorBody) -> bool {
    let blames_key = || body.contains_any(&["api key", "authentication", "token", "signature"]);
    code == Some(403)
        && (body.contains_any(ACCESS_DENIED) || body.labels_contain_any(&["accessdenied"]) && !blames_key())
}

impl ErrorBody {
    /// Whether the labels or the message contain one of the patterns.
    pub(super) fn contains_any(&self, patterns: &[&str]) -> bool {
        let examined = self.message.floor_char_boundary(MAX_EXAMINED_BYTES);
        let message = self.message.get(..examined).unwrap_or_default().to_lowercase();
        patterns.iter().any(|pattern| self.labels.contains(pattern) || message.contains(pattern))
    }

    /// Whether the labels contain one of these.
    fn labels_contain_any(&self, labels: &[&str]) -> bool {
        labels.iter().any(|label| self.labels.contains(label))
    }
}

/// The failure class. Labels and phrases with one clear meaning (no credit, context exceeded, content filtered) take
/// precedence over the status. Other labels count only if the status does not determine the class.
fn classify(code: Option<u16>, body: &ErrorBody) -> FailureClass {
    // Gemini rejects a wrong key with 400, and only the details or the message name the reason.
    let has_wrong_key = code == Some(400) && body.message.contains("API key not valid");
    if has_no_credit(code, body) || code != Some(429) && body.contains_any(CONTEXT_EXCEEDED) {
        return FailureClass::BadRequest;
    }
    // llama.cpp refuses tools with status 500.
    if body.contains_any(&["requires --jinja"]) {
        return FailureClass::BadRequest;
    }
    // Groq sends this code with status 400 if the model wrote a call that it can't read. Another try may succeed.
    if body.labels_contain_any(&["tool_use_failed"]) {
        return FailureClass::ProviderUnavailable;
    }
    // A 429 is always a rate limit, even if its message mentions something else, such as the context window.
    if code != Some(429) && body.contains_any(CONTENT_FILTERED) {
        return FailureClass::Refusal;
    }
    match code {
        Some(401 | 403) => return FailureClass::Auth,
        Some(408) => return FailureClass::Timeout,
        // Bedrock sends 424 if the model failed.
        Some(424) => return FailureClass::ProviderUnavailable,
        Some(429) => return FailureClass::RateLimited,
        Some(500..) => return FailureClass::ProviderUnavailable,
        _ => {}
    }
    if has_wrong_key
        || body.labels_contain_any(&[
            "api_key_invalid",
            "authentication",
            "permission",
            "unauthenticated",
            "invalid_api_key",
        ])
    {
        FailureClass::Auth
    } else if body.labels_contain_any(&["rate_limit", "ratelimit", "resource_exhausted", "too_many_requests"]) {
        FailureClass::RateLimited
    } else if code.is_some()
        || body.labels_contain_any(&[
            "invalid_request",
            "not_found",
            "request_too_large",
            "invalid_argument",
            "badrequest",
            "bad_request",
            // The Responses API sends these codes without a status.
            "invalid_prompt",
            "invalid_image",
            "invalid_base64_image",
            "image_too_",
            "image_parse_error",
            "image_file_",
            "empty_image_file",
            "unsupported_image_media_type",
            "failed_to_download_image",
            "data_residency_mismatch",
        ])
    {
        FailureClass::BadRequest
    } else {
        FailureClass::ProviderUnavailable
    }
}

/// The failure that an error body describes.
pub(super) fn failure_from_body(code: Option<u16>, body: &ErrorBody, context: &RequestContext<'_>) -> Failure {
    let class = classify(code, body);
    let summary = summary(code, body, context, class);
    let code_text = code.map_or_else(String::new, |code| format!(" ({code})"));
    let message = quote(&body.message, context.endpoint, MAX_MESSAGE_CHARS);
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    let failure = Failure::new(class, format!("{summary}{code_text}{message}"));
    Failure { hint: hint(code, body, context, class), ..failure }
}

fn summary(code: Option<u16>, body: &ErrorBody, context: &RequestContext<'_>, class: FailureClass) -> String {
    let name = &context.endpoint.name;
    match class {
        _ if has_no_credit(code, body) => format!("{name} says that the account has no credit left"),
        FailureClass::Auth if denies_access(code, body) && !context.model.is_empty() => {
            format!("{name} denies access to the model {}", context.model)
        }
        FailureClass::Auth if denies_access(code, body) => format!("{name} denies access"),
        FailureClass::Auth => format!("{name} refuses the key"),
        FailureClass::RateLimited => format!("{name} says that there were too many requests"),
        FailureClass::Timeout => format!("{name} gave up waiting"),
        FailureClass::Refusal => format!("{name} refuses the content of the request"),
        FailureClass::BadRequest if code == Some(404) && !context.model.is_empty() => {
            format!("{name} does not know the model {}", context.model)
        }
        FailureClass::BadRequest if code == Some(404) => {
            format!("{name} does not know {}", without_secrets(&context.endpoint.base_url))
        }
        FailureClass::BadRequest => format!("{name} refuses the request"),
        _ => format!("{name} is unavailable"),
    }
}
