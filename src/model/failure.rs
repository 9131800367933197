//! Why something failed: the typed classes that are recorded, printed and retried by.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::usage::ReportedUsage;

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The class of a failure; its name is stable in journals, reports and `retry.on`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Class {
            $($(#[$doc])* #[serde(rename = $name)] $variant),+
        }

        impl Class {
            /// Every class, in the order of the documentation.
            pub const ALL: &'static [Class] = &[$(Class::$variant),+];

            /// The stable name, in `snake_case`.
            pub fn as_str(self) -> &'static str {
                match self { $(Class::$variant => $name),+ }
            }
        }
    };
}

classes! {
    /// The provider says that there were too many requests.
    RateLimited = "rate_limited",
    /// The provider can't be reached, is overloaded or broke off.
    ProviderUnavailable = "provider_unavailable",
    /// A request or a step took longer than allowed.
    Timeout = "timeout",
    /// The key is missing, wrong or lacks rights.
    Auth = "auth",
    /// The provider refuses the request as such (unknown model, too long, …).
    BadRequest = "bad_request",
    /// The reply was cut off by a token limit.
    MaxTokensReached = "max_tokens_reached",
    /// The model or a filter refused to answer.
    Refusal = "refusal",
    /// The reply ended for a reason that does not say that it is whole.
    UnknownStop = "unknown_stop",
    /// The reply had no text.
    EmptyReply = "empty_reply",
    /// The reply held no JSON.
    NoJson = "no_json",
    /// The reply's JSON does not fit the schema.
    SchemaMismatch = "schema_mismatch",
    /// The reply fits its schema and can't be used: an `accept` condition does not hold, or a `write` step would
    /// refuse its files.
    OutputRejected = "output_rejected",
    /// Several values of the reply fit, and the step is strict.
    AmbiguousReply = "ambiguous_reply",
    /// A template could not be rendered.
    TemplateError = "template_error",
    /// An expression could not be evaluated, or gave the wrong type.
    ExpressionError = "expression_error",
    /// A call did not fit the budget.
    BudgetExceeded = "budget_exceeded",
    /// A reply did not report what it used of something that a budget limits.
    UsageUnknown = "usage_unknown",
    /// A command ended with a non-zero exit code.
    CommandFailed = "command_failed",
    /// A path lies outside the workspace, or is reserved.
    PathRefused = "path_refused",
    /// An agent asked for something that it may not do.
    PermissionDenied = "permission_denied",
    /// A program or a model is not installed.
    NotInstalled = "not_installed",
    /// An agent program failed.
    AgentError = "agent_error",
    /// A reply or an output was larger than allowed.
    OutputTooLarge = "output_too_large",
    /// Every step ran, and the condition under `success:` is false.
    SuccessConditionFalse = "success_condition_false",
    /// A loop ran its last round, and its condition is still false.
    MaxIterationsReached = "max_iterations_reached",
    /// A CLI agent used all the turns that it may take for one answer.
    MaxTurnsReached = "max_turns_reached",
    /// A person said no.
    Rejected = "rejected",
    /// Nobody answered in time.
    ApprovalTimeout = "approval_timeout",
    /// A replay has no recording of this request.
    NoRecording = "no_recording",
    /// The journal, a blob or the workspace could not be read or written.
    Storage = "storage",
    /// The run was interrupted.
    Cancelled = "cancelled",
    /// The process that ran the step died.
    Crashed = "crashed",
    /// A defect of orch.
    Internal = "internal",
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What helps where a request or a program took longer than it may.
pub const RAISE_TIMEOUT: &str = "raise `timeout:` of the step";
/// What helps where a step took longer than its deadline, however long one request may take.
pub const RAISE_DEADLINE: &str = "raise `deadline:` of the step";

/// A failed call or step, as recorded: what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{class}: {message}")]
pub struct Failure {
    /// The class, on which retry and resume decide.
    pub class: Class,
    /// One sentence, lower case, without a full stop; never holds a secret.
    pub message: String,
    /// What the person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long the provider asked to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The HTTP status, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the provider had reported when the request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<ReportedUsage>>,
    /// Whether the model may have been at work when the request broke off: nobody told what it took.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Whether there was no connection to the provider, which has not answered in this run before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreached: bool,
}

impl Failure {
    /// A failure with a class and a message.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
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
        }
    }

    /// What the provider had reported when the request failed.
    pub fn used(&self) -> Option<ReportedUsage> {
        self.usage.as_deref().copied()
    }

    /// The same without what the request took: that is of the call, not of its step.
    #[must_use]
    pub fn of_step(self) -> Self {
        Self { usage: None, interrupted: false, unreached: false, ..self }
    }

    /// The same where it was the step's deadline that allowed no more time.
    #[must_use]
    pub fn of_deadline(self) -> Self {
        let hint = self.hint.as_deref().unwrap_or(RAISE_TIMEOUT);
        match hint.strip_prefix(RAISE_TIMEOUT) {
            Some(rest) if self.class == Class::Timeout => {
                let hint = format!("{RAISE_DEADLINE}{rest}");
                self.with_hint(hint)
            }
            _ => self,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
