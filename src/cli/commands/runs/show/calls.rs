//! The calls of a run in the order of its conversations: after a reply with tool calls come the results of these calls,
//! each as the model received it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::model::call::{ElidedResult, SentResult};
use crate::model::event::{CallEnded, CallOutput, Event, Fact, StepCompleted, StepFailed};
use crate::model::{CallKey, ChatReply, ContentBlock, InputRequired, McpToolName, StepKey, ToolOutput};
use crate::tool::mcp::model_tool_name;

/// A call to show.
pub(super) struct ShownCall<'e> {
    /// The key of the call.
    pub(super) key: CallKey,
    /// The end of the call. Absent for a tool call that orch did not perform, or whose end it did not record.
    pub(super) ended: Option<&'e CallEnded>,
    /// The name of the tool of a tool call, in the pipeline file or, if there is no such tool, in the reply.
    pub(super) tool: Option<String>,
    /// A short form of the arguments of a tool call, if the run recorded one.
    pub(super) arguments: Option<&'e str>,
    /// The names of the tools that the reply calls.
    pub(super) requested_tools: Vec<String>,
    /// The result that the model received for a tool call.
    pub(super) result: Option<ReceivedResult<'e>>,
    /// The step whose question waits for an answer before the tool call can end: the step of the model, or one of the
    /// pipeline that it called.
    pub(super) awaited_step: Option<StepKey>,
    /// The earlier tool results that a request is the first to leave out.
    pub(super) elided_results: &'e [ElidedResult],
}

/// The result of a tool call, as a model received it.
#[derive(Clone, Copy)]
pub(super) struct ReceivedResult<'e> {
    content: &'e str,
    /// Whether the call failed.
    pub(super) is_error: bool,
    /// Whether the text of a failed call began with the line `Error:`.
    is_labelled: bool,
}

impl<'e> ReceivedResult<'e> {
    /// The text that the model received.
    pub(super) fn text(&self) -> Cow<'e, str> {
        if self.is_error && self.is_labelled {
            Cow::Owned(format!("Error:\n{}", self.content))
        } else {
            Cow::Borrowed(self.content)
        }
    }
}

/// All calls of a run that ended, and all tool calls in its replies.
pub(super) fn shown_calls(events: &[Event]) -> Vec<ShownCall<'_>> {
    let records = CallRecords::new(events);
    let mut calls = Vec::new();
    for event in events {
        match &event.fact {
            Fact::CallEnded(ended) if ended.call.tool_call.is_none() => {
                calls.push(records.other_call(ended));
                for (position, name) in ended.reply.iter().flat_map(requested_tools) {
                    records.add_tool_call(ended.call.for_tool_call(position), name, &mut calls);
                }
            }
            // If an attempt continues the conversation of an earlier one, the reply belongs to the earlier attempt.
            Fact::CallEnded(ended) if !records.is_in_a_reply(&ended.call) => {
                let is_last = records.ends_of(&ended.call).last().is_some_and(|last| std::ptr::eq(*last, ended));
                calls.push(records.ended_tool_call(ended, None, is_last));
            }
            Fact::CallStarted(started) => {
                for result in &started.tool_results {
                    let key = result.call_key(&started.call);
                    let is_shown = records.is_in_a_reply(&key) || calls.iter().any(|call| call.key == key);
                    if !is_shown && records.ends_of(&key).is_empty() {
                        records.add_tool_call(key, &result.name, &mut calls);
                    }
                }
            }
            _ => {}
        }
    }
    calls
}

/// The tool calls in a reply: their positions, from 1, and the names of the tools.
fn requested_tools(reply: &ChatReply) -> impl Iterator<Item = (u32, &str)> {
    let names = reply.content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { name, .. } => Some(name.as_str()),
        ContentBlock::Text { .. }
        | ContentBlock::ToolResult { .. }
        | ContentBlock::Opaque { .. }
        | ContentBlock::File { .. } => None,
    });
    (1..).zip(names)
}

/// What the events of a run record about its calls.
#[derive(Default)]
struct CallRecords<'e> {
    /// The ends of each tool call. A call that only reads runs again after an interruption.
    ends: HashMap<CallKey, Vec<&'e CallEnded>>,
    /// The results in requests that differ from the recorded outputs.
    sent_results: HashMap<CallKey, &'e SentResult>,
    /// The tool calls in replies.
    in_replies: HashSet<CallKey>,
    /// The names of the tools of MCP servers in the pipeline file, by their names in requests and replies.
    tool_names: HashMap<String, String>,
    /// The results that each request leaves out.
    elided_results: HashMap<&'e CallKey, &'e [ElidedResult]>,
    /// Short forms of the arguments of tool calls.
    arguments: HashMap<CallKey, &'e str>,
    /// The questions without an answer.
    open_questions: HashSet<CallKey>,
    /// The attempts in whose requests the results of failed calls begin with `Error:`.
    labelled_attempts: HashSet<(StepKey, u32)>,
}

impl<'e> CallRecords<'e> {
    fn new(events: &'e [Event]) -> Self {
        let mut records = Self::default();
        for event in events {
            match &event.fact {
                Fact::CallStarted(started) => {
                    records.elided_results.insert(&started.call, &started.elided_results);
                    if started.labels_errors {
                        records.labelled_attempts.insert((started.call.step.clone(), started.call.attempt));
                    }
                    if let Some((_, arguments)) = started.tool_and_arguments() {
                        records.arguments.insert(started.call.clone(), arguments);
                    }
                    for result in &started.tool_results {
                        let key = result.call_key(&started.call);
                        records.arguments.entry(key.clone()).or_insert(&result.arguments);
                        records.sent_results.insert(key, result);
                    }
                }
                Fact::CallEnded(ended) if ended.call.tool_call.is_some() => {
                    records.ends.entry(ended.call.clone()).or_default().push(ended);
                }
                Fact::CallEnded(ended) => {
                    let tools = ended.reply.iter().flat_map(requested_tools);
                    records.in_replies.extend(tools.map(|(position, _)| ended.call.for_tool_call(position)));
                }
                Fact::ApprovalAsked(asked) => {
                    records.open_questions.insert(asked.key());
                }
                Fact::ApprovalAnswered(answered) => {
                    records.open_questions.remove(&answered.key());
                }
                Fact::StepCompleted(StepCompleted { step, .. }) | Fact::StepFailed(StepFailed { step, .. }) => {
                    records.open_questions.retain(|question| question.step != *step);
                }
                Fact::ToolsListed(listed) => {
                    for tool in &listed.listing.tools {
                        let name = McpToolName { server: listed.listing.server.clone(), tool: tool.name.clone() };
                        records.tool_names.insert(model_tool_name(&name), name.to_string());
                    }
                }
                _ => {}
            }
        }
        records
    }

    fn is_in_a_reply(&self, key: &CallKey) -> bool {
        self.in_replies.contains(key)
    }

    fn ends_of(&self, key: &CallKey) -> &[&'e CallEnded] {
        self.ends.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// A request, a turn, a command or a file operation.
    fn other_call(&self, ended: &'e CallEnded) -> ShownCall<'e> {
        let elided_results = self.elided_results.get(&ended.call).copied().unwrap_or_default();
        let requested = ended.reply.iter().flat_map(requested_tools);
        let requested_tools = requested.map(|(_, name)| self.shown_name(name)).collect();
        let key = ended.call.clone();
        let (ended, tool, arguments, result, awaited_step) = (Some(ended), None, None, None, None);
        ShownCall { key, ended, tool, arguments, requested_tools, result, awaited_step, elided_results }
    }

    /// Adds a tool call: each of its ends, or its result alone if orch recorded no end.
    fn add_tool_call(&self, key: CallKey, tool: &'e str, calls: &mut Vec<ShownCall<'e>>) {
        let ends = self.ends_of(&key);
        for (index, ended) in ends.iter().copied().enumerate() {
            calls.push(self.ended_tool_call(ended, Some(tool), index + 1 == ends.len()));
        }
        if ends.is_empty() {
            let (result, awaited_step) = (self.sent_result(&key), self.awaited_step(&key, tool));
            let (tool, requested_tools) = (Some(self.shown_name(tool)), Vec::new());
            let arguments = self.arguments.get(&key).copied();
            calls.push(ShownCall {
                key,
                ended: None,
                tool,
                arguments,
                requested_tools,
                result,
                awaited_step,
                elided_results: &[],
            });
        }
    }

    /// A tool call with a recorded end. The model received the result of its last end.
    fn ended_tool_call(&self, ended: &'e CallEnded, tool: Option<&'e str>, is_last: bool) -> ShownCall<'e> {
        let key = ended.call.clone();
        let sent = self.sent_result(&key).filter(|_| is_last);
        let recorded = tool_output(ended).map(|output| self.received(&key, &output.content, output.is_error));
        let result = sent.or(recorded);
        let tool = tool.map(|name| self.shown_name(name));
        let arguments = self.arguments.get(&key).copied();
        let (ended, requested_tools, awaited_step) = (Some(ended), Vec::new(), None);
        ShownCall { key, ended, tool, arguments, requested_tools, result, awaited_step, elided_results: &[] }
    }

    /// The step whose question a tool call waits for. `tool` is the name of the tool in the reply, which a called pipeline
    /// has too.
    fn awaited_step(&self, key: &CallKey, tool: &str) -> Option<StepKey> {
        let calls_of_pipeline = format!("{}/{tool}[", key.step);
        let is_awaited =
            |question: &&CallKey| *question == key || question.step.as_str().starts_with(&calls_of_pipeline);
        self.open_questions.iter().filter(is_awaited).map(|question| question.step.clone()).min()
    }

    /// The name of a tool for people: the one in the pipeline file, if the run knows it.
    fn shown_name(&self, name: &str) -> String {
        self.tool_names.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    fn sent_result(&self, key: &CallKey) -> Option<ReceivedResult<'e>> {
        let result = *self.sent_results.get(key)?;
        Some(self.received(key, &result.content, result.is_error))
    }

    fn received(&self, key: &CallKey, content: &'e str, is_error: bool) -> ReceivedResult<'e> {
        let is_labelled = self.labelled_attempts.contains(&(key.step.clone(), key.attempt));
        ReceivedResult { content, is_error, is_labelled }
    }
}

/// The result of a tool call. An MCP server that asks for input returns none.
pub(super) fn tool_output(ended: &CallEnded) -> Option<&ToolOutput> {
    match ended.output.as_ref()? {
        CallOutput::Tool(output) => Some(&output.result),
        CallOutput::McpTool(output) => Some(&output.result).filter(|_| output.input_required.is_none()),
        CallOutput::Pipeline(output) => Some(&output.result),
        CallOutput::Command(_) | CallOutput::Snapshot(_) | CallOutput::Applied(_) => None,
    }
}

/// What an MCP server asked of the user in place of a result.
pub(super) fn required_input(ended: &CallEnded) -> Option<&InputRequired> {
    ended.output.as_ref()?.required_input()
}

/// A call as JSON, for `--output json`.
pub(super) fn call_json(call: &ShownCall<'_>) -> Value {
    let key = call.key.to_string();
    let mut value = match call.ended {
        Some(ended) => json!({
            "call": key,
            "model": ended.model.as_ref().map(ToString::to_string),
            "started_at": ended.started,
            "ended_at": ended.ended,
            "reply": ended.reply,
            "output": ended.output,
            "agent_activity": ended.agent_activity,
            "sandbox": ended.sandbox,
            "failure": ended.failure,
            "usage": ended.usage(),
            "cost_usd": ended.cost,
            "estimated_cost_usd": ended.estimated_cost,
        }),
        None => json!({ "call": key }),
    };
    if call.key.tool_call.is_some() {
        value["tool"] = json!(call.tool);
        value["result"] = match &call.result {
            Some(result) => json!({ "content": result.text(), "is_error": result.is_error }),
            None => Value::Null,
        };
    }
    value
}
