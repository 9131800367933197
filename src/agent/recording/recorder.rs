//! Records the exchanges, commands and tool calls of a run.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use super::RecordingContext;
use super::answers::{ANSWER_LABEL, AnswerRecording};
use super::blocks::replied_calls;
use super::changes::RecordedChanges;
use super::exchange::{
    CallPosition, CommandRecording, Exchange, RecordedCommand, RecordedResult, ReplyRecording, chat_request_key,
    chat_request_text, split_lines,
};
use super::mcp_calls::{MCP_LABEL, McpCallRecording};
use super::mcp_listings::McpListingRecording;
use super::omissions::RecordingOmissions;
use super::tool_calls::ToolCallRecording;
use crate::folder::{FolderAccess, NoFollowFolder, new_temporary_name};
use crate::model::call_reply::CommandOutput;
use crate::model::effect::CommandSpec;
use crate::model::event::ApprovalDecision;
use crate::model::{
    AgentActivity, CallKey, ChatReply, ChatRequest, CommandMode, CommandModes, Digest, Failure, FailureClass,
    McpCallOutput, McpInvocation, McpListing, StepKey, ToolInvocation, ToolOutput,
};

/// Records the exchanges, commands and tool calls of a run in a folder that only the user can read, since they may be private.
#[derive(Debug)]
pub struct Recorder {
    folder: NoFollowFolder,
    /// The commands that the recorder leaves out, because replays run them.
    commands: CommandModes,
    /// How often each file name was used: steps may send the same request and get different replies.
    name_counts: Mutex<HashMap<String, usize>>,
    first_failure: Mutex<Option<Failure>>,
    omissions: RecordingOmissions,
}

/// What a call of a run did.
#[derive(Clone, Copy, Debug)]
pub enum RecordedExchange<'a> {
    /// A model or a CLI agent replied.
    Reply {
        /// The request.
        request: &'a ChatRequest,
        /// The reply.
        reply: &'a ChatReply,
        /// What a CLI agent did besides replying.
        activity: Option<&'a AgentActivity>,
    },
    /// A command ended.
    Command {
        /// The command.
        command: &'a CommandSpec,
        /// Its output, or why it has none.
        result: Result<&'a CommandOutput, &'a Failure>,
        /// The files that it changed.
        activity: &'a AgentActivity,
    },
    /// A tool call of a model ended.
    ToolCall {
        /// The call.
        invocation: &'a ToolInvocation,
        /// Its output.
        output: &'a ToolOutput,
        /// The files that it changed.
        activity: &'a AgentActivity,
    },
    /// A call of an MCP tool ended.
    McpCall {
        /// The call.
        invocation: &'a McpInvocation,
        /// Its output, or why it has none.
        result: Result<&'a McpCallOutput, &'a Failure>,
        /// The files that it changed.
        activity: &'a AgentActivity,
    },
}

impl Recorder {
    /// Creates a recorder that writes to a folder, which it creates if necessary.
    ///
    /// # Errors
    /// The folder can't be created.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        NoFollowFolder::create(folder, FolderAccess::Private).map(Self::from_folder)
    }

    /// Creates a recorder that writes to a folder.
    pub fn from_folder(folder: NoFollowFolder) -> Self {
        let commands = CommandModes::default();
        Self {
            folder,
            commands,
            name_counts: Mutex::default(),
            first_failure: Mutex::default(),
            omissions: RecordingOmissions::default(),
        }
    }

    /// The folder, absolute and without links.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Checks that the recorder can write to its folder, before the run calls anything.
    ///
    /// # Errors
    /// A file in the folder can't be created or removed.
    pub fn check_writable(&self) -> std::io::Result<()> {
        let file = self.folder.file(new_temporary_name());
        drop(file.create_new()?);
        file.remove()
    }

    /// The same recorder, without the commands that a replay runs.
    #[must_use]
    pub fn with_commands(self, commands: CommandModes) -> Self {
        Self { commands, ..self }
    }

    /// Whether the recorder records the command of a step.
    pub fn records_command(&self, step: &StepKey) -> bool {
        self.commands.mode(step) != Some(CommandMode::Run)
    }

    /// Records an exchange without its secrets. An error does not fail the call, because the run would then lose a reply
    /// that the user paid for. [`Recorder::failure`] returns the error.
    pub fn record(&self, key: &CallKey, exchange: RecordedExchange<'_>, context: &RecordingContext<'_>) {
        let result = match exchange {
            RecordedExchange::Reply { request, reply, activity } => {
                let recording = reply_recording(key, request, reply, activity, context);
                self.omissions.add(&key.step, recording.changes.omission(context.paths).as_deref());
                self.write(&recording, &key.step)
            }
            RecordedExchange::Command { command, result, activity } => {
                match command_recording(key, command, result, activity, context) {
                    Some(recording) => {
                        self.omissions.add(&key.step, recording.changes.omission(context.paths).as_deref());
                        self.write(&recording, &key.step)
                    }
                    None => Ok(()),
                }
            }
            RecordedExchange::ToolCall { invocation, output, activity } => {
                let recording = ToolCallRecording::new(key, invocation, output, activity, context);
                self.omissions.add(&key.step, recording.changes().omission(context.paths).as_deref());
                self.write(&recording, &key.step)
            }
            RecordedExchange::McpCall { invocation, result, activity } => {
                match McpCallRecording::new(key, invocation, result, activity, context) {
                    Some(recording) => {
                        self.omissions.add(&key.step, recording.changes().omission(context.paths).as_deref());
                        self.write(&recording, &key.step)
                    }
                    None => Ok(()),
                }
            }
        };
        self.note_failure(result);
    }

    /// Records the tools of an MCP server in place of an earlier recording.
    pub fn record_listing(&self, listing: &McpListing, context: &RecordingContext<'_>) {
        let recording = McpListingRecording::new(listing, context);
        self.note_failure(self.write_file(McpListingRecording::file_name(&listing.server), &recording));
    }

    /// Records the answer to a question of an approval, in place of an earlier recording of the same question.
    pub fn record_answer(
        &self,
        step: &StepKey,
        question: &str,
        decision: &ApprovalDecision,
        context: &RecordingContext<'_>,
    ) {
        let recording = AnswerRecording::new(step, question, decision, context);
        let name = recording_name(step, Some(ANSWER_LABEL), &recording.digest());
        self.note_failure(self.write_file(format!("{name}.json"), &recording));
    }

    fn note_failure(&self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }

    /// Counts a request whose reply an earlier session of the run recorded, so that the recording of an equal request
    /// does not replace it.
    pub fn skip_reply(&self, step: &StepKey, request: &ChatRequest, context: &RecordingContext<'_>) {
        self.unused_file_name(recording_name(step, None, &chat_request_key(request, context)));
    }

    /// Counts a command whose result an earlier session of the run recorded.
    pub fn skip_command(&self, step: &StepKey, command: &CommandSpec, context: &RecordingContext<'_>) {
        self.unused_file_name(recording_name(step, None, &RecordedCommand::new(command, context).key()));
    }

    /// Counts a tool call whose result an earlier session of the run recorded.
    pub fn skip_tool_call(&self, step: &StepKey, invocation: &ToolInvocation, context: &RecordingContext<'_>) {
        let key = ToolCallRecording::request_text(invocation, context).digest();
        self.unused_file_name(recording_name(step, Some(invocation.tool.as_str()), &key));
    }

    /// Counts a call of an MCP tool whose result an earlier session of the run recorded.
    pub fn skip_mcp_call(&self, step: &StepKey, invocation: &McpInvocation, context: &RecordingContext<'_>) {
        let key = McpCallRecording::request_text(invocation, context).digest();
        self.unused_file_name(recording_name(step, Some(MCP_LABEL), &key));
    }

    /// The first error of [`Recorder::record`] and [`Recorder::record_listing`].
    pub fn failure(&self) -> Option<Failure> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A sentence for each recording that lacks, or may lack, changes of files.
    pub fn omissions(&self) -> Vec<String> {
        self.omissions.sentences()
    }

    /// Returns a file name that this run has not used yet: `vote.1f2e.json`, then `vote.1f2e.2.json`.
    fn unused_file_name(&self, name: String) -> String {
        let mut counts = self.name_counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { format!("{name}.json") } else { format!("{name}.{count}.json") }
    }

    fn write(&self, recording: &(impl Exchange + Serialize), step: &StepKey) -> Result<(), Failure> {
        let name = recording_name(step, recording.label(), recording.id().key);
        self.write_file(self.unused_file_name(name), recording)
    }

    fn write_file(&self, name: String, recording: &impl Serialize) -> Result<(), Failure> {
        let file = self.folder.file(name);
        let write_failure = |reason: String| {
            let path = file.path();
            Failure::new(
                FailureClass::Storage,
                format!("the recording `{}` can't be written: {reason}", path.display()),
            )
        };
        let value: Value = serde_json::to_value(recording).map_err(|error| write_failure(error.to_string()))?;
        file.replace(format!("{value:#}\n").as_bytes()).map_err(|error| write_failure(error.to_string()))
    }
}

/// The name of the file of a recording, without its number and its extension.
fn recording_name(step: &StepKey, label: Option<&str>, key: &Digest) -> String {
    let label = label.map(|label| format!(".{label}")).unwrap_or_default();
    let step_name = step.declared_key().as_str().replace('/', ".");
    format!("{step_name}{label}.{}", key.short())
}

fn reply_recording(
    key: &CallKey,
    request: &ChatRequest,
    reply: &ChatReply,
    activity: Option<&AgentActivity>,
    context: &RecordingContext<'_>,
) -> ReplyRecording {
    let text = chat_request_text(request, context);
    // The system prompt is the first part.
    let mut parts = text.parts.into_iter();
    let system = parts.next().map(|part| split_lines(&part.text)).unwrap_or_default();
    ReplyRecording {
        step: key.step.to_string(),
        call: CallPosition::from(key),
        model: request.model.to_string(),
        system,
        messages: parts.map(|part| (part.name, split_lines(&part.text))).collect(),
        schema: text.schema,
        reply: split_lines(&context.portable_text(&reply.text())),
        calls: replied_calls(&reply.content, context),
        stop: reply.stop,
        usage: reply.usage,
        details: Box::new(context.redactor.redact_details((*reply.details).clone())),
        changes: activity.map(|activity| RecordedChanges::new(activity, context)).unwrap_or_default(),
        key: chat_request_key(request, context),
    }
}

/// The recording of a command; `None` if orch ended the command, so that its result says nothing about it.
fn command_recording(
    key: &CallKey,
    command: &CommandSpec,
    result: Result<&CommandOutput, &Failure>,
    activity: &AgentActivity,
    context: &RecordingContext<'_>,
) -> Option<CommandRecording> {
    let lines = |text: &str| split_lines(&context.portable_text(text));
    let result = match result {
        Ok(output) => RecordedResult::Exited {
            exit_code: output.exit_code,
            stdout: lines(&output.stdout),
            stderr: lines(&output.stderr),
            truncated: output.truncated,
            probable_limit: output.probable_limit.as_deref().map(|limit| context.portable_text(limit)),
        },
        Err(failure) if !is_repeatable(failure.class) => return None,
        Err(failure) => RecordedResult::Failed {
            class: failure.class,
            message: context.portable_text(&failure.message),
            hint: failure.hint.as_deref().map(|hint| context.portable_text(hint)),
        },
    };
    let recorded_command = RecordedCommand::new(command, context);
    Some(CommandRecording {
        step: key.step.to_string(),
        call: CallPosition::from(key),
        key: recorded_command.key(),
        command: recorded_command,
        result,
        changes: RecordedChanges::new(activity, context),
    })
}

/// Whether a failure belongs to the command, and not to this run: a stop, a budget or the disk.
fn is_repeatable(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::CommandFailed
            | FailureClass::Timeout
            | FailureClass::NotInstalled
            | FailureClass::PathRefused
            | FailureClass::OutputTooLarge
            | FailureClass::SandboxLimit
    )
}
