//! Steps that call a tool without a model: a tool of orch, or a tool of an MCP server.
//!
//! A completed call is reused without its server. Only a step that calls a server needs the server's current list of
//! tools. orch never repeats a call that may have changed something, unless the user asks for it with `--from`.

use serde_json::{Value, json};

use crate::durable::{Call, CallOutcome, CallReply, Effect, Interrupt, ListedTools, ListingFreshness};
use crate::model::event::{CallKind, CallOutput, PartKind};
use crate::model::{
    AgentActivity, CallKey, Failure, FailureClass, InputAnswers, McpInvocation, McpServerSpec, McpToolDefinition,
    McpToolName, StepKey, ToolGrant, ToolInvocation,
};
use crate::offload::LARGE_TEXT_BYTES;
use crate::tool;

use super::call_arguments::render_arguments;
use super::call_result::{CallResult, ReceivedResult, read_result, value_of_edit};
use super::conversation::millis;
use super::interpret::{Interpreter, StepResult};
use super::interrupted_call::unknown_effect_text;
use super::mcp_listings::find_tool;
use super::mcp_questions::{MAX_INPUT_ROUNDS, required_input, too_many_rounds, unanswered_failure};
use super::node::{ArtifactType, CallNode, CalledTool, PlanNode};
use super::scope::ValueScope;
use super::step_execution::{
    FIRST_CALL, StepExecution, StepStart, common_fingerprint_parts, compute_fingerprint, digest, fingerprint_part,
    unexpected_record, workspace_version,
};
use super::tool_target::McpTool;

/// The time limit of a call in milliseconds, if neither the step nor `orch.yaml` sets a `timeout`.
const DEFAULT_TIMEOUT_MS: u64 = 600_000;

/// The id of the only call of a step, in place of the id that a model gives to each of its calls.
const CALL_ID: &str = "call";

/// Runs a step that calls a tool.
pub(super) async fn run(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    call: &CallNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let written = match render_arguments(interpreter, key, node, call, scope).await? {
        Ok(arguments) => arguments,
        Err(failure) => return fail(interpreter, key, node, scope, failure).await,
    };
    let step = StepCall { interpreter, key, node, call, written };
    match &call.tool {
        CalledTool::Builtin { tool, .. } => {
            let tool = *tool;
            let read = move |arguments: &Value| tool::read_arguments(tool, arguments);
            let arguments = match step.read_arguments(read, false).await? {
                Ok(arguments) => arguments,
                Err(failure) => return fail(interpreter, key, node, scope, failure).await,
            };
            match step.open(scope, None).await? {
                CallStepOpening::Ended(result) => Ok(result),
                CallStepOpening::Open(open) => step.make_attempts(*open, &arguments, scope).await,
            }
        }
        CalledTool::Mcp { server, tool } => Box::pin(step.run_mcp(server, tool, scope)).await,
    }
}

/// A step that calls a tool, with its arguments.
struct StepCall<'a> {
    interpreter: Interpreter<'a>,
    key: &'a StepKey,
    node: &'a PlanNode,
    call: &'a CallNode,
    /// The arguments as the templates of the pipeline file give them.
    written: Value,
}

/// A step without a valid recorded result: it calls the tool.
struct OpenCallStep<'a> {
    execution: StepExecution<'a>,
    attempt: u32,
    /// What determines the result.
    request: Value,
}

/// The result of opening a step.
enum CallStepOpening<'a> {
    /// A recorded result is still valid.
    Ended(StepResult),
    /// The step calls the tool.
    Open(Box<OpenCallStep<'a>>),
}

impl<'a> StepCall<'a> {
    /// Calls a tool of an MCP server, unless a recorded result is valid.
    async fn run_mcp(
        &self,
        server: &McpServerSpec,
        tool: &str,
        scope: &mut ValueScope,
    ) -> Result<StepResult, Interrupt> {
        let recorded = self.interpreter.list_tools(self.key, server, ListingFreshness::Recorded).await?;
        // Without the definition of a tool that only reads, no recorded result is valid. The step is opened nevertheless,
        // because a dry run, which asks no server, only needs to know that the step would run.
        let known = recorded.as_ref().ok().and_then(|listing| listing.find(tool)).cloned();
        let mut open = match self.open(scope, known.as_ref()).await? {
            CallStepOpening::Ended(result) => return Ok(result),
            CallStepOpening::Open(open) => open,
        };
        let current = self.current_listing(&open, server, recorded.err()).await?;
        let tool = match current.and_then(|listing| McpTool::new(server, find_tool(&listing, tool)?)) {
            Ok(tool) => tool,
            Err(failure) => return fail(self.interpreter, self.key, self.node, scope, failure).await,
        };
        let (reader, may_take_long) = (tool.clone(), tool.schema.may_take_long());
        let read = move |arguments: &Value| reader.read_arguments(arguments);
        let arguments = match self.read_arguments(read, may_take_long).await? {
            Ok(arguments) => arguments,
            Err(failure) => return fail(self.interpreter, self.key, self.node, scope, failure).await,
        };
        if known.as_ref() != Some(&tool.definition) {
            open = match self.open(scope, Some(&tool.definition)).await? {
                CallStepOpening::Ended(result) => return Ok(result),
                CallStepOpening::Open(open) => open,
            };
        }
        self.make_attempts(*open, &arguments, scope).await
    }

    /// Reads the arguments as the tool accepts them.
    async fn read_arguments(
        &self,
        read: impl FnOnce(&Value) -> Result<Value, String> + Send + 'static,
        may_take_long: bool,
    ) -> Result<Result<Value, Failure>, Interrupt> {
        let is_large = || self.written.to_string().len() >= LARGE_TEXT_BYTES;
        let arguments = if may_take_long || is_large() {
            let written = self.written.clone();
            self.interpreter.compute(self.key, move || read(&written)).await?
        } else {
            read(&self.written)
        };
        Ok(arguments.map_err(|message| {
            Failure::new(FailureClass::SchemaMismatch, message).with_hint("correct `args:` of the step")
        }))
    }

    /// Opens the step: looks for a valid recorded result. `definition` is the tool as its MCP server lists it; `None` for
    /// a tool of orch, and if the tools of the server are not known.
    async fn open(
        &self,
        scope: &mut ValueScope,
        definition: Option<&McpToolDefinition>,
    ) -> Result<CallStepOpening<'a>, Interrupt> {
        let tool = self.call.tool.fingerprint_value(definition);
        let depends_on_workspace = self.call.tool.depends_on_workspace();
        let version = if depends_on_workspace { workspace_version(self.node, scope) } else { Value::Null };
        let request = json!({ "call": tool, "args": self.written, "tree": version });
        let artifact_type = self.node.output.as_ref().map(|output| output.artifact_type.digest());
        let decode = json!({ "contract": artifact_type, "has_schema": self.call.has_schema });
        let mut parts = common_fingerprint_parts(self.node, scope);
        parts.retain(|part| depends_on_workspace || part.kind != PartKind::Workspace);
        parts.push(fingerprint_part(PartKind::Parameters, &self.written));
        parts.push(fingerprint_part(PartKind::Tools, &tool));
        let fingerprint = compute_fingerprint(&request, &decode);
        let mut execution = StepExecution::new(self.interpreter, self.key, self.node, fingerprint, parts);
        let (replies, attempt) = match execution.begin(scope).await? {
            StepStart::Reusable(value) => return Ok(CallStepOpening::Ended(Ok(value))),
            StepStart::Run(replies, attempt) => (replies, attempt),
        };
        // If only the rules by which orch reads the result changed, these are the recorded results. The first that fits
        // the new rules is the result, and orch does not call the tool again.
        for reply in &replies {
            if let Some(Ok(value)) = self.read_reply(reply).await? {
                return execution.finish(scope, attempt, Ok(value)).await.map(CallStepOpening::Ended);
            }
        }
        if let Some(failure) = execution.unknown_effect().await? {
            execution.record_start(attempt).await?;
            return execution.finish(scope, attempt, Err(failure)).await.map(CallStepOpening::Ended);
        }
        Ok(CallStepOpening::Open(Box::new(OpenCallStep { execution, attempt, request })))
    }

    /// The tools that a server lists now. A server that does not answer is asked again as often as `retry` allows.
    /// `first_failure` is that of the first try, if there has been one.
    async fn current_listing(
        &self,
        open: &OpenCallStep<'_>,
        server: &McpServerSpec,
        first_failure: Option<Failure>,
    ) -> Result<ListedTools, Interrupt> {
        let mut listed = match first_failure {
            Some(failure) => Err(failure),
            None => self.interpreter.list_tools(self.key, server, ListingFreshness::Current).await?,
        };
        let mut tries = 1;
        loop {
            let failure = match listed {
                Ok(listing) => return Ok(Ok(listing)),
                Err(failure) => failure,
            };
            let next = open.execution.call_key(open.attempt + 1, 0);
            if !open.execution.wait_for_retry(&self.call.limits, &failure, tries, next).await? {
                return Ok(Err(failure.without_call_details()));
            }
            tries += 1;
            listed = self.interpreter.list_tools(self.key, server, ListingFreshness::Current).await?;
        }
    }

    /// Calls the tool. Repeats a call that only reads as `retry` says.
    async fn make_attempts(
        &self,
        open: OpenCallStep<'a>,
        arguments: &Value,
        scope: &mut ValueScope,
    ) -> Result<StepResult, Interrupt> {
        let OpenCallStep { execution, mut attempt, request } = open;
        // `attempt` counts over all sessions of the run, but `retry.max` limits the tries of each session.
        let mut tries_in_session = 1;
        loop {
            execution.record_start(attempt).await?;
            let outcome = self.perform(execution.call_key(attempt, FIRST_CALL), &request, arguments).await?;
            let failure = match self.read_outcome(outcome).await? {
                Ok(value) => return execution.finish(scope, attempt, Ok(value)).await,
                Err(failure) => failure,
            };
            let next = execution.call_key(attempt + 1, 0);
            let is_retried = self.call.tool.only_reads()
                && execution.wait_for_retry(&self.call.limits, &failure, tries_in_session, next).await?;
            if !is_retried {
                return execution.finish(scope, attempt, Err(failure)).await;
            }
            tries_in_session += 1;
            attempt += 1;
        }
    }

    /// Performs the call. If an MCP server asks for input, first gets the answers of the user and makes the call again
    /// with them.
    async fn perform(&self, key: CallKey, request: &Value, arguments: &Value) -> Result<CallOutcome, Interrupt> {
        let durable = self.interpreter.durable;
        let mut outcome = durable.call(self.durable_call(key.clone(), request, arguments, None)).await?;
        let CalledTool::Mcp { server, tool } = &self.call.tool else { return Ok(outcome) };
        let name = McpToolName { server: server.name.clone(), tool: tool.clone() };
        let caller = format!("Step `{}`", self.key);
        for round in 1..=MAX_INPUT_ROUNDS {
            let Some(input) = required_input(&outcome) else { break };
            let answers = self.interpreter.ask_for_input(&caller, &name, &key, round, input).await?;
            let call = self.durable_call(key.for_input_round(round), request, arguments, Some((round, answers)));
            outcome = durable.call(call).await?;
        }
        Ok(outcome)
    }

    /// The durable call that performs the call. `answers` has the answers to the questions of an MCP server, and their
    /// number.
    fn durable_call(
        &self,
        key: CallKey,
        request: &Value,
        arguments: &Value,
        answers: Option<(u32, InputAnswers)>,
    ) -> Call {
        let request_digest = digest(&json!({ "request": request, "arguments": arguments, "answers": answers }));
        let limits = &self.call.limits;
        let timeout = [limits.timeout, limits.deadline].into_iter().flatten().min();
        let timeout_ms = timeout.map_or(DEFAULT_TIMEOUT_MS, millis);
        let reserved = self.interpreter.plan.reserved_names().artifacts.paths().clone();
        let effect = match &self.call.tool {
            CalledTool::Builtin { tool, sandbox, project_network } => Effect::Tool(Box::new(ToolInvocation {
                id: CALL_ID.to_owned(),
                tool: *tool,
                arguments: arguments.clone(),
                grants: vec![ToolGrant { tool: *tool, pattern: None }],
                reserved,
                env: Vec::new(),
                sandbox: sandbox.clone(),
                project_network: project_network.clone(),
                timeout_ms,
            })),
            CalledTool::Mcp { server, tool } => Effect::McpTool(Box::new(McpInvocation {
                server: server.clone(),
                tool: tool.clone(),
                arguments: arguments.clone(),
                answers: answers.map(|(_, answers)| Box::new(answers)),
                reserved,
                timeout_ms,
            })),
        };
        Call { key, request_digest, effect }
    }

    /// The artifact of a call with this outcome, if the step has one, or the failure of the step.
    async fn read_outcome(&self, outcome: CallOutcome) -> Result<CallResult, Interrupt> {
        let restart = || self.interpreter.plan.restart_point(&self.key.declared_key());
        if let Some(failure) = unanswered_failure(&outcome, restart) {
            return Ok(Err(failure));
        }
        let reply = match outcome.result {
            Ok(reply) => reply,
            Err(failure) => return Ok(Err(self.explain(failure, outcome.agent_activity.as_deref()))),
        };
        Ok(match self.read_reply(&reply).await? {
            Some(result) => result.map_err(|failure| self.with_repeat_hint(failure)),
            None => Err(unexpected_record()),
        })
    }

    /// The artifact that a reply leads to; `None` if it is no reply to a call of a tool. The reply is a chat if the user
    /// edited the file of the artifact. Work that may take long runs on a separate thread.
    async fn read_reply(&self, reply: &CallReply) -> Result<Option<CallResult>, Interrupt> {
        let received = match reply {
            CallReply::Chat(edit) => {
                let artifact = self.node.output.as_ref();
                return Ok(artifact.map(|artifact| value_of_edit(artifact, &edit.text()).map(Some)));
            }
            CallReply::Output(CallOutput::Tool(output)) => ReceivedResult { output: &output.result, structured: None },
            CallReply::Output(CallOutput::McpTool(output)) if output.input_required.is_some() => {
                let message = too_many_rounds(&output.tool.server);
                return Ok(Some(Err(Failure::new(FailureClass::ToolFailed, message))));
            }
            CallReply::Output(CallOutput::McpTool(output)) => {
                ReceivedResult { output: &output.result, structured: output.structured.as_ref() }
            }
            CallReply::Output(
                CallOutput::Command(_) | CallOutput::Snapshot(_) | CallOutput::Applied(_) | CallOutput::Pipeline(_),
            )
            | CallReply::Turn(_) => return Ok(None),
        };
        let artifact_type = self.node.output.as_ref().map(|output| &output.artifact_type);
        if received.text().len() < LARGE_TEXT_BYTES && !artifact_type.is_some_and(ArtifactType::takes_long) {
            return Ok(Some(read_result(self.node.output.as_ref(), self.call, received)));
        }
        let (artifact, call) = (self.node.output.clone(), self.call.clone());
        let (output, structured) = (received.output.clone(), received.structured.cloned());
        let read = move || {
            let received = ReceivedResult { output: &output, structured: structured.as_ref() };
            read_result(artifact.as_ref(), &call, received)
        };
        self.interpreter.compute(self.key, read).await.map(Some)
    }

    /// The failure of the step after a call without a result. If it is not known whether the call took effect, says so,
    /// and how the user can call the tool again.
    fn explain(&self, failure: Failure, activity: Option<&AgentActivity>) -> Failure {
        let kind = match &self.call.tool {
            CalledTool::Builtin { tool, .. } => CallKind::Tool(*tool),
            CalledTool::Mcp { server, .. } => CallKind::McpTool(server.call_kind()),
        };
        if let Some(message) = unknown_effect_text(kind, &failure, activity) {
            let hint = format!("find out whether the call took effect; {}", self.repeat_hint());
            return Failure { message, ..failure }.with_hint(hint);
        }
        if self.call.limits.deadline_ends_first_try() { failure.with_raise_deadline_hint() } else { failure }
    }

    /// Adds how the user can call the tool again, if the call may have changed something and its result can't be used. A
    /// resume reads the same result again.
    fn with_repeat_hint(&self, failure: Failure) -> Failure {
        if self.call.tool.only_reads() || failure.class == FailureClass::ToolFailed {
            return failure;
        }
        let hint = failure.hint.iter().cloned().chain([self.repeat_hint()]).collect::<Vec<_>>().join("; ");
        failure.with_hint(hint)
    }

    fn repeat_hint(&self) -> String {
        let start = self.interpreter.plan.restart_point(&self.key.declared_key());
        format!("`orch pipeline resume --from {start}` calls the tool again")
    }
}

/// Records that a step failed before it called its tool.
async fn fail(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    scope: &mut ValueScope,
    failure: Failure,
) -> Result<StepResult, Interrupt> {
    interpreter.fail(key, node, scope, 0, &failure).await?;
    Ok(Err(failure))
}
