//! The tool calls of a reply: finds their tools, reads their arguments, performs them, and creates their results for
//! the model. `call_batches` decides which of them run, and in which order.

use serde_json::{Value, json};

use crate::durable::{ApprovalRequest, Call, CallOutcome, CallReply, Effect, Interrupt, Wait, WaitOutcome};
use crate::model::call::SentResult;
use crate::model::event::CallOutput;
use crate::model::{BuiltinTool, CallKey, ChatReply, ContentBlock, Digest, Failure, ToolInvocation};
use crate::offload::LARGE_TEXT_BYTES;
use crate::tool::{self, CallRules};

use super::agent_tools::AgentTools;
use super::conversation::Conversation;
use super::interrupted_call::interruption_text;
use super::step_execution::{digest, unexpected_record};

/// The time limit of a tool call in milliseconds, if neither the step nor `orch.yaml` sets a `timeout`.
const DEFAULT_TIMEOUT_MS: u64 = 600_000;

/// A tool call in a reply.
#[derive(Clone, Copy)]
pub(super) struct RequestedCall<'r> {
    /// Its position among the calls of the reply, from 1.
    position: u32,
    id: &'r str,
    name: &'r str,
    arguments: &'r Value,
}

impl RequestedCall<'_> {
    /// The digest of the tool and the arguments.
    pub(super) fn digest(&self) -> Digest {
        digest(&json!([self.name, self.arguments]))
    }
}

/// The tool calls of a reply, in order.
pub(super) fn requested_calls(chat: &ChatReply) -> Vec<RequestedCall<'_>> {
    let calls = chat.content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { id, name, arguments } => Some((id, name, arguments)),
        ContentBlock::Text { .. }
        | ContentBlock::ToolResult { .. }
        | ContentBlock::Opaque { .. }
        | ContentBlock::File { .. } => None,
    });
    (1..).zip(calls).map(|(position, (id, name, arguments))| RequestedCall { position, id, name, arguments }).collect()
}

/// The turn to which tool calls belong.
pub(super) struct ToolTurn<'t> {
    /// The key of the request whose reply contains the calls.
    pub(super) key: &'t CallKey,
    /// The digest of that request.
    pub(super) request_digest: &'t Digest,
    /// The tools that the agent may use.
    pub(super) tools: &'t AgentTools,
}

/// The result of a tool call, for the model.
pub(super) struct ToolCallResult {
    /// The position of the call in the reply, from 1.
    position: u32,
    id: String,
    pub(super) name: String,
    /// The digest of the tool and the arguments.
    pub(super) call_digest: Digest,
    content: String,
    is_error: bool,
    /// Whether a recorded output has this content.
    is_recorded: bool,
    /// Whether the call changed files, or may have changed files without orch's knowledge.
    pub(super) changes_files: bool,
}

impl ToolCallResult {
    pub(super) fn new(call: &RequestedCall<'_>, content: String, is_error: bool) -> Self {
        Self {
            position: call.position,
            id: call.id.to_owned(),
            name: call.name.to_owned(),
            call_digest: call.digest(),
            content,
            is_error,
            is_recorded: false,
            changes_files: false,
        }
    }

    /// The digest of what the call returned.
    pub(super) fn result_digest(&self) -> Digest {
        Digest::compute(format!("{} {}", self.is_error, self.content).as_bytes())
    }

    /// Adds a note of orch to the content.
    pub(super) fn add_note(&mut self, note: &str) {
        self.content.push_str(note);
        self.is_recorded = false;
    }

    /// The result as a request contains it, for the record of the request, unless a recorded output has the same
    /// content. `ordinal` is that of the request whose reply contains the call.
    pub(super) fn unrecorded(&self, ordinal: u32) -> Option<SentResult> {
        (!self.is_recorded).then(|| SentResult {
            ordinal,
            tool_call: self.position,
            name: self.name.clone(),
            content: self.content.clone(),
            is_error: self.is_error,
        })
    }

    /// Whether the content is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// The result for the model of a call that was performed or interrupted.
    ///
    /// # Errors
    /// orch could not perform the call.
    fn from_outcome(call: &RequestedCall<'_>, outcome: CallOutcome) -> Result<Self, Failure> {
        let activity = outcome.agent_activity.as_deref();
        let changes_files = match activity {
            Some(activity) => activity.may_have_changed_files(),
            // A call that ended and recorded no changes made none. Of an interrupted one, nothing is known.
            None => outcome.result.is_err(),
        };
        let result = match outcome.result {
            Ok(CallReply::Output(CallOutput::Tool(output))) => {
                let result = Self::new(call, output.result.content, output.result.is_error);
                Self { is_recorded: true, ..result }
            }
            Ok(_) => return Err(unexpected_record()),
            Err(failure) => match interruption_text(call.name, failure.class, activity) {
                Some(text) => Self::new(call, text, true),
                None => return Err(failure),
            },
        };
        Ok(Self { changes_files, ..result })
    }
}

impl From<ToolCallResult> for ContentBlock {
    fn from(result: ToolCallResult) -> Self {
        let ToolCallResult { id, name, content, is_error, .. } = result;
        Self::ToolResult { id, name, content, is_error }
    }
}

/// The tool of a call and its arguments, or what is wrong with them; `None` if the agent has no such tool.
type ReadArguments = Option<(BuiltinTool, Result<Value, String>)>;

/// A call that orch can perform, or the error for the model.
pub(super) type ReadCall<'r> = Result<(RequestedCall<'r>, BuiltinTool, Value), ToolCallResult>;

impl Conversation<'_> {
    /// Performs calls one after another.
    pub(super) async fn run_in_order(
        &mut self,
        turn: &ToolTurn<'_>,
        read_calls: Vec<ReadCall<'_>>,
    ) -> Result<Result<Vec<ToolCallResult>, Failure>, Interrupt> {
        let mut results = Vec::with_capacity(read_calls.len());
        for read_call in read_calls {
            let (call, tool, arguments) = match read_call {
                Ok(read_call) => read_call,
                Err(result) => {
                    results.push(result);
                    continue;
                }
            };
            match self.run_one(turn, call, tool, arguments).await? {
                Ok(result) => results.push(result),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Ok(results))
    }

    /// Finds the tools of the calls, and reads their arguments.
    pub(super) async fn read_calls<'r>(
        &self,
        turn: &ToolTurn<'_>,
        calls: &[RequestedCall<'r>],
    ) -> Result<Vec<ReadCall<'r>>, Interrupt> {
        let known_tool = |name: &str| BuiltinTool::from_name(name).filter(|tool| turn.tools.includes(*tool));
        let inputs: Vec<(Option<BuiltinTool>, Value)> =
            calls.iter().map(|call| (known_tool(call.name), call.arguments.clone())).collect();
        let is_large = inputs.iter().any(|(_, arguments)| arguments.to_string().len() >= LARGE_TEXT_BYTES);
        let read = move || -> Vec<ReadArguments> {
            let read_one = |tool: BuiltinTool, arguments: &Value| (tool, tool::read_arguments(tool, arguments));
            inputs.iter().map(|(tool, arguments)| tool.map(|tool| read_one(tool, arguments))).collect()
        };
        let read_inputs =
            if is_large { self.execution.interpreter.compute(&self.execution.spec.step, read).await? } else { read() };
        let to_read_call = |(call, read): (&RequestedCall<'r>, ReadArguments)| match read {
            Some((tool, Ok(arguments))) => match self.refusal(turn, tool, &arguments) {
                Some(message) => Err(ToolCallResult::new(call, message, true)),
                None => Ok((*call, tool, arguments)),
            },
            Some((_, Err(message))) => Err(ToolCallResult::new(call, message, true)),
            None => Err(ToolCallResult::new(call, unknown_tool_text(call.name, turn.tools), true)),
        };
        Ok(calls.iter().zip(read_inputs).map(to_read_call).collect())
    }

    /// The result for the model of a call that needs an approval and that orch would refuse afterwards.
    fn refusal(&self, turn: &ToolTurn<'_>, tool: BuiltinTool, arguments: &Value) -> Option<String> {
        if !turn.tools.approved.contains(&tool) {
            return None;
        }
        let reserved_names = self.execution.interpreter.plan.reserved_names();
        let rules = CallRules {
            grants: &turn.tools.grants,
            sandbox: turn.tools.sandbox.as_ref(),
            project_network: turn.tools.project_network.as_ref(),
            artifact_files: &reserved_names.artifacts,
            project_files: &reserved_names.project,
        };
        tool::refusal(tool, arguments, rules)
    }

    /// Performs calls that only read, in parallel.
    pub(super) async fn run_in_parallel(
        &mut self,
        turn: &ToolTurn<'_>,
        read_calls: Vec<ReadCall<'_>>,
    ) -> Result<Result<Vec<ToolCallResult>, Failure>, Interrupt> {
        let mut calls = Vec::new();
        for (call, tool, arguments) in read_calls.iter().flatten() {
            match self.tool_call(turn, call, *tool, arguments.clone()) {
                Ok(call) => calls.push(call),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        let outcomes = self.execution.interpreter.durable.call_all(calls).await?;
        self.count_time(&outcomes);
        let mut outcomes = outcomes.into_iter();
        let to_result = |read_call: ReadCall<'_>| match read_call {
            Ok((call, ..)) => {
                let outcome = outcomes.next().ok_or_else(unexpected_record)?;
                ToolCallResult::from_outcome(&call, outcome)
            }
            Err(result) => Ok(result),
        };
        Ok(read_calls.into_iter().map(to_result).collect())
    }

    /// Performs one call, after the user has approved it if that is necessary.
    async fn run_one(
        &mut self,
        turn: &ToolTurn<'_>,
        call: RequestedCall<'_>,
        tool: BuiltinTool,
        arguments: Value,
    ) -> Result<Result<ToolCallResult, Failure>, Interrupt> {
        if turn.tools.approved.contains(&tool)
            && let Some(denial) = self.request_approval(turn, &call, tool, &arguments).await?
        {
            return Ok(Ok(ToolCallResult::new(&call, denial, true)));
        }
        let durable_call = match self.tool_call(turn, &call, tool, arguments) {
            Ok(durable_call) => durable_call,
            Err(failure) => return Ok(Err(failure)),
        };
        let outcome = self.execution.interpreter.durable.call(durable_call).await?;
        self.count_time(std::slice::from_ref(&outcome));
        Ok(ToolCallResult::from_outcome(&call, outcome))
    }

    /// Waits until the user decides about a call. Returns the result for the model if the user denies the call.
    async fn request_approval(
        &self,
        turn: &ToolTurn<'_>,
        call: &RequestedCall<'_>,
        tool: BuiltinTool,
        arguments: &Value,
    ) -> Result<Option<String>, Interrupt> {
        let text = approval_text(&self.agent.agent, tool, arguments);
        let wait = Wait::Approval(ApprovalRequest { text, timeout_ms: None });
        let key = turn.key.for_tool_call(call.position);
        Ok(match self.execution.interpreter.durable.wait(key, wait).await? {
            WaitOutcome::Answered(answer) if answer.approved => None,
            WaitOutcome::Answered(answer) if answer.note.trim().is_empty() => Some("denied by the user".to_owned()),
            WaitOutcome::Answered(answer) => Some(format!("denied: {}", answer.note.trim())),
            WaitOutcome::Elapsed => Some("denied: the user did not answer in time".to_owned()),
        })
    }

    /// The durable call that performs a tool call.
    ///
    /// # Errors
    /// The time of the step is used up.
    fn tool_call(
        &self,
        turn: &ToolTurn<'_>,
        call: &RequestedCall<'_>,
        tool: BuiltinTool,
        arguments: Value,
    ) -> Result<Call, Failure> {
        let tools = turn.tools;
        // The digest identifies the call by its place in the conversation, so a renamed step finds its result too. Time
        // limits and reserved paths do not change the result.
        let request_digest = digest(&json!({
            "turn": turn.request_digest, "position": call.position, "tool": tool, "arguments": arguments,
            "allowed": tools.fingerprint_value(),
        }));
        let invocation = ToolInvocation {
            id: call.id.to_owned(),
            tool,
            arguments,
            grants: tools.grants_for(tool),
            reserved: self.execution.interpreter.plan.reserved_names().artifacts.clone(),
            env: tools.env.clone(),
            sandbox: tools.sandbox.clone(),
            project_network: tools.project_network.clone(),
            timeout_ms: self.time_limits()?.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        };
        let key = turn.key.for_tool_call(call.position);
        Ok(Call { key, request_digest, effect: Effect::Tool(Box::new(invocation)) })
    }
}

/// The question about a call, with the exact arguments.
fn approval_text(agent: &str, tool: BuiltinTool, arguments: &Value) -> String {
    format!("Agent `{agent}` calls the tool `{tool}`:\n\n{arguments:#}")
}

/// The result of a call of a tool that the agent does not have.
fn unknown_tool_text(name: &str, tools: &AgentTools) -> String {
    let names = tools.offered.definitions.iter().map(|definition| format!("`{}`", definition.name));
    let names = names.collect::<Vec<_>>().join(", ");
    format!("there is no tool `{name}`, so nothing was done; the tools are {names}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentActivity, FailureClass};

    #[test]
    fn a_call_about_whose_changes_nothing_is_known_counts_as_one_that_changes_files() {
        let arguments = json!({});
        let call = RequestedCall { position: 1, id: "1", name: "shell", arguments: &arguments };
        let changes_files = |agent_activity: Option<AgentActivity>| {
            let outcome = CallOutcome {
                started: jiff::Timestamp::UNIX_EPOCH,
                ended: jiff::Timestamp::UNIX_EPOCH,
                result: Err(Failure::new(FailureClass::Crashed, "orch was killed")),
                agent_activity: agent_activity.map(Box::new),
                cost: None,
                estimated: None,
                estimated_cost: None,
                reverted_files: Vec::new(),
                sandbox: None,
            };
            ToolCallResult::from_outcome(&call, outcome).unwrap().changes_files
        };
        assert!(changes_files(None) && changes_files(Some(AgentActivity::with_unknown_changes("it is missing"))));
        assert!(!changes_files(Some(AgentActivity::default())));
    }

    #[test]
    fn an_approval_shows_the_exact_call() {
        let text = approval_text("coder", BuiltinTool::Shell, &json!({ "command": "rm -rf x && echo \"done\"" }));
        assert_eq!(
            text,
            "Agent `coder` calls the tool `shell`:\n\n{\n  \"command\": \"rm -rf x && echo \\\"done\\\"\"\n}"
        );
    }
}
