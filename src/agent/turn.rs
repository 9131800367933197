//! Runs one turn of a CLI agent, with its time limit, its session and its changes in the workspace.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::files::{ChangeSet, FileSnapshot, WorkspaceBaseline};
use crate::model::failure::RAISE_DEADLINE_HINT;
use crate::model::step::Access;
use crate::model::visible::{escape_line_breaks, one_line};
use crate::model::{AgentActivity, AgentTurn, CliAgentKind, Failure, FailureClass};

use super::acp::AcpAgent;
use super::claude::ClaudeAgent;
use super::codex::CodexAgent;
use super::command::CommandAgent;
use super::exit::last_text_suffix;
use super::files::refuse_files;
use super::program::{AgentEnv, AgentEvent, AgentProgram, CallContext, TurnJob, TurnResult};
use super::session_file::SessionFile;
use super::turn_sandbox::apply_sandbox;
use super::turn_start::{TurnStart, write_turn_start};

/// The default time limit of a turn: some programs wait forever when the network fails.
pub const DEFAULT_TURN_TIMEOUT: Duration = Duration::from_mins(10);
/// The maximum number of tool uses that orch reports.
const MAX_TOOL_USES: usize = 1000;
/// The maximum length of the description of a tool use that orch reports, in characters.
const MAX_TOOL_CHARS: usize = 200;

/// The maximum length of a program's last text that orch stores for messages, in bytes.
const MAX_LAST_TEXT_BYTES: usize = 8 << 10;

fn agent_program(kind: CliAgentKind) -> &'static dyn AgentProgram {
    match kind {
        CliAgentKind::Claude => &ClaudeAgent,
        CliAgentKind::Codex => &CodexAgent,
        CliAgentKind::Acp => &AcpAgent,
        CliAgentKind::Command => &CommandAgent,
    }
}

/// Runs one turn of a CLI agent.
///
/// If an earlier attempt at the turn was interrupted, the program continues its own session, provided that it had
/// reported one. If the program can't continue that session, the turn starts from the beginning.
///
/// When `interrupt` resolves to a failure, orch ends the program and returns that failure with the activity so far.
/// After the program has reported the end of its turn, `interrupt` has no effect.
pub async fn run_turn(
    turn: &AgentTurn,
    agent_env: &AgentEnv,
    context: &CallContext,
    sink: &(dyn Fn(AgentEvent) + Send + Sync),
    interrupt: impl Future<Output = Failure>,
) -> TurnResult {
    if let Err(failure) = refuse_files(&turn.request, &format!("the CLI agent `{}`", turn.program.kind.as_str())) {
        return failure.into();
    }
    let (timeout, is_limited_by_deadline) = match turn_timeout(turn, context.start_time) {
        Ok(timeout) => timeout,
        Err(failure) => return failure.into(),
    };
    let job = TurnJob { turn, agent_env, timeout, context, is_resumed: false };
    let session_file =
        SessionFile::new(&agent_env.agents_folder, &format!("{} {}", context.call_key, context.request_digest));
    let monitor =
        TurnMonitor { sink, session_file: &session_file, state: Mutex::default(), attempt_started: Notify::new() };
    let snapshot_before = match job.record_snapshot().await {
        Ok(snapshot) => snapshot,
        Err(failure) => return failure.into(),
    };
    // Once the program has reported the end of its turn, its reply is complete and paid for. An interrupt then takes
    // effect only if another attempt starts.
    let mut interrupt = pin!(async {
        let failure = interrupt.await;
        while monitor.state().has_turn_ended {
            monitor.attempt_started.notified().await;
        }
        failure
    });
    if let Some(failure) = interrupt.as_mut().now_or_never() {
        // The program never started.
        return failure.without_call_details().into();
    }
    // An interrupt drops the future of the turn, which ends the program.
    let (mut result, has_ended) = tokio::select! {
        biased;
        result = job.resume_or_run(&session_file, &monitor) => (result, true),
        failure = interrupt => (failure.into(), false),
    };
    // Until its processes have ended, the program may still write files.
    agent_env.ending_process_groups.wait_all_ended().await;
    let mut activity = match (snapshot_before, job.take_snapshot().await) {
        (Some(before), Some(after)) => before.difference(&after),
        // The agent may not change files.
        (None, _) | (_, None) => AgentActivity::default(),
    };
    // The caller records the result of a turn that ended. An interrupted turn runs again and may continue its session.
    if has_ended {
        session_file.remove();
    }
    let state = std::mem::take(&mut *monitor.state());
    activity.tools = state.tools;
    if let Some(sandbox) = agent_env.ending_process_groups.sandbox_use() {
        let visible_folders = std::iter::once(&agent_env.workspace).chain(&agent_env.sandbox.project_root);
        apply_sandbox(turn, &sandbox, &visible_folders.collect::<Vec<_>>(), &mut result);
    }
    if let Err(failure) = &mut result.reply
        && failure.class == FailureClass::Timeout
    {
        failure.message.push_str(&last_text_suffix(&state.last_text));
        if is_limited_by_deadline {
            *failure = failure.clone().with_raise_deadline_hint();
        }
    }
    match &mut result.reply {
        Ok(_) => {
            let reported = std::mem::take(&mut result.activity);
            activity.denied = reported.denied.iter().map(|line| one_line(line, MAX_TOOL_CHARS)).collect();
            activity.session_usage = reported.session_usage;
            result.activity = activity;
        }
        Err(failure) => {
            let has_usage = result.activity.usage.is_some_and(|usage| usage.complete().is_some());
            failure.interrupted |= !has_usage && may_have_used_tokens(failure.class, state.has_output);
            result.activity = AgentActivity { usage: result.activity.usage, session: state.session, ..activity };
        }
    }
    result
}

/// Whether a program whose turn failed may have used tokens that it did not report.
fn may_have_used_tokens(class: FailureClass, has_output: bool) -> bool {
    match class {
        // The program never ran.
        FailureClass::NotInstalled | FailureClass::NotConfined | FailureClass::Storage => false,
        // The provider rejected the first request, unless the program wrote output before.
        FailureClass::Auth
        | FailureClass::BadRequest
        | FailureClass::RateLimited
        | FailureClass::ProviderUnavailable => has_output,
        _ => true,
    }
}

/// Receives the events of a turn.
struct TurnMonitor<'a> {
    sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    session_file: &'a SessionFile,
    state: Mutex<TurnState>,
    /// Notified when another attempt starts.
    attempt_started: Notify,
}

/// What the events of a turn reported so far.
#[derive(Default)]
struct TurnState {
    /// Whether the program wrote text or used a tool.
    has_output: bool,
    has_turn_ended: bool,
    /// The program's latest output, for messages: the end of its text since its last tool use, or a description of that
    /// tool use if no text followed.
    last_text: String,
    tools: Vec<String>,
    session: Option<String>,
}

impl TurnState {
    fn add_text(&mut self, text: &str) {
        self.has_output = true;
        if self.last_text.starts_with("(it used a tool") {
            self.last_text.clear();
        }
        self.last_text.push_str(text);
        if self.last_text.len() > MAX_LAST_TEXT_BYTES {
            let start = self.last_text.ceil_char_boundary(self.last_text.len() - MAX_LAST_TEXT_BYTES / 2);
            self.last_text.drain(..start);
        }
    }
}

impl TurnMonitor<'_> {
    fn state(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, event: AgentEvent) {
        let mut state = self.state();
        match &event {
            AgentEvent::Session(session) => {
                self.session_file.write(session);
                state.session = Some(session.clone());
            }
            AgentEvent::Tool(line) => {
                state.has_output = true;
                state.last_text = format!("(it used a tool: {})", escape_line_breaks(line));
                if state.tools.len() < MAX_TOOL_USES {
                    state.tools.push(one_line(line, MAX_TOOL_CHARS));
                }
            }
            AgentEvent::Text(text) => state.add_text(text),
            AgentEvent::TurnEnded => state.has_turn_ended = true,
        }
        drop(state);
        (self.sink)(event);
    }

    /// Records the start of another attempt, which `interrupt` can end like the first.
    fn start_attempt(&self) {
        self.state().has_turn_ended = false;
        self.attempt_started.notify_one();
    }

    fn has_output(&self) -> bool {
        self.state().has_output
    }
}

/// The time limit of a turn, and whether the step's deadline sets the limit.
fn turn_timeout(turn: &AgentTurn, now: Timestamp) -> Result<(Duration, bool), Failure> {
    let timeout = turn.timeout_ms.map_or(DEFAULT_TURN_TIMEOUT, Duration::from_millis);
    let Some(deadline) = turn.until else { return Ok((timeout, false)) };
    let remaining = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
    if remaining.is_zero() {
        return Err(
            Failure::new(FailureClass::Timeout, "the step's deadline has passed").with_hint(RAISE_DEADLINE_HINT)
        );
    }
    Ok((timeout.min(remaining), remaining < timeout))
}

impl TurnJob<'_> {
    /// Runs the turn. If an earlier attempt was interrupted, first tries to continue its session.
    async fn resume_or_run(&self, session_file: &SessionFile, monitor: &TurnMonitor<'_>) -> TurnResult {
        if let Some(session) = session_file.read().filter(|_| self.turn.session.is_none()) {
            let turn = AgentTurn { session: Some(session), ..self.turn.clone() };
            let resumed = TurnJob { turn: &turn, is_resumed: true, ..*self };
            let result = resumed.run(monitor).await;
            // If the resumed session timed out without output, no time is left for another attempt.
            let is_timeout = result.reply.as_ref().is_err_and(|failure| failure.class == FailureClass::Timeout);
            let has_cost = result.cost.is_some_and(|usd| usd > 0.0)
                || result.activity.usage.is_some_and(|usage| usage.lower_bound().total() > 0);
            if result.reply.is_ok() || monitor.has_output() || is_timeout || has_cost {
                return result;
            }
            session_file.remove();
            monitor.start_attempt();
        }
        self.run(monitor).await
    }

    async fn run(&self, monitor: &TurnMonitor<'_>) -> TurnResult {
        let result = agent_program(self.turn.program.kind).run_turn(self, &|event| monitor.handle(event)).await;
        result.unwrap_or_else(TurnResult::from)
    }

    /// Takes a snapshot of the workspace before the turn, and writes it to disk for a resume after a kill. For a program
    /// that may not change files, writes that it changes none, so that a missing record always means unknown changes.
    async fn record_snapshot(&self) -> Result<Option<FileSnapshot>, Failure> {
        let snapshot = self.take_snapshot().await;
        let (agent_env, context) = (self.agent_env.clone(), self.context.clone());
        let model = self.turn.request.model.clone();
        let written = self.run_on_thread(move || {
            let no_changes = ChangeSet::default();
            let before = snapshot.as_ref().map_or(WorkspaceBaseline::Planned(&no_changes), WorkspaceBaseline::Snapshot);
            let start = TurnStart {
                call: &context.call_key,
                request_digest: &context.request_digest,
                model: Some(&model),
                start_time: context.start_time,
                before,
            };
            write_turn_start(&agent_env.agents_folder, &start).map(|()| snapshot)
        });
        written.await.map_err(|error| {
            let folder = self.agent_env.agents_folder.path().display();
            Failure::new(
                FailureClass::Storage,
                format!("the list of files in the workspace before the turn can't be saved in `{folder}`: {error}"),
            )
        })
    }

    /// Takes a snapshot of the workspace, if the program may change files.
    async fn take_snapshot(&self) -> Option<FileSnapshot> {
        if self.turn.program.access != Access::Write {
            return None;
        }
        let (folder, artifacts) = (self.agent_env.workspace.clone(), self.agent_env.artifacts.clone());
        Some(self.run_on_thread(move || FileSnapshot::from_folder(&folder, &artifacts)).await)
    }
}
