//! What calls return: how the journal stores it, which texts orch redacts, and how orch describes outputs.
//!
//! A new form of output needs a variant of [`CallOutput`] and its arms in this file; other modules use its methods.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::activity::AgentActivity;
use super::call::CallEnded;
use super::chat::ChatReply;
use super::cli_agent::TurnReply;
use super::count::counted;
use super::effect::CallKind;
use super::mcp_call::{InputQuestion, InputRequired, McpCallOutput};
use super::pipeline_call::PipelineCallOutput;
use super::tool::{ToolCallOutput, ToolOutput};

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallReply {
    /// A model's reply.
    Chat(ChatReply),
    /// The reply of a CLI agent.
    Turn(Box<TurnReply>),
    /// The output of any other call.
    Output(CallOutput),
}

impl CallReply {
    /// The reply of a model or a CLI agent; `None` for any other call.
    pub fn chat(&self) -> Option<&ChatReply> {
        match self {
            Self::Chat(reply) => Some(reply),
            Self::Turn(turn) => Some(&turn.reply),
            Self::Output(_) => None,
        }
    }

    /// What a CLI agent did besides replying; `None` for any other call.
    pub fn activity(&self) -> Option<&AgentActivity> {
        match self {
            Self::Turn(turn) => Some(&turn.activity),
            Self::Chat(_) | Self::Output(_) => None,
        }
    }

    /// About how many bytes orch searches for secrets: the content of a reply without its files, or the long texts of
    /// the output of another call. orch searches many bytes on a thread of its own.
    pub fn searched_bytes(&self) -> usize {
        match self {
            Self::Chat(reply) => reply.content.byte_len(),
            Self::Turn(turn) => turn.reply.content.byte_len(),
            Self::Output(output) => output.searched_bytes(),
        }
    }

    /// Converts the reply to the fields of `call_ended` that store it.
    pub fn into_recorded(self) -> RecordedReply {
        match self {
            Self::Chat(reply) => RecordedReply { reply: Some(reply), ..RecordedReply::default() },
            Self::Turn(turn) => {
                let TurnReply { reply, activity } = *turn;
                RecordedReply { reply: Some(reply), agent_activity: Some(Box::new(activity)), output: None }
            }
            Self::Output(output) => RecordedReply { output: Some(output), ..RecordedReply::default() },
        }
    }

    /// Restores the reply from the record of a call; `None` if the call failed.
    pub fn from_recorded(call: &CallEnded) -> Option<Self> {
        match (&call.reply, &call.agent_activity, &call.output) {
            (Some(reply), Some(activity), _) => {
                Some(Self::Turn(Box::new(TurnReply { reply: reply.clone(), activity: (**activity).clone() })))
            }
            (Some(reply), None, _) => Some(Self::Chat(reply.clone())),
            (None, _, output) => output.clone().map(Self::Output),
        }
    }
}

/// The fields of `call_ended` that store what a call returned.
#[derive(Debug, Default)]
pub struct RecordedReply {
    /// The reply of a model or a CLI agent.
    pub reply: Option<ChatReply>,
    /// The output of any other call.
    pub output: Option<CallOutput>,
    /// What a CLI agent did besides replying.
    pub agent_activity: Option<Box<AgentActivity>>,
}

/// The output of a command, a file operation, a tool or a called pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallOutput {
    /// The output of a command that exited.
    Command(CommandOutput),
    /// The change set of a step that is about to write files: each file before and after the change.
    Snapshot(Value),
    /// The record of the changes after a step has written files.
    Applied(Value),
    /// The output of a built-in tool.
    Tool(ToolCallOutput),
    /// The output of a tool of an MCP server.
    McpTool(McpCallOutput),
    /// What a pipeline returned to the model that called it.
    Pipeline(PipelineCallOutput),
}

impl CallOutput {
    /// The kind of the call that returned the output.
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Command(_) => CallKind::Command,
            Self::Snapshot(_) => CallKind::Snapshot,
            Self::Applied(_) => CallKind::Apply,
            Self::Tool(output) => CallKind::Tool(output.tool),
            Self::McpTool(output) => CallKind::McpTool(output.kind),
            Self::Pipeline(_) => CallKind::Pipeline,
        }
    }

    /// Applies `redact` to the texts that may contain secrets.
    #[must_use]
    pub fn map_secret_texts(self, redact: impl Fn(&str) -> String) -> Self {
        match self {
            // The code that runs commands has already redacted the working directory, the sentence about a hidden
            // program, and the parts of secrets that are left where it truncated the output.
            Self::Command(output) => Self::Command(CommandOutput {
                stdout: redact(&output.stdout),
                stderr: redact(&output.stderr),
                ..output
            }),
            Self::Tool(output) => {
                let result = map_tool_output(output.result, &redact);
                Self::Tool(ToolCallOutput { tool: output.tool, arguments: redact(&output.arguments), result })
            }
            Self::McpTool(output) => Self::McpTool(McpCallOutput {
                arguments: redact(&output.arguments),
                result: map_tool_output(output.result, &redact),
                structured: output.structured.map(|value| map_strings(value, &redact)),
                input_required: output.input_required.map(|input| Box::new(map_questions(*input, &redact))),
                unanswered: output.unanswered.into_iter().map(|question| map_question(question, &redact)).collect(),
                ..output
            }),
            Self::Pipeline(output) => Self::Pipeline(PipelineCallOutput {
                arguments: redact(&output.arguments),
                result: map_tool_output(output.result, &redact),
                ..output
            }),
            // Snapshots contain the original files, so that orch can restore them exactly.
            Self::Snapshot(_) | Self::Applied(_) => self,
        }
    }

    /// What an MCP server asked of the user in place of a result.
    pub fn required_input(&self) -> Option<&InputRequired> {
        match self {
            Self::McpTool(output) => output.input_required.as_deref(),
            Self::Command(_) | Self::Snapshot(_) | Self::Applied(_) | Self::Tool(_) | Self::Pipeline(_) => None,
        }
    }

    /// The number of bytes of the texts that may be long: the standard output and standard error of a command, and the
    /// result of a tool with its full and its structured output. Arguments and questions do not count, although orch
    /// searches them too. orch does not search the records of files.
    fn searched_bytes(&self) -> usize {
        match self {
            Self::Command(output) => output.stdout.len().saturating_add(output.stderr.len()),
            Self::McpTool(output) => {
                let structured = output.structured.as_ref().map_or(0, |value| value.to_string().len());
                output.result.byte_len().saturating_add(structured)
            }
            Self::Tool(output) => output.result.byte_len(),
            Self::Pipeline(output) => output.result.byte_len(),
            Self::Snapshot(_) | Self::Applied(_) => 0,
        }
    }

    /// What the output records about files that orch itself writes.
    pub fn written_files(&self) -> Option<WrittenFiles<'_>> {
        match self {
            Self::Command(_) | Self::Tool(_) | Self::McpTool(_) | Self::Pipeline(_) => None,
            Self::Snapshot(record) => Some(WrittenFiles::Planned(record)),
            Self::Applied(_) => Some(WrittenFiles::Written),
        }
    }

    /// A short description of the output.
    pub fn summary(&self) -> String {
        match self {
            Self::Command(output) if output.replayed => format!("exit code {} (from a recording)", output.exit_code),
            Self::Command(output) => format!("exit code {}", output.exit_code),
            Self::Snapshot(_) => "scanned the files".to_owned(),
            Self::Applied(_) => "wrote the files".to_owned(),
            Self::Tool(output) => {
                let arguments = &output.arguments;
                let separator = if arguments.is_empty() { "" } else { " " };
                format!("{}{separator}{arguments}: {}", output.tool, describe_result(&output.result))
            }
            Self::McpTool(output) => format!("{}: {}", output.arguments, describe_result(&output.result)),
            Self::Pipeline(output) => format!("{}: {}", output.arguments, describe_result(&output.result)),
        }
    }

    /// The whole output as a text.
    pub fn full_text(&self) -> String {
        match self {
            Self::Command(output) if output.stderr.is_empty() => {
                format!("exit code {}\n{}", output.exit_code, output.stdout)
            }
            Self::Command(output) => {
                let line_end = if output.stdout.is_empty() || output.stdout.ends_with('\n') { "" } else { "\n" };
                format!("exit code {}\n{}{line_end}standard error:\n{}", output.exit_code, output.stdout, output.stderr)
            }
            Self::Snapshot(changes) | Self::Applied(changes) => format!("{changes:#}"),
            Self::Tool(ToolCallOutput { result, .. })
            | Self::McpTool(McpCallOutput { result, .. })
            | Self::Pipeline(PipelineCallOutput { result, .. }) => result.whole_text().to_owned(),
        }
    }
}

/// Applies a function to the texts of a tool's output.
fn map_tool_output(output: ToolOutput, map: &impl Fn(&str) -> String) -> ToolOutput {
    ToolOutput { content: map(&output.content), full_output: output.full_output.as_deref().map(map), ..output }
}

/// Applies a function to the texts of the questions of an MCP server. The state goes back to the server unchanged.
fn map_questions(input: InputRequired, map: &impl Fn(&str) -> String) -> InputRequired {
    let questions = input.questions.into_iter().map(|(name, question)| (name, map_question(question, map))).collect();
    InputRequired { questions, state: input.state }
}

fn map_question(question: InputQuestion, map: &impl Fn(&str) -> String) -> InputQuestion {
    InputQuestion {
        message: map(&question.message),
        schema: question.schema.map(|schema| Arc::new(map_strings((*schema).clone(), map))),
        url: question.url.as_deref().map(map),
    }
}

/// Applies a function to every string of a JSON value, also to the names of members.
fn map_strings(value: Value, map: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(map(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| map_strings(item, map)).collect()),
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, member)| (map(&name), map_strings(member, map)));
            Value::Object(members.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Whether a tool call failed, and the size of its result.
fn describe_result(output: &ToolOutput) -> String {
    let outcome = if output.is_error { "error, " } else { "" };
    format!("{outcome}{}", counted(output.content.len(), "byte"))
}

/// What an output records about files that orch itself writes.
#[derive(Clone, Copy, Debug)]
pub enum WrittenFiles<'a> {
    /// The files that the next call of the attempt writes: their contents before and after.
    Planned(&'a Value),
    /// The planned files are written.
    Written,
}

/// The output of a command that exited, with any exit code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandOutput {
    /// The exit code. As in shells, it is 128 plus the signal's number if a signal ended the command.
    pub exit_code: i32,
    /// The standard output, with invalid UTF-8 replaced.
    pub stdout: String,
    /// The standard error, with invalid UTF-8 replaced.
    pub stderr: String,
    /// Whether orch truncated the output. A marker in the text shows where, and how much.
    #[serde(default)]
    pub truncated: bool,
    /// The working directory of the command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
    /// A sentence about the limit of the sandbox that the program probably reached. orch derives it from the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probable_limit: Option<String>,
    /// A sentence about a program that the command did not find, because its sandbox hides the program, and what the user
    /// can do. orch derives it from the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_program: Option<String>,
    /// Whether the command did not run, because the run replayed its recorded result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{BuiltinTool, McpCallKind, McpToolName};

    fn call_ended(fields: RecordedReply) -> CallEnded {
        let call = json!({
            "call": { "step": "step", "attempt": 1, "ordinal": 1 },
            "request_digest": crate::model::Digest::compute(b"request"),
            "started": "2026-01-01T00:00:00Z",
            "ended": "2026-01-01T00:00:01Z",
        });
        let RecordedReply { reply, output, agent_activity } = fields;
        CallEnded { reply, output, agent_activity, ..serde_json::from_value(call).unwrap() }
    }

    fn command_output(stdout: &str, stderr: &str) -> CallOutput {
        let (stdout, stderr) = (stdout.to_owned(), stderr.to_owned());
        CallOutput::Command(CommandOutput {
            exit_code: 1,
            stdout,
            stderr,
            truncated: false,
            folder: "secret".to_owned(),
            probable_limit: None,
            hidden_program: None,
            replayed: false,
        })
    }

    fn tool_result(content: &str) -> ToolOutput {
        ToolOutput {
            content: content.to_owned(),
            full_output: Some(format!("all: {content}")),
            ..ToolOutput::default()
        }
    }

    fn tool_output(content: &str) -> CallOutput {
        let (tool, arguments) = (BuiltinTool::Read, "a secret".to_owned());
        CallOutput::Tool(ToolCallOutput { tool, arguments, result: tool_result(content) })
    }

    fn mcp_output(content: &str) -> CallOutput {
        CallOutput::McpTool(McpCallOutput {
            tool: McpToolName::parse("docs.find").unwrap(),
            kind: McpCallKind::RemoteRead,
            arguments: "docs.find {\"text\":\"a secret\"}".to_owned(),
            result: tool_result(content),
            structured: Some(json!({ "secret": [content, 1, null] })),
            input_required: None,
            unanswered: Vec::new(),
        })
    }

    #[test]
    fn a_recorded_reply_is_restored_unchanged() {
        let reply: ChatReply = serde_json::from_value(json!({
            "content": "yes", "stop": "end", "usage": {}, "constrained": false,
        }))
        .unwrap();
        // A turn during which the agent did nothing else is still a turn.
        let turn = TurnReply { reply: reply.clone(), activity: AgentActivity::default() };
        let replies = [
            CallReply::Chat(reply),
            CallReply::Turn(Box::new(turn)),
            CallReply::Output(command_output("out", "")),
            CallReply::Output(CallOutput::Snapshot(json!({ "files": [] }))),
            CallReply::Output(CallOutput::Applied(json!({ "files": [] }))),
            CallReply::Output(tool_output("read it")),
            CallReply::Output(mcp_output("found it")),
        ];
        for reply in replies {
            assert_eq!(CallReply::from_recorded(&call_ended(reply.clone().into_recorded())), Some(reply));
        }
        assert_eq!(CallReply::from_recorded(&call_ended(RecordedReply::default())), None);
    }

    #[test]
    fn outputs_of_commands_and_tools_are_redacted_and_snapshots_are_not() {
        let redact = |text: &str| text.replace("secret", "…");
        let output = command_output("a secret", "secrets").map_secret_texts(redact);
        assert_eq!(output, command_output("a …", "…s"));
        let output = tool_output("secrets").map_secret_texts(redact);
        assert_eq!(output.summary(), "read a …: 4 bytes");
        assert_eq!(output.full_text(), "all: …s");
        let CallOutput::McpTool(output) = mcp_output("secrets").map_secret_texts(redact) else { unreachable!() };
        assert_eq!(output.structured, Some(json!({ "…": ["…s", 1, null] })));
        assert_eq!(CallOutput::McpTool(output).summary(), "docs.find {\"text\":\"a …\"}: 4 bytes");
        let snapshot = CallOutput::Snapshot(json!({ "before": "secret" }));
        assert_eq!(snapshot.clone().map_secret_texts(redact), snapshot);
    }
}
