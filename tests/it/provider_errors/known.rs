//! Error bodies of providers, each with the failure that it gives.

use orch::model::failure::FailureClass;
use orch::provider::Dialect;
use serde_json::{Value, json};

/// A body that a provider sends, and the resulting failure.
pub(super) struct KnownError {
    pub(super) dialect: Dialect,
    /// The status; 200 for an event in a stream.
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) class: FailureClass,
    pub(super) wait_ms: Option<u64>,
    /// A part of the message.
    pub(super) words: &'static str,
    /// A part of the hint; empty if there is none.
    pub(super) hint: &'static str,
}

fn row(dialect: Dialect, status: u16, body: Value, class: FailureClass, words: &'static str) -> KnownError {
    KnownError { dialect, status, body, class, wait_ms: None, words, hint: "" }
}

impl KnownError {
    fn waits(self, millis: u64) -> Self {
        Self { wait_ms: Some(millis), ..self }
    }

    fn hints(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }
}

const CREDIT: &str = "the account has no credit left";
const ADD: &str = "add credit to the account at lab";

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn openai() -> Vec<KnownError> {
    let error = |kind: &str, code: &str, message: &str| json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    let o = Dialect::OpenAi;
    vec![
        row(
            o,
            403,
            error("invalid_request_error", "model_not_found", "Project `p` does not have access to model `m`"),
            FailureClass::Auth,
            "lab denies access to the model some-model (403)",
        )
        .hints("what the key in LAB_KEY has access to"),
        row(
            o,
            401,
            error("invalid_request_error", "invalid_api_key", "Incorrect API key provided"),
            FailureClass::Auth,
            "refuses the key (401)",
        )
        .hints("check the key in LAB_KEY"),
        row(
            o,
            404,
            error("invalid_request_error", "model_not_found", "The model does not exist"),
            FailureClass::BadRequest,
            "does not know the model some-model",
        ),
        row(
            o,
            400,
            error(
                "invalid_request_error",
                "context_length_exceeded",
                "This model's maximum context length is 8192 tokens",
            ),
            FailureClass::BadRequest,
            "maximum context length is 8192",
        ),
        row(
            o,
            429,
            error("insufficient_quota", "insufficient_quota", "You exceeded your current quota"),
            FailureClass::BadRequest,
            CREDIT,
        )
        .hints(ADD),
        row(
            o,
            429,
            error("invalid_request_error", "billing_hard_limit_reached", "Billing hard limit has been reached"),
            FailureClass::BadRequest,
            CREDIT,
        )
        .hints(ADD),
        row(
            o,
            429,
            error(
                "requests",
                "rate_limit_exceeded",
                "Rate limit reached for m on requests per min. Please try again in 4.5s. Visit the page",
            ),
            FailureClass::RateLimited,
            "too many requests",
        )
        .waits(4500),
        row(
            o,
            429,
            error("tokens", "rate_limit_exceeded", "Please try again in 250ms."),
            FailureClass::RateLimited,
            "too many requests",
        )
        .waits(250),
        row(
            o,
            400,
            error(
                "invalid_request_error",
                "",
                "'response_format' of type 'json_schema' is not supported with this model",
            ),
            FailureClass::BadRequest,
            "refuses the request (400)",
        )
        .hints("`structured_output: off` for the provider `lab`"),
        row(
            o,
            400,
            error(
                "invalid_request_error",
                "unsupported_parameter",
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            ),
            FailureClass::BadRequest,
            "Use 'max_completion_tokens' instead",
        )
        .hints("name the provider `openai` instead of `lab`"),
        row(
            o,
            400,
            error(
                "invalid_request_error",
                "",
                "Function tools with reasoning_effort are not supported for gpt-5.6-sol in /v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
            ),
            FailureClass::BadRequest,
            "Function tools with reasoning_effort are not supported",
        )
        .hints("set `dialect: responses` under `providers.lab` of orch.yaml"),
        row(
            o,
            500,
            error("server_error", "", "The server had an error"),
            FailureClass::ProviderUnavailable,
            "is unavailable (500)",
        ),
        row(
            o,
            503,
            error("server_error", "", "The engine is currently overloaded"),
            FailureClass::ProviderUnavailable,
            "overloaded",
        ),
    ]
}

pub(super) fn compatible() -> Vec<KnownError> {
    let o = Dialect::OpenAi;
    vec![
        // Azure.
        row(o, 429, json!({"error": {"code": "429", "message": "Requests have exceeded the rate limit. Please retry after 7 seconds."}}), FailureClass::RateLimited, "too many requests").waits(7000),
        row(o, 400, json!({"error": {"code": "content_filter", "message": "The response was filtered", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}), FailureClass::Refusal, "refuses the content"),
        row(o, 401, json!({"statusCode": 401, "message": "Access denied due to invalid subscription key"}), FailureClass::Auth, "Access denied").hints("LAB_KEY"),
        row(o, 404, json!({"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist"}}), FailureClass::BadRequest, "deployment"),
        // DeepSeek.
        row(o, 402, json!({"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}}), FailureClass::BadRequest, CREDIT).hints(ADD),
        // OpenRouter.
        row(o, 402, json!({"error": {"code": 402, "message": "Insufficient credits"}}), FailureClass::BadRequest, CREDIT).hints(ADD),
        row(o, 403, json!({"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}}), FailureClass::Refusal, "Your input was flagged"),
        row(o, 502, json!({"error": {"code": 502, "message": "Provider returned error"}}), FailureClass::ProviderUnavailable, "Provider returned error"),
        row(o, 200, json!({"id": "gen-1", "error": {"code": 429, "message": "Rate limited upstream"}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}), FailureClass::RateLimited, "Rate limited upstream"),
        row(o, 200, json!({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": {"code": 502, "message": "Provider disconnected"}}]}), FailureClass::ProviderUnavailable, "Provider disconnected"),
        // xAI.
        row(o, 403, json!({"code": "The caller does not have permission", "error": "Your newly created team doesn't have any credits yet. You can purchase credits."}), FailureClass::BadRequest, CREDIT).hints(ADD),
        row(o, 403, json!({"code": "permission_denied", "error": "You have run out of credits"}), FailureClass::BadRequest, CREDIT).hints(ADD),
        // Mistral.
        row(o, 422, json!({"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]}), FailureClass::BadRequest, "Field required"),
        row(o, 429, json!({"object": "error", "message": "Requests rate limit exceeded", "type": "rate_limited", "code": "1300"}), FailureClass::RateLimited, "Requests rate limit exceeded"),
        // vLLM and sglang.
        row(o, 400, json!({"object": "error", "message": "maximum context length is 4096 tokens", "type": "BadRequestError", "param": null, "code": 400}), FailureClass::BadRequest, "4096"),
        row(o, 200, json!({"object": "error", "message": "maximum context length is 4096 tokens", "type": "BadRequestError", "code": 400}), FailureClass::BadRequest, "4096"),
        row(o, 200, json!({"error": {"object": "error", "message": "engine died", "type": "InternalServerError", "code": 500}}), FailureClass::ProviderUnavailable, "engine died"),
        // llama.cpp.
        row(o, 503, json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}), FailureClass::ProviderUnavailable, "Loading model"),
        row(o, 400, json!({"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}), FailureClass::BadRequest, "available context size"),
        // Ollama and LM Studio.
        row(o, 404, json!({"error": {"message": "model \"x\" not found, try pulling it first", "type": "api_error"}}), FailureClass::BadRequest, "try pulling it first"),
        row(o, 404, json!({"error": "No models loaded"}), FailureClass::BadRequest, "No models loaded"),
        // Servers and models without tools.
        row(o, 400, json!({"object": "error", "message": "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set", "type": "BadRequestError", "code": 400}), FailureClass::BadRequest, "tool choice requires").hints("start vLLM with `--enable-auto-tool-choice` and the `--tool-call-parser` for the model"),
        row(o, 500, json!({"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}}), FailureClass::BadRequest, "requires --jinja flag").hints("start llama-server with `--jinja`"),
        row(o, 400, json!({"error": {"message": "registry.ollama.ai/library/gemma2:2b does not support tools", "type": "api_error"}}), FailureClass::BadRequest, "does not support tools").hints("or remove `tools` of the agent"),
        row(o, 404, json!({"error": {"code": 404, "message": "No endpoints found that support tool use."}}), FailureClass::BadRequest, "support tool use").hints("or remove `tools` of the agent"),
        row(o, 400, json!({"error": {"message": "Failed to call a function. Please adjust your prompt.", "type": "invalid_request_error", "code": "tool_use_failed", "failed_generation": "<function=read>"}}), FailureClass::ProviderUnavailable, "Failed to call a function"),
        // Gateways.
        row(o, 200, json!({"id": "x", "choices": null, "error_type": "BadRequestError", "error_message": "no such field"}), FailureClass::BadRequest, "no such field"),
        row(o, 200, json!({"errors": [{"message": "no such model", "code": 5007}], "success": false}), FailureClass::ProviderUnavailable, "no such model"),
        row(o, 200, json!({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}), FailureClass::BadRequest, CREDIT).hints(ADD),
    ]
}

pub(super) fn anthropic() -> Vec<KnownError> {
    let error = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"});
    let a = Dialect::Anthropic;
    vec![
        row(
            a,
            400,
            error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            FailureClass::BadRequest,
            "prompt is too long",
        ),
        row(
            a,
            400,
            error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            FailureClass::BadRequest,
            CREDIT,
        )
        .hints(ADD),
        row(
            a,
            400,
            error("invalid_request_error", "output_config.format: Extra inputs are not permitted"),
            FailureClass::BadRequest,
            "Extra inputs are not permitted",
        )
        .hints("`structured_output: off`"),
        row(a, 402, error("billing_error", "There is an issue with your billing"), FailureClass::BadRequest, CREDIT)
            .hints(ADD),
        row(a, 401, error("authentication_error", "invalid x-api-key"), FailureClass::Auth, "invalid x-api-key")
            .hints("check the key in LAB_KEY"),
        row(a, 403, error("permission_error", "not allowed"), FailureClass::Auth, "not allowed").hints("LAB_KEY"),
        row(a, 404, error("not_found_error", "model: x"), FailureClass::BadRequest, "does not know the model"),
        row(a, 413, error("request_too_large", "too large"), FailureClass::BadRequest, "too large"),
        row(a, 429, error("rate_limit_error", "slow down"), FailureClass::RateLimited, "slow down"),
        row(a, 500, error("api_error", "internal"), FailureClass::ProviderUnavailable, "internal"),
        row(a, 504, error("timeout_error", "timed out"), FailureClass::ProviderUnavailable, "timed out"),
        row(a, 529, error("overloaded_error", "Overloaded"), FailureClass::ProviderUnavailable, "Overloaded"),
        row(a, 200, error("overloaded_error", "Overloaded"), FailureClass::ProviderUnavailable, "Overloaded"),
        row(a, 200, error("rate_limit_error", "slow down"), FailureClass::RateLimited, "slow down"),
        row(a, 200, error("invalid_request_error", "Your credit balance is too low"), FailureClass::BadRequest, CREDIT)
            .hints(ADD),
    ]
}

pub(super) fn gemini() -> Vec<KnownError> {
    let error = |code: u16, status: &str, message: &str, details: Value| json!({"error": {"code": code, "message": message, "status": status, "details": details}});
    let retry = |delay: &str| json!([{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]);
    let invalid = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
    let g = Dialect::Gemini;
    vec![
        row(
            g,
            400,
            error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", invalid),
            FailureClass::Auth,
            "API key not valid",
        )
        .hints("check the key in LAB_KEY"),
        row(g, 400, error(400, "INVALID_ARGUMENT", "bad field", json!([])), FailureClass::BadRequest, "bad field"),
        row(
            g,
            400,
            error(400, "INVALID_ARGUMENT", "Function calling is not enabled for models/gemma-3-27b-it", json!([])),
            FailureClass::BadRequest,
            "Function calling is not enabled",
        )
        .hints("name a model that accepts tools"),
        row(
            g,
            400,
            error(
                400,
                "INVALID_ARGUMENT",
                "Function calling with a response mime type: 'application/json' is unsupported",
                json!([]),
            ),
            FailureClass::BadRequest,
            "is unsupported",
        )
        .hints("`structured_output: off`"),
        row(g, 403, error(403, "PERMISSION_DENIED", "no access", json!([])), FailureClass::Auth, "no access")
            .hints("LAB_KEY"),
        row(
            g,
            404,
            error(404, "NOT_FOUND", "models/x is not found", json!([])),
            FailureClass::BadRequest,
            "is not found",
        ),
        row(
            g,
            429,
            error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", retry("4.5s")),
            FailureClass::RateLimited,
            "too many requests",
        )
        .waits(4500),
        row(
            g,
            429,
            error(429, "RESOURCE_EXHAUSTED", "Quota exceeded. Please retry in 37.4s.", json!([])),
            FailureClass::RateLimited,
            "too many requests",
        )
        .waits(37_400),
        row(
            g,
            429,
            error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", json!([])),
            FailureClass::BadRequest,
            CREDIT,
        )
        .hints(ADD),
        row(
            g,
            503,
            error(503, "UNAVAILABLE", "The model is overloaded", retry("9s")),
            FailureClass::ProviderUnavailable,
            "overloaded",
        )
        .waits(9000),
        row(g, 200, error(429, "RESOURCE_EXHAUSTED", "quota", retry("1.5s")), FailureClass::RateLimited, "quota")
            .waits(1500),
        row(
            g,
            200,
            json!([error(503, "UNAVAILABLE", "overloaded", json!([]))]),
            FailureClass::ProviderUnavailable,
            "overloaded",
        ),
    ]
}
