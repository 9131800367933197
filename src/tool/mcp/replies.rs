//! Reads the replies to calls: results, refusals, and questions that a server asks before or during a call.

use std::sync::Arc;

use serde_json::Value;

use crate::model::visible::escape_line_breaks;
use crate::model::{Failure, McpToolDefinition, counted, is_unanswered_call};
use crate::offload::run_on_thread;
use crate::process::shorten_middle;

use super::connection::Connection;
use super::context::McpCall;
use super::open_calls::{UnansweredQuestion, UnansweredQuestions, required_input};
use super::pool::McpServers;
use super::questions::{MAX_QUESTIONS, redact_question, redact_questions};
use super::request_error::{RawReply, RequestError};
use super::result::{CompleteResult, McpResult, ToolReply};

/// The maximum length of the reason why a result is none, in bytes.
const MAX_REASON_BYTES: usize = 1 << 10;

impl McpServers {
    /// Reads the reply to a call.
    pub(super) async fn read_reply(
        &self,
        call: &McpCall<'_>,
        definition: &McpToolDefinition,
        connection: &Arc<Connection>,
        reply: RawReply,
    ) -> Result<McpResult, Failure> {
        let RawReply { result, mut unanswered } = reply;
        let server = &call.server.name;
        let text = match result {
            Ok(result) => return self.read_result(call, definition, result, unanswered).await,
            Err(RequestError::Refused(reason)) => format!("the MCP server `{server}` refused the call: {reason}"),
            Err(RequestError::Asked) if unanswered.questions.first().is_some_and(|asked| !asked.is_unusable) => {
                let input = required_input(call, unanswered.questions.swap_remove(0));
                let input = redact_questions(server, input, &self.context.redactor)?;
                return Ok(McpResult { input_required: Some(input), ..McpResult::default() });
            }
            Err(RequestError::Asked) => match unanswered.questions.first() {
                Some(asked) => format!("the MCP server `{server}` {}", asked.reason),
                None => format!("the MCP server `{server}` asked more than {MAX_QUESTIONS} questions during a call"),
            },
            Err(error) => {
                let failure = self.call_failure(call, connection, error).await;
                if unanswered.is_empty() || !is_unanswered_call(failure.class) {
                    return Err(self.redacted(failure));
                }
                format!("{}{}", failure.message, unknown_effect(call))
            }
        };
        self.finish_asked(CompleteResult::error(text), None, unanswered).await
    }

    /// Reads the result of a call.
    async fn read_result(
        &self,
        call: &McpCall<'_>,
        definition: &McpToolDefinition,
        result: Value,
        unanswered: UnansweredQuestions,
    ) -> Result<McpResult, Failure> {
        match ToolReply::read(result) {
            Ok(ToolReply::Complete(result)) => {
                self.finish_asked(result, definition.output_schema.clone(), unanswered).await
            }
            Ok(ToolReply::InputRequired(input)) => {
                let input = redact_questions(&call.server.name, input, &self.context.redactor)?;
                Ok(McpResult { input_required: Some(input), ..McpResult::default() })
            }
            Err(reason) => {
                let reason = escape_line_breaks(&reason);
                let reason = shorten_middle(&reason, MAX_REASON_BYTES);
                let text = format!("the MCP server `{}` {reason}{}", call.server.name, unknown_effect(call));
                self.finish_asked(CompleteResult::error(text), None, unanswered).await
            }
        }
    }

    /// Converts the result of a call. A call whose server got no answer to a question has failed, whatever its result says.
    async fn finish_asked(
        &self,
        result: CompleteResult,
        output_schema: Option<Arc<Value>>,
        unanswered: UnansweredQuestions,
    ) -> Result<McpResult, Failure> {
        if unanswered.is_empty() {
            return self.finish(result, output_schema, Vec::new()).await;
        }
        let UnansweredQuestions { questions, omitted } = unanswered;
        let mut notes: Vec<String> = questions.iter().map(unanswered_note).collect();
        if omitted > 0 {
            let more = counted(omitted, "more question");
            notes.push(format!("[the server asked {more}, which orch cancelled and did not read]"));
        }
        let redact = |asked: UnansweredQuestion| redact_question(asked.question, &self.context.redactor);
        let unanswered = questions.into_iter().map(redact).collect();
        let result = self.finish(CompleteResult { is_error: true, ..result }, None, notes).await?;
        Ok(McpResult { unanswered, ..result })
    }

    /// Converts a result. Runs on another thread, because the result may have many megabytes.
    pub(super) async fn finish(
        &self,
        result: CompleteResult,
        output_schema: Option<Arc<Value>>,
        notes: Vec<String>,
    ) -> Result<McpResult, Failure> {
        let redactor = self.context.redactor.clone();
        let hold = self.context.ending_process_groups.hold_virtual_time();
        run_on_thread(hold, move || result.finish(output_schema.as_deref(), notes, &redactor)).await
    }
}

/// What a message about a call without a usable answer says about its effect.
fn unknown_effect(call: &McpCall<'_>) -> &'static str {
    if call.server.call_kind().only_reads() { "" } else { "; it is not known whether the call took effect" }
}

/// What the result of a call says about a question that got no answer.
fn unanswered_note(asked: &UnansweredQuestion) -> String {
    let when = if asked.is_unclear { "during this call or another one" } else { "during this call" };
    let reason = match (asked.is_unusable, asked.reason.as_str()) {
        (_, "") => "no person could answer".to_owned(),
        (true, reason) => format!("it {reason}"),
        (false, reason) => reason.to_owned(),
    };
    format!("[the server asked a question {when}, and orch cancelled it ({reason}): {}]", asked.question.describe())
}
