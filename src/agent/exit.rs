//! Turns the exit of a CLI agent into a failure: of its process, of the program itself, or of its requests to a model.

use crate::model::failure::RAISE_TIMEOUT;
use crate::model::{Class, Failure, ProgramKind};
use crate::process::{Captured, ProcessError};

use super::program::TurnJob;

/// The npm packages of well-known agents that speak the Agent Client Protocol.
const PACKAGES: [(&str, &str); 3] = [
    ("claude-agent-acp", "@agentclientprotocol/claude-agent-acp"),
    ("codex-acp", "@agentclientprotocol/codex-acp"),
    ("gemini", "@google/gemini-cli"),
];
/// How much of an agent's last text a message shows, in characters.
const WORDS: usize = 300;

impl TurnJob<'_> {
    /// A failure of the process itself.
    pub(super) fn failed(&self, error: &ProcessError) -> Failure {
        match error {
            ProcessError::NotFound(program) => {
                Failure::new(Class::NotInstalled, error.to_string()).with_hint(missing(self.turn.program.kind, program))
            }
            // `take_turn` adds the agent's last text.
            ProcessError::Timeout { stderr, .. } => {
                let last =
                    if stderr.is_empty() { String::new() } else { format!("\nthe end of standard error:\n{stderr}") };
                Failure::new(Class::Timeout, format!("{error}{last}")).with_hint(RAISE_TIMEOUT)
            }
            ProcessError::TooMuch { .. } => Failure::new(Class::OutputTooLarge, error.to_string())
                .with_hint("a program writes its answer to standard output, and nothing else that is large"),
            ProcessError::Spawn { .. } | ProcessError::Guard { .. } | ProcessError::Io { .. } => {
                Failure::new(Class::AgentError, error.to_string())
            }
        }
    }
}

/// A hint on how to install a missing program.
pub fn missing(kind: ProgramKind, program: &str) -> String {
    match kind {
        ProgramKind::Claude => "install it: `npm install -g @anthropic-ai/claude-code`".to_owned(),
        ProgramKind::Codex => "install it: `npm install -g @openai/codex`".to_owned(),
        ProgramKind::Acp | ProgramKind::Command if program.contains('/') => {
            "give its whole path: a program runs in the workspace, and a relative path begins there".to_owned()
        }
        ProgramKind::Acp | ProgramKind::Command => {
            let package = PACKAGES.iter().find(|(name, _)| *name == program);
            let how = package.map(|(_, package)| format!(": `npm install -g {package}`")).unwrap_or_default();
            format!("install `{program}`, or give its whole path{how}")
        }
    }
}

/// The failure of a program that exited with an error code, with the last lines of its output.
pub(super) fn ended_badly(program: &str, code: Option<i32>, last: &[&Captured]) -> Failure {
    let words = last.iter().map(|output| output.last_lines()).find(|words| !words.is_empty());
    let words = words.map(|words| format!(":\n{words}")).unwrap_or_default();
    Failure::new(Class::AgentError, format!("`{program}` ended {}{words}", with_code(code)))
        .with_hint("correct the cause and go on with `orch pipeline resume`; it ran in the workspace, which may hold what it did so far")
}

/// How a program exited, for messages. There is no code when orch ended it after its answer was complete.
pub(super) fn with_code(code: Option<i32>) -> String {
    match code {
        None => "without an exit code".to_owned(),
        Some(code) if code > 128 => format!("with exit code {code} (signal {})", code - 128),
        Some(code) => format!("with exit code {code}"),
    }
}

/// The failure of a program that wrote a line which is too long to read.
pub(super) fn too_large(program: &str) -> Failure {
    Failure::new(Class::OutputTooLarge, format!("`{program}` wrote a line that is too long to be its answer"))
}

/// Phrases, in lower case, with which providers report an account without credit. Sources: the lists of API errors of
/// Anthropic and OpenAI, and what Claude Code and Codex make of them.
const NO_CREDIT: [&str; 7] = [
    "credit balance is too low",
    "credit balance too low",
    "billing_error",
    "insufficient_quota",
    "exceeded your current quota",
    "quota exceeded",
    "out of credits",
];

/// The failure for an account without credit, if `words` contain such a phrase. The key is valid then, so neither a
/// retry nor a login would help.
pub(super) fn no_credit(message: &str, words: &str) -> Option<Failure> {
    let lower = words.to_lowercase();
    NO_CREDIT.iter().any(|sign| lower.contains(sign)).then(|| without_credit(message))
}

fn without_credit(message: &str) -> Failure {
    Failure::new(Class::BadRequest, message)
        .with_hint("the account behind the key has no credit left: add credit to it, or use the key of another")
}

/// A hint for a failed login, which depends on whether a variable with a key is set.
pub(super) fn login(job: &TurnJob<'_>, names: &[&str]) -> String {
    match names.iter().find(|name| (job.place.variables)(name).is_some_and(|value| !value.is_empty())) {
        Some(name) => format!("check the key in {name}: it is set, and was refused"),
        None => format!("set {}; a login of yours is not used, since no settings of yours are", names.join(" or ")),
    }
}

/// The failure for an HTTP status that a program got from its model's provider; `keys` are the variables that may hold
/// its key.
pub(super) fn of_status(job: &TurnJob<'_>, program: &str, status: u16, words: &str, keys: &[&str]) -> Failure {
    let class = match status {
        401 | 403 => Class::Auth,
        408 => Class::Timeout,
        429 => Class::RateLimited,
        500.. => Class::ProviderUnavailable,
        _ => Class::BadRequest,
    };
    let failure = Failure::new(class, format!("`{program}` failed with status {status}: {words}"));
    let failure = match (class, status) {
        (Class::Auth, _) => failure.with_hint(login(job, keys)),
        // 402 is "payment required".
        (_, 402) => without_credit(&failure.message),
        _ => failure,
    };
    Failure { status: Some(status), ..no_credit(&failure.message, words).unwrap_or(failure) }
}

/// The failure for an unknown stop reason: orch can't know whether the reply is complete.
pub(super) fn unknown_stop(program: &str, reason: &str, said: &str) -> Failure {
    let why = format!("{program} ended its turn with the stop reason `{reason}`, which is not known{}", it_said(said));
    Failure::new(Class::UnknownStop, why).with_hint("a reply that may not be whole is not used; run the step again")
}

/// The end of a program's last text, for a message.
pub(super) fn it_said(said: &str) -> String {
    let said = said.trim();
    let (words, more) = match said.char_indices().nth_back(WORDS) {
        Some((at, _)) => (said.get(at..).unwrap_or_default(), "…"),
        None => (said, ""),
    };
    if words.is_empty() { String::new() } else { format!("; it said last: {more}{words}") }
}
