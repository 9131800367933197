//! Finds the failed tool calls of models in the events of a run, and describes failed calls, for progress.

use std::collections::HashSet;

use crate::model::event::{CallOutput, Fact};
use crate::model::visible::one_line;
use crate::model::{CallKey, Failure, FailureClass};

/// The maximum length of the description of a call, in characters.
const MAX_CALL_CHARS: usize = 80;
/// The maximum length of the reason, in characters.
const MAX_REASON_CHARS: usize = 120;

/// The failed tool calls of a run, each of which is shown once.
#[derive(Debug, Default)]
pub(super) struct ToolFailures {
    shown: HashSet<CallKey>,
}

impl ToolFailures {
    /// Describes the failed tool calls of which an event is the first record. The start of a request records those
    /// calls of the previous reply that orch did not perform.
    pub(super) fn describe(&mut self, fact: &Fact) -> Vec<String> {
        match fact {
            Fact::CallEnded(ended) => {
                let (call, result) = match &ended.output {
                    Some(CallOutput::Tool(output)) => (format!("{} {}", output.tool, output.arguments), &output.result),
                    Some(CallOutput::McpTool(output)) => (output.arguments.clone(), &output.result),
                    Some(CallOutput::Pipeline(output)) => (output.arguments.clone(), &output.result),
                    Some(CallOutput::Command(_) | CallOutput::Snapshot(_) | CallOutput::Applied(_)) | None => {
                        return Vec::new();
                    }
                };
                if !result.is_error || !self.shown.insert(ended.call.clone()) {
                    return Vec::new();
                }
                vec![describe_failure(&call, &result.content)]
            }
            Fact::CallStarted(started) => {
                let failed = started.tool_results.iter().filter(|result| result.is_error);
                let first_shown = failed.filter(|result| self.shown.insert(result.call_key(&started.call)));
                first_shown.map(|result| describe_failure(&result.label(), &result.content)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The failure of a call for a line of the progress. If a line of the failure of a CLI agent or an MCP server announces an
/// output, such as its standard error, only the last line of the output follows, which usually has the cause. `orch runs
/// show` has all of it.
pub(super) fn describe_call_failure(failure: &Failure) -> String {
    if failure.class == FailureClass::AgentError { describe_program_failure(failure) } else { failure.to_string() }
}

/// The failure of a program, with only the last line of an output that a line of it announces.
pub(super) fn describe_program_failure(failure: &Failure) -> String {
    let text = failure.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let Some(announcement) = lines.iter().position(|line| line.ends_with(':')) else { return text };
    let (message, output) = lines.split_at(announcement + 1);
    let last = output.iter().map(|line| line.trim()).rfind(|line| !line.is_empty());
    format!("{} {}", message.join("; "), last.unwrap_or_default()).trim_end().to_owned()
}

fn describe_failure(call: &str, content: &str) -> String {
    format!("{} failed: {}", one_line(call, MAX_CALL_CHARS), one_line(reason(content), MAX_REASON_CHARS))
}

/// The part of the result of a failed call that says why it failed.
fn reason(content: &str) -> &str {
    // The result of a command ends with notes, after its output.
    let is_note = |line: &&str| line.starts_with("[exit code ") || line.starts_with("[the command was ended ");
    let line = content.lines().rev().find(is_note).or_else(|| content.trim_start().lines().next());
    line.unwrap_or_default().trim().trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_of_a_program_is_shown_with_its_last_line() {
        let describe = |message: &str| describe_call_failure(&Failure::new(FailureClass::AgentError, message));
        let traceback =
            "no answer; exit code 1\nthe end of its standard error:\nTraceback:\n  File \"x\"\nKeyError: 'x'\n";
        let expected = "agent_error: no answer; exit code 1; the end of its standard error: KeyError: 'x'";
        assert_eq!(describe(traceback), expected);
        assert_eq!(describe("it ended:\n"), "agent_error: it ended:");
        assert_eq!(describe("one\ntwo"), "agent_error: one\ntwo", "no output is announced");
    }

    #[test]
    fn the_reason_of_a_failed_command_is_how_it_ended() {
        for (call, content, expected) in [
            ("read a.txt", "`a.txt` does not exist", "read a.txt failed: `a.txt` does not exist"),
            ("shell make", "error: x\n\n[exit code 2]\n[changed files: a]\n", "shell make failed: exit code 2"),
            ("shell ls\nrm -rf /", "[exit code 2]", "shell ls\\nrm -rf / failed: exit code 2"),
            ("bash", "there is no tool `bash`\nmore", "bash failed: there is no tool `bash`"),
            (
                "fetch x",
                "[http://x/ has status 404, text/html]\n\nno",
                "fetch x failed: http://x/ has status 404, text/html",
            ),
        ] {
            assert_eq!(describe_failure(call, content), expected);
        }
    }
}
