//! Failures: a class, a message and a hint. Retries, reports and journals use the class.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::usage::ReportedUsage;

macro_rules! failure_classes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The class of a failure; its name is stable in journals, reports and `retry.on`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum FailureClass {
            $($(#[$doc])* #[serde(rename = $name)] $variant),+
        }

        impl FailureClass {
            /// Every class, in the order of the documentation.
            pub const ALL: &'static [FailureClass] = &[$(FailureClass::$variant),+];

            /// The stable name, in `snake_case`.
            pub fn as_str(self) -> &'static str {
                match self { $(FailureClass::$variant => $name),+ }
            }
        }
    };
}

failure_classes! {
    /// The provider rejected the request because of its rate limit.
    RateLimited = "rate_limited",
    /// The provider can't be reached, is overloaded or closed the connection.
    ProviderUnavailable = "provider_unavailable",
    /// A request or a step took longer than allowed.
    Timeout = "timeout",
    /// The API key is missing, invalid or lacks permissions.
    Auth = "auth",
    /// The provider rejected the request as invalid, for example because the model is unknown or the prompt too long.
    BadRequest = "bad_request",
    /// A token limit cut the reply off, or it ends inside a JSON value, for example at a text under `stop`.
    MaxTokensReached = "max_tokens_reached",
    /// The model or a safety filter refused to reply.
    Refusal = "refusal",
    /// The provider's stop reason does not confirm that the reply is complete.
    UnknownStop = "unknown_stop",
    /// The reply had no text.
    EmptyReply = "empty_reply",
    /// The reply contains no JSON.
    NoJson = "no_json",
    /// The reply's JSON does not fit the schema.
    SchemaMismatch = "schema_mismatch",
    /// The reply fits its schema but can't be used: an `accept` condition is false, or a `write` step would reject its
    /// files.
    OutputRejected = "output_rejected",
    /// The reply contains a secret in signed or encrypted data, which orch can neither redact nor save.
    SecretInReply = "secret_in_reply",
    /// Several values in the reply fit the schema, and the step has `extract: strict`.
    AmbiguousReply = "ambiguous_reply",
    /// A template could not be rendered.
    TemplateError = "template_error",
    /// An expression could not be evaluated, or its value has the wrong type.
    ExpressionError = "expression_error",
    /// A call would exceed a budget.
    BudgetExceeded = "budget_exceeded",
    /// A reply did not report the tokens or the cost that a budget limits.
    UsageUnknown = "usage_unknown",
    /// A command ended with a non-zero exit code.
    CommandFailed = "command_failed",
    /// A tool that a step called returned an error.
    ToolFailed = "tool_failed",
    /// A path is outside the workspace or reserved.
    PathRefused = "path_refused",
    /// A CLI agent requested a tool or an action that is not allowed.
    PermissionDenied = "permission_denied",
    /// A program or an embedded model is not installed.
    NotInstalled = "not_installed",
    /// A CLI agent failed.
    AgentError = "agent_error",
    /// A program did not start, because orch could not confine it.
    NotConfined = "not_confined",
    /// A program reached a limit of its sandbox.
    SandboxLimit = "sandbox_limit",
    /// A reply or a command's output exceeded the size limit.
    OutputTooLarge = "output_too_large",
    /// No step failed, but the `success` expression is false.
    SuccessConditionFalse = "success_condition_false",
    /// A loop ran `max` iterations, and its `until` condition is still false.
    MaxIterationsReached = "max_iterations_reached",
    /// An agent reached `max_turns` before it completed its reply.
    MaxTurnsReached = "max_turns_reached",
    /// A model repeated a tool call that had the same result each time.
    RepeatedToolCall = "repeated_tool_call",
    /// The user rejected an approval.
    Rejected = "rejected",
    /// The user did not answer an approval in time.
    ApprovalTimeout = "approval_timeout",
    /// No recording has the request or the command, or its changes do not fit the files in the workspace.
    NoRecording = "no_recording",
    /// The journal, a blob or the workspace could not be read or written.
    Storage = "storage",
    /// The user stopped the run.
    Cancelled = "cancelled",
    /// orch was killed while the step ran.
    Crashed = "crashed",
    /// A bug in orch.
    Internal = "internal",
}

impl FailureClass {
    /// Whether a call with such a failure was interrupted, so that it has no result: by the budget, by a stop, or
    /// because the process ended.
    pub fn is_interruption(self) -> bool {
        matches!(self, Self::BudgetExceeded | Self::Cancelled | Self::Crashed)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The hint for a request or a program that exceeded its time limit.
pub const RAISE_TIMEOUT_HINT: &str = "raise `timeout:` of the step";
/// The hint for a step that exceeded its deadline, which a longer `timeout:` would not fix.
pub const RAISE_DEADLINE_HINT: &str = "raise `deadline:` of the step";

/// A failed call or step, as recorded: its class, a message and a hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{class}: {message}")]
pub struct Failure {
    /// The class, which determines retries and what a resume does.
    pub class: FailureClass,
    /// One sentence in lower case, without a full stop; never contains a secret.
    pub message: String,
    /// What the user can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The wait that the provider requested, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The HTTP status, if the server sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The usage that the provider had reported when the request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<ReportedUsage>>,
    /// Whether the model may have generated tokens before the request was interrupted; their number is unknown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Whether the connection to the provider failed, and the provider has not replied before in this run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreached: bool,
    /// Whether it is certain that the server of an MCP tool did not perform the call: orch did not send it, or the server
    /// refused it before it looked at it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unperformed: bool,
    /// The values that a template or expression could not use, such as `plan.n`; `None` if they are unknown, and empty
    /// if no other value can help. orch derives the hint from them and does not record them.
    #[serde(skip)]
    pub unusable_values: Option<Box<[String]>>,
}

impl Failure {
    /// A failure with a class and a message.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            class,
            message,
            hint: None,
            retry_after_ms: None,
            status: None,
            usage: None,
            interrupted: false,
            unreached: false,
            unperformed: false,
            unusable_values: None,
        }
    }

    /// Creates a failure whose cause is a defect of orch.
    pub fn defect(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Internal, message).with_hint("this is a defect of orch")
    }

    /// The usage that the provider had reported when the request failed.
    pub fn reported_usage(&self) -> Option<ReportedUsage> {
        self.usage.as_deref().copied()
    }

    /// Removes details of the call that its step's failure does not have, such as usage.
    #[must_use]
    pub fn without_call_details(self) -> Self {
        Self { usage: None, interrupted: false, unreached: false, unperformed: false, ..self }
    }

    /// Makes the hint name `deadline:` instead of `timeout:`, for a call that the step's deadline ended.
    #[must_use]
    pub fn with_raise_deadline_hint(self) -> Self {
        let hint = self.hint.as_deref().unwrap_or(RAISE_TIMEOUT_HINT);
        match hint.strip_prefix(RAISE_TIMEOUT_HINT) {
            Some(suffix) if self.class == FailureClass::Timeout => {
                let hint = format!("{RAISE_DEADLINE_HINT}{suffix}");
                self.with_hint(hint)
            }
            _ => self,
        }
    }

    /// Sets the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
