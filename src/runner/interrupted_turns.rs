//! Records the file changes of the CLI agent turns and tool calls that were running when orch was killed, and the
//! damage by their programs and by commands.
//!
//! A turn or a command runs again. A tool call that may have changed something does not: its record is its outcome, so
//! that the model learns that it was interrupted, and what changed. If the state before the call is missing, for example
//! after a power failure, the changes are unknown. A call whose program caused damage has this failure as its outcome.
//! A turn has a model, and a tool call has none.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::agent::{
    InterruptedTurn, InterruptedWorkspace, find_interrupted_turns, find_started_turns, remove_turn_start,
};
use crate::model::event::{CallEnded, CallKind, CallStarted, Event, Fact};
use crate::model::{AgentActivity, CallKey, Digest, FailureClass, RunId, SandboxUse, StepKey, counted};
use crate::secret::Redactor;
use crate::store::{Journal, Workspace};

use super::Runner;
use super::error::RunnerError;
use super::interrupted_programs::{DamagedCall, ProgramKind, failure_after_kill, find_damaged_calls};

/// The maximum time for which programs run after the last heartbeat of their orch process. orch records a heartbeat
/// every second, and a supervisor waits half a second before it kills the programs.
const KILL_DELAY: Duration = Duration::from_secs(2);

/// The reason for which the changes of a call are unknown.
const MISSING_RECORD: &str = "the record of the files before is missing";

/// The calls that the end of the run's previous process interrupted.
pub(crate) struct InterruptedCalls {
    /// A failed call with the changed files and the damage, for each turn that may have changed files and has no recorded
    /// end, for each tool call that may have changed something and has no recorded end, and for each call without a
    /// recorded end whose program caused damage.
    pub(crate) facts: Vec<Fact>,
    /// The turns that changed nothing and need no record. The state before them is still on disk.
    unchanged_turns: Vec<CallKey>,
}

impl InterruptedCalls {
    /// Removes the states from before the turns that need no record. Until the run continues, another resume needs them.
    pub(crate) fn remove_unneeded_starts(&self, journal: &Journal, run: RunId) {
        let agents_folder = journal.agents_folder(run);
        self.unchanged_turns.iter().for_each(|turn| remove_turn_start(&agents_folder, turn));
    }
}

/// Finds the interrupted calls, and tells the user about them.
pub(crate) fn find_interrupted_calls(
    (journal, run, events): (&Journal, RunId, &[Event]),
    (workspace, artifacts, last_heartbeat): (&Workspace, &[String], Option<Timestamp>),
    redactor: &Redactor,
    runner: &Runner,
) -> Result<InterruptedCalls, RunnerError> {
    let agents_folder = journal.agents_folder(run);
    let owned_files = journal.owned_files(&workspace.path_in_journal())?;
    let run_id = run.to_string();
    let last_alive = last_heartbeat.max(events.last().map(|event| event.at)).unwrap_or_default();
    let processes_ended = last_alive + KILL_DELAY;
    let mut damaged_calls =
        find_damaged_calls(&agents_folder, events, (workspace.folder(), processes_ended), (redactor, runner));
    let interrupted_workspace = InterruptedWorkspace {
        folder: workspace.folder(),
        artifacts,
        processes_ended,
        is_foreign: &|path| owned_files.last_writer(path).is_some_and(|writer| writer != run_id),
    };
    let (turns, errors) = find_interrupted_turns(&agents_folder, interrupted_workspace);
    for error in errors {
        runner.reporter.warning(&format!("{error}; the file changes of this turn are not recorded"));
    }
    let mut open_calls = open_calls(events);
    let (mut facts, mut unchanged_turns) = (Vec::new(), Vec::new());
    for turn in turns {
        if is_recorded(events, (&turn.call_key, &turn.request_digest, turn.start_time)) {
            remove_turn_start(&agents_folder, &turn.call_key);
            continue;
        }
        let mcp_tool = open_calls.remove(&turn.call_key).and_then(|call| call.mcp_tool);
        let is_tool_call = turn.model.is_none();
        let (step, activity) = (&turn.call_key.step, &turn.activity);
        let interruption = Interruption { step, is_tool_call, mcp_tool: mcp_tool.as_deref(), activity };
        interruption.report(run, redactor, runner);
        let damaged = damaged_calls.remove(&turn.call_key);
        // A turn runs again, so its record is needed only for its changes and for damage.
        if is_tool_call || turn.activity.may_have_changed_files() || damaged.is_some() {
            facts.push(Fact::CallEnded(to_failed_call(turn, damaged, (redactor, runner))));
        } else {
            unchanged_turns.push(turn.call_key);
        }
    }
    for (call_key, OpenCall { request_digest, start_time, is_tool_call, keeps_turn_start, mcp_tool }) in open_calls {
        let activity = if keeps_turn_start {
            AgentActivity::with_unknown_changes(MISSING_RECORD)
        } else {
            AgentActivity::default()
        };
        let (step, mcp_tool) = (&call_key.step, mcp_tool.as_deref());
        Interruption { step, is_tool_call, mcp_tool, activity: &activity }.report(run, redactor, runner);
        // It may be a file that can't be read.
        remove_turn_start(&agents_folder, &call_key);
        if let Some(request_digest) = request_digest {
            let damaged = damaged_calls.remove(&call_key);
            let turn = InterruptedTurn { call_key, request_digest, model: None, start_time, activity };
            facts.push(Fact::CallEnded(to_failed_call(turn, damaged, (redactor, runner))));
        }
    }
    // The others are commands, and turns without a record of the files before.
    facts.extend(damaged_calls.into_values().map(|damaged| {
        let DamagedCall { call, .. } = &damaged;
        let activity = if call.model.is_some() {
            AgentActivity::with_unknown_changes(MISSING_RECORD)
        } else {
            AgentActivity::default()
        };
        let turn = InterruptedTurn {
            call_key: call.key.clone(),
            request_digest: call.request_digest.clone(),
            model: call.model.clone(),
            start_time: call.start_time,
            activity,
        };
        Fact::CallEnded(to_failed_call(turn, Some(damaged), (redactor, runner)))
    }));
    Ok(InterruptedCalls { facts, unchanged_turns })
}

/// A turn or a tool call whose changes the journal does not contain.
pub(super) struct UnrecordedCall {
    pub(super) step: StepKey,
    /// Whether this is a call of a tool, and not a turn of a CLI agent.
    pub(super) is_tool_call: bool,
}

/// The turns and tool calls whose changes the journal does not contain, because they have not ended or orch was killed
/// during them, and an error message for each file about a turn that can't be read.
pub(super) fn unrecorded_turns(journal: &Journal, run: RunId, events: &[Event]) -> (Vec<UnrecordedCall>, Vec<String>) {
    let (turns, errors) = find_started_turns(&journal.agents_folder(run));
    let mut open_calls = open_calls(events);
    let mut unrecorded = Vec::new();
    for turn in turns {
        open_calls.remove(&turn.call_key);
        let is_recorded = is_recorded(events, (&turn.call_key, &turn.request_digest, turn.start_time));
        if turn.may_change_files && !is_recorded {
            unrecorded.push(UnrecordedCall { step: turn.call_key.step, is_tool_call: turn.is_tool_call });
        }
    }
    // Of the other calls that may change files, the files before are not on disk, or can't be read.
    let without_start = open_calls.into_iter().filter(|(_, call)| call.keeps_turn_start);
    unrecorded
        .extend(without_start.map(|(key, call)| UnrecordedCall { step: key.step, is_tool_call: call.is_tool_call }));
    (unrecorded, errors)
}

/// A call that was running when orch was killed.
#[derive(Clone, Copy)]
struct Interruption<'a> {
    step: &'a StepKey,
    /// Whether this is a call of a tool, and not a turn of a CLI agent.
    is_tool_call: bool,
    /// The tool of an MCP server; `None` for any other call.
    mcp_tool: Option<&'a str>,
    /// The files that it changed.
    activity: &'a AgentActivity,
}

impl Interruption<'_> {
    /// Tells the user what the call changed, and whether it may have changed more.
    fn report(self, run: RunId, redactor: &Redactor, runner: &Runner) {
        let Self { step, is_tool_call, mcp_tool, activity } = self;
        let name = if is_tool_call { "tool call" } else { "turn" };
        let changed = match activity.changed.len() {
            0 => String::new(),
            count => format!(" after it changed {}: see `orch runs diff {run}`", counted(count, "file")),
        };
        let message = format!("a {name} of step `{step}` was interrupted{changed}");
        match (activity.partial_note(), mcp_tool) {
            (Some(note), _) => runner.reporter.warning(&redactor.redact(&format!("{message}; {note}"))),
            (None, _) if !changed.is_empty() => runner.reporter.note(&message),
            // Only the files of the workspace are compared, and the server can also change other things.
            (None, Some(tool)) => runner.reporter.note(&format!(
                "a call of `{tool}` of step `{step}` was interrupted: it is not known whether it took effect, and orch \
                 does not repeat it"
            )),
            (None, None) => {}
        }
    }
}

/// The start of a call whose end the journal does not contain.
struct OpenCall {
    /// The digest of the request; `None` for a turn, which runs again and needs no record.
    request_digest: Option<Digest>,
    start_time: Timestamp,
    /// Whether this is a call of a tool, and not a turn of a CLI agent.
    is_tool_call: bool,
    /// Whether the call may change files of the workspace, so that orch compares them.
    keeps_turn_start: bool,
    /// The tool of an MCP server; `None` for any other call.
    mcp_tool: Option<String>,
}

/// The tool calls that may have changed something, and the turns of the last session, that started and have no recorded
/// end. The end of a call that may have changed files counts only with a comparison of the files.
fn open_calls(events: &[Event]) -> BTreeMap<CallKey, OpenCall> {
    let mut open: BTreeMap<CallKey, OpenCall> = BTreeMap::new();
    for event in events {
        match &event.fact {
            Fact::CallStarted(fact @ CallStarted { call, kind, request_digest, .. }) => {
                let (is_tool_call, keeps_turn_start) = (kind.is_never_repeated(), kind.properties().keeps_turn_start);
                if is_tool_call || keeps_turn_start {
                    let request_digest = request_digest.clone().filter(|_| is_tool_call);
                    let mcp_tool = fact.tool_and_arguments().filter(|_| matches!(kind, CallKind::McpTool(_)));
                    let mcp_tool = mcp_tool.map(|(tool, _)| tool.to_owned());
                    let start_time = event.at;
                    let started = OpenCall { request_digest, start_time, is_tool_call, keeps_turn_start, mcp_tool };
                    open.insert(call.clone(), started);
                }
            }
            Fact::CallEnded(end)
                if open.get(&end.call).is_some_and(|call| !call.keeps_turn_start || is_compared(end)) =>
            {
                open.remove(&end.call);
            }
            // The user knows of the turns of earlier sessions.
            Fact::RunResumed(_) => open.retain(|_, call| call.is_tool_call),
            _ => {}
        }
    }
    open
}

/// Whether the end of a call says which files it changed. If orch had to drop a cancelled call, it did not compare the
/// files.
fn is_compared(call: &CallEnded) -> bool {
    let is_cancelled = call.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::Cancelled);
    !is_cancelled || call.agent_activity.is_some()
}

/// Whether the journal contains the end of a turn's call, with a comparison of the files.
fn is_recorded(events: &[Event], (call_key, request_digest, start_time): (&CallKey, &Digest, Timestamp)) -> bool {
    events.iter().any(|event| match &event.fact {
        // Compare the start times, because the journal may contain an earlier interrupted turn of the same call.
        Fact::CallEnded(call)
            if call.call == *call_key && call.request_digest == *request_digest && call.started >= start_time =>
        {
            is_compared(call)
        }
        _ => false,
    })
}

/// Creates the failed call for an interrupted turn, and tells the user about the damage by its program. The call's
/// duration is zero, because the recorded duration of the killed session already includes the turn.
fn to_failed_call(
    turn: InterruptedTurn,
    damaged: Option<DamagedCall>,
    (redactor, runner): (&Redactor, &Runner),
) -> CallEnded {
    let kind = match &damaged {
        Some(damaged) => damaged.kind,
        None if turn.model.is_none() => ProgramKind::ToolCall,
        None => ProgramKind::Turn,
    };
    let noun = kind.noun();
    let sandbox: Option<SandboxUse> = damaged.map(|damaged| damaged.sandbox);
    let failure = failure_after_kill(noun, sandbox.as_ref());
    if sandbox.is_some() {
        let step = &turn.call_key.step;
        runner.reporter.warning(&format!("a {noun} of step {step} was interrupted: {}", failure.message));
    }
    // orch does not compare the files of a command.
    let compares_files = kind != ProgramKind::Command;
    CallEnded {
        call: turn.call_key,
        request_digest: turn.request_digest,
        model: turn.model,
        started: turn.start_time,
        ended: turn.start_time,
        reply: None,
        output: None,
        failure: Some(failure),
        agent_activity: compares_files.then(|| Box::new(redactor.redact_activity(turn.activity))),
        cost: None,
        estimated: None,
        estimated_cost: None,
        reverted_files: Vec::new(),
        sandbox: sandbox.map(Box::new),
    }
}
