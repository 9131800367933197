//! The built-in tools of models: reading, listing, searching, changing and writing files of the workspace, commands in
//! a sandbox, and pages from the web. [`mcp`] has the tools of MCP servers.
//!
//! [`definition`] describes a tool to a model, [`read_arguments`] reads the arguments of a call, and [`perform`]
//! performs the call. [`refusal`] finds out before whether orch refuses the call in any workspace. A mistake of the
//! model is a result for the model, which can then do something else; only a call that orch could not perform or that
//! was interrupted is a failure.
//!
//! Guarantees:
//! - A call does only what one of the agent's grants allows.
//! - The file tools read and change files of the workspace only, also if another process replaces folders by links
//!   meanwhile. They observe the paths that the sandbox of the agent protects and denies.
//! - `shell` runs only in a sandbox of the wanted level.
//! - `fetch` connects only to allowed hosts, at the addresses that it has checked.
//! - A result has a limited size and contains no known secret.
//!
//! This module does not know runs, steps or journals. Before a call changes files, it passes the state of the workspace
//! to its caller ([`ToolContext::record_start`]), so that the caller knows the changes even if orch is killed.

mod arguments;
mod change_gate;
mod command_words;
mod definition;
mod edit;
mod fetch;
mod fetch_policy;
mod file_type;
mod html_text;
mod http_client;
mod ignore_rules;
mod job;
mod line_cutter;
mod list;
pub mod mcp;
mod missed_paths;
mod nearest;
mod output;
mod page_text;
mod paths;
mod read;
mod refusal;
mod search;
mod shell;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::files::{Tree, WorkspaceBaseline};
use crate::model::{BuiltinTool, Failure, ToolInvocation};
use crate::network::Network;
use crate::offload::run_on_thread;
use crate::process::{EndingGroups, SandboxContext, SupervisorSpec};
use crate::secret::Redactor;

pub use arguments::{read_arguments, read_arguments_with};
pub use definition::definition;
pub use fetch::{HostLookup, system_lookup};
pub use output::{MAX_CONTENT_BYTES, PerformedTool};
pub use refusal::{CallRules, refusal};
pub use search::regex_problem;

use arguments::{FetchArguments, ShellArguments, typed_arguments};
use change_gate::{ChangeGate, CloseOnDrop};
use job::{FileJob, ReservedPaths, ToolError};
use output::RawOutput;
use paths::PathAccess;

/// The time after the time limit of a tool that only reads files, in which it can return its result so far.
const ENDING_TIME: Duration = Duration::from_secs(5);

/// Stores the state of the workspace before a call changes it.
pub type RecordStart = Arc<dyn Fn(WorkspaceBaseline<'_>) -> Result<(), Failure> + Send + Sync>;

/// Looks up a variable in the environment of this process.
pub type VariableLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Receives the output of a command as it arrives. It may contain secrets.
pub type OutputObserver = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What the tools of an agent need.
#[derive(Clone)]
pub struct ToolContext {
    /// The workspace, and the parts of a sandbox that all programs of the run share.
    pub sandbox: Arc<SandboxContext>,
    /// Looks up variables in the environment of this process.
    pub variables: VariableLookup,
    /// How to start the supervisor of a command, which ends all its processes.
    pub supervisor: SupervisorSpec,
    /// The process groups of the call, until they have ended.
    pub ending_process_groups: EndingGroups,
    /// The proxies and certificates for pages from the web.
    pub network: Arc<Network>,
    /// Resolves the names of hosts for pages from the web.
    pub lookup: HostLookup,
    /// Removes secrets from results.
    pub redactor: Arc<Redactor>,
    /// Stores the state of the workspace before a call changes it. If this fails, the call changes nothing.
    pub record_start: RecordStart,
    /// Receives the output of a command as it arrives. It may contain secrets.
    pub on_output: OutputObserver,
}

/// Performs a call whose arguments [`read_arguments`] has accepted.
///
/// When `interruption` resolves to a failure, orch ends the call with that failure. `edit` and `write` run to their end
/// or to their time limit. If the caller drops the future before they change files, they change nothing.
pub async fn perform(
    invocation: &ToolInvocation,
    context: &ToolContext,
    interruption: impl Future<Output = Failure>,
) -> PerformedTool {
    let tool = invocation.tool;
    match tool {
        BuiltinTool::Shell => match typed_arguments::<ShellArguments>(tool, &invocation.arguments) {
            Ok(arguments) => shell::run_shell(invocation, context, &arguments, interruption).await,
            Err(message) => RawOutput::error(message).finish(&context.redactor),
        },
        BuiltinTool::Fetch => match typed_arguments::<FetchArguments>(tool, &invocation.arguments) {
            Ok(arguments) => fetch::run_fetch(invocation, context, &arguments, interruption).await,
            Err(message) => RawOutput::error(message).finish(&context.redactor),
        },
        BuiltinTool::Read => perform_reading(invocation, context, interruption, read::read).await,
        BuiltinTool::List => perform_reading(invocation, context, interruption, list::list).await,
        BuiltinTool::Search => perform_reading(invocation, context, interruption, search::search).await,
        BuiltinTool::Edit => perform_writing(invocation, context, edit::edit).await,
        BuiltinTool::Write => perform_writing(invocation, context, edit::write).await,
    }
}

/// A tool that works on files, with its arguments.
type FileTool<T> = fn(&FileJob, &T) -> Result<RawOutput, ToolError>;

/// Performs a tool that only reads files, until it ends, is interrupted or reaches its time limit.
async fn perform_reading<T: DeserializeOwned + Send + 'static>(
    invocation: &ToolInvocation,
    context: &ToolContext,
    interruption: impl Future<Output = Failure>,
    tool: FileTool<T>,
) -> PerformedTool {
    let is_cancelled = Arc::new(AtomicBool::new(false));
    let work = run_file_tool(invocation, context, (is_cancelled.clone(), Arc::default()), tool);
    let limit = Duration::from_millis(invocation.timeout_ms);
    match wait_for_reading(work, interruption, limit, &is_cancelled).await {
        ReadingEnd::Ended(performed) => performed,
        ReadingEnd::Interrupted(failure) => failure.into(),
        ReadingEnd::Stuck => {
            let message = format!(
                "`{}` did not end within {limit:?}: the files can't be read in this time; name fewer files",
                invocation.tool
            );
            RawOutput::error(message).finish(&context.redactor)
        }
    }
}

/// How a tool that only reads files ended.
#[derive(Debug, PartialEq)]
enum ReadingEnd<T> {
    /// With its result, or with the result so far at its time limit.
    Ended(T),
    Interrupted(Failure),
    /// The tool did not end after its time limit either: the system does not answer, or a single step takes long.
    Stuck,
}

/// Waits for a tool that only reads files on another thread. Sets `is_cancelled` if orch no longer needs the whole
/// result. The thread then ends as soon as it can, but orch does not wait for that without a limit.
async fn wait_for_reading<T>(
    work: impl Future<Output = T>,
    interruption: impl Future<Output = Failure>,
    limit: Duration,
    is_cancelled: &AtomicBool,
) -> ReadingEnd<T> {
    tokio::pin!(work, interruption);
    let interrupted = tokio::select! {
        biased;
        result = &mut work => return ReadingEnd::Ended(result),
        failure = &mut interruption => Some(failure),
        () = tokio::time::sleep(limit) => None,
    };
    is_cancelled.store(true, Ordering::Relaxed);
    if let Some(failure) = interrupted {
        return ReadingEnd::Interrupted(failure);
    }
    tokio::select! {
        biased;
        result = &mut work => ReadingEnd::Ended(result),
        failure = &mut interruption => ReadingEnd::Interrupted(failure),
        () = tokio::time::sleep(ENDING_TIME) => ReadingEnd::Stuck,
    }
}

/// Performs a tool that changes files. A change runs to its end, since it takes little time. Until it begins, the time
/// limit applies.
async fn perform_writing<T: DeserializeOwned + Send + 'static>(
    invocation: &ToolInvocation,
    context: &ToolContext,
    tool: FileTool<T>,
) -> PerformedTool {
    let gate = Arc::new(ChangeGate::default());
    let work = run_file_tool(invocation, context, (Arc::default(), gate.clone()), tool);
    let limit = Duration::from_millis(invocation.timeout_ms);
    wait_for_writing(work, limit, gate).await.unwrap_or_else(|| {
        let message = format!(
            "`{}` did not end within {limit:?}, so nothing was changed; make a smaller change, or change the file with \
             a command",
            invocation.tool
        );
        RawOutput::error(message).finish(&context.redactor)
    })
}

/// Waits for a tool that changes files on another thread. Returns `None` if the tool reaches its time limit before it
/// changes a file; it then changes none.
async fn wait_for_writing<T>(work: impl Future<Output = T>, limit: Duration, gate: Arc<ChangeGate>) -> Option<T> {
    let closing = CloseOnDrop(gate);
    tokio::pin!(work);
    tokio::select! {
        biased;
        result = &mut work => return Some(result),
        () = tokio::time::sleep(limit) => {}
    }
    if closing.0.close() { None } else { Some(work.await) }
}

/// Runs a tool that works on files on another thread. The flag says whether the call should end as soon as possible.
async fn run_file_tool<T: DeserializeOwned + Send + 'static>(
    invocation: &ToolInvocation,
    context: &ToolContext,
    (is_cancelled, change_gate): (Arc<AtomicBool>, Arc<ChangeGate>),
    tool: FileTool<T>,
) -> PerformedTool {
    let arguments: T = match typed_arguments(invocation.tool, &invocation.arguments) {
        Ok(arguments) => arguments,
        Err(message) => return RawOutput::error(message).finish(&context.redactor),
    };
    let (invocation, context) = (invocation.clone(), context.clone());
    let hold = context.ending_process_groups.hold_virtual_time();
    let work = move || {
        let job = file_job(&invocation, &context, (is_cancelled, change_gate));
        match job.and_then(|job| tool(&job, &arguments)) {
            Ok(output) => output.finish(&context.redactor),
            Err(ToolError::Refused(message)) => RawOutput::error(message).finish(&context.redactor),
            Err(ToolError::Failed(failure)) => failure.into(),
        }
    };
    run_on_thread(hold, work).await
}

/// Opens the workspace, and collects the rules for its paths.
fn file_job(
    invocation: &ToolInvocation,
    context: &ToolContext,
    (is_cancelled, change_gate): (Arc<AtomicBool>, Arc<ChangeGate>),
) -> Result<FileJob, ToolError> {
    let sandbox = &context.sandbox;
    let rules = sandbox.workspace_rules(invocation.sandbox.as_ref()).map_err(ToolError::Failed)?;
    let access = PathAccess::new(invocation.tool, &invocation.grants, &rules)?;
    let is_artifact = |path: &&String| !rules.protected.contains(*path);
    let reserved = ReservedPaths {
        artifacts: invocation.reserved.iter().filter(is_artifact).cloned().collect(),
        protected: rules.protected,
    };
    Ok(FileJob {
        tree: Tree::open(&sandbox.workspace).map_err(ToolError::Failed)?,
        workspace: sandbox.workspace.clone(),
        access,
        reserved,
        redactor: context.redactor.clone(),
        record_start: context.record_start.clone(),
        is_cancelled,
        change_gate,
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::model::FailureClass;

    const LIMIT: Duration = Duration::from_mins(10);

    fn stopped() -> Failure {
        Failure::new(FailureClass::Cancelled, "the run was stopped")
    }

    async fn fails_after(delay: Duration) -> Failure {
        tokio::time::sleep(delay).await;
        stopped()
    }

    /// Waits for work that ends a moment after its cancellation, if it ends at all.
    async fn wait(ends: bool, interruption: impl Future<Output = Failure>) -> ReadingEnd<&'static str> {
        let is_cancelled = AtomicBool::new(false);
        let work = async {
            loop {
                if ends && is_cancelled.load(Ordering::Relaxed) {
                    return "so far";
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let end = wait_for_reading(work, interruption, LIMIT, &is_cancelled).await;
        assert!(is_cancelled.load(Ordering::Relaxed), "the thread learns that it can end");
        end
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_tool_ends_at_its_time_limit_with_the_result_so_far() {
        assert_eq!(wait(true, pending()).await, ReadingEnd::Ended("so far"));
        assert_eq!(wait(true, fails_after(LIMIT / 2)).await, ReadingEnd::Interrupted(stopped()));
    }

    /// Waits for work that changes files after a delay, if its gate is still open. Also returns whether it changed
    /// files.
    async fn wait_writing(delay: Duration, duration: Duration) -> (Option<()>, bool) {
        let gate = Arc::new(ChangeGate::default());
        let (entered, has_changed) = (gate.clone(), AtomicBool::new(false));
        let work = async {
            tokio::time::sleep(delay).await;
            if entered.enter() {
                tokio::time::sleep(duration).await;
                has_changed.store(true, Ordering::Relaxed);
            }
        };
        let result = wait_for_writing(work, LIMIT, gate.clone()).await;
        assert_eq!(gate.enter(), result.is_some(), "after the time limit, the thread can't change files");
        (result, has_changed.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_runs_to_its_end_and_does_not_begin_after_the_time_limit() {
        assert_eq!(wait_writing(LIMIT / 2, LIMIT / 4).await, (Some(()), true));
        assert_eq!(wait_writing(LIMIT / 2, LIMIT * 2).await, (Some(()), true));
        assert_eq!(wait_writing(LIMIT * 2, LIMIT).await, (None, false));
    }

    #[tokio::test(start_paused = true)]
    async fn orch_does_not_wait_for_a_reading_tool_that_does_not_end() {
        assert_eq!(wait(false, pending()).await, ReadingEnd::Stuck);
        assert_eq!(wait(false, fails_after(LIMIT / 2)).await, ReadingEnd::Interrupted(stopped()));
        let while_ending = fails_after(LIMIT + ENDING_TIME / 2);
        assert_eq!(wait(false, while_ending).await, ReadingEnd::Interrupted(stopped()));
    }
}
