//! The failures of rejected replies: what is wrong with a reply, and what the user can do.

use crate::extract::{Rejection, RejectionReason};
use crate::model::{ChatReply, CliAgentKind, Failure, FailureClass, StopReason};
use crate::schema::render_mismatches;

use super::node::AgentNode;
use super::reply_reader::RejectedReply;

/// The hint for a model that calls a tool although its agent has none.
const NO_TOOLS_HINT: &str =
    "agents have no tools unless `tools:` grants them: instruct the model in the prompt to answer in its text";

/// The hint for a model that calls a tool although orch asked for the final answer.
const FINAL_ANSWER_HINT: &str = "see the reply with `orch runs show --replies`; a larger model may help";

/// The hint for a reply that contains only reasoning.
pub(super) const REASONING_HINT: &str = "the answer must be outside the reasoning: raise `max_output_tokens` of the agent, or set a lower `reasoning` for it";

/// The longest part of a refusal in a message, in characters.
const MAX_QUOTED_CHARS: usize = 200;

/// The failure for a reply in which orch found no value that fits the schema.
pub(super) fn rejected_reply(agent: &AgentNode, reply: &ChatReply, rejection: &Rejection) -> RejectedReply {
    let class = match rejection.reason {
        RejectionReason::NoJson => FailureClass::NoJson,
        RejectionReason::SchemaMismatch => FailureClass::SchemaMismatch,
        RejectionReason::AmbiguousReply => FailureClass::AmbiguousReply,
        RejectionReason::MaxTokensReached => FailureClass::MaxTokensReached,
        RejectionReason::Refusal => FailureClass::Refusal,
        RejectionReason::EmptyReply => FailureClass::EmptyReply,
    };
    let failure = Failure::new(class, rejection.message.clone());
    let failure = match class {
        FailureClass::Refusal => refusal(reply),
        FailureClass::MaxTokensReached if reply.details.exceeded_context_window => exceeded_context_window(),
        FailureClass::MaxTokensReached if may_have_met_stop_text(agent, reply) => return ended_at_stop_text(agent),
        FailureClass::EmptyReply if reply.text().trim().is_empty() => empty_reply(agent, reply),
        FailureClass::EmptyReply => failure.with_hint(REASONING_HINT),
        FailureClass::NoJson if may_have_met_stop_text(agent, reply) => {
            let failure = with_hint(failure, agent);
            let hint = failure.hint.clone().unwrap_or_default();
            failure.with_hint(format!("{hint}; or the reply ended at {}", stop_texts(agent)))
        }
        _ => with_hint(failure, agent),
    };
    RejectedReply { failure, problems: render_mismatches(&rejection.mismatches) }
}

/// The failure for a refusal. Its message contains the provider's reason and the beginning of the reply.
pub(super) fn refusal(reply: &ChatReply) -> Failure {
    let reason = reply.details.refusal.as_ref().filter(|reason| !reason.eq_ignore_ascii_case("refusal"));
    let reason = reason.map_or_else(String::new, |reason| format!(" (`{}`)", sanitize(reason)));
    let text = reply.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut text: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    if let Some((end, _)) = text.char_indices().nth(MAX_QUOTED_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    let separator = if text.is_empty() { "" } else { ": " };
    let text = text.trim_end_matches('.');
    Failure::new(FailureClass::Refusal, format!("the model refused to answer{reason}{separator}{text}"))
}

/// The failure for a reply that the context window of the model cut off.
pub(super) fn exceeded_context_window() -> Failure {
    let message = "the reply was cut off at the context window of the model";
    let hint = "shorten the prompt or the inputs of the step, or use a model with a larger context window";
    Failure::new(FailureClass::MaxTokensReached, message).with_hint(hint)
}

/// The failure for an answer without a tool call of an agent that requires one.
pub(super) fn missing_call(agent: &AgentNode) -> Failure {
    let message = format!(
        "the model answered without calling a tool, and agent `{}` requires a call before the answer \
         (`tool_choice: required`)",
        agent.agent
    );
    let hint = "see the reply with `orch runs show --replies`; say in the prompt which tool the model must call first, or choose a larger model, then run `orch pipeline resume`";
    Failure::new(FailureClass::OutputRejected, message).with_hint(hint)
}

/// Whether the reply may have ended at a text under `stop`. Not every API reports that as a reason of its own.
fn may_have_met_stop_text(agent: &AgentNode, reply: &ChatReply) -> bool {
    !agent.options.stop.is_empty() && matches!(reply.stop, StopReason::End | StopReason::Unknown)
}

/// The failure for a reply that ends inside a JSON value, although no limit cut it off.
fn ended_at_stop_text(agent: &AgentNode) -> RejectedReply {
    let message = "the reply ends inside a JSON value, probably at a text under `stop`";
    let hint = format!("the agent ends its replies at {}: choose texts that no answer contains", stop_texts(agent));
    let texts = quoted_texts(&agent.options.stop);
    RejectedReply {
        failure: Failure::new(FailureClass::MaxTokensReached, message).with_hint(hint),
        problems: format!(
            "- It ends inside the JSON value. An answer ends where it contains one of these texts: {texts}"
        ),
    }
}

/// The texts under `stop` of an agent, and the key that sets them.
fn stop_texts(agent: &AgentNode) -> String {
    format!("{} (`stop` of agent `{}`)", quoted_texts(&agent.options.stop), agent.agent)
}

/// The texts as JSON strings, so that white space in them is visible.
fn quoted_texts(texts: &[String]) -> String {
    texts.iter().map(|text| serde_json::Value::from(text.as_str()).to_string()).collect::<Vec<_>>().join(", ")
}

/// The failure for a reply without text. Its message names the content that the reply has instead.
pub(super) fn empty_reply(agent: &AgentNode, reply: &ChatReply) -> Failure {
    let Some(instead) = &reply.details.instead else {
        let failure = Failure::new(FailureClass::EmptyReply, "the reply is empty");
        return if may_have_met_stop_text(agent, reply) {
            failure.with_hint(format!("the reply may have ended at once, at {}", stop_texts(agent)))
        } else {
            failure
        };
    };
    let failure = Failure::new(FailureClass::EmptyReply, format!("the reply has no text, only {instead}"));
    match reply.stop {
        StopReason::ToolUse => failure.with_hint(tool_call_hint(agent)),
        _ if instead.starts_with("reasoning") => failure.with_hint(REASONING_HINT),
        _ => failure,
    }
}

/// The hint for a model that calls a tool in place of an answer.
pub(super) fn tool_call_hint(agent: &AgentNode) -> &'static str {
    if agent.tools.is_some() { FINAL_ANSWER_HINT } else { NO_TOOLS_HINT }
}

/// Shortens a text of a provider for a message, and removes control characters.
pub(super) fn sanitize(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Whether the agent is a program of the user (`command:`) instead of a model.
fn is_user_program(agent: &AgentNode) -> bool {
    let program = agent.models.first().and_then(|model| model.program.as_ref());
    program.is_some_and(|program| program.kind == CliAgentKind::Command)
}

/// Adds the hint for a failure whose class determines the hint.
pub(super) fn with_hint(failure: Failure, agent: &AgentNode) -> Failure {
    let hint = match failure.class {
        FailureClass::MaxTokensReached => format!("raise `max_output_tokens` of agent `{}` (now {})", agent.agent, agent.max_output_tokens),
        FailureClass::SchemaMismatch | FailureClass::NoJson | FailureClass::OutputRejected if is_user_program(agent) => {
            "see the reply with `orch runs show --replies`; correct the program, or the schema and the conditions of the step, then run `orch pipeline resume`".to_owned()
        }
        FailureClass::SchemaMismatch | FailureClass::NoJson => {
            "see the reply with `orch runs show --replies`; a larger model, a clearer prompt or a simpler schema may help".to_owned()
        }
        FailureClass::OutputRejected => {
            "see the reply with `orch runs show --replies`; correct the prompt or the conditions, or choose a larger model, then run `orch pipeline resume`".to_owned()
        }
        _ => return failure,
    };
    failure.with_hint(hint)
}
