//! The tool calls of a reply: finds their tools, reads their arguments, performs them, and creates their results for
//! the model. `call_batches` decides which of them run, and in which order.

use serde_json::{Value, json};

use crate::durable::{ApprovalRequest, Call, CallOutcome, Effect, Interrupt, PipelineCall, Wait, WaitOutcome};
use crate::model::visible::escape_line_breaks;
use crate::model::{CallKey, Digest, Failure, InputAnswers, McpInvocation, ToolInvocation, pipeline_call_summary};
use crate::offload::LARGE_TEXT_BYTES;
use crate::tool::{self, CallRules};

use super::agent_tools::AgentTools;
use super::conversation::Conversation;
use super::earlier_calls::EarlierCallSummary;
use super::mcp_questions::{MAX_INPUT_ROUNDS, required_input, unanswered_failure};
use super::pipeline_tools::PipelineCalls;
use super::step_execution::{digest, unexpected_record};
use super::tool_results::{RequestedCall, ToolCallResult};
use super::tool_target::{PipelineTool, ToolTarget};

/// The time limit of a tool call in milliseconds, if neither the step nor `orch.yaml` sets a `timeout`.
const DEFAULT_TIMEOUT_MS: u64 = 600_000;

/// The turn to which tool calls belong.
pub(super) struct ToolTurn<'t> {
    /// The key of the request whose reply contains the calls.
    pub(super) key: &'t CallKey,
    /// The digest of that request.
    pub(super) request_digest: &'t Digest,
    /// The tools that the agent may use.
    pub(super) tools: &'t AgentTools,
}

/// A call that orch can perform.
pub(super) struct RunnableCall<'r> {
    pub(super) call: RequestedCall<'r>,
    pub(super) target: ToolTarget,
    arguments: Value,
}

impl RunnableCall<'_> {
    /// The tool and the arguments.
    fn text(&self) -> String {
        format!("{} {}", self.target.name(), self.arguments)
    }
}

/// A call that orch can perform, or the error for the model.
pub(super) type CallOrError<'r> = Result<RunnableCall<'r>, Box<ToolCallResult>>;

/// The tool of a call and its arguments, or what is wrong with them; `None` if the agent has no such tool.
type ToolWithArguments = Option<(ToolTarget, Result<Value, String>)>;

/// The result of one call; the failure of the step if orch could not perform the call.
type SingleCallResult = Result<ToolCallResult, Failure>;

impl Conversation<'_> {
    /// Performs calls one after another. `pipelines` counts the calls of pipelines.
    pub(super) async fn run_in_order(
        &mut self,
        turn: &ToolTurn<'_>,
        read_calls: Vec<CallOrError<'_>>,
        pipelines: &mut PipelineCalls,
    ) -> Result<Result<Vec<ToolCallResult>, Failure>, Interrupt> {
        let mut results = Vec::with_capacity(read_calls.len());
        for read_call in read_calls {
            let result = match read_call {
                Ok(read) => self.run_one(turn, &read, pipelines).await?,
                Err(result) => Ok(*result),
            };
            match result {
                Ok(result) => {
                    if result.changes_files {
                        pipelines.note_change(&result.result_digest());
                    }
                    results.push(result);
                }
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
    ) -> Result<Vec<CallOrError<'r>>, Interrupt> {
        let inputs: Vec<(Option<ToolTarget>, Value)> =
            calls.iter().map(|call| (turn.tools.find(call.name), call.arguments.clone())).collect();
        let takes_long = inputs.iter().any(|(target, arguments)| {
            let has_costly_schema = target.as_ref().is_some_and(ToolTarget::has_costly_schema);
            has_costly_schema || arguments.to_string().len() >= LARGE_TEXT_BYTES
        });
        let read = move || -> Vec<ToolWithArguments> {
            let read_one = |(target, arguments): (Option<ToolTarget>, Value)| {
                let target = target?;
                let arguments = target.read_arguments(&arguments);
                Some((target, arguments))
            };
            inputs.into_iter().map(read_one).collect()
        };
        let read_inputs = if takes_long {
            self.execution.interpreter.compute(&self.execution.spec.step, read).await?
        } else {
            read()
        };
        let refused =
            |call: &RequestedCall<'r>, message: String| Err(Box::new(ToolCallResult::new(call, message, true)));
        let to_runnable_call = |(call, read): (&RequestedCall<'r>, ToolWithArguments)| match read {
            Some((target, Ok(arguments))) => match self.refusal(turn, &target, &arguments) {
                Some(message) => Err(Box::new(ToolCallResult::new(call, message, true).with_arguments(call, &target))),
                None => Ok(RunnableCall { call: *call, target, arguments }),
            },
            Some((_, Err(message))) => refused(call, message),
            None => refused(call, unknown_tool_text(call.name, turn.tools)),
        };
        Ok(calls.iter().zip(read_inputs).map(to_runnable_call).collect())
    }

    /// The result for the model of a call that needs an approval and that orch would refuse afterwards. Only a server
    /// knows whether it would refuse a call of its tools.
    fn refusal(&self, turn: &ToolTurn<'_>, target: &ToolTarget, arguments: &Value) -> Option<String> {
        let ToolTarget::Builtin(tool) = target else { return None };
        if !turn.tools.needs_approval(target) {
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
        tool::refusal(*tool, arguments, rules)
    }

    /// Performs calls that only read, in parallel.
    pub(super) async fn run_in_parallel(
        &mut self,
        turn: &ToolTurn<'_>,
        read_calls: Vec<CallOrError<'_>>,
    ) -> Result<Result<Vec<ToolCallResult>, Failure>, Interrupt> {
        let mut calls = Vec::new();
        for read in read_calls.iter().flatten() {
            match self.tool_call(turn, read, None) {
                Ok(call) => calls.push(call),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        let outcomes = self.execution.interpreter.durable.call_all(calls).await?;
        self.count_time(&outcomes);
        let mut outcomes = outcomes.into_iter();
        let mut results = Vec::with_capacity(read_calls.len());
        for read_call in read_calls {
            let result = match read_call {
                Ok(read) => match outcomes.next() {
                    Some(outcome) => self.finish_call(turn, &read, outcome).await?,
                    None => Err(unexpected_record()),
                },
                Err(result) => Ok(*result),
            };
            match result {
                Ok(result) => results.push(result),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Ok(results))
    }

    /// Performs one call, after the user has approved it if that is necessary.
    async fn run_one(
        &mut self,
        turn: &ToolTurn<'_>,
        read: &RunnableCall<'_>,
        pipelines: &mut PipelineCalls,
    ) -> Result<SingleCallResult, Interrupt> {
        if turn.tools.needs_approval(&read.target)
            && let Some(denial) = self.request_approval(turn, read).await?
        {
            return Ok(Ok(ToolCallResult::new(&read.call, denial, true).with_arguments(&read.call, &read.target)));
        }
        if let ToolTarget::Pipeline(pipeline) = &read.target {
            return self.run_pipeline(turn, read, pipeline, pipelines).await.map(Ok);
        }
        let call = match self.tool_call(turn, read, None) {
            Ok(call) => call,
            Err(failure) => return Ok(Err(failure)),
        };
        let outcome = self.execution.interpreter.durable.call(call).await?;
        self.count_time(std::slice::from_ref(&outcome));
        self.finish_call(turn, read, outcome).await
    }

    /// Calls a pipeline.
    async fn run_pipeline(
        &mut self,
        turn: &ToolTurn<'_>,
        read: &RunnableCall<'_>,
        pipeline: &PipelineTool,
        pipelines: &mut PipelineCalls,
    ) -> Result<ToolCallResult, Interrupt> {
        let (Some(node), Value::Object(inputs)) = (self.agent.pipelines.get(pipeline.index), &read.arguments) else {
            let text = format!("the arguments of `{}` are not a JSON object, so nothing was done", pipeline.name);
            return Ok(ToolCallResult::new(&read.call, text, true));
        };
        // The digest identifies the call by its place in the conversation, as those of other tool calls do. A result is not
        // valid after a file of the pipelines changed.
        let request = json!({
            "turn": turn.request_digest,
            "position": read.call.position,
            "arguments": inputs,
            "pipeline": pipeline.name,
            "pipelines": turn.tools.pipeline_digest(),
        });
        let call = PipelineCall {
            key: turn.key.for_tool_call(read.call.position),
            request_digest: digest(&request),
            summary: pipeline_call_summary(&pipeline.name, inputs),
        };
        let result = Box::pin(pipelines.run(self.execution.interpreter, node, call, inputs.clone())).await?;
        self.earlier_call_summaries.push(EarlierCallSummary::with_result(
            &read.text(),
            &result.content,
            result.is_error,
        ));
        Ok(ToolCallResult::from_pipeline(&read.call, result))
    }

    /// The result of a call with this outcome. If an MCP server asks for input, first gets the answers of the user and
    /// makes the call again with them.
    async fn finish_call(
        &mut self,
        turn: &ToolTurn<'_>,
        read: &RunnableCall<'_>,
        mut outcome: CallOutcome,
    ) -> Result<SingleCallResult, Interrupt> {
        let interpreter = self.execution.interpreter;
        let (caller, key) = (format!("Agent `{}`", self.agent.agent), turn.key.for_tool_call(read.call.position));
        for round in 1..=MAX_INPUT_ROUNDS {
            let (Some(input), ToolTarget::Mcp(tool)) = (required_input(&outcome), &read.target) else { break };
            let answers = interpreter.ask_for_input(&caller, &tool.name, &key, round, input).await?;
            let call = match self.tool_call(turn, read, Some((round, answers))) {
                Ok(call) => call,
                Err(failure) => return Ok(Err(failure)),
            };
            outcome = interpreter.durable.call(call).await?;
            self.count_time(std::slice::from_ref(&outcome));
        }
        if let Some(kind) = read.target.call_kind().filter(|kind| kind.is_never_repeated()) {
            self.earlier_call_summaries.extend(EarlierCallSummary::new(&read.text(), kind, &outcome));
        }
        let restart = || interpreter.plan.restart_point(&self.execution.spec.step.declared_key());
        if let Some(failure) = unanswered_failure(&outcome, restart) {
            return Ok(Err(failure));
        }
        Ok(ToolCallResult::from_outcome(&read.call, &read.target, outcome))
    }

    /// Waits until the user decides about a call. Returns the result for the model if the user denies the call.
    async fn request_approval(
        &self,
        turn: &ToolTurn<'_>,
        read: &RunnableCall<'_>,
    ) -> Result<Option<String>, Interrupt> {
        let text = approval_text(&self.agent.agent, &read.target.name(), &read.arguments);
        let wait = Wait::Approval(ApprovalRequest { text, timeout_ms: None });
        let key = turn.key.for_tool_call(read.call.position);
        Ok(match self.execution.interpreter.durable.wait(key, wait).await? {
            WaitOutcome::Answered(answer) if answer.approved => None,
            WaitOutcome::Answered(answer) if answer.note.trim().is_empty() => Some("denied by the user".to_owned()),
            WaitOutcome::Answered(answer) => Some(format!("denied: {}", answer.note.trim())),
            WaitOutcome::Elapsed => Some("denied: the user did not answer in time".to_owned()),
        })
    }

    /// The durable call that performs a tool call. `answers` has the answers to the questions of an MCP server, and
    /// their number.
    ///
    /// # Errors
    /// The time of the step is used up.
    fn tool_call(
        &self,
        turn: &ToolTurn<'_>,
        read: &RunnableCall<'_>,
        answers: Option<(u32, InputAnswers)>,
    ) -> Result<Call, Failure> {
        let RunnableCall { call, target, arguments } = read;
        let tools = turn.tools;
        let timeout_ms = self.time_limits()?.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        let reserved = self.execution.interpreter.plan.reserved_names().artifacts.paths().clone();
        let key = turn.key.for_tool_call(call.position);
        // The digest identifies the call by its place in the conversation, so a renamed step finds its result too. Time
        // limits and reserved paths do not change the result.
        let mut request = json!({ "turn": turn.request_digest, "position": call.position, "arguments": arguments });
        match target {
            ToolTarget::Builtin(tool) => {
                request["tool"] = json!(tool);
                request["allowed"] = tools.builtin_fingerprint_value();
                let invocation = ToolInvocation {
                    id: call.id.to_owned(),
                    tool: *tool,
                    arguments: arguments.clone(),
                    grants: tools.grants_for(*tool),
                    reserved,
                    env: tools.env.clone(),
                    sandbox: tools.sandbox.clone(),
                    project_network: tools.project_network.clone(),
                    timeout_ms,
                };
                Ok(Call { key, request_digest: digest(&request), effect: Effect::Tool(Box::new(invocation)) })
            }
            ToolTarget::Mcp(tool) => {
                request["tool"] = json!(tool.name);
                request["server"] = tool.server.fingerprint_value();
                request["answers"] = json!(answers);
                let (round, answers) = answers.unzip();
                let invocation = McpInvocation {
                    server: tool.server.clone(),
                    tool: tool.name.tool.clone(),
                    arguments: arguments.clone(),
                    answers: answers.map(Box::new),
                    reserved,
                    timeout_ms,
                };
                let key = match round {
                    Some(round) => key.for_input_round(round),
                    None => key,
                };
                Ok(Call { key, request_digest: digest(&request), effect: Effect::McpTool(Box::new(invocation)) })
            }
            ToolTarget::Pipeline(pipeline) => {
                Err(Failure::defect(format!("the pipeline `{}` was called like a tool", pipeline.name)))
            }
        }
    }
}

/// The question about a call, with the exact arguments.
fn approval_text(agent: &str, tool: &str, arguments: &Value) -> String {
    format!("Agent `{agent}` calls the tool `{tool}`:\n\n{arguments:#}")
}

/// The result of a call of a tool that the agent does not have.
fn unknown_tool_text(name: &str, tools: &AgentTools) -> String {
    let names = tools.offered.definitions.iter().map(|definition| format!("`{}`", definition.name));
    let names = names.collect::<Vec<_>>().join(", ");
    let name = escape_line_breaks(name);
    format!("there is no tool `{name}`, so nothing was done; the tools are {names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_shows_the_exact_call() {
        let text = approval_text("coder", "shell", &json!({ "command": "rm -rf x && echo \"done\"" }));
        assert_eq!(
            text,
            "Agent `coder` calls the tool `shell`:\n\n{\n  \"command\": \"rm -rf x && echo \\\"done\\\"\"\n}"
        );
    }
}
