//! Error bodies of every shape: reads what a server says when it sends no reply, and classifies it.

use serde_json::Value;

use super::client::shown;
use super::errors::{RequestContext, scrubbed, short};
use super::waits;
use crate::model::failure::{Class, Failure};

/// The longest message of a provider that orch quotes, in characters.
pub(super) const MESSAGE: usize = 300;

/// What an error body says.
#[derive(Default)]
pub(super) struct ErrorBody {
    pub(super) message: String,
    /// Type, code and status names in lower case, joined; the failure class is derived from them.
    kind: String,
    code: Option<u16>,
}

impl ErrorBody {
    /// An error body that is text instead of JSON.
    pub(super) fn plain(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

/// Whether a field reports an error: servers write `false`, `0`, `""`, `{}` and `[]` for "no error".
fn tells(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The value itself, or the first element of a list.
fn first(value: &Value) -> &Value {
    value.as_array().and_then(|list| list.first()).unwrap_or(value)
}

/// The part of a value that describes an error; `None` when the value does not report one.
fn error_in(value: &Value) -> Option<&Value> {
    let value = first(value);
    let part = |pointer: &str| value.pointer(pointer).filter(|part| tells(part));
    // Some servers put a flag beside the message: `{"error": true, "message": …}`.
    let own = |part: &'static str| value.get(part).filter(|part| tells(part));
    if let Some(error) = own("error") {
        return Some(if error.is_boolean() || error.is_number() { value } else { error });
    }
    if let Some(errors) = own("errors") {
        return Some(first(errors));
    }
    if let Some(error) = part("/choices/0/error").or_else(|| part("/choices/0/message/error")) {
        return Some(error);
    }
    if part("/base_resp/status_code").is_some() {
        return value.get("base_resp");
    }
    let named = |field: &str| value.get(field).and_then(Value::as_str).is_some_and(|name| name == "error");
    let replies = ["choices", "candidates"].iter().any(|list| part(&format!("/{list}")).is_some());
    let flat = !replies
        && ["error_type", "error_message", "error_msg", "error_code"]
            .iter()
            .any(|field| part(&format!("/{field}")).is_some());
    let coded = value.get("message").is_some_and(Value::is_string) && said(value).is_some_and(|said| said.is_failure());
    (flat || coded || named("object") || named("type") || named("status")).then_some(value)
}

impl ErrorBody {
    /// Whether the code or the kind marks this as a failure rather than a note.
    fn is_failure(&self) -> bool {
        self.code.is_some() || self.kind.contains("error")
    }
}

/// Reads an error body: `{"error": {…}}`, `{"error": "…"}`, `[{"error": …}]`, `{"message": …}`,
/// `{"detail": …}`, and the flat fields that some servers have instead.
pub(super) fn said(value: &Value) -> Option<ErrorBody> {
    let value = first(value);
    let error = match value.get("error").filter(|error| tells(error)) {
        Some(error) if error.is_object() || error.is_string() => error,
        _ => value,
    };
    if let Some(text) = error.as_str() {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        return Some(ErrorBody { message: text.to_owned(), kind: kind.to_ascii_lowercase(), code: code(value) });
    }
    let words = ["message", "detail", "error_message", "error_msg", "msg", "status_msg", "title"];
    let message = match words.iter().find_map(|field| error.get(*field).filter(|words| tells(words))) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None if error.is_object() && !std::ptr::eq(error, value) => error.to_string(),
        None => return None,
    };
    let kinds = ["type", "code", "status", "error_type", "reason"];
    let own = kinds.iter().filter_map(|field| error.get(*field)?.as_str());
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let reasons = details.filter_map(|detail| detail.get("reason")?.as_str());
    let kinds: Vec<&str> = own.chain(reasons).collect();
    Some(ErrorBody { message, kind: kinds.join(" ").to_ascii_lowercase(), code: code(error) })
}

/// The status from 400 to 599 that an error body names, as a number or as text.
fn code(error: &Value) -> Option<u16> {
    ["code", "status", "status_code", "error_code"].iter().find_map(|field| {
        let value = error.get(*field)?;
        let code = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        u16::try_from(code).ok().filter(|code| (400..600).contains(code))
    })
}

/// The failure that a JSON value reports, if it reports one: an error event in a stream, or an error body with a
/// success status.
pub(super) fn reported(value: &Value, context: &RequestContext<'_>) -> Option<Failure> {
    match value.as_array().filter(|list| list.len() > 1) {
        // Gemini answers with a list; the error may follow parts of the reply.
        Some(list) => list.iter().find_map(|part| reported_by_one(part, context)),
        None => reported_by_one(value, context),
    }
}

fn reported_by_one(value: &Value, context: &RequestContext<'_>) -> Option<Failure> {
    let error = error_in(value)?;
    let said = said(error).unwrap_or_else(|| ErrorBody::plain(error.to_string()));
    let outer = first(value);
    let code = said.code.or_else(|| code(outer));
    let kind = match outer.get("type").and_then(Value::as_str).filter(|_| said.kind.is_empty()) {
        Some(kind) => kind.to_ascii_lowercase(),
        None => said.kind.clone(),
    };
    let said = ErrorBody { kind, ..said };
    let failure = describe(code, &said, context);
    // Some servers name the wait beside the error instead of inside it.
    let wait = wait(error, "", failure.class, context).or_else(|| wait(value, &said.message, failure.class, context));
    Some(Failure { status: code, retry_after_ms: wait, ..failure })
}

/// How long the headers or else the error ask to wait, in milliseconds; `None` where waiting does not help.
fn wait(error: &Value, message: &str, class: Class, context: &RequestContext<'_>) -> Option<u64> {
    let in_body = waits::in_body(error, message, class, context.clock.now());
    context.header_wait.filter(|_| waits::helps(class)).or(in_body)
}

/// Whether a value reports an error in `detail`, as FastAPI does.
pub(super) fn has_detail(value: &Value) -> bool {
    value.get("detail").is_some_and(tells)
}

/// Whether a value holds a part of a reply, in any dialect.
pub(super) fn has_content(value: &Value) -> bool {
    let parts = [
        "/choices/0/delta/content",
        "/choices/0/message/content",
        "/choices/0/delta/reasoning_content",
        "/choices/0/message/reasoning_content",
        "/candidates/0/content/parts",
        "/content",
    ];
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    list.iter().any(|value| parts.iter().any(|part| value.pointer(part).is_some_and(tells)))
}

/// The failure for an answer that is not a reply, from what the server sent instead.
pub(super) fn instead(words: &str, context: &RequestContext<'_>) -> Failure {
    let parsed: Option<Value> = serde_json::from_str(words).ok();
    let said = parsed.as_ref().and_then(said).unwrap_or_else(|| ErrorBody::plain(words.to_owned()));
    let class = classify(said.code, &said);
    let shown = short(&scrubbed(&said.message, context.endpoint), MESSAGE);
    let failure = Failure::new(class, format!("{} sent no reply, and said: {shown}", context.endpoint.name));
    let body = parsed.unwrap_or_default();
    Failure { retry_after_ms: wait(&body, &said.message, class, context), ..failure }
}

/// The failure for an event or a line that the server marks as an error, whatever its content.
pub(super) fn named_error(value: &Value, context: &RequestContext<'_>) -> Failure {
    let plain = || ErrorBody::plain(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let said = said(value).unwrap_or_else(plain);
    let failure = describe(said.code, &said, context);
    let wait = wait(value, &said.message, failure.class, context);
    Failure { status: said.code, retry_after_ms: wait, ..failure }
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

/// Names and phrases with which a provider reports that a request exceeds the model's context window.
const TOO_LONG: &[&str] = &[
    "context_length",
    "exceed_context_size",
    "maximum context length",
    "context window",
    "available context size",
    "prompt is too long",
];

/// Names and phrases with which a provider reports that a content filter refused the request: Azure (`content_filter`),
/// `OpenRouter`'s moderation.
const FILTERED: &[&str] =
    &["content_filter", "content_policy_violation", "responsibleaipolicyviolation", "input was flagged"];

/// Whether a provider reports that the account has no credit left. This is not [`Class::Auth`]: the key is valid.
fn has_no_credit(code: Option<u16>, said: &ErrorBody) -> bool {
    code == Some(402) || said.has(NO_CREDIT)
}

impl ErrorBody {
    /// Whether the kind or the message contains one of these signs.
    fn has(&self, signs: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        signs.iter().any(|sign| self.kind.contains(sign) || message.contains(sign))
    }

    /// Whether the kind contains one of these.
    fn is(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| self.kind.contains(kind))
    }
}

/// The failure class. Names that are certain (no credit, too long, filtered) count before the status, others only where
/// the status does not decide.
fn classify(code: Option<u16>, said: &ErrorBody) -> Class {
    // Gemini answers a wrong key with 400 and says so only in the details or the message.
    let wrong_key = code == Some(400) && said.message.contains("API key not valid");
    if has_no_credit(code, said) || code != Some(429) && said.has(TOO_LONG) {
        return Class::BadRequest;
    }
    // A 429 stays a rate limit, whatever else its message mentions, such as a limit by context window.
    if code != Some(429) && said.has(FILTERED) {
        return Class::Refusal;
    }
    match code {
        Some(401 | 403) => return Class::Auth,
        Some(408) => return Class::Timeout,
        Some(429) => return Class::RateLimited,
        Some(500..) => return Class::ProviderUnavailable,
        _ => {}
    }
    if wrong_key || said.is(&["api_key_invalid", "authentication", "permission", "unauthenticated", "invalid_api_key"])
    {
        Class::Auth
    } else if said.is(&["rate_limit", "ratelimit", "resource_exhausted", "too_many_requests"]) {
        Class::RateLimited
    } else if code.is_some()
        || said.is(&[
            "invalid_request",
            "not_found",
            "request_too_large",
            "invalid_argument",
            "badrequest",
            "bad_request",
        ])
    {
        Class::BadRequest
    } else {
        Class::ProviderUnavailable
    }
}

/// The failure that an error body describes.
pub(super) fn describe(code: Option<u16>, said: &ErrorBody, context: &RequestContext<'_>) -> Failure {
    let class = classify(code, said);
    let what = what(code, said, context, class);
    let code_shown = code.map_or_else(String::new, |code| format!(" ({code})"));
    // Redact before shortening: half a key would no longer match, and is still secret.
    let message = short(&scrubbed(&said.message, context.endpoint), MESSAGE);
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    let failure = Failure::new(class, format!("{what}{code_shown}{message}"));
    Failure { hint: hint(code, said, context, class), ..failure }
}

fn what(code: Option<u16>, said: &ErrorBody, context: &RequestContext<'_>, class: Class) -> String {
    let name = &context.endpoint.name;
    match class {
        _ if has_no_credit(code, said) => format!("{name} says that the account has no credit left"),
        Class::Auth => format!("{name} refuses the key"),
        Class::RateLimited => format!("{name} says that there were too many requests"),
        Class::Timeout => format!("{name} gave up waiting"),
        Class::Refusal => format!("{name} refuses the content of the request"),
        Class::BadRequest if code == Some(404) && !context.model.is_empty() => {
            format!("{name} does not know the model {}", context.model)
        }
        Class::BadRequest if code == Some(404) => format!("{name} does not know {}", shown(&context.endpoint.base_url)),
        Class::BadRequest => format!("{name} refuses the request"),
        _ => format!("{name} is unavailable"),
    }
}

fn hint(code: Option<u16>, said: &ErrorBody, context: &RequestContext<'_>, class: Class) -> Option<String> {
    let (endpoint, model) = (context.endpoint, context.model);
    let name = &endpoint.name;
    match (class, &endpoint.key_variable) {
        _ if has_no_credit(code, said) => {
            Some(format!("add credit to the account at {name}, or name another model with --model"))
        }
        (Class::Auth, Some(variable)) if endpoint.api_key.is_some() => Some(format!("check the key in {variable}")),
        (Class::Auth, Some(variable)) => Some(format!("set {variable}")),
        (Class::Auth, None) => Some(format!(
            "say where its key is: `providers: {{ {name}: {{ api_key: {{ env: NAME }} }} }}` in orch.yaml, and set that variable"
        )),
        (Class::BadRequest, _) if code == Some(404) && name == "ollama" && !model.is_empty() => {
            Some(format!("fetch it with `ollama pull {model}`"))
        }
        (Class::BadRequest, _) if code == Some(404) => {
            Some(format!("check the model's name and the base URL {}", shown(&endpoint.base_url)))
        }
        _ => None,
    }
}
