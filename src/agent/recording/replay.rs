//! Returns recorded replies and results of commands and tool calls, without calling a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RecordingContext;
use super::answers::AnswerRecording;
use super::blocks::replied_content;
use super::changes::RecordedChanges;
use super::difference::describe_difference;
use super::exchange::{
    CommandRecording, Exchange, RecordedCommand, RecordedResult, ReplyRecording, RequestText, chat_request_key,
    chat_request_text, join_lines,
};
use super::index::RecordingIndex;
use super::mcp_calls::McpCallRecording;
use super::mcp_listings::McpListingRecording;
use super::normalize::RequestNormalizer;
use super::omissions::RecordingOmissions;
use super::paths::RunPaths;
use super::recording_files::{RecordingFile, read_error, read_recording, recording_paths};
use super::tool_calls::ToolCallRecording;
use crate::files::ChangeSet;
use crate::model::call_reply::CommandOutput;
use crate::model::effect::CommandSpec;
use crate::model::{
    ChatReply, ChatRequest, CommandMode, CommandModes, Digest, Failure, FailureClass, McpCallOutput, McpInvocation,
    McpListing, Normalizer, StepKey, ToolInvocation, ToolOutput,
};

/// How to replay a folder of recordings.
#[derive(Clone, Debug, Default)]
pub struct ReplayOptions {
    /// The rules for the parts of requests that change from run to run.
    pub normalizers: Vec<Normalizer>,
    /// Where the user can add such a rule, for advice.
    pub rule_location: String,
    /// Which commands to replay. By default, all of them if the folder has the result of a command, else none.
    pub commands: CommandModes,
    /// How the user can run a command instead of replaying it, for advice.
    pub run_advice: String,
    /// How the user can give the workspace the files that the recordings need, for advice.
    pub files_advice: String,
    /// How the user can record a missing reply; by default, with `--record`.
    pub remedy: Option<String>,
}

/// Returns recorded replies and results of commands and tool calls from a folder.
#[derive(Debug)]
pub struct Replay {
    folder: PathBuf,
    remedy: String,
    rule_location: String,
    run_advice: String,
    files_advice: String,
    commands: CommandModes,
    normalizer: RequestNormalizer,
    replies: RecordingIndex<ReplyRecording>,
    command_results: RecordingIndex<CommandRecording>,
    tool_calls: RecordingIndex<ToolCallRecording>,
    mcp_calls: RecordingIndex<McpCallRecording>,
    /// The tools of MCP servers, by the names of their files.
    mcp_listings: BTreeMap<String, McpListingRecording>,
    pub(super) answers: Vec<AnswerRecording>,
    omissions: RecordingOmissions,
}

/// The recorded changes of files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplayedChanges {
    /// The files with their contents; `None` if there are none.
    pub change_set: Option<ChangeSet>,
    /// What the recording lacks, or may lack; `None` if it is complete.
    pub omission: Option<String>,
}

/// A recorded reply.
#[derive(Clone, Debug)]
pub struct ReplayedReply {
    /// The reply.
    pub reply: ChatReply,
    /// The files that the CLI agent changed.
    pub changes: ReplayedChanges,
}

/// A recorded result of a command.
#[derive(Clone, Debug)]
pub struct ReplayedCommand {
    /// The output of the command, or why it has none.
    pub result: Result<CommandOutput, Failure>,
    /// The files that the command changed.
    pub changes: ReplayedChanges,
}

/// A recorded result of a tool call.
#[derive(Clone, Debug)]
pub struct ReplayedToolCall {
    /// The output of the tool.
    pub output: ToolOutput,
    /// The files that the call changed.
    pub changes: ReplayedChanges,
}

/// A recorded result of a call of an MCP tool.
#[derive(Clone, Debug)]
pub struct ReplayedMcpCall {
    /// The output of the tool, or why it has none.
    pub result: Result<McpCallOutput, Failure>,
    /// The files that the call changed.
    pub changes: ReplayedChanges,
}

impl Replay {
    /// Opens a folder of recordings.
    ///
    /// # Errors
    /// The folder or a recording can't be read, the folder has no recordings, or a normalizer is invalid.
    pub fn open(folder: &Path, options: ReplayOptions) -> Result<Self, String> {
        let normalizer = RequestNormalizer::new(&options.normalizers)
            .map_err(|error| format!("a pattern of `normalize` can't be used: {}", error.message))?;
        let (mut replies, mut command_results, mut tool_calls) = (Vec::new(), Vec::new(), Vec::new());
        let (mut mcp_calls, mut mcp_listings, mut answers) = (Vec::new(), BTreeMap::new(), Vec::new());
        for path in recording_paths(folder)? {
            match read_recording(&path)? {
                RecordingFile::Reply(recording) => replies.push(*recording),
                RecordingFile::Command(recording) => command_results.push(*recording),
                RecordingFile::ToolCall(recording) => tool_calls.push(*recording),
                RecordingFile::McpCall(recording) => mcp_calls.push(*recording),
                RecordingFile::Answer(recording) => answers.push(*recording),
                RecordingFile::McpListing(recording) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    mcp_listings.insert(name, *recording);
                }
            }
        }
        let has_tools = !tool_calls.is_empty() || !mcp_calls.is_empty() || !mcp_listings.is_empty();
        if replies.is_empty() && command_results.is_empty() && answers.is_empty() && !has_tools {
            return Err(format!("there are no recordings in `{}`", folder.display()));
        }
        let record = || format!("run the pipeline with `--record {}` to record it again", folder.display());
        Ok(Self {
            folder: folder.to_owned(),
            remedy: options.remedy.unwrap_or_else(record),
            rule_location: options.rule_location,
            run_advice: options.run_advice,
            files_advice: options.files_advice,
            commands: options.commands,
            replies: RecordingIndex::new(replies, &normalizer),
            command_results: RecordingIndex::new(command_results, &normalizer),
            tool_calls: RecordingIndex::new(tool_calls, &normalizer),
            mcp_calls: RecordingIndex::new(mcp_calls, &normalizer),
            mcp_listings,
            answers,
            normalizer,
            omissions: RecordingOmissions::default(),
        })
    }

    /// Whether the command of a step does not run, because the replay returns its recorded result.
    pub fn replays_command(&self, step: &StepKey) -> bool {
        match self.commands.mode(step) {
            Some(CommandMode::Replay) => true,
            Some(CommandMode::Run) => false,
            None => !self.command_results.is_empty(),
        }
    }

    /// The positions of the normalizers that have matched neither a request nor a recording.
    pub fn unused_normalizers(&self) -> Vec<usize> {
        self.normalizer.unused()
    }

    /// A sentence for each recording that the run has used so far and that lacks, or may lack, changes of files.
    pub fn omissions(&self) -> Vec<String> {
        self.omissions.sentences()
    }

    /// The recorded changes of a step, with the folders of this run. Notes what they lack.
    fn changes(&self, step: &StepKey, changes: &RecordedChanges, paths: &RunPaths) -> ReplayedChanges {
        let omission = changes.omission(paths);
        self.omissions.add(step, omission.as_deref());
        ReplayedChanges { change_set: changes.change_set(paths), omission }
    }

    /// Whether a recorded text of a file equals the text of a file in this run, apart from the parts that change from
    /// run to run.
    pub fn is_same_text(&self, recorded: &str, text: &str, paths: &RunPaths) -> bool {
        let normalize = |text: &str| self.normalizer.normalize(&paths.to_placeholders(text));
        recorded == text || normalize(recorded) == normalize(text)
    }

    /// The recorded reply to a request.
    ///
    /// # Errors
    /// `no_recording`, with the differences between the request and the nearest recorded one.
    pub fn reply(
        &self,
        step: &StepKey,
        request: &ChatRequest,
        context: &RecordingContext<'_>,
    ) -> Result<ReplayedReply, Failure> {
        let (key, normalized) = self.reply_key(request, context);
        let Some(recording) = self.replies.find(step, &key, &normalized) else {
            let what = "this request";
            return Err(self.no_recording(what, &self.remedy, self.describe_nearest(&self.replies, step, &normalized)));
        };
        let text = context.paths.fill_placeholders(&join_lines(&recording.reply));
        let reply = ChatReply {
            content: replied_content(text, &recording.calls, context.paths),
            stop: recording.stop,
            usage: recording.usage,
            model: Some(recording.model.clone()),
            id: None,
            constrained: false,
            details: recording.details.clone(),
        };
        Ok(ReplayedReply { reply, changes: self.changes(step, &recording.changes, context.paths) })
    }

    /// The recorded result of a command.
    ///
    /// # Errors
    /// `no_recording`, with the differences between the command and the nearest recorded one.
    pub fn command(
        &self,
        step: &StepKey,
        command: &CommandSpec,
        context: &RecordingContext<'_>,
    ) -> Result<ReplayedCommand, Failure> {
        let (key, normalized) = self.command_key(command, context);
        let Some(recording) = self.command_results.find(step, &key, &normalized) else {
            let what = format!("the command of step `{step}`");
            let remedy = format!("{}; {}", self.remedy, self.run_advice);
            let nearest = self.describe_nearest(&self.command_results, step, &normalized);
            return Err(self.no_recording(&what, &remedy, nearest));
        };
        let text = |lines: &[String]| context.paths.fill_placeholders(&join_lines(lines));
        let result = match &recording.result {
            RecordedResult::Exited { exit_code, stdout, stderr, truncated, probable_limit } => Ok(CommandOutput {
                exit_code: *exit_code,
                stdout: text(stdout),
                stderr: text(stderr),
                truncated: *truncated,
                folder: String::new(),
                probable_limit: probable_limit.clone(),
                // It is about the files of the machine on which the command ran.
                hidden_program: None,
                replayed: true,
            }),
            RecordedResult::Failed { class, message, hint } => {
                let failure = Failure::new(*class, context.paths.fill_placeholders(message));
                Err(Failure { hint: hint.as_deref().map(|hint| context.paths.fill_placeholders(hint)), ..failure })
            }
        };
        Ok(ReplayedCommand { result, changes: self.changes(step, &recording.changes, context.paths) })
    }

    /// The recorded result of a tool call.
    ///
    /// # Errors
    /// `no_recording`, with the differences between the call and the nearest recorded one.
    pub fn tool_call(
        &self,
        step: &StepKey,
        invocation: &ToolInvocation,
        context: &RecordingContext<'_>,
    ) -> Result<ReplayedToolCall, Failure> {
        let (key, normalized) = self.tool_call_key(invocation, context);
        let Some(recording) = self.tool_calls.find(step, &key, &normalized) else {
            let what = format!("the call of `{}` with {}", invocation.tool, invocation.arguments);
            let nearest = self.describe_nearest(&self.tool_calls, step, &normalized);
            return Err(self.no_recording(&what, &self.remedy, nearest));
        };
        let changes = self.changes(step, recording.changes(), context.paths);
        Ok(ReplayedToolCall { output: recording.output(context.paths), changes })
    }

    /// The recorded result of a call of an MCP tool.
    ///
    /// # Errors
    /// `no_recording`, with the differences between the call and the nearest recorded one.
    pub fn mcp_call(
        &self,
        step: &StepKey,
        invocation: &McpInvocation,
        context: &RecordingContext<'_>,
    ) -> Result<ReplayedMcpCall, Failure> {
        let (key, normalized) = self.mcp_call_key(invocation, context);
        let Some(recording) = self.mcp_calls.find(step, &key, &normalized) else {
            let what = format!("the call of `{}` with {}", invocation.tool_name(), invocation.arguments);
            let nearest = self.describe_nearest(&self.mcp_calls, step, &normalized);
            return Err(self.no_recording(&what, &self.remedy, nearest));
        };
        let changes = self.changes(step, recording.changes(), context.paths);
        Ok(ReplayedMcpCall { result: recording.output(invocation, context.paths), changes })
    }

    /// The recorded tools of an MCP server.
    ///
    /// # Errors
    /// `no_recording` if the folder has no list of the server, or one that can't be read.
    pub fn listing(&self, server: &str, context: &RecordingContext<'_>) -> Result<McpListing, Failure> {
        let name = McpListingRecording::file_name(server);
        let Some(recording) = self.mcp_listings.get(&name) else {
            let message = format!(
                "there is no recording of the tools of the MCP server `{server}` in `{}`",
                self.folder.display()
            );
            return Err(Failure::new(FailureClass::NoRecording, message).with_hint(self.remedy.clone()));
        };
        recording.listing(context.paths).map_err(|error| {
            let message = read_error(&self.folder.join(&name), &error.to_string());
            Failure::new(FailureClass::NoRecording, message).with_hint(self.remedy.clone())
        })
    }

    /// Counts a request as replayed: an earlier session of the run got its reply.
    pub fn skip_reply(&self, step: &StepKey, request: &ChatRequest, context: &RecordingContext<'_>) {
        let (key, normalized) = self.reply_key(request, context);
        self.replies.skip(step, &key, &normalized);
    }

    /// Counts a command as replayed: an earlier session of the run got its result.
    pub fn skip_command(&self, step: &StepKey, command: &CommandSpec, context: &RecordingContext<'_>) {
        let (key, normalized) = self.command_key(command, context);
        self.command_results.skip(step, &key, &normalized);
    }

    /// Counts a tool call as replayed: an earlier session of the run got its result.
    pub fn skip_tool_call(&self, step: &StepKey, invocation: &ToolInvocation, context: &RecordingContext<'_>) {
        let (key, normalized) = self.tool_call_key(invocation, context);
        self.tool_calls.skip(step, &key, &normalized);
    }

    /// Counts a call of an MCP tool as replayed: an earlier session of the run got its result.
    pub fn skip_mcp_call(&self, step: &StepKey, invocation: &McpInvocation, context: &RecordingContext<'_>) {
        let (key, normalized) = self.mcp_call_key(invocation, context);
        self.mcp_calls.skip(step, &key, &normalized);
    }

    /// The key and the normalized form of a request.
    fn reply_key(&self, request: &ChatRequest, context: &RecordingContext<'_>) -> (Digest, RequestText) {
        let normalized = chat_request_text(request, context).normalized(&self.normalizer);
        (chat_request_key(request, context), normalized)
    }

    /// The key and the normalized form of a command.
    fn command_key(&self, command: &CommandSpec, context: &RecordingContext<'_>) -> (Digest, RequestText) {
        let command = RecordedCommand::new(command, context);
        (command.key(), command.request().normalized(&self.normalizer))
    }

    /// The key and the normalized form of a tool call.
    fn tool_call_key(&self, invocation: &ToolInvocation, context: &RecordingContext<'_>) -> (Digest, RequestText) {
        let request = ToolCallRecording::request_text(invocation, context);
        (request.digest(), request.normalized(&self.normalizer))
    }

    /// The key and the normalized form of a call of an MCP tool.
    fn mcp_call_key(&self, invocation: &McpInvocation, context: &RecordingContext<'_>) -> (Digest, RequestText) {
        let request = McpCallRecording::request_text(invocation, context);
        (request.digest(), request.normalized(&self.normalizer))
    }

    /// The failure of a step whose recorded changes do not fit the files in the workspace.
    pub fn changes_refused(&self, step: &StepKey, failure: &Failure) -> Failure {
        let message = format!("the recorded changes of step `{step}` don't fit the workspace: {}", failure.message);
        let hint = format!("{}; only if the files are meant to differ, {}", self.files_advice, self.remedy);
        Failure::new(FailureClass::NoRecording, message).with_hint(hint)
    }

    fn no_recording(&self, what: &str, remedy: &str, nearest: Option<String>) -> Failure {
        let message = format!("no recording in `{}` matches {what}", self.folder.display());
        let hint = match nearest {
            Some(nearest) => format!("{nearest}\nif this change is intended, {remedy}"),
            None => remedy.to_owned(),
        };
        Failure::new(FailureClass::NoRecording, message).with_hint(hint)
    }

    /// Describes the recording whose request is most similar to a request, and the difference.
    fn describe_nearest<E: Exchange>(
        &self,
        index: &RecordingIndex<E>,
        step: &StepKey,
        normalized: &RequestText,
    ) -> Option<String> {
        let (nearest, recorded) = index.find_nearest(step, normalized, &self.normalizer)?;
        let difference = describe_difference(&recorded, normalized, &self.rule_location);
        Some(format!("the nearest recording is from step `{}`; {difference}", nearest.id().step))
    }
}
