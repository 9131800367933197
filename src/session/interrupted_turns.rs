//! Records the file changes of the CLI agent turns and tool calls that were running when orch was killed.
//!
//! A turn runs again. A tool call that may have changed something does not: its record is its outcome, so that the model
//! learns that it was interrupted, and what changed. A turn has a model, and a tool call has none.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::agent::{
    InterruptedTurn, InterruptedWorkspace, StartedTurn, find_interrupted_turns, find_started_turns, remove_turn_start,
};
use crate::model::event::{CallEnded, CallKind, CallStarted, Event, Fact};
use crate::model::{AgentActivity, CallKey, Digest, Failure, FailureClass, RunId};
use crate::secret::Redactor;
use crate::store::{Journal, Workspace};

use super::Runner;
use super::error::SessionError;

/// The maximum time for which programs run after the last heartbeat of their orch process. orch records a heartbeat
/// every second, and a guard waits half a second before it kills the programs.
const KILL_DELAY: Duration = Duration::from_secs(2);

/// Returns a fact for each turn that may have changed files and has no recorded end, and for each tool call that may
/// have changed something and has no recorded end: a failed call with the changed files.
pub(crate) fn interrupted_turn_facts(
    (journal, run, events): (&Journal, RunId, &[Event]),
    (workspace, artifacts, last_heartbeat): (&Workspace, &[String], Option<Timestamp>),
    redactor: &Redactor,
    runner: &Runner,
) -> Result<Vec<Fact>, SessionError> {
    let agents_folder = journal.agents_folder(run);
    let owned_files = journal.owned_files(&workspace.path_in_journal())?;
    let run_id = run.to_string();
    let last_alive = last_heartbeat.max(events.last().map(|event| event.at)).unwrap_or_default();
    let interrupted_workspace = InterruptedWorkspace {
        folder: workspace.folder(),
        artifacts,
        processes_ended: last_alive + KILL_DELAY,
        is_foreign: &|path| owned_files.last_writer(path).is_some_and(|writer| writer != run_id),
    };
    let (turns, errors) = find_interrupted_turns(&agents_folder, interrupted_workspace);
    for error in &errors {
        runner.reporter.warning(&format!("{error}; the file changes of this turn are not recorded"));
    }
    // A tool writes the state before the call to disk before it changes a file. So a call without such a state changed
    // nothing, unless the state is in a file that can't be read.
    let mut open_tools = open_tool_calls(events, !errors.is_empty());
    let mut facts = Vec::new();
    for turn in turns {
        let is_tool_call = turn.model.is_none();
        let is_needed = is_tool_call || turn.activity.partial || !turn.activity.changed.is_empty();
        if !is_needed || is_recorded(events, (&turn.call_key, &turn.request_digest, turn.start_time)) {
            remove_turn_start(&agents_folder, &turn.call_key);
            continue;
        }
        let tool = open_tools.remove(&turn.call_key);
        let count = turn.activity.changed.len();
        if count > 0 {
            let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
            let name = if is_tool_call { "tool call" } else { "turn" };
            let message = format!(
                "a {name} of step {} was interrupted after it changed {files}: see `orch runs diff {run}`",
                turn.call_key.step
            );
            runner.reporter.note(&message);
        } else if let Some(note) = tool.and_then(|tool| tool.note()) {
            runner.reporter.note(&note);
        }
        facts.push(Fact::CallEnded(to_failed_call(turn, redactor)));
    }
    let mut without_start: Vec<OpenToolCall> = open_tools.into_values().collect();
    without_start.sort_by(|left, right| left.turn.call_key.cmp(&right.turn.call_key));
    for tool in without_start {
        if let Some(note) = tool.note() {
            runner.reporter.note(&note);
        }
        facts.push(Fact::CallEnded(to_failed_call(tool.turn, redactor)));
    }
    Ok(facts)
}

/// The turns and tool calls whose changes the journal does not contain, because they have not ended or orch was killed
/// during them, and an error message for each file about a turn that can't be read.
pub(super) fn unrecorded_turns(journal: &Journal, run: RunId, events: &[Event]) -> (Vec<StartedTurn>, Vec<String>) {
    let (turns, errors) = find_started_turns(&journal.agents_folder(run));
    let is_unrecorded =
        |turn: &StartedTurn| !is_recorded(events, (&turn.call_key, &turn.request_digest, turn.start_time));
    (turns.into_iter().filter(is_unrecorded).collect(), errors)
}

/// A tool call that started, may have changed something and has no recorded end.
struct OpenToolCall {
    /// The call, without the files that it changed.
    turn: InterruptedTurn,
    /// The tool of an MCP server; `None` for a built-in tool.
    mcp_tool: Option<String>,
}

impl OpenToolCall {
    /// A note for the user, if nobody knows what the call did: only the files of the workspace are compared.
    fn note(&self) -> Option<String> {
        let (tool, step) = (self.mcp_tool.as_ref()?, &self.turn.call_key.step);
        Some(format!(
            "a call of `{tool}` of step {step} was interrupted: it is not known whether it took effect, and orch does \
             not repeat it"
        ))
    }
}

/// The tool calls that started, may have changed something and have no recorded end. `is_partial` is whether they may
/// have changed files in ways that orch can't find out.
fn open_tool_calls(events: &[Event], is_partial: bool) -> HashMap<CallKey, OpenToolCall> {
    let mut open = HashMap::new();
    for event in events {
        match &event.fact {
            Fact::CallStarted(fact @ CallStarted { call, kind, request_digest: Some(request_digest), .. })
                if kind.is_never_repeated() =>
            {
                let turn = InterruptedTurn {
                    call_key: call.clone(),
                    request_digest: request_digest.clone(),
                    model: None,
                    start_time: event.at,
                    activity: AgentActivity { partial: is_partial, ..AgentActivity::default() },
                };
                let is_mcp_tool = matches!(kind, CallKind::McpTool(_));
                let mcp_tool = fact.tool_and_arguments().filter(|_| is_mcp_tool).map(|(tool, _)| tool.to_owned());
                open.insert(call.clone(), OpenToolCall { turn, mcp_tool });
            }
            Fact::CallEnded(call) => drop(open.remove(&call.call)),
            _ => {}
        }
    }
    open
}

/// Whether the journal contains the end of a turn's call. A cancelled call counts only if the journal contains its file
/// changes.
fn is_recorded(events: &[Event], (call_key, request_digest, start_time): (&CallKey, &Digest, Timestamp)) -> bool {
    events.iter().any(|event| match &event.fact {
        // Compare the start times, because the journal may contain an earlier interrupted turn of the same call.
        Fact::CallEnded(call)
            if call.call == *call_key && call.request_digest == *request_digest && call.started >= start_time =>
        {
            let is_cancelled = call.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::Cancelled);
            !is_cancelled || call.agent_activity.is_some()
        }
        _ => false,
    })
}

/// Creates the failed call for an interrupted turn. The call's duration is zero, because the recorded duration of the
/// killed session already includes the turn.
fn to_failed_call(turn: InterruptedTurn, redactor: &Redactor) -> CallEnded {
    let name = if turn.model.is_none() { "tool call" } else { "turn" };
    let failure = Failure::new(FailureClass::Crashed, format!("orch was killed during the {name}"));
    CallEnded {
        call: turn.call_key,
        request_digest: turn.request_digest,
        model: turn.model,
        started: turn.start_time,
        ended: turn.start_time,
        reply: None,
        output: None,
        failure: Some(failure),
        agent_activity: Some(Box::new(redactor.redact_activity(turn.activity))),
        cost: None,
        estimated: None,
        estimated_cost: None,
        reverted_files: Vec::new(),
        sandbox: None,
    }
}
