//! What the end of a program means: failures of processes, of programs, and of the models that they ask.

use crate::model::{Class, Failure, ProgramKind};
use crate::process::{Captured, ProcessError};

use super::program::Job;

/// Where agents that speak the protocol come from.
const PACKAGES: [(&str, &str); 3] = [
    ("claude-agent-acp", "@agentclientprotocol/claude-agent-acp"),
    ("codex-acp", "@agentclientprotocol/codex-acp"),
    ("gemini", "@google/gemini-cli"),
];
/// How many lines of a failed program's last words are shown.
const SHOWN: usize = 10;

impl Job<'_> {
    /// A failure of the process itself.
    pub(super) fn failed(&self, error: &ProcessError) -> Failure {
        match error {
            ProcessError::NotFound(program) => {
                Failure::new(Class::NotInstalled, error.to_string()).with_hint(missing(self.turn.program.kind, program))
            }
            ProcessError::Timeout { last, .. } => {
                let last = if last.is_empty() { String::new() } else { format!("; its last line: {last}") };
                Failure::new(Class::Timeout, format!("{error}{last}")).with_hint("raise `timeout:` of the step")
            }
            ProcessError::TooMuch { .. } => Failure::new(Class::OutputTooLarge, error.to_string())
                .with_hint("a program writes its answer to standard output, and nothing else that is large"),
            ProcessError::Spawn { .. } | ProcessError::Io { .. } => Failure::new(Class::AgentError, error.to_string()),
        }
    }
}

/// How to get a program that is missing.
pub fn missing(kind: ProgramKind, program: &str) -> String {
    match kind {
        ProgramKind::Claude => "install it: `npm install -g @anthropic-ai/claude-code`".to_owned(),
        ProgramKind::Codex => "install it: `npm install -g @openai/codex`".to_owned(),
        ProgramKind::Acp | ProgramKind::Command => {
            let package = PACKAGES.iter().find(|(name, _)| *name == program);
            let how = package.map(|(_, package)| format!(": `npm install -g {package}`")).unwrap_or_default();
            format!("install `{program}`, or give its whole path{how}")
        }
    }
}

/// A program that ended with a code that is no success, with its last words.
pub(super) fn ended_badly(program: &str, code: i32, last: &[&Captured]) -> Failure {
    let words = last.iter().map(|output| tail(&output.text())).find(|words| !words.is_empty());
    let words = words.map(|words| format!(":\n{words}")).unwrap_or_default();
    let how = if code > 128 { format!(" (signal {})", code - 128) } else { String::new() };
    Failure::new(Class::AgentError, format!("`{program}` ended with exit code {code}{how}{words}"))
        .with_hint("the workspace may hold what it did so far; go on with `orch pipeline resume`")
}

/// A program one of whose lines was too long to be read.
pub(super) fn too_large(program: &str) -> Failure {
    Failure::new(Class::OutputTooLarge, format!("`{program}` wrote a line that is too long to be its answer"))
}

/// What a program says of a failed request to its model.
pub(super) fn of_status(program: &str, status: u16, words: &str, key: &str) -> Failure {
    let class = match status {
        401 | 403 => Class::Auth,
        408 => Class::Timeout,
        429 => Class::RateLimited,
        500.. => Class::ProviderUnavailable,
        _ => Class::BadRequest,
    };
    let mut failure = Failure::new(class, format!("`{program}` failed with status {status}: {words}"));
    failure.status = Some(status);
    match class {
        Class::Auth => failure.with_hint(format!("see whether {key} is set and right; no settings of yours are used")),
        _ => failure,
    }
}

/// The last lines of an output.
pub(super) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
}
