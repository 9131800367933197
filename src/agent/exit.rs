//! Converts errors of CLI agents to failures: errors of the process, of the program, and of its requests to a model.

use crate::model::failure::RAISE_TIMEOUT_HINT;
use crate::model::{CliAgentKind, Failure, FailureClass};
use crate::process::{CapturedOutput, ProcessError, ProgramSpec};

use super::program::TurnJob;

/// The npm packages of well-known agents that speak the Agent Client Protocol.
const NPM_PACKAGES: [(&str, &str); 3] = [
    ("claude-agent-acp", "@agentclientprotocol/claude-agent-acp"),
    ("codex-acp", "@agentclientprotocol/codex-acp"),
    ("gemini", "@google/gemini-cli"),
];
/// The maximum length of an agent's last text in a message, in characters.
const MAX_LAST_TEXT_CHARS: usize = 300;

impl TurnJob<'_> {
    /// The failure for an error of the process itself.
    pub(super) fn process_failure(&self, error: &ProcessError) -> Failure {
        if let Some(failure) = error.hidden_failure(allow_in_settings) {
            return failure;
        }
        match error {
            ProcessError::NotFound(program) => Failure::new(FailureClass::NotInstalled, error.to_string())
                .with_hint(install_hint(self.turn.program.kind, program)),
            // The caller of the turn adds the agent's last text.
            ProcessError::Timeout { stderr, .. } => {
                let stderr =
                    if stderr.is_empty() { String::new() } else { format!("\nthe end of standard error:\n{stderr}") };
                Failure::new(FailureClass::Timeout, format!("{error}{stderr}")).with_hint(RAISE_TIMEOUT_HINT)
            }
            ProcessError::TooMuchOutput { .. } => Failure::new(FailureClass::OutputTooLarge, error.to_string())
                .with_hint("the program must write only its reply to standard output"),
            ProcessError::Hidden { .. }
            | ProcessError::Spawn { .. }
            | ProcessError::Supervisor { .. }
            | ProcessError::NotConfined { .. }
            | ProcessError::Io { .. } => {
                let failure = Failure::new(FailureClass::AgentError, error.to_string());
                let failure = error.start_hint().into_iter().fold(failure, Failure::with_hint);
                error.not_confined_failure().unwrap_or(failure)
            }
        }
    }
}

/// The setting that lets the sandbox of a CLI agent change a path. An agent may change a path outside the workspace only
/// if `orch.yaml` allows it.
fn allow_in_settings(path: &str) -> String {
    format!("write `sandbox: {{ write: [., {path}] }}` in orch.yaml")
}

/// A hint on how to install a missing program.
pub fn install_hint(kind: CliAgentKind, program: &str) -> String {
    match kind {
        CliAgentKind::Claude => "install it: `npm install -g @anthropic-ai/claude-code`".to_owned(),
        CliAgentKind::Codex => "install it: `npm install -g @openai/codex`".to_owned(),
        CliAgentKind::Acp | CliAgentKind::Command if program.contains('/') => {
            "give its absolute path: orch resolves a relative path in the workspace".to_owned()
        }
        CliAgentKind::Acp | CliAgentKind::Command => {
            let package = NPM_PACKAGES.iter().find(|(name, _)| *name == program);
            let command = package.map(|(_, package)| format!(": `npm install -g {package}`")).unwrap_or_default();
            format!("install `{program}`, or give its absolute path{command}")
        }
    }
}

/// The failure of a program that exited with an error code, with the last lines of its output.
pub(super) fn exit_failure(
    program: &str,
    spec: &ProgramSpec,
    code: Option<i32>,
    outputs: &[&CapturedOutput],
) -> Failure {
    let hidden_error = spec.hidden_error_of_exit(code);
    if let Some(failure) = hidden_error.and_then(|error| error.hidden_failure(allow_in_settings)) {
        return failure;
    }
    let lines = outputs.iter().map(|output| output.last_lines()).find(|lines| !lines.is_empty());
    let lines = lines.map(|lines| format!(":\n{lines}")).unwrap_or_default();
    Failure::new(FailureClass::AgentError, format!("`{program}` ended {}{lines}", describe_exit_code(code)))
        .with_hint("fix the cause and continue with `orch pipeline resume`; the agent may have changed the workspace")
}

/// Describes a program's exit code for a message. `None` means that orch ended the program after the end of its turn.
pub(super) fn describe_exit_code(code: Option<i32>) -> String {
    match code {
        None => "without an exit code".to_owned(),
        Some(code) if code > 128 => format!("with exit code {code} (signal {})", code - 128),
        Some(code) => format!("with exit code {code}"),
    }
}

/// The failure of a program that wrote a line over the length limit.
pub(super) fn line_too_long_failure(program: &str) -> Failure {
    Failure::new(FailureClass::OutputTooLarge, format!("`{program}` wrote a line that is too long for a reply"))
}

/// Phrases, in lower case, with which providers report an account without credit. Sources: the API error lists of
/// Anthropic and OpenAI, and the error messages of Claude Code and Codex.
const NO_CREDIT_PHRASES: [&str; 7] = [
    "credit balance is too low",
    "credit balance too low",
    "billing_error",
    "insufficient_quota",
    "exceeded your current quota",
    "quota exceeded",
    "out of credits",
];

/// The failure for an account without credit, if `text` contains one of [`NO_CREDIT_PHRASES`]. The key of such an
/// account is valid, so neither a retry nor a login would help.
pub(super) fn no_credit_failure(message: &str, text: &str) -> Option<Failure> {
    let lower = text.to_lowercase();
    NO_CREDIT_PHRASES.iter().any(|phrase| lower.contains(phrase)).then(|| credit_failure(message))
}

fn credit_failure(message: &str) -> Failure {
    Failure::new(FailureClass::BadRequest, message)
        .with_hint("the account of the key has no credit left: add credit, or use the key of another account")
}

/// The hint for a failed login: check the key, or set a key if no variable has one.
pub(super) fn login_hint(job: &TurnJob<'_>, key_variables: &[&str]) -> String {
    match key_variables.iter().find(|name| (job.agent_env.variables)(name).is_some_and(|value| !value.is_empty())) {
        Some(name) => format!("check the key in {name}: the provider rejected it"),
        None => format!("set {}; orch does not use your login or settings", key_variables.join(" or ")),
    }
}

/// The failure for an HTTP status that the provider of a program's model returned. `key_variables` are the variables
/// that may hold the program's key.
pub(super) fn status_failure(
    job: &TurnJob<'_>,
    program: &str,
    status: u16,
    message: &str,
    key_variables: &[&str],
) -> Failure {
    let class = match status {
        401 | 403 => FailureClass::Auth,
        408 => FailureClass::Timeout,
        429 => FailureClass::RateLimited,
        500.. => FailureClass::ProviderUnavailable,
        _ => FailureClass::BadRequest,
    };
    let failure = Failure::new(class, format!("`{program}` failed with status {status}: {message}"));
    let failure = match (class, status) {
        (FailureClass::Auth, _) => failure.with_hint(login_hint(job, key_variables)),
        // 402 is "Payment Required".
        (_, 402) => credit_failure(&failure.message),
        _ => failure,
    };
    Failure { status: Some(status), ..no_credit_failure(&failure.message, message).unwrap_or(failure) }
}

/// The failure for an unknown stop reason: orch can't know whether the reply is complete.
pub(super) fn unknown_stop_failure(program: &str, reason: &str, last_text: &str) -> Failure {
    let suffix = last_text_suffix(last_text);
    let message = format!("{program} ended its turn with the stop reason `{reason}`, which orch does not know{suffix}");
    Failure::new(FailureClass::UnknownStop, message)
        .with_hint("orch does not use a reply that may be incomplete; run the step again")
}

/// The end of a program's last text, as a suffix for a message; empty if there is no text.
pub(super) fn last_text_suffix(last_text: &str) -> String {
    let text = last_text.trim();
    let (end, ellipsis) = match text.char_indices().nth_back(MAX_LAST_TEXT_CHARS) {
        Some((start, _)) => (text.get(start..).unwrap_or_default(), "…"),
        None => (text, ""),
    };
    if end.is_empty() { String::new() } else { format!("; its last text: {ellipsis}{end}") }
}
