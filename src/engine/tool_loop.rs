//! The loop of a conversation with tools: the model calls tools until it answers.
//!
//! Each request and each tool call is a call of its own, recorded before the next one. The tool calls of a reply decide
//! whether the conversation continues, and not its stop reason, which some servers report wrongly. A reply that was cut
//! off may contain incomplete calls, so none of them runs.

use serde_json::Value;

use crate::durable::{CallReply, Interrupt};
use crate::model::call::SentResult;
use crate::model::{CallKey, ChatReply, ChatRequest, ContentBlock, Digest, Failure, FailureClass, StopReason};

use super::agent::request_digest;
use super::agent_tools::AgentTools;
use super::conversation::{Conversation, NextRequest, ReplyVerdict, quoted_answer};
use super::message::re_ask_for_call;
use super::node::AgentNode;
use super::pipeline_tools::PipelineCalls;
use super::planned_model::PlannedModel;
use super::repetition_guard::RepetitionGuard;
use super::reply_failures::{exceeded_context_window, missing_call, sanitize, with_hint};
use super::step_execution::unexpected_record;
use super::tool_calls::ToolTurn;
use super::tool_conversation::ToolConversation;
use super::tool_results::requested_calls;

/// The state of the loop.
struct ToolLoop<'t> {
    model: &'t PlannedModel,
    tools: &'t AgentTools,
    conversation: ToolConversation,
    /// The calls of pipelines in this attempt.
    pipelines: PipelineCalls,
    guard: RepetitionGuard,
    /// The results of the latest turn that no recorded output has, until a request with them has a reply.
    unrecorded_results: Vec<SentResult>,
    /// The digest of the latest request.
    request_digest: Digest,
    /// The number of replies with tool calls.
    turns: u32,
    re_asks: u32,
    /// How often the latest request has failed.
    failed_tries: u32,
}

/// The result of a conversation that has ended.
type ConversationEnd = Result<Value, Failure>;

impl Conversation<'_> {
    /// Runs one conversation with tools.
    pub(super) async fn tool_loop(
        &mut self,
        model: &PlannedModel,
        request: ChatRequest,
        tools: &AgentTools,
    ) -> Result<ConversationEnd, Interrupt> {
        let mut state = ToolLoop {
            model,
            tools,
            request_digest: request_digest(model, &request),
            conversation: ToolConversation::new(request, tools.compaction),
            pipelines: PipelineCalls::new(self.scope),
            guard: RepetitionGuard::default(),
            unrecorded_results: Vec::new(),
            turns: 0,
            re_asks: 0,
            failed_tries: 0,
        };
        for ordinal in 1.. {
            let key = self.execution.call_key(self.attempt, ordinal);
            let reply = match self.send_turn(&mut state, key.clone()).await? {
                Ok(reply) => reply,
                Err(failure) => {
                    if self.may_repeat_request(&mut state, &failure, &key).await? {
                        continue;
                    }
                    return Ok(Err(failure));
                }
            };
            let Some(chat) = reply.chat() else { return Ok(Err(unexpected_record())) };
            state.unrecorded_results.clear();
            let ended = match TurnKind::of(chat, &state.conversation) {
                TurnKind::Calls => self.take_turn(&mut state, key, chat).await?,
                TurnKind::UnusableCalls(reason) => self.take_unusable_calls(&mut state, key, reason).await?,
                TurnKind::MissingCall => self.take_missing_call(&mut state, key, chat).await?,
                TurnKind::Paused => self.take_paused_turn(&mut state, chat),
                TurnKind::Answer => self.take_answer(&mut state, key, &reply).await?,
            };
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
        Ok(Err(Failure::new(FailureClass::Internal, "the conversation never ended")))
    }

    /// Sends the next request of the conversation. First leaves out old results, if the request would be too long.
    async fn send_turn(
        &mut self,
        state: &mut ToolLoop<'_>,
        key: CallKey,
    ) -> Result<Result<CallReply, Failure>, Interrupt> {
        let elided_results = match state.conversation.compact(state.model.context_window) {
            Ok(elided_results) => elided_results,
            Err(failure) => return Ok(Err(failure)),
        };
        if !elided_results.is_empty() {
            state.guard.reset();
        }
        let request = state.conversation.request();
        state.request_digest = request_digest(state.model, request);
        let next = NextRequest {
            request,
            digest: state.request_digest.clone(),
            session: None,
            elided_results,
            tool_results: state.unrecorded_results.clone(),
        };
        self.send(key, state.model, next).await
    }

    /// Waits for the back-off, and returns true, if the conversation should send the same request again.
    async fn may_repeat_request(
        &self,
        state: &mut ToolLoop<'_>,
        failure: &Failure,
        key: &CallKey,
    ) -> Result<bool, Interrupt> {
        state.failed_tries += 1;
        if self.is_past_deadline() {
            return Ok(false);
        }
        let next = CallKey { ordinal: key.ordinal + 1, ..key.clone() };
        self.execution.wait_for_retry(&self.agent.limits, failure, state.failed_tries, next).await
    }

    /// Handles a reply with tool calls: runs them, and adds their results to the conversation. Returns the result of
    /// the conversation if it ends.
    async fn take_turn(
        &mut self,
        state: &mut ToolLoop<'_>,
        key: CallKey,
        chat: &ChatReply,
    ) -> Result<Option<ConversationEnd>, Interrupt> {
        if let Some(failure) = self.count_turn(state) {
            return Ok(Some(Err(failure)));
        }
        state.pipelines.note_reply(self.ended_at);
        let turn = ToolTurn { key: &key, request_digest: &state.request_digest, tools: state.tools };
        let calls = requested_calls(chat);
        let results = match self.run_tool_calls(&turn, &calls, &mut state.guard, &mut state.pipelines).await? {
            Ok(results) => results,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        state.unrecorded_results = results.iter().filter_map(|result| result.unrecorded(key.ordinal)).collect();
        state.conversation.add_turn(key.ordinal, chat, results.into_iter().map(ContentBlock::from).collect());
        // `tool_choice: required` applies only until the first turn with calls.
        state.conversation.offer(&state.tools.offered);
        Ok(None)
    }

    /// Counts a turn after which the conversation continues. Returns the failure if there is no further turn.
    fn count_turn(&self, state: &mut ToolLoop<'_>) -> Option<Failure> {
        state.failed_tries = 0;
        state.turns += 1;
        (state.turns >= state.tools.max_turns).then(|| max_turns_failure(&self.agent.agent, state.tools.max_turns))
    }

    /// Handles a reply that the provider paused: the provider continues it if it receives it back.
    fn take_paused_turn(&self, state: &mut ToolLoop<'_>, chat: &ChatReply) -> Option<ConversationEnd> {
        let failure = self.count_turn(state);
        state.conversation.add_paused_turn(chat);
        failure.map(Err)
    }

    /// Handles a reply none of whose tool calls can run: asks for other calls, if a re-ask is left.
    async fn take_unusable_calls(
        &mut self,
        state: &mut ToolLoop<'_>,
        key: CallKey,
        reason: UnusableCalls,
    ) -> Result<Option<ConversationEnd>, Interrupt> {
        let is_window_full = reason == UnusableCalls::WindowFull;
        let failure = reason.failure(self.agent);
        let re_asks = !is_window_full && state.re_asks < self.agent.re_asks;
        self.record_rejected_reply(key, &failure, re_asks).await?;
        if !re_asks {
            return Ok(Some(Err(failure)));
        }
        (state.re_asks, state.failed_tries) = (state.re_asks + 1, 0);
        state.conversation.instruct(&reason.instruction(self.agent));
        Ok(None)
    }

    /// Handles an answer in place of the call that the request requires, which not every server enforces: asks for a
    /// call, if a re-ask is left. Returns the result of the conversation if it ends.
    async fn take_missing_call(
        &mut self,
        state: &mut ToolLoop<'_>,
        key: CallKey,
        chat: &ChatReply,
    ) -> Result<Option<ConversationEnd>, Interrupt> {
        let failure = missing_call(self.agent);
        let re_asks = state.re_asks < self.agent.re_asks;
        self.record_rejected_reply(key.clone(), &failure, re_asks).await?;
        if !re_asks {
            let repeats = self.may_repeat_request(state, &failure, &key).await?;
            return Ok((!repeats).then_some(Err(failure)));
        }
        (state.re_asks, state.failed_tries) = (state.re_asks + 1, 0);
        let next = re_ask_for_call(state.conversation.request(), quoted_answer(chat));
        state.conversation.correct(next);
        Ok(None)
    }

    /// Handles a reply that is an answer. If the step rejects it, asks for another answer in the same conversation, if
    /// a re-ask is left. Returns the result of the conversation if it ends.
    async fn take_answer(
        &mut self,
        state: &mut ToolLoop<'_>,
        key: CallKey,
        reply: &CallReply,
    ) -> Result<Option<ConversationEnd>, Interrupt> {
        let may_re_ask = state.re_asks < self.agent.re_asks;
        match self.read_reply(key.clone(), state.conversation.request(), reply, may_re_ask).await? {
            ReplyVerdict::Accepted(value) => Ok(Some(Ok(value))),
            ReplyVerdict::ReAsk(next, class) => {
                (state.re_asks, state.failed_tries) = (state.re_asks + 1, 0);
                state.conversation.correct(*next);
                // The tools can help to meet a condition of `accept`, but not to write the value in the right form.
                let is_condition = class == FailureClass::OutputRejected;
                state.conversation.offer(if is_condition { &state.tools.offered } else { &state.tools.listed });
                Ok(None)
            }
            ReplyVerdict::Rejected(failure) => {
                let repeats = self.may_repeat_request(state, &failure, &key).await?;
                Ok((!repeats).then_some(Err(failure)))
            }
        }
    }
}

/// How the conversation continues after a reply.
enum TurnKind {
    /// Its tool calls run.
    Calls,
    /// None of its tool calls can run.
    UnusableCalls(UnusableCalls),
    /// It has no tool call, although the model must call a tool.
    MissingCall,
    /// The provider paused the reply.
    Paused,
    /// It is an answer, or a reply that the step rejects.
    Answer,
}

impl TurnKind {
    fn of(chat: &ChatReply, conversation: &ToolConversation) -> Self {
        let is_call = |block: &ContentBlock| matches!(block, ContentBlock::ToolCall { .. });
        let has_calls = chat.content.blocks().iter().any(is_call);
        let details = &chat.details;
        let requires_call = conversation.requires_call();
        match chat.stop {
            _ if !conversation.offers_tools() => Self::Answer,
            StopReason::Refusal => Self::Answer,
            StopReason::Length if has_calls || !details.omitted_calls.is_empty() || requires_call => {
                let is_window_full = details.exceeded_context_window;
                Self::UnusableCalls(if is_window_full { UnusableCalls::WindowFull } else { UnusableCalls::CutOff })
            }
            _ if has_calls => Self::Calls,
            _ if details.paused && !chat.content.blocks().is_empty() => Self::Paused,
            _ => match &details.malformed_call {
                Some(reason) => Self::UnusableCalls(UnusableCalls::Malformed(reason.clone())),
                // With an unknown stop reason, the reply may be incomplete.
                None if requires_call && details.unknown_stop.is_none() => Self::MissingCall,
                None => Self::Answer,
            },
        }
    }
}

/// Why none of the tool calls of a reply can run.
#[derive(PartialEq, Eq)]
enum UnusableCalls {
    /// The limit of the reply cut the reply off, so its last call may be incomplete.
    CutOff,
    /// The context window of the model cut the reply off.
    WindowFull,
    /// The provider could not read a call, for this reason.
    Malformed(String),
}

impl UnusableCalls {
    /// The failure if the conversation does not continue.
    fn failure(&self, agent: &AgentNode) -> Failure {
        match self {
            Self::CutOff => {
                let message = "the reply was cut off at the token limit, so orch ran none of its tool calls";
                with_hint(Failure::new(FailureClass::MaxTokensReached, message), agent)
            }
            Self::WindowFull => exceeded_context_window(),
            Self::Malformed(reason) => {
                let message = format!("the provider could not read a tool call of the model: {}", sanitize(reason));
                Failure::new(FailureClass::UnknownStop, message).with_hint("a larger model may help")
            }
        }
    }

    /// The instruction for the model.
    fn instruction(&self, agent: &AgentNode) -> String {
        match self {
            Self::CutOff | Self::WindowFull => format!(
                "Your reply was cut off: it may be at most {} tokens long. None of its tool calls ran. Make shorter \
                 calls, or fewer at once.",
                agent.max_output_tokens
            ),
            Self::Malformed(reason) => format!(
                "A tool call in your reply could not be read: {reason}\nNone of its tool calls ran. Make the call \
                 again with valid JSON as its arguments."
            ),
        }
    }
}

fn max_turns_failure(agent: &str, max_turns: u32) -> Failure {
    let message = format!("the model still called tools in turn {max_turns}, the last one that it may have");
    let hint = format!(
        "raise `max_turns` of agent `{agent}`, and resume the run to continue the conversation; or make its task \
         smaller"
    );
    Failure::new(FailureClass::MaxTurnsReached, message).with_hint(hint)
}
