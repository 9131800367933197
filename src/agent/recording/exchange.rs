//! The contents of recordings: an exchange with a model or a CLI agent, or a command or a tool call with its result. Texts
//! are lists of lines, so that a change of a recording has a readable diff.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::RecordingContext;
use super::blocks::{self, RepliedCall};
use super::changes::RecordedChanges;
use super::normalize::RequestNormalizer;
use crate::model::effect::CommandSpec;
use crate::model::{
    CallKey, ChatRequest, Digest, FailureClass, ReplyDetails, ReportedUsage, StopReason, canonical_json,
};

/// The position of a call in its step, for the order of equal requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct CallPosition {
    /// The attempt of the step, from 1.
    attempt: u32,
    /// The call within the attempt, from 1.
    ordinal: u32,
    /// The position of a tool call in the reply, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_call: Option<u32>,
    /// For a tool call with answers to the questions of an MCP server, their number, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_round: Option<u32>,
}

impl CallPosition {
    const FIRST: Self = Self { attempt: 1, ordinal: 1, tool_call: None, input_round: None };

    pub(super) fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

impl Default for CallPosition {
    fn default() -> Self {
        Self::FIRST
    }
}

impl From<&CallKey> for CallPosition {
    fn from(key: &CallKey) -> Self {
        Self { attempt: key.attempt, ordinal: key.ordinal, tool_call: key.tool_call, input_round: key.input_round }
    }
}

/// A recorded exchange with a model or a CLI agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ReplyRecording {
    /// The step that sent the request, for users and for finding the nearest recording.
    pub(super) step: String,
    #[serde(default, skip_serializing_if = "CallPosition::is_first")]
    pub(super) call: CallPosition,
    /// The model that replied.
    pub(super) model: String,
    /// The digest that identifies the request.
    pub(super) key: Digest,
    /// The lines of the system prompt.
    pub(super) system: Vec<String>,
    /// The conversation so far: the role and the lines of each message.
    pub(super) messages: Vec<(String, Vec<String>)>,
    /// The digest of the schema, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<Digest>,
    /// The lines of the reply.
    pub(super) reply: Vec<String>,
    /// The tool calls of the reply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) calls: Vec<RepliedCall>,
    /// Why the model stopped.
    pub(super) stop: StopReason,
    /// The token usage that the provider reported.
    pub(super) usage: ReportedUsage,
    /// Details of the reply that its text does not contain.
    #[serde(default, skip_serializing_if = "ReplyDetails::is_empty")]
    pub(super) details: Box<ReplyDetails>,
    /// The files that a CLI agent changed.
    #[serde(default, skip_serializing_if = "RecordedChanges::is_empty")]
    pub(super) changes: RecordedChanges,
}

/// A recorded command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CommandRecording {
    /// The step that ran the command.
    pub(super) step: String,
    #[serde(default, skip_serializing_if = "CallPosition::is_first")]
    pub(super) call: CallPosition,
    /// The digest that identifies the command.
    pub(super) key: Digest,
    pub(super) command: RecordedCommand,
    pub(super) result: RecordedResult,
    /// The files that the command changed.
    #[serde(default, skip_serializing_if = "RecordedChanges::is_empty")]
    pub(super) changes: RecordedChanges,
}

/// What determines the result of a command, except for the files in the workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedCommand {
    /// The program and its arguments.
    pub(super) argv: Vec<String>,
    /// The names and values of the variables to which the shell line refers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) values: Vec<(String, String)>,
    /// The working directory of the command, relative to the workspace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) cwd: String,
    /// The lines of its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stdin: Option<Vec<String>>,
}

/// The end of a recorded command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecordedResult {
    /// The command exited.
    Exited {
        exit_code: i32,
        stdout: Vec<String>,
        stderr: Vec<String>,
        /// Whether orch truncated the output.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probable_limit: Option<String>,
    },
    /// The command failed without an exit code, for example because it took too long.
    Failed {
        class: FailureClass,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// The lines of a text, which [`join_lines`] joins again.
pub(super) fn split_lines(text: &str) -> Vec<String> {
    text.split('\n').map(str::to_owned).collect()
}

/// The text of lines.
pub(super) fn join_lines(lines: &[String]) -> String {
    lines.join("\n")
}

/// What identifies an exchange.
pub(super) struct ExchangeId<'r> {
    /// The step that made the request.
    pub(super) step: &'r str,
    pub(super) position: &'r CallPosition,
    /// The digest of the request.
    pub(super) key: &'r Digest,
}

/// An exchange that a replay can find by its request.
pub(super) trait Exchange {
    fn id(&self) -> ExchangeId<'_>;
    fn request(&self) -> RequestText;

    /// A part of the name of its file that shows what it is, besides the step.
    fn label(&self) -> Option<&'static str> {
        None
    }
}

impl Exchange for ReplyRecording {
    fn id(&self) -> ExchangeId<'_> {
        ExchangeId { step: &self.step, position: &self.call, key: &self.key }
    }

    fn request(&self) -> RequestText {
        let system = RequestPart { name: "system".to_owned(), text: join_lines(&self.system) };
        let messages =
            self.messages.iter().map(|(role, lines)| RequestPart { name: role.clone(), text: join_lines(lines) });
        RequestText { parts: std::iter::once(system).chain(messages).collect(), schema: self.schema.clone() }
    }
}

impl Exchange for CommandRecording {
    fn id(&self) -> ExchangeId<'_> {
        ExchangeId { step: &self.step, position: &self.call, key: &self.key }
    }

    fn request(&self) -> RequestText {
        self.command.request()
    }
}

impl RecordedCommand {
    /// The command as recordings contain it. The names of its inherited variables and its limits don't count.
    pub(super) fn new(command: &CommandSpec, context: &RecordingContext<'_>) -> Self {
        let portable_value = |(name, value): &(String, String)| (name.clone(), context.portable_text(value));
        Self {
            argv: command.argv.iter().map(|part| context.portable_text(part)).collect(),
            values: command.values.iter().map(portable_value).collect(),
            cwd: context.portable_text(&command.cwd),
            stdin: command.stdin.as_ref().map(|text| split_lines(&context.portable_text(text))),
        }
    }

    pub(super) fn request(&self) -> RequestText {
        let mut parts = vec![RequestPart { name: "command".to_owned(), text: self.argv.join("\n") }];
        parts.extend(self.values.iter().map(|(name, value)| RequestPart { name: name.clone(), text: value.clone() }));
        parts.push(RequestPart { name: "cwd".to_owned(), text: self.cwd.clone() });
        let stdin = self.stdin.as_deref().map(join_lines);
        parts.extend(stdin.map(|text| RequestPart { name: "standard input".to_owned(), text }));
        RequestText { parts, schema: None }
    }

    /// The digest that identifies the command.
    pub(super) fn key(&self) -> Digest {
        self.request().digest()
    }
}

/// The request to a model as recordings contain it.
pub(super) fn chat_request_text(request: &ChatRequest, context: &RecordingContext<'_>) -> RequestText {
    let system = RequestPart { name: "system".to_owned(), text: context.portable_text(&request.system) };
    let messages = request.messages.iter().map(|message| {
        let role = serde_json::to_value(message.role).ok().and_then(|role| role.as_str().map(str::to_owned));
        RequestPart {
            name: role.unwrap_or_default(),
            text: context.portable_text(&blocks::content_text(&message.content)),
        }
    });
    let schema = request.schema.as_ref().map(|schema| Digest::compute(canonical_json(schema).as_bytes()));
    RequestText { parts: std::iter::once(system).chain(messages).collect(), schema }
}

/// The key of a request: the digest of its system prompt, messages and schema, without its model, limits and tools.
pub(super) fn chat_request_key(request: &ChatRequest, context: &RecordingContext<'_>) -> Digest {
    // The key contains only texts, tool calls and tool results. The ids of calls and the opaque data of a provider differ
    // in each run, and recordings lack them.
    let text = |text: &str| context.paths.to_placeholders(text);
    let messages: Vec<Value> = request
        .messages
        .iter()
        .map(|message| json!({ "role": message.role, "content": blocks::key_content(&message.content, &text) }))
        .collect();
    let content = json!({ "system": text(&request.system), "messages": messages, "schema": request.schema });
    Digest::compute(canonical_json(&content).as_bytes())
}

/// A request as named texts, for comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestText {
    pub(super) parts: Vec<RequestPart>,
    /// The digest of the schema, if there is one.
    pub(super) schema: Option<Digest>,
}

/// A part of a request: the system prompt, a message, the command line, a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestPart {
    pub(super) name: String,
    pub(super) text: String,
}

impl RequestText {
    /// The request without the parts that change from run to run.
    pub(super) fn normalized(&self, normalizer: &RequestNormalizer) -> Self {
        let normalize =
            |part: &RequestPart| RequestPart { name: part.name.clone(), text: normalizer.normalize(&part.text) };
        Self { parts: self.parts.iter().map(normalize).collect(), schema: self.schema.clone() }
    }

    pub(super) fn digest(&self) -> Digest {
        let parts: Vec<Value> = self.parts.iter().map(|part| json!([part.name, part.text])).collect();
        Digest::compute(canonical_json(&json!({ "parts": parts, "schema": self.schema })).as_bytes())
    }

    /// The whole request as one text.
    pub(super) fn full_text(&self) -> String {
        self.parts.iter().map(|part| format!("{}:\n{}\n", part.name, part.text)).collect()
    }
}
