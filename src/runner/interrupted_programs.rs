//! Finds the damage by the confined programs that were running when orch was killed.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use crate::agent::{ProgramCall, StartedProgram, changed_after, find_started_programs, remove_program_start};
use crate::folder::NoFollowFolder;
use crate::model::event::{CallKind, Event, Fact};
use crate::model::{CallKey, Failure, FailureClass, SandboxUse};
use crate::secret::Redactor;

use super::Runner;

/// A call during which orch was killed, and whose program caused damage.
pub(super) struct DamagedCall {
    pub(super) call: ProgramCall,
    pub(super) kind: ProgramKind,
    /// The record of the sandbox, with the damage and without secrets.
    pub(super) sandbox: SandboxUse,
}

/// What ran an interrupted program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgramKind {
    /// A turn of a CLI agent.
    Turn,
    /// A call of a tool, by a model or by a step.
    ToolCall,
    /// A step with a command.
    Command,
}

impl ProgramKind {
    fn of(call: &ProgramCall, events: &[Event]) -> Self {
        let is_tool_start = |event: &Event| match &event.fact {
            Fact::CallStarted(start) => {
                start.call == call.key && matches!(start.kind, CallKind::Tool(_) | CallKind::McpTool(_))
            }
            _ => false,
        };
        match &call.model {
            Some(_) => Self::Turn,
            None if call.key.tool_call.is_some() || events.iter().any(is_tool_start) => Self::ToolCall,
            None => Self::Command,
        }
    }

    /// What messages call it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::ToolCall => "tool call",
            Self::Command => "command",
        }
    }
}

/// Compares the repositories and the protected files with the state before each program that has no recorded end.
/// Returns the calls whose programs caused damage, and removes the other states from disk. All processes of the
/// programs had ended at `processes_ended`.
pub(super) fn find_damaged_calls(
    agents_folder: &NoFollowFolder,
    events: &[Event],
    (workspace, processes_ended): (&Path, Timestamp),
    (redactor, runner): (&Redactor, &Runner),
) -> BTreeMap<CallKey, DamagedCall> {
    let warn_unknown = |reason: &str| {
        let message =
            format!("{reason}; orch does not know whether a program damaged a git repository or protected files");
        runner.reporter.warning(&redactor.redact(&message));
    };
    let (programs, errors) = find_started_programs(agents_folder);
    for error in &errors {
        warn_unknown(error);
    }
    let is_later = |path: &Path| changed_after(path, processes_ended);
    let mut damaged = BTreeMap::new();
    for StartedProgram { call, start } in programs {
        let compared =
            if has_ended(events, &call) { None } else { Some(start.sandbox_after_kill(workspace, &is_later)) };
        match compared {
            Some(Ok(sandbox)) if sandbox.damage_failure().is_some() => {
                let sandbox = redactor.redact_sandbox(sandbox);
                let kind = ProgramKind::of(&call, events);
                damaged.insert(call.key.clone(), DamagedCall { call, kind, sandbox });
                continue;
            }
            Some(Err(reason)) => {
                warn_unknown(&format!(
                    "a {} of step {} was interrupted, and {reason}",
                    ProgramKind::of(&call, events).noun(),
                    call.key.step
                ));
            }
            Some(Ok(_)) | None => {}
        }
        remove_program_start(agents_folder, &call.key);
    }
    damaged
}

/// Whether the journal contains the end of the call of a program.
fn has_ended(events: &[Event], call: &ProgramCall) -> bool {
    events.iter().any(|event| match &event.fact {
        // Compare the start times, because the journal may contain an earlier interruption of the same call.
        Fact::CallEnded(ended) => {
            ended.call == call.key && ended.request_digest == call.request_digest && ended.started >= call.start_time
        }
        _ => false,
    })
}

/// The failure of a call during which orch was killed. `sandbox` is the record of its program, if this caused damage.
pub(super) fn failure_after_kill(noun: &str, sandbox: Option<&SandboxUse>) -> Failure {
    match sandbox.and_then(SandboxUse::damage_failure) {
        Some(damage) => {
            let addition =
                format!("orch was killed during the {noun}, so another program may have done this afterwards");
            Failure { message: format!("{}; {addition}", damage.message), ..damage }
        }
        None => Failure::new(FailureClass::Crashed, format!("orch was killed during the {noun}")),
    }
}
